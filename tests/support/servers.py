"""Servers of the outside, with a log of every byte that reached them. A connection is a thread."""

import contextlib
import hashlib
import socket
import ssl
import threading
import time

KEPT_BYTES = 1 << 20  # of a connection; the digest is over all


class Visit:
    """One accepted connection: what came, and how it ended ("fin" or "reset")."""

    def __init__(self, sock, peer):
        self.sock = sock
        self.peer, self.local = peer, sock.getsockname()
        self.data, self.total, self.digest = bytearray(), 0, hashlib.sha256()
        self.sni = None
        self.ended, self.ended_at = None, None
        self.changed = threading.Condition()

    def recv(self, size=1 << 16):
        """As socket.recv, logged."""
        try:
            got = self.sock.recv(size)
        except (ConnectionError, ssl.SSLError):
            self.end("reset")
            raise
        with self.changed:
            self.total += len(got)
            self.digest.update(got)
            self.data += got[:max(0, KEPT_BYTES - len(self.data))]
            self.changed.notify_all()
        if not got:
            self.end("fin")
        return got

    def end(self, how):
        with self.changed:
            if self.ended is None:
                self.ended, self.ended_at = how, time.monotonic()
            self.changed.notify_all()

    def wait_for_end(self, timeout=5):
        with self.changed:
            self.changed.wait_for(lambda: self.ended, timeout)
            return self.ended

    def wait_for_bytes(self, total, timeout=5):
        with self.changed:
            return self.changed.wait_for(lambda: self.total >= total, timeout)


class Server:
    """Accepts on a listener and calls handler(visit) in a thread for each; context: TLS."""

    def __init__(self, listener, handler, context=None):
        self.listener, self.handler, self.context = listener, handler, context
        self.visits, self.changed = [], threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for visit in self.visits:
            with contextlib.suppress(OSError):
                visit.sock.close()

    def position(self):
        return len(self.visits)

    def since(self, position):
        return self.visits[position:]

    def wait_for_visit(self, position, timeout=5):
        with self.changed:
            self.changed.wait_for(lambda: len(self.visits) > position, timeout)
            return self.visits[position]

    def _accept(self):
        while True:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            visit = Visit(sock, peer)
            with self.changed:
                self.visits.append(visit)
                self.changed.notify_all()
            threading.Thread(target=self._serve, args=(visit,), daemon=True).start()

    def _serve(self, visit):
        try:
            if self.context is not None:
                visit.sock = self.context.wrap_socket(visit.sock, server_side=True)
                visit.sni = getattr(visit.sock, "asked_name", None)
            self.handler(visit)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            visit.end("fin")
            with contextlib.suppress(OSError):
                visit.sock.close()


def tls_context(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def remember(connection, name, _context):
        connection.asked_name = name
    context.sni_callback = remember
    return context


def echo(visit):
    """Sends back what comes, until the client has sent all; then ends too."""
    while data := visit.recv():
        visit.sock.sendall(data)


def swallow(visit):
    """Takes what comes and says nothing."""
    while visit.recv():
        pass


def banner(visit):
    """Speaks first, as SMTP and MySQL do, then echoes."""
    visit.sock.sendall(b"220 outside ready\r\n")
    echo(visit)


def either(handler, context):
    """TLS or plain on one port, told apart by the first byte."""
    def serve(visit):
        if visit.sock.recv(1, socket.MSG_PEEK) == b"\x16":
            visit.sock = context.wrap_socket(visit.sock, server_side=True)
            visit.sni = getattr(visit.sock, "asked_name", None)
        handler(visit)
    return serve
