"""Limiter and operator are killed in the middle of a campaign: nothing is over the quota, no call is lost."""

import unittest

import product
from cluster import until
from story import Story
from workloads import Job

AMOUNT, SECONDS, PODS, CALLS = 30, 3, 5, 300


# The limiter and the operator are killed.
DISTURBS_THE_INSTALLATION = True


class Killed(Story):
    namespaces = ("gtm",)

    def campaign(self, name):
        self.limit_hubspot("gtm", name, AMOUNT, SECONDS)
        return Job("gtm", name, "hubspot", name, PODS, CALLS // PODS, clients=6, quotas=name).start()

    def judge(self, job):
        self.assertEqual(job.wait(), "Complete")
        totals = self.provider.totals(job.name)
        self.assertEqual((totals["ok"], totals["over"]), (CALLS, 0), totals)
        print(f"{job.name}: {totals}")

    def test_limiter_and_operator_killed_in_mid_run(self):
        job = self.campaign("killed")
        for tried, component in ((60, "limiter"), (120, "operator"), (180, "limiter")):
            until(f"{tried} calls", lambda: self.provider.tried(job.name) >= tried)
            product.kill(component)
        self.judge(job)


if __name__ == "__main__":
    unittest.main(verbosity=2)
