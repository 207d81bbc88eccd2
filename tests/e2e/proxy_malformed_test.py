"""Requests that two parsers could read differently: 400, the connection ends, and the origin has seen nothing of them."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients
from support.case import WorldCase, main
from support.manifests import egress, port
from support.world import BOTH_PORT, HTTP_PORT, ORIGIN

RULES = egress("rules", port(HTTP_PORT, "http"), port(BOTH_PORT, "http"), hosts=["allowed.test"])
HOST = b"Host: allowed.test\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: denied.test\r\n\r\n"


def post(*fields, body=b""):
    return b"POST /sha HTTP/1.1\r\n" + HOST + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def get(target=b"/get", *fields, host=HOST):
    return b"GET " + target + b" HTTP/1.1\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body=body)


FRAMING = {
    "length and chunked": post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 60", body=b"0\r\n\r\n" + SMUGGLED),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 46", body=SMUGGLED),
    "a list of lengths": post(b"Content-Length: 0, 46", body=SMUGGLED),
    "a signed length": post(b"Content-Length: +46", body=SMUGGLED),
    "a negative length": post(b"Content-Length: -1", body=SMUGGLED),
    "a hexadecimal length": post(b"Content-Length: 0x2e", body=SMUGGLED),
    "a length with a space in it": post(b"Content-Length: 4 6", body=SMUGGLED),
    "an empty length": post(b"Content-Length:", body=SMUGGLED),
    "a length beyond 64 bits": post(b"Content-Length: 18446744073709551662", body=SMUGGLED),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=SMUGGLED),
    "identity after chunked": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    "gzip alone": post(b"Transfer-Encoding: gzip", body=SMUGGLED),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "two Transfer-Encodings": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=SMUGGLED),
    "a vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a space before the colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a quoted coding": post(b"Transfer-Encoding: \"chunked\"", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked in HTTP/1.0": b"POST /sha HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
}
CHUNKS = {
    "a chunk size with 0x": chunked(b"0x4\r\nbody\r\n0\r\n\r\n"),
    "a signed chunk size": chunked(b"+4\r\nbody\r\n0\r\n\r\n"),
    "a negative chunk size": chunked(b"-4\r\nbody\r\n0\r\n\r\n"),
    "a space before a chunk size": chunked(b" 4\r\nbody\r\n0\r\n\r\n"),
    "an empty chunk size": chunked(b"\r\nbody\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": chunked(b"10000000000000004\r\nbody\r\n0\r\n\r\n"),
    "a chunk ended by a bare LF": chunked(b"4\nbody\r\n0\r\n\r\n"),
    "chunk data longer than said": chunked(b"3\r\nbody\r\n0\r\n\r\n"),
    "a bare LF in a chunk extension": chunked(b"4;x=\ny\r\nbody\r\n0\r\n\r\n"),
}
HEADS = {
    "a folded header": get(b"/get", b"X-One: 1\r\n two"),
    "space before the first header": b"GET /get HTTP/1.1\r\n " + HOST + b"\r\n",
    "bare LF as line ends": b"GET /get HTTP/1.1\nHost: allowed.test\n\n",
    "a bare LF in a value": get(b"/get", b"X-One: 1\nX-Two: 2"),
    "a bare CR in a value": get(b"/get", b"X-One: 1\rX-Two: 2"),
    "a NUL in a value": get(b"/get", b"X-One: \x00"),
    "a header without a colon": get(b"/get", b"X-One"),
    "a header without a name": get(b"/get", b": 1"),
    "a space in a name": get(b"/get", b"X One: 1"),
    "no Host": b"GET /get HTTP/1.1\r\n\r\n",
    "two Hosts": get(b"/get", b"Host: denied.test"),
    "two equal Hosts": get(b"/get", b"Host: allowed.test"),
    "a list as Host": get(host=b"Host: allowed.test, denied.test\r\n"),
    "user information in Host": get(host=b"Host: allowed.test@denied.test\r\n"),
    "a path in Host": get(host=b"Host: allowed.test/denied\r\n"),
    "two spaces in the request line": b"GET  /get HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab in the request line": b"GET\t/get HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the target": b"GET /get /more HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown version": b"GET /get HTTP/1.2x\r\n" + HOST + b"\r\n",
    "HTTP/2 as version": b"GET /get HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /get\r\n\r\n",
    "another Host than the target's": get(b"http://denied.test/get"),
    "a target of another scheme": get(b"https://allowed.test/get"),
    "a byte above ASCII in the method": b"G\xc9T /get HTTP/1.1\r\n" + HOST + b"\r\n",
}
PATHS = {
    "a .. segment": get(b"/get/../denied"),
    "a . segment": get(b"/./get"),
    "an encoded .. segment": get(b"/get/%2e%2e/denied"),
    "a half encoded .. segment": get(b"/get/.%2E/denied"),
    "an encoded slash": get(b"/get%2fdenied"),
    "an encoded NUL": get(b"/get%00"),
    "a broken escape": get(b"/get%2"),
    "an escape that is none": get(b"/get%zz"),
    "a fragment": get(b"/get#denied"),
    "a backslash": get(b"/get\\..\\denied"),
    "a control character": get(b"/get\x01"),
}
FOREIGN = {
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "a ClientHello": bytes.fromhex("16030100050100000100"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(64),
    "SMTP": b"EHLO allowed.test\r\n\r\n",
}


class ProxyMalformed(WorldCase):
    OBJECTS = (RULES,)

    def outcome(self, raw, number=HTTP_PORT):
        """(status or None, how the connection ended)."""
        with self.http(number=number, timeout=3) as connection:
            try:
                connection.send(raw)
                status = connection.response().status
            except (clients.Closed, ConnectionError):
                return None, "closed"
            except TimeoutError:
                return None, "timeout"
            try:
                return status, connection.ended()
            except TimeoutError:
                return status, "open"

    def assert_all(self, cases, statuses, body_may_begin=False):
        for name, raw in cases.items():
            with self.subTest(name):
                position, bad = self.world.origin.position(), len(self.world.origin.bad)
                status, end = self.outcome(raw)
                self.assertIn(status, statuses)
                self.assertIn(end, ("fin", "reset", "closed"))
                self.world.wire.sync()
                seen = [(request.method, request.target) for request in self.world.origin.since(position)
                        if request.complete or not body_may_begin]
                self.assertEqual(seen, [])
                self.assertEqual(self.world.origin.bad[bad:], [])
        self.assertEqual(self.get().status, 200)

    def test_a_request_with_two_meanings_of_its_length_is_400(self):
        self.assert_all(FRAMING, (400,))

    def test_a_chunk_that_is_not_to_the_letter_ends_the_request(self):
        """Its head is on its way by then; what the origin gets of it never becomes a whole request."""
        self.assert_all(CHUNKS, (400, None), body_may_begin=True)

    def test_a_head_that_is_not_to_the_letter_is_400(self):
        self.assert_all(HEADS, (400, 505))

    def test_a_path_with_two_meanings_is_400(self):
        self.assert_all(PATHS, (400,))

    def test_what_is_not_http_is_400_or_reset(self):
        self.assert_all(FOREIGN, (400, 505, None))

    def test_a_head_over_the_limits_is_431(self):
        self.assert_all({"a long value": get(b"/get", b"X-One: " + b"a" * 200_000),
                         "many headers": get(b"/get", *[b"X-%d: 1" % i for i in range(2000)])}, (431,))

    def test_a_long_target_is_refused(self):
        self.assert_all({"a long target": get(b"/" + b"a" * 200_000)}, (400, 414, 431))

    def test_connection_cannot_take_away_what_the_decision_stood_on(self):
        for name in (b"Host", b"Content-Length", b"Transfer-Encoding"):
            with self.subTest(name):
                position = self.world.origin.position()
                status, _ = self.outcome(post(b"Connection: " + name, b"Content-Length: 46", body=SMUGGLED))
                self.world.wire.sync()
                seen = self.world.origin.since(position)
                if status == 400:
                    self.assertEqual(seen, [])
                else:
                    self.assertEqual([(r.target, r.all("host"), r.body) for r in seen],
                                     [("/sha", ["allowed.test"], SMUGGLED)])

    def test_what_was_right_before_is_answered_before_the_400(self):
        position = self.world.origin.position()
        with self.http() as connection:
            connection.send(get(b"/get/1") + FRAMING["length and chunked"])
            self.assertEqual([connection.response().status for _ in range(2)], [200, 400])
            self.assertIn(connection.ended(), ("fin", "reset"))
        self.assertEqual([request.target for request in self.world.origin.since(position)], ["/get/1"])

    def test_an_absolute_target_counts_as_what_it_says(self):
        position = self.world.origin.position()
        self.assertIn(self.outcome(get(b"http://allowed.test/get/a"))[0], (200, 400))
        self.world.wire.sync()
        for request in self.world.origin.since(position):
            self.assertEqual(request.all("host"), ["allowed.test"])

    def test_refusals_are_told_with_their_reason(self):
        self.outcome(FRAMING["length and chunked"])
        event = self.eventually("the refusal is told", lambda: self.agent.events(reason="http-malformed"))[-1]
        self.assertEqual((event["verdict"], event["pod"], event["destination"], event["port"]),
                         ("deny", "curl/curl", ORIGIN, HTTP_PORT))


if __name__ == "__main__":
    main()
