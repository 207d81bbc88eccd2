"""Replies: what came in over the interface may be answered, and nothing that a pod does itself counts as coming in."""

import contextlib
import pathlib
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, frames, namespaces, servers
from support.boundary import BoundaryCase, gateway_mac
from support.case import main
from support.frames import ACK, ICMP, ICMP6, IP4, IP6, PSH, RST, SYN, TCP, ethernet, icmp, ip, tcp
from support.manifests import egress, port
from support.wire import ETH_P_ALL
from support.world import ORIGIN, ORIGIN6, OTHER

TCP_REPAIR = 19


class Inbound(BoundaryCase):
    OBJECTS = (egress("rules", port(5000, "tcp"), port(4443, "https"), hosts=["allowed.test"]),)

    def setUp(self):
        self.gateway = gateway_mac(self.pod)
        self.sender = self.new_sender()

    # ---- The outside ----

    def outside_socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0, address=ORIGIN, number=0):
        def make():
            made = socket.socket(family, kind, protocol)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, namespaces.IPV6_FREEBIND, 1)
            if address:
                made.bind((address, number))
            return made
        made = namespaces.in_netns(self.world.outside_path, make)
        made.settimeout(5)
        self.addCleanup(made.close)
        return made

    def listener(self, number, family=socket.AF_INET, backlog=16):
        made = self.pod.socket(family)
        self.addCleanup(made.close)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", number))
        made.listen(backlog)
        return made

    def come_in(self, listener, address=ORIGIN):
        """A connection from outside: (the pod's end, the outside's end)."""
        own = self.pod.v6 if ":" in address else self.pod.v4
        there = self.outside_socket(listener.family, address=address)
        there.connect((own, listener.getsockname()[1]))
        here, _ = listener.accept()
        self.addCleanup(here.close)
        here.settimeout(5)
        return here, there

    def assert_carries(self, here, there):
        for one, two in ((here, there), (there, here)):
            token = frames.token()
            one.sendall(token)
            self.assertEqual(two.recv(100), token)

    def assert_frame_stays(self, reason, protocol, frame, token=None):
        """A frame of the pod's own: dropped and told."""
        position = self.world.wire.position()
        with self.denied(reason, protocol):
            self.sender.send(frame)
        if token:
            self.assert_token_stays(position, token)

    def segment(self, to, source_port, number, flags, payload=b"", **options):
        own = self.pod.v6 if ":" in to else self.pod.v4
        return ethernet(self.gateway, self.sender.mac, IP6 if ":" in to else IP4,
                        ip(own, to, TCP, tcp(own, to, source_port, number, flags, payload, **options)))

    # ---- Replies pass ----

    def test_a_connection_that_came_in_carries_both_ways(self):
        for address, family in ((ORIGIN, socket.AF_INET), (ORIGIN6, socket.AF_INET6)):
            with self.subTest(address):
                here, there = self.come_in(self.listener(7000, family), address)
                self.assert_carries(here, there)
                self.assert_refused(address, 5001)

    def test_a_datagram_that_came_in_is_answered_on_its_very_flow_only(self):
        for address, family in ((ORIGIN, socket.AF_INET), (ORIGIN6, socket.AF_INET6)):
            with self.subTest(address), self.pod.socket(family, socket.SOCK_DGRAM) as server:
                server.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 7001))
                there = self.outside_socket(family, socket.SOCK_DGRAM, address=address)
                there.sendto(b"question", (self.pod.v6 if family == socket.AF_INET6 else self.pod.v4, 7001))
                _, peer = server.recvfrom(100)
                server.sendto(b"answer", peer)
                self.assertEqual(there.recv(100), b"answer")
                position = self.world.wire.position()
                with self.denied("protocol", "udp"):
                    self.assertRaises(PermissionError, server.sendto, b"x", (address, peer[1] ^ 1))
                self.assert_nothing_arrived(position, address, peer[1] ^ 1)

    def test_an_echo_that_came_in_is_answered(self):
        for address, kind, family, protocol in ((ORIGIN, 8, socket.AF_INET, ICMP), (ORIGIN6, 128, socket.AF_INET6, ICMP6)):
            with self.subTest(address):
                own = self.pod.v6 if ":" in address else self.pod.v4
                pinger, token = self.outside_socket(family, socket.SOCK_RAW, protocol, address), frames.token()
                position = self.world.wire.position()
                pinger.sendto(icmp(address, own, kind, rest=b"\x12\x34\0\1", payload=token), (own, 0))
                self.assert_token_arrives(position, token)
                other = frames.token()
                answer = icmp(own, address, kind ^ 8 if kind == 8 else 129, rest=b"\x56\x78\0\1", payload=other)
                self.assert_frame_stays("protocol", "icmp", ethernet(
                    self.gateway, self.sender.mac, IP6 if ":" in own else IP4, ip(own, address, protocol, answer)), other)

    def test_an_error_that_the_pods_kernel_owes_reaches_the_sender(self):
        """Port unreachable, for a datagram that came in."""
        there = self.outside_socket(kind=socket.SOCK_DGRAM)
        there.connect((self.pod.v4, 7999))
        there.send(b"x")
        self.assertRaises(ConnectionRefusedError, there.recv, 10)

    # ---- Forged errors ----

    def owed_error(self, to, protocol, source_port, number, token):
        """An ICMP error that quotes a packet from `to`, with bytes of the pod's choice behind."""
        own = self.pod.v6 if ":" in to else self.pod.v4
        quoted = ip(to, own, protocol, struct.pack("!HHI", number, source_port, 1))
        kind, family, name = (1, IP6, ICMP6) if ":" in to else (3, IP4, ICMP)
        return ethernet(self.gateway, self.sender.mac, family, ip(own, to, name, icmp(
            own, to, kind, 3, payload=quoted + token)))

    def test_an_error_for_an_allowed_connection_passes_and_for_none_stays(self):
        for address in (ORIGIN, ORIGIN6):
            with self.subTest(address), self.pod.connect(address, 5000) as live:
                number = live.getsockname()[1]
                position, token = self.world.wire.position(), frames.token()
                self.sender.send(self.owed_error(address, TCP, number, 5000, token))
                self.world.wire.sync()
                self.assertTrue(any(packet.protocol in (ICMP, ICMP6) for packet in self.world.wire.since(position)))
                for source_port, port_number in ((number, 5001), (number ^ 1, 5000)):
                    other = frames.token()
                    self.assert_frame_stays("protocol", "icmp", self.owed_error(
                        address, TCP, source_port, port_number, other))

    def test_an_error_tells_nothing_to_a_server_whose_name_is_not_judged(self):
        self.world.serve(4443, servers.swallow)
        for address in (OTHER, ORIGIN6):
            with self.subTest(address), self.pod.connect(address, 4443) as undecided:
                position, token = self.world.wire.position(), frames.token()
                with self.denied("protocol", "icmp"):
                    self.sender.send(self.owed_error(address, TCP, undecided.getsockname()[1], 4443, token))
                self.assertEqual([packet for packet in self.world.wire.since(position)
                                  if packet.protocol in (ICMP, ICMP6)], [])

    # ---- "Inbound" cannot be forged ----

    def test_a_syn_ack_for_a_syn_that_never_came_stays(self):
        for address in (ORIGIN, ORIGIN6):
            self.assert_frame_stays("no-socket", "tcp", self.segment(address, 7000, 5001, SYN | ACK, acknowledged=100))

    def test_a_syn_ack_answers_its_very_syn_only_and_carries_nothing(self):
        outside, (sequence, number) = self.outside_socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_TCP), (5555, 6001)
        outside.sendto(tcp(ORIGIN, self.pod.v4, number, 7444, SYN, sequence=sequence), (self.pod.v4, 0))
        self.world.wire.sync()
        position = self.world.wire.position()
        self.sender.send(self.segment(ORIGIN, 7444, number, SYN | ACK, acknowledged=sequence + 1))
        self.assertIsNotNone(self.world.wire.wait_for(position, lambda packet: packet.flags == SYN | ACK))
        for flags, options in ((SYN | ACK, {"acknowledged": sequence}), (SYN, {}),
                               (SYN | ACK, {"acknowledged": sequence + 1, "payload": frames.token()}),
                               (ACK | PSH, {"payload": frames.token()})):
            with self.subTest(flags=flags, **options):
                self.assert_frame_stays("no-socket", "tcp", self.segment(ORIGIN, 7444, number, flags, **options),
                                        options.get("payload"))

    def test_a_raw_syn_over_lo_with_a_foreign_source_makes_nothing_inbound(self):
        listener = self.listener(7002)
        lo = frames.Sender(self.pod, "lo")
        self.addCleanup(lo.close)
        position = self.world.wire.position()
        with self.denied("no-socket", "tcp", None):
            lo.send(ethernet(bytes(6), bytes(6), IP4, ip(
                OTHER, self.pod.v4, TCP, tcp(OTHER, self.pod.v4, 5001, 7002, SYN, sequence=1000))))
        with self.denied("spoofed-source", "tcp"):  # the same to its own address, over eth0
            self.sender.send(ethernet(self.gateway, self.sender.mac, IP4, ip(
                OTHER, self.pod.v4, TCP, tcp(OTHER, self.pod.v4, 5002, 7002, SYN, sequence=1000))))
        self.assert_nothing_arrived(position, OTHER, 5001)
        listener.close()

    def test_a_passive_socket_that_was_made_over_lo_sends_nothing_outside(self):
        """The handshake is completed by raw segments on lo: a genuine accepted socket, whose peer is outside."""
        listener = self.listener(7003)
        lo = frames.Sender(self.pod, "lo")
        self.addCleanup(lo.close)

        def send(flags, **options):
            lo.send(ethernet(bytes(6), bytes(6), IP4, ip(
                OTHER, self.pod.v4, TCP, tcp(OTHER, self.pod.v4, 5001, 7003, flags, **options))))
        outgoing = self.outgoing()
        send(SYN, sequence=1000)
        answer = outgoing(SYN | ACK)
        sequence = int.from_bytes(answer[14 + 20 + 4:14 + 20 + 8], "big")
        position = self.world.wire.position()
        send(ACK, sequence=1001, acknowledged=sequence + 1)
        here, peer = listener.accept()
        self.addCleanup(here.close)
        self.assertEqual(peer, (OTHER, 5001))
        token = frames.token()
        with self.denied("revoked", "tcp", None):
            here.send(token)
        self.assert_token_stays(position, token)

    def outgoing(self):
        """Frames that leave by the pod's eth0: a function that waits for the first with these TCP flags."""
        sniffer = self.pod.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sniffer.bind(("eth0", ETH_P_ALL))
        self.addCleanup(sniffer.close)

        def wait(flags):
            while True:
                frame = sniffer.recv(1 << 16)
                if frame[12:14] == b"\x08\0" and frame[23] == TCP and frame[14 + 20 + 13] == flags:
                    return frame
        return wait

    def test_a_tuple_is_worth_nothing_once_its_connection_is_closed(self):
        listener = self.listener(7004)
        here, there = self.come_in(listener)
        listener.close()
        self.assert_carries(here, there)
        number = there.getsockname()[1]
        here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        here.close()
        self.assertRaises(ConnectionResetError, there.recv, 1)
        there.close()
        token = frames.token()
        self.assert_frame_stays("no-socket", "tcp", self.segment(ORIGIN, 7004, number, ACK | PSH, token), token)
        self.assert_frame_stays("no-socket", "tcp", self.segment(ORIGIN, 7004, number, SYN))
        with self.pod.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind((self.pod.v4, 7004))
            self.assertRaises(ConnectionRefusedError, again.connect, (ORIGIN, number))

    def test_simultaneous_open_gains_nothing(self):
        """A colluding server sends a SYN to the port that the pod connects from."""
        position = self.world.wire.position()
        outside = self.outside_socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_TCP)
        outside.sendto(tcp(ORIGIN, self.pod.v4, 5001, 7005, SYN, sequence=77), (self.pod.v4, 0))
        with self.pod.socket() as sock:
            sock.bind((self.pod.v4, 7005))
            with self.denied("policy", "tcp"):
                self.assertRaises(ConnectionRefusedError, sock.connect, (ORIGIN, 5001))
            self.assert_frame_stays("no-socket", "tcp", self.segment(ORIGIN, 7005, 5001, SYN))
        self.assertEqual([packet for packet in self.arrived(position, ORIGIN, 5001) if not packet.flags & RST], [])

    def test_a_repaired_socket_has_no_stream_whose_begin_was_seen(self):
        """CAP_NET_ADMIN makes an established socket without a handshake."""
        self.assert_refused(ORIGIN, 5001)
        with self.pod.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            with self.denied("policy", "tcp"):
                self.assertRaises(ConnectionRefusedError, sock.connect, (ORIGIN, 5001))
        position, token = self.world.wire.position(), frames.token()
        with self.pod.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            sock.connect((ORIGIN, 4443))
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
            with contextlib.suppress(ConnectionError):  # the server knows of no connection
                sock.send(b"\x16\3\1\0\x20" + token)
            self.world.wire.sync()
        self.assert_token_stays(position, token)

    # ---- Floods ----

    def test_a_flood_of_syns_harms_half_open_handshakes_only(self):
        namespaces.run("nsenter", f"--net={self.pod.path}", "sysctl", "-qw", "net.ipv4.tcp_syncookies=1")
        listener = self.listener(7006, backlog=8)
        here, there = self.come_in(listener)
        with self.pod.connect(ORIGIN, 5000) as allowed:
            outside = namespaces.in_netns(self.world.outside_path, lambda: socket.socket(
                socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
            self.addCleanup(outside.close)
            for i in range(20000):
                source = f"203.0.113.{100 + i % 100}"
                outside.sendto(ip(source, self.pod.v4, TCP, tcp(
                    source, self.pod.v4, 1024 + i // 100, 7006, SYN, sequence=i)), (self.pod.v4, 0))
                if i % 2000 == 0:
                    self.assert_carries(here, there)
                    clients.exchange(allowed)
            self.assert_carries(here, there)
            clients.exchange(allowed)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assert_carries(*self.come_in(self.listener(7007)))


if __name__ == "__main__":
    main()
