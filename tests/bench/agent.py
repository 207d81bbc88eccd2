"""egressd on a node of the benchmarks: manifests, start, metrics, end."""

import http.client
import json
import os
import pathlib
import re
import shutil
import time

from world import Problem, connect_inside, end_process, sh, until

CONFIG = """meshName: osm
controlPlaneNamespace: osm-system
meshCIDRs: [10.244.0.0/16]
"""
METRICS_PORT = 9469
NAMESPACE = """kind: Namespace
apiVersion: v1
metadata:
  name: bench
  labels: {openservicemesh.io/monitored-by: osm}
"""
POD = """kind: Pod
apiVersion: v1
metadata:
  name: %(name)s
  namespace: bench
  annotations:
    egressd.io/netns: %(netns)s
    egressd.io/cgroup: %(cgroup)s
spec:
  serviceAccountName: %(account)s
status:
  podIPs: [{ip: %(address)s}]
"""
EGRESS = """kind: Egress
apiVersion: policy.openservicemesh.io/v1alpha1
metadata:
  name: %(name)s
  namespace: bench
spec:
  sources: [{kind: ServiceAccount, name: %(account)s, namespace: bench}]
  hosts: [%(hosts)s]
  ipAddresses: [%(cidrs)s]
  ports: [%(ports)s]
  matches: [%(matches)s]
"""
ROUTES = """kind: HTTPRouteGroup
apiVersion: specs.smi-spec.io/v1alpha4
metadata:
  name: %(name)s
  namespace: bench
spec:
  matches:
  - {name: bench, pathRegex: '%(path)s', methods: [GET]}
"""


def egress(name, account, ports, hosts=(), cidrs=(), route_group=None):
    """The manifest of an Egress; `ports` maps number to protocol."""
    match = "{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: %s}" % route_group
    return EGRESS % {
        "name": name, "account": account, "hosts": ", ".join(f'"{host}"' for host in hosts),
        "cidrs": ", ".join(cidrs),
        "ports": ", ".join("{number: %d, protocol: %s}" % pair for pair in ports.items()),
        "matches": match if route_group else ""}


class Agent:
    """One egressd with its own folder, bpffs and cgroups. `cores`: where it and its proxy run."""

    def __init__(self, world, node, cores=None):
        self.world, self.node, self.cores, self.process = world, node, cores, None
        self.directory = world.directory / node.name
        self.manifests, self.beside = self.directory / "manifests", self.directory / "beside"
        for directory in (self.manifests, self.beside):
            directory.mkdir(parents=True)
        self.bpffs = pathlib.Path("/sys/fs/bpf") / f"{world.prefix}-{node.name}"
        self.pods_cgroup = f"{node.name}/pods"
        (world.cgroup / self.pods_cgroup).mkdir(parents=True)
        (self.directory / "config.yaml").write_text(CONFIG)
        self.write("namespace", NAMESPACE)
        world.stack.callback(self.remove)

    def command(self, *more):
        return [self.world.build / "egressd", "--manifests", self.manifests, "--run-dir", self.directory / "run",
                "--bpffs", self.bpffs, "--cgroup-root", self.world.cgroup / self.pods_cgroup,
                "--config", self.directory / "config.yaml", "--metrics-listen", f"127.0.0.1:{METRICS_PORT}",
                "--node-name", "bench", *more]

    def write(self, name, text):
        (self.beside / "new").write_text(text)
        os.rename(self.beside / "new", self.manifests / f"{name}.yaml")

    def delete(self, name):
        (self.manifests / f"{name}.yaml").unlink(missing_ok=True)

    def add_pod(self, name, account):
        """A governed pod; returns the cgroup for its processes, below the world's."""
        namespace, address, link = self.node.add_pod(f"{self.node.name}-{name}")
        cgroup = f"{self.pods_cgroup}/{name}"
        (self.world.cgroup / cgroup).mkdir()
        self.write(f"pod-{name}", POD % {
            "name": name, "netns": self.world.path(namespace), "cgroup": self.world.cgroup / cgroup,
            "account": account, "address": address})
        return namespace, cgroup, address, link

    def start(self):
        """Returns the seconds from its start until it is ready."""
        began = time.monotonic()
        self.process = self.world.start(self.node.name, f"{self.node.name}/agent", self.command(), self.cores,
                                        log=self.directory / "agent.log")
        until(self.is_ready, 120, "egressd is ready")
        return time.monotonic() - began

    def is_ready(self):
        if self.process.poll() is not None:
            log = (self.directory / "agent.log").read_text(errors="replace")
            raise Problem(f"egressd ended with {self.process.returncode}: {log[-500:]}")
        try:
            return self.fetch("/readyz")[0] == 200
        except OSError:
            return False

    def fetch(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", METRICS_PORT)
        connection.sock = connect_inside(self.world.path(self.node.name), "127.0.0.1", METRICS_PORT)
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def apply_histogram(self):
        """The buckets of egressd_policy_apply_seconds: {upper bound: count up to it}."""
        found = re.findall(r'^egressd_policy_apply_seconds_bucket\{.*?le="([^"]+)"\} (\S+)', self.fetch("/metrics")[1],
                           re.M)
        return {float("inf" if bound == "+Inf" else bound): float(count) for bound, count in found}

    def map_entries(self, name):
        found = re.search(rf'^egressd_map_entries\{{map="{name}"\}} (\S+)', self.fetch("/metrics")[1], re.M)
        return float(found.group(1)) if found else 0

    def proxy_pid(self):
        pid = self.process.pid
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "egress-proxy":
                return int(child)
        raise Problem("egressd has no egress-proxy")

    def program_ids(self):
        """Name -> id of the loaded programs of this agent: those that use its pinned maps."""
        states = json.loads(sh("bpftool", "-j", "map", "show", "pinned", self.bpffs / "states"))["id"]
        programs = json.loads(sh("bpftool", "-j", "prog", "show"))
        return {one["name"]: one["id"] for one in programs if states in one.get("map_ids", [])}

    def remove(self):
        if self.process:
            end_process(self.process)
            self.process = None
            sh(*self.world.command(self.node.name, f"{self.node.name}/agent", self.command("--uninstall")))
        shutil.rmtree(self.bpffs, ignore_errors=True)

    def stop(self):
        end_process(self.process)
