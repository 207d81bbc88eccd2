"""Frames byte by byte, and sockets that send and see them as they are: what no socket hook of the kernel looks at.

Frames are well-formed unless told otherwise; checksums are right.
"""

import os
import socket
import struct
import time

from support import namespaces
from support.wire import ETH_P_ALL, PACKET_OUTGOING, SO_RCVBUFFORCE

IP4, IP6, ARP = 0x0800, 0x86DD, 0x0806
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def token():
    """Bytes by which a frame is known again wherever it turns up."""
    return os.urandom(12)


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ethernet(to, source, kind, body, tags=()):
    """tags: EtherTypes of VLAN tags in front, each of VLAN 5."""
    return to + source + b"".join(struct.pack("!HH", tag, 5) for tag in tags) + struct.pack("!H", kind) + body


def ip4(source, to, protocol, body, ttl=64, fragment=0, options=b"", words=None, length=None, version=4):
    words = 5 + len(options) // 4 if words is None else words
    length = 20 + len(options) + len(body) if length is None else length
    head = struct.pack("!BBHHHBBH4s4s", version << 4 | words, 0, length, 7, fragment, ttl, protocol, 0, packed(source),
                       packed(to)) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ip6(source, to, protocol, body, hops=64, extensions=(), length=None):
    """extensions: (type, what follows the byte that names the next header)."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    chain = b"".join(bytes([following]) + rest for following, (_, rest) in zip(kinds[1:], extensions))
    length = len(chain) + len(body) if length is None else length
    return struct.pack("!IHBB", 6 << 28, length, kinds[0], hops) + packed(source) + packed(to) + chain + body


def ip(source, to, protocol, body, **options):
    return (ip6 if ":" in to else ip4)(source, to, protocol, body, **options)


def _sum_over(source, to, protocol, body, at):
    pseudo = packed(source) + packed(to) + struct.pack("!II" if ":" in to else "!HH", *(
        (len(body), protocol) if ":" in to else (protocol, len(body))))
    return body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2:]


def udp(source, to, source_port, port, payload, protocol=UDP):
    body = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload
    return _sum_over(source, to, protocol, body, 6)


def tcp(source, to, source_port, port, flags, payload=b"", sequence=1, acknowledged=0, words=5, urgent=0):
    body = struct.pack("!HHIIBBHHH", source_port, port, sequence & 0xFFFFFFFF, acknowledged & 0xFFFFFFFF, words << 4,
                       flags, 0xFFFF, 0, urgent) + payload
    return _sum_over(source, to, TCP, body, 16)


def icmp(source, to, kind, code=0, rest=bytes(4), payload=b""):
    """The protocol of the family: ICMP, or ICMPv6."""
    body = struct.pack("!BBH", kind, code, 0) + rest + payload
    if ":" in to:
        return _sum_over(source, to, ICMP6, body, 2)
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def arp(operation, sender_mac, sender, target, target_mac=bytes(6)):
    return struct.pack("!HHBBH", 1, IP4, 6, 4, operation) + sender_mac + packed(sender) + target_mac + packed(target)


class Tap:
    """Sees the frames that come in over an interface of the namespace at `path`, those for other machines too."""

    def __init__(self, path, interface):
        def open_socket():
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            opened.bind((interface, ETH_P_ALL))
            return opened
        self._socket = namespaces.in_netns(path, open_socket)

    def close(self):
        self._socket.close()

    def _next(self, timeout):
        self._socket.settimeout(timeout)
        while True:
            frame, address = self._socket.recvfrom(1 << 17)
            if address[2] != PACKET_OUTGOING:
                return frame

    def drain(self):
        try:
            while True:
                self._next(0)
        except (BlockingIOError, TimeoutError):
            return

    def until(self, mark, timeout=5):
        """All frames up to the first that holds `mark`; a TimeoutError tells that it never came."""
        seen, end = [], time.monotonic() + timeout
        while not seen or mark not in seen[-1]:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no frame with {mark!r} among {len(seen)}")
            try:
                seen.append(self._next(left))
            except TimeoutError:
                raise TimeoutError(f"no frame with {mark!r} among {len(seen)}") from None
        return seen


class Sender:
    """An AF_PACKET socket at a pod's eth0."""

    def __init__(self, pod, interface="eth0"):
        self.pod = pod
        self._socket = pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((interface, 0))
        self.mac = self._socket.getsockname()[4]

    def close(self):
        self._socket.close()

    def send(self, frame):
        self._socket.send(frame)
