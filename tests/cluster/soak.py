"""The tests on a real cluster that take long. `soak.py CLASS.test` runs one."""

import collections
import contextlib
import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import layout
from cluster.case import OTHER_TCP_PORT, TCP_PORT, ClusterCase, main
from cluster.pod import Pod
from cluster.starts import ORIGIN, StartsCase
from support import manifests
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
    def test_a_thousand_starts(self):
        for batch in range(25):
            self.check(f"many{batch}", 20)


class StartsWithoutAgent(StartsCase):
    """The agents are away; the plugin that they left on the nodes is not."""

    def select_nodes(self, value):
        selector = {"spec": {"template": {"spec": {"nodeSelector": {"agents": value}}}}}
        self.cluster.kubectl("patch", "daemonset", "-n", "egressd", "egressd", "-p", json.dumps(selector))

    def remove_agents(self):
        """Until the test ends."""
        self.addCleanup(self.wait_for_agents)
        self.addCleanup(self.select_nodes, None)
        self.select_nodes("nowhere")
        self.cluster.kubectl("wait", "pod", "-n", "egressd", "-l", "app.kubernetes.io/name=egressd", "--for=delete",
                             "--timeout=60s")

    def check_without_agents(self, name):
        self.check(name, 5, allowed=False)
        self.start(f"{name}-free", "starts-free", TCP_PORT, 5)
        self.assertEqual(set(self.outcomes(f"{name}-free", "starts-free", 5)), {"0"})

    def test_enrolled_pods_are_denied_and_others_unhurt(self):
        self.remove_agents()
        self.check_without_agents("away")

    def test_the_same_after_a_reboot(self):
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

        def opened():
            try:
                return pod.open()
            except RuntimeError:  # it does not run yet
                return None
        self.eventually(f"{pod} runs again", opened, 120)
        self.addCleanup(pod.close)
        self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)
        self.wait_for_agents()
        self.eventually(f"{pod} may connect", lambda: pod.connects(ORIGIN, TCP_PORT), 60)
        self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)


class Large(ClusterCase):
    EGRESSES, ACCOUNTS, PODS = 10_000, 500, 200

    def create(self, objects):
        """Egress objects, over many connections: kubectl takes them one after the other."""
        folder, authority = self.cluster.folder / "large", self.cluster.control.authority
        folder.mkdir()
        url = f"{layout.API_SERVER}/apis/{manifests.POLICY}/namespaces/large/egresses"
        requests = []
        for item in objects:
            body = folder / f"{item['metadata']['name']}.json"
            body.write_text(json.dumps(item), encoding="ascii")
            requests.append(f'url = "{url}"\ndata = "@{body}"\nheader = "Content-Type: application/json"\n'
                            f'cacert = "{authority.certificate("ca")}"\ncert = "{authority.certificate("admin")}"\n'
                            f'key = "{authority.key("admin")}"\noutput = "/dev/null"\nwrite-out = "%{{http_code}}\\n"\n')
        (folder / "requests").write_text("next\n".join(requests), encoding="ascii")
        done = self.cluster.control.run("curl", "-sZ", "--parallel-max", "20", "-K", folder / "requests", timeout=600)
        self.assertEqual(collections.Counter(done.stdout.split()), {"201": len(objects)})

    def metric(self, node, pattern):
        """The first series whose line begins so; None where the agent does not answer, or has none."""
        page = node.run("curl", "-s", "http://127.0.0.1:9469/metrics", check=False).stdout
        found = re.search(f"^{pattern} (\\S+)$", page, re.MULTILINE)
        return found and float(found[1])

    @staticmethod
    def connects_soon(pod, port):
        """A pod that is held to the mesh gets no answer."""
        try:
            pod.connect(ORIGIN, port, timeout=0.3).close()
        except TimeoutError:
            return False
        return True

    def test_ten_thousand_objects_and_two_hundred_pods(self):
        self.namespace("large")
        node = self.cluster.nodes[0]
        self.create([egress(f"rule{number}", tcp_port(6000 + number // self.ACCOUNTS),
                            account=f"account{number % self.ACCOUNTS}", namespace="large")
                     for number in range(self.EGRESSES)])
        self.cluster.apply(egress("open", tcp_port(TCP_PORT), account="curl", namespace="large"))
        self.eventually("the agent knows all of them", lambda: self.metric(
            node, r'egressd_policies\{state="valid"\}') == self.EGRESSES + 1, 60)
        began = time.monotonic()
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "curl", "namespace": "large"}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "curl", "namespace": "large"},
             "spec": {"replicas": self.PODS, "selector": {"matchLabels": {"app": "curl"}}, "template": {
                 "metadata": {"labels": {"app": "curl"}},
                 "spec": {"serviceAccountName": "curl", "nodeName": node.name, "terminationGracePeriodSeconds": 0,
                          "containers": [{"name": "main", "image": layout.POD_IMAGE}]}}}})
        self.cluster.kubectl("rollout", "status", "-n", "large", "deployment/curl", "--timeout=400s", timeout=420)
        pods = [Pod(node, found) for found in self.cluster.get("pods", None, "large", "-l", "app=curl")]
        said = (node.home / "log" / "containerd.log").read_text(encoding="utf-8")
        print(f"{self.PODS} pods were ready after {time.monotonic() - began:.0f} s, of which egress-cni held "
              f"{said.count('it is held to the mesh until')} to the mesh at first", flush=True)
        for pod in pods:
            with contextlib.closing(pod.open()):
                self.eventually(f"{pod} is held no more", lambda pod=pod: self.connects_soon(pod, TCP_PORT))
                self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)
        agent = self.agent(node)
        before = self.metric(node, "process_start_time_seconds")
        agent.kill()
        started = self.eventually("another agent answers", lambda: (
            (now := self.metric(node, "process_start_time_seconds")) and now != before and now), 120)
        self.eventually("it is ready", lambda: node.run(
            "curl", "-sf", "http://127.0.0.1:9469/readyz", check=False).returncode == 0, 60)
        seconds = time.time() - started
        memory = self.metric(node, "process_resident_memory_bytes")
        self.assertGreaterEqual(self.metric(node, r'egressd_pods\{governed="true"\}'), self.PODS)
        print(f"another agent was ready {seconds:.1f} s after its start, with {memory / 1e6:.0f} MB", flush=True)
        for pod in pods[:: self.PODS // 10]:
            self.addCleanup(pod.open().close)
            self.assert_connects(pod, ORIGIN, TCP_PORT)
            self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)
        rule, times = egress("late", tcp_port(OTHER_TCP_PORT), account="curl", namespace="large"), []
        for _ in range(20):
            self.cluster.apply(rule)
            returned = time.monotonic()
            while not pods[0].connects(ORIGIN, OTHER_TCP_PORT):
                self.assertLess(time.monotonic(), returned + 20)
            times.append((time.monotonic() - returned) * 1000)
            self.cluster.delete("egress", "late", "large")
            self.eventually("it is taken back", lambda: not pods[0].connects(ORIGIN, OTHER_TCP_PORT))
        print(f"a rule for all of them: p50 {sorted(times)[10]:.0f} ms after kubectl's return, most {max(times):.0f} ms",
              flush=True)


if __name__ == "__main__":
    main(ChangeLatency, ManyStarts, StartsWithoutAgent, Reboot, Large)
