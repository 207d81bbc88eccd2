"""What the agents may do in the API is what they do."""

import json

from cluster.case import ClusterCase
from support.manifests import egress, port

TAINT = "egressd.io/agent-not-ready"


class Rights(ClusterCase):
    """Reads what the API server has written down of all that the agents asked since the cluster began."""

    def asked(self):
        """(group, resource, verb) and the answer's code, of every request."""
        found = []
        for line in self.cluster.control.audit_log.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            what = event.get("objectRef", {})
            found.append(((what.get("apiGroup", ""), what.get("resource"), event["verb"]),
                          event.get("responseStatus", {}).get("code", 0)))
        return found

    def granted(self):
        rules = self.cluster.get("clusterrole", "egressd")["rules"]
        return {(group, resource, verb) for rule in rules for group in rule["apiGroups"]
                for resource in rule["resources"] for verb in rule["verbs"]}

    def test_an_invalid_egress_bears_an_event_that_says_what_to_mend(self):
        self.namespace("rights")
        # What the API server cannot tell, since it looks at one object at a time.
        self.cluster.apply(egress("no-setting", port(5000, "tcp"), settings=["missing"], namespace="rights"))

        def events():
            return [event for event in self.cluster.get("events", None, "rights", "--field-selector",
                                                        "involvedObject.name=no-setting,involvedObject.kind=Egress")]
        self.eventually("an Event tells of the Egress", events)
        self.assertIn("spec.matches", events()[0]["message"])

    def test_the_taint_of_a_new_node_is_taken_off(self):
        node = self.cluster.nodes[0]
        self.cluster.kubectl("taint", "node", node.name, f"{TAINT}=:NoSchedule")
        self.agent(node).kill()
        self.eventually("the taint is gone", lambda: TAINT not in [
            taint["key"] for taint in self.cluster.get("node", node.name)["spec"].get("taints", [])], 60)
        self.wait_for_agents()

    def test_z_the_agents_may_do_what_they_do_and_nothing_more(self):
        """The last one: the tests above it, and before it, made the agents use all they have."""
        asked = self.asked()
        allowed = {request for request, code in asked if code not in (401, 403)}
        # An API server that has just begun knows no roles yet, and refuses what it allows when asked again.
        self.assertEqual({request for request, _ in asked} - allowed, set())
        self.assertEqual(self.granted() - allowed, set())
