"""Network namespaces, cgroups and links, and sockets that are made inside a namespace.

Everything that is made here has a name that begins with PREFIX, which holds the pid of the test, so that tests run side
by side and that a later run can tell what a killed one has left behind.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time

KIND = "egress-e2e"
PREFIX = f"{KIND}{os.getpid()}-"
NETNS_FOLDER = pathlib.Path("/run/netns")
BPFFS = pathlib.Path("/sys/fs/bpf")
CLONE_NEWNET = 0x40000000
IP_FREEBIND, IPV6_FREEBIND = 15, 78
_GENERAL_OPTIONS = ("rw", "relatime", "nosuid", "nodev", "noexec")  # of a mount, whatever is mounted

_libc = ctypes.CDLL(None, use_errno=True)


def run(*command, **options):
    """Run a program to its end; its output. A failure tells what the program said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def ip(netns, script):
    """Lines of ip(8), in a namespace."""
    run("ip", "-n", netns, "-batch", "-", input=script)


def netns_path(name):
    return NETNS_FOLDER / name


def make_netns(name, sysctls=()):
    """A namespace with its loopback up; sysctls: pairs of a path below /proc/sys and a value."""
    run("ip", "netns", "add", name)
    writes = "".join(f"echo '{value}' > /proc/sys/{key};" for key, value in sysctls)
    run("nsenter", f"--net={netns_path(name)}", "sh", "-ec", f"ip link set lo up;{writes}")


def remove_netns(name):
    if netns_path(name).exists():
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def in_netns(path, work):
    """Call work() in a thread of its own that has entered the namespace at `path`; what it makes stays there."""
    outcome = []

    def enter():
        try:
            with open(path, "rb") as netns:
                if _libc.setns(netns.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {path}")
            outcome.append(work())
        except BaseException as error:  # handed to the caller, whatever it is
            outcome.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def listening_socket(path, port, backlog=1024):
    """A listener on every address, IPv4 and IPv6, of the namespace at `path`."""
    def listen():
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
        listener.listen(backlog)
        return listener
    return in_netns(path, listen)


def cgroup_hierarchies():
    """The cgroup hierarchies of this host by what tells them apart: "cgroup2", or the options that mount a cgroup v1."""
    found = {}
    for line in pathlib.Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.setdefault("cgroup2", pathlib.Path(where))
        elif kind == "cgroup":
            kept = [word for word in options.split(",") if word not in _GENERAL_OPTIONS
                    and not word.startswith("release_agent=")]
            if any(word.startswith("name=") for word in kept):
                kept.insert(0, "none")
            found.setdefault(",".join(kept), pathlib.Path(where))
    return found


def cgroup2_root():
    try:
        return cgroup_hierarchies()["cgroup2"]
    except KeyError:
        raise RuntimeError("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup") from None


def remove_cgroup(root):
    """Kill what runs in a cgroup and remove it with all below."""
    if not root.exists():
        return
    with contextlib.suppress(OSError):
        (root / "cgroup.kill").write_text("1")
    for folder, _, _ in os.walk(root, topdown=False):
        for _ in range(300):  # until its last process is reaped
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)


def sweep():
    """Remove what tests that were killed have left behind."""
    # cgroup2 before the others: it is where processes are ended.
    roots = [NETNS_FOLDER, cgroup2_root(), *cgroup_hierarchies().values(), BPFFS, pathlib.Path("/tmp")]
    for path in itertools.chain.from_iterable(root.glob(f"{KIND}*-*") for root in roots):
        owner = path.name[len(KIND):].split("-")[0]
        if not owner.isdigit() or os.path.exists(f"/proc/{owner}"):
            continue
        if path.parent == NETNS_FOLDER:
            remove_netns(path.name)
        elif path.parent == BPFFS:  # a name with a dot cannot even be looked up there (EPERM)
            shutil.rmtree(path, ignore_errors=True)
        elif (path / "cgroup.procs").exists():
            remove_cgroup(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
