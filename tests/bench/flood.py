"""What a pod that floods the proxy adds to the requests of another pod on the same node."""

import contextlib
import re
import socket
import subprocess
import threading

from support.pod_sockets import PodSockets

from agent import ROUTES, Agent, egress
from proxies import HOST, ORIGIN, ORIGIN_CONFIG, BODY, PATH, latency, split_cores
from table import median
from world import OUTSIDE, Node, Problem

SLOW, BUSY = 4000, 512  # connections of the flooding pod; it gets 4,096, and a share of the descriptors at most
PARTIAL = f"GET /bench/small HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ".encode()


class Slow:
    """Connections that send their heads a byte at a time and never end them; as many as the pod gets."""

    def __init__(self, cgroup, netns):
        self.sockets = []
        with contextlib.closing(PodSockets(cgroup, netns)) as pod, contextlib.suppress(ConnectionError):
            for _ in range(SLOW):
                sock = pod.connect(OUTSIDE, ORIGIN)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(PARTIAL)
                self.sockets.append(sock)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._drip)
        self.thread.start()

    def _drip(self):
        while True:
            for sock in self.sockets:
                if self.stop.wait(0.001):
                    return
                with contextlib.suppress(OSError):
                    sock.send(b"x")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        for sock in self.sockets:
            sock.close()


@contextlib.contextmanager
def busy(world, namespace, cgroup, url, seconds, cores):
    """Connections that ask without a pause."""
    command = ["wrk", "-t", 1, "-c", BUSY, "-d", f"{seconds + 2}s", "-H", f"Host: {HOST}", url]
    process = subprocess.Popen(world.command(namespace, cgroup, command, cores), stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        said = process.communicate()[0]
        if not re.search(r"Requests/sec:\s+(\S+)", said):
            raise Problem("the flood did not run")


def run(world, table, options):
    cores, load_cores = split_cores()
    (world.directory / "origin.conf").write_text(
        ORIGIN_CONFIG.format(dir=world.directory, address=OUTSIDE, port=ORIGIN, body=BODY))
    world.start("outside", "outside", ["nginx", "-c", world.directory / "origin.conf", "-e", "stderr"], load_cores,
                log=world.directory / "origin.out")
    agent = Agent(world, Node(world, "agent"), cores)
    quiet, quiet_cgroup, _, _ = agent.add_pod("quiet", "quiet")
    flood, flood_cgroup, _, _ = agent.add_pod("flood", "flood")
    for account in ("quiet", "flood"):
        agent.write(f"routes-{account}", ROUTES % {"name": f"routes-{account}", "path": PATH})
        agent.write(account, egress(account, account, {ORIGIN: "http"}, hosts=[HOST], route_group=f"routes-{account}"))
    agent.start()
    url = f"http://{OUTSIDE}:{ORIGIN}/bench/small"
    seconds = 2 if options.quick else 4

    def measure():
        said = world.run(quiet, quiet_cgroup, ["wrk", "-t", 1, "-c", 8, "-d", f"{seconds}s", "--latency", "-H",
                                               f"Host: {HOST}", url], load_cores)
        if "Non-2xx" in said or "Socket errors" in said:
            raise Problem(f"requests of the quiet pod failed: {said}")
        return {"p50": latency(said, "50"), "p99": latency(said, "99")}

    table.section(f"8 connections of a pod, beside another that floods the proxy: {options.rounds} rounds of {seconds} s")
    alone, slow, loud = [], [], []
    for _ in range(options.rounds):
        alone.append(measure())
        with Slow(world.cgroup / flood_cgroup, world.path(flood)) as heads:
            slow.append({**measure(), "heads": len(heads.sockets)})
        with busy(world, flood, flood_cgroup, url, seconds, load_cores):
            loud.append(measure())
    for title, results in ((f"{min(one['heads'] for one in slow):,} slow heads", slow), (f"{BUSY} connections that ask all the time", loud)):
        for key in ("p50", "p99"):
            table.row(f"{title}: {key}", "us", median([one[key] for one in results]),
                      median([one[key] for one in alone]), "no flood",
                      median([a[key] / b[key] for a, b in zip(results, alone)]))
