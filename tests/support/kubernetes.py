"""An agent whose source is an API server."""

import time

from support import namespaces
from support.agent import Agent
from support.api_server import ApiServer

API_PORT = 6443


def api_listener(world, port=API_PORT):
    """In the node's namespace."""
    return namespaces.listening_socket(world.node_path, port)


def add_api_server(world, port=API_PORT, **options):
    server = ApiServer(api_listener(world, port), **options)
    server.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
                  "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
                  "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]}},
                 {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default"},
                  "spec": {"clusterIPs": ["10.96.0.1"]}})
    world.stack.callback(lambda: server.stop() if server.thread.is_alive() else None)
    return server


class KubernetesAgent(Agent):
    """Objects go to the API server; it is `api`."""

    api = None

    def connect(self, api, user=None, **cluster):
        self.api = api
        path = api.kubeconfig(self.folder / "kubeconfig", host="127.0.0.1", user=user, **cluster)
        self.source = {"kubeconfig": path}

    def apply(self, *items):
        self.api.apply(*items)
        self.settle()

    def delete(self, *items):
        self.api.delete(*items)
        self.settle()

    def write_marker(self, name):
        self.api.apply({"apiVersion": "policy.openservicemesh.io/v1alpha1", "kind": "Egress",
                        "metadata": {"name": name, "namespace": "marker"}, "spec": {}})
        self.last_marker = name

    def settle(self):
        """As with manifests, once the agent is in step with the server."""
        if self.running() and self.page("/readyz")[0] == 200:
            super().settle()
            self.api.delete({"kind": "Egress", "metadata": {"name": self.last_marker, "namespace": "marker"}})

    def kinds(self):
        """What `status` says of each kind that is watched."""
        return {kind["kind"]: kind for kind in self.status()["kinds"]}

    def wait_watching(self, kind, timeout=20):
        end = time.monotonic() + timeout
        while self.kinds()[kind]["state"] != "watching":
            if time.monotonic() > end:
                raise AssertionError(f"{kind} is not watched: {self.kinds()[kind]}")
            time.sleep(0.01)
