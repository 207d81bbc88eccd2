"""The proxy dies and comes back, and policy changes under its requests."""

import os
import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients
from support.case import Stream, WorldCase, main, tcp_port
from support.manifests import egress, port, route_group
from support.world import HTTP_PORT, ORIGIN, OTHER, TLS_PORT

RULES = egress("rules", port(HTTP_PORT, "http"), port(TLS_PORT, "https"), tcp_port(5000), hosts=["allowed.test"])
TOGGLED = egress("toggled", port(HTTP_PORT, "http"), hosts=["other.test"])


class ProxyDies(WorldCase):
    OBJECTS = (RULES,)
    START = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.binaries = cls.agent.own_binaries()
        cls.agent.start(program=cls.binaries / "egressd")

    def kill(self, number=signal.SIGKILL):
        """The proxy of now; returns once the agent has noticed."""
        before = self.agent.status()["proxy"]
        os.kill(before["pid"], number)
        self.eventually("the agent notices", lambda: self.agent.status()["proxy"]["restarts"] > before["restarts"])

    def answers(self):
        try:
            return self.get().status == 200
        except (ConnectionError, clients.Closed):
            return False

    def test_a_killed_proxy_is_back_at_once_and_tcp_and_tls_never_notice(self):
        with self.pod.connect(ORIGIN, 5000) as live, self.tls("allowed.test") as tls, self.http() as http:
            streams = [Stream(lambda: clients.exchange(live), 0.002), Stream(tls.ask, 0.002),
                       Stream(lambda: self.assert_reaches(ORIGIN, 5000))]
            http.ask()
            self.kill()
            self.assertIn(http.ended(), ("fin", "reset"))
            self.eventually("http is back", self.answers)
            for stream in streams:
                self.assertIsNone(stream.stop().error)
                self.assertLess(stream.longest, 1)
        self.assert_request_denied(404, host="denied.test")

    def test_how_a_proxy_ended_is_said(self):
        for number, words in ((signal.SIGKILL, "signal 9 (Killed)"), (signal.SIGSYS, "does not allow")):
            self.kill(number)
            self.eventually("the agent says how", lambda: words in self.agent.log())
            self.eventually("http is back", self.answers, 10)

    def test_while_there_is_no_proxy_http_is_refused_and_nothing_leaves(self):
        """Its program is missing, so that every start of it fails."""
        program, aside = self.binaries / "egress-proxy", self.binaries / "aside"
        program.rename(aside)
        self.addCleanup(lambda: aside.exists() and aside.rename(program))
        self.kill()
        position = self.world.wire.position()
        done = self.pod.curl("--resolve", f"allowed.test:80:{OTHER}", "http://allowed.test/get")
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assert_refused(OTHER, HTTP_PORT)
        self.assert_nothing_arrived(position, OTHER, HTTP_PORT)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_tls_passes("allowed.test")
        self.assertEqual(self.agent.page("/readyz")[0], 503)
        self.assertTrue(self.agent.events(reason="proxy-unavailable"))
        self.assertIn(str(program), "".join(self.agent.status()["problems"]))
        aside.rename(program)
        self.eventually("http is back", self.answers, 10)
        self.assertEqual(self.agent.page("/readyz")[0], 200)

    def test_a_proxy_killed_again_and_again_under_load_lets_nothing_wrong_through(self):
        position = self.world.origin.position()
        outcomes, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                for host in ("allowed.test", "denied.test"):
                    try:
                        outcomes.append((host, self.get(host=host).status))
                    except (ConnectionError, clients.Closed):
                        outcomes.append((host, "cut"))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            self.eventually("a proxy runs", lambda: self.agent.proxy_pid())
            self.kill()
        self.eventually("http is back", self.answers, 10)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertLessEqual({status for host, status in outcomes if host == "allowed.test"}, {200, "cut"})
        self.assertLessEqual({status for host, status in outcomes if host == "denied.test"}, {404, "cut"})
        self.assertIn(("allowed.test", 200), outcomes)
        self.world.wire.sync()
        self.assertNotIn("denied.test", [r.get("host") for r in self.world.origin.since(position)])

    def test_the_proxy_has_neither_privileges_nor_files(self):
        pid = self.agent.proxy_pid()
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        for line in ("CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"):
            self.assertIn(line, status)
        self.assertNotIn("Uid:\t0", status)
        kinds = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
        self.assertFalse([kind for kind in kinds if kind.startswith("/") and kind != "/dev/null"
                          and not kind.endswith(".log") and "/agent/log" not in kind and "memfd" not in kind], kinds)


class PolicyChangesUnderRequests(WorldCase):
    OBJECTS = (RULES,)

    def test_requests_of_kept_connections_follow_a_change_and_others_never_notice(self):
        steady = [Stream(self._steady()) for _ in range(3)]
        position = self.world.origin.position()
        with self.http() as connection:
            for _ in range(20):
                self.assertEqual(connection.ask(host="other.test").status, 404)
                self.agent.apply(TOGGLED)
                self.assertEqual(connection.ask("/get/on", host="other.test").status, 200)
                self.delete(TOGGLED)
        for stream in steady:
            self.assertIsNone(stream.stop().error)
            self.assertGreater(stream.rounds, 0)
        seen = [r.target for r in self.world.origin.since(position) if r.get("host") == "other.test"]
        self.assertEqual(seen, ["/get/on"] * 20)

    def _steady(self):
        connection = self.http()
        self.addCleanup(connection.sock.close)

        def ask():
            answer = connection.ask("/bytes/20000")
            assert (answer.status, len(answer.body)) == (200, 20000), answer
        return ask

    def test_what_was_sent_before_a_change_is_judged_by_that_change_or_what_was_before(self):
        """Connections that ask without a pause while their rule comes and goes: 200, 404 or a cut, nothing else."""
        outcomes, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    with self.http() as connection:
                        while not stop.is_set():
                            outcomes.append(connection.ask(host="other.test").status)
                except (ConnectionError, clients.Closed):
                    outcomes.append("cut")

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(15):
            self.agent.apply(TOGGLED)
            self.delete(TOGGLED)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertLessEqual(set(outcomes), {200, 404, "cut"})
        self.assertLessEqual({200, 404}, set(outcomes))
        self.assert_request_denied(404, host="other.test")

    def test_a_route_group_that_changes_applies_to_the_next_request(self):
        rules = egress("routed", port(HTTP_PORT, "http"), hosts=["other.test"], routes=["group"])
        self.apply(rules, route_group("group", {"pathRegex": "/get", "methods": ["GET"]}))
        with self.http() as connection:
            self.assertEqual(connection.ask(host="other.test").status, 200)
            self.assertEqual(connection.ask("/status/200", host="other.test").status, 404)
            self.apply(route_group("group", {"pathRegex": "/status.*", "methods": ["GET"]}))
            self.assertEqual(connection.ask(host="other.test").status, 404)
            self.assertEqual(connection.ask("/status/200", host="other.test").status, 200)


if __name__ == "__main__":
    main()
