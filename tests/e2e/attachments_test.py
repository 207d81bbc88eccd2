"""Others on the node who attach to a pod's interface too: what is ours is found again within a second, and first."""

import ctypes
import fcntl
import os
import pathlib
import signal
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import cni, namespaces
from support.case import WorldCase, main, tcp_port
from support.manifests import egress
from support.world import MESH, ORIGIN

SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
PROG_LOAD, OBJ_GET, LINK_CREATE, LINK_DETACH = 5, 7, 28, 34
SCHED_CLS, TCX_INGRESS, TCX_EGRESS, BEFORE, TCX_PASS, TCX_NEXT = 3, 46, 47, 1 << 3, 0, -1
XDP, ATTACH_XDP, XDP_PASS = 6, 37, 2
SIOCETHTOOL = 0x8946
UNKNOWN_TO_SOCKET_HOOKS = 5999

_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    """bpf(2): a descriptor, or 0."""
    buffer = ctypes.create_string_buffer(attributes + bytes(128 - len(attributes)))
    result = _libc.syscall(SYS_BPF, command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command}): {os.strerror(ctypes.get_errno())}")
    return result


def load(verdict, kind=SCHED_CLS):
    """A program that says `verdict` of every packet."""
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xb7, 0, 0, verdict, 0x95, 0, 0, 0))
    gpl = ctypes.create_string_buffer(b"GPL")
    return bpf(PROG_LOAD, struct.pack("<IIQQ", kind, 2, ctypes.addressof(code), ctypes.addressof(gpl)))


def attach_before(program, ifindex, where):
    return bpf(LINK_CREATE, struct.pack("<IIII", program, ifindex, where, BEFORE))


def detach_by_force(pin):
    """What whoever has CAP_SYS_ADMIN on the node can do to any link."""
    path = ctypes.create_string_buffer(str(pin).encode())
    link = bpf(OBJ_GET, struct.pack("<QII", ctypes.addressof(path), 0, 0))
    try:
        bpf(LINK_DETACH, struct.pack("<I", link))
    finally:
        os.close(link)


