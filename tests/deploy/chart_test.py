"""The Helm chart installs what deploy/kubernetes installs, and cleans as deploy/kubernetes/uninstall does."""

import json
import os
import pathlib
import subprocess
import unittest

import yaml

ROOT = pathlib.Path(__file__).parents[2]

def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def objects(text):
    """By kind and name, without what is the chart's own: the digest of the configuration, and how that is written."""
    found = {}
    for one in yaml.safe_load_all(text):
        if one is None:
            continue
        if one["kind"] == "DaemonSet":
            one["spec"]["template"]["metadata"]["annotations"].pop("egressd.io/config", None)
        if one["kind"] == "ConfigMap":
            one["data"] = {name: yaml.safe_load(value) for name, value in one["data"].items()}
        found[one["kind"], one["metadata"]["name"]] = one
    return found


class Chart(unittest.TestCase):
    def setUp(self):
        self.maxDiff = None
        self.helm = output(ROOT / "tests/deploy/helm").strip()

    def chart(self, *options):
        return objects(output(self.helm, "template", "egressd", ROOT / "deploy/helm/egressd", *options))

    @staticmethod
    def kustomization(folder):
        kubectl = pathlib.Path(os.environ.get("EGRESSD_KUBERNETES", output(ROOT / "tests/cluster/kubernetes/build").strip()))
        return objects(output(kubectl / "kubectl", "kustomize", ROOT / folder))

    def test_it_installs_the_same(self):
        ours, theirs = self.chart("--include-crds"), self.kustomization("deploy/kubernetes")
        self.assertEqual(ours.keys(), theirs.keys())
        for name, one in theirs.items():
            with self.subTest(name):
                self.assertEqual(ours[name], one)

    def test_it_uninstalls_the_same(self):
        self.assertEqual(self.chart("--set", "uninstall=true"), self.kustomization("deploy/kubernetes/uninstall"))

    def test_values_reach_the_image_and_the_configuration(self):
        made = self.chart("--set", "image.repository=registry.example/egressd", "--set", "image.tag=1.2.3", "--set-json",
                          "config=" + json.dumps({"meshCIDRs": ["10.244.0.0/16"], "cni": "off"}))
        self.assertEqual(made["DaemonSet", "egressd"]["spec"]["template"]["spec"]["containers"][0]["image"],
                         "registry.example/egressd:1.2.3")
        self.assertEqual(made["ConfigMap", "egressd"]["data"]["config.yaml"], {"meshCIDRs": ["10.244.0.0/16"], "cni": "off"})


if __name__ == "__main__":
    unittest.main()
