"""A Deployment of 20 replicas beside one of a single pod gets no more than half of a quota that both want."""

import json
import unittest

import guest
import product
from cluster import apply, items, kubectl, until
from provider import Provider
from workloads import PROGRAMS, STORE, namespace

AMOUNT, SECONDS, COUNTED = 60, 3, 360

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: fair}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{quotakeeper.dev/quotas: shared}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: enrich
        image: {images}/python:1
        imagePullPolicy: {pull}
        args: {args}
        env: [{{name: HUBSPOT_ACCESS_TOKEN, value: {name}}}]
        resources: {{requests: {{cpu: 10m, memory: 48Mi}}}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        volumeMounts: [{{name: roots, mountPath: {store}, subPath: roots.pem}}]
      volumes: [{{name: roots, configMap: {{name: roots}}}}]
"""


class Fair(unittest.TestCase):
    def test_twenty_replicas_get_no_more_than_half(self):
        provider = Provider()
        product.install(provider)
        namespace("fair", provider)
        product.patient("shared", "hubspot", [("ten-seconds", AMOUNT, SECONDS)])
        product.quota("fair", "shared", "shared", "only")
        # Two tokens at the provider, so that it counts each workload for itself; one quota here.
        for name in ("many", "one"):
            provider.limit(name, "tried", 100000, SECONDS)
        args = [f"/programs/{PROGRAMS['hubspot'][0]}", "--calls", "100000", "--processes", "1", "--clients"]
        for name, replicas, clients in (("many", 20, 2), ("one", 1, 40)):
            figures = {"name": name, "replicas": replicas, "args": json.dumps([*args, str(clients)])}
            apply(DEPLOYMENT.format(**figures, store=STORE, images=guest.IMAGES, pull=guest.PULL))
        try:
            for name in ("many", "one"):
                kubectl("rollout", "status", "--namespace", "fair", f"deployment/{name}", "--timeout=300s")
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
            kubectl("delete", "deployment", "--namespace", "fair", "many", "one", "--wait=true")
            until("its pods are gone", lambda: not items("pods", "--namespace", "fair"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
