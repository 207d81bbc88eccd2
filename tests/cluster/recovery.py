"""Parts of the cluster fail, are set back or are replaced: what is in force stays so, and what comes after comes in force."""

import contextlib
import os
import signal

from cluster.case import OTHER_TCP_PORT, TCP_PORT
from cluster.life import ORIGIN, LifeCase
from support import clients
from support.case import Stream


class Recovery(LifeCase):
    NAMESPACE = "recovery"

    def assert_lines_live(self, lines):
        for line in lines:
            clients.exchange(line)

    @contextlib.contextmanager
    def agents_stopped(self):
        pids = [self.agent(node).process()[0] for node in self.cluster.nodes]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def test_containerd_and_kubelet_are_killed_and_come_back(self):
        lines = self.lines()
        for node in self.cluster.nodes:
            for name in ("kubelet", "containerd"):
                node.processes[name].kill(signal.SIGKILL)
        self.assert_governed()
        for node in self.cluster.nodes:
            node.start_all(self.cluster.control.authority.folder)
        self.assert_governed()
        self.assert_lines_live(lines)
        self.add_rule("after")
        self.remove_rule("after")
        self.replace_pods(self.delete_pods)
        self.assert_governed()

    def test_a_pod_deleted_by_force_is_governed_while_its_processes_run(self):
        lines, nodes = self.lines(), self.cluster.nodes
        for node in nodes:
            node.processes["kubelet"].kill(signal.SIGKILL)
        try:
            self.delete_pods("--force", "--grace-period=0")
            self.assert_governed()
            self.assert_lines_live(lines)
            self.add_rule("after")
            self.remove_rule("after")
            self.assert_governed()
        finally:
            for node in nodes:
                node.start_kubelet(self.cluster.control.authority.folder)
        self.replace_pods(lambda: None)
        self.assert_governed()

    def test_a_service_account_is_deleted_and_made_anew(self):
        lines = self.lines()
        self.cluster.delete("serviceaccount", "curl", self.NAMESPACE)
        self.assert_governed()
        self.cluster.kubectl("create", "serviceaccount", "-n", self.NAMESPACE, "curl")
        self.assert_governed()
        self.assert_lines_live(lines)
        self.replace_pods(self.delete_pods)
        self.assert_governed()

    def test_etcd_is_set_back_to_a_snapshot(self):
        control = self.cluster.control

        def stop_etcd():
            control.processes["etcd"].kill(signal.SIGTERM)

        def start():
            control.start_etcd()
            control.start_api_server()
            control.wait_until_ready()

        control.stop_api_server()
        stop_etcd()
        control.run("cp", "-a", "/run/etcd", "/run/etcd-snapshot")
        start()
        self.add_rule("forgotten")
        lines, allowed = self.lines(OTHER_TCP_PORT), self.lines(TCP_PORT)
        control.stop_api_server()
        stop_etcd()
        self.assert_lines_live(lines)
        control.run("sh", "-ec", "rm -r /run/etcd && mv /run/etcd-snapshot /run/etcd")
        start()
        for pod in self.pods:
            self.eventually(f"{pod} may not connect, as before", lambda pod=pod: not pod.connects(ORIGIN, OTHER_TCP_PORT), 60)
        for line in lines:
            self.assert_cut(line)
        self.assert_governed()
        self.assert_lines_live(allowed)
        self.add_rule("after")
        self.wait_for_agents()

    def test_what_happened_in_a_history_that_was_compacted_counts(self):
        """The version that the agents watched from is gone when they ask again: 410, and all is listed anew."""
        control = self.cluster.control
        self.add_rule("going")
        lines, allowed = self.lines(OTHER_TCP_PORT), self.lines(TCP_PORT)
        with self.agents_stopped():
            control.restart_api_server()  # an event on its way to them would tell
            self.cluster.delete("egress", "going", self.NAMESPACE)
            control.compact_etcd()
            control.restart_api_server()
            asked_before = control.audit_log.stat().st_size
        for line in lines:
            self.assert_cut(line)
        for pod in self.pods:
            self.eventually(f"{pod} may not connect", lambda pod=pod: not pod.connects(ORIGIN, OTHER_TCP_PORT))
        self.assertRegex(control.audit_log.read_text(encoding="utf-8")[asked_before:], r"/egresses\?limit=(?!1\b)")
        self.assert_governed()
        self.assert_lines_live(allowed)
        self.add_rule("after")
        self.wait_for_agents()

    def test_a_new_image_is_rolled_out_and_back(self):
        image = f"docker.io/library/egressd:{self.image.tag}"
        for node in self.cluster.nodes:
            node.run("ctr", "-n", "k8s.io", "images", "tag", "--force", image, f"{image}-next")
        lines = self.lines()
        refused = [Stream(lambda pod=pod: self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)) for pod in self.pods]
        self.cluster.kubectl("set", "image", "-n", "egressd", "daemonset/egressd", f"*=egressd:{self.image.tag}-next")
        self.wait_for_agents()
        self.assert_lines_live(lines)
        self.cluster.kubectl("rollout", "undo", "-n", "egressd", "daemonset/egressd")
        self.wait_for_agents()
        self.assert_lines_live(lines)
        for stream in refused:
            self.assertIsNone(stream.stop().error)
            self.assertGreater(stream.rounds, 0)
        self.assert_governed()
        self.add_rule("after")

