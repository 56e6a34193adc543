"""Limiter and operator are killed in the middle of a campaign, and a pod in the middle of its streams: nothing is over the
quotas, no other call is lost."""

import unittest

import product
from cluster import until
from token_campaigns import STREAMS, MidStream, TokenCampaign
from workloads import Job

AMOUNT, SECONDS, PODS, CALLS = 30, 3, 5, 300
LIMITED = STREAMS._replace(amount=18_000, calls=12)
# The limiter and the operator are killed.
DISTURBS_THE_INSTALLATION = True


class Killed(TokenCampaign):
    namespaces = ("gtm",)

    def campaign(self, name):
        self.limit_hubspot("gtm", name, AMOUNT, SECONDS)
        return Job("gtm", name, "hubspot", name, PODS, CALLS // PODS, clients=6, quotas=name).start()

    def judge_campaign(self, job):
        self.assertEqual(job.wait(), "Complete")
        totals = self.provider.totals(job.name)
        self.assertEqual((totals["ok"], totals["over"]), (CALLS, 0), totals)
        print(f"{job.name}: {totals}")

    def test_limiter_and_operator_killed_in_mid_run(self):
        self.declare("streams", LIMITED, MidStream.CHUNK_SECONDS)
        job, streams = self.campaign("killed"), self.enrich("chat-streaming", "streams", LIMITED)
        dying = MidStream(self, "streams")
        for tried, strike in (
            (60, lambda: product.kill("limiter")),
            (90, dying.die),
            (120, lambda: product.kill("operator")),
            (180, lambda: product.kill("limiter")),
        ):
            until(f"{tried} calls", lambda: self.provider.tried(job.name) >= tried)
            strike()
        self.judge_campaign(job)
        self.judge(streams, LIMITED.calls)
        self.assertGreater(len(dying.streams("hungUp")), 0, "the pod died in the middle of its streams")


if __name__ == "__main__":
    unittest.main(verbosity=2)
