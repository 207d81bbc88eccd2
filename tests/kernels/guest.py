"""Runs in the guest: each test of the plan on its own, one result a line, and what a failed one said.

    ok NAME (SECONDS)
    FAIL NAME: WHY
    skip NAME: WHY

The last line is `end`; without it the guest has not come to its end.
"""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

PLAN = pathlib.Path("/plan.json")
SHOWN = 6000  # bytes of a failed test's output: the serial line is slow


def run(command, folder, timeout, environment):
    """(exit status or None where it took too long, output)."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output.decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output.decode(errors="replace")


def tell(line):
    print(line, flush=True)


def tell_failure(name, why, output):
    tell(f"FAIL {name}: {why}")
    for line in output[-SHOWN:].splitlines():
        tell(f"  | {line}")


def not_here(text, kernel):
    """[(pattern, why)] of the tests that cannot run on this kernel; see not-here.txt."""
    rows = [line.split(None, 2) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(re.compile(pattern), why) for kernels, pattern, why in rows
            if kernels == "*" or any(kernel.startswith(name + ".") for name in kernels.split(","))]


def load_objects(paths):
    """Every program of every object file passes this kernel's verifier."""
    for number, path in enumerate(paths):
        name = f"verifier_accepts_{pathlib.Path(path).name}"
        pins = pathlib.Path(f"/sys/fs/bpf/load{number}")
        started = time.monotonic()
        status, output = run(["bpftool", "prog", "loadall", path, str(pins)], "/", 300, dict(os.environ))
        if status == 0:
            tell(f"ok {name} ({time.monotonic() - started:.1f}: {', '.join(sorted(p.name for p in pins.iterdir()))})")
            shutil.rmtree(pins)
        else:
            tell_failure(name, f"status {status}", output)


def run_test(test, folder):
    environment = {**os.environ, **dict(item.split("=", 1) for item in test["environment"])}
    if not test["command"]:
        tell_failure(test["name"], "was not built", "")
        return
    started = time.monotonic()
    status, output = run(test["command"], folder, test["timeout"], environment)
    skipped = next((line for line in output.splitlines() for pattern in test["skipped_by"] if re.search(pattern, line)),
                   None)
    if status is None:
        tell_failure(test["name"], f"not done in {test['timeout']} s", output)
    elif status != 0:
        tell_failure(test["name"], f"status {status}", output)
    elif skipped is not None:
        reason = re.search(r"Skipped\n(.*)", output)
        tell(f"skip {test['name']}: {reason[1] if reason else skipped}")
    else:
        tell(f"ok {test['name']} ({time.monotonic() - started:.1f})")


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))  # as a service has it; the kernel begins with 4096
    plan, kernel = json.loads(PLAN.read_text(encoding="utf-8")), os.uname().release
    tell(f"booted {kernel}")
    if "command" in plan:
        status = subprocess.run(plan["command"], stdin=subprocess.DEVNULL, stdout=sys.stdout, stderr=sys.stdout,
                                check=False).returncode
        tell(f"{'ok' if status == 0 else 'FAIL'} command: status {status}")
    else:
        load_objects(plan["objects"])
        left_out = not_here(plan["not_here"], kernel)
        for test in plan["tests"]:
            why = next((why for pattern, why in left_out if pattern.search(test["name"])), None)
            if why:
                tell(f"skip {test['name']}: {why}")
            else:
                run_test(test, plan["folder"])
    tell("end")


main()
