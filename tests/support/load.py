"""What a pod does all the time while agents come and go under it."""

import socket

from support import clients
from support.case import Stream
from support.world import ORIGIN, OTHER, TLS_PORT


class Load:
    """Live connections, and connections that are opened without a pause, allowed and denied ones.

    allowed, denied: TCP ports of an echo. tls: allowed.test is allowed by https, denied.test is not.
    """

    def __init__(self, case, pod, allowed, denied, tls=False):
        self.case, self.pod, self.allowed, self.denied, self.wrong = case, pod, allowed, denied, []
        self.position = case.world.wire.position()
        self.live = pod.connect(ORIGIN, allowed)
        self.udp = pod.socket(kind=socket.SOCK_DGRAM)
        self.sockets = [self.live, self.udp]
        self.going_on = [Stream(lambda: clients.exchange(self.live), 0.002)]
        self.streams = [*self.going_on, Stream(self._allowed), Stream(self._denied), Stream(self._datagram, 0.002)]
        if tls:
            self._start_tls()

    def _start_tls(self):
        self.tls = self.case.tls("allowed.test", pod=self.pod)
        self.sockets.append(self.tls.sock)
        live = Stream(self._tls_request, 0.002)
        self.going_on.append(live)
        self.streams += [live, Stream(self._allowed_tls), Stream(self._denied_tls)]

    def _tls_request(self):
        assert self.tls.ask().status == 200

    def _allowed(self):
        with self.pod.connect(ORIGIN, self.allowed) as sock:
            clients.exchange(sock)

    def _allowed_tls(self):
        with self.case.tls("allowed.test", pod=self.pod) as connection:
            assert connection.ask().status == 200

    def _denied(self):
        try:
            self.pod.connect(ORIGIN, self.denied).close()
            self.wrong.append(f"a connection to port {self.denied} was made")
        except ConnectionRefusedError:
            pass

    def _denied_tls(self):
        try:
            self.case.tls("denied.test", OTHER, pod=self.pod).sock.close()
            self.wrong.append("a TLS session with denied.test was made")
        except ConnectionResetError:
            pass

    def _datagram(self):
        try:
            self.udp.sendto(b"datagram", (ORIGIN, self.denied))
            self.wrong.append("a datagram was sent")
        except PermissionError:
            pass

    def more(self, rounds=20):
        """Waits for so many rounds of each."""
        before = [stream.rounds for stream in self.streams]
        self.case.eventually("all streams go on", lambda: any(stream.error for stream in self.streams) or all(
            stream.rounds >= old + rounds for stream, old in zip(self.streams, before)), 30)

    def finish(self):
        """Nothing has failed, no live connection stood still, and nothing of what is denied has arrived."""
        errors = [stream.stop().error for stream in self.streams]
        for sock in self.sockets:
            sock.close()
        self.case.assertEqual([error for error in errors if error], [])
        self.case.assertEqual(self.wrong, [])
        self.case.assertLess(max(stream.longest for stream in self.going_on), 1)
        self.case.assert_nothing_arrived(self.position, ORIGIN, self.denied, self.pod)
        self.case.assert_no_bytes_arrived(self.position, OTHER, TLS_PORT, self.pod)
