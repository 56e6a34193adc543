"""Five pods of each SDK draw on one quota each: nothing is over it, and nearly all of it is used. Counted by the
provider."""

import unittest

from campaigns import AMOUNT, SECONDS, Campaign
from workloads import OWN_CAS, Job


class RealPods(Campaign):
    namespaces = ("gtm",)

    def test_nothing_is_over_and_nearly_all_is_used(self):
        # Two at a time: each has an account of its own.
        for pair in (("hubspot", "openai-streaming"), ("openai", "anthropic")):
            for job in [self.enrich(program, "calm") for program in pair]:
                with self.subTest(job.name):
                    used, windows = self.judge(job, forced=0)
                    self.assertGreaterEqual(windows, 8)
                    # A stalled machine empties some of the windows.
                    self.assertGreaterEqual(used, 75)

    def test_a_pod_that_brings_its_own_cas_trusts_the_proxy_too(self):
        self.limit_hubspot("gtm", "own-cas", AMOUNT, SECONDS)
        job = Job("gtm", "own-cas", "hubspot", "own-cas", 2, AMOUNT, quotas="own-cas", more_env=OWN_CAS).start()
        self.assertEqual(job.wait(), "Complete")
        self.assertEqual(job.told()["failed"], 0)
        totals = self.provider.totals("own-cas")
        self.assertEqual((totals["ok"], totals["over"]), (2 * AMOUNT, 0), totals)


if __name__ == "__main__":
    unittest.main(verbosity=2)
