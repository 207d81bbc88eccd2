"""egress-cni, called as a container runtime calls it."""

import json
import subprocess

from support.agent import BINARIES

PLUGIN = BINARIES / "egress-cni"


def previous_result(pod):
    """The result of the plugin that made the pod's network."""
    return {"cniVersion": "1.0.0",
            "interfaces": [{"name": "cni0", "mac": "02:00:00:00:00:01"}, {"name": pod.link},
                           {"name": "eth0", "sandbox": str(pod.path)}],
            "ips": [{"address": f"{pod.v4}/24", "gateway": "10.244.1.1", "interface": 2},
                    {"address": f"{pod.v6}/64", "interface": 2}],
            "dns": {}}


def configuration(socket, known, previous=None, version="1.0.0", **more):
    config = {"cniVersion": version, "name": "pods", "type": "egress-cni", "socket": str(socket), "known": str(known),
              "systemNamespaces": ["kube-system", "egressd", "osm-system"], **more}
    if previous is not None:
        config["prevResult"] = previous
    return config


def command(pod, verb="ADD", container="sandbox-1", uid="uid-1", plugin=PLUGIN):
    """The plugin on the pod's node, with the environment of a call."""
    arguments = ";".join(("IgnoreUnknown=1", f"K8S_POD_NAMESPACE={pod.namespace}", f"K8S_POD_NAME={pod.name}",
                          f"K8S_POD_INFRA_CONTAINER_ID={container}", f"K8S_POD_UID={uid}"))
    return ["env", "-i", f"CNI_COMMAND={verb}", f"CNI_CONTAINERID={container}", f"CNI_NETNS={pod.path}",
            "CNI_IFNAME=eth0", f"CNI_ARGS={arguments}", f"CNI_PATH={plugin.parent}",
            "nsenter", f"--net={pod.world.node_path}", str(plugin)]


def call(pod, config, timeout=10, **options):
    """One call, run to its end."""
    return subprocess.run(command(pod, **options), input=json.dumps(config), capture_output=True, text=True,
                          timeout=timeout, check=False)


def write_known(path, mesh=("10.244.0.0/16", "10.96.0.0/16", "fd00:10:244::/48", "fd00:10:96::/64"), enrolled=(),
                not_enrolled=()):
    """What an agent has kept."""
    path.write_text(json.dumps({"meshCIDRs": list(mesh), "enrolled": list(enrolled),
                                "notEnrolled": list(not_enrolled)}), encoding="utf-8")
