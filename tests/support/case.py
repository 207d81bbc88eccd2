"""WorldCase: a test class with a world, one pod and a running agent, and the assertions that tests share.

A denial counts only when the outside has received nothing of it: the assertions look at the packets that arrived.
"""

import os
import signal
import sys
import threading
import time
import unittest

from support import clients, manifests
from support.manifests import egress, port
from support.world import HTTP_PORT, ORIGIN, TLS_PORT, World

IPPROTO_TCP = 6


class WorldCase(unittest.TestCase):
    """CONFIG: over the default configuration. OBJECTS: manifests that stand from the start."""

    CONFIG = {}
    OBJECTS = ()
    START = True  # the agent, in setUpClass

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        cls.pod = cls.world.add_pod()
        cls.agent = cls.make_agent()
        cls.agent.apply(manifests.namespace("curl"), cls.pod.manifest(), *cls.OBJECTS)
        if cls.START:
            cls.agent.start()

    @classmethod
    def make_agent(cls):
        return cls.world.add_agent(config=cls.CONFIG)

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before and getattr(self, "agent", None):
            print(f"---- {self.id()}: the agent's log ends with\n{self.agent.log()[-3000:]}", file=sys.stderr)

    # ---- Policy ----

    def apply(self, *items):
        """In force until the test ends."""
        self.addCleanup(self.agent.delete, *items)
        self.agent.apply(*items)

    def allow(self, name, *ports, **options):
        self.apply(egress(name, *ports, **options))

    def delete(self, *items):
        self.agent.delete(*items)

    # ---- Waiting ----

    def eventually(self, what, predicate, timeout=5):
        """Waits until predicate() is true, for what has no event; its value."""
        end = time.monotonic() + timeout
        while not (value := predicate()):
            if time.monotonic() > end:
                self.fail(f"not within {timeout} s: {what}")
            time.sleep(0.01)
        return value

    # ---- What the outside received ----

    def arrived(self, position, address, number, source=None):
        """Packets from the pod that arrived for an address and port since `position`."""
        own = {source.v4, source.v6} if source else {pod.v4 for pod in self.world.pods.values()} | \
            {pod.v6 for pod in self.world.pods.values()}
        return [packet for packet in self.world.wire.since(position)
                if packet.destination == address and packet.port == number and packet.source in own]

    def assert_nothing_arrived(self, position, address, number, source=None):
        packets = self.arrived(position, address, number, source)
        self.assertEqual(packets, [], f"{len(packets)} packets for {address} port {number} left the pod")

    def assert_no_bytes_arrived(self, position, address, number, source=None):
        """A handshake may have arrived, but no byte of payload."""
        packets = [packet for packet in self.arrived(position, address, number, source) if packet.length]
        self.assertEqual(packets, [], f"payload for {address} port {number} left the pod")

    # ---- Probes ----

    def assert_reaches(self, address, number, pod=None):
        with (pod or self.pod).connect(address, number) as sock:
            clients.exchange(sock)

    def assert_refused(self, address, number, pod=None):
        """Refused at once, and not a packet has arrived."""
        pod = pod or self.pod
        position = self.world.wire.position()
        with self.assertRaises(ConnectionRefusedError, msg=f"{address} port {number}"):
            pod.connect(address, number).close()
        self.assert_nothing_arrived(position, address, number, pod)

    def http(self, address=ORIGIN, number=HTTP_PORT, pod=None, timeout=5):
        return clients.Http((pod or self.pod).connect(address, number, timeout))

    def get(self, target="/get", address=ORIGIN, number=HTTP_PORT, pod=None, **options):
        """The response to one request on a connection of its own."""
        with self.http(address, number, pod) as connection:
            return connection.ask(target, **options)

    def assert_request_denied(self, status, target="/get", pod=None, **options):
        """Answered with `status` by the proxy; no request has reached the origin."""
        position = self.world.origin.position()
        self.assertEqual(self.get(target, pod=pod, **options).status, status)
        self.world.wire.sync()
        self.assertEqual([request.target for request in self.world.origin.since(position)], [])

    def tls(self, name, address=ORIGIN, number=TLS_PORT, pod=None, timeout=5):
        sock = (pod or self.pod).connect(address, number, timeout)
        try:
            return clients.Http(clients.open_tls(sock, name))
        except BaseException:
            sock.close()
            raise

    def assert_tls_passes(self, name, address=ORIGIN, number=TLS_PORT, pod=None):
        with self.tls(name, address, number, pod) as connection:
            self.assertEqual(connection.ask(host=name or "x").status, 200)

    def assert_tls_reset(self, name, address=ORIGIN, number=TLS_PORT, pod=None):
        """Reset at the ClientHello, of which no byte has arrived."""
        position = self.world.wire.position()
        with self.assertRaises(ConnectionResetError, msg=f"{name} at {address} port {number}"):
            self.tls(name, address, number, pod).sock.close()
        self.assert_no_bytes_arrived(position, address, number, pod)


class Stream:
    """Something that a test does again and again in the background: work() once, until stop()."""

    def __init__(self, work, pause=0.001):  # the recorder of the wire has to keep up, on one slow CPU too
        self.work, self.pause = work, pause
        self.rounds, self.longest, self.error = 0, 0.0, None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        last = time.monotonic()
        while not self._stop.is_set():
            try:
                self.work()
            except BaseException as error:  # the test asks for it
                self.error = error
                return
            now = time.monotonic()
            self.rounds, self.longest, last = self.rounds + 1, max(self.longest, now - last), now
            self._stop.wait(self.pause)

    def stop(self):
        self._stop.set()
        self._thread.join(20)
        return self


def tcp_port(number):
    return port(number, "tcp")


def main():
    """Runs the tests of a file. Needs root; a signal ends them with the clean-up."""
    if os.geteuid() != 0:
        sys.exit("these tests make network namespaces: run them as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    unittest.main(verbosity=2, warnings="ignore")  # of sockets that the connection's end closes
