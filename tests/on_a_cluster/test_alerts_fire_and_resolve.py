"""The chart's alerts fire in a real Prometheus when something is amiss, and resolve when it is not; each query of the
dashboard finds what pods and limiter say."""

import json
import unittest

import product
from cluster import apply, kubectl, until
from prometheus import FILES, Prometheus
from story import Story
from workloads import Job

AMOUNT, HOUR = 6, 3600
WRONG = "{apiVersion: quotakeeper.dev/v1alpha1, kind: ApiQuota, metadata: {name: wrong, namespace: alerted}, spec: {provider: {name: none}}}"
SIDECAR_PORT = 15820


class Alerts(Story):
    namespaces = ("alerted",)

    def test_alerts_fire_and_resolve(self):
        self.provider.limit("alerted-budget", "tried", 100000, HOUR)
        product.patient("hourly", "hubspot", "ten-seconds", AMOUNT, HOUR)
        product.quota("alerted", "budget", "hourly", "only", more="  enforcement: {maxQueueSeconds: 3600}\n")
        product.quota("alerted", "chat", "openai", "tier-5")
        waiting = Job("alerted", "enrich", "hubspot", "alerted-budget", pods=1, calls=2 * AMOUNT, quotas="budget").start()
        chat = Job("alerted", "chat", "chat", "alerted-chat", pods=1, calls=100000, quotas="chat").start()
        try:
            until("both call", lambda: self.provider.tried("alerted-budget") == AMOUNT and self.provider.totals("alerted-chat")["ok"] > 0)
            pods = [(pod, 9090) for each in ("operator", "limiter") for pod in product.pods(each)]
            prometheus = Prometheus(pods + [(pod, SIDECAR_PORT) for job in (waiting, chat) for pod in job.list()])
            self.addCleanup(prometheus.stop)
            self.a_budget_that_is_used_up(prometheus)
            self.a_quota_that_is_wrong(prometheus)
            self.a_provider_that_says_no(prometheus)
            self.a_dashboard(prometheus)
            # Nothing else was amiss.
            for name in ("QuotakeeperLimiterAway", "QuotakeeperOperatorAway", "QuotakeeperGateOpen", "QuotakeeperLateCalls"):
                self.assertEqual(prometheus.firing(name), [])
        finally:
            waiting.delete()
            chat.delete()

    def a_budget_that_is_used_up(self, prometheus):
        fires = lambda: prometheus.firing("QuotakeeperBudgetUsedUp", quota="alerted/budget", limit="ten-seconds")
        [alert] = until("the budget is told", fires)
        self.assertEqual(alert["annotations"]["summary"], "ten-seconds of alerted/budget is used up")
        self.assertTrue(prometheus.firing("QuotakeeperBudgetNearlyUsedUp", quota="alerted/budget"))
        # A larger one.
        product.patient("hourly", "hubspot", "ten-seconds", 1000, HOUR)
        until("it is resolved", lambda: not fires())

    def a_quota_that_is_wrong(self, prometheus):
        apply(WRONG)
        fires = lambda: prometheus.firing("QuotakeeperQuotaNotReady", namespace="alerted", name="wrong")
        until("the wrong quota is told", fires)
        kubectl("delete", "apiquota", "wrong", "--namespace", "alerted")
        until("it is resolved", lambda: not fires())

    def a_provider_that_says_no(self, prometheus):
        self.provider.force("alerted-chat", 20)
        fires = lambda: prometheus.firing("QuotakeeperPaused", quota="alerted/chat")
        until("the pause is told", fires)
        until("it is resolved", lambda: not fires())

    def a_dashboard(self, prometheus):
        """Each query finds something: calls, waits, rejections, tokens and money were there."""
        dashboard = json.loads((FILES / "dashboard.json").read_text())
        queries = {(panel["title"], each["expr"]) for panel in dashboard["panels"] for each in panel["targets"]}
        self.assertGreater(len(queries), 10)
        for title, query in sorted(queries):
            text = query.replace("$__rate_interval", "30s").replace("$quota", ".*")
            with self.subTest(title):
                until(f"{title}: {text}", lambda: prometheus.query(text))


if __name__ == "__main__":
    unittest.main(verbosity=2)
