"""The counting provider as a pod that plays the real names, and questions to its control port."""

import json
import os
import re
import urllib.request

import guest
from cluster import Failed, apply, get, kubectl, node_address, until

NAMES = ("api.hubapi.com", "api.hubspot.com", "api.openai.com", "api.anthropic.com", "api.demo.example")
CONTROL_PORT = 30090
NAMESPACE = "world"
# Set by run.py for its stories: the provider is there, and others call it at this moment.
PLAYING = "QUOTAKEEPER_TEST_PROVIDER_PLAYS"

MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{app: provider%s}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: provider, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: provider}}}}
  template:
    metadata: {{labels: {{app: provider}}}}
    spec:
      containers:
      - name: provider
        image: {guest.IMAGES}/counting-provider:1
        imagePullPolicy: {guest.PULL}
        args: [--https, "0.0.0.0:8443", --http, "0.0.0.0:8080", --control, "0.0.0.0:9000"]
        readinessProbe: {{tcpSocket: {{port: 9000}}, periodSeconds: 1}}
        # Others are not to keep it from counting calls as they come.
        resources: {{requests: {{cpu: 300m, memory: 64Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: provider, namespace: {NAMESPACE}}}
spec:
  type: NodePort
  selector: {{app: provider}}
  ports:
  - {{name: https, port: 443, targetPort: 8443}}
  - {{name: http, port: 80, targetPort: 8080}}
  - {{name: control, port: 9000, nodePort: {CONTROL_PORT}}}
"""

# A server of its own in CoreDNS, whatever else that serves.
SERVER = "# the provider that tests play begins\n%s {\n    hosts {\n        %s\n        ttl 5\n    }\n}\n# and ends\n"
SERVERS = re.compile(r"# the provider that tests play begins\n.*# and ends\n", re.DOTALL)


def give_names(lines):
    """Lets the cluster's DNS answer with the lines of a hosts file; none: as it was."""
    found = get("configmap", "coredns", "--namespace", "kube-system")
    if not found:
        raise Failed("the cluster has no CoreDNS (ConfigMap coredns in kube-system), which gives the provider its names")
    before = found["data"]["Corefile"]
    after = SERVERS.sub("", before).rstrip("\n") + "\n"
    if lines:
        after += SERVER % (" ".join(NAMES), lines)
    if after != before:
        patch = json.dumps({"data": {"Corefile": after}})
        kubectl("--namespace", "kube-system", "patch", "configmap", "coredns", "--type=merge", "--patch", patch)
        kubectl("--namespace", "kube-system", "rollout", "restart", "deployment/coredns")
        kubectl("--namespace", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")


def organization(account):
    """How the provider names the account in its answers (FNV-1a)."""
    found = 0xCBF29CE484222325
    for byte in account.encode():
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return f"org-{found:016x}"


class Provider:
    """The provider of this cluster; made if it is not there."""

    def __init__(self):
        if not os.environ.get(PLAYING):
            apply(MANIFEST % guest.makes_namespace(NAMESPACE))
            address = get("service", "provider", "--namespace", NAMESPACE)["spec"]["clusterIP"]
            guest.at_the_end(lambda: give_names(None))
            give_names(f"{address} {' '.join(NAMES)}")
            kubectl("--namespace", NAMESPACE, "rollout", "status", "deployment/provider", "--timeout=120s")
        self.ca_pem = until("the provider's control port answers", lambda: self.ask("/ca"))

    def ask(self, path, order=None):
        data = None if order is None else json.dumps(order).encode()
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{node_address()}:{CONTROL_PORT}{path}", data, timeout=30) as answer:
            return answer.read().decode()

    def limit(self, account, name, count, seconds, counted_as="Sliding", daily=250000):
        """From now on the account, with nothing used, may make so many calls in so many seconds; and so many in a day,
        of which HubSpot's headers tell."""
        limits = [{"name": name, "count": count, "windowMillis": int(seconds * 1000), "countedAs": counted_as}]
        if daily:
            limits.append({"name": "daily", "count": daily, "windowMillis": 86400000, "countedAs": "Fixed", "endpoint": "*"})
        self.ask("/reset", {"account": account})
        self.ask("/rules", {"account": account, "limits": limits, "answerMillis": 20, "streamMillis": 5})

    def limit_tokens(self, account, unit, amount, seconds, charged, chunk_seconds):
        """The same of tokens, in a bucket of that size. A stream has chunks of 50 tokens, one in so many seconds."""
        limit = {"name": "tokens", "unit": unit, "count": amount, "windowMillis": seconds * 1000, "countedAs": "Bucket",
                 "bucket": amount, "tokens": {"charged": charged}}
        self.ask("/reset", {"account": account})
        paced = {"answerMillis": 20, "streamMillis": int(chunk_seconds * 1000), "tokensPerChunk": 50}
        self.ask("/rules", {"account": account, "limits": [limit], **paced})

    def force(self, account, seconds):
        """The account's next call is rejected, with so many seconds of Retry-After."""
        self.ask("/force", {"account": account, "status": 429, "retryAfter": str(seconds), "requests": 1})

    def summary(self, account):
        return json.loads(self.ask(f"/summary?account={account}"))

    def totals(self, account):
        return self.summary(account)["totals"]

    def tried(self, account):
        """How many calls of the account have arrived."""
        return sum(self.totals(account).values())

    def log(self, account):
        entries = map(json.loads, self.ask(f"/log?account={account}").splitlines())
        return sorted(entries, key=lambda entry: entry["arrivalNanos"])

    def excess(self, account, seconds):
        """What is known of each call that was over: the calls of the window before it, and how long the provider stood
        still since it was up, a line each; for the message of a failed test."""
        log, stalls = self.log(account), json.loads(self.ask("/stalls"))
        lines = []
        for over in (entry for entry in log if entry["verdict"] == "over"):
            at = over["arrivalNanos"]
            before = [entry for entry in log if at - (seconds + 1) * 1e9 < entry["arrivalNanos"] <= at]
            arrivals = " ".join(f"{(entry['arrivalNanos'] - at) / 1e6:.0f}:{entry['verdict']}" for entry in before)
            lines.append(f"over at {at / 1e6:.0f} ms: {over['exceeded']}; calls before it, by ms: {arrivals}")
        return lines + [f"stood still at {stall['atNanos'] / 1e6:.0f} ms for {stall['nanos'] / 1e6:.0f} ms" for stall in stalls]

    def used_percent(self, account, limit):
        """Use of the fuller half of the limit's windows but the first and the last, and how many those are in all."""
        found = next(each for each in self.summary(account)["limits"] if each["limit"] == limit)
        return found["fullerHalfPercent"], max(0, len(found["windows"]) - 2)
