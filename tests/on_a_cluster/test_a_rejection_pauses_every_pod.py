"""A 429 of the provider is a pause of every pod, and no call is lost. Counted by the provider."""

import unittest

from campaigns import AMOUNT, CALLS, SECONDS, Campaign
from cluster import until


class Rejection(Campaign):
    namespaces = ("rejected",)

    def test_a_rejection_pauses_every_pod_and_loses_no_call(self):
        # Both at once: each has an account of its own.
        jobs = [self.enrich(program, "forced") for program in ("hubspot", "openai-streaming")]
        for job in jobs:
            until("a third is done", lambda: self.provider.tried(job.name) > CALLS // 3)
            self.provider.force(job.name, 6)
        for job in jobs:
            with self.subTest(job.name):
                self.judge(job, forced=1)
                # The provider's word is on its way for a moment; what was granted before may still arrive.
                log = self.provider.log(job.name)
                at = next(index for index, entry in enumerate(log) if entry["verdict"] == "forced")
                gaps = ((b["arrivalNanos"] - a["arrivalNanos"]) / 1e9 for a, b in zip(log[at:], log[at + 1 :]))
                went_on = next((index for index, gap in enumerate(gaps) if gap > 1.5 * SECONDS), None)
                self.assertIsNotNone(went_on, "no pause")
                self.assertLess(went_on, AMOUNT, "calls went on after the rejection")


if __name__ == "__main__":
    unittest.main(verbosity=2)