class Attachments(WorldCase):
    OBJECTS = (egress("rules", tcp_port(5000)),)

    def link_of(self, pod):
        return namespaces.run("ip", "-n", self.world.node, "-o", "link", "show", pod.link)

    def setUp(self):
        link = self.link_of(self.pod)
        self.ifindex = int(link.split(":")[0])
        self.node_mac = bytes.fromhex(link.split("link/ether ")[1][:17].replace(":", ""))
        self.assert_held()
        self.known = len(self.agent.status()["problems"])

    def attach(self, verdict, where=TCX_INGRESS):
        """Somebody else's program in front of ours."""
        program = load(verdict)
        self.addCleanup(os.close, program)
        try:
            link = namespaces.in_netns(self.world.node_path, lambda: attach_before(program, self.ifindex, where))
        except OSError as error:
            self.skipTest(f"no tcx here: {error}")
        self.addCleanup(os.close, link)

    def send_raw(self):
        """A datagram that no socket hook sees: only the boundary can stop it."""
        udp = struct.pack("!HHHH", 4444, UNKNOWN_TO_SOCKET_HOOKS, 8 + 4, 0) + b"leak"
        with self.pod.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
            header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                                 socket.inet_aton(self.pod.v4), socket.inet_aton(ORIGIN))
            total = sum(struct.unpack("!10H", header))
            while total >> 16:
                total = (total & 0xffff) + (total >> 16)
            header = header[:10] + struct.pack("!H", ~total & 0xffff) + header[12:]
            raw.sendto(header + udp, ("eth0", 0x0800, 0, 0, self.node_mac))

    def leaks(self):
        position = self.world.wire.position()
        self.send_raw()
        return len(self.arrived(position, ORIGIN, UNKNOWN_TO_SOCKET_HOOKS, self.pod))

    def assert_held(self):
        self.assertEqual(self.leaks(), 0)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assert_reaches(MESH, 5001)

    def problem(self, *words):
        return self.eventually(f"a problem about {words}", lambda: next(
            (text for text in self.agent.status()["problems"][self.known:] if all(word in text for word in words)), None))

    def test_a_program_attached_before_the_boundary_lets_frames_by_only_until_it_is_found(self):
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            self.attach(TCX_PASS)
            self.assertEqual(self.leaks(), 1, "which is what is to be found out")
        finally:
            self.agent.process.send_signal(signal.SIGCONT)
        self.problem(self.pod.link, "from_pod", "before it", "first again")
        self.assert_held()

    def test_one_that_only_looks_is_put_behind_without_a_gap(self):
        position = self.world.wire.position()
        self.attach(TCX_NEXT)
        while len(self.agent.status()["problems"]) == self.known:
            self.send_raw()
        self.assert_nothing_arrived(position, ORIGIN, UNKNOWN_TO_SOCKET_HOOKS, self.pod)
        self.assert_held()

    def test_what_egress_cni_has_put_in_front_until_it_is_told_is_no_fault(self):
        pod = self.world.add_pod(name="held", account="curl")
        self.agent.apply(pod.manifest())
        self.assert_reaches(ORIGIN, 5000, pod)
        known = self.world.folder / "known.json"
        cni.write_known(known)
        nobody = cni.configuration(self.world.folder / "nobody.sock", known, cni.previous_result(pod))
        self.assertIn("is held to the mesh", cni.call(pod, nobody).stderr)
        self.ifindex = int(self.link_of(pod).split(":")[0])
        self.attach(TCX_PASS, TCX_EGRESS)
        self.problem(pod.link, "to_pod", "first again")  # looked at after from_pod
        self.assertEqual([text for text in self.agent.status()["problems"][self.known:] if "from_pod" in text], [])
        position = self.world.wire.position()
        with self.assertRaises(TimeoutError):
            pod.connect(ORIGIN, 5000, timeout=0.3)
        self.assert_nothing_arrived(position, ORIGIN, 5000, pod)

    def test_the_way_into_the_pod_is_kept_too(self):
        self.attach(TCX_PASS, TCX_EGRESS)
        self.problem(self.pod.link, "to_pod", "first again")
        self.assert_held()

    def test_a_boundary_that_was_detached_is_attached_again(self):
        pin = self.agent.bpffs / "links" / f"tc-{self.ifindex}-from_pod"
        if pin.exists():
            detach_by_force(pin)
        else:  # a kernel without tcx
            namespaces.run("tc", "-n", self.world.node, "filter", "del", "dev", self.pod.link, "ingress")
        self.problem(self.pod.link, "from_pod", "detached", "first again")
        self.assert_held()

    def test_gro_on_the_nodes_side_is_switched_off_again(self):
        """With it frames would arrive without their socket, and nothing would leave the pod."""
        def gro(*value):
            command = [0x2b, 0x2c][bool(value)]  # ETHTOOL_GGRO, ETHTOOL_SGRO
            request = ctypes.create_string_buffer(struct.pack("II", command, *(value or (0,))))
            interface = struct.pack("16sP16x", self.pod.link.encode(), ctypes.addressof(request))
            with socket.socket() as sock:
                fcntl.ioctl(sock, SIOCETHTOOL, interface)
            return struct.unpack("II", request.raw[:8])[1]
        namespaces.in_netns(self.world.node_path, lambda: gro(1))
        self.eventually("GRO is off", lambda: namespaces.in_netns(self.world.node_path, gro) == 0)
        self.assert_held()

    def test_an_xdp_program_on_the_nodes_side_is_reported(self):
        program = load(XDP_PASS, XDP)
        self.addCleanup(os.close, program)
        link = namespaces.in_netns(self.world.node_path,
                                   lambda: bpf(LINK_CREATE, struct.pack("<IIII", program, self.ifindex, ATTACH_XDP, 0)))
        try:
            self.problem(self.pod.link, "XDP program", "detach it")
        finally:
            os.close(link)
        self.assert_held()

    def test_a_socket_program_that_was_detached_by_force_is_attached_again(self):
        detach_by_force(self.agent.bpffs / "links" / "connect4")
        self.problem("socket program", "attached again")
        self.assert_held()


if __name__ == "__main__":
    main()
