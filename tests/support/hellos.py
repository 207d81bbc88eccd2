"""ClientHellos byte by byte (RFC 8446, 4.1.2; RFC 6066, 3): well-formed unless told otherwise."""

import os
import struct


def vector(width, data):
    return len(data).to_bytes(width, "big") + data


def extension(kind, data):
    return struct.pack("!H", kind) + vector(2, data)


def server_name(*names, kind=0):
    """The extension; a name is text or bytes."""
    return extension(0, vector(2, b"".join(
        bytes([kind]) + vector(2, name if isinstance(name, bytes) else name.encode()) for name in names)))


def key_share(size=32):
    """As of X25519; 1216 bytes are those of X25519MLKEM768."""
    return extension(51, vector(2, struct.pack("!H", 29) + vector(2, os.urandom(size))))


def padding(size):
    return extension(21, bytes(size))


VERSIONS = extension(43, b"\2\3\4")


def message(*extensions, session=32, ciphers=16):
    body = b"\3\3" + os.urandom(32) + vector(1, os.urandom(session)) + vector(2, b"\x13\1" * ciphers) + b"\1\0" + \
        vector(2, b"".join(extensions))
    return b"\1" + vector(3, body)


def records(data, size=1 << 14):
    """A handshake message in records of `size` bytes."""
    return b"".join(b"\x16\3\1" + vector(2, data[at:at + size]) for at in range(0, len(data), size))


def hello(name, **options):
    """One record with what a client of today sends."""
    return records(message(server_name(name), VERSIONS, key_share(), **options))
