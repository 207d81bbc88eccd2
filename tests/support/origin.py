"""An HTTP/1.1 origin whose answers are told by the path, and that logs every request as it came.

| path | answer |
|---|---|
| /get/... | 200, the request line as text |
| /status/N | status N, a body where N may have one |
| /bytes/N | N bytes of pattern(N), Content-Length |
| /chunked/N | the same in chunks |
| /until-close/N | the same, ended by the end of the connection |
| /pieces/N/MS | N pieces of one byte, MS milliseconds apart, chunked |
| /sha | the SHA-256 of the request's body, as hex |
| /hold | a head and the first of two announced bytes, and nothing more |
| /silent | nothing at all |
| /early/N | 100 and 103 before a 200 |
| /upgrade | 101, then an echo of bytes |
| /continue | 100 Continue before the body is read, then as /sha |
| /close | 200 with Connection: close |
"""

import dataclasses
import hashlib
import threading
import time

KEPT_BODY = 1 << 16


def pattern(size):
    """`size` bytes that tell their position, so that a shift or a loss shows."""
    block = b"".join(b"%07d\n" % i for i in range(0, 1 << 17))
    return (block * (size // len(block) + 1))[:size]


@dataclasses.dataclass
class Request:
    head: bytes            # byte for byte, with the empty line
    method: str
    target: str
    version: str
    headers: list          # (name in lower case, value) in the order of arrival
    visit: object
    body: bytes = b""      # the first KEPT_BODY bytes
    body_size: int = 0
    body_sha: str = ""
    framing: str = "none"  # none, length, chunked
    complete: bool = False

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    def get(self, name, default=""):
        return (self.all(name) or [default])[0]


class Reader:
    """Buffered reading of one visit."""

    def __init__(self, visit):
        self.visit, self.buffer = visit, bytearray()

    def more(self):
        data = self.visit.recv(1 << 17)
        if not data:
            raise EOFError
        self.buffer += data

    def until(self, mark):
        while (at := self.buffer.find(mark)) < 0:
            self.more()
        return self.take(at + len(mark))

    def take(self, size):
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def pieces(self, size):
        while size > 0:
            if not self.buffer:
                self.more()
            piece = self.take(min(size, len(self.buffer)))
            size -= len(piece)
            yield piece


class Origin:
    """The handler of a Server, and its log."""

    def __init__(self):
        self.requests, self.changed = [], threading.Condition()
        self.bad = []  # what did not look like a request

    def position(self):
        return len(self.requests)

    def since(self, position):
        return self.requests[position:]

    def wait_for_request(self, position, timeout=5):
        with self.changed:
            self.changed.wait_for(lambda: len(self.requests) > position, timeout)
            return self.requests[position]

    def __call__(self, visit):
        reader = Reader(visit)
        while True:
            head = reader.until(b"\r\n\r\n")
            request = self._parse(head, visit)
            with self.changed:
                self.requests.append(request)
                self.changed.notify_all()
            if request.target == "/continue" and request.get("expect"):
                visit.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._read_body(reader, request)
            if not Answer(reader, request).send():
                return

    def _parse(self, head, visit):
        line, *fields = head[:-4].decode("latin-1").split("\r\n")
        try:
            method, target, version = line.split(" ")
            headers = [(name.lower(), value.strip()) for name, value in (field.split(":", 1) for field in fields)]
        except ValueError:
            self.bad.append(head)
            raise
        return Request(head, method, target, version, headers, visit)

    def _read_body(self, reader, request):
        digest = hashlib.sha256()

        def take(piece):
            digest.update(piece)
            request.body_size += len(piece)
            request.body += piece[:max(0, KEPT_BODY - len(request.body))]

        if "chunked" in request.get("transfer-encoding").lower():
            request.framing = "chunked"
            while size := int(reader.until(b"\r\n").split(b";")[0], 16):
                for piece in reader.pieces(size):
                    take(piece)
                reader.until(b"\r\n")
            while reader.until(b"\r\n") != b"\r\n":
                pass
        elif request.get("content-length"):
            request.framing = "length"
            for piece in reader.pieces(int(request.get("content-length"))):
                take(piece)
        request.body_sha, request.complete = digest.hexdigest(), True


class Answer:
    """What a request is answered with; send() says whether the connection goes on."""

    def __init__(self, reader, request):
        self.reader, self.sock, self.request = reader, request.visit.sock, request
        _, self.what, *self.arguments = request.target.split("?")[0].split("/")
        self.keep = request.version == "HTTP/1.1" and "close" not in request.get("connection").lower()

    def send(self):
        kind = getattr(self, "_" + self.what.replace("-", "_"), None)
        if kind is None or self.what == "get":
            self._get()
        else:
            kind(*self.arguments)
        return self.keep

    def reply(self, body, status="200 OK", extra=()):
        lines = [f"HTTP/1.1 {status}", "Server: origin", f"Content-Length: {len(body)}", *extra]
        if not self.keep:
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.sock.sendall(head if self.request.method == "HEAD" else head + body)

    def _get(self):
        self.reply(f"{self.request.method} {self.request.target}\n".encode())

    def _status(self, number):
        if number in ("204", "304"):
            extra = "ETag: \"x\"\r\n" if number == "304" else ""
            self.sock.sendall(f"HTTP/1.1 {number} Without\r\n{extra}\r\n".encode())
        else:
            self.reply(b"status\n", f"{number} Status")

    def _bytes(self, size):
        self.reply(pattern(int(size)), extra=["Content-Type: application/octet-stream"])

    def chunked_head(self):
        self.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def _chunked(self, size):
        body, at, step = pattern(int(size)), 0, 7
        self.chunked_head()
        while at < len(body):  # chunks of all sizes
            piece = body[at:at + step]
            self.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            at, step = at + len(piece), min(step * 3, 300_000)
        self.sock.sendall(b"0\r\n\r\n")

    def _until_close(self, size):
        self.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + pattern(int(size)))
        self.keep = False

    def _pieces(self, count, milliseconds):
        self.chunked_head()
        for _ in range(int(count)):
            self.sock.sendall(b"1\r\n.\r\n")
            time.sleep(int(milliseconds) / 1000)  # the server is slow on purpose
        self.sock.sendall(b"0\r\n\r\n")

    def _sha(self):
        self.reply(self.request.body_sha.encode())

    _continue = _sha

    def _hold(self):
        self.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
        self.reader.until(b"never")

    def _silent(self):
        self.reader.until(b"never")

    def _early(self, *_):
        self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        self.reply(b"late\n")

    def _upgrade(self):
        self.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while True:
            if not self.reader.buffer:
                self.reader.more()
            self.sock.sendall(self.reader.take(len(self.reader.buffer)))

    def _close(self):
        self.keep = False
        self.reply(b"bye\n")
