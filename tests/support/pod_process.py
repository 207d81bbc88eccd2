"""Lives in a pod: its cgroup and its network namespace. Makes the sockets that the test then uses.

    pod_process.py CGROUP NETNS FD

The kernel judges a socket by the cgroup and the namespace it was made in, not by the process that uses it, so the test
itself can connect, send and read. On the UNIX socket FD: a line `FAMILY TYPE PROTOCOL` in, a descriptor out.
"""

import ctypes
import os
import socket
import sys

CLONE_NEWNET = 0x40000000


def main(cgroup, netns, fd):
    with open(cgroup + "/cgroup.procs", "w", encoding="ascii") as procs:
        procs.write(str(os.getpid()))
    with open(netns, "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
            sys.exit(f"setns {netns}: {os.strerror(ctypes.get_errno())}")
    channel = socket.socket(fileno=int(fd))
    channel.sendall(b"ready")
    while request := channel.recv(64):
        with socket.socket(*map(int, request.split())) as made:
            socket.send_fds(channel, [b"."], [made.fileno()])


main(*sys.argv[1:])
