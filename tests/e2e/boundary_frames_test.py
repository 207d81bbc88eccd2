"""Frames that a pod with CAP_NET_RAW writes itself. Each goes to the node, to be routed, and to a neighbour on the same
bridge: a frame that is dropped is seen by neither, and its allowed twin by the one that it was sent to.
"""

import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import frames, namespaces
from support.boundary import DNS, DNS6, BoundaryCase, gateway_mac
from support.case import main
from support.frames import (ACK, ARP, ICMP, ICMP6, IP4, IP6, PSH, SYN, TCP, UDP, arp, ethernet, icmp, ip, ip4, ip6, tcp,
                            udp)
from support.manifests import egress, port
from support.world import MESH, ORIGIN, ORIGIN6, OTHER

NEIGHBOUR = frames.mac("02:00:00:00:00:99")
BROADCAST = b"\xff" * 6
OTHER_MAC = frames.mac("02:00:00:00:00:66")
MESH6 = "fd00:10:96::80"
DESTINATION_OPTIONS = (60, b"\0\1\4\0\0\0\0")
HOP_BY_HOP = (0, b"\0\1\4\0\0\0\0")


def fragment6(field):
    return (44, b"\0" + struct.pack("!HI", field, 77))


class Frames(BoundaryCase):
    OBJECTS = (egress("rules", port(5000, "tcp"), port(443, "https"), hosts=["allowed.test"]),)
    START = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._join_bridge()
        cls.agent.start()
        cls.sender = frames.Sender(cls.pod)
        cls.addClassCleanup(cls.sender.close)
        cls.gateway = gateway_mac(cls.pod, "br0")
        cls.routed = frames.Tap(cls.world.outside_path, "uplink")
        cls.bridged = frames.Tap(cls.world.outside_path, "peek")
        for tap in (cls.routed, cls.bridged):
            cls.addClassCleanup(tap.close)

    @classmethod
    def _join_bridge(cls):
        """As the bridge plugin does it: the node's side of the pod's link is a port, and so is a neighbour's."""
        pod, world = cls.pod, cls.world
        namespaces.ip(world.node, f"""link add br0 type bridge mcast_snooping 0
            link set br0 up
            link add tap type veth peer name peek netns {world.outside}
            link set tap master br0 up
            addr del 10.244.1.1/32 dev {pod.link}
            addr del fd00:10:244:1::1/128 dev {pod.link}
            link set {pod.link} master br0
            addr add 10.244.1.1/32 dev br0
            addr add fd00:10:244:1::1/128 dev br0 nodad
            route replace {pod.v4} dev br0
            route replace {pod.v6} dev br0
            """)
        namespaces.ip(world.outside, "link set peek up\n")

    def setUp(self):
        self.own4, self.own6, self.mac = self.pod.v4, self.pod.v6, self.sender.mac
        self.routed.drain()
        self.bridged.drain()

    # ---- Frames ----

    def frame(self, to, protocol, body, mac=None, destination=None, tags=(), kind=None, **options):
        """To the gateway; `body` of layer 4."""
        source = options.pop("source", self.own6 if ":" in to else self.own4)
        kind = kind or (IP6 if ":" in to else IP4)
        return ethernet(destination or self.gateway, mac or self.mac, kind, ip(source, to, protocol, body, **options),
                        tags)

    def dns(self, token, to=DNS, **options):
        """What passes: a datagram to a name server."""
        source = options.get("source", self.own6 if ":" in to else self.own4)
        return self.frame(to, UDP, udp(source, to, 4000, 53, token), **options)

    # ---- Probes ----

    def send_both_ways(self, frame):
        """To the node, and to the neighbour on the bridge; broadcast and multicast reach both as they are."""
        self.sender.send(frame)
        if frame[0] & 1:
            return 1
        self.sender.send(NEIGHBOUR + frame[6:])
        return 2

    def assert_dropped(self, reason, protocol, cases):
        """cases: (name, token -> frame)."""
        tokens, count = {}, 0
        with self.denied(reason, protocol, None):
            before = self.denials(reason, protocol)
            for name, make in cases:
                token = frames.token()
                tokens[name] = token
                count += self.send_both_ways(make(token))
            self.assert_nothing_seen(tokens)
        self.eventually(f"{count} frames are counted as {reason}, {protocol}",
                        lambda: self.denials(reason, protocol) == before + count, 2)

    def assert_nothing_seen(self, tokens):
        """Of what was sent before; the twins come behind it."""
        for tap, destination in ((self.routed, self.gateway), (self.bridged, NEIGHBOUR)):
            last = frames.token()
            self.sender.send(self.dns(last, destination=destination))
            seen = tap.until(last)
            self.assertEqual([name for name, token in tokens.items() if any(token in frame for frame in seen)], [])

    def assert_passes(self, cases, tap=None):
        """cases: (name, token -> frame); each is seen outside, or at `tap`."""
        for name, make in cases:
            with self.subTest(name):
                token = frames.token()
                self.sender.send(make(token))
                (tap or self.routed).until(token)

    # ---- Tests ----

    def test_well_formed_datagrams_to_a_name_server_pass(self):
        self.assert_passes([("IPv4", self.dns), ("IPv6", lambda token: self.dns(token, DNS6)),
                            ("an atomic fragment", lambda token: self.dns(token, DNS6, extensions=[fragment6(0)])),
                            ("options for the destination",
                             lambda token: self.dns(token, DNS6, extensions=[DESTINATION_OPTIONS] * 7))])

    def test_ethertypes_other_than_ip_are_dropped(self):
        kinds = {"LLDP": 0x88CC, "MPLS": 0x8847, "PPPoE": 0x8864, "IPX": 0x8137, "EAPOL": 0x888E, "802.3": 60,
                 "RARP": 0x8035, "an unassigned one": 0x9999, "TIPC": 0x88CA, "NSH": 0x894F}
        cases = [(name, lambda token, kind=kind: ethernet(self.gateway, self.mac, kind, bytes(20) + token))
                 for name, kind in kinds.items()]
        cases += [("IPv6 said to be IPv4", lambda token: self.dns(token, DNS6, kind=IP4)),
                  ("IPv4 said to be IPv6", lambda token: self.dns(token, DNS, kind=IP6)),
                  ("IP of version 5", lambda token: self.dns(token, version=5)),
                  ("a VLAN tag", lambda token: self.dns(token, tags=[0x8100])),
                  ("a service tag", lambda token: self.dns(token, tags=[0x88A8])),
                  ("two tags", lambda token: self.dns(token, tags=[0x88A8, 0x8100]))]
        self.assert_dropped("protocol", "other", cases)

    def test_malformed_ip4_is_dropped(self):
        cases = {"options": {"options": b"\x94\x04\0\0"}, "a source route": {"options": b"\x83\x07\x04\xc6\x33\x64\x42\0"},
                 "a header of 16 bytes": {"words": 4}, "a header of 60 bytes": {"words": 15},
                 "a total length that is too long": {"length": 1000}, "a total length of 0": {"length": 0},
                 "a total length that ends in the header": {"length": 24}, "no time to live": {"ttl": 0},
                 "the reserved flag": {"fragment": 0x8000}}
        self.assert_dropped("malformed-packet", "udp", [
            (name, lambda token, options=options: self.dns(token, **options)) for name, options in cases.items()])

    def test_fragments_are_dropped(self):
        fields = {"first": 0x2000, "middle": 0x2010, "last": 0x0010, "tiny": 0x0001}
        cases = [(name, lambda token, field=field: self.dns(token, fragment=field)) for name, field in fields.items()]
        self.assert_dropped("fragment", "udp", cases)
        self.assert_dropped("fragment", None, [
            (name, lambda token, field=field: self.dns(token, DNS6, extensions=[fragment6(field)]))
            for name, field in {"first": 1, "last": 8, "middle": 9}.items()])

    def test_extension_headers_are_walked_and_what_routes_or_is_unknown_is_dropped(self):
        chains = {"routing": [(43, b"\0\0\0\0\0\0\0")], "routing behind options": [DESTINATION_OPTIONS, (43, bytes(7))],
                  "segment routing": [(43, b"\2\4\0\0\0\0\0" + frames.packed(ORIGIN6))],
                  "nine": [DESTINATION_OPTIONS] * 9, "authentication": [(51, b"\0" * 7)], "mobility": [(135, b"\0" * 7)],
                  "HIP": [(139, b"\0" * 7)], "SHIM6": [(140, b"\0" * 7)],
                  "hop-by-hop options in second place": [DESTINATION_OPTIONS, HOP_BY_HOP],
                  "an options header that is longer than the packet": [(60, b"\xff\1\4\0\0\0\0")]}
        cases = [(name, lambda token, chain=chain: self.dns(token, DNS6, extensions=chain))
                 for name, chain in chains.items()]
        cases += [("a jumbogram", lambda token: self.dns(token, DNS6, length=0,
                                                         extensions=[(0, b"\0\xc2\4\0\1\0\0")])),
                  ("a payload length that is too long", lambda token: self.dns(token, DNS6, length=900)),
                  ("no hop limit", lambda token: self.dns(token, DNS6, hops=0))]
        self.assert_dropped("malformed-packet", None, cases)

    def test_protocols_other_than_tcp_are_dropped(self):
        numbers = {"GRE": 47, "IPv4 in IPv4": 4, "IPv6 in IPv4": 41, "ESP": 50, "SCTP": 132, "OSPF": 89, "L2TP": 115,
                   "IGMP": 2, "an unassigned one": 200, "reserved": 255, "no next header": 59}
        for to in (ORIGIN, ORIGIN6):
            known = {name: number for name, number in numbers.items() if ":" not in to or number not in (2, 50)}
            self.assert_dropped("protocol", "other", [
                (name, lambda token, number=number, to=to: self.frame(to, number, bytes(16) + token))
                for name, number in known.items()])
            self.assert_dropped("protocol", "other", [
                ("UDP-Lite", lambda token, to=to: self.frame(to, 136, bytes.fromhex("0fa0003500080000") + token))])
        own_packet = ip4(self.own4, DNS, UDP, udp(self.own4, DNS, 4000, 53, b"x"))
        self.assert_dropped("protocol", "other", [
            ("IPv4 in IPv4 towards a name server", lambda token: self.frame(DNS, 4, own_packet + token))])

    def test_datagrams_and_echoes_are_dropped(self):
        for to in (ORIGIN, ORIGIN6):
            own = self.own6 if ":" in to else self.own4
            self.assert_dropped("protocol", "udp", [
                ("QUIC", lambda token, to=to, own=own: self.frame(to, UDP, udp(own, to, 4000, 443, token))),
                ("port 53 of no name server", lambda token, to=to, own=own: self.frame(
                    to, UDP, udp(own, to, 4000, 53, token)))])
            kind, echo = (ICMP6, 128) if ":" in to else (ICMP, 8)
            self.assert_dropped("protocol", "icmp", [
                ("echo", lambda token, to=to, own=own, kind=kind, echo=echo: self.frame(
                    to, kind, icmp(own, to, echo, payload=token))),
                ("an answer to no echo", lambda token, to=to, own=own, kind=kind, echo=echo: self.frame(
                    to, kind, icmp(own, to, 129 if kind == ICMP6 else 0, payload=token))),
                ("an error that quotes nothing", lambda token, to=to, own=own, kind=kind: self.frame(
                    to, kind, icmp(own, to, 1 if kind == ICMP6 else 3, payload=bytes(48) + token)))])

    def test_multicast_and_broadcast_are_dropped(self):
        cases = [(f"to {to}", lambda token, to=to: self.frame(
            to, UDP, udp(self.own6 if ":" in to else self.own4, to, 4000, 5353, token), destination=destination))
                 for to, destination in (("224.0.0.251", frames.mac("01:00:5e:00:00:fb")), ("255.255.255.255", BROADCAST),
                                         ("ff02::fb", frames.mac("33:33:00:00:00:fb")),
                                         ("239.1.2.3", frames.mac("01:00:5e:01:02:03")))]
        self.assert_dropped("protocol", "udp", cases)

    def test_foreign_source_addresses_and_macs_are_dropped(self):
        mesh_pod, mesh_pod6 = "10.244.1.77", "fd00:10:244:1::77"
        sources = [(DNS, mesh_pod), (DNS, ORIGIN), (DNS, "0.0.0.0"), (DNS, "127.0.0.1"), (DNS, "10.244.1.1"),
                   (DNS6, mesh_pod6), (DNS6, ORIGIN6), (DNS6, "::"), (DNS6, "::1"), (DNS6, "fe80::99")]
        cases = [(f"from {source} to {to}", lambda token, to=to, source=source: self.dns(token, to, source=source))
                 for to, source in sources]
        cases += [(f"from {source} to {to}, in the mesh", lambda token, to=to, source=source: self.frame(
            to, UDP, udp(source, to, 4000, 5000, token), source=source))
                  for to, source in ((MESH, mesh_pod), (MESH, OTHER), (MESH6, mesh_pod6), (MESH6, ORIGIN6))]
        self.assert_dropped("spoofed-source", "udp", cases)
        self.assert_dropped("spoofed-source", "other", [
            ("a foreign MAC", lambda token: self.dns(token, mac=OTHER_MAC)),
            ("a foreign MAC, in the mesh", lambda token: self.frame(
                MESH, UDP, udp(self.own4, MESH, 4000, 5000, token), mac=OTHER_MAC))])

    def test_own_and_loopback_destinations_never_leave(self):
        self.assert_dropped("policy", "udp", [
            (f"to {to}", lambda token, to=to: self.frame(to, UDP, udp(
                self.own6 if ":" in to else self.own4, to, 4000, 5000, token)))
            for to in (self.own4, self.own6, "127.0.0.1", "::1", "0.0.0.0")])

    def test_arp_speaks_for_the_pods_own_addresses_only(self):
        def frame(operation, sender, token, sender_mac=self.mac, target="10.244.1.1"):
            return ethernet(BROADCAST, self.mac, ARP, arp(operation, sender_mac, sender, target) + token)
        self.assert_passes([("a question", lambda token: frame(1, self.own4, token)),
                            ("a probe", lambda token: frame(1, "0.0.0.0", token, target="10.244.1.77")),
                            ("an announcement", lambda token: frame(2, self.own4, token, target=self.own4))],
                           self.bridged)
        self.assert_dropped("spoofed-source", "other", [
            ("an answer for the gateway", lambda token: frame(2, "10.244.1.1", token)),
            ("a question from a neighbour", lambda token: frame(1, "10.244.1.77", token)),
            ("an answer with another MAC", lambda token: frame(2, self.own4, token, sender_mac=OTHER_MAC))])

    def neighbour(self, token, kind, target, to="ff02::1", hops=255, source=None):
        source = source or self.own6
        body = icmp(source, to, kind, rest=bytes(4), payload=frames.packed(target) + b"\2\3" + self.mac + token + bytes(2))
        return ethernet(frames.mac("33:33:00:00:00:01"), self.mac, IP6, ip6(source, to, ICMP6, body, hops=hops))

    def test_neighbour_discovery_speaks_for_the_pods_own_addresses_only(self):
        self.assert_passes([("a solicitation", lambda token: self.neighbour(token, 135, "fd00:10:244:1::1")),
                            ("an advertisement", lambda token: self.neighbour(token, 136, self.own6))], self.bridged)
        self.assert_dropped("protocol", "icmp", [
            ("an advertisement for the gateway", lambda token: self.neighbour(token, 136, "fd00:10:244:1::1")),
            ("a router advertisement", lambda token: self.neighbour(token, 134, self.own6)),
            ("a redirect", lambda token: self.neighbour(token, 137, self.own6)),
            ("a solicitation from afar", lambda token: self.neighbour(token, 135, self.own6, hops=64)),
            ("a solicitation for outside", lambda token: self.neighbour(token, 135, ORIGIN6, to=ORIGIN6))])
        self.assert_dropped("spoofed-source", "icmp", [
            ("an advertisement by another", lambda token: self.neighbour(token, 136, self.own6, source="fd00:10:244:1::77"))])

    def test_tcp_that_no_socket_has_sent_is_dropped(self):
        for to in (ORIGIN, ORIGIN6):
            own = self.own6 if ":" in to else self.own4
            self.assert_dropped("no-socket", "tcp", [
                (f"{flags:#x} to {to} port {number}", lambda token, flags=flags, number=number, own=own, to=to:
                 self.frame(to, TCP, tcp(own, to, 4001, number, flags, token)))
                for flags in (SYN, SYN | ACK, ACK | PSH, frames.FIN | ACK, frames.RST, 0) for number in (5000, 5001, 443)])
            self.assert_dropped("malformed-packet", "tcp", [
                ("a header of 16 bytes", lambda token, own=own, to=to: self.frame(
                    to, TCP, tcp(own, to, 4001, 5000, SYN, token, words=4))),
                ("a header that is longer than the segment", lambda token, own=own, to=to: self.frame(
                    to, TCP, tcp(own, to, 4001, 5000, SYN, token, words=15)))])

    def test_towards_the_mesh_any_form_passes_from_the_pods_own_address(self):
        cases = [(name, lambda token, options=options: self.frame(MESH, UDP, udp(self.own4, MESH, 4000, 5000, token),
                                                                  **options))
                 for name, options in {"a datagram": {}, "a fragment": {"fragment": 0x2000},
                                       "options": {"options": b"\1\1\1\0"}}.items()]
        self.assert_passes([*cases, ("SCTP", lambda token: self.frame(MESH, 132, bytes(12) + token))])


if __name__ == "__main__":
    main()
