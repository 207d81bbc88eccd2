"""A pod with CAP_NET_ADMIN in its own network namespace: addresses, routes, NAT, rewriting, tunnels, links, nested
namespaces. Whatever it does in there, what leaves is held to what was judged.
"""

import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import frames, hellos, namespaces, servers
from support.boundary import BoundaryCase, gateway_mac
from support.case import main, tcp_port
from support.manifests import egress, port
from support.world import MESH, ORIGIN, ORIGIN6, OTHER

SINK = 4443
RULES = egress("rules", tcp_port(5000), port(SINK, "https"), hosts=["allowed.test"],
               addresses=[f"{ORIGIN}/32", f"{ORIGIN6}/128"])
# `allowed` at the front of a name in a ClientHello becomes `another`; the hello of each test has it at this offset.
BEFORE, AFTER = b"allowed", b"another"
FIRST = "numgen inc mod 1000000 0"  # the first packet that comes to the rule
SNAT = "type nat hook postrouting priority 100"
LAST = "type filter hook postrouting priority 300"
# Kind, and how it is made.
TUNNELS = (("ipip", "type ipip local {own} remote {to}"), ("gre", "type gre local {own} remote {to}"),
           ("sit", "type sit local {own} remote {to}"),
           ("vxlan", "type vxlan id 5 local {own} remote {to} dstport 4789 dev eth0"),
           ("geneve", "type geneve id 5 remote {to}"), ("wireguard", "type wireguard"))


