"""Resident memory and the time to start, with 250 pods and 10,000 policies, against the same agent with one of each."""

import pathlib
import re

from agent import Agent
from changes import ACCOUNTS, write_policies
from table import median
from world import Node, end_process

AIM_MB, AIM_SECONDS = 40, 2


def resident(pid):
    """(all, without files) in MB."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return tuple(int(re.search(rf"{field}:\s+(\d+)", text).group(1)) / 1024 for field in ("VmRSS", "RssAnon"))


def measure(agent, rounds):
    """Starts, looks, ends: seconds of the first start, of the others, and the memory. The last one is left running."""
    starts, memory = [], []
    for index in range(rounds + 1):
        if index:
            end_process(agent.process)
        starts.append(agent.start())
        memory.append((*resident(agent.process.pid), *resident(agent.proxy_pid())))
    return starts[0], median(starts[1:]), [median([one[i] for one in memory]) for i in range(4)]


def run(world, table, options):
    pods, policies = (25, 1000) if options.quick else (250, 10000)
    small = Agent(world, Node(world, "small"))
    small.add_pod("pod-0", "account-0")
    write_policies(small, 0, 1)
    small_first, small_again, small_memory = measure(small, options.rounds)
    small.stop()
    large = Agent(world, Node(world, "large"))
    for index in range(pods):
        large.add_pod(f"pod-{index}", f"account-{index % ACCOUNTS}")
    write_policies(large, 0, policies)
    first, again, memory = measure(large, options.rounds)
    table.section(f"{pods} pods and {policies:,} policies of {ACCOUNTS} ServiceAccounts, {options.rounds} starts")
    table.row("egressd, resident", "MB", memory[0], small_memory[0], "1 pod, 1 policy", aim=f"<= {AIM_MB} MB",
              met=memory[0] <= AIM_MB)
    table.row("egressd, resident without files", "MB", memory[1], small_memory[1], "1 pod, 1 policy")
    table.row("egress-proxy, resident", "MB", memory[2], small_memory[2], "1 pod, 1 policy")
    table.row("egress-proxy, resident without files", "MB", memory[3], small_memory[3], "1 pod, 1 policy")
    table.row("from start to ready, programs attached before", "s", again, small_again, "1 pod, 1 policy",
              aim=f"<= {AIM_SECONDS} s", met=again <= AIM_SECONDS)
    table.row("from start to ready, first on the node", "s", first, small_first, "1 pod, 1 policy")
    table.hint("the first start on a node waits for two grace periods of the kernel for each pod, one for each program that it "
               "attaches there (tcx_entry_sync); /sys/kernel/rcu_expedited shows how much that is")
