"""While the limiter is away, calls wait, and quota and Jobs say so; when it is back, the Jobs complete: nothing is lost,
nothing is over the quota. Counted by the provider."""

import unittest

import product
from cluster import events, kubectl, until
from story import Story
from workloads import Job

AMOUNT, SECONDS, CALLS = 30, 3, 90


# The limiter is away for a while.
DISTURBS_THE_INSTALLATION = True


class Absent(Story):
    namespaces = ("absent",)

    def job(self, name):
        self.provider.limit(name, "tried", AMOUNT, SECONDS)
        return Job("absent", name, "hubspot", name, 2, CALLS // 2, clients=2, quotas="absent").start()

    def state(self):
        return product.status("absent", "absent")["summary"]["status"]

    def told(self, job, reason, words):
        said = lambda: [row for row in events("absent", f"job/{job.name}") if f" {reason} " in row and words in row]
        until(f"the Job {job.name} is told of {reason}: {words}", said)

    def test_an_absent_limiter_is_told_and_waited_for(self):
        scale = ("scale", "--namespace", product.NAMESPACE, "deployment/quotakeeper-limiter")
        product.patient("absent", "hubspot", "ten-seconds", AMOUNT, SECONDS)
        product.quota("absent", "absent", "absent", "only")
        running = self.job("running")
        until("it calls", lambda: self.provider.tried("running") >= 10)
        kubectl(*scale, "--replicas=0")
        try:
            until("the limiter is gone", lambda: not product.pods("limiter"))
            late = self.job("late")
            sent = self.provider.tried("running")
            until("pods start, without a limiter", lambda: [pod["status"]["phase"] for pod in late.list()] == ["Running"] * 2)
            until("STATUS says so", lambda: self.state() == "LimiterUnavailable")
            for job in (running, late):
                self.told(job, "LimiterUnavailable", "The limiter has not reported since")
            # What had been granted before may still have arrived.
            self.assertLessEqual(self.provider.tried("running") - sent, AMOUNT)
            self.assertEqual((running.ended(), self.provider.tried("late")), (None, 0))
        finally:
            kubectl(*scale, "--replicas=2")
        for job in (running, late):
            self.assertEqual(job.wait(), "Complete")
            totals = self.provider.totals(job.name)
            self.assertEqual((totals["ok"], totals["over"]), (CALLS, 0), totals)
            self.told(job, "Resumed", "the limiter reports again")


if __name__ == "__main__":
    unittest.main(verbosity=2)
