#!/bin/sh
# Starts this pod's Sentinel. What it learns it writes into its own configuration, which outlives the pod.
set -eu
config=/data/sentinel.conf
if [ ! -f "$config" ]; then
  cat >"$config" <<END
port 26379
dir /data
requirepass $REDIS_PASSWORD
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $(hostname).redis
sentinel announce-port 26379
sentinel monitor pba redis-0.redis 6379 2
sentinel auth-pass pba $REDIS_PASSWORD
sentinel sentinel-pass $REDIS_PASSWORD
sentinel down-after-milliseconds pba 2000
sentinel failover-timeout pba 10000
sentinel parallel-syncs pba 1
END
fi
exec valkey-sentinel "$config"
