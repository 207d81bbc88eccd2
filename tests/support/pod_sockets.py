"""Sockets of a pod, made by a process that lives in it (pod_process.py) and used by the test."""

import pathlib
import socket
import subprocess
import sys
import threading


class PodSockets:
    """cgroup, netns: where the process lives, as paths."""

    def __init__(self, cgroup, netns):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking = threading.Lock()
        program = pathlib.Path(__file__).with_name("pod_process.py")
        self.process = subprocess.Popen([sys.executable, "-S", program, cgroup, netns, str(theirs.fileno())],
                                        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        if self.channel.recv(5) != b"ready":
            self.close()
            raise RuntimeError(f"no process started in {cgroup} and {netns}")

    def close(self):
        self.channel.close()
        self.process.kill()
        self.process.wait()

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0, timeout=5):
        """A socket that the pod has made."""
        with self._asking:
            self.channel.sendall(f"{int(family)} {int(kind)} {protocol}".encode())
            _, fds, _, _ = socket.recv_fds(self.channel, 16, 1)
        made = socket.socket(fileno=fds[0])
        made.settimeout(timeout)
        return made

    def connect(self, address, port, timeout=5):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.socket(family, timeout=timeout)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made
