"""What the API server says of manifests by the shipped CRDs: the corpus of tests/deploy, which egressctl judges alike."""

import json
import pathlib
import tempfile

import corpus

from cluster.case import ROOT, ClusterCase

REFUSED = (corpus.REFUSED, corpus.LEFT_TO_ADMISSION)


class Admission(ClusterCase):
    def dry_run(self, manifests, *options):
        """The names of those that the API server would take, and what it says of the others."""
        with tempfile.TemporaryDirectory() as folder:
            for manifest in manifests:
                (pathlib.Path(folder) / f"{manifest['metadata']['name']}.json").write_text(json.dumps(manifest))
            done = self.cluster.kubectl("create", "--dry-run=server", *options, "-f", folder, check=False)
        taken = {line.split(" ")[0].split("/")[1] for line in done.stdout.splitlines() if " created" in line}
        return taken, done.stderr

    def test_the_api_server_judges_as_the_corpus_says(self):
        cases = {f"case-{number}": case for number, case in enumerate(corpus.cases())}
        for name, (_, _, manifest) in cases.items():
            manifest["metadata"] = {"name": name, "namespace": "default"}
        # Any client: one that does not ask the server to be strict about fields that it does not know.
        taken, said = self.dry_run([manifest for _, _, manifest in cases.values()], "--validate=ignore")
        for name, (title, verdict, _) in cases.items():
            with self.subTest(title):
                self.assertEqual(name not in taken, verdict in REFUSED)
        self.assertIn("write http, https, tcp or tcp-server-first", said)

    def test_the_manifests_of_the_walkthrough_are_taken_as_they_are(self):
        folder = ROOT / "deploy/demo/manifests"
        for path in sorted(folder.glob("*.yaml")):
            if path.name in ("broken.yaml", "pod-curl.yaml", "namespace-curl.yaml"):
                continue
            with self.subTest(path.name):
                text = path.read_text().replace("namespace: curl", "namespace: default").replace("osm-system", "default")
                self.cluster.kubectl("create", "--dry-run=server", "-f", "-", input=text)

    def test_kubectl_refuses_an_unknown_field_of_a_meshconfig(self):
        manifest = corpus.mesh_config(traffic={"enableEgres": True})
        manifest["metadata"] = {"name": "case", "namespace": "default"}
        taken, said = self.dry_run([manifest])
        self.assertEqual(taken, set())
        self.assertIn('unknown field "spec.traffic.enableEgres"', said)
