"""Quotakeeper in the cluster: installed by its chart, watched as a person would, killed as a node would."""

import json
import os
import pathlib
import subprocess
import tempfile

import guest
from cluster import apply, get, items, kubectl, run, until

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE.parent.parent / "charts" / "quotakeeper"
CLUSTER = HERE.parent / "cluster" / "cluster.sh"
NAMESPACE = "quotakeeper"
READY_SECONDS = 180
# Set by run.py for stories that run side by side: it has installed what they share.
INSTALLED = "QUOTAKEEPER_TEST_INSTALLED"


def helm(provider, *words):
    """Runs helm with the chart's values."""
    guest.installs(NAMESPACE)
    with tempfile.TemporaryDirectory(prefix="quotakeeper-values-") as folder:
        file = pathlib.Path(folder) / "values.json"
        file.write_text(json.dumps(values(provider)))
        return run("helm", *words, "--namespace", NAMESPACE, "--values", file)


def values(provider):
    """The chart's values: the images of this checkout, and what the providers' end shows is trusted."""
    image = lambda name: {"repository": f"{guest.IMAGES}/{name}", "tag": "1", "pullPolicy": guest.PULL}
    proxy = {"image": image("quotakeeper-proxy")}
    return {"image": image("quotakeeper"), "proxy": proxy, "trust": {"extraCAs": provider.ca_pem}}


def install(provider, *more):
    """Installs or upgrades."""
    if os.environ.get(INSTALLED) and not more:
        return
    wait = ("--create-namespace", "--wait", "--timeout", f"{READY_SECONDS}s")
    helm(provider, "upgrade", "--install", "quotakeeper", CHART, *wait, *more)


def rendered(provider):
    """All that the chart renders, hooks too, as tools see it that know nothing of Helm."""
    return helm(provider, "template", "quotakeeper", CHART)


def quota(namespace, name, provider, tier, limit=None, more="", wait=True):
    """Declares a quota and waits until it is in force. `limit`: name, amount and seconds instead of the tier's."""
    limits = ""
    if limit:
        limit_name, amount, seconds = limit
        limits = f"  limits:\n  - {{name: {limit_name}, unit: Requests, amount: {amount}, windowSeconds: {seconds}}}\n"
    apply(f"""
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  provider: {{name: {provider}, tier: {tier}}}
{limits}{more}""")
    if wait:
        kubectl("wait", "--namespace", namespace, f"apiquota/{name}", "--for=condition=Ready", f"--timeout={READY_SECONDS}s")


def patient(name, extends, limit, amount, seconds, counted_as=None, **more):
    """A provider like `extends` whose single tier, `only`, has this limit of calls."""
    own = {"unit": "Requests", "amount": amount, "windowSeconds": seconds, **more}
    if counted_as := counted_as or defined_by(extends)[limit].get("countedAs"):
        own["countedAs"] = counted_as
    patient_of(name, extends, limit, own)


def patient_of(name, extends, limit, own):
    """A provider like `extends` with a single tier, `only`: `limit` as given, and the others that the provider's
    headers tell of, of which only the tokens are more than the tests use. Calls may arrive 3 s after their grant: with
    the shipped bound, a machine that stands still for so long would excuse calls over the quota."""
    defined = defined_by(extends)
    told = {each["limit"] for each in get("apiprovider", extends)["spec"]["headers"]}
    others = [dict(defined[each]) for each in sorted(told - {limit})]
    for other in others:
        if other["unit"] != "Requests" or own["unit"] != "Requests":
            other["amount"] = 10_000_000
    tier = {"name": "only", "limits": [{"name": limit, "deliveryMillis": 3000, **own}, *others]}
    kind = {"apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiProvider", "metadata": {"name": name}}
    apply(json.dumps(kind | {"spec": {"extends": extends, "tiers": [tier]}}))


def defined_by(provider):
    """The limits of a built-in provider; of a limit that several tiers have, the lowest tier's."""
    builtin = until(f"the provider {provider} is there", lambda: get("apiprovider", provider))["spec"]
    return {each["name"]: each for tier in reversed(builtin["tiers"]) for each in tier["limits"]}


def status(namespace, name):
    found = get("apiquota", name, "--namespace", namespace)
    return (found or {}).get("status", {})


