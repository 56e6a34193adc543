"""A namespace that bounds containers and counts CPU limits takes pods with a proxy, which is as large as it may be."""

import unittest

import product
from cluster import apply, get, until
from provider import Provider
from workloads import Job, namespace

NAMESPACE, CALLS = "policies", 5
POLICIES = f"""
apiVersion: v1
kind: LimitRange
metadata: {{name: bounds, namespace: {NAMESPACE}}}
spec:
  limits:
  - {{type: Container, min: {{memory: 16Mi}}, max: {{memory: 256Mi}}, default: {{cpu: 100m}}, maxLimitRequestRatio: {{memory: "8"}}}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {{name: counted, namespace: {NAMESPACE}}}
spec: {{hard: {{limits.cpu: "1", limits.memory: 1Gi, requests.cpu: "1", requests.memory: 1Gi}}}}
"""


class Policies(unittest.TestCase):
    def test_a_job_completes_under_a_limit_range_and_a_resource_quota(self):
        provider = Provider()
        product.install(provider)
        namespace(NAMESPACE, provider)
        apply(POLICIES)
        counted = lambda: get("resourcequota", "counted", "--namespace", NAMESPACE)["status"].get("used")
        until("the quota counts", counted)
        product.patient("bounded", "openai", "requests", 100, 60)
        product.quota(NAMESPACE, "bounded", "bounded", "only")
        provider.limit("bounded", "requests", 100, 60)
        job = Job(NAMESPACE, "bounded", "openai", "bounded", 1, CALLS, clients=1, quotas="bounded").start()
        self.assertEqual(job.wait(), "Complete")
        self.assertEqual(provider.totals("bounded")["ok"], CALLS)
        proxy = next(each for pod in job.list() for each in pod["spec"]["initContainers"] if each["name"] == "quotakeeper-proxy")
        self.assertEqual(proxy["resources"]["limits"], {"cpu": "200m", "memory": "256Mi"})
        self.assertEqual(proxy["resources"]["requests"], {"cpu": "20m", "memory": "64Mi"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
