"""The faults that are recorded: each at a quota and a Job of its name, whose clients call on."""

import time

import product
import recording
from cluster import kubectl, until
from recording import MOMENTS, Metric, Record, Told
from workloads import Job, Pods, Program

NAMESPACE = "seen"
CLIENTS = 6
# Calls in so many seconds.
AMOUNT, SECONDS = 30, 3
# A daily limit that is used up soon.
SMALL = 240

# Clients that call on and, when a call has failed, wait a second.
CALL_ON = """
import os, sys, threading, time, urllib.request
url = sys.argv[1].replace("$OPENAI_BASE_URL", os.environ.get("OPENAI_BASE_URL", ""))
headers = {"Authorization": "Bearer " + os.environ["ACCOUNT"], "Content-Type": "application/json"}
request = urllib.request.Request(url, sys.argv[2].encode() or None, headers)
def call_on():
    while True:
        try:
            urllib.request.urlopen(request, timeout=float(sys.argv[4])).read()
        except OSError:
            time.sleep(1)
for _ in range(int(sys.argv[3])):
    threading.Thread(target=call_on).start()
"""
HUBSPOT = ("hubspot", "https://api.hubapi.com/crm/v3/objects/contacts/1", "")
CHAT = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}'
OPENAI = ("openai", "$OPENAI_BASE_URL/chat/completions", CHAT)

WAITING = Metric("limiter", "waiting_calls")
PAUSES = Metric("limiter", "active_pauses")
REJECTED = Metric("limiter", "provider_rejections_total")
GRANTED = Metric("limiter", "calls_total", ('decision="granted"',))
REFUSED = Metric("limiter", "calls_total", ('decision="refused"',))
USED_TODAY = Metric("limiter", "limit_used", ('limit="daily"',))
WAITING_THERE = Metric("proxy", "waiting_calls")
ANSWERED = Metric("proxy", "upstream_responses_total", ('code="200"',))
NOT_ACCEPTED = Metric("operator", "quotas", ('accepted="false"',), of_quota=False)


class Fault:
    """A fault that an account's provider or a person brings about while the Job calls."""

    # Of its quota, account, provider and Job; by default the word of its class.
    name = title = scene = ""
    metrics = ()
    api, clients, timeout = HUBSPOT, CLIENTS, 300
    limit, amount, seconds = "ten-seconds", AMOUNT, SECONDS
    # The provider's daily limit, of which its headers tell; none: no answer tells of it.
    daily = 250000
    # Whether the Job calls before the fault; else it begins with it.
    calls_before = True
    # Kind and name of others whose events are recorded.
    others = {}

    def __init__(self, provider):
        self.provider, self.name = provider, self.name or type(self).__name__.lower()
        self.job = self.job_of(self.name)

    def job_of(self, name):
        _, url, body = self.api
        program = Program("ACCOUNT", ["-c", CALL_ON, url, body, str(self.clients), str(self.timeout)])
        return Job.of(NAMESPACE, name, program, self.name, Pods(self.name))

    def prepare(self):
        """The quota is in force, and the provider counts by it."""
        dialect, *_ = self.api
        self.provider.limit(self.name, "tried", self.amount, self.seconds, daily=self.daily)
        product.patient(self.name, dialect, self.limit, self.amount, self.seconds)
        self.declare(self.name)
        if self.calls_before:
            self.job.start()
            until(f"the Job {self.name} calls", lambda: self.provider.tried(self.name) >= 20)

    def declare(self, name, wait=True):
        own = ("daily", SMALL, 86400) if self.daily == SMALL else None
        product.quota(NAMESPACE, name, self.name, "only", own, f"  account: {{id: {self.name}}}\n", wait)

    def strike(self):
        """Brings it about; returns when it began, if that was later than now."""

    def watch(self):
        """What is seen before it and after it."""
        self.looks = {0: self.look()}
        self.before = self.provider.totals(self.name)
        begun = recording.now()
        self.begun = self.strike() or begun
        for moment in MOMENTS:
            time.sleep(max(0, moment - (recording.now() - self.begun).total_seconds()))
            self.looks[moment] = self.look()
        self.after = self.provider.totals(self.name)

    def look(self):
        return recording.look(NAMESPACE, self.name, self.job, self.metrics)

    def record(self):
        """With the events until now: what ends the fault may be among them."""
        objects = {"the Job": ("Job", self.name), **self.others, "the quota": ("ApiQuota", self.name)}
        told = [Told(of, recording.events(NAMESPACE, kind, name, self.begun)) for of, (kind, name) in objects.items()]
        answered, over = (self.after[verdict] - self.before[verdict] for verdict in ("ok", "over"))
        return Record(self.title, self.scene, self.looks, self.metrics, told, answered, over)

    def force(self, status, requests, **more):
        self.provider.ask("/force", {"account": self.name, "status": status, "requests": requests, **more})

    def patch(self, spec):
        kubectl("patch", "aq", self.name, "--namespace", NAMESPACE, "--type=merge", "--patch", f'{{"spec": {spec}}}')


