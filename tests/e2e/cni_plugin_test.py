"""egress-cni by itself: what a pod reaches whose agent is away, and that no start of a pod fails."""

import contextlib
import json
import pathlib
import socket
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import cni, namespaces
from support.case import WorldCase, main
from support.world import MESH, ORIGIN, ORIGIN6, World

MESH6 = "fd00:10:96::80"
BRIDGE = pathlib.Path("/usr/lib/cni/bridge")


class FakeAgent:
    """Listens at a path; `answer(request)` gives the bytes to send, or None to say nothing and hold on."""

    def __init__(self, path, answer):
        self.requests, self._answer, self._held = [], answer, []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                request = client.makefile().readline()
                self.requests.append(json.loads(request))
                answer = self._answer(self.requests[-1])
                if answer is None:
                    self._held.append(client)
                else:
                    client.sendall(answer)
                    client.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for client in self._held:
            client.close()


class PluginAlone(WorldCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.pod = self.world.add_pod(name=f"p{number}", namespace="curl")
        self.socket = self.world.folder / f"{number}.sock"
        self.known = self.world.folder / f"{number}.json"

    def add(self, pod=None, **more):
        """ADD, which succeeds and hands the result on."""
        pod = pod or self.pod
        previous = cni.previous_result(pod)
        done = cni.call(pod, cni.configuration(self.socket, self.known, previous, **more))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(json.loads(done.stdout), previous)
        return done

    def fake_agent(self, answer):
        agent = FakeAgent(self.socket, answer)
        self.addCleanup(agent.close)
        return agent

    def assert_reaches_mesh(self, pod=None):
        self.assert_reaches(MESH, 5000, pod)
        self.assert_reaches(MESH6, 5000, pod)

    def assert_open(self, pod=None):
        self.assert_reaches_mesh(pod)
        self.assert_reaches(ORIGIN, 5000, pod)
        self.assert_reaches(ORIGIN6, 5000, pod)

    def assert_silent(self, addresses=(ORIGIN, ORIGIN6)):
        """What the pod sends there never arrives."""
        position = self.world.wire.position()
        for address in addresses:
            with self.assertRaises(TimeoutError):
                self.pod.connect(address, 5000, timeout=0.3).close()
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with self.pod.socket(family, socket.SOCK_DGRAM) as datagram:
                datagram.sendto(b"leak", (address, 5000))
        for address in addresses:
            self.assert_nothing_arrived(position, address, 5000, self.pod)

    # ---- The agent is away ----

    def test_a_pod_of_an_enrolled_namespace_reaches_the_mesh_only(self):
        cni.write_known(self.known, enrolled=["curl"])
        self.assert_open()  # before
        done = self.add()
        self.assertIn("held to the mesh", done.stderr)
        self.assert_reaches_mesh()
        self.assert_silent()

    def test_a_pod_of_an_unknown_namespace_reaches_the_mesh_only(self):
        cni.write_known(self.known, not_enrolled=["other"])
        self.add()
        self.assert_reaches_mesh()
        self.assert_silent()

    def test_a_pod_of_a_namespace_known_as_not_enrolled_starts_unhurt(self):
        cni.write_known(self.known, not_enrolled=["curl"])
        self.add()
        self.assert_open()

    def test_without_anything_kept_even_the_mesh_is_unknown(self):
        self.add()
        self.assert_silent((ORIGIN, ORIGIN6, MESH, MESH6))

    def test_a_file_that_does_not_parse_is_as_none(self):
        self.known.write_text('{"notEnrolled": ["curl"]')
        self.add()
        self.assert_silent()

    def test_a_system_namespace_is_never_unknown(self):
        pod = self.world.add_pod(name="dns", namespace="kube-system")
        self.add(pod)
        self.assert_reaches(ORIGIN, 5000, pod)

    def test_a_system_namespace_that_is_enrolled_is_held(self):
        self.pod = self.world.add_pod(name="dns2", namespace="kube-system")
        cni.write_known(self.known, enrolled=["kube-system"])
        self.add()
        self.assert_silent()

    def test_under_audit_nothing_is_held(self):
        self.add(audit=True)
        self.assert_open()

    def test_many_networks_of_the_mesh_are_all_passed(self):
        cni.write_known(self.known, [f"10.{i}.0.0/16" for i in range(100, 162)] + ["10.96.0.0/16", "fd00:10:96::/64"])
        self.add()
        self.assert_reaches_mesh()
        self.assert_silent()

    def test_the_ipv6_mesh_everywhere_opens_no_ipv4(self):
        cni.write_known(self.known, ["::/0", "10.96.0.0/16"])
        self.add()
        self.assert_reaches(ORIGIN6, 5000)
        self.assert_silent((ORIGIN,))

    def test_a_source_that_is_not_the_pods_does_not_pass_to_the_mesh_either(self):
        cni.write_known(self.known)
        self.add()
        self.assert_reaches_mesh()
        namespaces.ip(self.pod.netns, "addr add 10.244.1.250/32 dev eth0\n")
        position = self.world.wire.position()
        with self.pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.bind(("10.244.1.250", 0))
            datagram.sendto(b"spoof", (MESH, 5000))
        with self.pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.sendto(b"honest", (MESH, 5000))
        arrived = [packet.payload for packet in self.world.wire.since(position) if packet.destination == MESH]
        self.assertEqual(arrived, [b"honest"])

    # ---- The agent says nothing, or nonsense ----

    def test_an_agent_that_does_not_answer_leaves_the_pod_held(self):
        cni.write_known(self.known, enrolled=["curl"])
        agent = self.fake_agent(lambda request: None)
        self.add()
        self.assertEqual(agent.requests[0]["interface"], self.pod.link)
        self.assertEqual(agent.requests[0]["addresses"], [self.pod.v4, self.pod.v6])
        self.assertEqual(agent.requests[0]["netns"], str(self.pod.path))
        self.assert_reaches_mesh()
        self.assert_silent()

    def test_an_agent_that_does_not_answer_hurts_no_pod_known_as_not_enrolled(self):
        cni.write_known(self.known, not_enrolled=["curl"])
        self.fake_agent(lambda request: None)
        self.add()
        self.assert_open()

    def test_nonsense_is_no_answer(self):
        cni.write_known(self.known, enrolled=["curl"])
        for answer in (b"\n", b"in-forc\n", b"not-governed", b"\0" * 10000, b'{"a": 1}\n'):
            agent = FakeAgent(self.socket, lambda _, answer=answer: answer)
            self.add()
            self.assert_silent((ORIGIN,))
            agent.close()
            self.socket.unlink()

    def test_an_agent_that_answers_in_time_finds_nothing_to_take_away(self):
        cni.write_known(self.known, enrolled=["curl"])
        agent = self.fake_agent(lambda _: b"in-force\n")
        self.add()
        self.assertEqual(len(agent.requests), 1)
        self.assert_open()

    def test_an_agent_that_is_slow_is_asked_again_once_the_pod_is_held(self):
        """The first answer may come when nobody listens any more, and the program behind it."""
        cni.write_known(self.known, enrolled=["curl"])
        arrived = []

        def answer(_):
            position = self.world.wire.position()
            with contextlib.suppress(TimeoutError):
                self.pod.connect(ORIGIN, 5000, timeout=0.2).close()
            arrived.append(len(self.arrived(position, ORIGIN, 5000, self.pod)) > 0)
            return None if len(arrived) == 1 else b"in-force\n"
        agent = self.fake_agent(answer)
        self.assertEqual(self.add().stderr, "")
        self.assertEqual(arrived, [True, False])
        self.assertEqual(agent.requests[0], agent.requests[1])

    def test_behind_the_bridge_plugin(self):
        """The plugin of Debian's package makes the network; what it says is handed on."""
        self.pod = pod = self.world.add_pod(name="bridged", namespace="curl", linked=False)
        cni.write_known(self.known, enrolled=["curl"])
        ranges = [[{"subnet": "10.244.1.0/24", "rangeStart": pod.v4, "rangeEnd": pod.v4, "gateway": "10.244.1.1"}]]
        bridge = {"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": True,
                  "ipam": {"type": "host-local", "dataDir": str(self.world.folder / "leases"), "ranges": ranges,
                           "routes": [{"dst": "0.0.0.0/0"}]}}
        made = cni.call(pod, bridge, plugin=BRIDGE)
        self.assertEqual(made.returncode, 0, made.stdout)
        self.addCleanup(cni.call, pod, bridge, verb="DEL", plugin=BRIDGE)
        self.assert_reaches(ORIGIN, 5000)
        previous = json.loads(made.stdout)
        done = cni.call(pod, cni.configuration(self.socket, self.known, previous))
        self.assertEqual((done.returncode, json.loads(done.stdout)), (0, previous))
        self.assert_reaches(MESH, 5000)
        self.assert_silent((ORIGIN,))

    # ---- Other calls ----

    def test_an_interface_that_is_no_veth_keeps_no_pod_from_starting(self):
        pod = self.world.add_pod(name="odd", namespace="curl", linked=False)
        namespaces.ip(pod.netns, "link add eth0 type bridge\n")
        self.assertIn("veth", self.add(pod).stderr)

    def test_a_netns_that_is_gone_keeps_no_pod_from_starting(self):
        pod = self.world.add_pod(name="gone", namespace="curl")
        pod.path = pathlib.Path("/run/netns/there-is-no-such")
        self.add(pod)

    def test_del_succeeds_whatever_there_is(self):
        for more in ({}, {"container": "never-seen"}):
            done = cni.call(self.pod, cni.configuration(self.socket, self.known), verb="DEL", **more)
            self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_the_answers_of_the_specification(self):
        config = cni.configuration(self.socket, self.known, cni.previous_result(self.pod), version="1.1.0")
        for verb in ("CHECK", "GC", "STATUS"):
            done = cni.call(self.pod, config, verb=verb)
            self.assertEqual((done.returncode, done.stdout), (0, ""), verb)
        done = cni.call(self.pod, {"cniVersion": "1.1.0"}, verb="VERSION")
        self.assertEqual(json.loads(done.stdout)["supportedVersions"], ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
        done = cni.call(self.pod, {**config, "cniVersion": "9.0.0"})
        self.assertEqual((done.returncode, json.loads(done.stdout)["code"]), (1, 1))

    def test_a_container_of_no_pod_is_none_of_ours(self):
        previous = cni.previous_result(self.pod)
        command = [part for part in cni.command(self.pod) if not part.startswith("CNI_ARGS")]
        done = namespaces.run(*command, input=json.dumps(cni.configuration(self.socket, self.known, previous)))
        self.assertEqual(json.loads(done), previous)
        self.assert_open()


if __name__ == "__main__":
    main()
