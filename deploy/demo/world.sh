# shellcheck shell=bash
# The world of the demo, made of network namespaces and one cgroup, all named egress-demo-PID, and its removal.
# Sourced by `run`, after deploy/prepare.sh.
#
#   pod curl --- veth --- node --- veth --- world
#   10.244.1.10           egressd            httpbin.org  openservicemesh.io  other.example  mysql.example
#                                            and the cluster's name server, 10.96.0.10, inside the mesh

: "${root:?}" "${build:?}" "${cgroup2?}"
prefix=egress-demo-$$
metrics=127.0.0.1:9469
pod_address4=10.244.1.10
pod_address6=fd00:10:244:1::10
dns_server=10.96.0.10
world_hosts="198.51.100.10 httpbin.org
198.51.100.20 openservicemesh.io
2001:db8:51::20 openservicemesh.io
198.51.100.40 mysql.example
203.0.113.10 other.example"
folder=
cgroup=
agent_pid=

# in_netns NAME COMMAND...: in a network namespace of the demo and nothing else.
in_netns() {
  local name=$1
  shift
  nsenter --net="/run/netns/$prefix-$name" "$@"
}

# inside NAME GROUP COMMAND...: becomes COMMAND, in a network namespace, a cgroup and with the demo's own resolv.conf,
# as the process of a container would be. Call it in a subshell.
inside() {
  local name=$1 group=$2
  shift 2
  # shellcheck disable=SC2016  # expanded by the inner shell
  exec nsenter --net="/run/netns/$prefix-$name" unshare --mount --propagation slave sh -c '
    echo $$ >"$0/cgroup.procs" && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"' \
    "$cgroup/$group" "$folder/resolv.conf" env -i PATH="$build:$PATH" HOME="$folder" LANG=C.UTF-8 "$@"
}

# until_true SECONDS COMMAND...: tries again until the command succeeds or the time is over.
until_true() {
  local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
  shift
  until "$@"; do
    ((${EPOCHREALTIME/./} < deadline)) || return 1
    sleep 0.02
  done
}

add_namespace() {
  ip netns add "$prefix-$1"
  in_netns "$1" sh -c '
    ip link set lo up
    echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter'
}

# The node routes between its pods and the world, as a CNI would have set it up.
connect_pod() {
  in_netns node ip link add veth-curl type veth peer name eth0 netns "$prefix-pod"
  in_netns node ip -batch - <<END
addr add 10.244.1.1/32 dev veth-curl
addr add fd00:10:244:1::1/128 dev veth-curl nodad
link set veth-curl up
route add $pod_address4 dev veth-curl
route add $pod_address6 dev veth-curl
END
  in_netns pod ip -batch - <<END
addr add $pod_address4/32 dev eth0
addr add $pod_address6/128 dev eth0 nodad
link set eth0 up
route add 10.244.1.1 dev eth0 scope link
route add default via 10.244.1.1
route add fd00:10:244:1::1 dev eth0
route add default via fd00:10:244:1::1
END
}

connect_world() {
  local address
  in_netns node ip link add uplink type veth peer name node netns "$prefix-world"
  in_netns node sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
  in_netns node ip -batch - <<END
addr add 192.0.2.2/30 dev uplink
addr add 2001:db8:ffff::2/64 dev uplink nodad
link set uplink up
route add default via 192.0.2.1
route add default via 2001:db8:ffff::1
END
  in_netns world ip -batch - <<END
addr add 192.0.2.1/30 dev node
addr add 2001:db8:ffff::1/64 dev node nodad
link set node up
addr add $dns_server/32 dev lo
route add 10.244.0.0/16 via 192.0.2.2
route add fd00:10:244::/48 via 2001:db8:ffff::2
END
  while read -r address _; do
    in_netns world ip addr replace "$address" dev lo
  done <<<"$world_hosts"
}

