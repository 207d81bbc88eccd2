"""Pods whose first act is a connect: none gets out that may not, and none is refused that may.

`Starts` makes 200 of them, for every run; soak.py makes 1,000, and some without an agent.
"""

from cluster import layout
from cluster.case import OTHER_TCP_PORT, TCP_PORT, ClusterCase
from support.case import tcp_port
from support.manifests import egress

ORIGIN = "198.51.100.10"


class StartsCase(ClusterCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.namespace("starts")
        cls.namespace("starts-free", enrolled=False)
        cls.cluster.apply(egress("open", tcp_port(TCP_PORT), account="default", namespace="starts"))

    def start(self, name, namespace, port, count):
        """Pods that connect to `port` and end; what nc gave to each, 0 for a connection. No deadline but the cluster's."""
        def pod(number):
            script = f"nc -w 5 {ORIGIN} {port} </dev/null; echo $? >/dev/termination-log"
            return {"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": f"{name}-{number}", "namespace": namespace, "labels": {"batch": name}},
                    "spec": {"restartPolicy": "Never", "containers": [
                        {"name": "main", "image": layout.POD_IMAGE, "command": ["sh", "-c", script]}]}}
        self.cluster.apply(*(pod(number) for number in range(count)))
        self.addCleanup(self.cluster.kubectl, "delete", "pod", "-n", namespace, "-l", f"batch={name}", "--force",
                        "--wait=false", "--ignore-not-found")

    def outcomes(self, name, namespace, count):
        self.cluster.wait("pod", "-l", f"batch={name}", namespace=namespace, seconds=60 + 2 * count,
                          condition="jsonpath={.status.phase}=Succeeded")
        pods = self.cluster.get("pods", None, namespace, "-l", f"batch={name}")
        self.assertEqual(len(pods), count)
        return [pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"].strip() for pod in pods]

    def check(self, name, count, *, allowed=True):
        """`count` starts that may connect (if the rules are known) and as many that may not, at once."""
        before = self.world.arrivals(OTHER_TCP_PORT)
        self.start(f"{name}-may", "starts", TCP_PORT, count)
        self.start(f"{name}-may-not", "starts", OTHER_TCP_PORT, count)
        came_through = self.outcomes(f"{name}-may", "starts", count)
        refused = self.outcomes(f"{name}-may-not", "starts", count)
        self.assertNotIn("0", refused)
        self.assertEqual(self.world.arrivals(OTHER_TCP_PORT), before, "a pod's first connection leaked")
        if allowed:
            self.assertEqual(set(came_through), {"0"}, "a pod was refused what it may")
        else:
            self.assertNotIn("0", came_through)


class Starts(StartsCase):
    def test_the_first_connection_of_two_hundred_pods_is_judged_by_their_rules(self):
        for batch in range(5):
            self.check(f"first{batch}", 20)

    def test_a_pod_that_starts_right_after_its_namespace_was_enrolled_is_governed(self):
        before = self.world.arrivals(OTHER_TCP_PORT)
        self.cluster.kubectl("label", "namespace", "starts-free", "openservicemesh.io/monitored-by=osm")
        self.addCleanup(self.cluster.kubectl, "label", "namespace", "starts-free", "openservicemesh.io/monitored-by-")
        self.start("enrolled", "starts-free", OTHER_TCP_PORT, 4)
        self.assertNotIn("0", self.outcomes("enrolled", "starts-free", 4))
        self.assertEqual(self.world.arrivals(OTHER_TCP_PORT), before)
