"""Five workloads share a quota with a pod that means harm: it makes up whatever a limiter may be told, and floods every
door that it reaches. The five get their shares, nothing is over by the provider's count, and nobody is stopped: no process
ends, pods are admitted, quotas stay in force. `make hostile` runs it."""

import json
import pathlib
import unittest

import guest
import product
from cluster import apply, items, kubectl, until
from story import Story
from workloads import MOUNTS, Job

# Minutes, three of which one workload's word may stop everyone for.
ONLY_WHEN_NAMED = True
DISTURBS_THE_INSTALLATION = True

AMOUNT, SECONDS, CALLS = 60, 3, 900
HONEST = [f"honest-{number}" for number in range(5)]
PROGRAM = pathlib.Path(__file__).with_name("hostile_pod.py")

HOSTILE = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: hostile, namespace: hostile}}
data: {{hostile_pod.py: {program}}}
---
apiVersion: batch/v1
kind: Job
metadata: {{name: hostile, namespace: hostile}}
spec:
  backoffLimit: 1000
  template:
    metadata:
      labels: {{app: hostile}}
      annotations: {{quotakeeper.dev/quotas: shared}}
    spec:
      restartPolicy: Never
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: hostile
        image: {images}/python:1
        imagePullPolicy: {pull}
        args: [/hostile/hostile_pod.py, hostile, shared]
        resources: {{requests: {{cpu: 20m, memory: 64Mi}}, limits: {{cpu: 300m, memory: 512Mi}}}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        volumeMounts: [{mounts}, {{name: harm, mountPath: /hostile}}]
      volumes:
      - {{name: roots, configMap: {{name: roots}}}}
      - name: harm
        projected:
          sources:
          - configMap: {{name: hostile}}
          - serviceAccountToken: {{path: token, audience: quotakeeper.dev/limiter}}
"""


def over(arrivals):
    """How many calls more than AMOUNT came within any SECONDS, at most."""
    arrivals, first, worst = sorted(arrivals), 0, 0
    for last, at in enumerate(arrivals):
        while at - arrivals[first] >= SECONDS * 1_000_000_000:
            first += 1
        worst = max(worst, last - first + 1 - AMOUNT)
    return worst


class Hostile(Story):
    namespaces = ("hostile",)

    def did(self):
        """What the hostile pod says that it has done."""
        pods = items("pods", "--namespace", "hostile", "--selector", "app=hostile")
        lines = []
        for pod in pods:
            words = ("logs", "--namespace", "hostile", pod["metadata"]["name"], "--container", "hostile")
            lines += kubectl(*words, check=False).stdout.splitlines()[-1:]
        return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}

    def test_the_others_get_their_shares(self):
        product.patient("shared", "hubspot", "ten-seconds", AMOUNT, SECONDS)
        product.quota("hostile", "shared", "shared", "only", more="  enforcement: {maxQueueSeconds: 600}\n")
        for account in HONEST:
            # The limit is the quota's; each account is one workload, so that the provider counts each for itself.
            self.provider.limit(account, "tried", 100000, SECONDS)
        manifest = HOSTILE.format(program=json.dumps(PROGRAM.read_text()), images=guest.IMAGES, pull=guest.PULL,
                                  mounts=MOUNTS)
        apply(manifest)
        try:
            until("the hostile pod has grants to harm with", lambda: self.did().get("grants", 0) > 0)
            before = {component: product.restarts(component) for component in ("operator", "limiter")}
            jobs = [Job("hostile", name, "hubspot", name, 1, CALLS, clients=8, quotas="shared").start() for name in HONEST]
            tried = lambda: [self.provider.tried(name) for name in HONEST]
            until("one has made all of its calls", lambda: max(tried()) >= CALLS, 900)
            shares, harm = tried(), self.did()
            print(f"calls of each when the first was done: {shares}; the hostile pod did {harm}")
            self.assertGreaterEqual(min(shares), 0.6 * max(shares), shares)
            for job in jobs:
                self.assertEqual(job.wait(600), "Complete", job.name)
            self.judge(harm, before)
        finally:
            kubectl("delete", "job", "--namespace", "hostile", "hostile", "--ignore-not-found", "--wait=true")

    def judge(self, harm, before):
        totals = [self.provider.totals(name) for name in HONEST]
        self.assertEqual([each["ok"] for each in totals], [CALLS] * 5, totals)
        arrivals = [entry["arrivalNanos"] for name in HONEST for entry in self.provider.log(name)]
        self.assertLessEqual(over(arrivals), 0)
        for kind in ("hellos", "asks", "grants", "reviews", "dense reviews", "reviews of nothing", "unfinished reviews",
                     "made-up tokens", "forged figures", "forged stops", "held 15820"):
            self.assertGreater(harm.get(kind, 0), 0, harm)
        restarted = {component: product.restarts(component) for component in before}
        self.assertEqual(restarted, before, "no process ended")
        self.assertEqual(product.condition("hostile", "shared", "Programmed")["status"], "True")


if __name__ == "__main__":
    unittest.main(verbosity=2)
