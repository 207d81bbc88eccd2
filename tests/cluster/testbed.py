"""A Kubernetes cluster on this host: a control plane, nodes and an outside world, each a machine of its own (layout.py).

    with Cluster(binaries) as cluster: ...

Nothing of the host's network is touched, and all that is made bears the cluster's name: remove(folder) takes it away,
whoever made it and however far that came.
"""

import concurrent.futures
import contextlib
import json
import pathlib
import shutil
import subprocess

from cluster import images, layout
from cluster.control_plane import ControlPlane
from cluster.machine import remove_cgroups
from cluster.node import Node
from cluster.outside import Outside
from support import namespaces

_NETNS_FOLDER_IS_OURS = "netns-folder-is-ours"  # a file that says so: the first `ip netns add` mounts that folder


def remove(folder):
    """Take away the cluster whose files are in `folder`, or what is left of it."""
    prefix = folder.name
    groups = {path.name for root in namespaces.cgroup_hierarchies().values() for path in root.glob(f"{prefix}-*")}
    for group in groups:
        remove_cgroups(group)
    for path in namespaces.NETNS_FOLDER.glob(f"{prefix}-*"):
        namespaces.remove_netns(path.name)
    if (folder / _NETNS_FOLDER_IS_OURS).exists():
        with contextlib.suppress(OSError):  # somebody else has namespaces there now
            if not any(namespaces.NETNS_FOLDER.iterdir()):
                subprocess.run(["umount", namespaces.NETNS_FOLDER], capture_output=True, check=False)
                namespaces.NETNS_FOLDER.rmdir()
    shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """binaries: the folder with the programs of Kubernetes. folder: for all files; its name is the cluster's."""

    def __init__(self, binaries, folder=None, nodes=2):
        self.folder = pathlib.Path(folder or f"/tmp/{namespaces.PREFIX}cluster")
        prefix, init = self.folder.name, self.folder / "init"
        self.control = ControlPlane(prefix, self.folder / "control", init, pathlib.Path(binaries))
        self.nodes = [Node(prefix, number, self.folder / layout.node_name(number), init, pathlib.Path(binaries))
                      for number in range(1, nodes + 1)]
        self.outside = Outside(prefix, self.folder / "outside", init)
        self.machines = [self.control, self.outside, *self.nodes]

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_):
        self.down()

    def down(self):
        remove(self.folder)

    # ---- Up ----

    def up(self):
        for machine in self.machines:
            machine.home.mkdir(parents=True)
        if not namespaces.NETNS_FOLDER.is_mount():
            (self.folder / _NETNS_FOLDER_IS_OURS).touch()
        images.compile_init(self.folder / "init")
        self._connect()
        self.control.make_certificates([node.name for node in self.nodes])
        self.outside.make_certificate()
        for node in self.nodes:
            node.write_files(self.control.authority.folder)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for booted in [pool.submit(machine.boot) for machine in self.machines]:
                booted.result()
            control = pool.submit(self.control.start_all)
            self._make_images()
            for started in [pool.submit(self._start_containerd, node) for node in self.nodes]:
                started.result()
            control.result()
            self.apply(*(node.manifest() for node in self.nodes))
            for node in self.nodes:
                node.start_kubelet(self.control.authority.folder)
        self.wait("node", "--all", condition="Ready")

    def _connect(self):
        for machine in self.machines:
            machine.make_network()
        for node in self.nodes:
            self.control.connect(node, node.address, [node.pods])
            node.route([other for other in self.nodes if other is not node])
        self.control.connect(self.outside, layout.OUTSIDE, layout.WORLD_RANGES)
        self.outside.route(self.nodes)

    def _make_images(self):
        images.write_pause(self.folder / "pause.tar", layout.PAUSE_IMAGE, self.folder / "init")
        images.write_pod(self.folder / "pod.tar", layout.POD_IMAGE)

    def _start_containerd(self, node):
        node.start_containerd()
        for archive in ("pause.tar", "pod.tar"):
            node.load_image(self.folder / archive)

    def load_image(self, archive):
        """An image archive into every node."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for loaded in [pool.submit(node.load_image, archive) for node in self.nodes]:
                loaded.result()

    # ---- kubectl ----

    def kubectl(self, *arguments, check=True, timeout=120, **options):
        """Run to its end, as the admin. Where check is false, a failure is the caller's to see."""
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        done = subprocess.run(self.control.kubectl_command(*arguments), capture_output=True, text=True, check=False,
                              timeout=timeout, **options)
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done

    def apply(self, *objects):
        """Objects as dictionaries. Not held against the server's schema first, which costs more than all the rest."""
        self.kubectl("apply", "--validate=false", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def delete(self, kind, name, namespace=None, *options):
        self.kubectl("delete", kind, name, *self._in(namespace), "--ignore-not-found", *options)

    def get(self, kind, name=None, namespace=None, *options):
        """An object, or the items of a list, as dictionaries."""
        words = [kind] + ([name] if name else [])
        found = json.loads(self.kubectl("get", *words, *self._in(namespace), "-o", "json", *options).stdout)
        return found if name else found["items"]

    def wait(self, kind, *names, condition, namespace=None, seconds=120):
        """Until all have a condition, "Ready" or as `kubectl wait --for` has it ("delete", "jsonpath=...")."""
        wanted = condition if "=" in condition or condition == "delete" else f"condition={condition}"
        self.kubectl("wait", kind, *names, *self._in(namespace), f"--for={wanted}", f"--timeout={seconds}s",
                     timeout=seconds + 30)

    def execute(self, namespace, pod, *command, timeout=60):
        """A program in a pod's container, through the API server and kubelet; not checked."""
        return self.kubectl("exec", "-n", namespace, pod, "--", *command, check=False, timeout=timeout)

    @staticmethod
    def _in(namespace):
        return ["-n", namespace] if namespace else []

    def logs(self, size=1500):
        """The end of what every program of the cluster has said, for a test that failed."""
        parts = []
        for machine in self.machines:
            for log in sorted((machine.home / "log").glob("*.log")):
                with contextlib.suppress(OSError):
                    parts.append(f"---- {machine.name}: {log.stem}\n"
                                 f"{log.read_text(encoding='utf-8', errors='replace')[-size:]}")
        return "\n".join(parts)
