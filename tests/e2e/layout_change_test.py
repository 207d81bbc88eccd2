"""An agent whose maps have another layout takes over, and the old one takes back: live connections go on, nothing opens.

Needs BUILD/next/egressd, the agent with EGRESS_TEST_LAYOUT.
"""

import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, manifests
from support.agent import BINARIES
from support.case import WorldCase, main, tcp_port
from support.load import Load
from support.manifests import egress, port, traffic_setting
from support.world import HTTP_PORT, MESH, ORIGIN, OTHER, TLS_PORT

OLD, NEXT = BINARIES / "egressd", BINARIES / "next" / "egressd"
RULES = egress("rules", tcp_port(5000), port(TLS_PORT, "https"), port(HTTP_PORT, "http"), hosts=["allowed.test"])
LIMITED = [traffic_setting("one", {"maxConnections": 1}), egress("limited", tcp_port(5002), settings=["one"])]


class LayoutChange(WorldCase):
    """Beside the pod of all tests one with other rules, so that what is told apart by slots must stay apart."""

    OBJECTS = (RULES, *LIMITED)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        world = cls.world
        cls.other = world.add_pod("other")
        cls.agent.apply(cls.other.manifest(), egress("other", tcp_port(5001), account="other"))

    def setUp(self):
        if self.agent.running():
            self.agent.stop()
        self.agent.start(program=OLD)

    def assert_in_force(self):
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assertEqual(self.get().status, 200)
        self.assert_request_denied(404, host="denied.test")
        self.assert_tls_passes("allowed.test")
        self.assert_tls_reset("denied.test")
        self.assert_reaches(MESH, 5001)
        self.assert_reaches(ORIGIN, 5001, self.other)
        self.assert_refused(ORIGIN, 5000, self.other)

    def take_over(self, how):
        """From the old agent to the next and back, under load from both pods."""
        loads = [Load(self, self.pod, 5000, 5001, tls=True), Load(self, self.other, 5001, 5000)]
        for program in (NEXT, OLD, NEXT):
            for load in loads:
                load.more()
            self.agent.stop(how)
            for load in loads:
                load.more(5)
            self.agent.start(program=program)
            for load in loads:
                load.more()
        for load in loads:
            load.finish()
        self.assert_in_force()

    def test_a_killed_agent_is_taken_over_from_by_one_of_another_layout(self):
        self.take_over(signal.SIGKILL)

    def test_an_ended_agent_is_taken_over_from_by_one_of_another_layout(self):
        self.take_over(signal.SIGTERM)

    def test_a_tls_name_judged_before_is_judged_again_after(self):
        """The name is in the socket's storage, which no take-over empties."""
        self.apply(egress("more", port(TLS_PORT, "https"), hosts=["other.test"]))
        with self.tls("allowed.test") as kept, self.tls("other.test") as cut:
            self.assertEqual(kept.ask().status, 200)
            self.assertEqual(cut.ask().status, 200)
            self.agent.stop()
            self.agent.start(program=NEXT)
            self.assertEqual(kept.ask().status, 200)
            self.assertEqual(cut.ask().status, 200)
            self.agent.delete(egress("more"))
            with self.assertRaises((OSError, clients.Closed)):
                cut.ask()
            self.assertEqual(kept.ask().status, 200)

    def test_a_rule_that_went_meanwhile_cuts_what_it_allowed(self):
        gone = egress("gone", tcp_port(5001))
        self.apply(gone)
        with self.pod.connect(ORIGIN, 5001) as cut, self.pod.connect(ORIGIN, 5000) as kept:
            clients.exchange(cut)
            clients.exchange(kept)
            self.agent.stop()
            self.agent.delete(gone)
            self.agent.start(program=NEXT)
            with self.assertRaises(ConnectionError):
                while cut.recv(1):
                    pass
            clients.exchange(kept)
        self.assert_refused(ORIGIN, 5001)

    def test_pods_whose_object_is_gone_stay_governed(self):
        pod = self.world.add_pod("outlived", account="curl")
        self.addCleanup(pod.close)
        self.agent.apply(pod.manifest())
        self.eventually("it is guarded", lambda: self.agent.pod_status(pod.key)["state"] == "guarded")
        self.agent.delete(pod.manifest())
        with pod.connect(ORIGIN, 5000) as live:
            clients.exchange(live)
            for program in (NEXT, OLD):
                self.agent.stop()
                self.agent.start(program=program)
                clients.exchange(live)
                self.assert_reaches(ORIGIN, 5000, pod)
                self.assert_refused(ORIGIN, 5001, pod)

    def test_connections_counted_against_a_limit_stay_counted(self):
        with self.pod.connect(ORIGIN, 5002) as counted:
            clients.exchange(counted)
            self.assert_refused(ORIGIN, 5002)
            self.agent.stop()
            self.agent.start(program=NEXT)
            self.assert_refused(ORIGIN, 5002)
            clients.exchange(counted)
        self.eventually("there is room again", self._has_room)

    def _has_room(self):
        try:
            self.assert_reaches(ORIGIN, 5002)
            return True
        except ConnectionRefusedError:
            return False

    def test_changes_and_uninstall_work_after_a_take_over(self):
        self.agent.stop(signal.SIGKILL)
        self.agent.start(program=NEXT)
        self.assert_in_force()
        self.allow("later", tcp_port(5001))
        self.assert_reaches(OTHER, 5001)
        self.agent.stop()
        self.assertEqual(self.agent.run("--uninstall", program=NEXT).returncode, 0)
        self.assertFalse(self.agent.bpffs.exists())
        self.assert_reaches(ORIGIN, 5001)
        self.assert_tls_passes("denied.test")

    def test_an_egressctl_of_another_layout_says_so(self):
        self.agent.stop()
        self.agent.start(program=NEXT)
        done = self.agent.ctl("rules")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("another version of egressd", done.stderr)
        self.assertIn("running", self.agent.ctl("status").stdout)


if __name__ == "__main__":
    main()
