"""What a platform engineer does to a running installation: tests it, upgrades it, rolls back, drains nodes."""

import unittest

import product
from cluster import Failed, get, run, until
from story import Story
from workloads import Job

AMOUNT, SECONDS, PODS, CALLS = 30, 3, 5, 400


DISTURBS_THE_INSTALLATION = True


class Upgrade(Story):
    namespaces = ("gtm",)

    def test_helm_test_says_that_it_works(self):
        said = run("helm", "test", "quotakeeper", "--namespace", product.NAMESPACE, "--timeout", "180s")
        self.assertIn("Succeeded", said)

    def test_a_job_outlives_an_upgrade_and_a_rollback(self):
        self.limit_hubspot("gtm", "upgraded", AMOUNT, SECONDS)
        job = Job("gtm", "upgraded", "hubspot", "upgraded", PODS, CALLS // PODS, clients=6, quotas="upgraded").start()
        uids = lambda: {pod["metadata"]["uid"] for name in ("operator", "limiter") for pod in product.pods(name)}
        tried = lambda: self.provider.tried("upgraded")
        until("calls are answered", lambda: tried() >= 60)
        before = uids()
        product.install(self.provider, "--set", "operator.podAnnotations.round=two,limiter.podAnnotations.round=two")
        until("every pod is another one", lambda: not before & uids())
        upgraded = uids()
        until("calls are answered after the upgrade", lambda at=tried(): tried() >= at + 30)
        run("helm", "rollback", "quotakeeper", "--namespace", product.NAMESPACE, "--wait", "--timeout", "180s")
        until("every pod is another one", lambda: not upgraded & uids())
        self.assertEqual(job.wait(300), "Complete")
        totals = self.provider.totals("upgraded")
        self.assertEqual((totals["ok"], totals["over"]), (CALLS, 0), totals)

    def test_a_drain_leaves_one_operator(self):
        ready = lambda: len([pod for pod in product.pods("operator") if product.is_ready(pod)]) == 2
        until("both operators are ready", ready)
        until("the budget knows", lambda: self.budget()["disruptionsAllowed"] == 1)
        first, second = product.pods("operator")
        product.evict(first)
        with self.assertRaisesRegex(Failed, "disruption budget"):
            product.evict(second)
        until("both operators are ready again", ready)

    def budget(self):
        return get("poddisruptionbudget", "quotakeeper-operator", "--namespace", product.NAMESPACE)["status"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
