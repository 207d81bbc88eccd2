"""A pod with thousands of slow connections: it is held to its bounds, and another pod does not notice."""

import contextlib
import errno
import os
import pathlib
import re
import resource
import select
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, namespaces
from support.case import Stream, WorldCase, main
from support.manifests import egress, port
from support.world import HTTP_PORT, ORIGIN, OTHER

SO_NETNS_COOKIE = 71
MOST = 4096      # settings.h, connections_per_pod; a quarter of what a third of the descriptors allow where that is less
WANTED = 10_000  # of which the rest are refused
UNDER_WAY = 1024  # EGRESS_MAX_HANDOVERS
BODIES, READERS = 150, 60
RULES = (egress("rules", port(HTTP_PORT, "http"), hosts=["allowed.test"]),
         egress("flood", port(HTTP_PORT, "http"), hosts=["allowed.test"], account="flood"))


def mapped(address):
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


def handover_key(sock, address):
    """struct handover_key of bpf/egress.h, of a bound socket."""
    cookie = sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    return cookie + struct.pack("!H6x", sock.getsockname()[1]) + mapped(address)


class Flood(WorldCase):
    OBJECTS = RULES

    @classmethod
    def setUpClass(cls):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        super().setUpClass()
        cls.flood = cls.world.add_pod("flood")
        cls.agent.apply(cls.flood.manifest())

    def most(self):
        """Connections that a pod may have."""
        limits = pathlib.Path(f"/proc/{self.agent.proxy_pid()}/limits").read_text(encoding="ascii")
        return min(MOST, int(re.search(r"Max open files +(\d+)", limits)[1]) // 3 // 4)

    def proxy(self):
        """(descriptors, resident bytes) of the proxy."""
        pid = self.agent.proxy_pid()
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return len(os.listdir(f"/proc/{pid}/fd")), int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10

    def open_slow(self, stack, number, start):
        """Connections of the flooding pod that begin as `start` says and then do nothing."""
        for _ in range(number):
            try:
                sock = stack.enter_context(self.flood.connect(ORIGIN, HTTP_PORT))
            except ConnectionResetError:  # already
                self.refused_early += 1
                continue
            with contextlib.suppress(ConnectionError):
                sock.sendall(start)
            yield sock

    def test_another_pods_requests_go_on_and_the_bounds_hold(self):
        self.refused_early = 0
        most = self.most()
        idle_descriptors, idle_bytes = self.proxy()
        with contextlib.ExitStack() as stack, self.http() as kept:
            streams = [Stream(lambda: self._served(kept)), Stream(lambda: self.assertEqual(self.get().status, 200))]
            slow = [*self.open_slow(stack, BODIES, b"POST /sha HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 9\r\n\r\nx"),
                    *self.open_slow(stack, READERS, clients.request("/bytes/4000000"))]
            rest = WANTED - len(slow)
            slow += [*self.open_slow(stack, rest // 2, b"GET /get HTTP/1.1\r\nX-Slow: "),
                     *self.open_slow(stack, rest // 4, b""),
                     *self.open_slow(stack, rest // 4, clients.request()[:-1])]
            self.eventually("no more than the bound are left, of which none is cut but slow heads, in time",
                            lambda: len(slow) + self.refused_early - self._refused(slow) <= most, 20)
            before = [stream.rounds for stream in streams]
            self.eventually("the other pod goes on", lambda: all(
                stream.error or stream.rounds > old + 50 for stream, old in zip(streams, before)), 30)
            descriptors, resident = self.proxy()
            self.assertLess(descriptors, idle_descriptors + most + BODIES + READERS + 200)
            self.assertLess(resident, idle_bytes + (64 << 20))
            self.assertTrue(self.agent.events(reason="table-full", pod=self.flood.key))
            for stream in streams:
                self.assertIsNone(stream.stop().error)
            self.assertEqual(self.get().status, 200)
        self.eventually("all of it is given back", lambda: self.proxy()[0] < idle_descriptors + 200, 20)
        self.assertEqual(self.get(pod=self.flood).status, 200)

    def test_connections_that_never_arrive_at_the_proxy_are_bounded(self):
        """Where they wanted to go is kept in a table that all pods share. With lo down no SYN reaches the proxy."""
        self.set_lo("down")
        try:
            with contextlib.ExitStack() as stack:
                results = []
                for _ in range(UNDER_WAY + 10):
                    sock = stack.enter_context(self.flood.socket())
                    sock.setblocking(False)
                    results.append(sock.connect_ex((ORIGIN, HTTP_PORT)))
                self.assertEqual(results, [errno.EINPROGRESS] * UNDER_WAY + [errno.ECONNREFUSED] * 10)
                self.assertTrue(self.agent.events(reason="table-full", hook="connect", pod=self.flood.key))
                self.assertEqual(self.get().status, 200)
        finally:
            self.set_lo("up")
        with contextlib.ExitStack() as stack:  # closed sockets make room again, and so do those that have arrived
            for _ in range(UNDER_WAY + 10):
                stack.enter_context(self.flood.connect(ORIGIN, HTTP_PORT))

    def test_a_destination_that_was_left_behind_is_not_the_next_connections(self):
        """An entry of the same source address and port, which leads elsewhere."""
        with self.flood.socket() as sock:
            sock.bind((self.flood.v4, 0))
            key = handover_key(sock, self.flood.v4)
            self.update_handover(key, mapped(OTHER) + struct.pack("!H", 1) + bytes(10))
            sock.connect((ORIGIN, HTTP_PORT))
            with clients.Http(sock) as connection:
                self.assertEqual(connection.ask().status, 200)

    def update_handover(self, key, value):
        namespaces.run("bpftool", "map", "update", "pinned", str(self.agent.bpffs / "handover"),
                       "key", *map(str, key), "value", *map(str, value))

    def set_lo(self, state):
        namespaces.run("nsenter", f"--net={self.flood.path}", "ip", "link", "set", "lo", state)

    def _served(self, connection):
        assert connection.ask().status == 200

    def _refused(self, sockets):
        """How many of the connections have been reset."""
        poll = select.poll()
        for sock in sockets:
            poll.register(sock, 0)
        reset = sum(1 for _, events in poll.poll(0) if events & (select.POLLERR | select.POLLHUP))
        return self.refused_early + reset


if __name__ == "__main__":
    main()
