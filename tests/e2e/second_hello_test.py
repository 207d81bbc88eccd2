"""The second ClientHello, for which a HelloRetryRequest asks, bears the name of the first or does not leave.

Both ends are OpenSSL. The servers here take no curve but P-256, for which no client offers a key unasked.
"""

import pathlib
import socket
import ssl
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, servers
from support.case import WorldCase, main
from support.manifests import egress, port
from support.world import ORIGIN, ORIGIN6

NUMBER, OLD_NUMBER = 4443, 4444  # TLS 1.3 that asks for a second hello; TLS 1.2
RULE = egress("tls", port(NUMBER, "https"), port(OLD_NUMBER, "https"), hosts=["allowed.test"])


def records(stream):
    """Type and body of each TLS record."""
    while stream:
        length = int.from_bytes(stream[3:5], "big")
        yield stream[0], stream[5:5 + length]
        stream = stream[5 + length:]


def count_hellos(stream):
    return sum(kind == 22 and body[:1] == b"\x01" for kind, body in records(stream))


class Client:
    """OpenSSL whose bytes the test carries."""

    def __init__(self, name="allowed.test"):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = ssl._create_unverified_context().wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def next_flight(self, received=b""):
        self.incoming.write(received)
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()


class SecondHello(WorldCase):
    OBJECTS = (RULE,)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        retry = servers.tls_context(cls.world.certificate, cls.world.folder / "key.pem")
        retry.minimum_version = ssl.TLSVersion.TLSv1_3
        retry.set_ecdh_curve("prime256v1")
        cls.server = cls.world.serve(NUMBER, servers.echo, retry)
        old = servers.tls_context(cls.world.certificate, cls.world.folder / "key.pem")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        cls.world.serve(OLD_NUMBER, servers.echo, old)

    def sent(self, position, address=ORIGIN):
        """What arrived of the pod's stream, in order, each byte once."""
        return b"".join(packet.payload for packet in self.arrived(position, address, NUMBER))

    def start(self, address=ORIGIN):
        """A connection whose server has asked for a second hello; the client, and its second flight."""
        client, sock = Client(), self.pod.connect(address, NUMBER)
        self.addCleanup(sock.close)
        sock.sendall(client.next_flight())
        answer = sock.recv(4096)
        flight = client.next_flight(answer)
        self.assertEqual(count_hellos(flight), 1, "the server has asked for a second hello")
        return sock, client, flight

    def test_passes_with_the_same_name(self):
        for address in (ORIGIN, ORIGIN6):
            position = self.world.wire.position()
            with clients.open_tls(self.pod.connect(address, NUMBER), "allowed.test") as connection:
                clients.exchange(connection)
            self.assertEqual(count_hellos(self.sent(position, address)), 2)

    def test_passes_in_pieces(self):
        sock, client, flight = self.start()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in flight:
            sock.send(bytes([byte]))
        answer = sock.recv(4096)
        sock.sendall(client.next_flight(answer))
        client.session.write(b"hello")
        sock.sendall(client.outgoing.read())
        while True:
            client.incoming.write(sock.recv(4096))
            try:
                self.assertEqual(client.session.read(100), b"hello")
                return
            except ssl.SSLWantReadError:
                pass

    def test_is_reset_with_another_name(self):
        for address in (ORIGIN, ORIGIN6):
            before = self.agent.metric("egressd_connections_total", reason="sni-mismatch")
            position, visits = self.world.wire.position(), self.server.position()
            sock, _, flight = self.start(address)
            sock.sendall(flight.replace(b"allowed.test", b"blocked.test"))
            self.assertRaises(ConnectionResetError, sock.recv, 4096)
            self.assertNotIn(b"blocked", self.sent(position, address))
            self.assertEqual(count_hellos(self.sent(position, address)), 1)
            self.assertIsNotNone(self.server.since(visits)[0].wait_for_end(), "the server is told too")
            event = self.eventually("it is told", lambda: self.agent.events(sni="blocked.test", destination=address))[-1]
            self.assertEqual((event["verdict"], event["reason"]), ("deny", "sni-mismatch"))
            self.eventually("it is counted", lambda: self.agent.metric(
                "egressd_connections_total", reason="sni-mismatch") == before + 1)

    def test_is_reset_when_the_name_comes_in_pieces(self):
        sock, _, flight = self.start()
        position = self.world.wire.position()  # much of the second hello stands in the first, too
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flight = flight.replace(b"allowed.test", b"blocked.test")
        end = flight.index(b"blocked.test") + len(b"blocked.test")
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            for byte in flight:
                sock.send(bytes([byte]))
            sock.recv(4096)
        self.assertNotIn(b"blocked.test", self.sent(position))
        self.assertNotIn(flight[end:end + 40], self.sent(position))

    def test_does_not_leave_before_it_is_asked_for(self):
        """Nor when it is: it is another one."""
        _, _, flight = self.start()
        position = self.world.wire.position()
        with self.pod.connect(ORIGIN, NUMBER) as sock:
            sock.sendall(Client().next_flight())
            sock.sendall(flight.replace(b"allowed.test", b"blocked.test"))
            with self.assertRaises(ConnectionResetError):
                while sock.recv(4096):
                    pass
        self.assertNotIn(b"blocked", self.sent(position))

    def test_of_tls_1_2_there_is_none(self):
        """Also when a session is resumed: then the client's next records are sent on and not looked at."""
        context = ssl._create_unverified_context()
        session = None
        for resumed in (False, True, True, True):
            with context.wrap_socket(self.pod.connect(ORIGIN, OLD_NUMBER), server_hostname="allowed.test",
                                     session=session) as connection:
                clients.exchange(connection)
                self.assertEqual((connection.version(), connection.session_reused), ("TLSv1.2", resumed))
                session = connection.session


if __name__ == "__main__":
    main()