class Edited(Fault):
    title = "A quota is refused"
    scene = "An edit names a tier that the provider does not have."
    metrics = (NOT_ACCEPTED, GRANTED)

    def strike(self):
        self.patch('{"provider": {"tier": "gold"}}')


class Conflicting(Fault):
    title = "A quota conflicts"
    scene = "A new quota names the account of another one, and a Job draws on it."
    metrics = (NOT_ACCEPTED,)
    calls_before = False

    def declare(self, name, wait=True):
        """First the other one."""
        super().declare("older", wait)

    def strike(self):
        super().declare(self.name, wait=False)
        self.job.start()


class Deleted(Fault):
    name = "enrich"
    title = "A quota is deleted"
    scene = "`kubectl delete aq`, while pods draw on it."
    metrics = (WAITING_THERE, ANSWERED)

    def strike(self):
        kubectl("delete", "aq", self.name, "--namespace", NAMESPACE)


class Paused(Fault):
    title = "The provider pauses"
    scene = "The provider answers a call with 429 and a Retry-After of 90 s."
    metrics = (PAUSES, REJECTED, WAITING, REFUSED)

    def strike(self):
        self.force(429, 1, retryAfter="90", body={"status": "error", "message": "You have reached your limit."})


class Overloaded(Fault):
    title = "The provider is overloaded"
    scene = "The provider answers all calls with 503."
    metrics = (PAUSES, REJECTED, WAITING, REFUSED)

    def strike(self):
        self.force(503, 1000)


class Stopped(Fault):
    title = "The provider stops the account"
    scene = "The provider answers all calls with 429 and the code `insufficient_quota`."
    metrics = (PAUSES, REJECTED, REFUSED)
    api = OPENAI
    limit = "requests"

    def strike(self):
        message = "You exceeded your current quota, please check your plan and billing details."
        self.force(429, 1000, body={"error": {"message": message, "type": "insufficient_quota", "code": "insufficient_quota"}})


class Spent(Fault):
    title = "A budget is used up"
    scene = "The quota has a daily limit of 240 calls; the last one is answered."
    metrics = (USED_TODAY, WAITING, REFUSED)
    daily = SMALL

    def strike(self):
        until("all of it is used", lambda: self.provider.tried(self.name) >= SMALL)
        return recording.now()


class Impatient(Fault):
    title = "Clients give up"
    scene = "12 clients with a timeout of 3 s begin to call, of which a limit of 3 calls in 10 s lets each call every 40 s."
    metrics = (Metric("limiter", "workload_hung_up_calls_total"), WAITING, GRANTED, REFUSED)
    amount, seconds = 3, 10
    clients, timeout, calls_before = 12, 3, False

    def strike(self):
        self.job.start()
        until("the first call is sent", lambda: self.provider.tried(self.name) > 0)
        return recording.now()


class LimiterAway(Fault):
    name = "waiting"
    title = "The limiter is away"
    scene = "`kubectl scale deployment/quotakeeper-limiter --replicas=0`; after a good minute it is back."
    metrics = (GRANTED, Metric("proxy", "degraded", ('reason="LimiterUnreachable"',), of_quota=False), WAITING_THERE, ANSWERED)

    def strike(self):
        scale("limiter", 0)


class Forgotten(Fault):
    title = "The ledger is lost"
    scene = "New limiters' pods, without the ledger of the one before; of the quota's daily limit no answer tells."
    metrics = (USED_TODAY, WAITING, REFUSED)
    daily = None

    def strike(self):
        scale("limiter", 2)
        return recording.now()


class Unattended(Fault):
    title = "The operator is away"
    scene = "`kubectl scale deployment/quotakeeper-operator --replicas=0`; another Job is created meanwhile."
    others = {"the other Job": ("Job", "late")}
    metrics = (Metric("operator", "leader", of_quota=False), GRANTED)

    def strike(self):
        scale("operator", 0)
        self.job_of("late").start()


class Opened(Fault):
    title = "The gate is open"
    scene = "`quotakeeper open-gate --yes --wait`, as before Quotakeeper is removed without Helm."
    metrics = (Metric("limiter", "degraded", ('reason="GateOpen"',), of_quota=False), ANSWERED)

    def strike(self):
        command = ("/quotakeeper", "open-gate", "--yes", "--wait")
        kubectl("--namespace", product.NAMESPACE, "exec", "deployment/quotakeeper-operator", "--", *command)


def scale(component, replicas):
    deployment = f"deployment/quotakeeper-{component}"
    kubectl("scale", "--namespace", product.NAMESPACE, deployment, f"--replicas={replicas}")
    if replicas:
        kubectl("rollout", "status", "--namespace", product.NAMESPACE, deployment, "--timeout=180s")
    else:
        until(f"no pod of the {component} is left", lambda: not product.pods(component))
