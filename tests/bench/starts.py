"""What a pod's start costs more: ADD of egress-cni, beside that of the plugin that makes the pod's network."""

import concurrent.futures
import contextlib
import json
import pathlib
import time

from support import cni, kubernetes, manifests
from support.case import tcp_port
from support.manifests import egress
from support.world import World
from table import median
from world import Problem, until

BRIDGE = pathlib.Path("/usr/lib/cni/bridge")
PODS = 40
CONFLIST = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0"}]}
NAMESPACES = {"enrolled": "of an enrolled namespace", "free": "of a namespace that is not enrolled"}


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Node:
    """An agent with an API server, and pods without a network yet."""

    def __init__(self, world):
        self.world, self.starts = world, 0
        api = kubernetes.add_api_server(world)
        self.agent = world.add_agent(kind=kubernetes.KubernetesAgent)
        self.agent.connect(api)
        self.agent.cni_conf_dir.mkdir(parents=True)
        self.conflist = self.agent.cni_conf_dir / "10-pods.conflist"
        self.conflist.write_text(json.dumps(CONFLIST), encoding="utf-8")
        api.apply(manifests.namespace("enrolled"), manifests.namespace("free", enrolled=False),
                  *(egress(f"rules-{number}", tcp_port(5000 + number), account="curl", namespace="enrolled")
                    for number in range(50)))
        self.agent.start()
        self.plugin = json.loads(self.conflist.read_text())["plugins"][-1]
        self.pods = {namespace: [self.add_pod(api, namespace, number) for number in range(PODS)] for namespace in NAMESPACES}

    def add_pod(self, api, namespace, number):
        pod = self.world.add_pod(name=f"{namespace}-{number}", namespace=namespace, account="curl", linked=False)
        item = pod.manifest()
        item["metadata"]["annotations"] = {}
        item["status"] = {"phase": "Pending"}
        api.apply(item)
        return pod

    @staticmethod
    def call(pod, verb, container, config, plugin):
        """Milliseconds that the plugin took, and what it said."""
        began = time.monotonic()
        done = cni.call(pod, config, verb=verb, container=container, uid=pod.uid, plugin=plugin, timeout=60)
        took = (time.monotonic() - began) * 1e3
        if done.returncode or done.stderr:
            raise Problem(f"{plugin.name} {verb} of {pod.key}: {done.stdout}{done.stderr}")
        return took, done.stdout

    def start(self, pod, container):
        """Network and egress-cni as a runtime calls them, and both away again; what either ADD took."""
        bridge = {"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": True,
                  "ipam": {"type": "host-local", "dataDir": str(self.world.folder / "leases"),
                           "routes": [{"dst": "0.0.0.0/0"}],
                           "ranges": [[{"subnet": "10.244.1.0/24", "rangeStart": pod.v4, "rangeEnd": pod.v4,
                                        "gateway": "10.244.1.1"}]]}}
        network, result = self.call(pod, "ADD", container, bridge, BRIDGE)
        config = {"cniVersion": "1.0.0", "name": "pods", **self.plugin, "prevResult": json.loads(result)}
        program = self.agent.cni_bin_dir / self.plugin["type"]
        ours, _ = self.call(pod, "ADD", container, config, program)
        self.call(pod, "DEL", container, config, program)
        self.call(pod, "DEL", container, bridge, BRIDGE)
        return network, ours

    def batch(self, namespace, width):
        """Each pod once, `width` at a time."""
        self.starts += 1
        with concurrent.futures.ThreadPoolExecutor(width) as pool:
            return list(pool.map(lambda pod: self.start(pod, f"{pod.name}-{self.starts}"), self.pods[namespace]))


def run(_, table, options):
    with contextlib.closing(World()) as world:
        node = Node(world)
        for namespace, words in NAMESPACES.items():
            until(lambda: all(node.agent.pod_status(pod.key) for pod in node.pods["enrolled"]), 60, "the pods are known")
            for width, how in ((1, "one after the other"), (8, "eight at a time")):
                rounds = [node.batch(namespace, width) for _ in range(options.rounds)]
                table.section(f"pod start {words}, {how}: ADD of egress-cni beside ADD of bridge, {PODS} pods a round")
                for name, share in (("p50", 0.5), ("p99", 0.99)):
                    network, ours = (median([quantile([pair[which] for pair in one], share) for one in rounds])
                                     for which in (0, 1))
                    table.row(name, "ms", ours, network, "bridge")
    table.hint("starts: attaching a tcx program waits for a grace period of RCU with the kernel's RTNL lock held, twice for a pod")
