"""What makes one limiter follow another, under the load of a Job, and what the provider counts meanwhile."""

import time

import product
from cluster import kubectl, until
from story import Story
from workloads import Job

AMOUNT, SECONDS, PODS = 30, 3, 5
LEASE_SECONDS = 10


class Changes(Story):
    """A Job whose calls go on while limiters come and go."""

    namespaces = ("gtm",)

    def begin(self, name, calls):
        self.standby_is_ready()
        self.limit_hubspot("gtm", name, AMOUNT, SECONDS)
        self.calls, self.name = calls // PODS * PODS, name
        self.job = Job("gtm", name, "hubspot", name, PODS, calls // PODS, clients=6, quotas=name).start()
        self.goes_on()

    def goes_on(self, calls=40):
        """So many more calls arrive."""
        before = self.provider.tried(self.name)
        until(f"{calls} more calls", lambda: self.provider.tried(self.name) >= min(self.calls, before + calls))

    def standby_is_ready(self):
        """One is active, and another would get its state."""
        until("a limiter is active", product.active)
        until("another waits for its state", lambda: product.measured("limiter", "quotakeeper_limiter_standbys") == 1)

    def changes(self, what, strike, how=None):
        """Another limiter, or another process of it, is active after it, by this change; calls go on."""
        epoch = product.last_change()[1]
        begun = time.monotonic()
        strike(until("a limiter is active", product.active))
        until(f"another limiter is active: {what}", lambda: product.last_change()[1] > epoch)
        took, change = time.monotonic() - begun, product.last_change()[0]
        print(f"{what}: {change} within {took:.1f} s")
        if how:
            self.assertEqual(change, how, what)
        self.goes_on()

    def delete(self, pod):
        kubectl("delete", "pod", "--namespace", product.NAMESPACE, pod["metadata"]["name"], "--wait=false")

    def stand_still(self, pod):
        """For longer than its Lease."""
        product.signal(pod, "STOP")
        until("another limiter is active", lambda: (product.active() or pod)["metadata"]["name"] != pod["metadata"]["name"])
        self.goes_on(20)
        product.signal(pod, "CONT")

    def judge(self):
        """Every call is answered, none is over; the longest time in which none arrived."""
        self.assertEqual(self.job.wait(600), "Complete")
        totals, told = self.provider.totals(self.name), self.job.told()
        arrivals = [entry["arrivalNanos"] / 1e9 for entry in self.provider.log(self.name)]
        gaps = sorted((later - earlier for earlier, later in zip(arrivals, arrivals[1:])), reverse=True)
        print(f"{self.name}: {totals}; no call arrived for {', '.join(f'{gap:.1f}' for gap in gaps[:6])} s")
        self.assertEqual((told["ok"], told["failed"]), (self.calls, 0), told)
        self.assertEqual((totals["ok"], totals["over"]), (self.calls, 0), totals)
