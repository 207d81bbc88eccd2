"""Limits of UpstreamTrafficSettings, and origins that refuse or never answer."""

import contextlib
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients
from support.case import WorldCase, main, tcp_port
from support.manifests import egress, port, traffic_setting
from support.world import CLOSED_PORT, HTTP_PORT, ORIGIN, SILENT


class Limits(WorldCase):
    OBJECTS = (egress("free", port(HTTP_PORT, "http"), hosts=["other.test"]),)

    def limit(self, *ports, tcp=None, http=None):
        self.apply(traffic_setting("limits", tcp, http), egress("limited", *ports, hosts=["allowed.test"],
                                                                settings=["limits"]))

    def test_connections_over_max_connections_are_refused_until_one_ends(self):
        self.limit(tcp_port(5000), tcp={"maxConnections": 2})
        with self.pod.connect(ORIGIN, 5000) as first:
            clients.exchange(first)
            with self.pod.connect(ORIGIN, 5000) as second:
                clients.exchange(second)
                for _ in range(3):
                    self.assert_refused(ORIGIN, 5000)
                clients.exchange(second)
            self.eventually("there is room again", self._connects)
            clients.exchange(first)
        self.assertTrue(self.agent.events(reason="limit", verdict="deny"))

    def _connects(self):
        try:
            self.assert_reaches(ORIGIN, 5000)
            return True
        except ConnectionRefusedError:
            return False

    def test_connections_that_were_counted_are_counted_by_the_next_agent_too(self):
        self.limit(tcp_port(5000), tcp={"maxConnections": 1})
        with self.pod.connect(ORIGIN, 5000) as first:
            clients.exchange(first)
            self.agent.stop()
            self.assert_refused(ORIGIN, 5000)
            self.agent.start()
            self.assert_refused(ORIGIN, 5000)
            clients.exchange(first)
        self.eventually("there is room again", self._connects)

    def test_a_limit_of_one_policy_leaves_room_in_another(self):
        self.limit(tcp_port(5000), tcp={"maxConnections": 1})
        self.allow("unlimited", tcp_port(5000), addresses=[f"{ORIGIN}/32"])
        with contextlib.ExitStack() as open_ones:
            for _ in range(5):
                clients.exchange(open_ones.enter_context(self.pod.connect(ORIGIN, 5000)))
            with self.pod.connect("198.51.100.11", 5000) as first:
                clients.exchange(first)
                self.assert_refused("198.51.100.11", 5000)

    def test_http_over_max_connections_is_503(self):
        self.limit(port(HTTP_PORT, "http"), tcp={"maxConnections": 1})
        with self.http() as first:
            first.send(clients.request("/hold"))
            self.assertEqual(first.response_head().status, 200)
            self.assert_request_denied(503)
            self.assertEqual(self.get(host="other.test").status, 200)
            first.abort()
        self.eventually("there is room again", lambda: self.get().status == 200)

    def test_requests_over_max_requests_are_503(self):
        self.limit(port(HTTP_PORT, "http"), http={"maxRequests": 2})
        with self.http() as first, self.http() as second:
            for connection in (first, second):
                connection.send(clients.request("/hold"))
                self.assertEqual(connection.response_head().status, 200)
            with self.http() as third:
                self.assertEqual(third.ask("/denied").status, 503)
                self.assertEqual(third.ask("/get", host="other.test").status, 200)
            first.abort()
            second.abort()
        self.eventually("there is room again", lambda: self.get().status == 200)
        self.assertNotIn("/denied", [request.target for request in self.world.origin.requests])
        self.eventually("the refusal is told", lambda: self.agent.events(reason="limit", protocol="http"))

    def test_requests_that_wait_for_a_connection_over_max_pending_requests_are_503(self):
        self.limit(port(HTTP_PORT, "http"), http={"maxPendingRequests": 1})
        with self.http(SILENT) as waiting:
            waiting.send(clients.request())
            self.eventually("it waits", lambda: self._status(SILENT) == 503)
            self.assertEqual(self.get(host="other.test").status, 200)

    def _status(self, address):
        """Of a request that may have to wait: None where it does."""
        with self.http(address, timeout=0.3) as connection:
            try:
                return connection.ask().status
            except TimeoutError:
                connection.abort()
                return None

    def test_a_connection_to_the_origin_carries_at_most_max_requests_per_connection(self):
        self.limit(port(HTTP_PORT, "http"), http={"maxRequestsPerConnection": 3})
        position = self.world.origin.position()
        with self.http() as connection:
            for _ in range(10):
                self.assertEqual(connection.ask().status, 200)
        visits = [id(request.visit) for request in self.world.origin.since(position)]
        self.assertEqual(len(visits), 10)
        self.assertLessEqual(max(visits.count(visit) for visit in visits), 3)

    def test_a_missing_setting_makes_its_egress_inert_until_it_appears(self):
        setting = traffic_setting("limits", {"maxConnections": 5})
        self.allow("limited", tcp_port(5001), settings=["limits"])
        self.assert_refused(ORIGIN, 5001)
        self.apply(setting)
        self.assert_reaches(ORIGIN, 5001)
        self.delete(setting)
        self.assert_refused(ORIGIN, 5001)


