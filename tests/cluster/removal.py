"""Uninstalling: the nodes are as they were before, and the users' objects are still there. Deleting: nothing opens."""

from cluster.case import MESH_CIDRS, OTHER_TCP_PORT, TCP_PORT, ClusterCase, overlay
from support.case import Stream, tcp_port
from support.manifests import egress

ORIGIN = "198.51.100.10"


class Removal(ClusterCase):
    def left_on(self, node):
        """What egressd puts on a node, as far as it is there."""
        script = """
            # (*.debug: the kernel's own, in every bpffs)
            find /sys/fs/bpf /run/egressd /var/lib/egressd -mindepth 1 ! -name '*.debug' 2>/dev/null
            find /opt/cni/bin -name 'egress*'
            grep -l egress /etc/cni/net.d/* || true
            bpftool net show | grep -i egress || true
            bpftool cgroup tree "$(findmnt -n -t cgroup2 -o TARGET)" 2>/dev/null | grep -i egress || true"""
        return node.run("sh", "-ec", script).stdout.split("\n")[:-1]

    def test_a_plain_delete_leaves_the_enforcement_and_a_new_install_takes_over(self):
        self.namespace("deleted")
        rule = egress("open", tcp_port(TCP_PORT), account="curl", namespace="deleted")
        self.cluster.apply(rule)
        pods = [pod.open() for pod in self.deployment("curl", "deleted").values()]
        for pod in pods:
            self.addCleanup(pod.close)
            self.assert_connects(pod, ORIGIN, TCP_PORT)
        refused = [Stream(lambda pod=pod: self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)) for pod in pods]
        self.cluster.kubectl("delete", "-k", self.cluster.folder / "overlay")
        for node in self.cluster.nodes:
            self.assertNotEqual(self.left_on(node), [])
        self.install()
        for pod in pods:
            self.assert_connect_refused(pod, ORIGIN, TCP_PORT)  # its Egress went with the CRD
        self.cluster.apply(rule)
        for pod in pods:
            self.eventually(f"{pod} may connect", lambda pod=pod: pod.connects(ORIGIN, TCP_PORT))
        for stream in refused:
            self.assertIsNone(stream.stop().error)
            self.assertGreater(stream.rounds, 0)

    def test_uninstall_leaves_nothing_on_the_nodes_and_keeps_what_users_wrote(self):
        self.namespace("removal")
        self.cluster.apply(egress("open", tcp_port(TCP_PORT), account="curl", namespace="removal"))
        pods = [pod.open() for pod in self.deployment("curl", "removal").values()]
        for pod in pods:
            self.addCleanup(pod.close)
            self.assert_connects(pod, ORIGIN, TCP_PORT)
            self.assert_connect_refused(pod, ORIGIN, OTHER_TCP_PORT)
        for node in self.cluster.nodes:
            self.assertNotEqual(self.left_on(node), [])

        folder = overlay(self.cluster.folder / "uninstall", "uninstall", self.image.tag,
                         {"meshCIDRs": MESH_CIDRS, **self.CONFIG})
        self.cluster.kubectl("apply", "-k", folder)
        self.wait_for_agents()
        for node in self.cluster.nodes:
            self.assertEqual(self.left_on(node), [])
        for pod in pods:
            self.assert_connects(pod, ORIGIN, OTHER_TCP_PORT)
        self.cluster.kubectl("delete", "-k", folder)
        self.assertEqual(self.cluster.get("egress", "open", "removal")["metadata"]["name"], "open")
        for pod in self.deployment("later", "removal").values():
            self.addCleanup(pod.open().close)
            self.assert_connects(pod, ORIGIN, OTHER_TCP_PORT)
