"""The switch for incidents reaches running proxies, and an uninstall leaves no pod waiting for a limiter that will not
come back."""

import unittest

import product
from cluster import apply, items, kubectl, run, until
from provider import Provider
from workloads import Job, namespace


class Gate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.provider = Provider()

    def waiting(self, name):
        """A Job of 20 calls on a quota of 2 in an hour."""
        product.install(self.provider)
        namespace("gate", self.provider)
        product.patient(name, "hubspot", [("ten-seconds", 2, 3600)])
        product.quota("gate", name, name, "only", more="  enforcement: {maxQueueSeconds: 3600}\n")
        self.provider.limit(name, "tried", 100000, 3)
        job = Job("gate", name, "hubspot", name, 2, 10, clients=2, quotas=name).start()
        until("calls wait", lambda: product.status("gate", name)["waiting"]["calls"] >= 2)
        self.assertLessEqual(self.provider.tried(name), 2)
        return job

    def passed(self, job):
        self.assertEqual(job.wait(), "Complete")
        self.assertEqual(self.provider.totals(job.name)["ok"], 20)

    def test_a_disabled_quota_lets_waiting_calls_pass(self):
        job = self.waiting("incident")
        patch = '{"spec": {"enforcement": {"mode": "Disabled"}}}'
        kubectl("patch", "apiquota", "--namespace", "gate", job.name, "--type=merge", "--patch", patch)
        self.passed(job)

    def test_an_uninstall_opens_the_gate_and_leaves_nothing(self):
        job = self.waiting("leaving")
        apply("{apiVersion: v1, kind: Namespace, metadata: {name: quotakeeper}}")
        run("helm", "uninstall", "quotakeeper", "--namespace", product.NAMESPACE, "--wait", "--timeout", "180s")
        self.passed(job)
        kinds = "deployments,pods,services,configmaps,secrets,serviceaccounts,leases,jobs,poddisruptionbudgets,roles,rolebindings"
        left = lambda: [
            f"{each['kind']}/{each['metadata']['name']}"
            for each in items(kinds, "--namespace", product.NAMESPACE)
            if each["metadata"]["name"] not in ("default", "kube-root-ca.crt")
        ]
        until("nothing is left in the namespace", lambda: left() == [])
        wide = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingadmissionpolicies"
        named = [each["metadata"]["name"] for each in items(wide) if "quotakeeper" in each["metadata"]["name"]]
        self.assertEqual(named, [])
        # The definitions stay, and with them every quota.
        self.assertTrue(items("apiquotas", "--namespace", "gate"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
