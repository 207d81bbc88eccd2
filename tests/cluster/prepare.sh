# shellcheck shell=bash
# What a cluster needs: packages and the programs of Kubernetes. Sourced after deploy/prepare.sh.

# Sets kubernetes to the folder of its programs, and compiles them where they are not there yet.
prepare_kubernetes() {
  without_services install_packages "$root/deploy/packages.txt" "$root/deploy/packages-cluster.txt" || return
  quietly "the programs of Kubernetes (compiled once, about nine minutes on two cores)" \
    "$root/tests/cluster/kubernetes/build" || return
  kubernetes=$("$root/tests/cluster/kubernetes/build")
}
