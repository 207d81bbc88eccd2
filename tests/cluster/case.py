"""ClusterCase: a test class with a cluster on which egressd was installed as the README says, and an outside world that
this process serves, so that a test sees who came and what with.

EGRESSD_KUBERNETES names the folder with the programs of Kubernetes (tests/cluster/kubernetes/build prints it).
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

from cluster import layout
from cluster.machine import wait_until
from cluster.pod import Pod
from cluster.testbed import Cluster
from support import manifests, namespaces, origin, servers

ROOT = pathlib.Path(__file__).parents[2]
MESH_CIDRS = [layout.POD_CIDR, layout.SERVICE_CIDR]
HTTP_PORT, TLS_PORT, TCP_PORT, OTHER_TCP_PORT = 80, 443, 5000, 5001


def kubernetes_folder():
    if "EGRESSD_KUBERNETES" in os.environ:
        return os.environ["EGRESSD_KUBERNETES"]
    return namespaces.run(ROOT / "tests/cluster/kubernetes/build").strip()


class World:
    """The servers of the outside, at every address of layout.WORLD_RANGES."""

    def __init__(self, outside):
        self.outside, self.stack = outside, contextlib.ExitStack()
        context = servers.tls_context(outside.certificate, outside.key)
        self.origin = origin.Origin()
        self.servers = {HTTP_PORT: self._serve(HTTP_PORT, self.origin),
                        TLS_PORT: self._serve(TLS_PORT, self.origin, context),
                        **{port: self._serve(port, servers.echo) for port in (TCP_PORT, OTHER_TCP_PORT)}}

    def _serve(self, port, handler, context=None):
        server = servers.Server(namespaces.listening_socket(self.outside.netns_path, port), handler, context)
        self.stack.callback(server.close)
        return server

    def close(self):
        self.stack.close()

    def arrivals(self, port):
        """How often something has come to a port: connections, and requests, since a connection may carry many."""
        return len(self.servers[port].visits) + (len(self.origin.requests) if port in (HTTP_PORT, TLS_PORT) else 0)


class Image:
    """The image egressd:TAG of this tree, as an archive."""

    def __init__(self, folder, tag):
        self.tag, self.archive = tag, folder / f"egressd-{tag}.tar"
        try:
            namespaces.run(ROOT / "deploy/image/build", "--tag", tag, "--output", self.archive)
        finally:
            subprocess.run(["buildah", "rmi", f"localhost/egressd:{tag}"], capture_output=True, check=False)


def overlay(folder, base, tag, config):
    """A kustomization over deploy/kubernetes/BASE with an image's tag and a configuration, as a user would write it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    (folder / "kustomization.yaml").write_text(json.dumps({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "deploy/kubernetes" / base, folder.resolve())],
        "images": [{"name": "egressd", "newTag": tag}],
        "configMapGenerator": [{"name": "egressd", "namespace": "egressd", "behavior": "replace",
                                "files": ["config.yaml"]}],
        "generatorOptions": {"disableNameSuffixHash": True}}), encoding="utf-8")
    return folder


class Stage:
    """The cluster, its outside and the image that the tests of one process share: made when the first one asks."""

    _shared = None

    def __init__(self):
        self.stack = contextlib.ExitStack()
        try:
            namespaces.sweep()
            self.cluster = self.stack.enter_context(Cluster(kubernetes_folder()))
            self.world = World(self.cluster.outside)
            self.stack.callback(self.world.close)
            self.image = Image(self.cluster.folder, f"test-{os.getpid()}")
            self.cluster.load_image(self.image.archive)
        except BaseException:
            self.stack.close()
            raise

    @classmethod
    def shared(cls):
        if cls._shared is None:
            cls._shared = Stage()
        return cls._shared

    @classmethod
    def close(cls):
        if cls._shared is not None:
            cls._shared.stack.close()


