"""egress-proxy beside HAProxy and nginx that do the same matching (host and path), to the same origin, on the same cores."""

import os
import pathlib
import re

import hotspots
from agent import ROUTES, Agent, egress
from table import median
from world import OUTSIDE, Node, Problem, connect_inside, until

ORIGIN, PROXY = 7080, 3128
ACCOUNT, HOST, PATH = "bench", "origin.example.com", "/bench/[a-z]+"
CONNECTIONS = (1, 32, 256)
NEW_CONNECTIONS = 32  # at a time, where each request has its own
BODY = "x" * 128
TICKS = os.sysconf("SC_CLK_TCK")

ORIGIN_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {dir}/origin.pid; error_log {dir}/origin.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  server {{ listen {address}:{port} backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""
NGINX_CONFIG = """
daemon off; worker_processes {workers}; pid {dir}/nginx.pid; error_log {dir}/nginx.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_body_temp_path {dir}/nginx;
  proxy_temp_path {dir}/nginx; fastcgi_temp_path {dir}/nginx; uwsgi_temp_path {dir}/nginx; scgi_temp_path {dir}/nginx;
  upstream origin {{ server {address}:{port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen {proxy} default_server backlog=4096; return 404; }}
  server {{
    listen {proxy}; server_name {host};
    location ~ "^{path}$" {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    }}
    location / {{ return 404; }}
  }}
}}
"""
HAPROXY_CONFIG = """
global
  nbthread {workers}
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend pods
  bind :{proxy} backlog 4096
  acl host hdr(host),lower {host} {host}:{proxy}
  acl path path -m reg ^{path}$
  acl method method GET
  http-request deny deny_status 404 unless host path method
  default_backend origin
backend origin
  server origin {address}:{port} pool-max-conn 256
"""


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_kb(pids):
    return sum(int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))
               for pid in pids)


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def split_cores():
    """Cores for the proxies, and cores for load and origin: apart where there is more than one."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    return (cores[:half], cores[half:]) if half else (cores, cores)


class Setup:
    def __init__(self, world):
        self.world = world
        self.cores, self.load_cores = split_cores()
        values = {"dir": world.directory, "address": OUTSIDE, "port": ORIGIN, "proxy": PROXY, "host": HOST, "path": PATH,
                  "body": BODY, "workers": len(self.cores)}
        for name, text in (("origin", ORIGIN_CONFIG), ("nginx", NGINX_CONFIG), ("haproxy", HAPROXY_CONFIG)):
            (world.directory / f"{name}.conf").write_text(text.format(**values))
        world.start("outside", "outside", ["nginx", "-c", world.directory / "origin.conf", "-e", "stderr"],
                    self.load_cores, log=world.directory / "origin.out")
        self.targets = {}  # name -> (namespace, cgroup, url, pids)
        self.add_egressd()
        self.add_other("haproxy", ["haproxy", "-db", "-f", world.directory / "haproxy.conf"], 0)
        self.add_other("nginx", ["nginx", "-c", world.directory / "nginx.conf", "-e", "stderr"], len(self.cores))

    def add_egressd(self):
        agent = Agent(self.world, Node(self.world, "agent"), self.cores)
        namespace, cgroup, _, _ = agent.add_pod("pod", ACCOUNT)
        agent.write("routes", ROUTES % {"name": "routes", "path": PATH})
        agent.write("http", egress("http", ACCOUNT, {ORIGIN: "http"}, hosts=[HOST], route_group="routes"))
        agent.start()
        self.targets["egressd"] = (namespace, cgroup, f"http://{OUTSIDE}:{ORIGIN}/bench/small", [agent.proxy_pid()])

    def add_other(self, name, command, workers):
        namespace, address, _ = Node(self.world, name).add_pod(f"{name}-pod")
        process = self.world.start(namespace, name, command, self.cores, log=self.world.directory / f"{name}.out")

        def listens():
            if process.poll() is not None:
                raise Problem(f"{name}: {(self.world.directory / f'{name}.out').read_text()[-500:]}")
            try:
                connect_inside(self.world.path(namespace), address, PROXY).close()
            except OSError:
                return False
            return True

        until(listens, 10, f"{name} listens")
        until(lambda: len(children(process.pid)) == workers, 10, f"{name} has {workers} workers")
        pids = children(process.pid) or [process.pid]
        self.targets[name] = (namespace, name, f"http://{address}:{PROXY}/bench/small", pids)

    def load(self, name, connections, seconds, close):
        """One run of wrk in the pod; what it says, what the proxy used."""
        namespace, cgroup, url, pids = self.targets[name]
        command = ["wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "--latency", "-H", f"Host: {HOST}"]
        if close:
            command += ["-H", "Connection: close"]
        before = cpu_seconds(pids)
        said = self.world.run(namespace, cgroup, [*command, url], self.load_cores)
        requests = int(re.search(r"(\d+) requests in", said).group(1))
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        return {"rate": float(re.search(r"Requests/sec:\s+(\S+)", said).group(1)), "requests": requests,
                "cpu_us": (cpu_seconds(pids) - before) / max(1, requests) * 1e6, "p50": latency(said, "50"),
                "p99": latency(said, "99"), "rss": resident_kb(pids),
                "wrong": sum(map(int, (errors.groups() if errors else ()) + (other.groups() if other else ())))}


def latency(said, share):
    value, unit = re.search(rf"^\s*{share}%\s+([\d.]+)(us|ms|s)", said, re.M).groups()
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def report(table, title, results):
    """Each figure of egressd beside each of the other two."""
    for key, what, unit, aim, better in (("rate", "requests/s", "/s", None, None),
                                         ("cpu_us", "CPU per request", "us", 1.0, "haproxy"),
                                         ("p50", "p50", "us", None, None), ("p99", "p99", "us", None, None)):
        mine = median([one[key] for one in results["egressd"]])
        for other in ("haproxy", "nginx"):
            reference = median([one[key] for one in results[other]])
            ratio = median([a[key] / b[key] for a, b in zip(results["egressd"], results[other]) if b[key]] or [0])
            checked = aim and other == better
            table.row(f"{title}: {what}", unit, mine, reference, other, ratio, f"<= {aim}" if checked else "",
                      ratio <= aim if checked else None)
    for name, runs in results.items():
        wrong = sum(one["wrong"] for one in runs)
        if wrong:
            table.note(f"{name}: {wrong} of {sum(one['requests'] for one in runs):,} requests failed")


def run(world, table, options):
    setup = Setup(world)
    seconds = 2 if options.quick else 4
    memory = {name: {0: resident_kb(target[3])} for name, target in setup.targets.items()}
    table.section(f"proxy on cores {setup.cores}, load and origin on {setup.load_cores}: "
                  f"{options.rounds} rounds of {seconds} s")
    for connections in CONNECTIONS:
        results = {name: [] for name in setup.targets}
        for index in range(options.rounds):
            names = list(setup.targets)
            for name in names[index % 3:] + names[:index % 3]:
                results[name].append(setup.load(name, connections, seconds, False))
                memory[name].setdefault(connections, results[name][-1]["rss"])
        report(table, f"{connections} connections", results)
    for other in ("haproxy", "nginx"):
        per = {name: (memory[name][256] - memory[name][1]) / 255 for name in ("egressd", other)}
        table.row("memory for each of 256 connections", "KB", per["egressd"], max(per[other], 0.01), other)
    results = {name: [] for name in setup.targets}
    long = options.long
    for index in range(1 if options.quick else options.long_rounds):
        for name in setup.targets:
            results[name].append(setup.load(name, NEW_CONNECTIONS, long, True))
    report(table, f"a connection for each request, {long} s", results)
    table.hint("proxy: a request is two reads and two writes; a connection for each adds accept, close and two segments")
    for title, close in (("keep-alive", False), ("a connection for each request", True)):
        with hotspots.Process(world, setup.targets["egressd"][3]) as perf:
            setup.load("egressd", NEW_CONNECTIONS, 2, close)
        if perf.result:
            table.hint(f"proxy, {title}, by perf: {perf.result}")
