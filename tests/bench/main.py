"""The benchmarks, one after the other, each in a world of its own. Called by tests/bench/run."""

import argparse
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # what the tests share: support

import changes
import flood
import memory
import network
import programs
import proxies
import starts
from table import Table
from world import Problem, World

BENCHMARKS = {"network": network, "programs": programs, "proxy": proxies, "flood": flood, "changes": changes,
              "starts": starts, "memory": memory}


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--only", metavar="NAME", action="append", choices=BENCHMARKS, help="one of " + ", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="short rounds: shows that it works, not how fast")
    parser.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds, of which the median counts (7; quick: 5)")
    parser.add_argument("--long", type=int, metavar="SECONDS", help="of a new connection for each request (65; quick: 5)")
    parser.add_argument("--long-rounds", type=int, metavar="N", default=1, help="how often that, for each proxy (1)")
    parser.add_argument("--rules", type=int, metavar="N", action="append", help="(1, 1000, 100000)")
    parser.add_argument("--policies", type=int, metavar="N", action="append", help="(10, 1000, 10000)")
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.quick else 7)
    options.long = options.long or (5 if options.quick else 65)
    options.rules = options.rules or [1, 1000, 10000 if options.quick else 100000]
    options.policies = options.policies or [10, 1000, 2000 if options.quick else 10000]
    return options


def interrupt(number, _):
    raise SystemExit(128 + number)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    table, failed = Table(), []
    for name in options.only or BENCHMARKS:
        try:
            with World(options.build) as world:
                BENCHMARKS[name].run(world, table, options)
        except Problem as problem:
            table.note(f"{name}: could not be measured: {problem}")
            failed.append(name)
    print("\nNext bottlenecks")
    for hint in table.hints:
        print(f"  - {hint}")
    print(f"\n{table.missed} aims missed" + (f", not measured: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


sys.exit(main())