class ClusterCase(unittest.TestCase):
    """Every class begins with egressd installed with the shipped configuration and CONFIG."""

    CONFIG = {}

    @classmethod
    def setUpClass(cls):
        stage = Stage.shared()
        cls.cluster, cls.world, cls.image = stage.cluster, stage.world, stage.image
        try:
            cls.install()
        except BaseException:
            print(cls.cluster.logs(), cls.agent_logs(), sep="\n", file=sys.stderr)
            raise

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before and hasattr(self, "cluster"):
            print(f"---- {self.id()}: the agents' logs end with\n{self.agent_logs()}", file=sys.stderr)

    # ---- egressd ----

    @classmethod
    def install(cls):
        config = {"meshCIDRs": MESH_CIDRS, **cls.CONFIG}
        cls.cluster.kubectl("apply", "-k", overlay(cls.cluster.folder / "overlay", ".", cls.image.tag, config))
        cls.wait_for_agents()

    @classmethod
    def wait_for_agents(cls):
        """Until each node has one that is ready, by what the API and the node say: the API learns late of one that was
        killed."""
        cls.cluster.kubectl("rollout", "status", "-n", "egressd", "daemonset/egressd", "--timeout=120s", timeout=150)
        wait_until("an agent is ready on every node", cls.agents_are_ready, 120, 0.1)

    @classmethod
    def agents_are_ready(cls):
        agents = cls.pods_of("egressd", "egressd", "app.kubernetes.io/name")
        return all(node.name in agents and agents[node.name].is_ready() for node in cls.cluster.nodes)

    @classmethod
    def pods_of(cls, app, namespace, label="app"):
        """The pods that bear the label, by the name of their node."""
        nodes = {node.name: node for node in cls.cluster.nodes}
        found = cls.cluster.get("pods", None, namespace, "-l", f"{label}={app}")
        return {pod["spec"]["nodeName"]: Pod(nodes[pod["spec"]["nodeName"]], pod) for pod in found
                if "deletionTimestamp" not in pod["metadata"]}

    @classmethod
    def agent(cls, node):
        """The agent's pod on a node."""
        return cls.pods_of("egressd", "egressd", "app.kubernetes.io/name")[node.name]

    @classmethod
    def agent_logs(cls):
        said = cls.cluster.kubectl("logs", "-n", "egressd", "-l", "app.kubernetes.io/name=egressd", "--prefix", "--tail=40",
                                   "--all-containers", check=False)
        events = cls.cluster.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)
        return said.stdout + said.stderr + events.stdout[-3000:]

    def egressctl(self, node, *arguments, check=True):
        """egressctl in the agent's pod of a node."""
        done = self.cluster.execute("egressd", self.agent(node).name, "egressctl", *arguments)
        if check and done.returncode:
            self.fail(f"egressctl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done

    # ---- Pods ----

    @classmethod
    def namespace(cls, name, enrolled=True):
        """Removed after the tests of the class, with all that is in it."""
        cls.cluster.apply(manifests.namespace(name, enrolled))
        cls.addClassCleanup(cls.cluster.kubectl, "delete", "namespace", name, "--ignore-not-found", "--wait=false")

    @classmethod
    def deployment(cls, name, namespace, account=None, replicas=2, command=None):
        """Pods, one on each node, of a ServiceAccount of the same name; their names by node, once they are ready."""
        labels = {"app": name}
        container = {"name": "main", "image": layout.POD_IMAGE}
        if command:
            container["command"] = command
        spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                  "labelSelector": {"matchLabels": labels}}
        account = account or name
        cls.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
             "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
                 "metadata": {"labels": labels},
                 "spec": {"serviceAccountName": account, "terminationGracePeriodSeconds": 0,
                          "topologySpreadConstraints": [spread], "containers": [container]}}}})
        cls.cluster.kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", "--timeout=120s", timeout=150)
        return cls.pods_of(name, namespace)

    def curl(self, pod, *arguments):
        """curl by `kubectl exec`: (its exit status, the HTTP status or 0)."""
        done = self.cluster.execute(pod.namespace, pod.name, "curl", "-sk", "-m", "10", "-o", "/dev/null", "-w",
                                    "%{http_code}", *arguments)
        return done.returncode, int(done.stdout or 0)

    # ---- Verdicts ----

    def eventually(self, what, condition, seconds=20):
        return wait_until(what, condition, seconds, 0.05)

    def becomes(self, outcome, pod, *arguments):
        """A change was made: until curl ends like this, (exit status, HTTP status)."""
        self.eventually(f"curl {' '.join(arguments)} of {pod} gives {outcome}",
                        lambda: self.curl(pod, *arguments) == outcome)

    def assert_reached(self, pod, url, *arguments, port):
        before = self.world.arrivals(port)
        self.assertEqual(self.curl(pod, *arguments, url), (0, 200))
        self.assertGreater(self.world.arrivals(port), before, f"{url} was answered, but not by the outside")

    def assert_refused(self, pod, url, *arguments, port):
        before = self.world.arrivals(port)
        self.assertEqual(self.curl(pod, *arguments, url), (7, 0))
        self.assertEqual(self.world.arrivals(port), before, f"a connection to {url} came through")

    def assert_connects(self, pod, address, port):
        before = self.world.arrivals(port)
        self.assertTrue(pod.connects(address, port), f"{pod} is refused")
        self.world.servers[port].wait_for_visit(before)

    def assert_connect_refused(self, pod, address, port):
        before = self.world.arrivals(port)
        self.assertFalse(pod.connects(address, port), f"{pod} is let through")
        self.assertEqual(self.world.arrivals(port), before, f"a connection to {address}:{port} came through")


def main(*classes):
    """Runs the tests of these classes, in this order, or those that the command line names as CLASS or CLASS.test."""
    if os.geteuid() != 0:
        sys.exit("these tests make namespaces: run them as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    known = {one.__name__: one for one in classes}
    suite = unittest.TestSuite()
    for name in sys.argv[1:] or known:
        one, _, test = name.partition(".")
        suite.addTest(known[one](test) if test else unittest.defaultTestLoader.loadTestsFromTestCase(known[one]))
    try:
        result = unittest.TextTestRunner(verbosity=2, warnings="ignore").run(suite)  # of sockets that are ended hard
    finally:
        Stage.close()
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
