"""How long a change takes from being read to being in force, beside a thousand other policies."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support.case import WorldCase, main, tcp_port
from support.manifests import egress, port
from support.world import HTTP_PORT, ORIGIN

OTHERS = 1000
CHANGES = 200


class ChangeLatency(WorldCase):
    OBJECTS = (egress("rules", tcp_port(5000), port(HTTP_PORT, "http"), hosts=["allowed.test"]),)
    START = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.write("others.yaml", [
            egress(f"other{i}", tcp_port(6000 + i % 50), port(443, "https"), port(80, "http"),
                   hosts=[f"h{i}.test", f"*.w{i}.test"], account="curl" if i % 5 == 0 else f"account{i % 100}")
            for i in range(OTHERS)])
        cls.agent.start()

    def buckets(self):
        """{upper bound in seconds: cumulative count} of egressd_policy_apply_seconds."""
        text = self.agent.page("/metrics")[1]
        return {float(bound): int(float(count)) for bound, count in
                re.findall(r'egressd_policy_apply_seconds_bucket\{le="([^"]+)"\} (\S+)', text)}

    def test_two_hundred_changes_beside_a_thousand_policies(self):
        before = self.buckets()
        toggled = egress("toggled", tcp_port(5001))
        for _ in range(CHANGES // 2):
            self.agent.apply(toggled)
            self.assert_reaches(ORIGIN, 5001)
            self.delete(toggled)
            self.assert_refused(ORIGIN, 5001)
        after = self.buckets()
        counts = {bound: after[bound] - before[bound] for bound in after}
        total = counts[float("inf")]
        within = {share: next(bound for bound in sorted(counts) if counts[bound] >= total * share)
                  for share in (0.5, 0.9, 0.99, 1.0)}
        print(f"{total} changes read: " + ", ".join(f"{share:.0%} within {bound * 1000:g} ms"
                                                    for share, bound in within.items()), flush=True)
        self.assertGreaterEqual(total, CHANGES)
        self.assertLess(within[0.5], 1)
        self.assertEqual(self.get().status, 200)


if __name__ == "__main__":
    main()
