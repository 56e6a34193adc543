"""Two nodes: the one with the active limiter is drained while a Job calls, and later lost without a word."""

import os
import subprocess
import unittest

import guest
import product
from cluster import kubectl, until
from limiter_changes import Changes

# A node comes and goes.
DISTURBS_THE_INSTALLATION = True
SECOND = "node2"


@unittest.skipIf(guest.EXISTING, "its nodes are somebody's")
class Node(Changes):
    def setUp(self):
        self.addCleanup(self.forget)
        second("up")
        second("load", *os.environ["QUOTAKEEPER_IMAGE_ARCHIVES"].split())

    def test_a_drained_or_lost_node_stops_nobody(self):
        self.spread()
        # Its pods would be lost with it, and stay away for as long as Kubernetes waits for a node.
        kubectl("cordon", SECOND)
        self.begin("moved", 900)
        self.is_active_there()
        drain = ("drain", SECOND, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        self.changes("drained", lambda _: kubectl(*drain), "Handover")
        self.assertEqual(places(), {"node1"})
        self.standby_is_ready()

        kubectl("uncordon", SECOND)
        self.spread()
        kubectl("cordon", SECOND)
        self.is_active_there()
        self.assertLess(self.provider.tried(self.name) + 50, self.calls, "too few calls are left to lose a node under")
        self.changes("lost", lambda _: second("lose"), "Takeover")
        self.judge()

    def spread(self):
        """New limiters, on different nodes where there are."""
        limiter = ("--namespace", product.NAMESPACE, "deployment/quotakeeper-limiter")
        kubectl("rollout", "restart", *limiter)
        kubectl("rollout", "status", *limiter, "--timeout=180s")
        until("the old ones are gone", lambda: len(product.pods("limiter")) == 2)
        self.assertEqual(places(), {"node1", SECOND})
        self.standby_is_ready()

    def is_active_there(self):
        """The active limiter is on the second node."""
        if product.active()["spec"]["nodeName"] != SECOND:
            self.changes("evicted", product.evict, "Handover")
            self.standby_is_ready()
        self.assertEqual(product.active()["spec"]["nodeName"], SECOND)

    def forget(self):
        """As a person does who knows that the machine will not come back."""
        second("lose")
        kubectl("delete", "node", SECOND, "--ignore-not-found")
        for component in ("limiter", "operator"):
            for pod in product.pods(component):
                if pod["spec"].get("nodeName") == SECOND:
                    name = pod["metadata"]["name"]
                    kubectl("delete", "pod", "--namespace", product.NAMESPACE, name, "--force", "--ignore-not-found")
            until(f"two of the {component} are ready", lambda: sum(map(product.is_ready, product.pods(component))) == 2)


def second(*words):
    subprocess.run([product.CLUSTER, "second", *words], check=True, env=os.environ, capture_output=True)


def places():
    return {pod["spec"].get("nodeName") for pod in product.pods("limiter") if "deletionTimestamp" not in pod["metadata"]}


if __name__ == "__main__":
    unittest.main(verbosity=2)
