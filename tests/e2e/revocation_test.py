"""When a rule goes, what it alone allowed is cut within a second at both ends; all else goes on."""

import os
import pathlib
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, wire
from support.case import Stream, WorldCase, main, tcp_port
from support.manifests import egress, mesh_config, port, route_group
from support.world import BOTH_PORT, HTTP_PORT, ORIGIN, ORIGIN6, OTHER, TLS_PORT

GOING_TCP = egress("going-tcp", tcp_port(5000))
GOING_TLS = egress("going-tls", port(TLS_PORT, "https"), hosts=["allowed.test"])
GOING_HTTP = egress("going-http", port(HTTP_PORT, "http"), hosts=["allowed.test"])
STAYING = egress("staying", tcp_port(5001), port(TLS_PORT, "https"), port(HTTP_PORT, "http"), hosts=["other.test"])
UPGRADE = ["Connection: Upgrade", "Upgrade: websocket"]


class Revocation(WorldCase):
    OBJECTS = (STAYING,)

    def visit_of(self, number, before):
        return self.world.servers[number].wait_for_visit(before)

    def assert_cut_within_a_second(self, began, sock, visit):
        """Of an idle connection: the client's next read fails, and the outside gets a RST."""
        with socket.socket(fileno=os.dup(sock.fileno())) as raw:  # of a TLS session the bytes below it
            raw.settimeout(5)
            with self.assertRaises(ConnectionError):
                while raw.recv(1000):
                    pass
                raise AssertionError("the connection ended without a reset")
        self.assertLess(time.monotonic() - began, 1)
        self.assertIsNotNone(visit.wait_for_end())
        self.assertLess(visit.ended_at - began, 1)
        self.assertTrue([packet for packet in self.world.wire.since(0) if packet.flags & wire.RST and
                         (packet.source_port, packet.port) == (visit.peer[1], visit.local[1])])

    def test_an_idle_tcp_connection_is_reset_at_both_ends(self):
        self.apply(GOING_TCP)
        for address in (ORIGIN, ORIGIN6):
            with self.subTest(address):
                self.agent.apply(GOING_TCP)
                before = self.world.servers[5000].position()
                with self.pod.connect(address, 5000) as idle:
                    clients.exchange(idle)
                    began = time.monotonic()
                    self.delete(GOING_TCP)
                    self.assert_cut_within_a_second(began, idle, self.visit_of(5000, before))
                self.assert_refused(address, 5000)

    def test_a_connection_that_never_sent_a_byte_is_reset_too(self):
        self.apply(GOING_TCP)
        before = self.world.servers[5000].position()
        with self.pod.connect(ORIGIN, 5000) as silent:
            visit = self.visit_of(5000, before)
            began = time.monotonic()
            self.delete(GOING_TCP)
            self.assert_cut_within_a_second(began, silent, visit)

    def test_a_busy_tcp_connection_is_reset_at_both_ends(self):
        self.apply(GOING_TCP)
        before = self.world.servers[5000].position()
        with self.pod.connect(ORIGIN, 5000) as busy:
            stream = Stream(lambda: clients.exchange(busy))
            visit = self.visit_of(5000, before)
            began = time.monotonic()
            self.delete(GOING_TCP)
            self.eventually("it is cut", lambda: stream.error, 1)
            self.assertIsInstance(stream.error, ConnectionError)
            self.assertEqual(visit.wait_for_end(), "reset")
            self.assertLess(visit.ended_at - began, 1)

    def test_a_connection_that_only_receives_is_reset(self):
        """The server sends without a pause; what the pod sends are acknowledgements."""
        def flood(visit):
            while True:
                visit.sock.sendall(bytes(1000))
        server = self.world.serve(5900, flood)
        going = egress("flood", tcp_port(5900))
        self.apply(going)
        with self.pod.connect(ORIGIN, 5900) as sock:
            stream = Stream(lambda: sock.recv(100_000) or self.fail("it ended"))
            self.eventually("data comes", lambda: stream.rounds > 100)
            self.delete(going)
            self.eventually("it is cut", lambda: stream.error, 1)
            self.assertIsInstance(stream.error, ConnectionError)
        self.assertIsNotNone(server.visits[0].wait_for_end(1))

    def test_an_idle_tls_connection_is_reset_at_both_ends(self):
        self.apply(GOING_TLS)
        before = self.world.servers[TLS_PORT].position()
        with self.tls("allowed.test") as idle, self.tls("other.test") as kept:
            self.assertEqual(idle.ask().status, 200)
            self.assertEqual(kept.ask().status, 200)
            began = time.monotonic()
            self.delete(GOING_TLS)
            self.assert_cut_within_a_second(began, idle.sock, self.visit_of(TLS_PORT, before))
            self.assertEqual(kept.ask().status, 200)
        self.assert_tls_reset("allowed.test")

    def test_a_tls_connection_whose_name_is_still_to_come_is_judged_by_the_rules_of_then(self):
        self.apply(GOING_TLS)
        position = self.world.wire.position()
        with self.pod.connect(ORIGIN, TLS_PORT) as late:
            self.delete(GOING_TLS)
            with self.assertRaises(ConnectionError):
                clients.open_tls(late, "allowed.test")
        self.assert_no_bytes_arrived(position, ORIGIN, TLS_PORT)
        with self.pod.connect(ORIGIN, TLS_PORT) as late:
            self.agent.apply(GOING_TLS)
            clients.open_tls(late, "allowed.test").close()

    def test_tls_spliced_by_the_proxy_is_cut_too(self):
        plain = egress("plain", port(BOTH_PORT, "http"), hosts=["allowed.test"])
        secure = egress("secure", port(BOTH_PORT, "https"), hosts=["allowed.test"])
        self.apply(plain, secure)
        with self.tls("allowed.test", number=BOTH_PORT) as idle:
            self.assertEqual(idle.ask().status, 200)
            visit = self.world.origin.requests[-1].visit
            began = time.monotonic()
            self.delete(secure)
            self.assert_cut_within_a_second(began, idle.sock, visit)

    def test_a_response_under_way_is_cut_at_both_ends(self):
        self.apply(GOING_HTTP)
        with self.http() as connection:
            connection.send(clients.request("/hold"))
            self.assertEqual(connection.response_head().status, 200)
            self.assertEqual(connection.read(1), b"1")
            visit = self.world.origin.requests[-1].visit
            began = time.monotonic()
            self.delete(GOING_HTTP)
            self.assert_cut_within_a_second(began, connection.sock, visit)

    def test_a_large_download_under_way_is_cut(self):
        self.apply(GOING_HTTP)
        with self.http() as connection:
            connection.send(clients.request("/pieces/100/50"))
            self.assertEqual(connection.response_head().status, 200)
            began = time.monotonic()
            self.delete(GOING_HTTP)
            with self.assertRaises(ConnectionError):
                connection.read(10_000)
            self.assertLess(time.monotonic() - began, 1)

    def test_a_request_whose_body_is_under_way_is_cut(self):
        self.apply(GOING_HTTP)
        position = self.world.origin.position()
        with self.http() as connection:
            connection.send(clients.request("/sha", method="POST", headers=["Content-Length: 100"]) + b"half")
            request = self.world.origin.wait_for_request(position)
            began = time.monotonic()
            self.delete(GOING_HTTP)
            self.assert_cut_within_a_second(began, connection.sock, request.visit)
            self.assertFalse(request.complete)

    def test_a_websocket_is_cut_at_both_ends(self):
        self.apply(GOING_HTTP)
        with self.http() as connection:
            connection.send(clients.request("/upgrade", headers=UPGRADE))
            self.assertEqual(connection.response().status, 101)
            clients.exchange(connection.sock)
            visit = self.world.origin.requests[-1].visit
            began = time.monotonic()
            self.delete(GOING_HTTP)
            self.assert_cut_within_a_second(began, connection.sock, visit)

    def test_a_websocket_of_another_route_goes_on(self):
        ways = [route_group("ways", {"pathRegex": "/upgrade", "methods": ["GET"]}, {"pathRegex": "/get"}),
                egress("routed", port(HTTP_PORT, "http"), hosts=["allowed.test"], routes=["ways"])]
        self.apply(*ways)
        with self.http() as tunnel, self.http() as idle:
            tunnel.send(clients.request("/upgrade", headers=UPGRADE))
            self.assertEqual(tunnel.response().status, 101)
            self.assertEqual(idle.ask().status, 200)
            self.apply(route_group("ways", {"pathRegex": "/upgrade", "methods": ["GET"]}))
            self.assertEqual(idle.ask().status, 404)
            clients.exchange(tunnel.sock)
            self.apply(route_group("ways", {"pathRegex": "/other"}))
            with self.assertRaises(ConnectionError):
                tunnel.sock.recv(1)

    def test_an_idle_http_connection_gets_404_for_its_next_request(self):
        self.apply(GOING_HTTP)
        position = self.world.origin.position()
        with self.http() as connection:
            self.assertEqual(connection.ask("/get/before").status, 200)
            self.delete(GOING_HTTP)
            time.sleep(1.2)  # longer than anything is given to be cut: it must not be
            self.assertEqual(connection.ask("/get/after").status, 404)
            self.assertEqual(connection.ask("/get/other", host="other.test").status, 200)
        self.assertEqual([r.target for r in self.world.origin.since(position)], ["/get/before", "/get/other"])

    def test_an_unrelated_change_disturbs_nothing(self):
        self.apply(GOING_TCP, GOING_TLS, GOING_HTTP)
        with self.pod.connect(ORIGIN, 5000) as tcp, self.tls("allowed.test") as tls, self.http() as http, \
                self.http() as tunnel, self.pod.connect(ORIGIN, 5000) as idle:
            tunnel.send(clients.request("/upgrade", headers=UPGRADE))
            self.assertEqual(tunnel.response().status, 101)
            streams = [Stream(lambda: clients.exchange(tcp), 0.005), Stream(tls.ask, 0.005), Stream(http.ask, 0.005),
                       Stream(lambda: clients.exchange(tunnel.sock), 0.005)]
            for round_number in range(10):
                other = egress("unrelated", tcp_port(5002), port(TLS_PORT, "https"), port(HTTP_PORT, "http"),
                               hosts=[f"h{round_number}.test"])
                self.agent.apply(other)
                self.delete(other)
                self.agent.apply(mesh_config(traffic={"outboundPortExclusionList": [6000 + round_number]}))
            self.delete(mesh_config())
            for stream in streams:
                self.assertIsNone(stream.stop().error)
                self.assertLess(stream.longest, 1)
            clients.exchange(idle)

    def test_what_another_policy_allows_too_goes_on(self):
        twin = egress("twin", tcp_port(5000), port(TLS_PORT, "https"), hosts=["*.test"])
        self.apply(GOING_TCP, GOING_TLS, twin)
        with self.pod.connect(ORIGIN, 5000) as tcp, self.tls("allowed.test") as tls:
            clients.exchange(tcp)
            self.delete(GOING_TCP, GOING_TLS)
            time.sleep(0.6)  # the walk over idle connections comes up to half a second after a change
            clients.exchange(tcp)
            self.assertEqual(tls.ask().status, 200)

    def test_an_exclusion_and_a_switch_that_go_cut_what_they_allowed(self):
        for config in (mesh_config(traffic={"outboundPortExclusionList": [5002]}),
                       mesh_config(traffic={"outboundIPRangeExclusionList": [f"{OTHER}/32"]}),
                       mesh_config(traffic={"enableEgress": True})):
            with self.subTest(config["spec"]):
                self.apply(config)
                before = self.world.servers[5002].position()
                with self.pod.connect(OTHER, 5002) as idle, self.pod.connect(ORIGIN, 5001) as kept:
                    clients.exchange(idle)
                    clients.exchange(kept)
                    began = time.monotonic()
                    self.delete(config)
                    self.assert_cut_within_a_second(began, idle, self.visit_of(5002, before))
                    clients.exchange(kept)
                self.assert_refused(OTHER, 5002)

    def test_revocations_are_told_with_their_reason(self):
        self.apply(GOING_TCP)
        with self.pod.connect(ORIGIN, 5000) as idle:
            clients.exchange(idle)
            self.delete(GOING_TCP)
            self.assertRaises(ConnectionError, idle.recv, 1)
        event = self.eventually("it is told", lambda: self.agent.events(reason="revoked", port=5000))[-1]
        self.assertEqual((event["verdict"], event["pod"]), ("deny", "curl/curl"))


