"""Policy and pods from the Kubernetes API: what is in force when the server answers, and when it does not."""

import json
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import kubernetes, manifests, namespaces
from support.api_server import Answer, tls_context
from support.case import WorldCase, main, tcp_port
from support.manifests import egress, port
from support.world import HTTP_PORT, ORIGIN


class KubernetesCase(WorldCase):
    """A world with an API server of its own, and an agent that reads from it."""

    @classmethod
    def make_agent(cls):
        cls.api = kubernetes.add_api_server(cls.world)
        agent = cls.world.add_agent(config=cls.CONFIG, kind=kubernetes.KubernetesAgent)
        agent.connect(cls.api)
        return agent

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls.START:
            cls.wait_present()

    @classmethod
    def wait_present(cls):
        end = time.monotonic() + 20
        while (status := cls.agent.pod_status(cls.pod.key)) is None or status["state"] != "guarded":
            if time.monotonic() > end:
                raise AssertionError(f"the pod is not found: {status}\n{cls.agent.log()[-2000:]}")
            time.sleep(0.01)

    def eventually_reaches(self, address, number):
        def reaches():
            try:
                self.pod.connect(address, number).close()
                return True
            except ConnectionRefusedError:
                return False
        self.eventually(f"{address} port {number} is reached", reaches, 20)

    def eventually_refused(self, address, number):
        def refused():
            try:
                self.pod.connect(address, number).close()
                return False
            except ConnectionRefusedError:
                return True
        self.eventually(f"{address} port {number} is refused", refused, 20)


class ObjectsOfTheApi(KubernetesCase):
    OBJECTS = (egress("rules", tcp_port(5000)),)

    def test_rules_of_the_first_list_are_in_force_and_changes_follow(self):
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.allow("more", tcp_port(5001))
        self.assert_reaches(ORIGIN, 5001)
        self.delete(egress("more"))
        self.assert_refused(ORIGIN, 5001)

    def test_a_namespace_that_leaves_the_mesh_sets_its_pods_free_and_enrolment_binds_them_again(self):
        self.assert_refused(ORIGIN, 5002)
        self.api.apply(manifests.namespace("curl", enrolled=False))
        self.eventually_reaches(ORIGIN, 5002)
        self.api.apply(manifests.namespace("curl"))
        self.eventually_refused(ORIGIN, 5002)

    def test_the_annotations_of_manifests_mean_nothing(self):
        status = self.agent.pod_status(self.pod.key)
        self.assertEqual(status["state"], "guarded")
        other = self.pod.manifest()
        other["metadata"]["annotations"]["egressd.io/netns"] = str(self.world.outside_path)
        self.agent.apply(other)
        self.assertEqual(self.agent.pod_status(self.pod.key)["netns"], status["netns"])
        self.assert_refused(ORIGIN, 5001)

    def test_pods_of_other_nodes_are_not_asked_for(self):
        self.assertTrue(self.api.seen(r"GET /api/v1/pods\?.*fieldSelector=spec.nodeName%3Dnode-1"))
        self.assertFalse([request for request in self.api.seen(r"GET /api/v1/pods\?")
                          if "fieldSelector" not in request.query])

    def test_status_says_what_is_watched_and_how_old_it_is(self):
        status = self.agent.status()
        self.assertEqual(status["source"], "Kubernetes API at http://127.0.0.1:6443")
        self.assertEqual({kind["kind"]: kind["state"] for kind in status["kinds"]}, {
            kind: "watching"
            for kind in ("Egress", "HTTPRouteGroup", "UpstreamTrafficSetting", "MeshConfig", "Namespace", "Pod")})
        self.assertEqual(status["ageSeconds"], 0)
        self.assertEqual(self.agent.metric("egressd_source_age_seconds"), 0)
        self.assertIn("watched:", self.agent.ctl("status").stdout)

    def test_an_invalid_egress_gets_one_event_for_each_change(self):
        wrong = egress("wrong", port(70000, "tcp"))
        self.agent.apply(wrong)
        self.addCleanup(self.agent.delete, wrong)

        def told():
            return [event for event in self.api.objects["Event"].values() if event["involvedObject"]["name"] == "wrong"]
        event, = self.eventually("an Event", told, 10)
        self.assertIn("spec.ports[0].number: must be in 1..65535, is 70000", event["message"])
        self.assertEqual((event["reason"], event["type"]), ("Invalid", "Warning"))
        self.assertEqual(event["involvedObject"]["uid"],
                         self.api.objects["Egress"][("curl", "wrong")]["metadata"]["uid"])
        self.agent.apply(egress("other", port(1, "tcp"), namespace="curl"))
        self.assertEqual(len(told()), 1)
        self.agent.apply(egress("wrong", port(80000, "tcp")))
        self.eventually("an Event on the change", lambda: len(told()) == 2, 10)


