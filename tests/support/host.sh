#!/usr/bin/env bash
# host.sh NAME FOLDER COMMAND...   runs a command on a "host": the network namespace NAME.
# The host has its own name, FOLDER/hosts as /etc/hosts (the machine's file stays as it is) and, through FOLDER/sys, a
# /sys that shows its own network devices: MPI looks there for them. `ip netns exec` would do the last as well, but
# hide /sys/fs/cgroup, without which slurmd does not start.
set -euo pipefail

if [ "$1" != --inside ]; then
  exec nsenter --net="/run/netns/$1" unshare --uts --mount bash "$0" --inside "$@"
fi
name=$2 folder=$3
shift 3
hostname "$name"
mount --bind "$folder/hosts" /etc/hosts
mount -t sysfs sysfs "$folder/sys"
mount --rbind /sys/fs/cgroup "$folder/sys/fs/cgroup"
mount --rbind "$folder/sys" /sys
exec "$@"
