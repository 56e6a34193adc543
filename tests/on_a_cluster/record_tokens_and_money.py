"""record_tokens_and_money.py FILE: two Jobs under limits of tokens and money, and into FILE, between its markers, what
kubectl and the metrics said of them. It is no test: it judges nothing."""

import pathlib
import re
import sys

import product
import record_what_people_see as page
import recording
from cluster import kubectl, until
from faults import CALL_ON
from provider import Provider
from workloads import Job, Pods, Program, namespace

NAMESPACE, QUOTA, PROVIDER = "gtm", "openai", "openai-here"
TOKENS, SECONDS = 400_000, 60
QUOTA_FILE = f"""\
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {{name: {QUOTA}, namespace: {NAMESPACE}}}
spec:
  provider: {{name: {PROVIDER}, tier: only}}
  limits:
  - {{name: tokens, unit: TotalTokens, amount: {TOKENS // 1000}k, windowSeconds: {SECONDS}}}
  - {{name: budget, unit: Dollars, amount: 500, period: Month, timeZone: America/New_York}}
  allocations:
  - name: nightly
    pods: {{matchLabels: {{app: nightly}}}}
    limits: [{{name: nightly-budget, unit: Dollars, amount: 4, period: Month, timeZone: America/New_York}}]
"""
# A call allows as much as its model can produce, and uses half of it.
MODEL, MOST, USED = "gpt-4o", 16_384, 8_000
CHAT = (
    f'{{"model": "{MODEL}", "max_tokens": {MOST}, '
    f'"messages": [{{"role": "user", "content": "What do they sell? [play output={USED}]"}}]}}'
)
TITLES = ("limit", "used", "held for calls under way", "left", "free again")
METRICS = ("workload_tokens_total", "workload_dollars_total", "workload_model_calls_total")


def main():
    file = pathlib.Path(sys.argv[1])
    provider = Provider()
    product.install(provider)
    namespace(NAMESPACE, provider)
    declare(provider)
    jobs = [job(name) for name in ("enrich", "nightly")]
    for each in jobs:
        each.start()
    moments = [
        ("While calls wait for tokens", lambda: used("tokens") >= TOKENS * 9 // 10 and waiting()),
        ("When the budget of nightly is used up", lambda: left("nightly-budget") == 0 and refused()),
    ]
    lines = [page.heading(), "", *block(said("cat quota.yaml", QUOTA_FILE))]
    for title, there in moments:
        until(title, there, 400)
        lines += ["", f"### {title}", "", *look()]
    lines += ["", "### Events", "", *block(*map(events, ("job/enrich", "job/nightly", "apiquota/openai")))]
    for each in jobs:
        each.delete()
    text = "\n".join(lines)
    file.write_text(page.MARKERS.sub(lambda found: f"{found[1]}{text}\n{found[2]}", file.read_text()))
    print(text)


def declare(provider):
    """The provider counts by it: of tokens an estimate when a call arrives, which its usage corrects."""
    formula = {"bytesPerToken": 4, "output": "Added"}
    counted = {"countedAs": "TokenBucket", "charged": "Settled", "formula": formula}
    product.patient_of(PROVIDER, "openai", "tokens", {"unit": "TotalTokens", "amount": TOKENS, "windowSeconds": SECONDS, **counted})
    provider.limit_tokens(QUOTA, "TotalTokens", TOKENS, SECONDS, "Settled", chunk_seconds=0.05)
    provider.ask("/slow", {"account": QUOTA, "answerMillis": 1000, "streamMillis": 50})
    kubectl("apply", "--filename", "-", input=QUOTA_FILE)
    kubectl("wait", "--namespace", NAMESPACE, f"apiquota/{QUOTA}", "--for=condition=Ready", "--timeout=180s")


def job(name):
    """Four clients that call on without a break."""
    program = Program("ACCOUNT", ["-c", CALL_ON, "$OPENAI_BASE_URL/chat/completions", CHAT, "4", "600"])
    return Job.of(NAMESPACE, name, program, QUOTA, Pods(QUOTA))


def waiting():
    return product.status(NAMESPACE, QUOTA).get("waiting", {}).get("calls", 0)


def refused():
    return product.status(NAMESPACE, QUOTA).get("refused", 0)


def limits():
    found = product.status(NAMESPACE, QUOTA)
    of_allocations = [limit for each in found.get("allocations", []) for limit in each.get("limits", [])]
    return {limit["name"]: limit for limit in (*of_allocations, *found.get("limits", []))}


def used(name):
    return limits().get(name, {}).get("used", 0)


def left(name):
    return limits().get(name, {}).get("remaining")


def look():
    """What a person asks for first, and what it says."""
    aq = ("get", "aq", QUOTA, "--namespace", NAMESPACE)
    described = kubectl("describe", *aq[1:]).splitlines()
    brief = next(line.strip() for line in described if line.strip().startswith("Brief:"))
    found = product.status(NAMESPACE, QUOTA)
    yield from block(said("kubectl get aq", kubectl(*aq)), said("kubectl describe aq openai", brief))
    yield from ("", "`status.limits`, and `status.allocations` of `nightly`:", "")
    of_allocations = [("nightly/", limit) for each in found["allocations"] for limit in each["limits"]]
    yield from recording.table(TITLES, (row(*each) for each in (*(("", limit) for limit in found["limits"]), *of_allocations)))
    yield from ("", "Metrics of the limiter:", "", *block("\n".join(metrics())))


def row(of, limit):
    """A limit with what is used of it."""
    figures = (str(limit.get(field, "–")) for field in ("usage", "reserved", "remaining", "resetTime"))
    return (f"`{of}{limit['name']}`", *figures)


def metrics():
    """Those that are not 0."""
    quota = re.compile(rf'quotakeeper_limiter_({"|".join(METRICS)}){{.*quota="{NAMESPACE}/{QUOTA}"')
    lines = (line for text in product.metrics_of("limiter") for line in text.splitlines() if quota.match(line))
    return [line for line in lines if float(line.rsplit(" ", 1)[1])]


def events(name):
    return said(f"kubectl events --for {name}", kubectl("events", "--namespace", NAMESPACE, "--for", name))


def said(command, answer):
    return f"$ {command}\n{answer.rstrip()}"


def block(*texts):
    return "```", "\n\n".join(texts), "```"


if __name__ == "__main__":
    main()