def condition(namespace, name, kind):
    conditions = status(namespace, name).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def pods(component):
    selector = f"app.kubernetes.io/name=quotakeeper,app.kubernetes.io/component={component}"
    return items("pods", "--namespace", NAMESPACE, "--selector", selector)


def is_ready(pod):
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


def restarts(component):
    statuses = (each for pod in pods(component) for each in pod["status"].get("containerStatuses", []))
    return sum(each["restartCount"] for each in statuses)


def kill(component):
    """SIGKILL for the component's processes, as when a node runs out of memory."""
    if guest.EXISTING:
        return replace(component)
    before = restarts(component)
    command = ["pkill", "-KILL", "-f", f"^/quotakeeper {component}"]
    subprocess.run([CLUSTER, "enter", *command], check=True, env=os.environ, capture_output=True)
    until(f"the {component} is started again", lambda: restarts(component) > before)


def active():
    """The pod of the limiter that holds the Lease."""
    lease = get("lease", "quotakeeper-limiter", "--namespace", NAMESPACE) or {}
    holder = lease.get("spec", {}).get("holderIdentity")
    return next((pod for pod in pods("limiter") if pod["metadata"]["name"] == holder and is_ready(pod)), None)


def last_change():
    """How the active limiter has begun, and its epoch."""
    annotations = get("lease", "quotakeeper-limiter", "--namespace", NAMESPACE)["metadata"]["annotations"]
    return annotations["quotakeeper.dev/last-change"], int(annotations["quotakeeper.dev/epoch"])


def signal(pod, name):
    """Sends a signal to a limiter's process."""
    environment = f"^POD_NAME={pod['metadata']['name']}$"
    on_the_node(f"""
for process in $(pgrep -f '^/quotakeeper limiter'); do
  ! grep -qz '{environment}' /proc/$process/environ || kill -{name} $process
done""")


def on_the_node(script):
    """Runs a script of bash among the processes of the node."""
    subprocess.run([CLUSTER, "enter", "bash", "-c", script], check=True, env=os.environ, capture_output=True)


def evict(pod):
    """As a drain does: its disruption budget may refuse it."""
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace")}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    place = "/api/v1/namespaces/{namespace}/pods/{name}/eviction".format(**metadata)
    kubectl("create", "--raw", place, "--filename", "-", input=json.dumps(body))


def replace(component):
    """The nearest to it where a node's processes can't be reached: the pods go at once, with their ledger."""
    names = lambda: {pod["metadata"]["name"] for pod in pods(component)}
    before = names()
    kubectl("delete", "pod", "--namespace", NAMESPACE, *before, "--grace-period=0", "--force")
    until(f"the {component} is another one", lambda: names() and not names() & before)


def log(pod):
    """What the programs of a pod of ours have said, a line each."""
    return kubectl("logs", "--namespace", NAMESPACE, pod["metadata"]["name"], "--all-containers").splitlines()


def limiters_tell():
    """How the active limiter began, its breaches, and the last words of each; for the message of a failed test."""
    words = [line for pod in pods("limiter") for line in log(pod)[-20:]]
    breaches = [line for text in metrics_of("limiter") for line in text.splitlines() if "breach" in line]
    return "\n".join([f"last change: {last_change()}", *breaches, *words])


def nothing_is_forbidden():
    """Nothing that the programs tried was refused for want of a right."""
    lines = [line for component in ("operator", "limiter") for pod in pods(component) for line in log(pod)]
    refused = [line for line in lines if "forbidden" in line.lower()]
    assert lines and not refused, refused


def metrics_of(component):
    """The metrics of each of the component's pods that answers, as text."""
    return metrics_of_pods(pods(component), 9090)


def metrics_of_pods(found, port):
    path = "/api/v1/namespaces/{namespace}/pods/{name}:%d/proxy/metrics" % port
    answers = [kubectl("get", "--raw", path.format(**pod["metadata"]), check=False) for pod in found]
    return [answer.stdout for answer in answers if answer.returncode == 0]


def measured(component, name, **labels):
    """A figure of the component's metrics; None: it has no such. Of the limiters it is the active one's."""
    for line in "\n".join(metrics_of(component)).splitlines():
        if line.startswith((name + "{", name + " ")) and all(f'{label}="{value}"' in line for label, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return None
