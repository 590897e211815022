#!/usr/bin/env bash
# Starts a container of the server image, and asks what an orchestrator and a node would: its health probe answers, links
# are fed, a prediction comes, it is not root, and it ends by itself when told. Then the agent's: one answers probes, one
# measures the path to it. Prints what it saw; fails where it must.
set -euo pipefail
cd "$(dirname "$0")/.."
if docker info >/dev/null 2>&1; then
  engine=docker
  id=$(docker run --detach --env PBA_INSECURE=true --read-only --tmpfs /tmp --tmpfs /data:uid=10001 pba-server)
  inside() { docker exec "$id" "$@"; }
  finish() { docker rm --force "$id" >/dev/null; }
  stop() { docker stop --time 30 "$id" >/dev/null && [ "$(docker inspect --format '{{.State.ExitCode}}' "$id")" = 0 ]; }
else
  # no engine: the image's root under chroot, on this machine's loopback
  engine=buildah
  export CONTAINERS_STORAGE_CONF=${IMAGE_STORE:-/var/tmp/pba-images}/storage.conf BUILDAH_ISOLATION=chroot
  id=$(buildah from --pull-never localhost/pba-server)
  inside() { buildah run "$id" -- "$@"; }
  buildah run --env PBA_INSECURE=true "$id" -- pba serve &
  server=$!
  finish() { { pkill -KILL -u 10001 -f '^/opt/pba/bin/python' || true; buildah rm "$id" >/dev/null || true; } 2>/dev/null; }
  # signals to `buildah run` stop there: the service inside is told directly
  stop() { pkill -TERM -u 10001 -f '^/opt/pba/bin/python /opt/pba/bin/pba serve' && wait "$server"; }
fi
trap finish EXIT
echo "engine: $engine"
for ((try = 0; try < 60; try++)); do
  if inside pba health >/dev/null 2>&1; then break; fi
  sleep 1
done
echo "health: $(inside pba health)"
echo "user: $(inside id -u)"
[ "$(inside id -u)" = 10001 ]
inside timeout 60 pba simulate --links 1 --span 1h --push >/dev/null 2>&1 &
for ((try = 0; try < 60; try++)); do
  if inside pba predict sim/wan-1 >/dev/null 2>&1; then break; fi
  sleep 1
done
inside pba predict sim/wan-1
stop
echo "stopped in order"

agents='
set -eu
cd /tmp
head -c 32 /dev/urandom >key
link="{link: here, address: 127.0.0.1}"
printf "node: far\nkey_file: key\nstate_dir: far\nlinks: [%s]\nrespond: {host: 127.0.0.1}\n" "$link" >far.yaml
printf "node: near\nkey_file: key\nstate_dir: near\ninterval: 5s\nlinks: [%s]\n" "$link" >near.yaml
id -u
python3 -m pba_client.agent respond --config far.yaml &
sleep 1
python3 -m pba_client.agent measure --config near.yaml --samples 1
kill $!
wait || true
'
if [ "$engine" = docker ]; then
  said=$(docker run --rm --read-only --tmpfs /tmp --entrypoint sh pba-agent -c "$agents")
else
  agent=$(buildah from --pull-never localhost/pba-agent)
  trap 'finish; buildah rm "$agent" >/dev/null' EXIT
  said=$(buildah run "$agent" -- sh -c "$agents")
fi
echo "agent: $said"
[ "$(head -n 1 <<<"$said")" = 10001 ]
grep -q '"latency_ms"' <<<"$said"