class NetAdmin(BoundaryCase):
    OBJECTS = (RULES,)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sink = cls.world.serve(SINK, servers.swallow)

    def setUp(self):
        self.eventually("the pod is guarded", lambda: self.agent.pod_status("curl/curl").get("state") == "guarded")

    def inside(self, *script):
        """Lines of ip(8) in the pod's namespace."""
        namespaces.ip(self.pod.netns, "\n".join(script) + "\n")

    def add_link(self, name, kind, options):
        """Until the test ends; False where this kernel has none of that kind."""
        done = subprocess.run(["ip", "-n", self.pod.netns, "link", "add", "name", name, *options.split()],
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            self.undo(f"link del {name}")
            return True
        self.assertRegex(done.stderr, "Unknown device type|not supported")
        print(f"this kernel has no {kind}: boundary_frames_test sends what it would send")
        return False

    def undo(self, *script):
        self.addCleanup(lambda: subprocess.run(["ip", "-n", self.pod.netns, "-force", "-batch", "-"],
                                               input="\n".join(script), text=True, capture_output=True, check=False))

    def nft(self, *rules, chain="type nat hook output priority -100"):
        """The rules of one chain in the pod's namespace, in place of those before; until the test ends."""
        def run(text):
            namespaces.run("nsenter", f"--net={self.pod.path}", "nft", "-f", "-", input="flush ruleset\n" + text)
        self.addCleanup(run, "")
        lines = "\n".join(rules)
        run(f"table ip n {{\nchain c {{\n{chain};\n{lines}\n}}\n}}\n" if rules else "")

    def arrivals(self, position, *numbers):
        """What has left the pod for the outside, but for the mesh."""
        return [packet for packet in self.world.wire.since(position)
                if packet.destination in (OTHER, ORIGIN, ORIGIN6) and (not numbers or packet.port in numbers)]

    # ---- Addresses and routes ----

    def test_an_address_that_a_pod_adds_is_not_its_own(self):
        self.inside("addr add 10.244.1.77/32 dev eth0", f"addr add {OTHER}/32 dev lo")
        self.undo("addr del 10.244.1.77/32 dev eth0", f"addr del {OTHER}/32 dev lo")
        for own in ("10.244.1.77", OTHER):
            for to, number in ((ORIGIN, 5000), (MESH, 5000)):
                with self.subTest(own=own, to=to), self.pod.socket(timeout=0.3) as sock:
                    position = self.world.wire.position()
                    sock.bind((own, 0))
                    with self.denied("spoofed-source", "tcp", None):
                        self.assertRaises(OSError, sock.connect, (to, number))
                    self.assertEqual([packet for packet in self.world.wire.since(position) if packet.source == own], [])
        self.assert_reaches(ORIGIN, 5000)

    def test_routes_change_nothing(self):
        self.inside(f"route add {OTHER}/32 via 10.244.1.1 dev eth0", "route add 203.0.113.0/24 dev eth0 scope link",
                    f"neigh replace 203.0.113.5 lladdr {gateway_mac(self.pod).hex(':')} dev eth0",
                    f"rule add to {OTHER}/32 lookup main")
        self.undo(f"route del {OTHER}/32", "route del 203.0.113.0/24", f"rule del to {OTHER}/32")
        for address in (OTHER, "203.0.113.5"):
            self.assert_refused(address, 5000)
        self.assert_reaches(ORIGIN, 5000)

    # ---- NAT ----

    def test_dnat_in_the_pod_leads_no_allowed_connection_elsewhere(self):
        for target in (f"{OTHER}:5000", f"{ORIGIN}:5001"):
            for to in (ORIGIN, MESH):
                with self.subTest(target=target, to=to):
                    self.nft(f"ip daddr {to} tcp dport 5000 dnat to {target}")
                    position = self.world.wire.position()
                    with self.denied("no-socket", "tcp", None), self.pod.socket(timeout=0.5) as sock:
                        self.assertRaises(OSError, sock.connect, (to, 5000))
                    self.assertEqual(self.arrivals(position), [])
        self.nft()
        self.assert_reaches(ORIGIN, 5000)

    def test_dnat_of_datagrams_to_the_mesh_is_denied(self):
        self.nft(f"ip daddr {MESH} udp dport 5353 dnat to {OTHER}:443")
        position = self.world.wire.position()
        with self.denied("protocol", "udp"), self.pod.socket(kind=socket.SOCK_DGRAM) as sock:
            sock.sendto(frames.token(), (MESH, 5353))
            self.assertEqual(self.arrivals(position), [])

    def test_snat_in_the_pod_is_no_other_source(self):
        for target, reason in (("10.244.1.99", "spoofed-source"), (OTHER, "spoofed-source"),
                               (f"{self.pod.v4}:7777", "no-socket")):
            with self.subTest(target):
                self.nft(f"tcp dport 5000 snat to {target}", chain=SNAT)
                position = self.world.wire.position()
                with self.denied(reason, "tcp", None), self.pod.socket(timeout=0.5) as sock:
                    self.assertRaises(OSError, sock.connect, (ORIGIN, 5000))
                self.assertEqual([packet for packet in self.world.wire.since(position) if packet.port == 5000], [])
        self.nft()
        self.assert_reaches(ORIGIN, 5000)

    def test_a_rewritten_ttl_or_mark_is_no_harm_to_an_allowed_connection(self):
        self.nft("tcp dport 5000 ip ttl set 9 meta mark set 7", chain=LAST)
        self.assert_reaches(ORIGIN, 5000)

    # ---- Payload ----

    def hello(self, name):
        """A ClientHello, and where its name begins."""
        stream = hellos.records(hellos.message(hellos.server_name(name), hellos.VERSIONS))
        return stream, stream.index(name.encode())

    def rewrite(self, at, *before):
        """`allowed` becomes `another` at offset `at` of the payload; `before`: what such packets go through first."""
        place = (20 + 12 + at) * 8
        found = f"tcp dport {SINK} @th,{place},16 0x{BEFORE[:2].hex()}"
        words = " ".join(f"@th,{place + 16 * i},16 set 0x{AFTER[2 * i:2 * i + 2].hex()}" for i in range(3))
        self.nft(*(f"{found} {rule}" for rule in before),
                 f"{found} {words} @th,{place + 48},8 set 0x{AFTER[6:7].hex()}", chain=LAST)

    def open(self):
        before = self.sink.position()
        sock = self.pod.connect(ORIGIN, SINK)
        self.addCleanup(sock.close)
        return sock, self.sink.wait_for_visit(before)

    def test_a_name_that_nft_rewrites_behind_the_socket_hooks_is_the_one_that_is_judged(self):
        stream, at = self.hello("allowed.test")
        self.rewrite(at)
        sock, visit = self.open()
        with self.denied("sni-mismatch", "https"):
            sock.sendall(stream)
            self.assertRaises(ConnectionError, sock.recv, 1)
        self.assertEqual((visit.wait_for_end(), visit.total), ("reset", 0))
        self.assertTrue(self.agent.events(reason="sni-mismatch", sni="another.test"))
        self.nft()
        sock, visit = self.open()
        sock.sendall(stream)
        self.assertTrue(visit.wait_for_bytes(len(stream)))

    def test_a_hello_that_is_sent_again_with_another_name_is_refused(self):
        """The first is judged and dies on its way, its time to live being short; what is sent again is rewritten."""
        stream, at = self.hello("allowed.test")
        sock, visit = self.open()
        self.rewrite(at, f"{FIRST} ip ttl set 1 accept")
        position = self.world.wire.position()
        with self.denied("not-tls", "https"):
            sock.sendall(stream)
            self.assertRaises(ConnectionError, sock.recv, 1)
        self.assertEqual((visit.wait_for_end(), visit.total), ("reset", 0))
        self.assert_no_bytes_arrived(position, ORIGIN, SINK)

    def test_a_hello_that_is_sent_again_as_it_was_passes(self):
        stream, at = self.hello("allowed.test")
        sock, visit = self.open()
        place = (20 + 12 + at) * 8
        self.nft(f"tcp dport {SINK} @th,{place},16 0x{BEFORE[:2].hex()} {FIRST} ip ttl set 1", chain=LAST)
        sock.sendall(stream)
        self.assertTrue(visit.wait_for_bytes(len(stream)))

    # ---- Tunnels ----

    def test_tunnels_over_eth0_lead_nowhere(self):
        for kind, options in TUNNELS:
            with self.subTest(kind):
                position = self.world.wire.position()
                if not self.add_link("tunnel0", kind, options.format(own=self.pod.v4, to=OTHER)):
                    continue
                if kind == "wireguard":
                    self.set_up_wireguard()
                self.inside("link set tunnel0 up", "route add 10.96.77.0/24 dev tunnel0")
                with self.denied("protocol", None, None), self.pod.socket(kind=socket.SOCK_DGRAM) as sock:
                    for _ in range(3):
                        sock.sendto(frames.token(), ("10.96.77.2", 5000))
                    self.eventually("it tries to leave", lambda: self.agent.events(destination=OTHER))
                self.assertEqual(self.arrivals(position), [])
                self.inside("link del tunnel0")
        self.setUp()
        self.assert_reaches(ORIGIN, 5000)

    def set_up_wireguard(self):
        """A peer at OTHER, by wg(8)."""
        key = self.world.folder / "key"
        key.write_text("kAJ7DRKPEXdVFOPeHrTmSMvyBXsO0UjdyZiHBGLA3Ek=\n")
        namespaces.run("nsenter", f"--net={self.pod.path}", "wg", "set", "tunnel0", "private-key", key, "peer",
                       "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "endpoint", f"{OTHER}:51820", "allowed-ips",
                       "0.0.0.0/0")

    # ---- Links and namespaces ----

    def test_links_on_top_of_eth0_lead_nowhere(self):
        for kind, options in (("macvlan", "type macvlan mode bridge"), ("vlan", "type vlan id 5"),
                              ("ipvlan", "type ipvlan mode l2")):
            with self.subTest(kind):
                if not self.add_link("top0", kind, "link eth0 " + options):
                    continue
                self.inside("link set top0 up", f"addr add {self.pod.v4}/32 dev top0",
                            "route add 10.244.1.1/32 dev top0 metric 5 scope link",
                            f"route add {ORIGIN}/32 via 10.244.1.1 dev top0")
                position = self.world.wire.position()
                with self.pod.socket(timeout=0.5) as sock:
                    self.assertRaises(OSError, sock.connect, (ORIGIN, 5001))
                sender = frames.Sender(self.pod, "top0")
                self.addCleanup(sender.close)
                token = frames.token()
                sender.send(frames.ethernet(gateway_mac(self.pod), sender.mac, frames.IP4, frames.ip(
                    self.pod.v4, ORIGIN, frames.UDP, frames.udp(self.pod.v4, ORIGIN, 1, 443, token))))
                self.assert_token_stays(position, token)
                self.assertEqual(self.arrivals(position, 5001), [])
                self.inside("link del top0")
        self.setUp()
        self.assert_reaches(ORIGIN, 5000)

    def test_a_tunnel_that_hangs_on_the_nodes_namespace_is_told(self):
        """CAP_NET_ADMIN without a user namespace of its own can make one. It cannot be guarded (README, Limits)."""
        if self.add_link("tunnel0", "vxlan", f"link-netnsid 0 type vxlan id 7 remote {OTHER} dstport 4789"):
            self.eventually("it is unguarded",
                            lambda: self.agent.pod_status("curl/curl").get("state") == "unguarded")
            self.assertIn("tunnel0", self.agent.pod_status("curl/curl")["note"])
            self.assert_refused(ORIGIN, 5000)

    def test_a_namespace_inside_the_pod_that_forwards_through_it_reaches_nothing(self):
        nested = f"{self.pod.netns}-nested"
        self.addCleanup(namespaces.remove_netns, nested)
        namespaces.make_netns(nested)
        self.inside(f"link add down0 type veth peer name up0 netns {nested}", "addr add 192.168.99.1/24 dev down0",
                    "link set down0 up")
        self.undo("link del down0")
        namespaces.ip(nested, "addr add 192.168.99.2/24 dev up0\nlink set up0 up\nroute add default via 192.168.99.1\n")
        namespaces.run("nsenter", f"--net={self.pod.path}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.nft("oifname eth0 masquerade", chain=SNAT)
        position = self.world.wire.position()

        def probe(address, kind):
            sock = socket.socket(socket.AF_INET, kind)
            sock.settimeout(0.5)
            try:
                sock.connect((address, 5000))
                sock.send(b"from within")
                return sock.recv(100)
            finally:
                sock.close()
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with self.assertRaises(OSError):
                namespaces.in_netns(namespaces.netns_path(nested), lambda: probe(ORIGIN, kind))
        self.assertEqual(self.arrivals(position), [])

    def test_an_eth0_that_is_moved_into_another_namespace_leads_nowhere(self):
        pod = self.world.add_pod("mover", account="curl")
        self.addCleanup(self.agent.delete, pod.manifest())
        self.addCleanup(pod.close)
        self.agent.apply(pod.manifest())
        self.eventually("it is guarded", lambda: (self.agent.pod_status(pod.key) or {}).get("state") == "guarded")
        self.assert_reaches(ORIGIN, 5000, pod)
        nested = f"{pod.netns}-moved"
        self.addCleanup(namespaces.remove_netns, nested)
        namespaces.make_netns(nested)
        position = self.world.wire.position()
        namespaces.ip(pod.netns, f"link set eth0 netns {nested}\n")
        namespaces.ip(nested, f"addr add {pod.v4}/32 dev eth0\nlink set eth0 up\nroute add 10.244.1.1 dev eth0 scope link\n"
                              "route add default via 10.244.1.1\n")

        def probe(number, kind=socket.SOCK_STREAM):
            sock = socket.socket(socket.AF_INET, kind)
            sock.settimeout(0.5)
            try:
                sock.connect((OTHER, number))
                sock.send(b"from within")
                return sock.recv(100)
            finally:
                sock.close()
        for number, kind in ((5000, socket.SOCK_STREAM), (5001, socket.SOCK_STREAM), (443, socket.SOCK_DGRAM)):
            with self.assertRaises(OSError):
                namespaces.in_netns(namespaces.netns_path(nested), lambda: probe(number, kind))
        self.assertEqual(self.arrivals(position), [])


if __name__ == "__main__":
    main()