class OriginsThatDoNotAnswer(WorldCase):
    OBJECTS = (traffic_setting("quick", {"connectTimeout": "300ms"}),
               egress("rules", port(HTTP_PORT, "http"), port(CLOSED_PORT, "http"), hosts=["allowed.test", "*.local"],
                      settings=["quick"]))

    def test_an_origin_that_refuses_is_503(self):
        position = self.world.wire.position()
        with self.http(number=CLOSED_PORT) as connection:
            for _ in range(2):
                self.assertEqual(connection.ask(host=f"allowed.test:{CLOSED_PORT}").status, 503)
        self.assertTrue(self.arrived(position, ORIGIN, CLOSED_PORT))

    def test_an_origin_that_does_not_answer_is_504_after_the_connect_timeout(self):
        began = time.monotonic()
        self.assertEqual(self.get(address=SILENT).status, 504)
        took = time.monotonic() - began
        self.assertGreater(took, 0.25)
        self.assertLess(took, 2)

    def test_a_tcp_connection_that_is_not_answered_ends_after_the_connect_timeout(self):
        self.allow("tcp", tcp_port(5000), settings=["quick"])
        self.assert_reaches(ORIGIN, 5000)
        began = time.monotonic()
        with self.assertRaises(OSError):
            self.pod.connect(SILENT, 5000, timeout=10)
        self.assertLess(time.monotonic() - began, 3)

    def test_an_origin_that_closes_before_it_answers_is_502_or_503(self):
        def hang_up(visit):
            visit.recv()
        self.world.serve(8081, hang_up)
        self.allow("hang-up", port(8081, "http"), hosts=["allowed.test"])
        self.assertIn(self.get(number=8081, host="allowed.test:8081").status, (502, 503))

    def test_an_origin_whose_answer_is_no_http_is_502(self):
        def nonsense(visit):
            visit.recv()
            visit.sock.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
            visit.recv()
        self.world.serve(8082, nonsense)
        self.allow("nonsense", port(8082, "http"), hosts=["allowed.test"])
        self.assertEqual(self.get(number=8082, host="allowed.test:8082").status, 502)

    def test_an_answer_that_ends_too_early_is_cut_not_completed(self):
        def short(visit):
            visit.recv()
            visit.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        self.world.serve(8083, short)
        self.allow("short", port(8083, "http"), hosts=["allowed.test"])
        with self.http(number=8083) as connection:
            connection.send(clients.request(host="allowed.test:8083"))
            self.assertEqual(connection.response_head().status, 200)
            with self.assertRaises((clients.Closed, ConnectionError)):
                connection.read(100)


if __name__ == "__main__":
    main()
