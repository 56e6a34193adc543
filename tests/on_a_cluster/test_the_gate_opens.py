"""The switch for incidents reaches running proxies, and an uninstall leaves no pod waiting for a limiter that will not
come back. Installing opens nothing, however it is done."""

import time
import unittest

import product
from cluster import Failed, apply, events, get, items, kubectl, run, until
from provider import Provider
from workloads import Job, namespace

# It uninstalls.
DISTURBS_THE_INSTALLATION = True
AMOUNT, CALLS = 10, 60
HOOK, GATE = "quotakeeper-uninstall", "quotakeeper-gate"


class Gate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.provider = Provider()

    def waiting(self, name, allowed=100000):
        """A Job whose 60 calls at once would take six minutes, which its clients bear."""
        namespace("gate", self.provider)
        product.patient(name, "openai", "requests", AMOUNT, 60)
        product.quota("gate", name, name, "only", more="  enforcement: {maxQueueSeconds: 480}\n")
        self.provider.limit(name, "tried", allowed, 60)
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
        product.install(self.provider)
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
        """Uninstalls while calls wait."""
        product.install(self.provider, *values)
        long_ago()
        job = self.waiting(name)
        self.uninstalled(lambda: self.passed(job))

    def uninstalled(self, meanwhile=lambda: None):
        """Uninstalls, and sees what is left."""
        run("helm", "uninstall", "quotakeeper", "--namespace", product.NAMESPACE, "--wait", "--timeout", "180s")
        meanwhile()
        kinds = "deployments,pods,services,configmaps,secrets,serviceaccounts,leases,jobs,poddisruptionbudgets,roles,rolebindings"
        left = lambda: [
            f"{each['kind']}/{each['metadata']['name']}"
            for each in items(kinds, "--namespace", product.NAMESPACE)
            if each["metadata"]["name"] not in ("default", "kube-root-ca.crt")
            # What counts in a window of an hour or more outlives the release.
            and not each["metadata"]["name"].startswith("quotakeeper-checkpoint-")
        ]
        until("nothing is left in the namespace", lambda: left() == [])
        wide = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingadmissionpolicies"
        self.assertEqual([each for each in names(wide) if "quotakeeper" in each], [])

    # After the others: it needs a cluster without a release.
    def test_what_is_applied_without_helm_leaves_the_gate_closed(self):
        rendered = product.rendered(self.provider)
        self.addCleanup(lambda: kubectl("delete", "--filename", "-", "--ignore-not-found", "--wait=true", input=rendered))
        if not get("namespace", product.NAMESPACE):
            kubectl("create", "namespace", product.NAMESPACE)
        apply(rendered)
        for deployment in ("quotakeeper-operator", "quotakeeper-limiter"):
            kubectl("--namespace", product.NAMESPACE, "rollout", "status", f"deployment/{deployment}", "--timeout=180s")
        self.assertIsNone(get("configmap", GATE, "--namespace", product.NAMESPACE))
        tried = lambda: get("job", "quotakeeper-test", "--namespace", product.NAMESPACE)["status"]
        until("the chart's test has been run", lambda: tried().get("succeeded") == 1)

        job = self.waiting("applied", allowed=AMOUNT)
        # As a tool does that keeps what is rendered in the cluster; now the operator is asked about the hook.
        kubectl("--namespace", product.NAMESPACE, "delete", "configmap", HOOK)
        told = kubectl("apply", "--filename", "-", input=rendered, check=False).stderr
        self.assertIn("the gate stays closed: Helm has no release quotakeeper", told)
        self.assertIsNone(get("configmap", GATE, "--namespace", product.NAMESPACE))
        totals = self.provider.totals(job.name)
        self.assertEqual(totals["over"], 0, totals)
        waits = product.status("gate", job.name)["waiting"]["calls"]
        self.assertGreater(waits, 0)
        print(f"{job.name}: {totals['ok']} ok, {totals['over']} over, {waits} wait")

        self.provider.limit(job.name, "tried", 100000, 60)
        command = ("/quotakeeper", "open-gate", "--yes", "--wait")
        kubectl("--namespace", product.NAMESPACE, "exec", "deployment/quotakeeper-operator", "--", *command)
        self.assertEqual(job.wait(), "Complete")
        state = lambda: product.status("gate", job.name)["summary"]["status"]
        until("the quota says until when the gate is open", lambda: state().startswith("GateOpen until "))
        told = lambda reason: any(f" {reason} " in row for row in events("gate", f"apiquota/{job.name}"))
        until("it is told by an Event", lambda: told("GateOpen"))
        kubectl("--namespace", product.NAMESPACE, "delete", "configmap", GATE)
        until("it is closed again", lambda: not state().startswith("GateOpen"))
        until("that is told too", lambda: told("GateClosed"))

    # Without a release before, too.
    def test_then_a_failed_install_can_be_uninstalled(self):
        images = ("--set", "image.repository=localhost/missing,proxy.image.repository=localhost/missing")
        with self.assertRaises(Failed):
            product.helm(self.provider, "install", "quotakeeper", product.CHART, "--create-namespace", *images, "--wait", "--timeout", "5s")
        state = lambda: {each["state"]["waiting"]["reason"] for pod in product.pods("operator") for each in pod["status"]["containerStatuses"]}
        until("no image is found", lambda: state() & {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"})
        self.uninstalled()


def long_ago():
    """The newest record of the release says that it was installed two days ago; Helm keeps its label."""
    records = items("secrets", "--namespace", product.NAMESPACE, "--selector", "owner=helm,status=deployed")
    label = f"modifiedAt={int(time.time()) - 2 * 86400}"
    for record in records:
        kubectl("--namespace", product.NAMESPACE, "label", "secret", record["metadata"]["name"], "--overwrite", label)


def names(kinds):
    return [each["metadata"]["name"] for each in items(kinds)]


if __name__ == "__main__":
    unittest.main(verbosity=2)
