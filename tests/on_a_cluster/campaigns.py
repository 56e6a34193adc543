"""Jobs of five pods that call by an SDK, each against a quota of its own, judged by what the provider counted."""

import product
from story import Story
from workloads import Job

AMOUNT, SECONDS, PODS = 30, 3, 5
# Eleven windows and a half.
CALLS = AMOUNT * 23 // 2 // PODS * PODS
# Rather than in bursts of a whole window.
PACED = "  pacing: {burst: 10}\n"
# How long a call may be on its way: longer than a machine with two busy cores stands still. What arrives sooner, as all
# others do, costs none of it.
DELIVERY_MILLIS = 10_000

# By program: whose dialect, its limit, and how the provider counts: by its own word, and by the profile's.
PROGRAMS = {
    "hubspot": ("hubspot", "ten-seconds", "Sliding", "SlidingWindow"),
    "openai": ("openai", "requests", "Sliding", "Unknown"),
    "openai-streaming": ("openai", "requests", "Sliding", "Unknown"),
    "anthropic": ("anthropic", "requests", "Bucket", "TokenBucket"),
}


class Campaign(Story):
    """A story of such Jobs, in its first namespace."""

    def enrich(self, program, account):
        dialect, limit, counted, counted_as = PROGRAMS[program]
        name = f"{account}-{program}"
        product.patient(name, dialect, limit, AMOUNT, SECONDS, counted_as, deliveryMillis=DELIVERY_MILLIS)
        product.quota(self.namespaces[0], name, name, "only", more=PACED if dialect != "hubspot" else "")
        self.provider.limit(name, "tried", AMOUNT, SECONDS, counted)
        return Job(self.namespaces[0], name, program, name, PODS, CALLS // PODS, clients=8, quotas=name).start()

    def judge(self, job, forced):
        """Every call is answered and none is over; `Provider.used_percent` of the limit."""
        self.assertEqual(job.wait(), "Complete")
        told, totals = job.told(), self.provider.totals(job.name)
        self.assertEqual((told["ok"], told["failed"]), (CALLS, 0), told)
        excess = "\n".join([*self.provider.excess(job.name, SECONDS), product.limiters_tell()]) if totals["over"] else ""
        self.assertEqual((totals["ok"], totals["over"], totals["forced"]), (CALLS, 0, forced), f"{totals}\n{excess}")
        used, windows = self.provider.used_percent(job.name, "tried")
        counts = f"{totals['ok']} ok, {totals['over']} over, {forced} forced"
        print(f"{job.name}: {counts}, {used:.0f} % of the fuller half of {windows} windows")
        return used, windows