class ConnectionsAreKept(WorldCase):
    CONFIG = {"revokeConnections": False}

    def test_what_was_allowed_once_goes_on_and_what_is_new_is_refused(self):
        self.apply(GOING_TCP, GOING_TLS, GOING_HTTP)
        with self.pod.connect(ORIGIN, 5000) as tcp, self.tls("allowed.test") as tls, self.http() as idle:
            clients.exchange(tcp)
            self.assertEqual(tls.ask().status, 200)
            self.assertEqual(idle.ask().status, 200)
            self.delete(GOING_TCP, GOING_TLS, GOING_HTTP)
            for number in (5000, TLS_PORT, HTTP_PORT):
                self.assert_refused(ORIGIN, number)
            time.sleep(1.2)  # longer than a revocation would take
            clients.exchange(tcp)
            self.assertEqual(tls.ask().status, 200)
            self.assertEqual(idle.ask().status, 404)

    def test_a_websocket_and_a_response_under_way_go_on(self):
        self.apply(GOING_HTTP)
        with self.http() as tunnel, self.http() as slow:
            tunnel.send(clients.request("/upgrade", headers=UPGRADE))
            self.assertEqual(tunnel.response().status, 101)
            slow.send(clients.request("/pieces/15/100"))
            head = slow.response_head()
            self.assertEqual(head.status, 200)
            self.delete(GOING_HTTP)
            self.assertEqual(len(slow.read(6 * 15 + 5)), 95)
            clients.exchange(tunnel.sock)


if __name__ == "__main__":
    main()
