#!/usr/bin/env bash
# Sees to it that this machine has podman 4.3, which plays workloads of Kubernetes without a cluster, for
# the tests of the manifests. Does nothing where it is there; else it wants root on Debian 12.
#
# How it is set up is said in a file of the test's own (CONTAINERS_CONF): this machine's is left alone.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
packages=(podman netavark aardvark-dns conmon runc catatonit)

if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
  [[ $(id -u) == 0 && -x /usr/bin/apt-get ]] || {
    echo "podman.sh: there is no podman, and only root on Debian can be given one" >&2
    exit 1
  }
  apt-get update -qq
  apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
fi
version=$(podman version --format '{{.Client.Version}}')
[[ $version == 4.3.* ]] || {
  echo "podman.sh: podman is $version; how pods are played here is that of 4.3, as Debian 12 has it" >&2
  exit 1
}
echo "podman $version"
