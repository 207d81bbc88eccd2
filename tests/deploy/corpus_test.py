"""egressctl validate judges the corpus as it says. What an API server with our CRDs says of it: crds_test.py."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import corpus

EGRESSCTL = pathlib.Path(os.environ["EGRESSD_BUILD"]) / "egressctl"


class Corpus(unittest.TestCase):
    def test_validate_judges_as_the_corpus_says(self):
        expected, files = {}, []
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, verdict, manifest) in enumerate(corpus.cases()):
                path = pathlib.Path(folder) / f"{number}.json"
                # Objects of one name would be told as one object with two contents.
                manifest["metadata"]["name"] += "" if manifest["kind"] == "MeshConfig" else f"-{number}"
                manifest["metadata"]["namespace"] += f"-{number}" if manifest["kind"] == "MeshConfig" else ""
                path.write_text(json.dumps(manifest))
                expected[str(number)] = (name, verdict)
                files.append(path)
            done = subprocess.run([EGRESSCTL, "validate", *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 1, done.stdout)
        errors = {}
        for line in done.stdout.splitlines():
            if found := re.match(r".*/(\d+)\.json:\d+: error: (.*)", line):
                errors.setdefault(found[1], found[2])
        for number, (name, verdict) in expected.items():
            with self.subTest(name):
                self.assertEqual(number in errors, verdict in (corpus.REFUSED, corpus.LEFT_TO_EGRESSD), errors.get(number, "no error"))


if __name__ == "__main__":
    unittest.main()
