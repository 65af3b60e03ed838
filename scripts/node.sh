#!/bin/sh
# Installs what a node of the tests takes from Debian: `make node`, as root.
set -eu
packages="buildah conntrack containerd containernetworking-plugins iproute2 iptables mmdebstrap openssl runc"

say() { printf '%s\n' "$*" >&2; }

# shellcheck disable=SC2086 # a list
dpkg --status $packages >/dev/null 2>&1 && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
    say "a node needs these, and only root on Debian can install them here: $packages"
    exit 1
}
say "installing $packages"
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
