"""The agent's life: killed, ended, started again, uninstalled, twice on one machine. What it enforces outlives it."""

import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, manifests, namespaces
from support.case import WorldCase, main, tcp_port
from support.load import Load
from support.manifests import egress, port
from support.world import HTTP_PORT, ORIGIN, OTHER, TLS_PORT

RULES = egress("rules", port(5000, "tcp"), port(TLS_PORT, "https"), port(HTTP_PORT, "http"), hosts=["allowed.test"])


class AgentLife(WorldCase):
    OBJECTS = (RULES,)

    def setUp(self):
        if not self.agent.running():
            self.agent.start()

    def test_a_killed_agent_is_taken_over_from_without_a_gap(self):
        load = Load(self, self.pod, 5000, 5001, tls=True)
        load.more()
        self.agent.stop(signal.SIGKILL)
        load.more()
        self.agent.start()
        load.more()
        load.finish()

    def test_an_ended_agent_is_taken_over_from_without_a_gap(self):
        load = Load(self, self.pod, 5000, 5001, tls=True)
        load.more()
        self.assertEqual(self.agent.stop(signal.SIGTERM), 0)
        load.more()
        self.agent.start()
        load.more()
        load.finish()

    def test_without_an_agent_http_is_refused_and_the_rest_is_in_force(self):
        self.agent.stop(signal.SIGKILL)
        position = self.world.wire.position()
        self.eventually("the killed agent's proxy is gone", lambda: not self._reaches_http())
        self.assert_refused(OTHER, HTTP_PORT)
        self.assertEqual([packet for packet in self.arrived(position, OTHER, HTTP_PORT) if packet.length], [])
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assert_tls_passes("allowed.test")
        self.assert_tls_reset("denied.test")
        self.agent.start()
        self.assertEqual(self.get().status, 200)

    def _reaches_http(self):
        try:
            return self.get().status == 200
        except (ConnectionError, clients.Closed):
            return False

    def test_sigterm_lets_the_proxy_finish_what_is_under_way(self):
        with self.http() as slow, self.http() as idle:
            idle.ask()
            slow.send(clients.request("/pieces/12/100"))
            head = slow.response_head()
            self.agent.process.send_signal(signal.SIGTERM)
            self.eventually("new connections are refused", lambda: not self._reaches_http())
            self.assert_refused(OTHER, HTTP_PORT)  # to ORIGIN go the acknowledgements of what is under way
            slow.buffer[:0] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.assertEqual((head.status, slow.response().body), (200, b"." * 12))
            self.assertIn(idle.ended(), ("fin", "reset"))
        self.assertEqual(self.agent.process.wait(10), 0)

    def test_sigterm_cuts_what_is_under_way_after_five_seconds(self):
        with self.http(timeout=10) as held:
            held.send(clients.request("/hold"))
            self.assertEqual(held.response_head().status, 200)
            self.assertEqual(held.read(1), b"1")
            began = time.monotonic()
            self.agent.process.send_signal(signal.SIGTERM)
            self.assertEqual(self.agent.process.wait(10), 0)
            took = time.monotonic() - began
            self.assertIn(held.ended(), ("fin", "reset"))
        self.assertGreater(took, 3)
        self.assertLess(took, 7)

    def test_a_rule_that_went_while_no_agent_ran_is_gone_once_the_next_is_ready(self):
        gone, stays = egress("gone", tcp_port(5002)), egress("stays", tcp_port(5001))
        self.apply(gone, stays)
        server = self.world.servers[5002]
        visits = server.position()
        with self.pod.connect(ORIGIN, 5002) as cut, self.pod.connect(ORIGIN, 5001) as kept:
            clients.exchange(cut)
            clients.exchange(kept)
            self.agent.stop(signal.SIGKILL)
            self.agent.delete(gone)
            clients.exchange(cut)  # the rules of the last agent hold
            self.assert_reaches(ORIGIN, 5002)
            self.agent.start()
            ready = time.monotonic()
            with self.assertRaises(ConnectionError):
                while True:
                    clients.exchange(cut)
            self.assertLess(time.monotonic() - ready, 1)
            self.assertEqual(server.visits[visits].wait_for_end(), "reset")
            clients.exchange(kept)
        self.assert_refused(ORIGIN, 5002)
        self.assert_reaches(ORIGIN, 5001)

    def test_an_agent_killed_in_the_middle_of_changes_leaves_whole_rules(self):
        """Whatever was half written is nothing that a pod sees, and the next agent tidies it up."""
        position = self.world.wire.position()
        entries = self.agent.metric("egressd_map_entries", map="rules")
        for delay in (0.0, 0.01, 0.02, 0.05, 0.1):
            churn = [egress(f"churn{i}", tcp_port(5002), addresses=[f"203.0.113.{i}/32"]) for i in range(30)]
            for item in churn:
                self.agent.write(self.agent.file_of(item), item)
            time.sleep(delay)  # the moment of the kill is what varies
            self.agent.stop(signal.SIGKILL)
            self.assert_reaches(ORIGIN, 5000)
            self.assert_refused(ORIGIN, 5001)
            self.assert_tls_passes("allowed.test")
            self.assert_refused(OTHER, 5002)
            self.agent.delete(*churn)
            self.agent.start()
            self.assert_refused("203.0.113.7", 5002)
        self.assertEqual(self.get().status, 200)
        self.assert_nothing_arrived(position, ORIGIN, 5001)
        self.assertLessEqual(self.agent.metric("egressd_map_entries", map="rules"), entries)

    def test_a_second_agent_with_the_same_run_folder_does_not_start(self):
        done = self.agent.run(metrics_listen="127.0.0.1:9470")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(f"another egressd runs with --run-dir {self.agent.run_dir}", done.stderr)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assertEqual(self.get().status, 200)

    def test_uninstall_while_the_agent_runs_is_refused_and_changes_nothing(self):
        done = self.agent.run("--uninstall")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("end it first", done.stderr)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)

    def test_uninstall_leaves_nothing_and_the_pod_is_free(self):
        proxy = self.agent.proxy_pid()
        with self.pod.connect(ORIGIN, 5000) as live:
            clients.exchange(live)
            self.agent.stop()
            self.assert_refused(ORIGIN, 5001)
            done = self.agent.run("--uninstall")
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
            clients.exchange(live)
        self.assertFalse(self.agent.bpffs.exists())
        self.assertFalse(self.agent.run_dir.exists())
        self.assertFalse(pathlib.Path(f"/proc/{proxy}").exists())
        self.assertEqual(self.pod.run("ss", "-Hltn").stdout, "")
        self.assertNotIn("bpf", namespaces.run("tc", "-n", self.world.node, "filter", "show", "dev", self.pod.link,
                                               "ingress"))
        for number in (5000, 5001, 5002):
            self.assert_reaches(ORIGIN, number)
        self.assert_tls_passes("denied.test")
        self.assertEqual(self.get(host="denied.test").status, 200)
        self.assertEqual(self.agent.run("--uninstall").returncode, 0, "it may be called again")


