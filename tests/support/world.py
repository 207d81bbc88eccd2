"""The world of a test: the outside with its servers, a node, pods on it, and agents.

    outside   198.51.100.0/24 203.0.113.0/24 2001:db8:51::/64, and the mesh 10.96.0.0/16 fd00:10:96::/64:
       |      every address has every server; 203.0.113.99 never answers
     node     agents run here
       |
     pods     10.244.1.10, .11, ... and fd00:10:244:1::10, ...; each a namespace and a cgroup

Everything is removed by close(), also when building it failed half-way.
"""

import contextlib
import itertools
import pathlib
import shutil
import subprocess
import tempfile
import uuid

from support import manifests, namespaces, origin, servers, wire
from support.agent import Agent
from support.pod_sockets import PodSockets

HTTP_PORT, TLS_PORT, BOTH_PORT, BANNER_PORT, CLOSED_PORT = 80, 443, 8443, 3306, 4999
ECHO_PORTS = (5000, 5001, 5002)
ORIGIN, OTHER, THIRD, ORIGIN6 = "198.51.100.10", "198.51.100.66", "203.0.113.5", "2001:db8:51::10"
SILENT = "203.0.113.99"
MESH = "10.96.0.80"
NODE_ADDRESS, OUTSIDE_ADDRESS = "192.0.2.2", "192.0.2.1"
_ROUTER = (("net/ipv4/ip_forward", 1), ("net/ipv6/conf/all/forwarding", 1), ("net/ipv4/conf/all/rp_filter", 0),
           ("net/ipv4/conf/default/rp_filter", 0), ("net/ipv6/conf/default/accept_dad", 0))
_HOST = (("net/ipv6/conf/default/accept_dad", 0),)
_numbers = itertools.count(1)


