"""Jobs whose calls cost tokens, each against a limit of tokens of its own, judged by what the provider counted."""

from typing import NamedTuple

import product
from cluster import kubectl, until
from story import Story
from workloads import Job

SECONDS, CLIENTS = 15, 16


class Limited(NamedTuple):
    """A limit of tokens, as the provider counts and as its profile says."""

    dialect: str
    # The name that the shipped profile has for it.
    name: str
    unit: str
    amount: int
    provider: str
    profile: str
    # Whether the provider estimates a call when it arrives: what we hold is at least that.
    estimated: bool
    calls: int
    pods: int = 1


def total(provider, profile, estimated, amount=9_000, calls=76, **more):
    return Limited("openai", "tokens", "TotalTokens", amount, provider, profile, estimated, calls, **more)


# A call of the chat API uses 470 tokens in the mean and allows 1,000, an embedding sends some 80.
OUTPUT = Limited("anthropic", "output-tokens", "OutputTokens", 9_000, "Produced", "AsProduced", False, 76)
STREAMS = total("Produced", "AsProduced", False, pods=2)
PROGRAMS = {
    "chat": total("Settled", "Settled", True),
    "chat-streaming": STREAMS,
    "responses": total("Arrival", "AtArrival", True, amount=18_000),
    "responses-streaming": total("Settled", "Settled", True),
    "embeddings": total("Settled", "Settled", True, 900, 56)._replace(unit="InputTokens"),
    "messages": OUTPUT,
    "messages-streaming": OUTPUT._replace(pods=2),
}


class TokenCampaign(Story):
    """A story of such Jobs, in its first namespace."""

    def declare(self, name, limited, chunk_seconds=0.05):
        """The quota is in force, and the provider counts by it."""
        counted = {
            "unit": limited.unit, "amount": limited.amount, "windowSeconds": SECONDS, "countedAs": "TokenBucket",
            "charged": limited.profile,
        }
        if limited.estimated:
            counted["formula"] = {"bytesPerToken": 4, "output": "Added"}
        product.patient_of(name, limited.dialect, limited.name, counted)
        own = f"{{name: {limited.name}, unit: {limited.unit}, amount: {limited.amount}, windowSeconds: {SECONDS}}}"
        product.quota(self.namespaces[0], name, name, "only", more=f"  limits:\n  - {own}\n")
        self.provider.limit_tokens(name, limited.unit, limited.amount, SECONDS, limited.provider, chunk_seconds)

    def enrich(self, program, account, limited):
        """A Job that calls as an account."""
        pods = limited.pods
        calls, clients = limited.calls // pods, CLIENTS // pods
        return Job(self.namespaces[0], account, program, account, pods, calls, clients, quotas=account).start()

    def judge(self, job, calls):
        """Every call of the Job is answered, and none of its account is over; the provider's figures of its tokens."""
        self.assertEqual(job.wait(300), "Complete")
        told, summary = job.told(), self.provider.summary(job.name)
        totals, tokens = summary["totals"], next(each for each in summary["amounts"] if each["limit"] == "tokens")
        print(f"{job.name}: {told['ok']} of {calls} answered, {totals}, {tokens}")
        self.assertEqual((told["ok"], told["failed"]), (calls, 0), told)
        self.assertEqual((totals["over"], tokens["over"]), (0, 0), totals)
        return tokens


class MidStream:
    """A Job that streams as an account whose other Jobs use another API, until its pod dies in the middle of a stream.
    Tokens come slowly: a stream lasts for seconds."""

    CHUNK_SECONDS = 0.6
    # What a stream has to have left, in tokens, so that it lasts longer than the death of its pod takes.
    LEFT = 300

    def __init__(self, story, account):
        self.provider, self.account = story.provider, account
        self.job = Job(story.namespaces[0], "dying", "responses-streaming", account, 1, 1000, clients=4, quotas=account)
        self.job.start()

    def streams(self, ended):
        calls = self.provider.log(self.account)
        return [call for call in calls if call["path"].endswith("/responses") and call["ended"] == ended and call["tokens"]]

    def is_far_from_its_end(self):
        streams = (stream["tokens"] for stream in self.streams("running"))
        return any(each["produced"] and each["usage"]["output"] - each["produced"] >= self.LEFT for each in streams)

    def die(self):
        """At once, as when its node is gone; nobody calls in its stead."""
        until("a stream of the pod is under way", self.is_far_from_its_end)
        pod = ("pod", "--namespace", self.job.namespace, "--selector", f"app={self.job.name}")
        kubectl("delete", *pod, "--grace-period=0", "--force")
        self.job.delete()
