"""The tests on a real cluster that take long. `soak.py CLASS.test` runs one."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster.case import OTHER_TCP_PORT, TCP_PORT, ClusterCase, main
from cluster.starts import ORIGIN, StartsCase
from support.case import tcp_port
from support.manifests import egress

CHANGES = 200


class ChangeLatency(ClusterCase):
    def test_from_kubectl_to_the_verdict_on_both_nodes(self):
        self.namespace("latency")
        pods = [pod.open() for pod in self.deployment("curl", "latency").values()]
        for pod in pods:
            self.addCleanup(pod.close)
        rule = egress("toggled", tcp_port(OTHER_TCP_PORT), account="curl", namespace="latency")
        times = []
        for number in range(CHANGES):
            opens = number % 2 == 0
            if opens:
                self.cluster.apply(rule)
            else:
                self.cluster.delete("egress", "toggled", "latency", "--wait=false")
            returned = time.monotonic()
            for pod in pods:
                while pod.connects(ORIGIN, OTHER_TCP_PORT) != opens:
                    self.assertLess(time.monotonic(), returned + 20)
            times.append((time.monotonic() - returned) * 1000)
        times.sort()
        print(f"{CHANGES} changes, from kubectl's return to the verdict on both nodes: "
              f"p50 {times[len(times) // 2]:.0f} ms, p99 {times[len(times) * 99 // 100 - 1]:.0f} ms", flush=True)


class ManyStarts(StartsCase):
    def test_two_hundred_starts(self):
        for batch in range(5):
            self.check(f"many{batch}", 20)


class StartsWithoutAgent(StartsCase):
    """The agents are away; the plugin that they left on the nodes is not."""

    def remove_agents(self):
        patch = '{"spec":{"template":{"spec":{"nodeSelector":{"none":"here"}}}}}'
        self.cluster.kubectl("patch", "daemonset", "-n", "egressd", "egressd", "-p", patch)
        self.cluster.kubectl("wait", "pod", "-n", "egressd", "-l", "app.kubernetes.io/name=egressd", "--for=delete",
                             "--timeout=60s")

    def check_without_agents(self, name):
        self.check(name, 5, allowed=False)
        self.start(f"{name}-free", "starts-free", TCP_PORT, 5)
        self.assertEqual(set(self.outcomes(f"{name}-free", "starts-free", 5)), {"0"})

    def test_enrolled_pods_are_denied_and_others_unhurt(self):
        self.addCleanup(self.install)
        self.remove_agents()
        self.check_without_agents("away")

    def test_the_same_after_a_reboot(self):
        self.addCleanup(self.install)
        self.remove_agents()
        for node in self.cluster.nodes:
            node.reboot(self.cluster.control.authority.folder)
        self.check_without_agents("reboot")


class Reboot(ClusterCase):
    def test_pods_of_a_node_that_comes_back_are_governed(self):
        self.namespace("reboot")
        self.cluster.apply(egress("open", tcp_port(TCP_PORT), account="curl", namespace="reboot"))
        self.deployment("curl", "reboot")
        node = self.cluster.nodes[0]
        node.reboot(self.cluster.control.authority.folder)
        pod = self.pods_of("curl", "reboot")[node.name]

        def runs():
            try:
                return pod.process()
            except RuntimeError:
                return None
        self.eventually(f"{pod} runs again", runs, 120)
        self.addCleanup(pod.open().close)
        self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)
        self.wait_for_agents()
        self.eventually(f"{pod} may connect", lambda: pod.connects(ORIGIN, TCP_PORT), 60)
        self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)


if __name__ == "__main__":
    main(ChangeLatency, ManyStarts, StartsWithoutAgent, Reboot)
