"""BoundaryCase: what a pod tries to get past the boundary, and what must be seen of it: nothing outside, one count, an
event with the reason.
"""

import contextlib
import time

from support import frames
from support.case import WorldCase
from support.frames import ACK, ARP, IP4, IP6, PSH, SYN, TCP, UDP

WINDOW_BITS = 30
DNS, DNS6 = "198.51.100.53", "2001:db8:51::53"


class BoundaryCase(WorldCase):
    CONFIG = {"dnsServers": [DNS, DNS6]}
    budget = 0, 0  # a window of the kernel's bound on events, and what had been refused when it was first seen

    def denials(self, reason, protocol=None):
        labels = {"protocol": protocol} if protocol else {}
        return self.agent.metric("egressd_connections_total", verdict="deny", reason=reason, **labels)

    @contextlib.contextmanager
    def denied(self, reason, protocol=None, times=1):
        """What is done inside is counted as refused with that reason, `times` times (None: at least once), and told."""
        before = self.denials(reason, protocol)
        wanted = {"reason": reason, "verdict": "deny", **({"protocol": protocol} if protocol else {})}
        self.await_event_budget()
        told = len(self.agent.events(**wanted))
        yield
        if times is None:
            self.eventually(f"{reason} {protocol or ''} is counted", lambda: self.denials(reason, protocol) > before)
        else:
            self.eventually(f"{reason} {protocol or ''} is counted {times} times",
                            lambda: self.denials(reason, protocol) == before + times)
        self.eventually("it is told", lambda: len(self.agent.events(**wanted)) > told)

    def await_event_budget(self):
        """The kernel tells 200 refusals of a pod in each window of 2^30 ns: leaves room in it for some more."""
        now, refused = time.monotonic_ns(), self.agent.metric("egressd_connections_total", verdict="deny")
        window, refused_before = BoundaryCase.budget
        if now >> WINDOW_BITS == window and refused - refused_before > 100:
            time.sleep((((window + 1) << WINDOW_BITS) - now) / 1e9)
            now = time.monotonic_ns()
        if now >> WINDOW_BITS != window:
            BoundaryCase.budget = (now >> WINDOW_BITS, refused)

    def new_sender(self, pod=None):
        sender = frames.Sender(pod or self.pod)
        self.addCleanup(sender.close)
        return sender

    def assert_token_stays(self, position, token):
        """Not one packet with these bytes has arrived."""
        leaked = [packet for packet in self.world.wire.since(position) if token in packet.payload]
        self.assertEqual(leaked, [], "it left the pod")

    def assert_token_arrives(self, position, token):
        self.assertIsNotNone(self.world.wire.wait_for(position, lambda packet: token in packet.payload),
                             "the allowed twin did not arrive")

    def assert_answers(self, sock, text=b"question"):
        """A datagram from a pod's socket to an outside echo comes back."""
        sock.send(text)
        self.assertEqual(sock.recv(1000), text)


def gateway_mac(pod, interface=None):
    """The MAC of the node's side, as the pod sends to it."""
    from support import namespaces
    text = namespaces.run("ip", "-n", pod.world.node, "-o", "link", "show", "dev", interface or pod.link)
    return frames.mac(text.split("link/ether ")[1].split()[0])