class FaultsOfTheServer(KubernetesCase):
    """Each test leaves the watch of Egress in another way, changes something meanwhile, and sees it in force."""

    OBJECTS = (egress("rules", tcp_port(5000)),)

    def setUp(self):
        self.addCleanup(setattr, self.api, "fault", lambda request: None)
        self.addCleanup(setattr, self.api, "on_watch", lambda kind, write: None)

    def tearDown(self):
        self.api.fault = lambda request: None
        self.agent.wait_watching("Egress")

    def test_a_compacted_server_is_listed_again(self):
        lists = len(self.api.seen(r"GET /apis/.*/egresses\?limit=500"))
        reached = threading.Event()

        def fault(request):
            if request.path.endswith("egresses") and "watch" in request.query and not reached.is_set():
                self.api.apply(egress("late", tcp_port(5001)))
                self.api.compact()
                reached.set()
        self.api.fault = fault
        self.api.cut()
        self.eventually_reaches(ORIGIN, 5001)
        self.api.delete(egress("late"))
        self.eventually_refused(ORIGIN, 5001)
        self.assertEqual(len(self.api.seen(r"GET /apis/.*/egresses\?limit=500")), lists + 1)
        self.assert_reaches(ORIGIN, 5000)

    def test_a_stream_that_ends_in_the_middle_of_a_line_loses_nothing(self):
        once = threading.Event()

        def half_an_event(kind, write):
            if kind == "Egress" and not once.is_set():
                once.set()
                write(b'{"type":"DELETED","object":{"apiVersion":"policy.openservicemesh.io/v1alpha1","kind":"Egress","me')
                self.api.apply(egress("late", tcp_port(5001)))
                raise OSError
        self.api.on_watch = half_an_event
        self.api.cut()
        self.eventually_reaches(ORIGIN, 5001)
        self.assert_reaches(ORIGIN, 5000)
        self.api.delete(egress("late"))
        self.eventually_refused(ORIGIN, 5001)

    def test_a_restored_backup_takes_back_what_came_after_it(self):
        before = self.api.snapshot()
        self.agent.apply(egress("late", tcp_port(5001)), egress("later", tcp_port(5002)))
        self.assert_reaches(ORIGIN, 5001)
        self.api.restore(before)
        self.api.apply(egress("later", tcp_port(5002)))
        self.api.cut()
        self.eventually_refused(ORIGIN, 5001)
        self.assert_reaches(ORIGIN, 5002)
        self.api.delete(egress("later"))
        self.eventually_refused(ORIGIN, 5002)
        self.assert_reaches(ORIGIN, 5000)

    def test_a_restored_backup_is_seen_also_where_versions_are_past_ours_again(self):
        before = self.api.snapshot()
        self.agent.apply(egress("late", tcp_port(5001)))
        self.assert_reaches(ORIGIN, 5001)
        self.api.restore(before, 100)
        self.api.cut()
        self.eventually_refused(ORIGIN, 5001)
        self.agent.wait_watching("Egress")
        self.agent.apply(egress("late", tcp_port(5001)))
        before = self.api.snapshot()
        self.agent.delete(egress("late"))
        self.eventually_refused(ORIGIN, 5001)
        self.api.restore(before, 100)
        self.api.cut()
        self.eventually_reaches(ORIGIN, 5001)
        self.api.delete(egress("late"))
        self.eventually_refused(ORIGIN, 5001)
        self.assert_reaches(ORIGIN, 5000)

    def test_a_server_that_refuses_leaves_what_is_in_force(self):
        def fault(request):
            if request.path.endswith("egresses"):
                raise Answer(503, "etcd has no leader", [("Retry-After", "1")])
        self.api.fault = fault
        self.api.cut()
        kind = self.eventually("status says so", lambda: "etcd has no leader" in self.agent.kinds()["Egress"]["error"]
                               and self.agent.kinds()["Egress"], 10)
        self.assertEqual((kind["state"], kind["objects"]), ("waiting", 1))
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.eventually("the metric grows", lambda: self.agent.metric("egressd_source_age_seconds") > 0, 10)

    def test_a_kind_that_is_taken_away_grants_nothing_and_comes_back(self):
        definition = self.api.objects["Egress"]
        self.api.absent.add("Egress")
        self.api.cut()
        self.eventually_refused(ORIGIN, 5000)
        self.eventually("status says so", lambda: self.agent.kinds()["Egress"]["state"] == "absent")
        self.assertIn("not installed in the cluster", self.agent.ctl("status").stdout)
        self.api.objects["Egress"] = definition
        self.api.absent.discard("Egress")
        self.eventually_reaches(ORIGIN, 5000)


