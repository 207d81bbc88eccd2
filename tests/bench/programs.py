"""Nanoseconds of each kernel program, by the kernel's own statistics, less what an empty program shows at the same hook
for the same traffic."""

import json

from agent import Agent, egress
from table import median
from world import OUTSIDE, Node, sh

SINK, ECHO, TLS = 7000, 7001, 7443
ACCOUNT, NAME = "bench", "api.bench.example.com"
HELLOS = {"517 B": 517, "2 KB": 2048}


class Counters:
    """run_cnt and run_time_ns of some programs, between two readings."""

    def __init__(self, ids):
        self.ids = ids
        self.before = self.read()

    def read(self):
        # While statistics are on, every program shows them, so one listing reads all at once.
        programs = {one["id"]: one for one in json.loads(sh("bpftool", "-j", "prog", "show"))}
        return {name: (programs[number].get("run_cnt", 0), programs[number].get("run_time_ns", 0))
                for name, number in self.ids.items()}

    def since(self):
        now = self.read()
        return {name: (now[name][0] - count, now[name][1] - time) for name, (count, time) in self.before.items()}


class Setup:
    def __init__(self, world):
        self.world = world
        self.agent = Agent(world, Node(world, "agent"))
        self.pod, self.cgroup, _, link = self.agent.add_pod("pod", ACCOUNT)
        self.agent.write("tcp", egress("tcp", ACCOUNT, {SINK: "tcp", ECHO: "tcp"}))
        self.agent.write("https", egress("https", ACCOUNT, {TLS: "https"},
                                         hosts=["other.example.com", "*.bench.example.com"]))
        world.serve([SINK, TLS], ECHO)
        self.agent.start()
        empty = world.start(self.agent.node.name, f"{self.agent.node.name}/agent",
                            [world.build / "bench_empty_programs", world.cgroup / self.agent.pods_cgroup, link],
                            ready=True)
        ids = self.agent.program_ids()
        self.ids = {name: ids[name] for name in ("from_pod", "to_pod", "connect4", "tcp_events", "skb_egress")}
        self.ids |= {"empty_frame": empty.said["frame"], "empty_connect": empty.said["connect"]}

    def count(self, *traffic):
        counters = Counters(self.ids)
        self.world.traffic(self.pod, self.cgroup, *traffic)
        return counters.since()


def mean(counts, name):
    calls, time = counts[name]
    return time / calls if calls else 0


def total(counts, name, empty):
    """Nanoseconds of all calls together, net of an empty program."""
    calls, time = counts[name]
    return time - calls * empty


def measure_round(setup, connections, exchanges):
    """Nanoseconds net of one round: {what: (net, of an empty program)}."""
    result = {}
    counts = setup.count("exchange", OUTSIDE, ECHO, exchanges)
    empty_frame = mean(counts, "empty_frame")
    result["established packet (from_pod)"] = mean(counts, "from_pod") - empty_frame, empty_frame
    result["packet towards the pod (to_pod)"] = mean(counts, "to_pod") - empty_frame, empty_frame
    counts = setup.count("stream", OUTSIDE, SINK, 0.3)
    empty = mean(counts, "empty_frame")
    result["established packet, bulk (from_pod)"] = mean(counts, "from_pod") - empty, empty
    counts = setup.count("hello", OUTSIDE, SINK, connections, 0, "-")
    empty_connect = mean(counts, "empty_connect")
    result["connect4, tcp rule"] = mean(counts, "connect4") - empty_connect, empty_connect
    result["sockops, all calls of a connection"] = total(counts, "tcp_events", empty_connect) / connections, empty_connect
    result["all programs for a short connection"] = sum(
        total(counts, name, empty) for name, empty in (
            ("from_pod", empty_frame), ("to_pod", empty_frame), ("connect4", empty_connect),
            ("tcp_events", empty_connect), ("skb_egress", empty_connect))) / connections, empty_connect
    # The other frames of such a connection are the same with and without a ClientHello.
    silent = setup.count("hello", OUTSIDE, TLS, connections, 0, NAME)
    result["connect4, https rule"] = mean(silent, "connect4") - mean(silent, "empty_connect"), empty_connect
    for title, size in HELLOS.items():
        counts = setup.count("hello", OUTSIDE, TLS, connections, size, NAME)
        extra = counts["from_pod"][1] - silent["from_pod"][1]
        extra_empty = counts["empty_frame"][1] - silent["empty_frame"][1]
        result[f"ClientHello of {title} (from_pod)"] = (extra - extra_empty) / connections, empty_frame
    return result


AIMS = {"established packet (from_pod)": 80, "established packet, bulk (from_pod)": 80}


def run(world, table, options):
    setup = Setup(world)
    connections, exchanges = (300, 3000) if options.quick else (3000, 30000)
    rounds = [measure_round(setup, connections, exchanges) for _ in range(options.rounds)]
    table.section(f"programs: ns for each run, net of an empty program, {options.rounds} rounds")
    for what in rounds[0]:
        net = median([one[what][0] for one in rounds])
        empty = median([one[what][1] for one in rounds])
        aim = AIMS.get(what)
        table.row(what, "ns", net, empty, "empty program", aim=f"<= {aim} ns" if aim else "",
                  met=net <= aim if aim else None)
        table.note("rounds: " + " ".join(f"{one[what][0]:.0f}" for one in rounds))
    table.hint("programs: `perf annotate` of a bpf_prog_* symbol, or `bpftool prog profile`, shows where a program's time "
               "goes; what is left in from_pod is the storage of the socket and the reading of the headers")
