"""An agent that cannot run says so and what to do, ends with status 2, and changes nothing that is in force."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import namespaces
from support.case import WorldCase, main, tcp_port
from support.manifests import egress
from support.world import ORIGIN


class AgentThatCannotStart(WorldCase):
    """Beside an agent that runs, whose enforcement must not suffer."""

    OBJECTS = (egress("rules", tcp_port(5000)),)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.failing = cls.world.add_agent("failing", metrics_port=9470)

    def assert_does_not_start(self, *words, **changes):
        done = self.failing.run(**changes)
        self.assertEqual(done.returncode, 2, done.stderr)
        for word in words:
            self.assertIn(str(word), done.stderr)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)

    def test_a_cgroup_root_that_is_not_cgroup2_is_named(self):
        self.assert_does_not_start(self.world.folder, "cgroup2", cgroup_root=self.world.folder)

    def test_a_cgroup_root_that_does_not_exist_is_named(self):
        missing = self.world.cgroup / "missing"
        self.assert_does_not_start(missing, "No such file or directory", cgroup_root=missing)

    def test_pins_outside_a_bpf_file_system_are_refused_with_the_mount_command(self):
        self.assert_does_not_start("mount -t bpf bpf /sys/fs/bpf", bpffs=self.world.folder / "pins")

    def test_a_missing_folder_of_manifests_is_named(self):
        missing = self.world.folder / "no-manifests"
        self.assert_does_not_start(missing, manifests=missing)

    def test_a_missing_configuration_file_is_named(self):
        missing = self.world.folder / "no-config.yaml"
        self.assert_does_not_start(missing, "No such file or directory", config=missing)

    def test_an_unknown_key_of_the_configuration_is_named(self):
        wrong = self.world.folder / "wrong.yaml"
        wrong.write_text("meshCIDR: [10.0.0.0/8]\n")
        self.assert_does_not_start(f"{wrong}:1", "meshCIDR", config=wrong)

    def test_a_value_of_the_configuration_that_is_not_known_is_named_with_those_that_are(self):
        wrong = self.world.folder / "wrong.yaml"
        wrong.write_text("enforcement: of\n")
        self.assert_does_not_start("enforcement", "enforce", "audit", config=wrong)

    def test_a_configuration_that_is_not_yaml_is_named(self):
        wrong = self.world.folder / "wrong.yaml"
        wrong.write_text("meshCIDRs: [10.0.0.0/8\n")
        self.assert_does_not_start(wrong, config=wrong)

    def test_a_mesh_cidr_with_host_bits_is_named_with_the_one_meant(self):
        wrong = self.world.folder / "wrong.yaml"
        wrong.write_text("meshCIDRs: [10.244.1.0/16]\n")
        self.assert_does_not_start("meshCIDRs", "10.244.0.0/16", config=wrong)

    def test_strict_host_binding_is_an_error_until_it_is_built(self):
        wrong = self.world.folder / "wrong.yaml"
        wrong.write_text("hostBinding: strict\n")
        self.assert_does_not_start("hostBinding", config=wrong)

    def test_a_metrics_address_that_is_taken_is_named(self):
        self.assert_does_not_start(self.agent.metrics, metrics_listen=self.agent.metrics)

    def test_a_metrics_address_that_is_none_is_named(self):
        self.assert_does_not_start("nowhere", metrics_listen="nowhere")

    def test_an_unknown_flag_is_named(self):
        done = self.failing.run("--enforce-harder")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("--enforce-harder", done.stderr)

    def test_without_privileges_it_says_which_are_missing(self):
        command = self.failing.command()
        at = command.index("setpriv")
        command[at:at] = ["setpriv", "--bounding-set=-sys_admin,-bpf,-net_admin,-perfmon", "--inh-caps=-all"]
        import subprocess
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, "CAP_|root")
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)

    def test_a_failed_start_leaves_no_pins_and_no_process(self):
        self.failing.run(metrics_listen=self.agent.metrics)
        procs = (self.failing.own_cgroup / "cgroup.procs").read_text().split()
        theirs = [pid for pid in procs if str(self.failing.run_dir) in
                  pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode()]
        self.assertEqual(theirs, [])
        left = list(self.failing.bpffs.rglob("*")) if self.failing.bpffs.exists() else []
        self.assertEqual([path.name for path in left if path.is_file()], [])


if __name__ == "__main__":
    main()
