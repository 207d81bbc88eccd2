"""Manifests that are too large, too deep or meant to harm: reported as errors, and the agent goes on."""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support.case import WorldCase, main, tcp_port
from support.manifests import egress, port
from support.world import HTTP_PORT, ORIGIN

RULES = egress("rules", tcp_port(5000), port(HTTP_PORT, "http"), hosts=["allowed.test"])
MANY = [f"203.0.{i >> 8}.{i & 255}/32" for i in range(5000)]


class InputLimits(WorldCase):
    OBJECTS = (RULES,)

    def put(self, name, text):
        """A manifest file until the test ends; returns once the agent has taken it up."""
        self.addCleanup(self.agent.settle)
        self.addCleanup((self.agent.manifests / name).unlink, missing_ok=True)
        self.agent.write(name, text)
        self.agent.settle()

    def errors_of(self, name):
        return [finding for finding in self.agent.status()["findings"]
                if finding["file"].endswith("/" + name) and finding["severity"] == "error"]

    def memory(self):
        text = pathlib.Path(f"/proc/{self.agent.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10

    def assert_goes_on(self):
        self.assertTrue(self.agent.running(), self.agent.log()[-1000:])
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assertEqual(self.get().status, 200)
        self.assertEqual(self.agent.page("/readyz")[0], 200)

    def assert_error(self, name, text, *words):
        self.put(name, text)
        errors = self.errors_of(name)
        self.assertTrue(errors, f"{name} is no error")
        for word in words:
            self.assertIn(word, json.dumps(errors))
        self.assert_goes_on()

    def test_a_file_of_twenty_megabytes_is_an_error_that_tells_to_split_it(self):
        self.assert_error("huge.yaml", "# " + "x" * (20 << 20) + "\n", "split it")

    def test_what_a_file_held_is_withdrawn_when_it_grows_too_large(self):
        self.put("grows.yaml", json.dumps(egress("grows", tcp_port(5001))))
        self.assert_reaches(ORIGIN, 5001)
        self.put("grows.yaml", json.dumps(egress("grows", tcp_port(5001))) + "\n# " + "x" * (17 << 20) + "\n")
        self.assert_refused(ORIGIN, 5001)
        self.assertTrue(self.errors_of("grows.yaml"))
        self.assert_goes_on()

    def test_a_large_file_of_many_policies_is_taken_up(self):
        documents = [json.dumps(egress(f"p{i}", tcp_port(6000 + i % 100), account=f"account{i}",
                                       addresses=MANY[i % 1000:i % 1000 + 50])) for i in range(2000)]
        self.put("many.yaml", "\n---\n".join(documents))
        self.assertEqual(self.errors_of("many.yaml"), [])
        self.assertEqual(self.agent.status()["policies"]["valid"], 2001)
        self.assert_goes_on()

    def test_deep_nesting_is_an_error(self):
        for name, text in (("deep.json", "[" * 100_000 + "]" * 100_000),
                           ("deep-map.json", '{"a":' * 100_000 + "1" + "}" * 100_000),
                           ("deep-flow.yaml", "a: " + "[" * 100_000),
                           ("deep-block.yaml", "".join(" " * i + "a:\n" for i in range(2000)))):
            with self.subTest(name):
                self.assert_error(name, text)

    def test_aliases_that_multiply_are_an_error(self):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
        before = self.memory()
        self.assert_error("bomb.yaml", "\n".join(lines) + "\n")
        self.assertLess(self.memory() - before, 300 << 20)

    def test_an_alias_of_itself_is_an_error(self):
        self.assert_error("loop.yaml", "a: &a\n  b: *a\n")

    def test_bytes_that_are_no_text_are_an_error(self):
        for name, data in (("nul.yaml", b"kind: Egress\x00\n"), ("latin.yaml", b"kind: \xff\xfe\xfd\n"),
                           ("zeros.json", bytes(10_000))):
            with self.subTest(name):
                self.addCleanup(self.agent.settle)
                self.addCleanup((self.agent.manifests / name).unlink, missing_ok=True)
                (self.agent.folder / "new" / name).write_bytes(data)
                (self.agent.folder / "new" / name).rename(self.agent.manifests / name)
                self.agent.settle()
                self.assertTrue(self.errors_of(name))
                self.assert_goes_on()

    def test_an_egress_of_very_many_addresses_and_hosts_works(self):
        self.apply(egress("wide", tcp_port(5002), port(443, "https"), hosts=[f"h{i}.test" for i in range(3000)] +
                          ["allowed.test"], addresses=[*MANY, f"{ORIGIN}/32"]))
        self.assert_reaches(ORIGIN, 5002)
        self.assert_refused("198.51.100.11", 5002)
        self.assert_tls_passes("allowed.test")
        self.assert_tls_reset("h3000.test")
        self.assert_goes_on()

    def test_names_and_patterns_beyond_the_limits_are_errors(self):
        for name, item in (
                ("long-host.json", egress("long-host", port(443, "https"), hosts=["a" * 300 + ".test"])),
                ("long-label.json", egress("long-label", port(443, "https"), hosts=["a" * 64 + ".test"])),
                ("long-name.json", egress("n" * 300, tcp_port(1)))):
            with self.subTest(name):
                self.assert_error(name, json.dumps(item))
        group = {"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
                 "metadata": {"name": "heavy", "namespace": "curl"},
                 "spec": {"matches": [{"name": "m", "pathRegex": "/" + r"\pL{1000}" * 20, "methods": ["GET"]}]}}
        self.assert_error("heavy.json", json.dumps(group), "limit")

    def test_a_file_that_cannot_be_read_is_an_error(self):
        folder = self.agent.manifests / "folder.yaml"
        folder.mkdir()
        self.addCleanup(folder.rmdir)
        loop = self.agent.manifests / "loop-link.yaml"
        loop.symlink_to(loop.name)
        self.addCleanup(loop.unlink)
        self.agent.settle()
        self.assert_goes_on()


if __name__ == "__main__":
    main()
