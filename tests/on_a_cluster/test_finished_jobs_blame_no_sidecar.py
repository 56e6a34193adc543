"""The proxy ends with code 0 whatever it has under way when its pod's program ends: no policy that looks at the exit
codes of all containers takes it for a failure. Seen in the status of real pods."""

import unittest

import product
from story import Story
from workloads import Job, Pods, Program, sdk

AMOUNT, SECONDS, CALLS = 30, 3, 4
PROXY = "quotakeeper-proxy"
# The kubelet kills what is left after it: code 137.
GRACE = "terminationGracePeriodSeconds: 5"
# An address where nobody answers (RFC 5737).
NO_LIMITER = "hostAliases: [{ip: 192.0.2.1, hostnames: [quotakeeper-limiter.quotakeeper.svc]}]"
ASK = 'openai.OpenAI().chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}], stream=True)'
LEAVES_A_STREAM = f"""
import os, openai
next(iter({ASK}))
os._exit(0)
"""
LEAVES_A_WAITING_CALL = f"""
import os, threading, time, urllib.request, openai
def waits():
    metrics = urllib.request.urlopen("http://127.0.0.1:15820/metrics").read().decode().splitlines()
    return any(line.startswith("quotakeeper_proxy_waiting_calls{{") and line[-2:] != " 0" for line in metrics)
for _ in range(2):
    threading.Thread(target=lambda: {ASK}, daemon=True).start()
while not waits():
    time.sleep(0.1)
os._exit(0)
"""


def fails_by(*codes):
    """A container of any name that ends with none of these codes fails the Job at once."""
    rule = f"{{action: FailJob, onExitCodes: {{operator: NotIn, values: {list(codes)}}}}}"
    return f"backoffLimit: 3\n  podFailurePolicy: {{rules: [{rule}]}}"


class FinishedJobs(Story):
    namespaces = ("ended",)

    def job(self, name, code, amount, seconds, *spec):
        product.patient(name, "openai", "requests", amount, seconds)
        product.quota("ended", name, name, "only")
        self.provider.limit(name, "tried", amount, seconds)
        self.provider.ask("/slow", {"account": name, "answerMillis": 0, "streamMillis": 3000})
        program = Program("OPENAI_API_KEY", ["-c", code])
        return Job.of("ended", name, program, name, Pods(name, more_spec=(GRACE, *spec)), fails_by(0)).start()

    def test_whatever_is_under_way(self):
        jobs = [
            self.job("stream", LEAVES_A_STREAM, AMOUNT, SECONDS),
            self.job("waiting", LEAVES_A_WAITING_CALL, 1, 300),
            self.job("no-limiter", LEAVES_A_WAITING_CALL, AMOUNT, SECONDS, NO_LIMITER),
        ]
        for job in jobs:
            with self.subTest(job.name):
                self.assertEqual(job.wait(), "Complete")
                self.assertEqual(self.ends_of_proxies(job), [(0, "Completed")])

    def test_a_program_that_fails_once_is_tried_again(self):
        self.limit_hubspot("ended", "again", AMOUNT, SECONDS)
        self.provider.ask("/force", {"account": "again", "status": 400, "requests": 1})
        program = sdk("hubspot", CALLS, 1)
        job = Job.of("ended", "again", program, "again", Pods("again", more_spec=(GRACE,)), fails_by(0, 1)).start()
        self.assertEqual(job.wait(), "Complete")
        self.assertEqual(self.ends_of_proxies(job), [(0, "Completed")] * 2)
        totals = self.provider.totals("again")
        self.assertEqual((totals["ok"], totals["over"], totals["forced"]), (2 * CALLS - 1, 0, 1), totals)

    def ends_of_proxies(self, job):
        statuses = [each for pod in job.list() for each in pod["status"]["initContainerStatuses"] if each["name"] == PROXY]
        ends = [each["state"]["terminated"] for each in statuses]
        return [(end["exitCode"], end["reason"]) for end in ends]


if __name__ == "__main__":
    unittest.main(verbosity=2)
