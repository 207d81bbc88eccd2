"""Sockets of every kind and in every order of calls: what is not allowed never arrives, and each has its allowed twin."""

import array
import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, frames, hellos, io_uring, manifests, namespaces, servers
from support.boundary import DNS, DNS6, BoundaryCase, gateway_mac
from support.case import main, tcp_port
from support.frames import ACK, ICMP, ICMP6, IP4, IP6, PSH, SYN, TCP, UDP, ethernet, icmp, ip, tcp, udp
from support.manifests import egress, port
from support.world import MESH, ORIGIN, ORIGIN6, OTHER, SILENT, THIRD

IPPROTO_MPTCP, IPPROTO_UDPLITE = 262, 136
TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, MSG_FASTOPEN = 23, 30, 0x20000000
IP_TRANSPARENT, IPV6_TRANSPARENT, IP_HDRINCL, IPV6_HDRINCL = 19, 75, 3, 36
SIOCETHTOOL, ETHTOOL_STSO, ETHTOOL_SGSO = 0x8946, 0x1F, 0x24
FAST_PORTS, FAST_TLS_PORT, MPTCP_PORT, ECHO_UDP = (5010, 5013), 5011, 5012, 53  # of FAST_PORTS the first is allowed
RULES = egress("rules", tcp_port(5000), tcp_port(FAST_PORTS[0]), tcp_port(MPTCP_PORT), port(FAST_TLS_PORT, "https"),
               hosts=["allowed.test"], addresses=[f"{ORIGIN}/32", f"{ORIGIN6}/128"])
_libc = ctypes.CDLL(None, use_errno=True)


def disconnect(sock):
    """connect() to AF_UNSPEC."""
    if _libc.connect(sock.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16) != 0:
        raise OSError(ctypes.get_errno(), "connect to AF_UNSPEC")


# Holds sockets until one is refused; in two processes, since one may have too few descriptors. Then tells how many it
# holds, whether a new connection is refused, and what the ones from before and after some were closed answer.
FILLER = f"""
import os, socket, sys
def hold(most):
    held = []
    try:
        while len(held) < most:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.connect(("{MESH}", 5000))
            held.append(one)
    except ConnectionRefusedError:
        pass
    return held
live = socket.create_connection(("{ORIGIN}", 5000))
reading, writing = os.pipe()
if os.fork() == 0:
    held = hold(17000)
    os.write(writing, b"%d" % len(held))
    sys.stdin.read()
    os._exit(0)
print(int(os.read(reading, 10)) + len(held := hold(17000)))
try:
    socket.create_connection(("{ORIGIN}", 5000))
    print("connected")
except ConnectionRefusedError:
    print("refused")
live.sendall(b"still here")
print(live.recv(100).decode())
for one in held[:10]:
    one.close()
again = socket.create_connection(("{ORIGIN}", 5000))
again.sendall(b"room again")
print(again.recv(100).decode(), flush=True)
sys.stdin.read()
"""


