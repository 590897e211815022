#!/bin/sh
# Starts this pod's server: as a replica of whom the Sentinels call the primary; of redis-0 where no Sentinel knows yet.
set -eu
me=$(hostname).redis
primary=""
for peer in redis-0.redis redis-1.redis redis-2.redis; do
  primary=$(timeout 2 valkey-cli -h "$peer" -p 26379 --no-auth-warning -a "$REDIS_PASSWORD" \
    sentinel get-master-addr-by-name pba 2>/dev/null | head -n 1) || primary=""
  if [ -n "$primary" ]; then break; fi
done
if [ -z "$primary" ]; then primary=redis-0.redis; fi
set -- --port 6379 --dir /data --requirepass "$REDIS_PASSWORD" --masterauth "$REDIS_PASSWORD" \
  --appendonly yes --appendfsync always --maxmemory-policy noeviction \
  --replica-announce-ip "$me" --replica-announce-port 6379 \
  --min-replicas-to-write 1 --min-replicas-max-lag 10
if [ "$primary" != "$me" ]; then set -- "$@" --replicaof "$primary 6379"; fi
exec valkey-server "$@"
