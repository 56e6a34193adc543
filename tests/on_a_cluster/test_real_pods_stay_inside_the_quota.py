"""Five pods of each SDK draw on one quota each: nothing is over it, nearly all of it is used, and a 429 of the provider
is a pause and not a crash. Counted by the provider."""

import unittest

import product
from cluster import until
from provider import Provider
from workloads import OWN_CAS, Job, namespace

AMOUNT, SECONDS, PODS = 30, 3, 5
# Eleven windows and a half.
CALLS = AMOUNT * 23 // 2 // PODS * PODS
# Rather than in bursts of a whole window.
PACED = "  pacing: {burst: 10}\n"

# By program: whose dialect, its limit, and how the provider counts.
STORIES = {
    "hubspot": ("hubspot", "ten-seconds", "Sliding"),
    "openai": ("openai", "requests", "Sliding"),
    "openai-streaming": ("openai", "requests", "Sliding"),
    "anthropic": ("anthropic", "requests", "Bucket"),
}


class RealPods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.provider = Provider()
        product.install(cls.provider)
        namespace("gtm", cls.provider)

    @classmethod
    def tearDownClass(cls):
        product.nothing_is_forbidden()

    def enrich(self, program, account):
        dialect, limit, counted_as = STORIES[program]
        name = f"{account}-{program}"
        product.patient(name, dialect, [(limit, AMOUNT, SECONDS)])
        product.quota("gtm", name, name, "only", more=PACED if dialect != "hubspot" else "")
        self.provider.limit(name, "tried", AMOUNT, SECONDS, counted_as)
        return Job("gtm", name, program, name, PODS, CALLS // PODS, clients=8, quotas=name).start()

    def judge(self, job, forced):
        self.assertEqual(job.wait(), "Complete")
        told, totals = job.told(), self.provider.totals(job.name)
        self.assertEqual((told["ok"], told["failed"]), (CALLS, 0), told)
        self.assertEqual((totals["ok"], totals["over"], totals["forced"]), (CALLS, 0, forced), totals)
        used, windows = self.provider.used_percent(job.name, "tried")
        print(f"{job.name}: {totals['ok']} ok, {totals['over']} over, {forced} forced, {used:.0f} % of {windows} windows")
        return used, windows

    def test_nothing_is_over_and_nearly_all_is_used(self):
        # Two at a time: each has an account of its own.
        for pair in (("hubspot", "openai-streaming"), ("openai", "anthropic")):
            for job in [self.enrich(program, "calm") for program in pair]:
                with self.subTest(job.name):
                    used, windows = self.judge(job, forced=0)
                    self.assertGreaterEqual(windows, 8)
                    self.assertGreaterEqual(used, 90)

    def test_a_rejection_pauses_every_pod_and_loses_no_call(self):
        for program in ("hubspot", "openai-streaming"):
            with self.subTest(program):
                job = self.enrich(program, "forced")
                until("a third is done", lambda: self.provider.tried(job.name) > CALLS // 3)
                self.provider.force(job.name, 6)
                self.judge(job, forced=1)
                # The provider's word is on its way for a moment; what was granted before may still arrive.
                log = self.provider.log(job.name)
                at = next(index for index, entry in enumerate(log) if entry["verdict"] == "forced")
                gaps = ((b["arrivalNanos"] - a["arrivalNanos"]) / 1e9 for a, b in zip(log[at:], log[at + 1 :]))
                went_on = next((index for index, gap in enumerate(gaps) if gap > 1.5 * SECONDS), None)
                self.assertIsNotNone(went_on, "no pause")
                self.assertLess(went_on, AMOUNT, "calls went on after the rejection")

    def test_a_pod_that_brings_its_own_cas_trusts_the_proxy_too(self):
        product.patient("own-cas", "hubspot", [("ten-seconds", AMOUNT, SECONDS)])
        product.quota("gtm", "own-cas", "own-cas", "only")
        self.provider.limit("own-cas", "tried", AMOUNT, SECONDS)
        job = Job("gtm", "own-cas", "hubspot", "own-cas", 2, AMOUNT, quotas="own-cas", more_env=OWN_CAS).start()
        self.assertEqual(job.wait(), "Complete")
        self.assertEqual(job.told()["failed"], 0)
        totals = self.provider.totals("own-cas")
        self.assertEqual((totals["ok"], totals["over"]), (2 * AMOUNT, 0), totals)


if __name__ == "__main__":
    unittest.main(verbosity=2)
