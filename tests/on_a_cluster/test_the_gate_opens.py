"""The switch for incidents reaches running proxies, and an uninstall leaves no pod waiting for a limiter that will not
come back."""

import unittest

import product
from cluster import items, kubectl, run, until
from provider import Provider
from workloads import Job, namespace


AMOUNT, CALLS = 10, 60


class Gate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.provider = Provider()

    def waiting(self, name, *values):
        """A Job whose 60 calls at once would take six minutes, which its clients bear."""
        product.install(self.provider, *values)
        namespace("gate", self.provider)
        product.patient(name, "openai", [("requests", AMOUNT, 60)])
        product.quota("gate", name, name, "only", more="  enforcement: {maxQueueSeconds: 480}\n")
        self.provider.limit(name, "tried", 100000, 60)
        job = Job("gate", name, "openai", name, 2, CALLS // 2, clients=CALLS // 2, quotas=name).start()
        until("calls wait", lambda: product.status("gate", name)["waiting"]["calls"] >= CALLS // 2)
        return job

    def passed(self, job):
        self.assertEqual(job.wait(), "Complete")
        self.assertEqual(self.provider.totals(job.name)["ok"], CALLS)
        arrivals = [entry["arrivalNanos"] for entry in self.provider.log(job.name)]
        quick = sum(at > arrivals[-1] - 30e9 for at in arrivals)
        self.assertGreater(quick, 2 * AMOUNT, "they did not pass, they waited their turn")

    def test_a_disabled_quota_lets_waiting_calls_pass(self):
        job = self.waiting("incident")
        patch = '{"spec": {"enforcement": {"mode": "Disabled"}}}'
        kubectl("patch", "apiquota", "--namespace", "gate", job.name, "--type=merge", "--patch", patch)
        self.passed(job)

    def test_an_uninstall_opens_the_gate_and_leaves_nothing(self):
        self.leave("leaving", "--set", "crds.keep=true")
        # The definitions stay, and with them every quota.
        self.assertTrue(items("apiquotas", "--namespace", "gate"))
        self.leave("gone", "--set", "crds.keep=false")
        self.assertEqual([each for each in names("customresourcedefinitions") if "quotakeeper" in each], [])

    def leave(self, name, *values):
        """Uninstalls while calls wait, and sees what is left."""
        job = self.waiting(name, *values)
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
        self.assertEqual([each for each in names(wide) if "quotakeeper" in each], [])


def names(kinds):
    return [each["metadata"]["name"] for each in items(kinds)]


if __name__ == "__main__":
    unittest.main(verbosity=2)
