"""What is in force stays in force: while agents are replaced, while the API server is away, as namespaces come and go."""

import contextlib
import signal

from cluster import layout
from cluster.case import OTHER_TCP_PORT, TCP_PORT, ClusterCase
from cluster.pod import Pod
from support import clients
from support.case import tcp_port
from support.manifests import egress

ORIGIN, OTHER = "198.51.100.10", "203.0.113.10"


class LifeCase(ClusterCase):
    """With a pod on each node that may connect to TCP_PORT. A class has its own NAMESPACE."""

    NAMESPACE = "life"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.namespace(cls.NAMESPACE)
        cls.cluster.apply(egress("open", tcp_port(TCP_PORT), account="curl", namespace=cls.NAMESPACE))
        cls.deployment("curl", cls.NAMESPACE)
        cls.find_pods()

    @classmethod
    def find_pods(cls):
        cls.pods = [pod.open() for pod in cls.pods_of("curl", cls.NAMESPACE).values()]
        for pod in cls.pods:
            cls.addClassCleanup(pod.close)

    def replace_pods(self, delete):
        """delete() makes the Deployment's controller make others."""
        for pod in self.pods:
            pod.close()
        delete()
        self.cluster.kubectl("rollout", "status", "-n", self.NAMESPACE, "deployment/curl", "--timeout=120s", timeout=150)
        self.find_pods()
        self.assertEqual(len(self.pods), len(self.cluster.nodes))

    def delete_pods(self, *options):
        self.cluster.kubectl("delete", "pod", "-n", self.NAMESPACE, "-l", "app=curl", *options)

    def assert_governed(self, pods=None):
        for pod in pods or self.pods:
            self.assert_connects(pod, ORIGIN, TCP_PORT)
            self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)

    def lines(self, port=TCP_PORT):
        """A live connection of each pod."""
        made = [pod.connect(ORIGIN, port) for pod in self.pods]
        for line in made:
            self.addCleanup(line.close)
            clients.exchange(line)
        return made

    def assert_cut(self, line):
        """Within the timeout of the socket: by a RST, or by the kernel, which tells the socket that it was aborted."""
        self.assertRaises(ConnectionError, line.recv, 1)

    def add_rule(self, name):
        """Opens OTHER_TCP_PORT until the test ends."""
        self.cluster.apply(egress(name, tcp_port(OTHER_TCP_PORT), account="curl", namespace=self.NAMESPACE))
        self.addCleanup(self.remove_rule, name)
        for pod in self.pods:
            self.eventually(f"{pod} may connect", lambda pod=pod: pod.connects(ORIGIN, OTHER_TCP_PORT))

    def remove_rule(self, name):
        self.cluster.delete("egress", name, self.NAMESPACE)
        for pod in self.pods:
            self.eventually(f"{pod} may not connect", lambda pod=pod: not pod.connects(ORIGIN, OTHER_TCP_PORT))


class Life(LifeCase):
    def test_agents_are_replaced(self):
        lines = self.lines()
        self.cluster.kubectl("rollout", "restart", "-n", "egressd", "daemonset/egressd")
        self.assert_governed()
        self.wait_for_agents()
        self.assert_governed()
        for line in lines:
            clients.exchange(line)
        self.add_rule("after")

    def test_an_agent_is_killed(self):
        lines = self.lines()
        for node in self.cluster.nodes:
            self.agent(node).kill()
        self.assert_governed()
        self.wait_for_agents()
        self.assert_governed()
        for line in lines:
            clients.exchange(line)

    def test_the_api_server_is_killed_and_comes_back(self):
        self.wait_for_agents()
        lines, agent = self.lines(), self.agent(self.cluster.nodes[0])
        self.cluster.control.stop_api_server(signal.SIGKILL)
        try:
            self.assert_governed()
            agent.kill()
            self.assert_governed()
        finally:
            self.cluster.control.start_api_server()
            self.cluster.control.wait_until_ready()
        self.assert_governed()
        self.wait_for_agents()  # kubelet waits longer each time before it starts one again
        self.add_rule("after")
        for line in lines:
            clients.exchange(line)

    def test_a_rule_that_goes_cuts_what_it_alone_allowed(self):
        self.add_rule("short")
        lines, kept = self.lines(OTHER_TCP_PORT), self.lines(TCP_PORT)
        self.remove_rule("short")
        for line in lines:
            self.assert_cut(line)
        for line in kept:
            clients.exchange(line)

    def test_a_pod_is_deleted_and_made_anew(self):
        self.replace_pods(self.delete_pods)
        self.assert_governed()

    def test_a_pod_moves_to_the_other_node_and_back(self):
        """One of the same name, as a StatefulSet's."""
        for node in (*self.cluster.nodes, self.cluster.nodes[0]):
            self.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mover", "namespace": "life"},
                                "spec": {"serviceAccountName": "curl", "nodeName": node.name,
                                         "terminationGracePeriodSeconds": 0,
                                         "containers": [{"name": "main", "image": layout.POD_IMAGE}]}})
            self.cluster.wait("pod", "mover", namespace="life", condition="Ready")
            with contextlib.closing(Pod(node, self.cluster.get("pod", "mover", "life")).open()) as pod:
                self.assert_governed([pod])
            self.cluster.delete("pod", "mover", "life")

    def test_a_namespace_is_enrolled_and_taken_out_again(self):
        self.namespace("late", enrolled=False)
        self.cluster.apply(egress("open", tcp_port(TCP_PORT), account="curl", namespace="late"))
        self.deployment("curl", "late")
        pods = [pod.open() for pod in self.pods_of("curl", "late").values()]
        for pod in pods:
            self.addCleanup(pod.close)
            self.assert_connects(pod, ORIGIN, OTHER_TCP_PORT)
        with pods[0].connect(ORIGIN, TCP_PORT) as allowed, pods[0].connect(OTHER, OTHER_TCP_PORT) as denied:
            clients.exchange(allowed)
            clients.exchange(denied)
            self.label("late", "openservicemesh.io/monitored-by=osm")
            for pod in pods:
                self.eventually(f"{pod} is governed", lambda pod=pod: not pod.connects(ORIGIN, OTHER_TCP_PORT))
            self.assert_governed(pods)
            with self.assertRaises(ConnectionError):  # the kernel knows of it when it speaks
                clients.exchange(denied)
            clients.exchange(allowed)
            self.label("late", "openservicemesh.io/monitored-by-")
            for pod in pods:
                self.eventually(f"{pod} is not governed", lambda pod=pod: pod.connects(ORIGIN, OTHER_TCP_PORT))
            clients.exchange(allowed)

    def label(self, namespace, label):
        self.cluster.kubectl("label", "namespace", namespace, label)
