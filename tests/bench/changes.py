"""From the rename of a manifest to the first connect with the new verdict, among 10, 1,000 and 10,000 policies."""

import time

from agent import Agent, egress
from table import median
from world import OUTSIDE, Node, sh, until

SINK, ECHO, OTHER = 7000, 7001, 7002
ACCOUNT = "account-0"
ACCOUNTS = 250
AIM_MS = 50


def policy(index, accounts):
    """One of many: three hosts on https, a range on tcp, in turn."""
    account = f"account-{index % accounts}"
    if index % 2:
        hosts = [f"host-{index}-{part}.example.com" for part in range(3)]
        return egress(f"policy-{index}", account, {443: "https", 80: "http"}, hosts=hosts)
    return egress(f"policy-{index}", account, {5432: "tcp"}, cidrs=[f"100.{64 + index // 256 % 64}.{index % 256}.0/24"])


def write_policies(agent, first, last, accounts=ACCOUNTS):
    for index in range(first, last):
        agent.write(f"policy-{index}", policy(index, accounts))


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


def measure(world, table, options, agent, pod, cgroup, title):
    """Changes that open and close a destination, in turn, beside changes of an nftables set."""
    results, nft, before = [], [], agent.apply_histogram()
    samples = 20 if options.quick else 200
    for _ in range(options.rounds):
        results.append(world.traffic(pod, cgroup, "change", OUTSIDE, SINK, samples // options.rounds * 2,
                                     agent.directory / "opens.yaml", agent.directory / "closes.yaml",
                                     agent.beside / "toggle", agent.manifests / "toggle.yaml"))
        nft += [seconds * 1e3 for _ in range(3) for seconds in nft_change(world)]
    inside = bucket_bound(before, agent.apply_histogram(), 0.99) * 1e3
    table.section(f"change -> in force, {title}")
    table.row("rename to first connect, p50", "ms", median([one["p50_ms"] for one in results]), median(nft),
              "nft add element")
    worst = median([one["p99_ms"] for one in results])
    table.row("rename to first connect, p99", "ms", worst, sorted(nft)[-1], "nft, its worst", aim=f"<= {AIM_MS} ms",
              met=worst <= AIM_MS)
    table.row("egressd_policy_apply_seconds, p99 is below", "ms", inside, aim=f"<= {AIM_MS} ms", met=inside <= AIM_MS)


def add_agent(world, name):
    agent = Agent(world, Node(world, name))
    pod, cgroup, _, _ = agent.add_pod("pod", ACCOUNT)
    for state, ports in (("opens", {SINK: "tcp"}), ("closes", {OTHER: "tcp"})):
        (agent.directory / f"{state}.yaml").write_text(egress("toggle", ACCOUNT, ports))
    agent.write("toggle", (agent.directory / "closes.yaml").read_text())
    agent.start()
    return agent, pod, cgroup


def run(world, table, options):
    Node(world, "nft")
    world.serve([SINK], ECHO)
    for name, accounts, counts in (("many", ACCOUNTS, options.policies), ("one", 1, options.policies[-1:])):
        agent, pod, cgroup = add_agent(world, name)
        known = 0
        for count in counts:
            write_policies(agent, known, count, accounts)
            known = count
            until(lambda: f'egressd_policies{{state="valid"}} {count + 1}' in agent.fetch("/metrics")[1], 300,
                  f"{count} policies are known")
            load_nft(world, count)
            measure(world, table, options, agent, pod, cgroup,
                    f"among {count:,} policies of {accounts} ServiceAccount{'s' if accounts > 1 else ''}")
        agent.stop()
    table.hint("changes: with all policies on one ServiceAccount, compiling and comparing its rules anew is most of it")
