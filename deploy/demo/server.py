#!/usr/bin/python3
"""The outside world of the demo: what answers at httpbin.org, openservicemesh.io and the others.

    server.py CERTIFICATE KEY READY_FILE

One process serves every address of its network namespace: HTTP on 80, HTTPS on 443, and on 3306 a server that speaks
first, as MySQL does. READY_FILE is made once all ports are open. Only the standard library is used.
"""

import http.server
import json
import pathlib
import re
import socket
import socketserver
import ssl
import sys
import threading

OSM_PAGE = "<!doctype html><title>Open Service Mesh</title><h1>Open Service Mesh</h1>\n"
BANNER = b"8.0.36 mysql.example: who are you?\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length).decode(errors="replace")
        host = (self.headers.get("Host") or "").split(":")[0]
        if host == "httpbin.org":
            self.httpbin()
        else:
            self.answer(200, OSM_PAGE if host == "openservicemesh.io" else f"this is {host}\n", "text/html")

    do_HEAD = do_POST = do_GET

    def httpbin(self):
        path = self.path.split("?")[0]
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        seen = {"headers": dict(self.headers), "origin": self.client_address[0].removeprefix("::ffff:"),
                "url": f"{scheme}://{self.headers['Host']}{self.path}"}
        if status := re.fullmatch(r"/status/([2-5]\d\d)", path):
            self.answer(int(status[1]), "", "text/html")
        elif path == "/get" and self.command != "POST":
            self.answer(200, json.dumps(seen, indent=2) + "\n")
        elif path == "/post" and self.command == "POST":
            self.answer(200, json.dumps(seen | {"data": self.body}, indent=2) + "\n")
        elif path == "/headers":
            self.answer(200, json.dumps({"headers": seen["headers"]}, indent=2) + "\n")
        else:
            self.answer(404, "httpbin has no such page\n", "text/plain")

    def answer(self, status, text, kind="application/json"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self):
        return "demo"

    def log_message(self, *_):
        pass


class Banner(socketserver.BaseRequestHandler):
    """Says its line at once and waits for the client to go."""

    def handle(self):
        self.request.settimeout(30)
        self.request.sendall(BANNER)
        self.request.recv(1)


class Server(socketserver.ThreadingTCPServer):
    """On every IPv4 and IPv6 address. With a TLS context the handshake is done in the thread of its connection."""

    address_family = socket.AF_INET6
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, handler, tls=None):
        self.tls = tls
        super().__init__(("::", port), handler)

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def finish_request(self, request, client_address):
        if self.tls:
            request.settimeout(30)
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, *_):
        """Clients that are cut off in the middle are part of the demo."""


def main():
    certificate, key, ready = sys.argv[1:]
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    servers = [Server(80, Handler), Server(443, Handler, tls), Server(3306, Banner)]
    pathlib.Path(ready).touch()
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