class Sockets(BoundaryCase):
    OBJECTS = (RULES,)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._serve_datagrams()
        cls.gateway = gateway_mac(cls.pod)
        namespaces.run("nsenter", f"--net={cls.world.outside_path}", "sysctl", "-qw", "net.ipv4.tcp_fastopen=3")
        cls.fast_tls = cls.fast_server(FAST_TLS_PORT, servers.swallow)
        for number in FAST_PORTS:
            cls.fast_server(number, servers.echo)

    @classmethod
    def fast_server(cls, number, handler):
        server = cls.world.serve(number, handler)
        server.listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        return server

    @classmethod
    def _serve_datagrams(cls):
        """An echo of datagrams at the name servers' addresses."""
        def bind(address):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.setsockopt(*((socket.IPPROTO_IPV6, namespaces.IPV6_FREEBIND) if ":" in address else
                              (socket.IPPROTO_IP, namespaces.IP_FREEBIND)), 1)
            made.bind((address, ECHO_UDP))
            return made

        def serve(sock):
            while True:
                try:
                    sock.sendto(*sock.recvfrom(1 << 16))
                except OSError:
                    return
        for address in (DNS, DNS6):
            sock = namespaces.in_netns(cls.world.outside_path, lambda: bind(address))
            cls.addClassCleanup(sock.close)
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def own(self, to):
        return self.pod.v6 if ":" in to else self.pod.v4

    def new_socket(self, *arguments, **options):
        made = self.pod.socket(*arguments, **options)
        self.addCleanup(made.close)
        return made

    # ---- Raw sockets ----

    def raw(self, to, protocol):
        """Sends IP packets as they are."""
        made = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_RAW, protocol)
        if ":" in to:
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_HDRINCL, 1)
        return made

    def test_packets_of_raw_sockets_are_dropped_and_pass_to_the_mesh(self):
        for to in (ORIGIN, ORIGIN6):
            own, token = self.own(to), frames.token()
            packets = (("tcp", "no-socket", TCP, tcp(own, to, 4100, 5000, SYN, token)),
                       ("tcp", "no-socket", TCP, tcp(own, to, 4100, 443, ACK | PSH, token)),
                       ("udp", "protocol", UDP, udp(own, to, 4100, 443, token)),
                       ("icmp", "protocol", ICMP6 if ":" in to else ICMP,
                        icmp(own, to, 128 if ":" in to else 8, payload=token)),
                       ("other", "protocol", 47, bytes(4) + token))
            for label, reason, protocol, body in packets:
                with self.subTest(to=to, protocol=label):
                    position = self.world.wire.position()
                    with self.denied(reason, label):
                        self.raw(to, socket.IPPROTO_RAW).sendto(ip(own, to, protocol, body), (to, 0))
                    self.assert_token_stays(position, token)
            foreign = ip(OTHER if ":" not in to else "2001:db8:51::66", to, UDP, udp(own, to, 1, 53, token))
            with self.denied("spoofed-source", "udp"):
                self.raw(to, socket.IPPROTO_RAW).sendto(foreign, (to, 0))
        position, token = self.world.wire.position(), frames.token()
        self.raw(MESH, socket.IPPROTO_RAW).sendto(
            ip(self.pod.v4, MESH, UDP, udp(self.pod.v4, MESH, 4100, 9999, token)), (MESH, 0))
        self.assert_token_arrives(position, token)

    def test_a_raw_tcp_socket_that_is_connected_is_no_tcp_socket(self):
        """Its protocol and its ports look like those of one."""
        for to in (OTHER, ORIGIN):
            position, token = self.world.wire.position(), frames.token()
            sock = self.new_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
            sock.connect((to, 5001))
            with self.denied("revoked", "tcp", None):
                sock.send(tcp(self.pod.v4, to, 6, 5001, ACK | PSH, token))
            self.assert_token_stays(position, token)

    def test_ping_sockets_reach_the_mesh_only(self):
        namespaces.run("nsenter", f"--net={self.pod.path}", "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
        for to, mesh, kind, protocol in ((ORIGIN, MESH, 8, socket.IPPROTO_ICMP),
                                         (ORIGIN6, "fd00:10:96::80", 128, socket.IPPROTO_ICMPV6)):
            with self.subTest(to):
                sock = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM, protocol)
                position, token = self.world.wire.position(), frames.token()
                with self.denied("protocol", "icmp"), contextlib.suppress(PermissionError):
                    sock.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + token, (to, 0))
                self.assert_nothing_arrived(position, to, 0)
                sock.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + token, (mesh, 0))
                self.assertIn(token, sock.recv(1000))

    # ---- Raw segments beside live connections ----

    def segment(self, to, source_port, number, flags, payload=b"", **options):
        return ethernet(self.gateway, self.sender.mac, IP6 if ":" in to else IP4,
                        ip(self.own(to), to, TCP, tcp(self.own(to), to, source_port, number, flags, payload, **options)))

    def test_a_raw_segment_on_a_live_tuple_is_dropped_and_the_connection_goes_on(self):
        self.sender = self.new_sender()
        for to in (ORIGIN, ORIGIN6):
            with self.subTest(to), self.pod.connect(to, 5000) as live:
                clients.exchange(live)
                position, token = self.world.wire.position(), frames.token()
                with self.denied("no-socket", "tcp"):
                    self.sender.send(self.segment(to, live.getsockname()[1], 5000, ACK | PSH, token))
                self.assert_token_stays(position, token)
                clients.exchange(live)

    def test_a_raw_segment_on_a_tuple_that_has_just_been_closed_is_dropped(self):
        self.sender = self.new_sender()
        for to in (ORIGIN, ORIGIN6):
            for how in ("reset", "TIME_WAIT"):
                with self.subTest(to=to, how=how):
                    live = self.pod.connect(to, 5000)
                    clients.exchange(live)
                    number = live.getsockname()[1]
                    if how == "reset":
                        live.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        live.shutdown(socket.SHUT_WR)
                        self.assertEqual(live.recv(1), b"")
                    live.close()
                    position, token = self.world.wire.position(), frames.token()
                    with self.denied("no-socket", "tcp"):
                        self.sender.send(self.segment(to, number, 5000, ACK | PSH, token))
                    self.assert_token_stays(position, token)

    # ---- TCP Fast Open ----

    def fast_open(self, to, number, data):
        """Sends `data` with the SYN, where the kernel has a cookie already."""
        sock = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET, timeout=None)
        sock.sendto(data, MSG_FASTOPEN, (to, number))
        sock.settimeout(5)
        return sock

    def forget_cookies(self):
        namespaces.run("ip", "-n", self.pod.netns, "tcp_metrics", "flush")

    def test_fast_open_of_a_tcp_rule_carries_data_in_the_syn_and_is_refused_elsewhere(self):
        allowed, denied = FAST_PORTS
        self.forget_cookies()
        for to in (ORIGIN, ORIGIN6):
            for with_cookie in (False, True):
                token, position = frames.token(), self.world.wire.position()
                self.assertEqual(self.fast_open(to, allowed, token).recv(100), token)
                first = self.world.wire.wait_for(position, lambda packet: token in packet.payload)
                self.assertEqual(bool(first.flags & SYN), with_cookie)
                position = self.world.wire.position()
                with self.denied("policy", "tcp"):
                    self.assertRaises(ConnectionRefusedError, self.fast_open, to, denied, b"x")
                sock = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
                sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
                self.assertRaises(ConnectionRefusedError, sock.connect, (to, denied))
                self.assert_nothing_arrived(position, to, denied)

    def test_a_client_hello_in_the_syn_is_read(self):
        server = self.fast_tls
        self.forget_cookies()
        for to in (ORIGIN, ORIGIN6):
            for _ in range(2):  # without, then with a cookie
                before, stream = server.position(), hellos.hello("allowed.test")
                self.fast_open(to, FAST_TLS_PORT, stream)
                self.assertTrue(server.wait_for_visit(before).wait_for_bytes(len(stream)))
            position = self.world.wire.position()
            with self.denied("sni-mismatch", "https"):
                with self.assertRaises(ConnectionError):
                    self.fast_open(to, FAST_TLS_PORT, hellos.hello("denied.test")).recv(1)
            self.assert_no_bytes_arrived(position, to, FAST_TLS_PORT)

    # ---- MPTCP ----

    def test_mptcp_connects_where_tcp_may_and_its_subflows_nowhere_else(self):
        def listen():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("0.0.0.0", MPTCP_PORT))
            made.listen()
            return made
        server = servers.Server(namespaces.in_netns(self.world.outside_path, listen), servers.echo)
        self.addCleanup(server.close)
        namespaces.run("ip", "-n", self.world.outside, "mptcp", "endpoint", "add", THIRD, "dev", "lo", "signal")
        for netns in (self.world.outside, self.pod.netns):
            namespaces.run("ip", "-n", netns, "mptcp", "limits", "set", "subflows", "4", "add_addr_accepted", "4")
        with self.denied("policy", "tcp"):
            self.assertRaises(ConnectionRefusedError, self.mptcp().connect, (ORIGIN, 5001))
        position = self.world.wire.position()
        with self.denied("policy", "tcp", None), self.mptcp() as sock:  # the subflow to the address that is announced
            sock.connect((ORIGIN, MPTCP_PORT))
            clients.exchange(sock)
            self.eventually("another subflow is tried", lambda: self.agent.events(
                reason="policy", destination=THIRD, port=MPTCP_PORT))
            clients.exchange(sock)
        self.assert_nothing_arrived(position, THIRD, MPTCP_PORT)

    def mptcp(self):
        return self.new_socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)

    # ---- Ways to connect ----

    def test_io_uring_connects_as_connect_does(self):
        position = self.world.wire.position()
        with self.denied("policy", "tcp"):
            self.assertEqual(io_uring.connect(self.new_socket(timeout=None), ORIGIN, 5001), errno.ECONNREFUSED)
        self.assert_nothing_arrived(position, ORIGIN, 5001)
        allowed = self.new_socket(timeout=None)
        self.assertEqual(io_uring.connect(allowed, ORIGIN, 5000), 0)
        clients.exchange(allowed)

    def test_a_socket_that_connects_anew_is_judged_anew(self):
        for to in (ORIGIN, ORIGIN6):
            sock = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
            for _ in range(2):
                sock.connect((to, 5000))
                clients.exchange(sock)
                disconnect(sock)
                position = self.world.wire.position()
                with self.denied("policy", "tcp"):
                    self.assertRaises(ConnectionRefusedError, sock.connect, (to, 5001))
                self.assert_nothing_arrived(position, to, 5001)

    def test_a_tls_socket_that_connects_anew_starts_anew(self):
        server, sock = self.fast_tls, self.new_socket()
        stream, before = hellos.hello("allowed.test"), server.position()
        sock.connect((ORIGIN, FAST_TLS_PORT))
        sock.sendall(stream)
        self.assertTrue(server.wait_for_visit(before).wait_for_bytes(len(stream)))
        disconnect(sock)
        position = self.world.wire.position()
        sock.connect((ORIGIN, FAST_TLS_PORT))
        with self.denied("sni-mismatch", "https"):
            sock.sendall(hellos.hello("denied.test"))
            self.assertRaises(ConnectionError, sock.recv, 1)
        self.assert_no_bytes_arrived(position, ORIGIN, FAST_TLS_PORT)

    def test_bind_before_connect_changes_nothing(self):
        for to in (ORIGIN, ORIGIN6):
            for number, allowed in ((5000, True), (5001, False)):
                sock = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((self.own(to), 0))
                if allowed:
                    sock.connect((to, number))
                    clients.exchange(sock)
                else:
                    self.assertRaises(ConnectionRefusedError, sock.connect, (to, number))

    def test_so_bindtodevice_changes_nothing(self):
        for device in (b"eth0", b"lo"):
            for number in (5000, 5001):
                position, sock = self.world.wire.position(), self.new_socket(timeout=1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                if number == 5000 and device == b"eth0":
                    sock.connect((ORIGIN, number))
                    clients.exchange(sock)
                    continue
                with self.assertRaises(OSError):
                    sock.connect((ORIGIN, number))
                self.assert_nothing_arrived(position, ORIGIN, number)

    def test_a_foreign_source_address_is_dropped_also_of_an_allowed_connection(self):
        """CAP_NET_ADMIN lets a socket have an address that the pod has not."""
        for to, foreign in ((ORIGIN, "10.244.1.99"), (ORIGIN, OTHER), (ORIGIN6, "fd00:10:244:1::99"), (MESH, OTHER)):
            with self.subTest(to=to, foreign=foreign):
                position = self.world.wire.position()
                sock = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET, timeout=0.3)
                sock.setsockopt(*((socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if ":" in to else
                                  (socket.IPPROTO_IP, IP_TRANSPARENT)), 1)
                sock.bind((foreign, 0))
                with self.denied("spoofed-source", "tcp", None):
                    self.assertRaises(OSError, sock.connect, (to, 5000))
                    sock.close()
                    self.assertEqual([packet for packet in self.world.wire.since(position) if packet.port == 5000], [])

    # ---- Datagrams ----

    def test_a_connected_udp_socket_connects_anywhere_and_sends_nowhere(self):
        for to, dns in ((ORIGIN, DNS), (ORIGIN6, DNS6)):
            sock = self.new_socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect((to, 443))
            position = self.world.wire.position()
            with self.denied("protocol", "udp"):
                self.assertRaises(PermissionError, sock.send, b"x")
            self.assert_nothing_arrived(position, to, 443)
            sock.connect((dns, ECHO_UDP))
            self.assert_answers(sock)
            sock.connect((to, 443))
            self.assertRaises(PermissionError, sock.send, b"x")

    def test_udp_lite_is_dropped(self):
        for to, mesh in ((ORIGIN, MESH), (DNS, MESH)):
            try:
                sock = self.new_socket(socket.AF_INET, socket.SOCK_DGRAM, IPPROTO_UDPLITE)
            except OSError:  # taken out of Linux; boundary_frames_test sends such frames all the same
                print("this kernel has no UDP-Lite")
                return
            position, token = self.world.wire.position(), frames.token()
            with contextlib.suppress(PermissionError):
                sock.sendto(token, (to, 53))
            self.world.wire.sync()
            self.assert_token_stays(position, token)
            self.assertTrue(self.denials("protocol") > 0)
            sock.sendto(token, (mesh, 53))
            self.assert_token_arrives(position, token)

    # ---- Sockets that change hands, or are older than the rules ----

    def test_a_socket_that_another_pod_hands_over_keeps_to_where_it_was_made(self):
        other = self.world.add_pod("other", account="other")
        self.addCleanup(self.agent.delete, other.manifest())
        self.addCleanup(other.close)
        self.agent.apply(other.manifest())
        self.eventually("it is guarded", lambda: (self.agent.pod_status(other.key) or {}).get("state") == "guarded")
        self.assert_refused(ORIGIN, 5000, other)
        # In a process of this pod, which may connect there, with a socket of the pod that may not; and the other way.
        script = ("import socket,sys\nsock=socket.socket(fileno=int(sys.argv[1]))\n"
                  f"sys.exit(sock.connect_ex(('{ORIGIN}', 5000)))")
        for user, maker, wanted in ((self.pod, other, errno.ECONNREFUSED), (other, self.pod, 0)):
            with self.subTest(user=user.key), maker.socket(timeout=None) as sock:
                os.set_inheritable(sock.fileno(), True)
                done = subprocess.run(user.command(sys.executable, "-S", "-c", script, sock.fileno()), check=False,
                                      pass_fds=[sock.fileno()], stdin=subprocess.DEVNULL)
                self.assertEqual(done.returncode, wanted)

    def test_sockets_that_are_older_than_the_enrolment_are_governed(self):
        self.agent.apply(manifests.namespace("curl", enrolled=False))
        self.addCleanup(self.agent.apply, manifests.namespace("curl"))
        idle, datagram, bound = self.new_socket(), self.new_socket(kind=socket.SOCK_DGRAM), self.new_socket()
        datagram.connect((SILENT, 443))
        datagram.send(b"before")
        bound.bind((self.pod.v4, 0))
        raw = self.raw(ORIGIN, socket.IPPROTO_RAW)
        self.agent.apply(manifests.namespace("curl"))
        self.eventually("it is governed", lambda: self.agent.pod_status("curl/curl").get("state") == "guarded")
        position, token = self.world.wire.position(), frames.token()
        for sock in (idle, bound):
            self.assertRaises(ConnectionRefusedError, sock.connect, (ORIGIN, 5001))
        with self.denied("protocol", "udp", 2):
            with contextlib.suppress(PermissionError):  # it has no verdict that could say so
                datagram.send(token)
            raw.sendto(ip(self.pod.v4, ORIGIN, UDP, udp(self.pod.v4, ORIGIN, 4000, 443, token)), (ORIGIN, 0))
        self.assert_token_stays(position, token)
        self.assert_nothing_arrived(position, ORIGIN, 5001)

    # ---- Offloads ----

    def test_offloads_that_a_pod_switches_off_change_nothing(self):
        self.set_offloads(0)
        self.addCleanup(self.set_offloads, 1)
        data = os.urandom(200_000)
        with self.pod.connect(ORIGIN, 5000) as sock:
            clients.exchange(sock, data[:50_000].hex().encode())
        self.assert_tls_passes_at_fast_port()
        self.assert_refused(ORIGIN, 5001)

    def assert_tls_passes_at_fast_port(self):
        server = self.fast_tls
        for name in ("allowed.test", "denied.test"):
            stream = hellos.records(hellos.message(hellos.VERSIONS, hellos.key_share(4000), hellos.server_name(name)))
            before = server.position()
            with self.pod.connect(ORIGIN, FAST_TLS_PORT) as sock:
                visit = server.wait_for_visit(before)
                if name == "allowed.test":
                    sock.sendall(stream)
                    self.assertTrue(visit.wait_for_bytes(len(stream)))
                    continue
                with self.denied("sni-mismatch", "https"):
                    sock.sendall(stream)
                    self.assertEqual(visit.wait_for_end(), "reset")
                self.assertLess(visit.total, stream.index(name.encode()) + len(name))

    def set_offloads(self, on):
        """TSO and GSO of eth0, as ethtool(8) does it."""
        with self.pod.socket() as sock:
            for command in (ETHTOOL_STSO, ETHTOOL_SGSO):
                value = array.array("B", struct.pack("=II", command, on))
                fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sQ16x", b"eth0", value.buffer_info()[0]))

    # ---- Bounds ----

    def test_a_pod_that_holds_very_many_sockets_is_refused_more_and_nobody_else(self):
        """table-full: new ones are refused, those that stand go on, and closing some makes room."""
        other = self.world.add_pod("filler", account="filler")
        self.addCleanup(self.agent.delete, other.manifest(), egress("filler", tcp_port(5000), account="filler"))
        self.addCleanup(other.close)
        self.agent.apply(other.manifest(), egress("filler", tcp_port(5000), account="filler"))
        self.eventually("it is guarded", lambda: (self.agent.pod_status(other.key) or {}).get("state") == "guarded")
        namespaces.run("nsenter", f"--net={other.path}", "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000")
        with subprocess.Popen(other.command(sys.executable, "-S", "-c", FILLER), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as process:
            lines = [process.stdout.readline().strip() for _ in range(4)]
            self.assertEqual(lines[1:], ["refused", "still here", "room again"])
            self.assertTrue(30_000 < int(lines[0]) <= 32_768, lines[0])
            self.assert_reaches(ORIGIN, 5000)  # another pod does not notice
            self.assertTrue(self.agent.events(reason="table-full", pod=other.key))
            process.stdin.close()


if __name__ == "__main__":
    main()