start_servers() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=demo \
    -keyout "$folder/key.pem" -out "$folder/certificate.pem" 2>"$folder/openssl.log" || die "openssl: no certificate"
  printf '%s\n' "$world_hosts" >"$folder/hosts"
  printf 'nameserver %s\noptions timeout:1 attempts:2\n' "$dns_server" >"$folder/resolv.conf"
  (inside world servers python3 -B "$root/deploy/demo/server.py" "$folder/certificate.pem" "$folder/key.pem" \
    "$folder/servers-ready") >"$folder/servers.log" 2>&1 &
  (inside world servers dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= \
    --addn-hosts="$folder/hosts" --listen-address="$dns_server" --bind-interfaces --user=root) \
    >"$folder/dns.log" 2>&1 &
  until_true 10 test -e "$folder/servers-ready" || die "the servers did not start: $(tail -n 3 "$folder/servers.log")"
  until_true 10 name_server_answers || die "the name server does not answer: $(tail -n 3 "$folder/dns.log")"
}

name_server_answers() {
  (inside node agent getent ahostsv4 httpbin.org) >"$folder/getent.log" 2>&1
}

make_world() {
  folder=$(mktemp -d "/tmp/$prefix-XXXXXX")
  cgroup=$cgroup2/$prefix
  mkdir "$folder/manifests"
  mkdir -p "$cgroup/pods/curl" "$cgroup/agent" "$cgroup/servers"
  add_namespace world
  add_namespace node
  add_namespace pod
  connect_world
  connect_pod
  start_servers
  # The pod's own process, as long as it lives; commands join it. Its resolv.conf is what egressctl reads.
  (inside pod pods/curl sleep infinity) &
}

agent_options() {
  printf '%s\n' --manifests "$folder/manifests" --config "$root/deploy/demo/config.yaml" --node-name demo \
    --run-dir "$folder/run" --bpffs "/sys/fs/bpf/$prefix" --cgroup-root "$cgroup/pods" --metrics-listen "$metrics"
}

agent_ready() {
  [[ $(in_netns node curl -q -s -o /dev/null -w '%{http_code}' "http://$metrics/readyz") == 200 ]] ||
    ! kill -0 "$agent_pid" 2>/dev/null
}

start_agent() {
  local options
  mapfile -t options < <(agent_options)
  (inside node agent "$build/egressd" "${options[@]}") >>"$folder/agent.log" 2>&1 &
  agent_pid=$!
  disown "$agent_pid" # so that bash keeps quiet when it is killed
  until_true 20 agent_ready || die "egressd is not ready after 20 s: $(tail -n 20 "$folder/agent.log")"
  kill -0 "$agent_pid" 2>/dev/null || die "egressd has ended: $(tail -n 20 "$folder/agent.log")"
}

# stop_agent SIGNAL
stop_agent() {
  kill "-$1" "$agent_pid"
  until_true 10 agent_gone || die "egressd did not end within 10 s of SIG$1"
  agent_pid=
}

agent_gone() {
  ! kill -0 "$agent_pid" 2>/dev/null
}

# Takes all of egressd off the node; what is left afterwards is a fault of it.
uninstall_agent() {
  local options left
  mapfile -t options < <(agent_options)
  (inside node agent "$build/egressd" "${options[@]}" --uninstall) >>"$folder/agent.log" 2>&1 ||
    die "egressd --uninstall failed: $(tail -n 5 "$folder/agent.log")"
  [[ -d /sys/fs/bpf/$prefix ]] || return 0
  left=$(find "/sys/fs/bpf/$prefix" -type f | head -n 5)
  [[ -z $left ]] || die "egressd --uninstall left $left"
}

# Never fails and may be called at any point of the making.
remove_world() {
  local name path
  set +e
  [[ -z $agent_pid ]] || { kill -TERM "$agent_pid" 2>/dev/null && until_true 8 agent_gone; }
  if [[ -n $folder && -d /sys/fs/bpf/$prefix ]]; then
    (uninstall_agent)
    rm -rf "/sys/fs/bpf/$prefix"
  fi
  if [[ -n $cgroup && -d $cgroup ]]; then
    echo 1 >"$cgroup/cgroup.kill"
    for path in "$cgroup"/pods/*/ "$cgroup"/*/ "$cgroup"; do
      [[ ! -d $path ]] || until_true 5 rmdir "$path" 2>/dev/null
    done
  fi
  for name in pod node world; do
    [[ ! -e /run/netns/$prefix-$name ]] || ip netns del "$prefix-$name"
  done
  [[ -z $folder ]] || rm -rf "$folder"
}
