#!/bin/sh
# Starts this pod's server; its name is what it tells clients and peers, since its address changes with the pod.
set -eu

# Servers of a cluster look for each other where they were last. Where the pods of all of them have got other addresses,
# nobody is there any more: those that do not answer are met again by their names.
rejoin() {
  while sleep 2; do
    nodes=$(REDISCLI_AUTH=$REDIS_PASSWORD timeout 5 valkey-cli -h "$POD_IP" cluster nodes 2>/dev/null) || continue
    case $nodes in *myself*) ;; *) continue ;; esac
    away=$(echo "$nodes" | awk '$3 !~ /myself/ && $8 != "connected" { split($2, at, ","); print at[2] }')
    if [ -z "$away" ]; then return; fi
    for peer in $away; do
      address=$(getent hosts "$peer" | awk '{print $1; exit}')
      if [ -z "$address" ]; then continue; fi
      REDISCLI_AUTH=$REDIS_PASSWORD timeout 5 valkey-cli -h "$POD_IP" cluster meet "$address" 6379 >/dev/null || true
    done
  done
}

if [ -f /data/nodes.conf ]; then rejoin & fi
exec valkey-server --port 6379 --dir /data --requirepass "$REDIS_PASSWORD" --masterauth "$REDIS_PASSWORD" \
  --appendonly yes --appendfsync always --maxmemory 3gb --maxmemory-policy noeviction \
  --cluster-enabled yes --cluster-config-file /data/nodes.conf --cluster-node-timeout 3000 \
  --cluster-announce-ip "$POD_IP" --cluster-announce-hostname "$(hostname).redis" \
  --cluster-preferred-endpoint-type hostname
