"""BoundaryCase: what a pod tries to get past the boundary, and what must be seen of it: nothing outside, one count, an
event with the reason.
"""

import contextlib

from support import frames
from support.case import WorldCase
from support.frames import ACK, ARP, IP4, IP6, PSH, SYN, TCP, UDP

DNS, DNS6 = "198.51.100.53", "2001:db8:51::53"


class BoundaryCase(WorldCase):
    CONFIG = {"dnsServers": [DNS, DNS6]}

    def denials(self, reason, protocol=None):
        labels = {"protocol": protocol} if protocol else {}
        return self.agent.metric("egressd_connections_total", verdict="deny", reason=reason, **labels)

    @contextlib.contextmanager
    def denied(self, reason, protocol=None, times=1):
        """What is done inside is counted as refused with that reason, `times` times (None: at least once), and told."""
        before = self.denials(reason, protocol)
        wanted = {"reason": reason, "verdict": "deny", **({"protocol": protocol} if protocol else {})}
        told, lost = len(self.agent.events(**wanted)), self.lost()
        yield
        if times is None:
            self.eventually(f"{reason} {protocol or ''} is counted", lambda: self.denials(reason, protocol) > before)
        else:
            self.eventually(f"{reason} {protocol or ''} is counted {times} times",
                            lambda: self.denials(reason, protocol) == before + times)
        # Of a pod that is refused more often than 200 times a second the rest is counted as lost.
        self.eventually("it is told", lambda: len(self.agent.events(**wanted)) > told or self.lost() > lost)

    def lost(self):
        return self.agent.metric("egressd_events_lost_total")

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
