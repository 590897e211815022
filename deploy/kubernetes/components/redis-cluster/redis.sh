#!/bin/sh
# Starts this pod's server; its name is what it tells clients and peers, since its address changes with the pod.
set -eu
exec valkey-server --port 6379 --dir /data --requirepass "$REDIS_PASSWORD" --masterauth "$REDIS_PASSWORD" \
  --appendonly yes --appendfsync always --maxmemory-policy noeviction \
  --cluster-enabled yes --cluster-config-file /data/nodes.conf --cluster-node-timeout 3000 \
  --cluster-announce-ip "$POD_IP" --cluster-announce-hostname "$(hostname).redis" \
  --cluster-preferred-endpoint-type hostname
