"""egressctl beside a running agent, and alone."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))


from support.case import WorldCase, main, tcp_port
from support.manifests import egress, port, route_group
from support.world import HTTP_PORT, MESH, ORIGIN, ORIGIN6, OTHER, TLS_PORT

OBJECTS = (
    egress("web", port(HTTP_PORT, "http"), hosts=["allowed.test"], routes=["routes"]),
    route_group("routes", {"pathRegex": "/get", "methods": ["GET"]}),
    egress("tls", port(TLS_PORT, "https"), hosts=["allowed.test", "*.wild.test"]),
    egress("tcp", tcp_port(5000), addresses=["198.51.100.0/24"]),
)
BROKEN = egress("broken", {"number": 70000, "protocol": "tcp"})


class EgressCtl(WorldCase):
    OBJECTS = OBJECTS

    def setUp(self):
        if not self.agent.running():
            self.agent.start()

    def ctl_json(self, *arguments):
        done = self.agent.ctl("-o", "json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def explain(self, *arguments):
        """(exit status, verdict, policy, reason) of explain for the pod."""
        done = self.agent.ctl("-o", "json", "explain", "--pod", "curl/curl", *arguments)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return done.returncode, json.loads(done.stdout)

    # ---- status, pods, rules ----

    def test_status_tells_what_runs_and_what_is_wrong(self):
        self.apply(BROKEN)
        status = self.ctl_json("status")
        self.assertTrue(status["ready"])
        self.assertEqual(status["pods"], {"governed": 1, "ungoverned": 0})
        self.assertEqual(status["policies"]["valid"], 3)
        self.assertEqual(status["proxy"]["state"], "running")
        self.assertIn("from_pod", {program["program"] for program in status["programs"]})
        findings = [finding for finding in status["findings"] if finding["object"] == "curl/broken"]
        self.assertEqual([finding["field"] for finding in findings], ["spec.ports[0].number"])
        self.assertIn("curl/broken", self.agent.ctl("status").stdout)
        self.assertIn("curl/broken", self.agent.ctl("-o", "yaml", "status").stdout)

    def test_pods_shows_each_pod(self):
        pod, = self.ctl_json("pods")
        self.assertEqual((pod["pod"], pod["governed"], pod["serviceAccount"], pod["state"], pod["interface"]),
                         ("curl/curl", True, "curl/curl", "guarded", self.pod.link))
        self.assertIn(self.pod.v4, pod["addresses"])
        self.assertIn("curl/curl", self.agent.ctl("pods").stdout)

    def assert_rules(self):
        rules = self.ctl_json("rules")
        self.assertEqual({(rule["policy"], rule["port"], rule["protocol"]) for rule in rules},
                         {("curl/web", 80, "http"), ("curl/tls", 443, "https"), ("curl/tcp", 5000, "tcp")})
        by_policy = {rule["policy"]: rule for rule in rules}
        self.assertEqual({rule["pod"] for rule in rules}, {"curl/curl"})
        self.assertEqual(by_policy["curl/tcp"]["cidr"], "198.51.100.0/24")
        self.assertEqual(sorted(by_policy["curl/tls"]["hosts"]), ["*.wild.test", "allowed.test"])
        self.assertIn("/get", json.dumps(by_policy["curl/web"]["routes"]))
        self.assertEqual(self.ctl_json("rules", "--pod", "curl/curl"), rules)

    def test_rules_are_read_from_the_kernel_also_without_an_agent(self):
        self.assert_rules()
        self.agent.stop(signal.SIGKILL)
        self.assert_rules()

    def test_rules_follow_a_change(self):
        self.allow("more", tcp_port(5001))
        self.assertIn("curl/more", {rule["policy"] for rule in self.ctl_json("rules")})
        self.delete(egress("more"))
        self.assertNotIn("curl/more", {rule["policy"] for rule in self.ctl_json("rules")})

    # ---- explain ----

    def test_explain_agrees_with_what_happens(self):
        cases = [
            (["--to", f"{ORIGIN}:5000"], 0, "curl/tcp", lambda: self.assert_reaches(ORIGIN, 5000)),
            (["--to", f"{ORIGIN}:5001"], 1, "", lambda: self.assert_refused(ORIGIN, 5001)),
            (["--to", "203.0.113.5:5000"], 1, "", lambda: self.assert_refused("203.0.113.5", 5000)),
            (["--to", f"{MESH}:5001"], 0, "", lambda: self.assert_reaches(MESH, 5001)),
            (["--to", f"{ORIGIN}:443", "--sni", "allowed.test"], 0, "curl/tls",
             lambda: self.assert_tls_passes("allowed.test")),
            (["--to", f"{ORIGIN}:443", "--sni", "denied.test"], 1, "", lambda: self.assert_tls_reset("denied.test")),
            (["--to", f"{ORIGIN}:80", "--http", "GET http://allowed.test/get"], 0, "curl/web",
             lambda: self.assertEqual(self.get().status, 200)),
            (["--to", f"{ORIGIN}:80", "--http", "POST http://allowed.test/get"], 1, "",
             lambda: self.assert_request_denied(404, method="POST")),
            (["--to", f"{ORIGIN}:80", "--http", "GET http://denied.test/get"], 1, "",
             lambda: self.assert_request_denied(404, host="denied.test")),
        ]
        for arguments, status, policy, really in cases:
            with self.subTest(" ".join(arguments)):
                got, answer = self.explain(*arguments)
                self.assertEqual(got, status, answer)
                self.assertIn(policy, json.dumps(answer))
                really()

    def test_explain_without_a_name_lists_the_names_that_would_pass(self):
        got, answer = self.explain("--to", f"{ORIGIN}:443")
        self.assertEqual(got, 1)
        self.assertIn("allowed.test", json.dumps(answer))

    def test_explain_of_what_is_wrong_is_an_error(self):
        for arguments in (["--pod", "curl/none", "--to", "198.51.100.1:80"], ["--pod", "curl/curl", "--to", "nowhere"],
                          ["--pod", "curl/curl"]):
            done = self.agent.ctl("explain", *arguments)
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertTrue(done.stderr)

    # ---- events ----

    def test_events_tell_each_decision_once(self):
        before = len(self.agent.events(port=5002))
        self.assert_refused(OTHER, 5002)
        event = self.eventually("it is told", lambda: self.agent.events(port=5002)[before:])[-1]
        self.assertEqual((event["pod"], event["verdict"], event["reason"], event["protocol"], event["destination"]),
                         ("curl/curl", "deny", "policy", "tcp", OTHER))
        self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT")
        self.assertEqual(len(self.agent.events(port=5002)), before + 1)
        self.assertEqual(self.agent.ctl("-o", "json", "events", "--verdict", "allow").stdout.count('"deny"'), 0)

    def test_events_name_a_source_though_none_is_chosen_yet(self):
        """A refused connect() and a refused send: of the pod's address, or of the one that the socket is bound to."""
        for address, own in ((OTHER, self.pod.v4), (ORIGIN6, self.pod.v6)):
            before = len(self.agent.events(destination=address, port=5002))
            self.assert_refused(address, 5002)
            event = self.eventually("it is told",
                                    lambda: self.agent.events(destination=address, port=5002)[before:])[-1]
            self.assertEqual(event["source"], own)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with self.pod.socket(family) as bound:
                bound.bind((own, 0))
                self.assertRaises(ConnectionRefusedError, bound.connect, (address, 5002))
            with self.pod.socket(family, socket.SOCK_DGRAM) as udp:
                self.assertRaises(PermissionError, udp.sendto, b"denied", (address, 5002))
            events = self.eventually("they are told", lambda: self.agent.events(
                destination=address, port=5002)[before + 1:][1:] and self.agent.events(
                    destination=address, port=5002)[before + 1:])
            self.assertEqual([event["source"] for event in events], [own, own])

    def follow(self, *arguments):
        """egressctl events --follow, and the lines that it has written so far."""
        process = subprocess.Popen(self.agent.ctl_command("-o", "json", "events", "--follow", *arguments),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = []
        reader = threading.Thread(target=lambda: [lines.append(json.loads(line)) for line in process.stdout],
                                  daemon=True)
        reader.start()
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(reader.join, 5)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, lines

    def test_events_follow_shows_what_comes_and_only_what_was_asked_for(self):
        _, everything = self.follow()
        _, denials = self.follow("--verdict", "deny")
        _, others = self.follow("--pod", "curl/other")
        self.assert_refused("203.0.113.77", 5002)
        self.assert_reaches(ORIGIN, 5000)
        self.assertEqual(self.get(host="denied.test").status, 404)
        for lines in (everything, denials):
            self.eventually("the refusals are shown", lambda: {
                event.get("destination") for event in lines if event["port"] == 5002} >= {"203.0.113.77"} and [
                event for event in lines if event.get("host") == "denied.test"])
        self.assertEqual({event["verdict"] for event in denials}, {"deny"})
        self.assertEqual(others, [])

    def test_events_follow_ends_with_the_agent(self):
        process, _ = self.follow()
        self.agent.stop()
        self.assertNotEqual(process.wait(5), 0)
        self.assertTrue(process.stderr.read())

    # ---- validate, and no agent ----

    def test_validate_says_what_check_says(self):
        folder = self.world.folder / "validate"
        folder.mkdir(exist_ok=True)
        file = folder / "broken.yaml"
        file.write_text("apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\n"
                        "metadata: {name: broken, namespace: curl}\nspec:\n  sources:\n"
                        "  - {kind: ServiceAccount, name: curl, namespace: curl}\n  ports:\n"
                        "  - {number: 70000, protocol: tcp}\n")
        done = self.agent.ctl("validate", file)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"broken.yaml:8: error: Egress curl/broken: spec.ports\[0\].number: ")
        check = self.agent.run("--check", manifests=folder)
        self.assertEqual((check.returncode, check.stdout), (1, done.stdout))
        self.assertEqual(self.agent.ctl("validate", folder / "none.yaml").returncode, 2)
        good = folder / "good.json"
        good.write_text(json.dumps(egress("good", tcp_port(1))))
        self.assertEqual(self.agent.ctl("validate", good).returncode, 0)

    def test_without_an_agent_it_shows_what_is_in_force_and_says_what_is_not(self):
        self.agent.stop()
        status = self.agent.ctl("status")
        self.assertEqual(status.returncode, 1)
        self.assertIn("egressd does not run", status.stdout)
        self.assertIn("curl/curl", status.stdout)
        pods = self.agent.ctl("pods")
        self.assertEqual(pods.returncode, 0)
        self.assertRegex(pods.stdout, rf"curl/curl .*{self.pod.v4}.* {self.pod.link} ")
        events = self.agent.ctl("events")
        self.assertEqual(events.returncode, 2)
        self.assertIn("egressd", events.stderr)
        self.assertEqual(self.agent.ctl("version").returncode, 0)
        self.assertEqual(self.explain("--to", f"{ORIGIN}:5000")[0], 0)
        self.assertEqual(self.explain("--to", f"{ORIGIN}:5001")[0], 1)

    def test_without_pins_it_says_what_to_do(self):
        nothing = self.agent.bpffs.with_name("nothing")
        for command in ("rules", "pods"):
            with self.subTest(command):
                done = self.agent.ctl(command, run_dir=self.agent.folder, bpffs=nothing)
                self.assertEqual(done.returncode, 2, done.stdout)
                self.assertIn(str(nothing), done.stderr)


if __name__ == "__main__":
    main()
