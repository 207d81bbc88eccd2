"""What tests say over a pod's sockets: HTTP byte for byte, TLS with a name."""

import dataclasses
import os
import socket
import ssl
import struct


class Closed(Exception):
    """The connection ended where a response was expected; `got`: what had come."""

    def __init__(self, got):
        super().__init__(f"connection closed after {bytes(got[:200])!r}")
        self.got = bytes(got)


@dataclasses.dataclass
class Response:
    status: int
    version: str
    headers: list  # (name in lower case, value)
    body: bytes
    interim: list  # status codes of the 1xx before it

    def get(self, name, default=""):
        return next((value for key, value in self.headers if key == name), default)


def request(target="/get", host="allowed.test", method="GET", body=b"", headers=(), version="1.1"):
    """A request as bytes; a body gets its Content-Length."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunks(*pieces):
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Http:
    """One connection; a context manager."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    def ask(self, target="/get", **options):
        """One request and its response."""
        self.send(request(target, **options))
        return self.response(head=options.get("method") == "HEAD")

    def _more(self):
        got = self.sock.recv(1 << 18)
        if not got:
            raise Closed(self.buffer)
        self.buffer += got

    def _take(self, size):
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def _until(self, mark):
        while (at := self.buffer.find(mark)) < 0:
            self._more()
        return self._take(at + len(mark))

    def read(self, size):
        while len(self.buffer) < size:
            self._more()
        return self._take(size)

    def read_to_end(self):
        """All that comes until the peer has sent all; a reset raises."""
        while got := self.sock.recv(1 << 18):
            self.buffer += got
        return self._take(len(self.buffer))

    def response_head(self):
        interim = []
        while True:
            line, *fields = self._until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
            version, status = line.split(" ")[:2]
            if not 100 <= int(status) < 200 or status == "101":
                break
            interim.append(int(status))
        headers = [(name.lower(), value.strip()) for name, value in (field.split(":", 1) for field in fields)]
        return Response(int(status), version, headers, b"", interim)

    def response(self, head=False):
        found = self.response_head()
        if head or found.status in (101, 204, 304):
            return found
        if "chunked" in found.get("transfer-encoding").lower():
            pieces = []
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                pieces.append(self.read(size))
                self.read(2)
            self._until(b"\r\n")
            found.body = b"".join(pieces)
        elif length := found.get("content-length"):
            found.body = self.read(int(length))
        else:
            found.body = self.read_to_end()
        return found

    def abort(self):
        """Ends it with a RST: a FIN alone says only that the client has sent all."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def ended(self):
        """How the connection ends: "fin", "reset", or "data" where more comes."""
        try:
            return "data" if self.buffer or self.sock.recv(1) else "fin"
        except ConnectionError:
            return "reset"


def open_tls(sock, name):
    """A TLS session over a connected socket; name: the SNI, or None."""
    context = ssl._create_unverified_context()
    if name is None:
        context.check_hostname = False
    return context.wrap_socket(sock, server_hostname=name)


def exchange(sock, text=None):
    """Send something unique to an echo and read it back."""
    text = text or os.urandom(8).hex().encode()
    sock.sendall(text)
    got = b""
    while len(got) < len(text):
        piece = sock.recv(1000)
        if not piece:
            raise Closed(got)
        got += piece
    if got != text:
        raise AssertionError(f"the echo answered {got!r} to {text!r}")
