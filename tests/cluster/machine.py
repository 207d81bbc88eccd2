"""A machine of the cluster: a network, mounts, processes, a host name and cgroups of its own, on this host.

It has /run, /var/lib, /var/log, /opt, /etc and a bpffs of its own; the rest of the file system is the host's. When its
process 1 is killed, all its processes end and all its mounts go with them.
"""

import contextlib
import os
import pathlib
import subprocess
import time

from support import namespaces

_HERE = pathlib.Path(__file__).parent
_SYSCTLS = (("net/ipv4/ip_forward", 1), ("net/ipv4/conf/all/rp_filter", 0), ("net/ipv4/conf/default/rp_filter", 0),
            ("net/ipv6/conf/default/accept_dad", 0))


def remove_cgroups(name):
    """End every process of the machine `name` and remove its cgroups. Nothing happens where there is none."""
    namespaces.remove_cgroup(namespaces.cgroup2_root() / name)  # which ends the processes
    for root in namespaces.cgroup_hierarchies().values():
        namespaces.remove_cgroup(root / name)


def wait_until(what, condition, seconds, pause=0.02):
    """Ask again until condition() is true, for what tells of itself in no other way; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(pause)


class Process:
    """A program that runs in a machine. `pid` is the host's number of it."""

    def __init__(self, machine, name, popen, log):
        self.machine, self.name, self.popen, self.log = machine, name, popen, log

    @property
    def pid(self):
        def child():
            children = pathlib.Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text(encoding="ascii")
            return int(children.split()[0]) if children.strip() else None
        return wait_until(f"{self.name} runs", child, 5)

    def kill(self, signal_number):
        os.kill(self.pid, signal_number)
        return self.popen.wait(30)

    def tail(self, size=3000):
        return self.log.read_text(encoding="utf-8", errors="replace")[-size:] if self.log.exists() else ""


class Machine:
    def __init__(self, prefix, name, home, init):
        self.name, self.home, self.init = name, home, init
        self.group = self.netns = f"{prefix}-{name}"
        self.netns_path = namespaces.netns_path(self.netns)
        self.processes = {}

    # ---- Life ----

    def make_network(self):
        namespaces.make_netns(self.netns, _SYSCTLS)

    def boot(self):
        """Start process 1. What stands in home/etc lies over the host's /etc."""
        for folder in ("etc", "var/lib", "var/log", "opt", "log"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "ready").unlink(missing_ok=True)
        hierarchies = namespaces.cgroup_hierarchies()
        for options, root in hierarchies.items():
            group = root / self.group
            group.mkdir()
            if "cpuset" in options.split(","):  # empty in a new group, and no process enters it so
                for key in ("cpuset.cpus", "cpuset.mems"):
                    (group / key).write_text((root / key).read_text(encoding="ascii"))
        joined = " && ".join(f"echo $$ >{root / self.group}/cgroup.procs" for root in hierarchies.values())
        mounts = [str(part) for options, root in hierarchies.items() for part in (root, options)]
        with open(self.home / "log" / "machine.log", "ab") as log:
            starting = subprocess.Popen(
                ["sh", "-ec", f'{joined} && exec "$@"', "sh", "nsenter", f"--net={self.netns_path}", "unshare",
                 "--cgroup", "--mount", "--pid", "--ipc", "--uts", "--fork", _HERE / "machine.sh", self.home, self.name,
                 self.init, *mounts],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(f"machine {self.name} starts",
                   lambda: (self.home / "ready").exists() or starting.poll() is not None, 20)
        if starting.poll() is not None:
            raise RuntimeError(f"machine {self.name} did not start: "
                               f"{(self.home / 'log' / 'machine.log').read_text(errors='replace')[-2000:]}")
        self._share_out_controllers()

    def _share_out_controllers(self):
        """Where cgroup2 has the controllers, a group that hands them on may hold no process itself."""
        root = namespaces.cgroup2_root()
        group, init = root / self.group, root / self.group / "init"
        init.mkdir()
        for pid in (group / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):  # it has ended
                (init / "cgroup.procs").write_text(pid)
        for controller in (root / "cgroup.controllers").read_text(encoding="ascii").split():
            for folder in (root, group):
                with contextlib.suppress(OSError):
                    (folder / "cgroup.subtree_control").write_text(f"+{controller}")

    def shut_down(self):
        """As if the power went: every process ends, and what was in memory (/run, bpffs) is gone. The network stays."""
        remove_cgroups(self.group)
        for process in self.processes.values():
            process.popen.wait(30)
        self.processes.clear()

    # ---- Programs ----

    def own_cgroup(self):
        """Where the machine's own processes are in cgroup2; its pods are beside it."""
        return namespaces.cgroup2_root() / self.group / "init"

    def _init_pid(self):
        for pid in (self.own_cgroup() / "cgroup.procs").read_text(encoding="ascii").split():
            status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if len(numbers) > 1 and numbers[-1] == "1":
                return int(pid)
        raise RuntimeError(f"machine {self.name} does not run")

    def command(self, *arguments):
        """A command line that runs a program in the machine, all its namespaces and cgroups."""
        groups = [root / self.group / ("init" if options == "cgroup2" else "")
                  for options, root in namespaces.cgroup_hierarchies().items()]
        joined = " && ".join(f"echo $$ >{group}/cgroup.procs" for group in groups)
        return ["sh", "-ec", f'{joined} && exec "$@"', "sh", "nsenter", f"--target={self._init_pid()}", "--net", "--mount",
                "--pid", "--ipc", "--uts", "--cgroup", "--", *map(str, arguments)]

    def run(self, *arguments, timeout=60, check=True, **options):
        """A program, run to its end. What it said is in an error's text."""
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False,
                              **options)
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(map(str, arguments))}: {done.stderr.strip() or done.stdout}")
        return done

    def start(self, name, *arguments):
        """A program that runs until the machine is shut down or it is killed; its output goes to home/log."""
        log = self.home / "log" / f"{name}.log"
        with open(log, "ab") as output:
            popen = subprocess.Popen(self.command(*arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                     start_new_session=True)
        self.processes[name] = Process(self, name, popen, log)
        return self.processes[name]
