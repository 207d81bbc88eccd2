"""From the rename of a manifest to the first connect with the new verdict, among 10, 1,000 and 10,000 policies."""

import time

from agent import Agent, egress
from table import median
from world import OUTSIDE, Node, sh, until

SINK, ECHO, OTHER = 7000, 7001, 7002
ACCOUNT = "account-0"
ACCOUNTS = 250
AIM_MS = 50


def policy(index):
    """One of many: three hosts on https, a range on tcp, in turn."""
    account = f"account-{index % ACCOUNTS}"
    if index % 2:
        hosts = [f"host-{index}-{part}.example.com" for part in range(3)]
        return egress(f"policy-{index}", account, {443: "https", 80: "http"}, hosts=hosts)
    return egress(f"policy-{index}", account, {5432: "tcp"}, cidrs=[f"100.{64 + index // 256 % 64}.{index % 256}.0/24"])


def write_policies(agent, first, last):
    for index in range(first, last):
        agent.write(f"policy-{index}", policy(index))


def bucket_bound(before, after, share):
    """The upper bound of the bucket that holds the quantile of what was observed in between."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = counts[float("inf")]
    return next(bound for bound, count in counts.items() if count >= share * total) if total else 0


def nft_change(world):
    """What an administrator's own tool takes for one element of a set: the whole of `nft`, as it is called by hand."""
    began = time.monotonic()
    sh("nsenter", f"--net={world.path('nft')}", "nft", "add", "element", "inet", "bench", "allowed", "{ 203.0.113.7 }")
    middle = time.monotonic()
    sh("nsenter", f"--net={world.path('nft')}", "nft", "delete", "element", "inet", "bench", "allowed", "{ 203.0.113.7 }")
    return [middle - began, time.monotonic() - middle]


def load_nft(world, count):
    elements = ", ".join(f"100.{64 + index // 65536}.{index // 256 % 256}.{index % 256}" for index in range(count))
    path = world.directory / "changes.nft"
    path.write_text("flush ruleset\ntable inet bench {\n  set allowed {\n    type ipv4_addr\n    elements = { %s }\n  }\n}\n"
                    % elements)
    sh("nsenter", f"--net={world.path('nft')}", "nft", "-f", path)


def run(world, table, options):
    Node(world, "nft")
    agent = Agent(world, Node(world, "agent"))
    pod, cgroup, _, _ = agent.add_pod("pod", ACCOUNT)
    world.serve([SINK], ECHO)
    files = {"opens": {SINK: "tcp"}, "closes": {OTHER: "tcp"}}
    for name, ports in files.items():
        (agent.directory / f"{name}.yaml").write_text(egress("toggle", ACCOUNT, ports))
    agent.write("toggle", (agent.directory / "closes.yaml").read_text())
    agent.start()
    known = 0
    for count in options.policies:
        table.section(f"change -> in force, among {count:,} policies")
        write_policies(agent, known, count)
        known = count
        until(lambda: f'egressd_policies{{state="valid"}} {count + 1}' in agent.fetch("/metrics")[1], 300,
              f"{count} policies are known")
        load_nft(world, count)
        results, nft, before = [], [], agent.apply_histogram()
        samples = 20 if options.quick else 200
        for _ in range(options.rounds):
            results.append(world.traffic(pod, cgroup, "change", OUTSIDE, SINK, samples // options.rounds * 2,
                                         agent.directory / "opens.yaml", agent.directory / "closes.yaml",
                                         agent.beside / "toggle", agent.manifests / "toggle.yaml"))
            nft += [seconds * 1e3 for _ in range(3) for seconds in nft_change(world)]
        inside = bucket_bound(before, agent.apply_histogram(), 0.99) * 1e3
        table.row(f"rename to first connect, p50, {count:,} policies", "ms", median([one["p50_ms"] for one in results]),
                  median(nft), "nft add element")
        worst = median([one["p99_ms"] for one in results])
        table.row(f"rename to first connect, p99, {count:,} policies", "ms", worst, sorted(nft)[-1], "nft, its worst",
                  aim=f"<= {AIM_MS} ms", met=worst <= AIM_MS)
        table.row("egressd_policy_apply_seconds, p99 is below", "ms", inside, aim=f"<= {AIM_MS} ms",
                  met=inside <= AIM_MS)
