"""Pods that come, go and change while the agent runs: governed from the moment they can be until they are no more."""

import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients, manifests, namespaces
from support.case import Stream, WorldCase, main, tcp_port
from support.manifests import egress, port
from support.world import HTTP_PORT, MESH, ORIGIN, OTHER, TLS_PORT

RULES = egress("rules", tcp_port(5000), port(HTTP_PORT, "http"), port(TLS_PORT, "https"), hosts=["allowed.test"])


class Pods(WorldCase):
    OBJECTS = (RULES,)

    def new_pod(self, name, linked=True):
        """A pod of ServiceAccount curl/curl that the agent does not know yet; removed when the test ends."""
        pod = self.world.add_pod(name, account="curl", linked=linked)
        self.addCleanup(self.agent.delete, pod.manifest())
        self.addCleanup(pod.close)
        return pod

    def wait_for_state(self, pod, state):
        return self.eventually(f"{pod.key} is {state}",
                               lambda: (self.agent.pod_status(pod.key) or {}).get("state") == state)

    def assert_governed(self, pod):
        self.assert_reaches(ORIGIN, 5000, pod)
        self.assert_refused(ORIGIN, 5001, pod)
        self.assertEqual(self.get(pod=pod).status, 200)
        self.assert_request_denied(404, host="denied.test", pod=pod)
        self.assert_tls_passes("allowed.test", pod=pod)
        self.assert_tls_reset("denied.test", pod=pod)
        self.assert_reaches(MESH, 5001, pod)

    def assert_mesh_only(self, pod):
        self.assert_refused(ORIGIN, 5000, pod)
        self.assert_refused(ORIGIN, TLS_PORT, pod)
        self.assert_refused(ORIGIN, HTTP_PORT, pod)
        self.assert_reaches(MESH, 5000, pod)

    def test_a_pod_that_appears_is_governed_from_then_on(self):
        pod = self.new_pod("appears")
        self.assert_reaches(ORIGIN, 5001, pod)
        self.agent.apply(pod.manifest())
        self.wait_for_state(pod, "guarded")
        self.assert_governed(pod)

    def test_a_pod_whose_namespace_does_not_exist_yet_is_waited_for(self):
        pod = self.world.add_pod("late", account="curl", linked=False)
        self.addCleanup(self.agent.delete, pod.manifest())
        self.addCleanup(pod.close)
        pod.stop_process()
        namespaces.remove_netns(pod.netns)
        self.agent.apply(pod.manifest())
        self.assertEqual(self.agent.pod_status(pod.key)["state"], "waiting")
        self.assertIn(pod.key, "".join(self.agent.status()["warnings"]))
        pod.make_netns()
        pod.start_process()
        self.wait_for_state(pod, "guarded")
        self.wait_for_http(pod)
        self.assert_governed(pod)

    def test_a_pod_without_an_interface_is_guarded_when_it_gets_one(self):
        pod = self.new_pod("bare", linked=False)
        self.agent.apply(pod.manifest())
        self.wait_for_state(pod, "unguarded")
        self.assert_refused(ORIGIN, 5001, pod)
        pod.connect_link()
        self.wait_for_state(pod, "guarded")
        self.wait_for_http(pod)
        self.assert_governed(pod)

    def wait_for_http(self, pod):
        """The proxy's listener needs the pod's address, which comes after its interface."""
        def answers():
            try:
                return self.get(pod=pod).status == 200
            except ConnectionRefusedError:
                return False
        self.eventually(f"http of {pod.key} is served", answers)

    def test_an_interface_that_is_made_anew_is_guarded_again(self):
        pod = self.new_pod("again")
        self.agent.apply(pod.manifest())
        self.wait_for_state(pod, "guarded")
        namespaces.ip(self.world.node, f"link del {pod.link}\n")
        self.wait_for_state(pod, "unguarded")
        pod.connect_link()
        self.wait_for_state(pod, "guarded")
        self.wait_for_http(pod)
        self.assert_governed(pod)

    def test_a_namespace_that_another_replaces_stays_governed_beside_the_new_one(self):
        old = self.new_pod("replaced")
        self.agent.apply(old.manifest())
        self.wait_for_state(old, "guarded")
        process = old.sockets.process
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        new = self._successor(old)
        self.eventually("the new namespace is guarded", lambda: self.agent.pod_status(new.key)["interface"] == new.link)
        self.wait_for_http(new)
        self.assert_governed(new)
        self.assert_refused(ORIGIN, 5001, old)
        with old.socket(kind=2) as datagram:
            self.assertRaises(PermissionError, datagram.sendto, b"x", (ORIGIN, 5001))

    def _successor(self, old):
        """A pod of the same name and path whose namespace is another; the old one's process lives on."""
        namespaces.remove_netns(old.netns)
        new = self.world.add_pod("successor", account="curl", linked=False)
        self.addCleanup(new.close)
        new.stop_process()
        namespaces.remove_netns(new.netns)
        new.name, new.netns, new.path = old.name, old.netns, old.path
        new.make_netns()
        new.start_process()
        self.agent.apply(new.manifest())
        return new

    def test_a_pod_whose_object_is_deleted_stays_governed_also_under_the_next_agent(self):
        pod = self.new_pod("deleted")
        self.agent.apply(pod.manifest())
        self.wait_for_state(pod, "guarded")
        with pod.connect(ORIGIN, 5000) as live:
            clients.exchange(live)
            self.agent.delete(pod.manifest())
            self.assert_governed(pod)
            self.assertIn("object is gone", self.agent.pod_status(pod.key)["note"])
            clients.exchange(live)
            self.agent.stop(signal.SIGKILL)
            self.assert_refused(ORIGIN, 5001, pod)
            self.agent.start()
            clients.exchange(live)
            self.assert_reaches(ORIGIN, 5000, pod)
            self.assert_refused(ORIGIN, 5001, pod)
            self.assert_tls_reset("denied.test", pod=pod)
        namespaces.remove_netns(pod.netns)  # its name; the process lives on
        self.assert_refused(ORIGIN, 5001, pod)
        pod.stop_process()
        self.eventually("the pod is forgotten", lambda: self.agent.pod_status(pod.key) is None)

    def test_rules_follow_a_pod_whose_object_is_gone(self):
        pod = self.new_pod("follows")
        self.agent.apply(pod.manifest())
        self.wait_for_state(pod, "guarded")
        self.agent.delete(pod.manifest())
        self.allow("more", tcp_port(5002))
        self.assert_reaches(ORIGIN, 5002, pod)

    def test_a_pod_with_a_second_interface_reaches_nothing_but_the_mesh_until_it_goes(self):
        pod = self.new_pod("second")
        self.agent.apply(pod.manifest())
        self.wait_for_state(pod, "guarded")
        with pod.connect(ORIGIN, 5000) as live:
            clients.exchange(live)
            namespaces.ip(self.world.node, f"link add extra type veth peer name eth1 netns {pod.netns}\n"
                                           "link set extra up\n")
            namespaces.ip(pod.netns, "link set eth1 up\n")
            self.wait_for_state(pod, "unguarded")
            self.assertIn("eth1", self.agent.pod_status(pod.key)["note"])
            self.assert_mesh_only(pod)
            with self.assertRaises(ConnectionError):
                clients.exchange(live)
        namespaces.ip(self.world.node, "link del extra\n")
        self.wait_for_state(pod, "guarded")
        self.assert_governed(pod)

    def test_a_macvlan_pod_reaches_nothing_but_the_mesh(self):
        pod = self.new_pod("macvlan", linked=False)
        namespaces.ip(self.world.node, f"link add mv0 link uplink type macvlan mode bridge\n"
                                       f"link set mv0 netns {pod.netns} name eth0\n")
        namespaces.ip(pod.netns, "addr add 192.0.2.50/24 dev eth0\nlink set eth0 up\nroute add default via 192.0.2.1\n")
        pod.v4 = "192.0.2.50"
        self.assert_reaches(ORIGIN, 5000, pod)
        self.agent.apply(pod.manifest())
        self.wait_for_state(pod, "unguarded")
        self.assertIn("macvlan", self.agent.pod_status(pod.key)["note"])
        self.assert_mesh_only(pod)

    def test_a_host_network_pod_is_not_governed(self):
        pod = self.new_pod("host")
        manifest = pod.manifest()
        manifest["spec"]["hostNetwork"] = True
        self.agent.apply(manifest)
        self.assertFalse(self.agent.pod_status(pod.key)["governed"])
        self.assert_reaches(ORIGIN, 5001, pod)

    def test_a_pod_in_a_namespace_without_an_object_is_governed_without_rules(self):
        pod = self.world.add_pod("unknown", "unknown", account="curl")
        self.addCleanup(pod.close)
        self.apply(pod.manifest(), egress("unknown", tcp_port(5000), namespace="unknown"))
        self.wait_for_state(pod, "guarded")
        self.assert_mesh_only(pod)
        self.apply(manifests.namespace("unknown"))
        self.assert_reaches(ORIGIN, 5000, pod)
        self.assert_refused(ORIGIN, 5001, pod)
        self.agent.delete(manifests.namespace("unknown"))
        self.assert_mesh_only(pod)

    def test_pods_that_come_and_go_leave_no_entries(self):
        pods = [self.new_pod(f"many{i}") for i in range(12)]
        self.agent.apply(*(pod.manifest() for pod in pods))
        for pod in pods:
            self.wait_for_state(pod, "guarded")
            self.assert_reaches(ORIGIN, 5000, pod)
            self.assert_refused(ORIGIN, 5001, pod)
        self.agent.delete(*(pod.manifest() for pod in pods))
        for pod in pods:
            pod.close()
        for name in ("pods", "interfaces", "inbound"):
            self.eventually(f"only the pod of all tests is in {name}",
                            lambda: self.agent.metric("egressd_map_entries", map=name) == 1)


