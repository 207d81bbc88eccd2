"""One egressd of a test: its folders, its process, its manifests, and what it says of itself."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from support import namespaces

BINARIES = pathlib.Path(os.environ.get("EGRESSD_BUILD", pathlib.Path(__file__).parents[2] / "build"))
CONFIG = {"meshName": "osm", "controlPlaneNamespace": "osm-system",
          "meshCIDRs": ["10.244.0.0/16", "10.96.0.0/16", "fd00:10:244::/48", "fd00:10:96::/64"]}


class Agent:
    """Not started yet. `folder` holds its run folder, manifests, configuration and log; `cgroup` the pods of it."""

    def __init__(self, netns, folder, cgroup, own_cgroup, name="agent", metrics_port=9469, config=None):
        self.netns, self.cgroup, self.own_cgroup = netns, cgroup, own_cgroup
        self.folder = folder / name
        self.run_dir, self.manifests = self.folder / "run", self.folder / "manifests"
        self.bpffs = namespaces.BPFFS / f"{folder.name}-{name}"
        self.metrics = f"127.0.0.1:{metrics_port}"
        self.manifests.mkdir(parents=True)
        (self.folder / "new").mkdir()
        self.cni_conf_dir, self.cni_bin_dir = self.folder / "cni" / "net.d", self.folder / "cni" / "bin"
        self.state_dir = self.folder / "state"
        self.config_file, self.log_file = self.folder / "config.yaml", self.folder / "log"
        self.process, self.markers = None, 0
        self.source = {"manifests": self.manifests}
        self.configure(**(config or {}))

    # ---- Its input ----

    def configure(self, **changes):
        self.config_file.write_text(json.dumps(
            {**CONFIG, "cniConfDir": str(self.cni_conf_dir), "cniBinDir": str(self.cni_bin_dir), **changes}), encoding="utf-8")

    def write(self, name, content):
        """A manifest file, put in place in one step; content: an object, a list of objects, or text."""
        if isinstance(content, list):
            content = "\n---\n".join(json.dumps(item) for item in content)
            assert name.endswith(".yaml"), "several documents are YAML"
        elif isinstance(content, dict):
            content = json.dumps(content)
        beside = self.folder / "new" / name
        beside.write_text(content, encoding="utf-8")
        beside.rename(self.manifests / name)

    @staticmethod
    def file_of(item):
        meta = item["metadata"]
        return f"{item['kind']}-{meta.get('namespace', '')}-{meta['name']}.json".lower()

    def apply(self, *items):
        """Objects, a file each, in force when this returns (where the agent runs)."""
        for item in items:
            self.write(self.file_of(item), item)
        self.settle()

    def delete(self, *items):
        for item in items:
            (self.manifests / self.file_of(item)).unlink(missing_ok=True)
        self.settle()

    def settle(self):
        """Returns once all files written before are in force: an object of a unique name is invalid after them."""
        if not self.running():
            return
        self.markers += 1
        name = f"marker{self.markers}"
        self.write_marker(name)
        end = time.monotonic() + 10
        while f"marker/{name}" not in self.ctl("-o", "json", "status").stdout:
            if time.monotonic() > end or not self.running():
                raise AssertionError("a change was not taken up: " + self.log()[-2000:])

    def write_marker(self, name):
        self.write("zz-marker.json", {"apiVersion": "policy.openservicemesh.io/v1alpha1", "kind": "Egress",
                                      "metadata": {"name": name, "namespace": "marker"}, "spec": {}})

    # ---- Its life ----

    def flags(self, **changes):
        """Its flags, with some changed (run_dir=...) or left out (config=None)."""
        flags = {"run_dir": self.run_dir, "state_dir": self.state_dir, "bpffs": self.bpffs,
                 "cgroup_root": self.cgroup, "config": self.config_file, "metrics_listen": self.metrics,
                 "node_name": "node-1", **self.source, **changes}
        return [str(part) for name, value in flags.items() if value is not None
                for part in ("--" + name.replace("_", "-"), value)]

    def command(self, *more, program=None, **changes):
        """Runs the agent in its namespace and cgroup; it dies with the test."""
        return [str(part) for part in (
            "sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self.own_cgroup,
            "nsenter", f"--net={self.netns}", "setpriv", "--pdeathsig", "KILL",
            program or BINARIES / "egressd", *self.flags(**changes), *more)]

    def spawn(self, *more, program=None):
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command(*more, program=program), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)

    def own_binaries(self):
        """A folder of its own for the programs, from which a test may take one away; for start(program=...)."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("egressd", "egress-proxy", "egress-cni"):
            try:
                os.link(BINARIES / name, folder / name)
            except OSError:
                shutil.copy2(BINARIES / name, folder / name)
        return folder

    def start(self, *more, program=None, timeout=30):
        """Returns once it is ready."""
        self.spawn(*more, program=program)
        self.wait_ready(timeout)

    def wait_ready(self, timeout=30):
        end = time.monotonic() + timeout
        while self.page("/readyz")[0] != 200:
            if not self.running():
                raise AssertionError(f"egressd ended with {self.process.returncode}: {self.log()[-2000:]}")
            if time.monotonic() > end:
                raise AssertionError("egressd is not ready: " + self.log()[-2000:])
            time.sleep(0.01)  # there is no event for it: the page is the interface

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, number=signal.SIGTERM, timeout=15):
        """Ends it; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def run(self, *more, timeout=30, **changes):
        """Run egressd to its end, as for --uninstall and failed starts."""
        return subprocess.run(self.command(*more, **changes), capture_output=True, text=True,
                              timeout=timeout, check=False, stdin=subprocess.DEVNULL)

    def remove(self):
        """Whatever state it is in: nothing of it stays."""
        if self.running():
            self.stop(signal.SIGKILL)
        shutil.rmtree(self.bpffs / "links", ignore_errors=True)
        shutil.rmtree(self.bpffs, ignore_errors=True)

    # ---- What it says ----

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def ctl_command(self, *arguments, run_dir=None, bpffs=None):
        """egressctl on the agent's node."""
        return [str(part) for part in ("nsenter", f"--net={self.netns}", BINARIES / "egressctl", "--run-dir",
                                       run_dir or self.run_dir, "--bpffs", bpffs or self.bpffs, *arguments)]

    def ctl(self, *arguments, timeout=30, **folders):
        """egressctl, run to its end."""
        return subprocess.run(self.ctl_command(*arguments, **folders), capture_output=True, text=True,
                              timeout=timeout, check=False, stdin=subprocess.DEVNULL)

    def status(self):
        return json.loads(self.ctl("-o", "json", "status").stdout)

    def proxy_pid(self):
        return self.status()["proxy"]["pid"]

    def pod_status(self, name):
        """The entry of `egressctl pods` for NAMESPACE/NAME, or None."""
        return next((pod for pod in json.loads(self.ctl("-o", "json", "pods").stdout) if pod["pod"] == name), None)

    def events(self, **wanted):
        """Events so far of which each named field has the value."""
        lines = self.ctl("-o", "json", "events").stdout.splitlines()
        return [event for event in map(json.loads, lines)
                if all(event.get(key) == value for key, value in wanted.items())]

    def page(self, path):
        """(status, text) of a page of the metrics address; (0, "") where nobody answers."""
        host, port = self.metrics.rsplit(":", 1)

        def fetch():
            import http.client  # in the thread that has entered the node's namespace
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read().decode()
        try:
            return namespaces.in_netns(self.netns, fetch)
        except OSError:
            return 0, ""

    def metric(self, name, **labels):
        """Sum of the series of that name which bear the labels."""
        total = 0.0
        for line in self.page("/metrics")[1].splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                has = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
                if all(has.get(key) == value for key, value in labels.items()):
                    total += float(found[3])
        return total
