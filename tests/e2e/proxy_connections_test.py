"""Connections through the proxy: kept alive, pipelined, half closed, upgraded, and TLS on the same port."""

import pathlib
import signal
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients
from support.case import WorldCase, main
from support.manifests import egress, port, route_group
from support.world import BOTH_PORT, HTTP_PORT, ORIGIN, OTHER

ROUTES = route_group("routes", {"pathRegex": "/(get|bytes|until-close|sha|hold|upgrade|close)(/.*)?",
                                "methods": ["*"]})
RULES = egress("rules", port(HTTP_PORT, "http"), hosts=["allowed.test"], routes=["routes"])
UPGRADE = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
           "Sec-WebSocket-Version: 13"]


class ProxyConnections(WorldCase):
    OBJECTS = (ROUTES, RULES)

    def test_pipelined_requests_are_decided_one_by_one_and_answered_in_order(self):
        position = self.world.origin.position()
        with self.http() as connection:
            connection.send(clients.request("/get/1") + clients.request("/denied") +
                            clients.request("/sha", method="POST", body=b"body") +
                            clients.request("/get/2", host="denied.test") + clients.request("/get/3"))
            answers = [connection.response() for _ in range(5)]
        self.assertEqual([answer.status for answer in answers], [200, 404, 200, 404, 200])
        self.assertEqual([answers[0].body, answers[4].body], [b"GET /get/1\n", b"GET /get/3\n"])
        self.assertEqual([request.target for request in self.world.origin.since(position)],
                         ["/get/1", "/sha", "/get/3"])

    def test_two_hundred_pipelined_requests_are_all_answered(self):
        with self.http() as connection:
            connection.send(b"".join(clients.request(f"/get/{i}") for i in range(200)))
            for i in range(200):
                self.assertEqual(connection.response().body, b"GET /get/%d\n" % i)

    def test_connections_to_the_origin_are_used_again(self):
        server = self.world.servers[HTTP_PORT]
        self.get()
        position = server.position()
        for _ in range(20):
            self.assertEqual(self.get().status, 200)
        with self.http() as connection:
            for _ in range(20):
                self.assertEqual(connection.ask().status, 200)
        self.assertLess(len(server.since(position)), 10)

    def test_a_connection_goes_on_when_the_origin_closes_its_own(self):
        with self.http() as connection:
            self.assertEqual(connection.ask("/close").body, b"bye\n")
            self.assertEqual(connection.ask().status, 200)

    def test_a_client_that_has_sent_all_still_gets_its_answer(self):
        with self.http() as connection:
            connection.send(clients.request("/bytes/300000"))
            connection.sock.shutdown(socket.SHUT_WR)
            self.assertEqual(len(connection.response().body), 300_000)
            self.assertEqual(connection.ended(), "fin")

    def test_a_client_that_ends_inside_its_body_makes_no_request_whole(self):
        position = self.world.origin.position()
        with self.http() as connection:
            connection.send(clients.request("/sha", method="POST", headers=["Content-Length: 10"]) + b"12345")
            connection.sock.shutdown(socket.SHUT_WR)
            self.assertIn(self._answer_or_end(connection), (400, "fin", "reset"))
        self.world.wire.sync()
        self.assertEqual([request for request in self.world.origin.since(position) if request.complete], [])
        self.assertEqual(self.get().status, 200)

    @staticmethod
    def _answer_or_end(connection):
        try:
            return connection.response().status
        except clients.Closed:
            return "fin"
        except ConnectionError:
            return "reset"

    def test_http_1_0_is_answered_and_closed(self):
        with self.http() as connection:
            answer = connection.ask(version="1.0")
            self.assertEqual(answer.status, 200)
            self.assertEqual(connection.ended(), "fin")
        with self.http() as connection:
            self.assertEqual(len(connection.ask("/until-close/100000", version="1.0").body), 100_000)
        self.assert_request_denied(404, "/denied", version="1.0")

    def test_http_1_0_keeps_a_connection_alive_that_asks_for_it(self):
        with self.http() as connection:
            for _ in range(2):
                answer = connection.ask(version="1.0", headers=["Connection: keep-alive"])
                self.assertEqual(answer.status, 200)
                if "keep-alive" not in answer.get("connection").lower():
                    self.assertEqual(connection.ended(), "fin")
                    break

    def test_http_1_0_without_a_host_reaches_nothing(self):
        position = self.world.origin.position()
        with self.http() as connection:
            connection.send(b"GET /get HTTP/1.0\r\n\r\n")
            self.assertIn(connection.response().status, (400, 404))
        self.world.wire.sync()
        self.assertEqual(self.world.origin.since(position), [])

    def test_a_websocket_on_an_allowed_route_is_a_tunnel(self):
        with self.http() as connection:
            connection.send(clients.request("/upgrade", headers=UPGRADE))
            self.assertEqual(connection.response().status, 101)
            for text in (b"\x81\x05hello", b"GET /denied HTTP/1.1\r\n\r\n", bytes(range(256)) * 400):
                clients.exchange(connection.sock, text)
            connection.sock.shutdown(socket.SHUT_WR)
            self.assertEqual(connection.ended(), "fin")

    def test_a_websocket_on_a_denied_route_is_404_and_the_connection_stays_usable(self):
        position = self.world.origin.position()
        with self.http() as connection:
            for options in ({"target": "/denied"}, {"target": "/upgrade", "host": "denied.test"}):
                self.assertEqual(connection.ask(headers=UPGRADE, **options).status, 404)
            self.assertEqual(connection.ask().status, 200)
        self.assertEqual([request.target for request in self.world.origin.since(position)], ["/get"])

    def test_connect_is_denied_where_no_route_names_it(self):
        position = self.world.origin.position()
        with self.http() as connection:
            connection.send(b"CONNECT allowed.test:80 HTTP/1.1\r\nHost: allowed.test:80\r\n\r\n")
            self.assertIn(connection.response().status, (400, 404))
        self.world.wire.sync()
        self.assertEqual(self.world.origin.since(position), [])

    def test_upgrade_to_http_2_is_not_passed_on(self):
        position = self.world.origin.position()
        answer = self.get("/get", headers=["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                                           "HTTP2-Settings: AAMAAABkAAQAAP__"])
        self.assertEqual(answer.status, 200)
        request, = self.world.origin.since(position)
        self.assertEqual(request.all("upgrade") + request.all("http2-settings"), [])


class HttpAndTlsOnOnePort(WorldCase):
    """The same number with http and https: told apart by the first byte, TLS untouched, the name judged."""

    OBJECTS = (egress("plain", port(BOTH_PORT, "http"), hosts=["allowed.test"]),
               egress("secure", port(BOTH_PORT, "https"), hosts=["allowed.test", "other.test"]))
    HOST = f"allowed.test:{BOTH_PORT}"

    def test_each_protocol_is_decided_by_its_own_rules(self):
        self.assertEqual(self.get(number=BOTH_PORT, host=self.HOST).status, 200)
        self.assert_request_denied(404, number=BOTH_PORT, host=f"denied.test:{BOTH_PORT}")
        self.assert_request_denied(404, number=BOTH_PORT, host=f"other.test:{BOTH_PORT}")
        for name in ("allowed.test", "other.test"):
            self.assert_tls_passes(name, number=BOTH_PORT)
        self.assert_tls_denied("denied.test")
        self.assert_tls_denied(None)

    def assert_tls_denied(self, name):
        """The session fails, and the outside has received no byte of the name."""
        position = self.world.wire.position()
        with self.assertRaises(OSError):
            self.tls(name, OTHER, BOTH_PORT).sock.close()
        self.assert_no_bytes_arrived(position, OTHER, BOTH_PORT)

    def test_tls_is_passed_on_untouched(self):
        server = self.world.servers[BOTH_PORT]
        position = server.position()
        with self.tls("allowed.test", number=BOTH_PORT) as connection:
            self.assertEqual(connection.sock.getpeercert(binary_form=True), self._certificate())
            self.assertEqual(len(connection.ask("/bytes/3000000").body), 3_000_000)
            self.assertEqual(connection.ask("/sha", method="POST", body=b"x" * 1_000_000).status, 200)
        self.assertEqual([visit.sni for visit in server.since(position) if visit.sni], ["allowed.test"])

    def _certificate(self):
        import ssl
        return ssl.PEM_cert_to_DER_cert(self.world.certificate.read_text())

    def test_a_name_on_another_port_is_not_enough(self):
        self.assert_refused(ORIGIN, 443)
        self.assert_refused(ORIGIN, 80)

    def test_while_there_is_no_proxy_both_are_refused(self):
        self.agent.stop(signal.SIGKILL)
        self.eventually("the proxy is gone", lambda: not self._connects())
        self.assert_refused(ORIGIN, BOTH_PORT)
        self.agent.start()
        self.assertEqual(self.get(number=BOTH_PORT, host=self.HOST).status, 200)
        self.assert_tls_passes("allowed.test", number=BOTH_PORT)

    def _connects(self):
        try:
            self.pod.connect(ORIGIN, BOTH_PORT).close()
            return True
        except ConnectionRefusedError:
            return False


if __name__ == "__main__":
    main()
