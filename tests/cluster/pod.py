"""A pod of the cluster as its node sees it: programs run in its container without the API server and kubelet."""

import os
import pathlib
import signal
import subprocess

from support import namespaces
from support.pod_sockets import PodSockets


class Pod:
    """Made from the object that the API has; `node` is the machine it runs on."""

    def __init__(self, node, manifest):
        metadata = manifest["metadata"]
        self.node, self.namespace, self.name, self.uid = node, metadata["namespace"], metadata["name"], metadata["uid"]
        self.status, self.address = manifest["status"], manifest["status"].get("podIP")
        self.sockets = None

    def __str__(self):
        return f"{self.namespace}/{self.name} on {self.node.name}"

    def process(self):
        """The host's pid of the first process of the container that is not the sandbox's, and its cgroup in cgroup2."""
        root = namespaces.cgroup2_root() / self.node.group
        for procs in sorted(root.glob(f"kubepods/**/pod{self.uid}/*/cgroup.procs")):
            for pid in procs.read_text(encoding="ascii").split():
                if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] != b"/pause":
                    return int(pid), procs.parent
        raise RuntimeError(f"no container of {self} runs")

    def is_ready(self):
        """Whether the container that its node runs is the one that the API called ready."""
        ready = {container["containerID"].rpartition("/")[2] for container in self.status.get("containerStatuses", [])
                 if container["ready"]}
        try:
            return self.process()[1].name in ready
        except (RuntimeError, OSError):  # none, or one that has just gone
            return False

    def command(self, *arguments):
        pid, cgroup = self.process()
        return ["sh", "-ec", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(cgroup), "nsenter", f"--target={pid}", "--net",
                "--mount", "--pid", "--ipc", "--uts", "--", *map(str, arguments)]

    def run(self, *arguments, timeout=30):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL)

    def kill(self):
        """SIGKILL for the container's first process."""
        os.kill(self.process()[0], signal.SIGKILL)

    def curl(self, *arguments):
        """(curl's exit status, the HTTP status or 0)."""
        done = self.run("curl", "-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", *arguments)
        return done.returncode, int(done.stdout or 0)

    # ---- Sockets of the pod, used by the test ----

    def open(self):
        """Needed before the others, and close() before the pod goes: the process that makes sockets is not kubelet's."""
        if self.sockets is None:
            pid, _ = self.process()
            self.sockets = PodSockets(self.node.own_cgroup(), f"/proc/{pid}/ns/net")
        return self

    def close(self):
        if self.sockets is not None:
            self.sockets.close()
        self.sockets = None

    def connect(self, address, port, timeout=10):
        return self.sockets.connect(address, port, timeout)

    def connects(self, address, port):
        """Whether a TCP connection is made; refused is no, and anything else an error."""
        try:
            self.connect(address, port).close()
        except ConnectionRefusedError:
            return False
        return True
