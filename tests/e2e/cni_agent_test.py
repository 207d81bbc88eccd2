"""egress-cni with its agent: pods are governed from their first packet, and taken over when the agent was away."""

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import cni, kubernetes, manifests, namespaces
from support.api_server import Answer
from support.case import WorldCase, main, tcp_port
from support.manifests import egress
from support.world import MESH, ORIGIN, World

STARTS = 24
CONFLIST = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0"}]}


class CniCase(WorldCase):
    """A world whose agent reads from an API server and has a CNI configuration to put its plugin into."""

    ENROLLED, FREE = "curl", "free"

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        cls.numbers = iter(range(1000))
        cls.api = kubernetes.add_api_server(cls.world)
        cls.agent = cls.world.add_agent(config=cls.CONFIG, kind=kubernetes.KubernetesAgent)
        cls.agent.connect(cls.api)
        cls.conflist = cls.agent.cni_conf_dir / "10-pods.conflist"
        cls.agent.cni_conf_dir.mkdir(parents=True)
        cls.conflist.write_text(json.dumps(CONFLIST), encoding="utf-8")
        cls.agent.apply(manifests.namespace(cls.ENROLLED), manifests.namespace(cls.FREE, enrolled=False),
                        egress("rules", tcp_port(5000)))
        if cls.START:
            cls.agent.start()

    def tearDown(self):
        self.api.fault = lambda request: None

    def new_pod(self, namespace=ENROLLED, known=True):
        """A pod whose network the first plugin has just made; the API server knows it."""
        pod = self.world.add_pod(name=f"p{next(self.numbers)}", namespace=namespace, account="curl")
        if known:
            self.api.apply(self.object_of(pod))
        return pod

    @staticmethod
    def object_of(pod):
        item = pod.manifest()
        item["metadata"]["annotations"] = {}
        item["metadata"]["uid"] = f"uid-{pod.name}"
        item["status"] = {"phase": "Pending"}
        return item

    def config(self, pod):
        """As the runtime makes it of the node's configuration."""
        plugin = json.loads(self.conflist.read_text())["plugins"][-1]
        self.assertEqual(plugin["type"], "egress-cni")
        return {"cniVersion": "1.0.0", "name": "pods", **plugin, "prevResult": cni.previous_result(pod)}

    def call(self, pod, verb="ADD", container=None):
        done = cni.call(pod, self.config(pod), verb=verb, container=container or f"sandbox-{pod.name}",
                        uid=f"uid-{pod.name}", plugin=self.agent.cni_bin_dir / "egress-cni")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def add(self, pod):
        done = self.call(pod)
        self.assertEqual(json.loads(done.stdout), cni.previous_result(pod))
        return done


    def assert_governed(self, pod):
        self.assert_reaches(ORIGIN, 5000, pod)
        self.assert_refused(ORIGIN, 5001, pod)
        self.assert_reaches(MESH, 5001, pod)

    def assert_held(self, pod):
        position = self.world.wire.position()
        with self.assertRaises(TimeoutError):
            pod.connect(ORIGIN, 5000, timeout=0.3).close()
        self.assert_nothing_arrived(position, ORIGIN, 5000, pod)
        self.assert_reaches(MESH, 5001, pod)

    @staticmethod
    def is_held(pod):
        programs = subprocess.run(["nsenter", f"--net={pod.world.node_path}", "bpftool", "net", "show", "dev", pod.link],
                                  capture_output=True, text=True, check=True).stdout
        return "egress_cni_deny" in programs

    def assert_free(self, pod):
        for number in (5000, 5001):
            self.assert_reaches(ORIGIN, number, pod)

    def wait_governed(self, pod):
        def reaches():
            try:
                pod.connect(ORIGIN, 5000, timeout=0.2).close()
                return True
            except OSError:
                return False
        self.eventually(f"{pod.key} is governed", reaches, 20)