class Pod:
    """A pod's namespace, its cgroup and a process in both that makes sockets."""

    def __init__(self, world, name, namespace, account, number):
        self.world, self.name, self.namespace, self.account = world, name, namespace, account
        self.netns = f"{world.name}-{name}"
        self.path = namespaces.netns_path(self.netns)
        self.link = f"veth{number}"
        self.v4, self.v6 = f"10.244.1.{number}", f"fd00:10:244:1::{number}"
        self.uid = str(uuid.uuid4())
        # As a kubelet with the driver cgroupfs and containerd make it.
        self.cgroup = world.pods_cgroup / "kubepods" / "besteffort" / f"pod{self.uid}" / (uuid.uuid4().hex * 2)
        self.stack = contextlib.ExitStack()

    @property
    def key(self):
        return f"{self.namespace}/{self.name}"

    def manifest(self):
        manifest = manifests.pod(self.name, self.namespace, self.account, self.path, self.cgroup, [self.v4, self.v6])
        manifest["metadata"]["uid"] = self.uid
        return manifest

    def build(self, linked=True):
        self.cgroup.mkdir(parents=True)
        self.stack.callback(namespaces.remove_cgroup, self.cgroup.parent)
        self.make_netns(linked)
        self.start_process()

    def make_netns(self, linked=True):
        self.stack.callback(namespaces.remove_netns, self.netns)
        namespaces.make_netns(self.netns, _HOST)
        if linked:
            self.connect_link()

    def connect_link(self):
        """The veth pair to the node."""
        node = self.world.node
        namespaces.ip(node, f"link add {self.link} type veth peer name eth0 netns {self.netns}\n"
                            f"addr add 10.244.1.1/32 dev {self.link}\n"
                            f"addr add fd00:10:244:1::1/128 dev {self.link} nodad\nlink set {self.link} up\n"
                            f"route add {self.v4} dev {self.link}\nroute add {self.v6} dev {self.link}\n")
        namespaces.ip(self.netns, f"addr add {self.v4}/32 dev eth0\naddr add {self.v6}/128 dev eth0 nodad\n"
                                  "link set eth0 up\nroute add 10.244.1.1 dev eth0 scope link\n"
                                  "route add default via 10.244.1.1\nroute add fd00:10:244:1::1 dev eth0\n"
                                  "route add default via fd00:10:244:1::1\n")

    def start_process(self):
        self.sockets = PodSockets(self.cgroup, self.path)
        self.stack.callback(self.sockets.close)

    def stop_process(self):
        self.sockets.close()

    def close(self):
        self.stack.close()

    # ---- Sockets ----

    def socket(self, *arguments, **options):
        """A socket of this pod; as PodSockets.socket."""
        return self.sockets.socket(*arguments, **options)

    def connect(self, address, port, timeout=5):
        return self.sockets.connect(address, port, timeout)

    def command(self, *arguments):
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.cgroup), "nsenter",
                f"--net={self.path}", *map(str, arguments)]

    def run(self, *arguments, timeout=30):
        """A program of this pod, run to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL)

    def curl(self, *arguments):
        return self.run("curl", "-sS", "--max-time", "10", *arguments)


class World:
    def __init__(self):
        self.name = f"{namespaces.PREFIX}{next(_numbers)}"
        self.outside, self.node = f"{self.name}-outside", f"{self.name}-node"
        self.outside_path, self.node_path = map(namespaces.netns_path, (self.outside, self.node))
        self.stack, self.pods, self.agents = contextlib.ExitStack(), {}, []
        self._pod_numbers = itertools.count(10)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self):
        self.stack.close()

    def _build(self):
        if not namespaces.BPFFS.is_mount():
            namespaces.run("mount", "-t", "bpf", "bpf", namespaces.BPFFS)
            self.stack.callback(subprocess.run, ["umount", namespaces.BPFFS], capture_output=True, check=False)
        namespaces.sweep()
        self.folder = pathlib.Path(tempfile.gettempdir()) / self.name
        self.folder.mkdir()
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.cgroup = namespaces.cgroup2_root() / self.name
        self.pods_cgroup, self.agent_cgroup = self.cgroup / "pods", self.cgroup / "agent"
        for cgroup in (self.pods_cgroup, self.agent_cgroup):
            cgroup.mkdir(parents=True)
        self.stack.callback(namespaces.remove_cgroup, self.cgroup)
        for netns in (self.outside, self.node):
            self.stack.callback(namespaces.remove_netns, netns)
            namespaces.make_netns(netns, _ROUTER)
        self._link()
        self.wire = wire.Wire(self.outside_path, "uplink", self.node_path, OUTSIDE_ADDRESS)
        self.stack.callback(self.wire.close)
        self._serve()

    def _link(self):
        namespaces.ip(self.outside, f"""link add uplink type veth peer name uplink netns {self.node}
            addr add {OUTSIDE_ADDRESS}/24 dev uplink
            addr add 2001:db8:ffff::1/64 dev uplink nodad
            link set uplink up
            route add 10.244.0.0/16 via {NODE_ADDRESS}
            route add local 198.51.100.0/24 dev lo
            route add local 203.0.113.0/24 dev lo
            route add blackhole {SILENT}/32 table local
            route add local 10.96.0.0/16 dev lo
            route add local 2001:db8:51::/64 dev lo
            route add local fd00:10:96::/64 dev lo
            """)
        namespaces.ip(self.node, f"""addr add {NODE_ADDRESS}/24 dev uplink
            addr add 2001:db8:ffff::2/64 dev uplink nodad
            link set uplink up
            route add default via {OUTSIDE_ADDRESS}
            route add default via 2001:db8:ffff::1
            """)
        namespaces.ip(self.outside, "route add fd00:10:244::/48 via 2001:db8:ffff::2\n")

    def _serve(self):
        self.certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        namespaces.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                       "-nodes", "-days", "2", "-subj", "/CN=outside", "-addext",
                       "subjectAltName=DNS:allowed.test,DNS:other.test,DNS:denied.test", "-keyout", key,
                       "-out", self.certificate)
        context = servers.tls_context(self.certificate, key)
        self.origin = origin.Origin()
        self.servers = {HTTP_PORT: self.serve(HTTP_PORT, self.origin),
                        TLS_PORT: self.serve(TLS_PORT, self.origin, context),
                        BOTH_PORT: self.serve(BOTH_PORT, servers.either(self.origin, context)),
                        BANNER_PORT: self.serve(BANNER_PORT, servers.banner)}
        for port in ECHO_PORTS:
            self.servers[port] = self.serve(port, servers.echo)

    def serve(self, port, handler, context=None):
        """A server at every address of the outside."""
        server = servers.Server(namespaces.listening_socket(self.outside_path, port), handler, context)
        self.stack.callback(server.close)
        return server

    def add_pod(self, name="curl", namespace="curl", account=None, linked=True):
        pod = Pod(self, name, namespace, account or name, next(self._pod_numbers))
        self.stack.callback(pod.close)
        self.pods[pod.key] = pod
        pod.build(linked)
        return pod

    def add_agent(self, name="agent", kind=Agent, **options):
        agent = kind(self.node_path, self.folder, options.pop("cgroup", self.pods_cgroup), self.agent_cgroup, name,
                     **options)
        self.stack.callback(agent.remove)
        self.agents.append(agent)
        return agent
