"""`make demo`: a Job of five pods against a provider's quota, without and with Quotakeeper, on a real Kubernetes.

A provider that counts for itself plays HubSpot inside the cluster. Every figure was counted by it in this run; the exit
code is 1 if what is claimed did not happen.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "on_a_cluster"))

import guest
import product
from cluster import apply, kubectl, until
from provider import Provider
from workloads import Job, namespace

PODS, LEADS = 5, 350
FORCED_AFTER, RETRY_AFTER_SECONDS = 130, 8
KILLED_AFTER = 240
# What may have been granted before the 429 was heard. Without a pause eighty more would come.
IN_FLIGHT = 20
BAR = 30

# The Job as `quotakeeper plan` reads it: four clients in each pod, and about so long an answer.
CAMPAIGN = f"""apiVersion: quotakeeper.dev/v1alpha1
kind: ApiCampaign
metadata: {{name: leads}}
spec:
  records: {LEADS}
  workers: {PODS * 4}
  steps:
  - {{quota: hubspot, answerMillis: 30}}
"""

QUOTA = """apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: hubspot, namespace: gtm}
spec:
  provider: {name: hubspot, tier: free}
"""


def say(text=""):
    print(text, flush=True)


def planned(folder):
    """What `quotakeeper plan` says of the Job, in seconds after its first call."""
    files = {"hubspot.yaml": QUOTA, "leads.yaml": CAMPAIGN}
    for name, text in files.items():
        (pathlib.Path(folder) / name).write_text(text)
    target = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    words = [f"{target}/debug/quotakeeper", "plan", "--unused", "-f", "hubspot.yaml", "-f", "leads.yaml"]
    plan = lambda *more: subprocess.run([*words, *more], cwd=folder, check=True, capture_output=True, text=True).stdout
    say("$ quotakeeper plan -f hubspot.yaml -f leads.yaml")
    say("\n".join(line for line in plan().splitlines() if line.startswith(("leads:", "Bottleneck:"))) + "\n")
    return json.loads(plan("-o", "json"))["plans"][0]["end"]["expectedSeconds"]


class Progress:
    """One line that changes on a terminal, else a line whenever the figures have moved well on."""

    def __init__(self, provider, job, name):
        self.provider, self.job, self.name = provider, job, name
        self.live, self.last = sys.stdout.isatty(), ""

    def line(self):
        totals = self.provider.totals(self.job.name)
        rejected = totals["over"] + totals["forced"]
        bar = "█" * min(BAR, rejected * 10 // (LEADS // 2) + (rejected > 0))
        waiting = ""
        if self.name == "throttled":
            waiting = f"   waiting {product.status('gtm', 'hubspot').get('waiting', {}).get('calls', 0)}"
        return f"  {self.name:10} ok {totals['ok']:<4} 429 {bar} {rejected}{waiting}"

    def show(self, last=False):
        line = self.line()
        if self.live:
            print(f"\r\x1b[2K{line}", end="\n" if last else "", flush=True)
        elif last or line != self.last:
            say(line)
        self.last = line

    def until(self, so):
        """Shows until `so()`, which is asked more often than anything is shown."""
        shown = 0.0
        while not so():
            if time.monotonic() - shown > (0.5 if self.live else 3):
                self.show()
                shown = time.monotonic()
            time.sleep(0.1)

    def aside(self, text):
        if self.live:
            print("\r\x1b[2K", end="")
        say(text)


def main():
    begun = time.monotonic()
    provider = Provider()
    product.install(provider)
    namespace("gtm", provider)
    apply(QUOTA)
    kubectl("wait", "--namespace", "gtm", "apiquota/hubspot", "--for=condition=Ready", "--timeout=180s")
    for account in ("naive", "leads"):
        limits = [
            {"name": "tried", "count": 100, "windowMillis": 10000, "countedAs": "Sliding"},
            {"name": "daily", "count": 250000, "windowMillis": 86400000, "countedAs": "Fixed", "endpoint": "*"},
        ]
        provider.ask("/reset", {"account": account})
        provider.ask("/rules", {"account": account, "limits": limits, "answerMillis": 20})
        Job("gtm", account, "hubspot", account, PODS, LEADS // PODS).delete()
    say(f"(set up in {time.monotonic() - begun:.0f} s)\n")

    say(f"HubSpot allows 100 calls per 10 s. Five pods enrich {LEADS} leads at once, with the unmodified HubSpot SDK.\n")
    naive = Job("gtm", "naive", "hubspot", "naive", PODS, LEADS // PODS).start()
    progress = Progress(provider, naive, "naive")
    progress.until(naive.ended)
    progress.show(last=True)
    failed = naive.status().get("failed", 0)
    say(f"{'':33}{failed}/{PODS} pods failed\n")

    with tempfile.TemporaryDirectory(prefix="quotakeeper-demo-") as folder:
        plan = planned(folder)
    say("  + quotakeeper.dev/quotas: hubspot      the same Job, one line more")
    kept = Job("gtm", "leads", "hubspot", "leads", PODS, LEADS // PODS, quotas="hubspot").start()
    progress = Progress(provider, kept, "throttled")
    progress.until(lambda: provider.tried("leads") >= FORCED_AFTER)
    provider.force("leads", RETRY_AFTER_SECONDS)
    until("the rejection is given", lambda: provider.totals("leads")["forced"] == 1)
    progress.aside(f"provider: 429, Retry-After: {RETRY_AFTER_SECONDS}")
    time.sleep(2)
    paused_at = provider.tried("leads")
    progress.aside("$ kubectl get aq --namespace gtm")
    say(kubectl("get", "aq", "--namespace", "gtm"))
    proxies = product.status("gtm", "hubspot").get("proxies", {}).get("connected", 0)
    say(f"  →  every pod paused ({proxies} of {PODS} at work)")
    progress.until(lambda: provider.tried("leads") > paused_at)
    progress.aside("resumed by itself")
    progress.until(lambda: provider.tried("leads") >= KILLED_AFTER)
    tried = provider.tried("leads")
    killed = time.monotonic()
    killer = threading.Thread(target=product.kill, args=("limiter",))
    killer.start()
    progress.aside("$ kubectl delete pod … --force (the limiter)" if guest.EXISTING else "$ kill -9 limiter")
    killer.join()
    progress.until(lambda: provider.tried("leads") > tried + IN_FLIGHT or kept.ended())
    again = provider.tried("leads") > tried + IN_FLIGHT
    progress.aside(f"granting again after {time.monotonic() - killed:.0f} s")
    progress.until(kept.ended)
    progress.show(last=True)
    say()
    held = table(provider, naive, kept, failed, again, plan)
    say(f"\n{time.monotonic() - begun:.0f} s with the set-up")
    sys.exit(0 if held else 1)


def table(provider, naive, kept, failed, again, plan):
    before, after = provider.totals("naive"), provider.totals("leads")
    log = provider.log("leads")
    arrivals = [entry["arrivalNanos"] / 1e9 for entry in log]
    forced = next(at for at, entry in zip(arrivals, log) if entry["verdict"] == "forced")
    during = sum(forced < at < forced + RETRY_AFTER_SECONDS for at in arrivals)
    used, windows = provider.used_percent("leads", "tried")
    outcome, told = kept.ended(), kept.told()
    say("COUNTED BY THE PROVIDER")
    say(f"  naive   {before['ok']} answered, {before['over']} rejected, {failed} pods failed: Job {naive.ended()}")
    say(
        f"  ours    {after['ok']} answered, {after['over']} over the quota, {after['forced']} forced, "
        f"{during} calls in the {RETRY_AFTER_SECONDS} s after it, {told['failed']} lost: Job {outcome}"
    )
    say(f"          {used:.0f} % of {windows} whole windows used, pause and kill included")
    say(f"          {LEADS} leads in {arrivals[-1] - arrivals[0]:.0f} s; planned were {plan:.0f} s, without the pause and the kill\n")
    claims = {
        "without Quotakeeper the Job fails": naive.ended() == "Failed" and before["over"] > 0,
        "with it every lead is enriched": outcome == "Complete" and after["ok"] == LEADS and told["failed"] == 0,
        "nothing is over the quota": after["over"] == 0,
        "the provider's 429 pauses every pod": after["forced"] == 1 and during <= IN_FLIGHT,
        "a limiter that is killed grants again": again,
    }
    for claim, held in claims.items():
        say(f"{'yes' if held else 'NO ':4}{claim}")
    return all(claims.values())


main()
