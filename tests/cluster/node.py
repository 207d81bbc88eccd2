"""A node: containerd, runc, the bridge CNI plugin and kubelet on a machine of their own."""

import contextlib
import json
import pathlib
import shutil

from cluster import layout
from cluster.machine import Machine, wait_until
from support import namespaces

_PLUGINS = ("bridge", "host-local", "loopback", "portmap")


class Node(Machine):
    def __init__(self, prefix, number, home, init, binaries):
        super().__init__(prefix, layout.node_name(number), home, init)
        self.number, self.binaries = number, binaries
        self.address, self.pods = layout.node_address(number), layout.pod_range(number)

    def route(self, others):
        """The way to the pods of the other nodes, and out."""
        for other in others:
            namespaces.ip(self.netns, f"route add {other.pods} via {other.address}\n")
        namespaces.ip(self.netns, f"route add default via {layout.OUTSIDE}\n")

    # ---- Files ----

    def write_files(self, pki):
        """What lies on the machine before it starts. pki: the folder of the control plane's certificates."""
        etc, plugins = self.home / "etc", self.home / "opt" / "cni" / "bin"
        for folder in (etc / "cni" / "net.d", etc / "containerd", plugins):
            folder.mkdir(parents=True)
        for plugin in _PLUGINS:
            shutil.copy2(f"/usr/lib/cni/{plugin}", plugins)
        (etc / "resolv.conf").write_text(f"nameserver {layout.DNS_SERVICE}\n", encoding="ascii")
        (etc / "cni" / "net.d" / "10-bridge.conflist").write_text(self._cni(), encoding="ascii")
        (etc / "containerd" / "config.toml").write_text(self._containerd(), encoding="ascii")
        (etc / "kubelet.yaml").write_text(self._kubelet(pki), encoding="ascii")

    def _cni(self):
        return json.dumps({"cniVersion": "0.4.0", "name": "bridge", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": self.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": True}}]}, indent=2) + "\n"

    def _containerd(self):
        # Without a file system below that can carry an overlay (a container's own), images are copied.
        overlay = namespaces.run("stat", "-f", "-c", "%T", self.home).strip() not in ("overlayfs", "UNKNOWN (0x794c7630)")
        return f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{layout.PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{"overlayfs" if overlay else "native"}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""

    def _kubelet(self, pki):
        few = {"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
               "imagefs.available": "1%"}
        return json.dumps({
            "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": str(pki / "ca.crt")}},
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs", "cgroupRoot": "/", "failSwapOn": False, "evictionHard": few,
            "imageGCHighThresholdPercent": 100, "serializeImagePulls": False,
            "clusterDNS": [layout.DNS_SERVICE], "clusterDomain": "cluster.local", "resolvConf": "/etc/resolv.conf",
            "kubeAPIQPS": 100, "kubeAPIBurst": 200, "maxPods": 250}, indent=2) + "\n"

    def manifest(self):
        """The Node as it stands before kubelet finds it: so the pods' range is known from the start."""
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name},
                "spec": {"podCIDR": self.pods, "podCIDRs": [self.pods]}}

    # ---- Programs ----

    def start_containerd(self):
        self.start("containerd", "containerd", "--config=/etc/containerd/config.toml")
        wait_until(f"containerd of {self.name} answers",
                   lambda: self.run("ctr", "version", check=False).returncode == 0, 30, 0.1)

    def start_kubelet(self, pki):
        self.start("kubelet", self.binaries / "kubelet", "--config=/etc/kubelet.yaml",
                   f"--kubeconfig={pki / f'{self.name}.kubeconfig'}", f"--hostname-override={self.name}",
                   f"--node-ip={self.address}")

    def start_all(self, pki):
        self.start_containerd()
        self.start_kubelet(pki)

    def reboot(self, pki):
        """Power off and on: pods, /run and bpffs are gone, the disk is as it was."""
        self.shut_down()
        with contextlib.suppress(RuntimeError):  # there is none before a pod has started
            namespaces.ip(self.netns, "link del cni0\n")
        self.boot()
        self.start_all(pki)

    def load_image(self, archive):
        """An image archive, `docker save` or OCI, into this node's containerd."""
        self.run("ctr", "-n", "k8s.io", "images", "import", pathlib.Path(archive).resolve(), timeout=300)
