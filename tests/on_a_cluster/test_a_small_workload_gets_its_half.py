"""A Deployment of 20 replicas beside one of a single pod gets no more than half of a quota that both want."""

import unittest

import product
from cluster import items, until
from story import Story
from workloads import Deployment

AMOUNT, SECONDS, COUNTED = 60, 3, 360


class Fair(Story):
    namespaces = ("fair",)

    def test_twenty_replicas_get_no_more_than_half(self):
        provider = self.provider
        product.patient("shared", "hubspot", "ten-seconds", AMOUNT, SECONDS)
        product.quota("fair", "shared", "shared", "only")
        # Two tokens at the provider, so that it counts each workload for itself; one quota here.
        for name in ("many", "one"):
            provider.limit(name, "tried", 100000, SECONDS)
        many = Deployment("fair", "many", "hubspot", replicas=20, clients=2, quotas="shared").start()
        one = Deployment("fair", "one", "hubspot", replicas=1, clients=40, quotas="shared").start()
        try:
            many.wait()
            one.wait()
            until("all pods are connected", lambda: product.status("fair", "shared")["proxies"]["connected"] == 21)
            # A program needs seconds to begin; who does not ask yet gets nothing.
            both = lambda: product.status("fair", "shared")["waiting"]["workloads"] == 2
            until("calls of both wait", lambda: both() and provider.tried("many") and provider.tried("one"))
            before = {name: provider.tried(name) for name in ("many", "one")}
            counted = lambda: {name: provider.tried(name) - before[name] for name in before}
            until(f"{COUNTED} calls", lambda: sum(counted().values()) >= COUNTED)
            shares = counted()
            print(f"20 replicas: {shares['many']} calls, 1 replica: {shares['one']}")
            # What one burst may be ahead.
            self.assertLessEqual(shares["many"], sum(shares.values()) / 2 + AMOUNT / 10, shares)
            self.assertGreaterEqual(shares["many"], sum(shares.values()) * 0.4, shares)
        finally:
            many.delete()
            one.delete()
            until("their pods are gone", lambda: not items("pods", "--namespace", "fair"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
