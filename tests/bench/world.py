"""The world of the benchmarks: an outside with servers, and nodes with pods, each a network namespace.

    pod --- veth --- node --- veth --- outside (198.51.100.10)

Everything is named egbench-PID-… and removed again, also after a failure or a signal.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

OUTSIDE = "198.51.100.10"
SYSCTLS = {"net/ipv4/ip_forward": 1, "net/ipv4/conf/all/rp_filter": 0, "net/ipv4/conf/default/rp_filter": 0}
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Problem(Exception):
    """What keeps a benchmark from going on."""


def sh(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise Problem(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def until(condition, seconds, what):
    """Waits until condition() is true and returns what it gave."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise Problem(f"{what}: not within {seconds} s")
        time.sleep(0.005)


def find_cgroup2():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return pathlib.Path(line.split()[1])
    raise Problem("no cgroup2 is mounted")


def remove_cgroup(root):
    if not root.exists():
        return
    (root / "cgroup.kill").write_text("1")
    for directory, _, _ in os.walk(root, topdown=False):
        for _ in range(400):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
                break
            time.sleep(0.01)


def end_process(process):
    """Ends one of our own processes; those that read their standard input end by themselves."""
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def connect_inside(path, address, port):
    """A TCP connection made in another network namespace, by a thread that enters it and ends."""
    result = []

    def work():
        namespace = os.open(path, os.O_RDONLY)
        try:
            if libc.setns(namespace, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            result.append(socket.create_connection((address, port), timeout=10))
        except OSError as error:
            result.append(error)
        finally:
            os.close(namespace)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


class World:
    """Namespaces, cgroups and processes. A context manager."""

    def __init__(self, build):
        self.build, self.prefix = pathlib.Path(build), f"egbench-{os.getpid()}"
        self.stack = contextlib.ExitStack()
        self.nodes = 0

    def __enter__(self):
        try:
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix=self.prefix + "-"))
            self.stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.cgroup = find_cgroup2() / self.prefix
            self.cgroup.mkdir()
            self.stack.callback(remove_cgroup, self.cgroup)
            self.namespace("outside")
            self.ip("outside", f"addr add {OUTSIDE}/32 dev lo\n")
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM):  # nothing interrupts the removal
            signal.signal(number, signal.SIG_IGN)
        self.stack.close()

    def path(self, name):
        return f"/run/netns/{self.prefix}-{name}"

    def ip(self, name, script):
        sh("ip", "-n", f"{self.prefix}-{name}", "-batch", "-", input=script)

    def namespace(self, name, stack=None):
        full = f"{self.prefix}-{name}"
        (stack or self.stack).callback(subprocess.run, ["ip", "netns", "del", full], capture_output=True, check=False)
        sh("ip", "netns", "add", full)
        writes = "".join(f"echo {value} > /proc/sys/{key};" for key, value in SYSCTLS.items())
        sh("nsenter", f"--net=/run/netns/{full}", "sh", "-c", f"ip link set lo up; {writes}")

    def command(self, name, cgroup, command, cores=None):
        """`command` as it is run in a namespace, in a cgroup below ours, on some cores only."""
        group = self.cgroup / cgroup
        group.mkdir(parents=True, exist_ok=True)
        pinned = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
        return ["nsenter", f"--net={self.path(name)}", "sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"',
                str(group), *pinned, *map(str, command)]

    def start(self, name, cgroup, command, cores=None, log=None, ready=False, stack=None):
        """Starts a process that lives until the world ends; `ready`: returns once it has printed a line of JSON."""
        out = open(log, "ab") if log else subprocess.DEVNULL
        process = subprocess.Popen(self.command(name, cgroup, command, cores), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE if ready else out, stderr=out if log else None)
        if log:
            out.close()
        (stack or self.stack).callback(end_process, process)
        if ready:
            line = process.stdout.readline()
            if not line:
                raise Problem(f"{command[0]} did not start")
            process.said = json.loads(line)
        return process

    def run(self, name, cgroup, command, cores=None):
        return sh(*self.command(name, cgroup, command, cores))

    def traffic(self, name, cgroup, *arguments, cores=None):
        return json.loads(self.run(name, cgroup, [self.build / "bench_traffic", *arguments], cores))

    def serve(self, ports, echo):
        """The server outside that all benchmarks of connections use."""
        return self.start("outside", "outside", [self.build / "bench_traffic", "serve", OUTSIDE, echo, *ports],
                          ready=True)


class Node:
    """A node with its own way to the outside. Its pods are 10.244.N.10 and up."""

    def __init__(self, world, name):
        world.nodes += 1
        self.world, self.name, self.number, self.pods = world, name, world.nodes, 0
        world.namespace(name)
        uplink, far = f"192.0.2.{self.number * 4 + 2}", f"192.0.2.{self.number * 4 + 1}"
        link = f"up{self.number}"
        world.ip("outside", f"link add {link} type veth peer name uplink netns {world.prefix}-{name}\n"
                            f"addr add {far}/30 dev {link}\nlink set {link} up\n")
        world.ip(name, f"addr add {uplink}/30 dev uplink\nlink set uplink up\nroute add default via {far}\n")
        world.ip("outside", f"route add 10.244.{self.number}.0/24 via {uplink}\n")

    def add_pod(self, name):
        """Returns (name of the namespace, address, host-side interface)."""
        index = self.pods
        self.pods += 1
        third, fourth = (self.number, 10 + index) if index < 240 else (100 + self.number + index // 240, index % 240 + 1)
        address, link, node = f"10.244.{third}.{fourth}", f"veth{index}", self.name
        self.world.namespace(name)
        self.world.ip(node, f"link add {link} type veth peer name eth0 netns {self.world.prefix}-{name}\n"
                            f"addr add 10.244.{self.number}.1/32 dev {link}\nlink set {link} up\n"
                            f"route add {address} dev {link}\n")
        self.world.ip(name, f"addr add {address}/32 dev eth0\nlink set eth0 up\n"
                            f"route add 10.244.{self.number}.1 dev eth0 scope link\n"
                            f"route add default via 10.244.{self.number}.1\n")
        return name, address, link
