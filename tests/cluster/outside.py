"""The machine of the outside world: addresses outside the mesh, and servers at every one of them."""

import pathlib
import sys

from cluster import layout
from cluster.machine import Machine, wait_until
from support import namespaces

_DEMO_SERVER = pathlib.Path(__file__).parents[2] / "deploy" / "demo" / "server.py"


class Outside(Machine):
    def __init__(self, prefix, home, init):
        super().__init__(prefix, "outside", home, init)
        self.certificate, self.key = home / "certificate.pem", home / "key.pem"

    def route(self, nodes):
        for node in nodes:
            namespaces.ip(self.netns, f"route add {node.pods} via {node.address}\n")
        for world in layout.WORLD_RANGES:
            namespaces.ip(self.netns, f"route add local {world} dev lo\n")

    def make_certificate(self):
        names = ",".join(f"DNS:{name}" for name in layout.HOSTS)
        namespaces.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                       "-days", "365", "-subj", "/CN=outside", "-addext", f"subjectAltName={names}", "-keyout",
                       self.key, "-out", self.certificate)

    def start_servers(self):
        """httpbin.org and the others, as in deploy/demo: for people. Tests serve themselves, to see who came."""
        ready = self.home / "servers-ready"
        self.start("servers", sys.executable, "-B", _DEMO_SERVER, self.certificate, self.key, ready)
        wait_until("the servers of the outside are open", ready.exists, 20)
