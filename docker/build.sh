#!/usr/bin/env bash
# Builds the images with whatever engine is here: docker, podman, or buildah alone.
#
#   docker/build.sh [server|trainer|agent ...]
#
# PYTHON_IMAGE names another base. Where no registry can be reached, buildah (as root, with mmdebstrap) makes a base from
# Debian packages under the name that the Dockerfiles ask for, once. IMAGE_STORE says where buildah keeps its images.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${PYTHON_IMAGE:-docker.io/library/python:3.11-slim-bookworm}
images=("$@")
[ ${#images[@]} -gt 0 ] || images=(server trainer agent)

if docker info >/dev/null 2>&1; then
  build() { docker build --build-arg PYTHON_IMAGE="$base" -f "$1" -t "$2" .; }
elif command -v podman >/dev/null; then
  build() { podman build --format docker --build-arg PYTHON_IMAGE="$base" -f "$1" -t "$2" .; }
elif command -v buildah >/dev/null; then
  store=${IMAGE_STORE:-/var/tmp/pba-images}
  mkdir -p "$store"
  printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/store"\nrunroot = "%s/run"\n' "$store" "$store" >"$store/storage.conf"
  export CONTAINERS_STORAGE_CONF=$store/storage.conf BUILDAH_ISOLATION=chroot
  # how this machine reaches its package index and trusts it
  mounts=()
  for file in /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then mounts+=(-v "$file:$file:ro"); fi
  done
  if ! buildah inspect --type image "$base" >/dev/null 2>&1 && ! buildah pull --quiet "$base" 2>/dev/null; then
    echo "no $base to be had: making one from Debian packages ..."
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
      --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python3"' \
      --customize-hook='rm -f "$1"/usr/lib/python3.11/EXTERNALLY-MANAGED' \
      --customize-hook='rm -rf "$1"/var/lib/apt/lists/*' \
      bookworm "$work/base.tar"
    printf 'FROM scratch\nADD base.tar /\nCMD ["python3"]\n' >"$work/Dockerfile"
    buildah bud --quiet -t "$base" "$work" >/dev/null
  fi
  build() {
    buildah bud --format docker --pull-never --layers=false "${mounts[@]}" --build-arg PYTHON_IMAGE="$base" -f "$1" -t "$2" .
  }
else
  echo "no docker, podman or buildah is here" >&2
  exit 1
fi

n=0
for image in "${images[@]}"; do
  n=$((n + 1))
  echo "== $n/${#images[@]}: pba-$image"
  build "docker/$image.Dockerfile" "pba-$image"
done
