"""Where the time goes, by `perf`, on machines that have it. For the hints only: nothing is measured by it."""

import re
import shutil
import subprocess

COUNT = 6
ENOUGH = 500  # samples; of fewer nothing can be said


def top(data):
    """The symbols with the largest shares of their own, as text; empty where perf says too little."""
    report = subprocess.run(["perf", "report", "-i", data, "--no-children", "--stdio", "-g", "none", "--sort", "symbol"],
                            capture_output=True, text=True, check=False).stdout
    samples = re.search(r"^# Samples: (\d+)([KM]?)", report, re.M)
    if not samples or (not samples.group(2) and int(samples.group(1)) < ENOUGH):
        return ""
    found = re.findall(r"^\s*([\d.]+)%\s+\[.\] (\S+)", report, re.M)
    return ", ".join(f"{symbol} {share} %" for share, symbol in found[:COUNT])


class Process:
    """Records what some processes do while the block runs; `result` is empty without perf."""

    def __init__(self, world, pids):
        self.pids, self.data, self.result = pids, world.directory / "perf.data", ""

    def __enter__(self):
        self.perf = None
        if shutil.which("perf"):
            self.data.unlink(missing_ok=True)
            self.perf = subprocess.Popen(["perf", "record", "-q", "-F", "4999", "-o", str(self.data),
                                          "-p", ",".join(map(str, self.pids))],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        if not self.perf:
            return
        self.perf.send_signal(2)
        try:
            self.perf.wait(10)
        except subprocess.TimeoutExpired:
            self.perf.kill()
            self.perf.wait()
        if self.data.exists():
            self.result = top(str(self.data))
