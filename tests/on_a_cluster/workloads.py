"""Jobs that call providers with unmodified SDKs, as a workflow's author writes them."""

import json

import guest
from cluster import apply, items, kubectl, until

# The system's store, where a cluster's own CA would be, has the playing provider's CA too.
STORE = "/etc/ssl/certs/ca-certificates.crt"

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parallelism: {pods}
  completions: {pods}
  completionMode: Indexed
  backoffLimitPerIndex: 0
  template:
{template}
      restartPolicy: Never
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {pods}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
{template}
      terminationGracePeriodSeconds: 1
"""
TEMPLATE = """\
    metadata:
      labels: {{app: {name}}}
      annotations: {{{annotations}}}
    spec:
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: enrich
        image: {images}/python:1
        imagePullPolicy: {pull}
        args: {args}
        env:
        - {{name: {key}, value: {account}}}
{more_env}        resources: {{requests: {{cpu: {cpu}, memory: {memory}}}}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        volumeMounts: [{{name: roots, mountPath: {store}, subPath: roots.pem}}, {{name: roots, mountPath: /own}}]
      volumes: [{{name: roots, configMap: {{name: roots}}}}]"""
# A container that trusts what it brings along, as pods behind a company's proxy do.
OWN_CAS = "        - {name: SSL_CERT_FILE, value: /own/roots.pem}\n"

PROGRAMS = {
    "hubspot": ("hubspot_contacts.py", "HUBSPOT_ACCESS_TOKEN", []),
    "openai": ("openai_chat.py", "OPENAI_API_KEY", []),
    "openai-streaming": ("openai_chat.py", "OPENAI_API_KEY", ["--stream"]),
    "anthropic": ("anthropic_messages.py", "ANTHROPIC_API_KEY", []),
}


def namespace(name, provider, labels=""):
    """A namespace as strict as can be, whose pods trust the provider's CA."""
    labels += guest.makes_namespace(name)
    apply(f"""
apiVersion: v1
kind: Namespace
metadata:
  name: {name}
  labels: {{pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted{labels}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: roots, namespace: {name}}}
data: {{roots.pem: {json.dumps(provider.ca_pem)}}}
""")


def pod_template(name, program, account, calls, clients, quotas=None, more_env="", cpu="20m", memory="64Mi"):
    """Pods of one container that makes so many calls, so many at once."""
    script, key, more = PROGRAMS[program]
    args = [f"/programs/{script}", "--calls", str(calls), "--processes", "1", "--clients", str(clients), *more]
    annotations = f"quotakeeper.dev/quotas: {json.dumps(quotas)}" if quotas else ""
    return TEMPLATE.format(
        name=name, annotations=annotations, args=json.dumps(args), key=key, account=json.dumps(account), store=STORE,
        more_env=more_env, cpu=cpu, memory=memory, images=guest.IMAGES, pull=guest.PULL,
    )


class Deployment:
    """A Deployment whose pods call without an end, as an account of its name."""

    def __init__(self, namespace, name, program, replicas, clients, quotas):
        self.namespace, self.name = namespace, name
        template = pod_template(name, program, name, 100000, clients, quotas, cpu="10m", memory="48Mi")
        self.manifest = DEPLOYMENT.format(name=name, namespace=namespace, pods=replicas, template=template)

    def start(self):
        apply(self.manifest)
        return self

    def wait(self):
        kubectl("rollout", "status", "--namespace", self.namespace, f"deployment/{self.name}", "--timeout=300s")

    def delete(self):
        kubectl("delete", "deployment", "--namespace", self.namespace, self.name, "--wait=true")


class Job:
    """A Job of pods that share nothing but their account."""

    def __init__(self, namespace, name, program, account, pods, calls, clients=4, quotas=None, more_env=""):
        self.namespace, self.name, self.pods = namespace, name, pods
        template = pod_template(name, program, account, calls, clients, quotas, more_env)
        self.manifest = JOB.format(name=name, namespace=namespace, pods=pods, template=template)

    def start(self):
        # Of an earlier run on this cluster.
        self.delete()
        apply(self.manifest)
        return self

    def status(self):
        return items("jobs", "--namespace", self.namespace, "--field-selector", f"metadata.name={self.name}")[0]["status"]

    def ended(self):
        conditions = {each["type"]: each["status"] for each in self.status().get("conditions", [])}
        return next((kind for kind in ("Complete", "Failed") if conditions.get(kind) == "True"), None)

    def wait(self, seconds=180):
        """Complete or Failed."""
        return until(f"job {self.namespace}/{self.name} ends", self.ended, seconds)

    def list(self):
        return items("pods", "--namespace", self.namespace, "--selector", f"app={self.name}")

    def told(self):
        """What the programs of all pods say of their calls."""
        total = {"calls": 0, "ok": 0, "failed": 0, "errors": {}}
        for pod in self.list():
            words = ("logs", "--namespace", self.namespace, pod["metadata"]["name"], "--container", "enrich")
            said = json.loads(kubectl(*words).strip().splitlines()[-1])
            for key in ("calls", "ok", "failed"):
                total[key] += said[key]
            for error, count in said["errors"].items():
                total["errors"][error] = total["errors"].get(error, 0) + count
        return total

    def delete(self):
        kubectl("delete", "job", "--namespace", self.namespace, self.name, "--ignore-not-found", "--wait=true")
