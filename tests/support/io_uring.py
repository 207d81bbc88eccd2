"""connect(2) by io_uring (io_uring_setup(2), io_uring_enter(2)), by system calls alone: one entry, submitted and waited
for.
"""

import ctypes
import mmap
import os
import socket
import struct

SETUP, ENTER = 425, 426
OP_CONNECT, ENTER_GETEVENTS = 16, 1
OFF_SQ_RING, OFF_CQ_RING, OFF_SQES = 0, 0x8000000, 0x10000000
PARAMS = 120  # bytes of struct io_uring_params; the offsets of the rings begin at 40 and 80

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number, *arguments):
    result = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _u32(memory, at, value=None):
    if value is None:
        return struct.unpack_from("=I", memory, at)[0]
    struct.pack_into("=I", memory, at, value)
    return value


def connect(sock, address, port):
    """connect() of a blocking IPv4 socket by a ring; its errno, 0 on success."""
    params = ctypes.create_string_buffer(PARAMS)
    ring = _call(SETUP, 4, params)
    try:
        sq_entries, cq_entries = struct.unpack_from("=II", params, 0)
        head, tail, mask, _, _, _, array = struct.unpack_from("=7I", params, 40)
        cq_head, cq_tail, cq_mask, _, _, cqes = struct.unpack_from("=6I", params, 80)
        with mmap.mmap(ring, array + 4 * sq_entries, offset=OFF_SQ_RING) as sq, \
                mmap.mmap(ring, cqes + 16 * cq_entries, offset=OFF_CQ_RING) as cq, \
                mmap.mmap(ring, 64 * sq_entries, offset=OFF_SQES) as sqes:
            name = ctypes.create_string_buffer(struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) +
                                               socket.inet_aton(address) + bytes(8))
            # opcode, flags, ioprio, fd, the address' length, the address, ...
            struct.pack_into("=BBHiQQIIQ", sqes, 0, OP_CONNECT, 0, 0, sock.fileno(), 16, ctypes.addressof(name), 0, 0, 1)
            index = _u32(sq, tail) & _u32(sq, mask)
            _u32(sq, array + 4 * index, 0)
            _u32(sq, tail, _u32(sq, tail) + 1)
            _call(ENTER, ring, 1, 1, ENTER_GETEVENTS, None, 0)
            if _u32(cq, cq_head) == _u32(cq, cq_tail):
                raise RuntimeError("the ring has no completion")
            at = cqes + 16 * (_u32(cq, cq_head) & _u32(cq, cq_mask))
            return -struct.unpack_from("=i", cq, at + 8)[0]
    finally:
        os.close(ring)