class TwoAgents(WorldCase):
    """One node, two agents, each with its own folders and pods."""

    OBJECTS = (RULES,)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        world = cls.world
        cls.other_pod = world.add_pod("other", "other")
        cgroup = world.cgroup / "more-pods"
        cgroup.mkdir()
        world.stack.callback(namespaces.remove_cgroup, cgroup)
        cls.move(cls.other_pod, cgroup)
        cls.other = world.add_agent("second", cgroup=cgroup, metrics_port=9471)
        cls.other.apply(manifests.namespace("other"), cls.other_pod.manifest(),
                        egress("rules", tcp_port(5001), namespace="other", account="other"))
        cls.other.start()

    @staticmethod
    def move(pod, cgroup):
        """Its process into a cgroup below the other agent's root."""
        pod.stop_process()
        pod.cgroup = cgroup / "pod"
        pod.cgroup.mkdir()
        pod.start_process()

    def assert_both_in_force(self):
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assert_reaches(ORIGIN, 5001, self.other_pod)
        self.assert_refused(ORIGIN, 5000, self.other_pod)

    def test_each_agent_governs_its_own_pods_and_the_end_of_one_is_nothing_to_the_other(self):
        self.assert_both_in_force()
        self.assertIsNone(self.agent.pod_status("other/other"))
        self.assertIsNone(self.other.pod_status("curl/curl"))
        self.other.stop(signal.SIGKILL)
        self.assert_both_in_force()
        self.other.start()
        self.assert_both_in_force()
        self.other.stop()
        self.assertEqual(self.other.run("--uninstall").returncode, 0)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assertEqual(self.get().status, 200)
        self.assert_reaches(ORIGIN, 5000, self.other_pod)


if __name__ == "__main__":
    main()
