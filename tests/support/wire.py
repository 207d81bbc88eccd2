"""What arrives at the outside, packet by packet: a leak is seen even where no server answers."""

import dataclasses
import os
import socket
import struct
import threading
import time

from support import namespaces

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
PACKET_OUTGOING = 4
SYN, RST, ACK, FIN = 2, 4, 16, 1
KEPT_BYTES = 2048  # of a payload; `length` has all


@dataclasses.dataclass
class Packet:
    source: str
    destination: str
    protocol: int  # IPPROTO_*
    source_port: int
    port: int
    flags: int     # of TCP
    length: int    # of the payload
    payload: bytes


def parse(frame):
    """An Ethernet frame as a Packet, or None for what is not IP."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0800:
        header = (frame[14] & 15) * 4
        family, protocol = socket.AF_INET, frame[23]
        source, destination, at = frame[26:30], frame[30:34], 14 + header
        end = min(len(frame), 14 + int.from_bytes(frame[16:18], "big") or len(frame))
    elif kind == 0x86DD:
        family, protocol = socket.AF_INET6, frame[20]
        source, destination, at = frame[22:38], frame[38:54], 54
        end = len(frame)
    else:
        return None
    ports, flags, payload = (0, 0), 0, at
    if protocol == socket.IPPROTO_TCP:
        ports, flags, payload = struct.unpack_from("!HH", frame, at), frame[at + 13], at + (frame[at + 12] >> 4) * 4
    elif protocol == socket.IPPROTO_UDP:
        ports, payload = struct.unpack_from("!HH", frame, at), at + 8
    return Packet(socket.inet_ntop(family, source), socket.inet_ntop(family, destination), protocol, *ports, flags,
                  max(0, end - payload), bytes(frame[payload:min(end, payload + KEPT_BYTES)]))


class Wire:
    """Records what comes in over an interface of the namespace at `path`. sync() waits for all that was sent before."""

    def __init__(self, path, interface, marker_source, marker_address):
        def open_socket():
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            sniffer.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            sniffer.bind((interface, ETH_P_ALL))
            return sniffer
        self._sniffer = namespaces.in_netns(path, open_socket)
        self._marker = namespaces.in_netns(marker_source, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._marker_address = (marker_address, 9)
        self._changed = threading.Condition()
        self._packets, self._markers, self._closing = [], set(), False
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        self._mark()
        self._thread.join(5)
        self._sniffer.close()
        self._marker.close()

    def _record(self):
        buffer = bytearray(1 << 17)
        while not self._closing:
            size, address = self._sniffer.recvfrom_into(buffer)
            if address[2] == PACKET_OUTGOING:
                continue
            packet = parse(memoryview(buffer)[:size])
            if packet is None:
                continue
            with self._changed:
                if packet.protocol == socket.IPPROTO_UDP and packet.port == 9:
                    self._markers.add(packet.payload)
                else:
                    self._packets.append(packet)
                self._changed.notify_all()

    def _mark(self):
        token = os.urandom(16)
        self._marker.sendto(token, self._marker_address)
        return token

    def sync(self, timeout=10):
        """Returns once all that was sent before is recorded."""
        token = self._mark()
        with self._changed:
            if not self._changed.wait_for(lambda: token in self._markers, timeout):
                raise TimeoutError("the outside did not see the marker packet")
            self._markers.discard(token)

    def position(self):
        self.sync()
        with self._changed:
            return len(self._packets)

    def since(self, position):
        """All packets recorded after position()."""
        self.sync()
        with self._changed:
            return self._packets[position:]

    def wait_for(self, position, predicate, timeout=5):
        """The first packet after `position` for which predicate(packet) is true; None if none comes in time."""
        def find():
            return next((packet for packet in self._packets[position:] if predicate(packet)), None)
        end = time.monotonic() + timeout
        with self._changed:
            while (found := find()) is None and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return found
