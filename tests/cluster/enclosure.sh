#!/bin/sh
# First in the new namespaces: makes them a machine of its own and becomes the command.
#
#   enclosure.sh DIRECTORY INNER/LEN OUTER/LEN COMMAND…
set -eu
directory=$1 inner=$2 outer=$3
shift 3

# Whatever a node writes outside of the directory ends with these.
for place in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 node "$place"; done

# What the kubelet wants of the kernel, without a change of this machine's own settings.
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
    file=$directory/$(basename "${setting%=*}")
    echo "${setting#*=}" > "$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
done

until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done
ip link set lo up
ip address add "$inner" dev eth0
ip link set eth0 up
ip route add default via "${outer%/*}"
echo 1 > /proc/sys/net/ipv4/ip_forward
# Without it a pod does not hear the answer of a Service that led to its own bridge.
[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables

mount --make-rshared /
exec "$@"
