"""enforcement: audit decides and reports, and refuses, cuts and rewrites nothing."""

import pathlib
import signal
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, origin
from support.case import WorldCase, main, tcp_port
from support.manifests import egress, port, traffic_setting
from support.world import BOTH_PORT, HTTP_PORT, ORIGIN, OTHER, TLS_PORT

RULES = egress("rules", tcp_port(5000), port(TLS_PORT, "https"), port(HTTP_PORT, "http"), hosts=["allowed.test"])


class Audit(WorldCase):
    CONFIG = {"enforcement": "audit"}
    OBJECTS = (RULES,)

    def assert_told(self, **wanted):
        """An event of these fields comes, or is there."""
        return self.eventually(f"told: {wanted}", lambda: self.agent.events(pod="curl/curl", **wanted))[-1]

    def raw_exchange(self, sent, answer, number=HTTP_PORT):
        """What an origin that answers with `answer` received of `sent`; the pod must get the answer as it is."""
        def serve(visit):
            while len(visit.data) < len(sent):
                visit.recv()
            visit.sock.sendall(answer)
        server = self.world.serve(number, serve)
        with self.pod.connect(ORIGIN, number) as sock:
            sock.sendall(sent)
            got = b""
            while piece := sock.recv(1 << 16):
                got += piece
        self.assertEqual(got, answer)
        return bytes(server.visits[-1].data)

    def test_nothing_is_refused_and_what_would_be_is_told(self):
        self.assert_reaches(OTHER, 5001)
        self.assert_told(verdict="audit", reason="policy", destination=OTHER, port=5001)
        self.assert_tls_passes("denied.test")
        self.assert_told(verdict="audit", reason="sni-mismatch", sni="denied.test")
        self.assertEqual(self.get(host="denied.test").status, 200)
        self.assert_told(verdict="audit", reason="http-host", host="denied.test")

    def test_what_is_allowed_is_told_as_allowed(self):
        self.assert_reaches(ORIGIN, 5000)
        self.assert_told(verdict="allow", port=5000, policy="curl/rules")
        self.assert_tls_passes("allowed.test")
        self.assert_told(verdict="allow", sni="allowed.test")
        self.assertEqual(self.get().status, 200)
        self.assert_told(verdict="allow", host="allowed.test")

    def test_datagrams_and_pings_pass_and_are_told(self):
        position = self.world.wire.position()
        with self.pod.socket(kind=socket.SOCK_DGRAM) as udp:
            udp.sendto(b"audited", (OTHER, 5001))
        self.assertEqual([packet.payload for packet in self.arrived(position, OTHER, 5001)], [b"audited"])
        self.assert_told(verdict="audit", protocol="udp", port=5001)
        with self.pod.socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_ICMP) as ping:
            ping.sendto(bytes.fromhex("0800f7fd00010001"), (OTHER, 0))
            while ping.recv(100)[20:21] != b"\x00":  # until the reply
                pass

    def test_tls_without_a_name_and_what_is_not_tls_pass(self):
        with self.tls(None, OTHER) as connection:
            self.assertEqual(connection.ask().status, 200)
        self.assert_told(verdict="audit", reason="no-sni")
        self.allow("echo", port(5001, "https"), hosts=["allowed.test"])
        self.assert_reaches(ORIGIN, 5001)
        self.assert_told(verdict="audit", reason="not-tls", port=5001)

    def test_http_is_forwarded_byte_for_byte(self):
        """Spaces, cases and hop-by-hop headers too, which a proxy that enforces would mend or take away."""
        self.allow("raw", port(8090, "http"), hosts=["allowed.test"])
        sent = (b"POST /a/../b?x#y HTTP/1.1\r\nhOST:   denied.test \r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
                b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n5;ext\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n")
        answer = b"HTTP/1.1 200 Fine\r\nconnection:   close\r\nX-Odd : 1\r\n\r\nuntil the end"
        self.assertEqual(self.raw_exchange(sent, answer, 8090), sent)

    def test_what_is_not_http_passes_on_an_http_port(self):
        for number, (what, sent) in enumerate({
                "two lengths": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
                "zeros": bytes(5000)}.items()):
            with self.subTest(what):
                self.allow(f"odd{number}", port(8091 + number, "http"), hosts=["allowed.test"])
                self.assertEqual(self.raw_exchange(sent, b"answer", 8091 + number), sent)
        self.assert_told(verdict="audit", reason="http-malformed")

    def test_large_bodies_and_tunnels_pass(self):
        self.assertTrue(self.get(f"/bytes/{5 << 20}", host="denied.test").body == origin.pattern(5 << 20))
        with self.http() as connection:
            connection.send(clients.request("/upgrade", host="denied.test", headers=["Connection: Upgrade",
                                                                                    "Upgrade: websocket"]))
            self.assertEqual(connection.response().status, 101)
            clients.exchange(connection.sock)

    def test_a_rule_that_goes_cuts_nothing(self):
        going = egress("going", tcp_port(5002), port(TLS_PORT, "https"), hosts=["other.test"])
        self.apply(going)
        with self.pod.connect(ORIGIN, 5002) as tcp, self.tls("other.test") as tls, self.http() as http:
            clients.exchange(tcp)
            self.assertEqual(tls.ask().status, 200)
            http.send(clients.request("/pieces/15/100"))
            self.assertEqual(http.response_head().status, 200)
            self.delete(going, RULES)
            self.addCleanup(self.agent.apply, RULES)
            self.assertEqual(len(http.read(15 * 6 + 5)), 95)  # longer than a revocation would take
            clients.exchange(tcp)
            self.assertEqual(tls.ask().status, 200)

    def test_limits_refuse_nothing(self):
        self.apply(traffic_setting("one", {"maxConnections": 1}), egress("limited", tcp_port(5002), settings=["one"]))
        with self.pod.connect(ORIGIN, 5002) as first, self.pod.connect(ORIGIN, 5002) as second:
            clients.exchange(first)
            clients.exchange(second)
        self.assert_told(verdict="audit", reason="limit", port=5002)

    def test_http_and_tls_on_one_port_pass(self):
        self.allow("plain", port(BOTH_PORT, "http"), hosts=["allowed.test"])
        self.allow("secure", port(BOTH_PORT, "https"), hosts=["allowed.test"])
        self.assertEqual(self.get(number=BOTH_PORT, host="denied.test").status, 200)
        self.assert_tls_passes("denied.test", number=BOTH_PORT)
        self.assert_tls_passes("allowed.test", number=BOTH_PORT)

    def test_what_would_have_been_refused_lives_through_changes(self):
        self.allow("plain", port(BOTH_PORT, "http"), hosts=["allowed.test"])
        self.allow("secure", port(BOTH_PORT, "https"), hosts=["allowed.test"])
        with self.pod.connect(OTHER, 5001) as tcp, self.tls("denied.test") as tls, self.tls(None) as nameless, \
                self.tls("denied.test", number=BOTH_PORT) as spliced:
            for _ in range(3):
                self.allow("change", tcp_port(5002), port(TLS_PORT, "https"), port(BOTH_PORT, "http"),
                           hosts=["third.test"])
                self.agent.delete(egress("change"))
                clients.exchange(tcp)
                for connection in (tls, nameless, spliced):
                    self.assertEqual(connection.ask(host="denied.test").status, 200)

    def test_without_a_proxy_connections_go_direct(self):
        for how in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(how.name):
                self.agent.stop(how)
                for host in ("allowed.test", "denied.test"):
                    self.eventually(f"{host} is reached directly", lambda: self._reached(host))
                self.assert_reaches(OTHER, 5001)
                self.assert_tls_passes("denied.test")
                self.agent.start()

    def _reached(self, host):
        try:
            return self.get(host=host).status == 200
        except (ConnectionError, clients.Closed):
            return False


class AuditIsSwitched(WorldCase):
    OBJECTS = (RULES,)

    def test_an_agent_that_starts_with_audit_refuses_nothing_and_the_next_refuses_again(self):
        self.assert_refused(ORIGIN, 5001)
        self.agent.stop()
        self.agent.configure(enforcement="audit")
        self.agent.start()
        self.assertIn("audit", self.agent.ctl("status").stdout)
        with self.pod.connect(ORIGIN, 5001) as denied, self.pod.connect(ORIGIN, 5000) as allowed:
            clients.exchange(denied)
            clients.exchange(allowed)
            self.agent.stop()
            self.agent.configure()
            self.agent.start()
            with self.assertRaises(ConnectionError):
                clients.exchange(denied)
            clients.exchange(allowed)
        self.assert_refused(ORIGIN, 5001)


if __name__ == "__main__":
    main()
