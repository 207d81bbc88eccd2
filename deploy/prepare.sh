# shellcheck shell=bash
# Packages, mounts and build of a fresh Debian 12 machine. Sourced by the scripts that a person calls.
# Functions print one line for what they do, and everything only when it fails. Each needs $root, the checkout.

: "${root:?the folder of the checkout}"
build=${EGRESSD_BUILD:-$root/build}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
bpffs_mounted=
netns_made=
cgroup2=
cgroup2_mounted=
quiet_log=
quiet_groups=()
installing=

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need_root() {
  [[ $EUID -eq 0 ]] || die "must be started as root: it makes network namespaces and loads programs into the kernel"
}

# quietly WHAT COMMAND...: says what it does and how long it took, shows the last line of the output now and then, and
# all of it when the command fails. The command is a process group of its own, which stop_quiet_work can end.
quietly() {
  local what=$1 began=$SECONDS status=0
  shift
  quiet_log=$(mktemp)
  printf '%s ...\n' "$what"
  setsid "$@" >"$quiet_log" 2>&1 </dev/null &
  quiet_groups=("$!")
  # shellcheck disable=SC2016  # expanded by the inner shell
  setsid bash -c 'while sleep 30; do printf "  %.100s\n" "$(tail -n 1 "$0")"; done' "$quiet_log" &
  quiet_groups+=("$!")
  wait "${quiet_groups[0]}" || status=$?
  if ((status != 0)); then
    cat "$quiet_log"
    printf '%s: failed with status %d\n' "$what" "$status"
  elif ((SECONDS - began > 1)); then
    printf '%s: done in %d s\n' "$what" "$((SECONDS - began))"
  fi
  stop_quiet_work
  return "$status"
}

# Ends what `quietly` has under way, except the installation of packages, which is waited for: a package that is half
# unpacked needs a person to mend it.
stop_quiet_work() {
  local group
  [[ -z $installing || ${#quiet_groups[@]} == 0 ]] || wait "${quiet_groups[0]}" || true
  for group in "${quiet_groups[@]}"; do
    # By its own number while it has not made itself a group yet.
    kill -TERM -- "-$group" 2>/dev/null || kill -TERM "$group" 2>/dev/null || true
    wait "$group" 2>/dev/null || true
  done
  quiet_groups=()
  [[ -z $quiet_log ]] || rm -f "$quiet_log"
  quiet_log=
}

# The names in package lists, without comments.
listed_packages() {
  sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@"
}

# install_packages [LIST...]: those that are missing; no network is touched when none is.
install_packages() {
  local name missing=()
  (($# > 0)) || set -- "$root/deploy/packages.txt"
  while read -r name; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done < <(listed_packages "$@")
  ((${#missing[@]} > 0)) || return 0
  quietly "updating the package lists" apt-get -q update || return
  installing=yes
  quietly "installing ${missing[*]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "${missing[@]}" || return
  installing=
}

# without_services COMMAND...: the packages that the command installs start none of their services.
without_services() {
  local policy=/usr/sbin/policy-rc.d ours= status=0
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours=yes
  fi
  "$@" || status=$?
  [[ -z $ours ]] || rm "$policy"
  return "$status"
}

# compile TARGET...: configures and builds into $build; `all` is everything.
compile() {
  local cache=$build/CMakeCache.txt
  # A build folder that was copied along with its checkout belongs to another source folder; CMake refuses it.
  if [[ -f $cache ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache"; then
    rm -rf "$build"
  fi
  quietly "configuring $build" \
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DEGRESS_TESTS=ON || return
  quietly "building $*" ninja -C "$build" -j "$(nproc)" "$@"
}

mount_bpffs() {
  mountpoint -q /sys/fs/bpf && return
  mount -t bpf bpf /sys/fs/bpf || die "cannot mount a bpffs at /sys/fs/bpf: does this kernel have CONFIG_BPF_SYSCALL?"
  bpffs_mounted=yes
}

# `ip netns add` mounts /run/netns on itself the first time; remember that it did not stand there before.
watch_netns_folder() {
  mountpoint -q /run/netns || netns_made=yes
}

# Ends what is under way and takes back what mount_bpffs, find_cgroup2 and watch_netns_folder did. A folder that
# somebody else uses meanwhile is busy and stays.
undo_preparations() {
  stop_quiet_work
  if [[ -n $bpffs_mounted ]]; then
    umount /sys/fs/bpf 2>/dev/null || true
  fi
  if [[ -n $cgroup2_mounted ]]; then
    umount "$cgroup2" && rmdir "$cgroup2"
  fi
  if [[ -n $netns_made && -d /run/netns && -z $(ls -A /run/netns) ]]; then
    umount /run/netns 2>/dev/null || true
    rmdir /run/netns 2>/dev/null || true
  fi
}

# Sets cgroup2 to the first cgroup2 that is mounted; hosts with cgroup v1 have it beside, at /sys/fs/cgroup/unified.
# Where there is none, it is mounted in a folder of its own.
find_cgroup2() {
  cgroup2=$(findmnt -n -l -t cgroup2 -o TARGET | head -n 1)
  [[ -z $cgroup2 ]] || return 0
  cgroup2=$(mktemp -d)
  mount -t cgroup2 none "$cgroup2" || die "cannot mount cgroup2: does this kernel have CONFIG_CGROUPS?"
  cgroup2_mounted=yes
}