class AgentThere(CniCase):
    def test_rules_are_in_force_when_add_returns(self):
        for _ in range(10):
            pod = self.new_pod()
            self.assertEqual(self.add(pod).stderr, "")
            self.assert_governed(pod)

    def test_a_pod_of_a_namespace_that_is_not_enrolled_is_not_touched(self):
        pod = self.new_pod(self.FREE)
        self.assertEqual(self.add(pod).stderr, "")
        self.assert_free(pod)

    def test_a_watch_that_lags_does_not_matter(self):
        def no_watch(request):
            if "watch" in request.query:
                raise Answer(503, "later")
        self.api.fault = no_watch
        self.api.cut()
        self.api.apply(manifests.namespace("late"), egress("late", tcp_port(5000), namespace="late"))
        pod = self.new_pod("late")
        self.add(pod)
        position = self.world.wire.position()
        with self.assertRaises(ConnectionRefusedError):
            pod.connect(ORIGIN, 5001).close()
        self.assert_nothing_arrived(position, ORIGIN, 5001, pod)
        self.api.fault = lambda request: None
        self.wait_governed(pod)

    def test_a_label_that_was_set_just_now_counts(self):
        for _ in range(3):
            name = f"fresh{next(self.numbers)}"
            self.api.apply(manifests.namespace(name, enrolled=False))
            self.agent.settle()
            self.api.apply(egress("rules", tcp_port(5000), namespace=name), manifests.namespace(name))
            pod = self.new_pod(name)
            self.add(pod)
            self.assert_refused(ORIGIN, 5001, pod)
            self.assert_reaches(MESH, 5001, pod)

    def test_a_pod_that_the_api_does_not_know_is_held_until_it_does(self):
        pod = self.new_pod(known=False)
        self.assertIn("held to the mesh", self.add(pod).stderr)
        self.assert_held(pod)
        self.assertIn(pod.key, str(self.agent.status()["problems"]))
        self.api.apply(self.object_of(pod))
        self.wait_governed(pod)
        self.assert_governed(pod)
        self.eventually("nothing is held", lambda: pod.key not in str(self.agent.status()["problems"]))

    def test_an_answer_that_comes_late_takes_the_deny_program_away_again(self):
        pod = self.new_pod()

        def wait_until_held(request):
            if request.path.endswith(f"/pods/{pod.name}"):
                self.eventually(f"{pod.key} is held", lambda: self.is_held(pod), 1.7)
        self.api.fault = wait_until_held
        self.assertEqual(self.add(pod).stderr, "")
        self.assertFalse(self.is_held(pod))
        self.assert_governed(pod)
        self.assertEqual(len(self.api.seen(f"GET .*/pods/{pod.name}")), 1)

    def ask(self, pod):
        """The plugin's question, by hand: the socket that the answer will come on."""
        link = {"command": "ADD", "namespace": pod.namespace, "pod": pod.name, "uid": f"uid-{pod.name}",
                "container": f"sandbox-{pod.name}", "netns": str(pod.path), "interface": pod.link,
                "addresses": [pod.v4, pod.v6]}
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(10)
        connection.connect(json.loads(self.conflist.read_text())["plugins"][-1]["socket"])
        connection.sendall(json.dumps(link).encode() + b"\n")
        return connection

    def test_a_plugin_that_gave_up_and_asks_again_is_told_at_once(self):
        pod, given_up = self.new_pod(), threading.Event()

        def wait_until_given_up(request):
            if request.path.endswith(f"/pods/{pod.name}"):
                given_up.wait(10)
        self.api.fault = wait_until_given_up
        first = self.ask(pod)
        self.eventually("it is read", lambda: self.api.seen(f"GET .*/pods/{pod.name}"))
        first.close()
        self.eventually("nobody waits", lambda: f"{pod.key} waits for its rules" in str(self.agent.status()["problems"]))
        given_up.set()
        self.eventually("it is governed", lambda: pod.key not in str(self.agent.status()["problems"]))
        self.assertEqual(self.ask(pod).recv(64), b"in-force\n")
        self.assertEqual(len(self.api.seen(f"GET .*/pods/{pod.name}")), 1)
        self.assert_governed(pod)

    def test_many_starts_at_once_that_an_agent_is_too_slow_for_are_taken_up(self):
        pods = [self.new_pod() for _ in range(STARTS)]
        os.kill(self.agent.process.pid, signal.SIGSTOP)
        try:
            with concurrent.futures.ThreadPoolExecutor(STARTS) as pool:
                for done in pool.map(self.add, pods):
                    self.assertIn("is held to the mesh until the agent governs it", done.stderr)
            self.assert_held(pods[-1])
        finally:
            os.kill(self.agent.process.pid, signal.SIGCONT)
        for pod in pods:
            self.wait_governed(pod)
            self.assert_governed(pod)

    def test_a_late_del_of_an_old_sandbox_hurts_nothing(self):
        pod = self.new_pod()
        self.add(pod)
        self.call(pod, "DEL", container="an-older-sandbox")
        self.assert_governed(pod)
        self.call(pod, "DEL")
        self.call(pod, "DEL")
        self.assert_refused(ORIGIN, 5001, pod)  # its interface is still there, and so is its guard

    def test_while_the_api_server_is_away_what_is_known_counts(self):
        known, free = self.new_pod(), self.new_pod(self.FREE)
        unknown = self.new_pod(known=False)
        self.eventually("the pods are known", lambda: self.agent.pod_status(known.key) and self.agent.pod_status(free.key))

        def away(_):
            raise Answer(503, "away")
        self.api.fault = away
        self.api.cut()
        self.add(known)
        self.assert_governed(known)
        self.add(free)
        self.assert_free(free)
        self.add(unknown)
        self.assert_held(unknown)


