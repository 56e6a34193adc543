"""Programs that read their CAs from files trust the proxy in real pods: a JVM by the options that its launcher reads,
others by the files that the pod's annotation names. Where nobody has named the file, an Event of the workload says what
to do, even if the program has ended at once. Counted by the provider."""

import unittest

import product
from cluster import events, until
from story import Story
from workloads import STORE, Job, Pods, Program

AMOUNT, SECONDS, CALLS = 30, 3, 3
URL = "https://api.hubapi.com/crm/v3/objects/contacts?limit=1"
CACERTS = "/opt/java/lib/security/cacerts"
WGET = f'for call in 1 2 3; do wget -nv -O /dev/null --header "Authorization: Bearer $ACCOUNT" "{URL}"; done'
JAVA = f'java -cp /opt/calls Calls "{URL}" "$ACCOUNT" {CALLS}'

# By Job: what its pod runs, and the file that its annotation names.
TRUSTING = {
    "java-by-options": (JAVA, None),
    "java-by-file": (f"unset JDK_JAVA_OPTIONS; {JAVA}", CACERTS),
    "wget-by-file": (WGET, STORE),
}


class Trust(Story):
    namespaces = ("files",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        product.patient("files", "hubspot", "ten-seconds", AMOUNT, SECONDS)
        product.quota("files", "files", "files", "only")

    def job(self, name, script, file):
        self.provider.limit(name, "tried", AMOUNT, SECONDS)
        program = Program("ACCOUNT", ["-ec", script], image="clients")
        return Job.of("files", name, program, name, Pods("files", file)).start()

    def test_every_call_is_answered_and_counted(self):
        jobs = [self.job(name, *how) for name, how in TRUSTING.items()]
        for job in jobs:
            with self.subTest(job.name):
                self.assertEqual(job.wait(), "Complete")
                totals = self.provider.totals(job.name)
                self.assertEqual((totals["ok"], totals["over"]), (CALLS, 0), totals)

    def test_who_is_not_told_of_the_file_reads_what_to_do(self):
        job = self.job("untold", WGET, None)
        self.assertEqual(job.wait(), "Failed")
        told = lambda: [row for row in events("files", "job/untold") if " ProxyNotTrusted " in row]
        [row] = until("the Job's Events say so", told)
        self.assertIn("quotakeeper.dev/trust-files", row)
        self.assertEqual(self.provider.tried("untold"), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
