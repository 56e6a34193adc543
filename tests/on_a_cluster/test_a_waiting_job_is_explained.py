"""`kubectl apiquota`: why a Job waits, what quotas do, who uses them, and what goes around them."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import product
from cluster import Failed, apply, run, until
from story import Story
from workloads import Deployment, Job

# A window that the story does not outlast: once it is full, what waits goes on waiting.
AMOUNT, SECONDS = 12, 900
PROGRAMS = pathlib.Path(__file__).parent.parent / "cluster" / "programs.sh"


CAMPAIGN = """
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiCampaign
metadata: {name: leads}
spec: {records: 6, deadlineSeconds: 300, steps: [{quota: crm, answerMillis: 100}]}
"""


class Explained(Story):
    namespaces = ("explained",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # kubectl finds the plugin by its name.
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        program = pathlib.Path(run(PROGRAMS).strip()) / "quotakeeper"
        (pathlib.Path(folder.name) / "kubectl-apiquota").symlink_to(program)
        cls.folder = folder.name
        cls.environment = {**os.environ, "PATH": f"{folder.name}:{os.environ['PATH']}"}

    def apiquota(self, *words, code=0):
        command = ["kubectl", "apiquota", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        if done.returncode != code:
            raise Failed(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout if code in (0, 3) else done.stderr

    def test_a_job_that_waits_is_explained(self):
        product.patient("crm", "hubspot", "ten-seconds", AMOUNT, SECONDS)
        product.quota("explained", "crm", "crm", "only", more="  enforcement: {maxQueueSeconds: 3600}\n")
        # What holds the calls is the quota, which is changed later on.
        self.provider.limit("explained", "tried", 100000, SECONDS)
        waiting = Job("explained", "enrich", "hubspot", "explained", pods=2, calls=10, clients=10, quotas="crm").start()
        try:
            used = lambda: self.provider.tried("explained") == AMOUNT
            until("the window is full", used)
            self.explain(waiting)
            self.show()
            self.plan()
            self.check()
            self.pause()
        finally:
            waiting.delete()

    def explain(self, job):
        told = lambda: json.loads(self.apiquota("explain", "job/enrich", "-n", "explained", "-o", "json"))
        # One pod of a workload knows of all that wait.
        calls = lambda found: found["pods"][0]["headroom"]["quotas"][0]["waitingCalls"]
        found = until("the others wait", lambda: (found := told()) and calls(found) == 8 and found)
        self.assertEqual(found["workload"], "explained/Job/enrich")
        quota = found["pods"][0]["headroom"]["quotas"][0]
        self.assertEqual((quota["limits"][0]["used"], quota["limits"][0]["remaining"]), (AMOUNT, 0))
        self.assertEqual(quota["waiting"][0]["heldBy"], {"limit": {"name": "ten-seconds"}})
        self.assertEqual((quota["waiting"][0]["ahead"], quota["next"]["ahead"]), (0, 8))
        self.assertTrue(0 < quota["waiting"][0]["waitSeconds"] < 1.1 * SECONDS, quota)
        says = lambda: self.apiquota("explain", "job/enrich", "-n", "explained")
        text = until("the operator says it too", lambda: "explained/crm: Queueing:" in (text := says()) and text)
        for said in (
            "Job enrich of namespace explained: 2 pods, counted as explained/Job/enrich",
            "8 calls of this workload wait, and none of others.",
            "it waits for the limit ten-seconds, which has no room.",
            f"Limit ten-seconds: {AMOUNT} of {AMOUNT} used",
        ):
            self.assertIn(said, text)
        self.assertIn(
            "Pod nobody of namespace explained has no pod", self.apiquota("explain", "nobody", "-n", "explained", code=2)
        )

    def show(self):
        # The operator writes it now and then.
        says = lambda: " ".join(self.apiquota("status", "-n", "explained").split())
        shown = f"ten-seconds {AMOUNT} {AMOUNT} 0"
        status = until(f"the status says {shown}", lambda: shown in (text := says()) and text)
        self.assertIn("explained/crm (crm only): Queueing", status)
        rows = json.loads(self.apiquota("top", "-n", "explained", "-o", "json"))
        [row] = rows
        self.assertEqual((row["quota"], row["workload"]), ("explained/crm", "explained/Job/enrich"))
        self.assertEqual((row["calls"], row["waitingCalls"]), (AMOUNT, 8))

    def plan(self):
        """Six records fit into a window; not into what is left of this one."""
        campaign = pathlib.Path(self.folder) / "campaign.yaml"
        campaign.write_text(CAMPAIGN)
        plan = ("plan", "-f", campaign, "-n", "explained", "-o", "json")
        [told] = json.loads(self.apiquota(*plan, code=3))["plans"]
        used = {need["limit"]: need["used"] for need in told["needs"]}
        self.assertEqual((used["ten-seconds"], told["verdict"]), (AMOUNT, "Impossible"), told)
        [told] = json.loads(self.apiquota(*plan, "--within", "1h"))["plans"]
        self.assertEqual(told["fits"], True, told)
        missing = campaign.with_name("missing.yaml")
        missing.write_text(CAMPAIGN.replace("quota: crm", "quota: none"))
        said = self.apiquota("plan", "-f", missing, "-n", "explained", code=2)
        self.assertIn("namespace explained has no ApiQuota none", said)

    def pause(self):
        """A person holds the calls, also those for which there is room, and lets them go."""
        self.assertIn("is paused until", self.apiquota("pause", "crm", "--for", "1h", "-n", "explained"))
        # A larger window: nothing but the pause holds them.
        product.patient("crm", "hubspot", "ten-seconds", 1000, SECONDS)
        explains = lambda: self.apiquota("explain", "job/enrich", "-n", "explained")
        until("the pause is all that holds them", lambda: "waits for the end of a pause (paused by hand)" in explains())
        self.assertIn("(crm only): PausedByHand until", self.apiquota("status", "-n", "explained"))
        self.assertEqual(self.provider.tried("explained"), AMOUNT)
        self.assertIn("explained/crm goes on", self.apiquota("resume", "crm", "-n", "explained"))
        until("all calls are made", lambda: self.provider.tried("explained") == 20)
        said = self.apiquota("pause", "none", "--for", "1m", "-n", "explained", code=2)
        self.assertIn("namespace explained has no ApiQuota none", said)

    def check(self):
        found = until("all is well", lambda: self.apiquota("check", "-n", "explained"))
        self.assertIn("√ operator and limiter are ready\n√ quotas are in force\n√ pods go through their proxies\n", found)
        self.assertIn("√ you may install it", self.apiquota("check", "--pre"))
        # The label without the webhook's say: a pod that asks for a quota and has no proxy.
        bypass = Deployment("explained", "around", "hubspot", replicas=1, clients=1, quotas=None).start()
        try:
            bypass.wait()
            found = self.apiquota("check", "-n", "explained")
            self.assertIn("explained/Deployment/around has the variable HUBSPOT_ACCESS_TOKEN, and no proxy", found)
            explained = self.apiquota("explain", "deploy/around", "-n", "explained")
            self.assertIn("has no proxy: nothing asks for one. Its calls are not limited", explained)
        finally:
            bypass.delete()
        apply("{apiVersion: quotakeeper.dev/v1alpha1, kind: ApiQuota, metadata: {name: wrong, namespace: explained}, spec: {provider: {name: none}}}")
        found = until("the wrong quota is told", lambda: self.apiquota("check", "-n", "explained", code=3))
        self.assertIn("× quotas are in force: explained/wrong: ", found)


if __name__ == "__main__":
    unittest.main(verbosity=2)
