"""Throughput and connect rate, pod -> outside: egressd with N rules, an nftables set of N, and nothing at all."""

import subprocess

import hotspots
from agent import Agent, egress
from table import median, ratios
from world import OUTSIDE, Node, sh, until

SINK, ECHO = 7000, 7001
ACCOUNT = "bench"
CIDRS_OF_A_POLICY = 1000


def cidrs(count):
    """Ranges that cannot be merged; the last one covers the server outside."""
    numbers = [0x64400000 + i * 32 for i in range(count - 1)]  # 100.64.0.0/10, every second /28
    return [f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/28" for n in numbers] + ["198.51.100.0/24"]


def write_rules(agent, count, before):
    ranges = cidrs(count)
    parts = [ranges[at:at + CIDRS_OF_A_POLICY] for at in range(0, count, CIDRS_OF_A_POLICY)]
    for index, part in enumerate(parts):
        agent.write(f"rules-{index}", egress(f"rules-{index}", ACCOUNT, {SINK: "tcp", ECHO: "tcp"}, cidrs=part))
    for index in range(len(parts), before):
        agent.delete(f"rules-{index}")
    return len(parts)


def load_set(world, count):
    """Forwarded packets of the pod pass where their destination is in the set; no connection tracking to slow it."""
    elements = ",\n".join(cidrs(count))
    text = f"""
flush ruleset
table inet bench {{
  set allowed {{ type ipv4_addr; flags interval; elements = {{ {elements} }} }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname "veth0" ip daddr @allowed tcp dport {{ {SINK}, {ECHO} }} accept
    iifname "veth0" drop
  }}
}}
"""
    path = world.directory / "set.nft"
    path.write_text(text)
    sh("nsenter", f"--net={world.path('nft')}", "nft", "-f", path)


class Setup:
    """Three nodes that differ in nothing but what is enforced there."""

    def __init__(self, world):
        self.world = world
        self.pods = {}
        for name in ("none", "nft"):
            namespace, _, _ = Node(world, name).add_pod(f"{name}-pod")
            self.pods[name] = (namespace, f"{name}-pod")
        self.agent = Agent(world, Node(world, "agent"))
        namespace, cgroup, _, _ = self.agent.add_pod("pod", ACCOUNT)
        self.pods["egressd"] = (namespace, cgroup)
        self.parts = 0
        world.serve([SINK], ECHO)
        self.agent.start()

    def rules(self, count):
        load_set(self.world, count)
        self.parts = write_rules(self.agent, count, self.parts)
        entries = 2 * count  # two ports
        until(lambda: self.agent.map_entries("rules") >= entries, 120, f"{entries} rules in the kernel's map")

    def measure(self, rounds, what, seconds):
        results = {name: [] for name in self.pods}
        for index in range(rounds):
            names = list(self.pods)
            for name in names[index % 3:] + names[:index % 3]:
                namespace, cgroup = self.pods[name]
                results[name].append(self.world.traffic(namespace, cgroup, what, OUTSIDE, SINK, seconds))
        return results


def report(table, title, unit, results, value, aim=None):
    """egressd beside the other two; the ratio to no enforcement is the one that has an aim."""
    values = {name: [value(one) for one in some] for name, some in results.items()}
    for name, of in (("none", "no enforcement"), ("nft", "nftables set")):
        ratio = ratios(values["egressd"], values[name])
        checked = aim and name == "none"
        table.row(title, unit, median(values["egressd"]), median(values[name]), of, ratio,
                  f">= {aim}" if checked else "", ratio >= aim if checked else None)


def run(world, table, options):
    setup = Setup(world)
    seconds = 0.4 if options.quick else 2
    for count in options.rules:
        setup.rules(count)
        table.section(f"pod -> outside, {count:,} rules, {options.rounds} rounds of {seconds} s")
        streams = setup.measure(options.rounds, "stream", seconds)
        report(table, "throughput", "Gbit/s", streams, lambda r: r["bytes"] * 8e-9 / r["seconds"], 0.98)
        report(table, "sender's CPU for a GB", "ms", streams, lambda r: r["cpu_seconds"] * 1e12 / r["bytes"])
        connects = setup.measure(options.rounds, "connect", seconds)
        report(table, "connect rate", "/s", connects, lambda r: r["connections"] / r["seconds"], 0.95)
        report(table, "client's CPU for a connection", "us", connects, lambda r: r["cpu_seconds"] * 1e6 / r["connections"])
    table.hint("connect: what egressd adds is connect4, some calls of sockops, the storage of the verdict (made and freed) "
               "and three frames at the boundary; --only programs tells each")
    profile(setup, table)


def profile(setup, table):
    namespace, cgroup = setup.pods["egressd"]
    command = setup.world.command(namespace, cgroup, [setup.world.build / "bench_traffic", "connect", OUTSIDE, SINK, 2])
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with hotspots.Process(setup.world, [process.pid]) as perf:
        process.wait()
    if perf.result:
        table.hint(f"connect, the client by perf: {perf.result}")
