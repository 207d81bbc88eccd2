"""HTTP through the proxy: every body and framing arrives as it was sent, both ways, and is not held."""

import hashlib
import pathlib
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, origin
from support.case import WorldCase, main
from support.manifests import egress, port, route_group
from support.world import HTTP_PORT, ORIGIN, ORIGIN6

BIG = 50 << 20
ROUTES = route_group("routes", {"pathRegex": "/(get|status|bytes|chunked|until-close|pieces|sha|hold|early|upgrade|"
                                             "continue|close)(/.*)?", "methods": ["*"]})
RULES = egress("rules", port(HTTP_PORT, "http"), hosts=["allowed.test"], routes=["routes"])


class ProxyTraffic(WorldCase):
    OBJECTS = (ROUTES, RULES)

    def resident(self):
        """Memory of the proxy, in bytes."""
        text = pathlib.Path(f"/proc/{self.agent.proxy_pid()}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10

    def test_fifty_megabytes_come_down_byte_for_byte(self):
        self.get()
        before = self.resident()
        for target, size in (("bytes", BIG), ("chunked", 20 << 20), ("until-close", 20 << 20)):
            body = self.get(f"/{target}/{size}").body
            self.assertTrue(body == origin.pattern(size), f"/{target} was changed on its way")
        self.assertLess(self.resident() - before, 20 << 20)

    def test_fifty_megabytes_go_up_byte_for_byte(self):
        body = origin.pattern(BIG)
        digest = hashlib.sha256(body).hexdigest().encode()
        self.get()
        before = self.resident()
        with self.http() as connection:
            self.assertEqual(connection.ask("/sha", method="POST", body=body).body, digest)
            part = body[:20 << 20]
            connection.send(clients.request("/sha", method="PUT", headers=["Transfer-Encoding: chunked"]))
            connection.send(clients.chunks(*(part[at:at + 400_001] for at in range(0, len(part), 400_001))))
            self.assertEqual(connection.response().body, hashlib.sha256(part).hexdigest().encode())
        self.assertLess(self.resident() - before, 20 << 20)

    def test_both_directions_at_once_do_not_wait_for_each_other(self):
        """An origin that answers while the body is still on its way: a tunnel of 20 MB each way."""
        sent = origin.pattern(20 << 20)
        with self.http(timeout=20) as connection:
            connection.send(clients.request("/upgrade", headers=["Connection: Upgrade", "Upgrade: websocket"]))
            self.assertEqual(connection.response().status, 101)
            sender = threading.Thread(target=connection.send, args=(sent,))
            sender.start()
            self.assertTrue(connection.read(len(sent)) == sent)
            sender.join()

    def test_what_a_client_does_not_read_is_not_held(self):
        with self.http(timeout=20) as lazy:
            self.get()
            before = self.resident()
            lazy.send(clients.request(f"/bytes/{BIG}"))
            self.assertEqual(lazy.response_head().status, 200)
            with self.http() as busy:
                for _ in range(300):
                    self.assertEqual(busy.ask().status, 200)
            self.assertLess(self.resident() - before, 10 << 20)
            self.assertTrue(lazy.read(BIG) == origin.pattern(BIG))

    def test_the_first_bytes_of_a_slow_upload_are_there_before_the_last_are_sent(self):
        server, position = self.world.servers[HTTP_PORT], self.world.servers[HTTP_PORT].position()
        with self.http() as connection:
            connection.send(clients.request("/sha", method="POST", headers=["Content-Length: 30"]))
            connection.send(b"0123456789")
            visit = server.wait_for_visit(position)
            head = self.world.origin.wait_for_request(self.world.origin.position() - 1).head
            for total in (10, 20):
                self.eventually(f"{total} bytes are there", lambda: bytes(visit.data).endswith(b"0123456789"[:10])
                                and visit.total >= len(head) + total)
                connection.send(b"0123456789")
            self.assertEqual(connection.response().body, hashlib.sha256(b"0123456789" * 3).hexdigest().encode())

    def test_the_first_bytes_of_a_slow_download_come_at_once(self):
        with self.http() as connection:
            began = time.monotonic()
            connection.send(clients.request("/pieces/10/80"))
            self.assertEqual(connection.response_head().status, 200)
            connection.read(6)  # one chunk of one byte
            first = time.monotonic() - began
            connection.buffer[:0] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.assertEqual(connection.response().body, b"." * 9)
            self.assertLess(first, 0.4)
            self.assertGreater(time.monotonic() - began, 0.7)

    def test_chunks_with_extensions_and_trailers_arrive(self):
        with self.http() as connection:
            connection.send(clients.request("/sha", method="POST",
                                            headers=["Transfer-Encoding: chunked", "Trailer: X-After"]))
            connection.send(b"5;name=value\r\nhello\r\n1\r\n!\r\n0\r\nX-After: yes\r\n\r\n")
            self.assertEqual(connection.response().body, hashlib.sha256(b"hello!").hexdigest().encode())
            self.assertEqual(connection.ask().status, 200)

    def test_expect_100_continue_waits_for_the_origin(self):
        with self.http() as connection:
            connection.send(clients.request("/continue", method="POST",
                                            headers=["Content-Length: 4", "Expect: 100-continue"]))
            self.assertEqual(connection._until(b"\r\n\r\n").split(b" ")[1], b"100")
            connection.send(b"body")
            self.assertEqual(connection.response().body, hashlib.sha256(b"body").hexdigest().encode())

    def test_expect_100_continue_of_a_denied_request_gets_404_and_no_body_is_asked_for(self):
        position = self.world.origin.position()
        with self.http() as connection:
            connection.send(clients.request("/continue", host="denied.test", method="POST",
                                            headers=["Content-Length: 4", "Expect: 100-continue"]))
            answer = connection.response()
            self.assertEqual((answer.status, answer.interim), (404, []))
        self.world.wire.sync()
        self.assertEqual(self.world.origin.since(position), [])

    def test_curl_uploads_with_expect(self):
        file = self.world.folder / "upload"
        file.write_bytes(origin.pattern(3 << 20))
        done = self.pod.curl("--resolve", f"allowed.test:80:{ORIGIN}", "-T", file, "-H", "Expect: 100-continue",
                             "--expect100-timeout", "20", "http://allowed.test/continue")
        self.assertEqual(done.stdout, hashlib.sha256(file.read_bytes()).hexdigest(), done.stderr)

    def test_responses_without_a_body_end_where_they_end(self):
        with self.http() as connection:
            head = connection.ask("/bytes/1000", method="HEAD")
            self.assertEqual((head.status, head.get("content-length")), (200, "1000"))
            self.assertEqual(connection.ask("/status/204").status, 204)
            self.assertEqual(connection.ask("/status/304").status, 304)
            self.assertEqual(connection.ask("/status/404").status, 404)
            self.assertEqual(connection.ask("/status/500").body, b"status\n")
            self.assertEqual(connection.ask("/bytes/0").body, b"")
            self.assertEqual(connection.ask("/get/last").body, b"GET /get/last\n")

    def test_interim_responses_are_passed_on(self):
        answer = self.get("/early")
        self.assertEqual((answer.interim, answer.status, answer.body), ([100, 103], 200, b"late\n"))

    def test_a_request_reaches_the_origin_with_its_headers(self):
        position = self.world.origin.position()
        self.get("/get?a=1&b=%20", headers=["X-One: 1", "X-Two:  two words ", "Accept: */*", "x-One: 2"])
        request, = self.world.origin.since(position)
        self.assertEqual((request.method, request.target, request.all("host")), ("GET", "/get?a=1&b=%20",
                                                                                 ["allowed.test"]))
        self.assertEqual(request.all("x-one"), ["1", "2"])
        self.assertEqual(request.all("x-two"), ["two words"])
        self.assertEqual(request.all("accept"), ["*/*"])

    def test_hop_by_hop_headers_end_at_the_proxy(self):
        position = self.world.origin.position()
        self.get(headers=["Connection: close, X-Hop, Upgrade, HTTP2-Settings", "X-Hop: 1", "Keep-Alive: 5",
                          "Upgrade: h2c", "HTTP2-Settings: AAAA", "X-End: 1"])
        request, = self.world.origin.since(position)
        for name in ("x-hop", "keep-alive", "upgrade", "http2-settings"):
            self.assertEqual(request.all(name), [], name)
        self.assertEqual(request.all("x-end"), ["1"])

    def test_ipv6_is_equal(self):
        self.assertEqual(self.get(address=ORIGIN6).status, 200)
        self.assert_request_denied(404, address=ORIGIN6, host="denied.test")
        self.assert_request_denied(404, "/denied", address=ORIGIN6)

    def test_the_origin_sees_the_address_of_the_pod(self):
        position = self.world.origin.position()
        self.get()
        request, = self.world.origin.since(position)
        self.assertEqual(request.visit.peer[0], f"::ffff:{self.pod.v4}")
        with self.http() as connection:
            self.assertEqual(connection.sock.getpeername(), (ORIGIN, HTTP_PORT))


if __name__ == "__main__":
    main()
