"""ClientHellos as no TLS library sends them: what a server receives of one whose name is not listed ends before the end
of the name, and of one that cannot be read at all.
"""

import pathlib
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import hellos, servers
from support.boundary import BoundaryCase
from support.case import main
from support.hellos import VERSIONS, extension, key_share, message, padding, records, server_name, vector
from support.manifests import egress, port
from support.world import ORIGIN, ORIGIN6

SINK = 4443
ALLOWED, DENIED = "allowed.test", "denied.test"


def end_of_name(stream, name):
    """How many bytes of the stream come before the last one of the name."""
    return stream.rindex(name.encode()[-5:]) + 4


class Hellos(BoundaryCase):
    OBJECTS = (egress("rules", port(SINK, "https"), hosts=[ALLOWED, "*.wild.test", "x" * 63 + ".test"]),)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sink = cls.world.serve(SINK, servers.swallow)

    def open(self, address=ORIGIN):
        """(the pod's socket, what the server sees of it)."""
        before = self.sink.position()
        sock = self.pod.connect(address, SINK)
        self.addCleanup(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock, self.sink.wait_for_visit(before)

    def send(self, sock, stream, size):
        """In segments of `size` bytes."""
        for at in range(0, len(stream), size):
            sock.sendall(stream[at:at + size])

    def assert_reset(self, sock, stream, size=1 << 16):
        """While it sends, or behind that."""
        with self.assertRaises(ConnectionError):
            self.send(sock, stream, size)
            sock.recv(1)

    def assert_passes(self, stream, size=1 << 16, address=ORIGIN):
        sock, visit = self.open(address)
        self.send(sock, stream + b"what follows", size)
        self.assertTrue(visit.wait_for_bytes(len(stream) + 12), f"{visit.total} of {len(stream) + 12} bytes arrived")
        self.assertEqual(bytes(visit.data), stream + b"what follows")

    def assert_refused_hello(self, stream, reason, size=1 << 16, most=None, address=ORIGIN):
        """Both ends are reset; the server has received a prefix of the stream of at most `most` bytes."""
        sock, visit = self.open(address)
        with self.denied(reason, "https"):
            self.assert_reset(sock, stream, size)
        self.assertEqual(visit.wait_for_end(), "reset")
        self.assertTrue(stream.startswith(bytes(visit.data)))
        self.assertLessEqual(visit.total, len(stream) if most is None else most)

    def test_a_listed_name_passes_in_pieces_of_any_size(self):
        for address in (ORIGIN, ORIGIN6):
            for size in (1, 3, 64, 700):
                with self.subTest(address=address, size=size):
                    self.assert_passes(hellos.hello(ALLOWED), size, address)

    def test_an_unlisted_name_never_leaves_whole_whatever_the_pieces(self):
        for address in (ORIGIN, ORIGIN6):
            for size in (1, 3, 64, 700):
                with self.subTest(address=address, size=size):
                    stream = hellos.hello(DENIED)
                    self.assert_refused_hello(stream, "sni-mismatch", size, end_of_name(stream, DENIED), address)

    def test_a_cut_in_the_middle_of_the_name(self):
        for name, cut in ((ALLOWED, 4), (DENIED, 4)):
            stream = hellos.hello(name)
            at = stream.index(name.encode()) + cut
            sock, visit = self.open()
            sock.sendall(stream[:at])
            self.assertTrue(visit.wait_for_bytes(at), "what is before the cut leaves")
            if name == ALLOWED:
                sock.sendall(stream[at:])
                self.assertTrue(visit.wait_for_bytes(len(stream)))
                continue
            with self.denied("sni-mismatch", "https"):
                self.assert_reset(sock, stream[at:])
            self.assertEqual(visit.total, at)

    def test_records_of_one_byte(self):
        self.assert_passes(records(message(server_name(ALLOWED), VERSIONS), 1))
        stream = records(message(server_name(DENIED), VERSIONS), 1)
        self.assert_refused_hello(stream, "sni-mismatch", most=0)
        self.assert_refused_hello(stream, "sni-mismatch", 50)

    def test_large_hellos(self):
        large = {"of post-quantum size": [server_name("{}"), VERSIONS, key_share(1216)],
                 "with the name behind the key share": [VERSIONS, key_share(1216), server_name("{}")],
                 "padded to 16 KB in front of the name": [padding(15900), server_name("{}")],
                 "padded to 16 KB behind the name": [server_name("{}"), padding(15900)]}
        for what, parts in large.items():
            for size in (1 << 16, 1000):
                with self.subTest(what, size=size):
                    def build(name):
                        return records(message(*(server_name(name) if part == server_name("{}") else part
                                                 for part in parts)))
                    self.assert_passes(build(ALLOWED), size)
                    stream = build(DENIED)
                    self.assert_refused_hello(stream, "sni-mismatch", size, end_of_name(stream, DENIED))

    def test_names_are_compared_without_case_and_trailing_dot(self):
        for name in ("ALLOWED.test", "allowed.test.", "a.b.WILD.test", "x" * 63 + ".test"):
            with self.subTest(name):
                self.assert_passes(hellos.hello(name))
        for name in ("wild.test", "xallowed.test", "allowed.test.evil.test", "allowed.tes", "y" + "x" * 62 + ".test"):
            with self.subTest(name):
                self.assert_refused_hello(hellos.hello(name), "sni-mismatch", most=0)

    def test_what_two_readers_could_read_differently_is_refused(self):
        name = server_name(ALLOWED)
        other = {
            "two names": [server_name(ALLOWED, DENIED)],
            "the extension twice": [name, server_name(DENIED)],
            "the extension twice, the other first": [server_name(DENIED), VERSIONS, name],
            "a name of another type": [server_name(ALLOWED, kind=1)],
            "a NUL behind the name": [server_name(ALLOWED.encode() + b"\0")],
            "a NUL and another name": [server_name(ALLOWED.encode() + b"\0." + DENIED.encode())],
            "256 characters": [server_name("a." * 122 + ALLOWED)],
            "a thousand characters": [server_name("a." * 500 + ALLOWED)],
            "an empty name": [server_name("")], "a dot": [server_name(".")],
            "an empty label": [server_name("a..wild.test")], "two dots at the end": [server_name(ALLOWED + "..")],
            "a leading dot": [server_name("." + ALLOWED)],
            "a space": [server_name("allowed.test ")], "a slash": [server_name("a/b.wild.test")],
            "an asterisk": [server_name("*.wild.test")], "a letter beyond ASCII": [server_name("ä.wild.test")],
            "a colon": [server_name("allowed.test:443")], "a line feed": [server_name("allowed.test\n")],
            "an empty list": [extension(0, vector(2, b"") + bytes(4))],
            "a list that is longer than the extension": [extension(0, b"\0\x20\0\0\x0c" + ALLOWED.encode())],
            "bytes behind the list": [extension(0, vector(2, b"\0" + vector(2, ALLOWED.encode())) + b"\0")],
        }
        for what, extensions in other.items():
            with self.subTest(what):
                self.assert_refused_hello(records(message(*extensions, VERSIONS)), "no-sni", most=0)

    def test_a_hello_without_a_name_is_refused(self):
        self.assert_refused_hello(records(message(VERSIONS, key_share())), "no-sni", most=0)

    def test_what_is_no_client_hello_is_refused(self):
        good = message(server_name(ALLOWED), VERSIONS)
        other = {
            "HTTP": b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "SSH": b"SSH-2.0-OpenSSH_9\r\n",
            "zeros": bytes(200), "an SSLv2 hello": b"\x80\x2e\1\3\1\0\x15\0\0\0\x10" + bytes(37),
            "an empty record": b"\x16\3\1\0\0" + records(good),
            "an alert": b"\x15\3\1\0\2\1\0", "application data": b"\x17\3\3\0\5hello",
            "a ServerHello": records(b"\2" + good[1:]), "a record of TLS 4": b"\x16\4" + records(good)[2:],
            "a record of 17 KB": b"\x16\3\1" + struct.pack("!H", 17000) + good + bytes(17000 - len(good)),
            "another record inside the hello": records(good)[:5 + 40].replace(
                struct.pack("!H", len(good)), struct.pack("!H", 40), 1) + b"\x17\3\3\0\5hello",
            "a message that says it is 20 MB long": records(b"\1\xff\xff\xff" + good[4:]),
            "an empty server_name": records(message(extension(0, b""))),
            "an extension that is longer than the rest": records(message(extension(16, bytes(9))[:3] + b"\xff")),
        }
        for what, stream in other.items():
            with self.subTest(what):
                self.assert_refused_hello(stream, "not-tls", most=0)

    def test_a_hello_that_never_ends_is_refused_and_its_bytes_are_bounded(self):
        stream = records(message(padding(60000)))
        self.assert_refused_hello(stream, "not-tls", 1000, 20000)

    def test_urgent_data_before_the_name_is_judged_is_refused(self):
        """It is in the stream that the boundary reads, but not in what a server reads."""
        stream = hellos.hello(ALLOWED)
        at = stream.index(ALLOWED.encode())
        sock, visit = self.open()
        sock.sendall(stream[:at])
        self.assertTrue(visit.wait_for_bytes(at))
        with self.denied("not-tls", "https"):
            sock.send(stream[at:at + 1], socket.MSG_OOB)
            self.assertEqual(visit.wait_for_end(), "reset")
        self.assertEqual(visit.total, at)

    def test_what_the_server_says_first_arrives_and_silence_is_no_offence(self):
        sock, visit = self.open()
        visit.sock.sendall(b"220 hello")
        self.assertEqual(sock.recv(100), b"220 hello")
        sock.sendall(hellos.hello(ALLOWED))
        self.assertTrue(visit.wait_for_bytes(100))

    def test_a_small_mss_changes_nothing(self):
        for name in (ALLOWED, DENIED):
            before = self.sink.position()
            sock = self.pod.socket()
            self.addCleanup(sock.close)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 100)
            sock.connect((ORIGIN, SINK))
            visit = self.sink.wait_for_visit(before)
            stream = records(message(VERSIONS, key_share(1216), server_name(name)))
            if name == ALLOWED:
                sock.sendall(stream)
                self.assertTrue(visit.wait_for_bytes(len(stream)))
                continue
            with self.denied("sni-mismatch", "https"):
                self.assert_reset(sock, stream)
            self.assertLessEqual(visit.total, end_of_name(stream, name))


if __name__ == "__main__":
    main()
