#!/bin/sh
# Starts this pod's server: as a replica of whom the Sentinels call the primary; where none answers, as when all pods
# start at once, of whom this pod's own wrote down last; of redis-0 where there was none yet.
set -eu
me=$(hostname).redis
primary=""
for peer in redis-0.redis redis-1.redis redis-2.redis; do
  primary=$(timeout 2 valkey-cli -h "$peer" -p 26379 --no-auth-warning -a "$REDIS_PASSWORD" \
    sentinel get-master-addr-by-name pba 2>/dev/null | head -n 1) || primary=""
  if [ -n "$primary" ]; then break; fi
done
if [ -z "$primary" ] && [ -f /data/sentinel.conf ]; then
  primary=$(sed -n 's/^sentinel monitor pba \([^ ]*\) .*/\1/p' /data/sentinel.conf)
fi
if [ -z "$primary" ]; then primary=redis-0.redis; fi
set -- --port 6379 --dir /data --requirepass "$REDIS_PASSWORD" --masterauth "$REDIS_PASSWORD" \
  --appendonly yes --appendfsync always --maxmemory 3gb --maxmemory-policy noeviction \
  --replica-announce-ip "$me" --replica-announce-port 6379 \
  --min-replicas-to-write 1 --min-replicas-max-lag 10
if [ "$primary" != "$me" ]; then set -- "$@" --replicaof "$primary 6379"; fi
exec valkey-server "$@"