class AgentAway(CniCase):
    def start_again(self):
        if not self.agent.running():
            self.agent.start()

    def setUp(self):
        self.start_again()
        self.addCleanup(self.start_again)

    def test_pods_that_started_meanwhile_are_taken_over_without_a_gap(self):
        self.agent.stop()
        pod, free = self.new_pod(), self.new_pod(self.FREE)
        self.assertIn("held to the mesh", self.add(pod).stderr)
        self.add(free)
        self.assert_held(pod)
        self.assert_free(free)
        position = self.world.wire.position()
        over, failures = threading.Event(), []

        def work():
            while not over.is_set():
                for address, number in ((ORIGIN, 5001), (MESH, 5001)):
                    try:
                        pod.connect(address, number, timeout=0.2).close()
                    except (TimeoutError, ConnectionRefusedError) as error:
                        if address == MESH:
                            failures.append(error)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            self.agent.start()
            self.wait_governed(pod)
        finally:
            over.set()
            thread.join()
        self.assertEqual(failures, [])  # the mesh was there all the time
        self.assert_nothing_arrived(position, ORIGIN, 5001, pod)
        self.assert_governed(pod)
        self.assert_free(free)

    def test_after_a_reboot_what_was_kept_counts(self):
        self.agent.stop()
        self.assertEqual(self.agent.run("--uninstall", state_dir=self.world.folder / "none",
                                        config=self.other_folders()).returncode, 0)
        self.assertFalse(self.agent.run_dir.exists())
        pod, free = self.new_pod(), self.new_pod(self.FREE)
        unknown = self.new_pod("never-seen")
        for one in (pod, free, unknown):
            self.add(one)
        self.assert_held(pod)
        self.assert_held(unknown)
        self.assert_free(free)
        self.api.apply(manifests.namespace("never-seen", enrolled=False))
        self.agent.start()
        self.wait_governed(pod)
        self.assert_governed(pod)
        self.eventually("the unknown pod is let go", lambda: self.agent.pod_status(unknown.key) is not None)
        self.assert_free(unknown)

    def other_folders(self):
        """A configuration whose CNI folders hold nothing, so that only pins and run folder go."""
        config = self.world.folder / "other.yaml"
        config.write_text(json.dumps({"cniConfDir": str(self.world.folder / "no-conf"),
                                      "cniBinDir": str(self.world.folder / "no-bin")}), encoding="utf-8")
        return config


class Installation(CniCase):
    def test_what_the_agent_installs_and_keeps_and_takes_away(self):
        self.assertEqual([plugin["type"] for plugin in json.loads(self.conflist.read_text())["plugins"]],
                         ["bridge", "egress-cni"])
        kept = self.agent.state_dir / "cni.json"
        self.assertEqual(json.loads(kept.read_text())["enrolled"], ["curl"])
        self.api.apply(manifests.namespace("free"))
        self.eventually("the label is kept", lambda: "free" in json.loads(kept.read_text())["enrolled"])
        self.conflist.write_text(json.dumps(CONFLIST), encoding="utf-8")  # "the CNI" writes its file anew
        self.eventually("the plugin is put back", lambda: "egress-cni" in self.conflist.read_text())
        self.conflist.write_text("{", encoding="utf-8")
        self.eventually("it is told", lambda: "10-pods.conflist" in str(self.agent.status()["problems"]))
        self.assertEqual(self.conflist.read_text(), "{")
        self.conflist.write_text(json.dumps(CONFLIST), encoding="utf-8")
        self.eventually("the plugin is put back", lambda: "egress-cni" in self.conflist.read_text())
        self.eventually("all is well", lambda: "CNI" not in str(self.agent.status()["problems"]))

        self.agent.stop()
        held = self.new_pod()
        self.add(held)
        done = self.agent.run("--uninstall")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(self.conflist.read_text()), CONFLIST)
        self.assertEqual(list(self.agent.cni_bin_dir.iterdir()), [])
        self.assertFalse(self.agent.state_dir.exists())
        self.assert_free(held)


class SwitchedOff(CniCase):
    def test_cni_off_takes_the_plugin_out(self):
        self.assertIn("egress-cni", self.conflist.read_text())
        self.agent.stop()
        self.agent.configure(**self.CONFIG, cni="off")
        self.agent.start()
        self.assertEqual(json.loads(self.conflist.read_text()), CONFLIST)
        self.assertEqual(list(self.agent.cni_bin_dir.iterdir()), [])


class NewNode(CniCase):
    START = False
    TAINT = {"key": "egressd.io/agent-not-ready", "effect": "NoSchedule"}

    def taints(self):
        return self.api.objects["Node"][("", "node-1")]["spec"].get("taints") or []

    def test_the_taint_stays_until_the_plugin_is_in_place(self):
        node = self.api.objects["Node"][("", "node-1")]
        self.api.apply({**node, "spec": {**node["spec"], "taints": [self.TAINT]}})
        self.conflist.unlink()
        self.agent.start()
        self.eventually("it is told", lambda: "no CNI configuration" in str(self.agent.status()["problems"]))
        self.assertEqual(self.taints(), [self.TAINT])
        self.conflist.write_text(json.dumps(CONFLIST), encoding="utf-8")
        self.eventually("the taint is taken off", lambda: self.taints() == [], 20)
        self.assertIn("egress-cni", self.conflist.read_text())


if __name__ == "__main__":
    main()
