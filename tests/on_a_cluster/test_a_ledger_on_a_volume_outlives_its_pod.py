"""With a volume, a new limiter's pod continues the ledger of the one before: a daily limit that no answer tells stays
open, and what was used of it counts. Counted by the provider."""

import os
import subprocess
import unittest
from datetime import datetime, timedelta, timezone

import guest
import product
from cluster import apply, items, kubectl, until
from story import Story
from workloads import Job

AMOUNT, SECONDS, CALLS = 30, 3, 40
FOLDER = "/var/lib/quotakeeper-ledger"
VOLUME = """
apiVersion: v1
kind: PersistentVolume
metadata: {{name: ledger}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: on-the-node
  local: {{path: {folder}}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]
"""
ON_THE_VOLUME = ("--set", "limiter.replicas=1,limiter.persistence.enabled=true,limiter.persistence.storageClass=on-the-node")

# The limiter gets a volume.
DISTURBS_THE_INSTALLATION = True


@unittest.skipIf(guest.EXISTING, "the volume is a folder of a node, which can't be made from here")
class OnAVolume(Story):
    namespaces = ("kept",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        on_the_node("mkdir", "--parents", FOLDER)
        apply(VOLUME.format(folder=FOLDER, node=items("nodes")[0]["metadata"]["name"]))
        cls.addClassCleanup(cls.without_the_volume)
        product.install(cls.provider, *ON_THE_VOLUME)

    @classmethod
    def without_the_volume(cls):
        product.install(cls.provider)
        kubectl("delete", "persistentvolume", "ledger", "--wait=false")

    def calls(self, name):
        job = Job("kept", name, "hubspot", "kept", 1, CALLS, clients=4, quotas="kept").start()
        self.assertEqual(job.wait(), "Complete")
        told = job.told()
        self.assertEqual((told["ok"], told["failed"]), (CALLS, 0), told)

    def used(self):
        """Of the daily limit, and how that is known."""
        status = product.status("kept", "kept")
        [daily] = [each for each in status["limits"] if each["name"] == "daily"]
        return daily.get("used"), product.condition("kept", "kept", "UsageKnown").get("status")

    def test_a_new_pod_continues_the_ledger(self):
        product.patient("kept", "hubspot", "ten-seconds", AMOUNT, SECONDS)
        # That nothing was used before opens the limit, though it comes into force just after another limiter.
        soon = datetime.now(timezone.utc) + timedelta(seconds=10)
        used = f"  used: [{{limit: daily, amount: 0, at: '{soon:%FT%TZ}'}}]\n"
        product.quota("kept", "kept", "kept", "only", ("daily", 10 * CALLS, 86400), used)
        # No answer tells of the daily limit.
        self.provider.limit("kept", "tried", AMOUNT, SECONDS, daily=None)
        self.calls("before")
        [before] = product.pods("limiter")
        kubectl("delete", "pod", "--namespace", product.NAMESPACE, before["metadata"]["name"])
        until("there is another pod", lambda: [product.is_ready(pod) for pod in product.pods("limiter")] == [True])
        self.assertNotEqual(product.pods("limiter")[0]["metadata"]["uid"], before["metadata"]["uid"])
        self.calls("after")
        # A new pod may count what its ledger has charged ahead.
        until("the calls of both count", lambda: self.used()[1] == "True" and 2 * CALLS <= self.used()[0] < 3 * CALLS)
        totals = self.provider.totals("kept")
        self.assertEqual((totals["ok"], totals["over"]), (2 * CALLS, 0), totals)


def on_the_node(*words):
    subprocess.run([product.CLUSTER, "enter", *words], check=True, env=os.environ)


if __name__ == "__main__":
    unittest.main(verbosity=2)
