"""Clients whose timeout is shorter than the wait: their Job is told how long the wait is and how long they waited, and no
call of theirs is sent for nobody. Counted by the provider."""

import re
import unittest

import product
from cluster import items, until
from story import Story
from workloads import Job, Pods, Program

AMOUNT, SECONDS, CLIENTS, TIMEOUT = 3, 15, 12, 3
# Each client calls once.
PROGRAM = f"""
import os, threading, urllib.request
url, headers = "https://api.hubapi.com/crm/v3/objects/contacts/1", {{"Authorization": "Bearer " + os.environ["ACCOUNT"]}}
def call():
    try:
        urllib.request.urlopen(urllib.request.Request(url, None, headers), timeout={TIMEOUT}).read()
    except OSError:
        pass
for _ in range({CLIENTS}):
    threading.Thread(target=call).start()
"""
TOLD = re.compile(r"the clients of (\d+) waiting calls hung up after (\d+)s.*; a call waits about (\d+)s; set the client's timeout above")


class GiveUp(Story):
    namespaces = ("hasty",)

    def test_clients_that_give_up_are_told(self):
        self.limit_hubspot("hasty", "hasty", AMOUNT, SECONDS)
        job = Job.of("hasty", "hasty", Program("ACCOUNT", ["-c", PROGRAM]), "hasty", Pods("hasty")).start()
        self.assertEqual(job.wait(), "Complete")

        def told():
            notes = [each["note"] for each in items("events.events.k8s.io", "--namespace", "hasty") if each["reason"] == "ClientsGiveUp"]
            return [TOLD.search(note) for note in notes]

        [found] = until("the Job is told", told)
        calls, timeout, wait = (int(figure) for figure in found.groups())
        # On a busy machine, a part of their time had passed when their calls began to wait.
        self.assertIn(timeout, range(1, TIMEOUT + 2), found[0])
        self.assertGreaterEqual(calls, 3, found[0])
        self.assertGreater(wait, TIMEOUT, found[0])
        hung_up = product.measured("limiter", "quotakeeper_limiter_workload_hung_up_calls_total", workload="hasty/Job/hasty")
        self.assertGreaterEqual(hung_up, calls)

        # The next window is for who still waits.
        sent = self.provider.tried("hasty")
        self.assertLessEqual(sent, AMOUNT)
        patient = Job("hasty", "patient", "hubspot", "hasty", 1, 1, clients=1, quotas="hasty").start()
        self.assertEqual(patient.wait(), "Complete")
        totals = self.provider.totals("hasty")
        self.assertEqual((self.provider.tried("hasty"), totals["over"]), (sent + 1, 0), totals)
        print(found[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
