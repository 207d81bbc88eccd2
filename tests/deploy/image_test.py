"""deploy/image/build: the image holds all that its programs need, and little else."""

import json
import os
import pathlib
import subprocess
import tarfile
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]
TAG = f"test-{os.getpid()}"
MEGABYTES = 40  # half of it are the libraries that libcurl brings along


class Image(unittest.TestCase):
    """The archive is unpacked once; programs run with its root as theirs, so with its libraries or not at all."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        archive = cls.folder / "image.tar"
        cls.addClassCleanup(subprocess.run, ["buildah", "rmi", f"localhost/egressd:{TAG}"], stdout=subprocess.DEVNULL)
        made = subprocess.run([ROOT / "deploy/image/build", "--tag", TAG, "--output", archive],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode != 0:
            raise AssertionError(made.stdout)
        with tarfile.open(archive) as tar:
            tar.extractall(cls.folder / "archive")
        index = cls.json("index.json")
        cls.name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
        manifest = cls.json(cls.blob(index["manifests"][0]))
        cls.config = cls.json(cls.blob(manifest["config"]))["config"]
        cls.root = cls.folder / "root"
        for layer in manifest["layers"]:
            with tarfile.open(cls.folder / "archive" / cls.blob(layer)) as tar:
                tar.extractall(cls.root)

    @classmethod
    def json(cls, path):
        return json.loads((cls.folder / "archive" / path).read_text())

    @staticmethod
    def blob(descriptor):
        return "blobs/" + descriptor["digest"].replace(":", "/")

    def run_inside(self, *command):
        return subprocess.run(["chroot", self.root, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def test_runtimes_find_it_by_the_name_that_the_daemonset_has(self):
        self.assertEqual(self.name, f"docker.io/library/egressd:{TAG}")
        self.assertEqual(self.config["Entrypoint"], ["/usr/bin/egressd"])

    def test_every_program_starts_with_what_the_image_holds(self):
        for program, option in (("egressd", "--version"), ("egressctl", "version"), ("egress-proxy", "--help"),
                                ("bpftool", "version"), ("sleep", "--version")):
            done = self.run_inside(f"/usr/bin/{program}", option)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn(program, done.stdout)

    def test_the_cni_plugin_answers_where_no_library_is(self):
        bare = self.folder / "node"
        bare.mkdir()
        plugin = bare / "egress-cni"
        plugin.write_bytes((self.root / "usr/bin/egress-cni").read_bytes())
        plugin.chmod(0o755)
        done = subprocess.run(["chroot", bare, "/egress-cni"], input='{"cniVersion": "1.0.0"}', text=True,
                              env={**os.environ, "CNI_COMMAND": "VERSION"}, stdout=subprocess.PIPE)
        self.assertIn("1.0.0", json.loads(done.stdout)["supportedVersions"])

    def test_egressd_judges_the_shipped_configuration(self):
        config = self.root / "config.yaml"
        config.write_text((ROOT / "deploy/kubernetes/agent/config.yaml").read_text())
        done = self.run_inside("/usr/bin/egressd", "--config", "/config.yaml", "--check")
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        config.write_text("meshCIDR: []\n")
        done = self.run_inside("/usr/bin/egressd", "--config", "/config.yaml", "--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("meshCIDR: is an unknown field", done.stdout)

    def test_it_is_small(self):
        size = sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        self.assertLess(size, MEGABYTES << 20)


if __name__ == "__main__":
    unittest.main()
