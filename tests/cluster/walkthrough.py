"""The upstream guide with kubectl, and with pods that a Deployment made, one on each node."""

from cluster.case import HTTP_PORT, ROOT, TLS_PORT, ClusterCase

MANIFESTS = ROOT / "deploy/demo/manifests"
HTTPBIN, HTTPBIN_TLS, OTHER_TLS = "http://httpbin.org/get", "https://httpbin.org/get", "https://openservicemesh.io/get"


class Walkthrough(ClusterCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.namespace("curl")
        cls.curls = cls.deployment("curl", "curl")

    def test_pods_of_both_nodes_are_governed(self):
        self.assertEqual(set(self.curls), {node.name for node in self.cluster.nodes})
        for pod in self.curls.values():
            self.assertIn(f"curl/{pod.name}", self.egressctl(pod.node, "pods").stdout)

    def apply_file(self, name):
        self.cluster.kubectl("apply", "-f", MANIFESTS / f"{name}.yaml")

    def delete_file(self, name):
        self.cluster.kubectl("delete", "-f", MANIFESTS / f"{name}.yaml")

    def on_both(self, check, *arguments, **options):
        for pod in self.curls.values():
            check(pod, *arguments, **options)

    def becomes_refused(self, url, port):
        self.on_both(lambda pod: self.becomes((7, 0), pod, url))
        self.on_both(self.assert_refused, url, port=port)

    def becomes_reached(self, url, port):
        self.on_both(lambda pod: self.becomes((0, 200), pod, url))
        self.on_both(self.assert_reached, url, port=port)

    def test_http_by_host_and_route(self):
        self.on_both(self.assert_refused, HTTPBIN, port=HTTP_PORT)
        self.apply_file("httpbin-80")
        self.becomes_reached(HTTPBIN, HTTP_PORT)
        requests = self.world.origin.position()
        for pod in self.curls.values():
            self.assertEqual(self.curl(pod, "-H", "Host: openservicemesh.io", HTTPBIN), (0, 404))
        self.assertEqual(self.world.origin.since(requests), [])
        self.delete_file("httpbin-80")
        self.becomes_refused(HTTPBIN, HTTP_PORT)

    def test_https_by_server_name(self):
        self.on_both(self.assert_refused, HTTPBIN_TLS, port=TLS_PORT)
        self.apply_file("httpbin-443")
        self.becomes_reached(HTTPBIN_TLS, TLS_PORT)
        for pod in self.curls.values():
            self.assertEqual(self.curl(pod, OTHER_TLS), (35, 0))
        self.assertNotIn("openservicemesh.io", [visit.sni for visit in self.world.servers[TLS_PORT].visits])
        self.delete_file("httpbin-443")
        self.becomes_refused(HTTPBIN_TLS, TLS_PORT)

    def test_tcp_by_port_and_address(self):
        self.on_both(self.assert_refused, OTHER_TLS, port=TLS_PORT)
        self.apply_file("tcp-443")
        self.becomes_reached(OTHER_TLS, TLS_PORT)
        self.apply_file("tcp-443-range")
        self.becomes_refused("https://other.example/get", TLS_PORT)
        self.on_both(self.assert_reached, OTHER_TLS, port=TLS_PORT)
        self.delete_file("tcp-443-range")
        self.becomes_refused(OTHER_TLS, TLS_PORT)

    def test_a_pod_of_a_namespace_that_is_not_enrolled_reaches_all(self):
        self.namespace("free", enrolled=False)
        for pod in self.deployment("free", "free").values():
            self.assert_reached(pod, HTTPBIN, port=HTTP_PORT)
        self.on_both(self.assert_refused, HTTPBIN, port=HTTP_PORT)

    def test_the_mesh_is_open(self):
        """The other node's pods and the own one's, by address; the name server, by every name above."""
        self.namespace("shop", enrolled=False)
        servers = self.deployment("shop", "shop", command=["httpd", "-f", "-p", "8080", "-h", "/tmp"])
        for server in servers.values():
            for pod in self.curls.values():
                self.assertEqual(self.curl(pod, f"http://{server.address}:8080/"), (0, 404))