class Enrolment(WorldCase):
    OBJECTS = (RULES,)

    def setUp(self):
        self.agent.apply(manifests.namespace("curl", enrolled=False))
        self.assertFalse(self.agent.pod_status("curl/curl")["governed"])

    def enrol(self):
        self.agent.apply(manifests.namespace("curl"))
        self.eventually("it is governed", lambda: self.agent.pod_status("curl/curl").get("state") == "guarded")

    def inbound(self):
        """A connection that came in to the pod: (the pod's end, the outside's end)."""
        listener = self.pod.socket()
        self.addCleanup(listener.close)
        listener.bind(("0.0.0.0", 7000))
        listener.listen()
        outside = namespaces.in_netns(self.world.outside_path, lambda: __import__("socket").create_connection(
            (self.pod.v4, 7000), 5))
        accepted, _ = listener.accept()
        accepted.settimeout(5)
        self.addCleanup(outside.close)
        self.addCleanup(accepted.close)
        return accepted, outside

    def assert_carries(self, accepted, outside):
        for here, there in ((accepted, outside), (outside, accepted)):
            here.sendall(b"across")
            self.assertEqual(there.recv(100), b"across")

    def test_older_connections_go_on_where_a_tcp_rule_or_the_mesh_covers_them_and_are_cut_elsewhere(self):
        with self.pod.connect(ORIGIN, 5000) as covered, self.pod.connect(OTHER, 5001) as denied, \
                self.pod.connect(MESH, 5001) as mesh, self.tls("allowed.test") as tls:
            for sock in (covered, denied, mesh):
                clients.exchange(sock)
            self.assertEqual(tls.ask().status, 200)
            ends = self.inbound()
            self.assert_carries(*ends)
            self.enrol()
            position = self.world.wire.position()
            with self.assertRaises(ConnectionError):
                clients.exchange(denied)
            with self.assertRaises((OSError, clients.Closed)):  # its name cannot be known any more
                tls.ask()
            self.assert_no_bytes_arrived(position, OTHER, 5001)
            self.assert_no_bytes_arrived(position, ORIGIN, TLS_PORT)
            clients.exchange(covered)
            clients.exchange(mesh)
            self.assert_carries(*ends)
        self.assert_refused(OTHER, 5001)
        self.assert_tls_passes("allowed.test")

    def test_an_older_idle_connection_is_cut_when_the_server_speaks(self):
        """Nobody knows of it before a frame of it leaves; an acknowledgement is one."""
        before = self.world.servers[5001].position()
        with self.pod.connect(OTHER, 5001) as idle, self.pod.connect(ORIGIN, 5000) as covered:
            clients.exchange(idle)
            clients.exchange(covered)
            visit = self.world.servers[5001].wait_for_visit(before)
            self.enrol()
            position = self.world.wire.position()
            visit.sock.sendall(b"more")
            with self.assertRaises(ConnectionError):
                while idle.recv(10):
                    pass
            self.assertEqual(visit.wait_for_end(), "reset")
            self.assert_no_bytes_arrived(position, OTHER, 5001)
            clients.exchange(covered)

    def test_live_connections_go_on_when_a_namespace_leaves_the_mesh(self):
        self.enrol()
        with self.pod.connect(ORIGIN, 5000) as tcp, self.tls("allowed.test") as tls, self.http() as http:
            clients.exchange(tcp)
            self.assertEqual(tls.ask().status, 200)
            http.send(clients.request("/pieces/10/50"))
            self.assertEqual(http.response_head().status, 200)
            self.agent.apply(manifests.namespace("curl", enrolled=False))
            clients.exchange(tcp)
            self.assertEqual(tls.ask().status, 200)
            self.assertEqual(len(http.read(65)), 65)  # ten chunks of one byte, and the last
        self.assert_reaches(OTHER, 5001)
        self.assert_tls_passes("denied.test")
        self.assertEqual(self.get(host="denied.test").status, 200)

    def test_a_pod_that_leaves_and_comes_back_is_governed_as_before_and_its_connections_go_on(self):
        with self.pod.connect(ORIGIN, 5000) as first, self.pod.connect(ORIGIN, 5000) as second:
            streams = [Stream(lambda: clients.exchange(first)), Stream(lambda: clients.exchange(second))]
            for _ in range(8):
                self.enrol()
                self.eventually("it is refused", self._refused)
                self.assert_refused(OTHER, 5001)
                self.assert_reaches(ORIGIN, 5000)
                self.agent.apply(manifests.namespace("curl", enrolled=False))
                self.assert_reaches(OTHER, 5001)
            for stream in streams:
                self.assertIsNone(stream.stop().error)

    def _refused(self):
        try:
            self.pod.connect(OTHER, 5001).close()
            return False
        except ConnectionRefusedError:
            return True


if __name__ == "__main__":
    main()
