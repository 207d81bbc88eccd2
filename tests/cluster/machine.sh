#!/bin/sh
# Becomes process 1 of a machine of the cluster; machine.py calls it in namespaces of its own.
#
#   machine.sh HOME NAME INIT [FOLDER OPTIONS]...
#
# HOME holds the machine's own files. FOLDER is where a cgroup hierarchy is mounted on the host, OPTIONS are those of the
# mount: controllers of a cgroup v1, or the word `cgroup2`.
set -eu
home=$1 name=$2 init=$3
shift 3

mount --make-rprivate /
mount -t proc proc /proc
hostname "$name"

# /sys as this network namespace sees it, and cgroups with the machine's own as their root.
umount -R -l /sys
mount -t sysfs sysfs /sys
mount -t tmpfs cgroups /sys/fs/cgroup
while [ $# -gt 0 ]; do
  mkdir -p "$1"
  if [ "$2" = cgroup2 ]; then
    mount -t cgroup2 cgroup2 "$1"
  else
    mount -t cgroup -o "$2" cgroup "$1"
  fi
  shift 2
done
mount -t bpf bpf /sys/fs/bpf

! mountpoint -q /run/netns || umount -R -l /run/netns
mount -t tmpfs run /run
mkdir -p /run/netns /run/lock /run/sysctl /run/etc/upper /run/etc/work
# What kubelet sets where it is not set, for the whole host, reads as if it were.
pretend() {
  file=/run/sysctl/${1##*/}
  echo "$2" >"$file"
  mount --bind "$file" "/proc/sys/$1"
}
pretend vm/overcommit_memory 1
pretend vm/panic_on_oom 0
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
pretend kernel/keys/root_maxkeys 1000000
pretend kernel/keys/root_maxbytes 25000000

for folder in /var/lib /var/log /opt; do
  mount --bind "$home$folder" "$folder"
done
cp -a "$home/etc/." /run/etc/upper
mount -t overlay etc -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
# What others than the tests write there has to outlive a reboot.
if [ -d "$home/etc/cni/net.d" ]; then
  mount --bind "$home/etc/cni/net.d" /etc/cni/net.d
fi

mount --make-rshared /
touch "$home/ready"
exec "$init"
