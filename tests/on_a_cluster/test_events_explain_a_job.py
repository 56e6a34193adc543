"""Who wrote a Job reads in its events what Quotakeeper does with it, and why a pod of it is refused."""

import pathlib
import unittest

import product
from cluster import Failed, events, until
from story import Story
from workloads import Job

AMOUNT, SECONDS, PODS, CALLS = 30, 3, 5, 300
TOLD = pathlib.Path(__file__).with_name("events_of_a_job.txt")

# By what the annotation says: a part of the sentence.
REFUSED = {
    "nosuch": "the quota `nosuch`",
    "platform/closed": "the quota platform/closed does not admit pods of namespace author; its owner can, by spec.consumers",
    "one,two": "the quotas author/one and author/two are both of provider `patient`",
}


class Author(Story):
    namespaces = ("author", "platform")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        product.patient("patient", "hubspot", "ten-seconds", AMOUNT, SECONDS)

    def test_what_becomes_of_the_calls(self):
        product.quota("author", "told", "patient", "only")
        self.provider.limit("told", "tried", AMOUNT, SECONDS)
        job = Job("author", "told", "hubspot", "told", PODS, CALLS // PODS, clients=6, quotas="told").start()
        until("a third is done", lambda: self.provider.tried("told") > CALLS // 3)
        # Less than calls may wait in the queue: longer pauses refuse them at once.
        self.provider.force("told", 20)
        granted = lambda: product.measured("limiter", "quotakeeper_limiter_calls_total", quota="author/told", decision="granted")
        paused = lambda: product.measured("limiter", "quotakeeper_limiter_active_pauses", quota="author/told")
        until("the limiter has heard of the rejection", lambda: paused() == 1)
        # That is long enough for ten looks, even on a machine that stands still now and then.
        self.assertEqual(len({granted() for _ in range(10)}), 1, "calls were granted in a pause")
        self.assertEqual(job.wait(), "Complete")
        totals = self.provider.totals("told")
        self.assertEqual((totals["ok"], totals["over"], totals["forced"]), (CALLS, 0, 1), totals)
        expected = TOLD.read_text().splitlines()

        def told():
            rows = events("author", "job/told")
            if len(rows) < len(expected):
                raise Failed(f"so far: {rows}")
            return rows

        self.assertEqual(until("all is told", told), expected)

    def test_why_a_pod_is_refused(self):
        product.quota("author", "one", "patient", "only")
        product.quota("author", "two", "patient", "only", more="  account: {id: another}\n")
        product.quota("platform", "closed", "patient", "only")
        for number, (annotation, sentence) in enumerate(REFUSED.items()):
            with self.subTest(annotation):
                job = Job("author", f"refused-{number}", "hubspot", "refused", 1, 1, quotas=annotation).start()
                said = lambda: [row for row in events("author", f"job/{job.name}") if sentence in row]
                until(f"the Job's events say: {sentence}", said)
                self.assertEqual(job.list(), [])
                job.delete()
        self.assertEqual(self.provider.tried("refused"), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
