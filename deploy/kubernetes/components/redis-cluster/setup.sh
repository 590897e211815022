#!/bin/sh
# Joins six servers into a cluster, once: where one exists already there is nothing to do.
set -eu
export REDISCLI_AUTH=$REDIS_PASSWORD
nodes=""
for n in 0 1 2 3 4 5; do
  until valkey-cli -h "redis-$n.redis" ping 2>/dev/null | grep -q PONG; do sleep 2; done
  nodes="$nodes $(getent hosts "redis-$n.redis" | awk '{print $1; exit}'):6379"
done
known() { valkey-cli -h redis-0.redis cluster info | tr -d '\r'; }
if ! known | grep -qx 'cluster_known_nodes:1'; then
  # a server that has just started takes a while to find its cluster in order
  until known | grep -qx 'cluster_state:ok'; do sleep 2; done
  echo "the cluster exists"
  exit 0
fi
# shellcheck disable=SC2086 # one word a node
valkey-cli --cluster create $nodes --cluster-replicas 1 --cluster-yes