class AwayServer(KubernetesCase):
    OBJECTS = (egress("rules", tcp_port(5000), port(HTTP_PORT, "http"), hosts=["allowed.test"], routes=["get"]),
               manifests.route_group("get", {"pathRegex": "/get"}))

    def test_what_is_in_force_stays_also_over_a_restart_and_then_the_difference_is_applied(self):
        def unchanged():
            self.assert_reaches(ORIGIN, 5000)
            self.assert_refused(ORIGIN, 5001)
            self.assertEqual(self.get("/get", host="allowed.test").status, 200)
            self.assert_request_denied(404, "/post", host="allowed.test")
        unchanged()
        self.api.stop()
        unchanged()
        self.agent.stop()
        self.agent.spawn()
        self.eventually("egressd answers", lambda: self.agent.page("/readyz")[0] == 503)
        self.eventually("the proxy is there", lambda: self.agent.status()["proxy"]["state"] == "running", 20)
        self.eventually("http goes on", lambda: self.get("/get", host="allowed.test").status == 200, 10)
        unchanged()
        status, why = self.agent.page("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("policies are not in force yet", why)
        self.assertIn("cannot reach http://127.0.0.1:6443", why)
        self.api.delete(manifests.route_group("get"))
        self.api.apply(egress("rules", tcp_port(5001), port(HTTP_PORT, "http"), hosts=["allowed.test"], routes=["post"]),
                       manifests.route_group("post", {"pathRegex": "/post"}))
        self.api.restart(lambda: kubernetes.api_listener(self.world))
        self.agent.wait_ready()
        self.eventually_reaches(ORIGIN, 5001)
        self.assert_refused(ORIGIN, 5000)
        self.assertEqual(self.get("/post", host="allowed.test").status, 200)
        self.assert_request_denied(404, "/get", host="allowed.test")


class FirstStart(KubernetesCase):
    START = False

    def tearDown(self):
        if self.agent.running():
            self.agent.stop()
        self.agent.run("--uninstall")
        self.api.fault = lambda request: None
        self.api.tokens = None
        self.agent.configure()
        self.agent.source = {"kubeconfig": self.api.kubeconfig(self.agent.folder / "kubeconfig", host="127.0.0.1")}

    def test_nothing_is_in_force_before_every_kind_has_been_listed(self):
        held = threading.Event()

        def fault(request):
            if request.path.endswith("meshconfigs"):
                held.wait(20)
        self.api.fault = fault
        self.agent.spawn()
        self.eventually("all but MeshConfig are listed", lambda: "first list of MeshConfig" in
                        self.agent.page("/readyz")[1] and "first list of MeshConfig," not in self.agent.page("/readyz")[1], 15)
        self.assertNotIn("connect4", json.dumps(self.agent.status()["programs"]))
        held.set()
        self.agent.wait_ready()
        self.wait_present()
        self.assert_refused(ORIGIN, 5000)

    def test_without_mesh_cidrs_it_is_not_ready_and_says_what_they_probably_are(self):
        self.agent.configure(meshCIDRs=[])
        self.agent.spawn()
        self.eventually("the log says so", lambda: "they are probably [10.96.0.0/16, 10.244.0.0/16, fd00:10:244::/48]"
                        in self.agent.log(), 10)
        status, why = self.agent.page("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("meshCIDRs is empty", why)
        self.pod.connect(ORIGIN, 5000).close()

    def test_a_node_name_that_the_cluster_does_not_have_is_named(self):
        self.agent.source["node_name"] = "nobody"
        self.agent.spawn()
        self.eventually("the page says so", lambda: 'no node "nobody"' in self.agent.page("/readyz")[1], 10)

    def test_a_token_that_expires_is_read_again(self):
        token = self.agent.folder / "token"
        token.write_text("old")
        self.api.tokens = {"old"}
        self.agent.connect(self.api, user={"tokenFile": "token"})
        self.agent.start()
        self.api.tokens = {"new"}
        self.api.cut()
        self.eventually("status says so", lambda: "401: Unauthorized" in self.agent.kinds()["Egress"]["error"], 10)
        token.write_text("new")
        for kind in ("Egress", "Pod"):
            self.agent.wait_watching(kind)

    def test_a_server_with_tls_is_verified_and_gets_the_clients_certificate(self):
        folder = self.world.folder
        namespaces.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                       "-days", "2", "-subj", "/CN=api.test", "-addext", "subjectAltName=DNS:api.test", "-keyout",
                       folder / "api.key", "-out", folder / "api.pem")
        api = kubernetes.add_api_server(self.world, port=6444, context=tls_context(
            folder / "api.pem", folder / "api.key", client_ca=folder / "api.pem"))
        user = {"client-certificate": str(folder / "api.pem"), "client-key": str(folder / "api.key")}
        api.apply(manifests.namespace("curl"), self.pod.manifest(), egress("tls", tcp_port(5002)))
        cluster = {"certificate-authority": str(folder / "api.pem"), "tls-server-name": "api.test"}

        self.agent.connect(api, user=user, **{**cluster, "tls-server-name": "other.test"})
        self.agent.spawn()
        self.eventually("the name is verified", lambda: "no alternative certificate subject name matches"
                        in self.agent.page("/readyz")[1], 15)
        self.assertEqual(api.requests, [])
        self.agent.stop()
        self.agent.connect(api, user=user, **cluster)
        self.agent.start()
        self.wait_present()
        self.eventually_reaches(ORIGIN, 5002)
        self.assert_refused(ORIGIN, 5001)
        type(self).agent.api = self.api


class NamespacesOfTheMesh(KubernetesCase):
    START = False

    def ctl(self, *arguments):
        return self.agent.ctl("namespace", *arguments, "--kubeconfig", self.agent.source["kubeconfig"])

    def assert_says(self, text, *arguments, code=0):
        done = self.ctl(*arguments)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (code, text))

    def test_add_remove_and_list_speak_as_upstream_does(self):
        for name in ("one", "two", "three"):
            self.api.apply(manifests.namespace(name, enrolled=False))
        self.api.delete(manifests.namespace("curl"))
        self.assert_says("No namespaces in any mesh\n", "list")
        self.assert_says("Namespace [one] successfully added to mesh [osm]\n"
                         "Namespace [two] successfully added to mesh [osm]\n", "add", "one", "two")
        self.assert_says("Namespace [one] has already been added to mesh [osm]\n", "add", "one")
        self.assert_says("Namespace [three] successfully added to mesh [x]\n", "add", "three", "--mesh-name", "x",
                         "--disable-sidecar-injection")
        self.assert_says("NAMESPACE  MESH  SIDECAR-INJECTION\none        osm   enabled\nthree      x     disabled\n"
                         "two        osm   enabled\n", "list")
        self.assertEqual(json.loads(self.ctl("list", "--mesh-name", "x", "-o", "json").stdout),
                         [{"namespace": "three", "mesh": "x", "sidecarInjection": "disabled"}])
        self.assert_says("No namespaces in mesh [y]\n", "list", "--mesh-name", "y")
        self.assert_says("egressctl: Namespace belongs to mesh [x], not mesh [osm]. Please specify the correct mesh\n",
                         "remove", "three", code=2)
        self.assert_says("Namespace [three] successfully removed from mesh [x]\n", "remove", "three", "--mesh-name", "x")
        self.assert_says("Namespace [three] already does not belong to any mesh\n", "remove", "three")
        self.assertEqual(self.api.objects["Namespace"][("", "three")]["metadata"].get("annotations"), {})
        self.assert_says("egressctl: Namespace [none] does not exist\n", "add", "none", code=2)


if __name__ == "__main__":
    main()
