"""Jobs that call providers with unmodified SDKs, as a workflow's author writes them."""

import json
from typing import NamedTuple

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
  {retries}
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
        image: {images}/{image}:1
        imagePullPolicy: {pull}
        args: {args}
        env:
        - {{name: {key}, value: {account}}}
{more_env}        resources: {{requests: {{cpu: {cpu}, memory: {memory}}}}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        volumeMounts: [{mounts}]
      volumes: [{{name: roots, configMap: {{name: roots}}}}]{more_spec}"""
MOUNTS = "{name: roots, mountPath: %s, subPath: roots.pem}, {name: roots, mountPath: /own}" % STORE
# A container that trusts what it brings along, as pods behind a company's proxy do.
OWN_CAS = "        - {name: SSL_CERT_FILE, value: /own/roots.pem}\n"

NO_RETRIES = "backoffLimitPerIndex: 0"


class Program(NamedTuple):
    """What a container runs."""

    # The variable that names its account.
    key: str
    # Arguments for the image's entrypoint, an SDK's program by default, which takes more.
    words: list
    image: str = "python"


PROGRAMS = {
    "hubspot": Program("HUBSPOT_ACCESS_TOKEN", ["/programs/hubspot_contacts.py"]),
    "openai": Program("OPENAI_API_KEY", ["/programs/openai_chat.py"]),
    "openai-streaming": Program("OPENAI_API_KEY", ["/programs/openai_chat.py", "--stream"]),
    "anthropic": Program("ANTHROPIC_API_KEY", ["/programs/anthropic_messages.py"]),
}


def token_use(key, api, *more):
    """A program whose calls allow 1,000 tokens of output each, and use 450 in the mean."""
    return Program(key, ["/programs/token_use.py", "--api", api, "--max-tokens", "1000", "--uses-at-most", "900", *more])


PROGRAMS |= {
    "chat": token_use("OPENAI_API_KEY", "chat"),
    "chat-streaming": token_use("OPENAI_API_KEY", "chat", "--stream"),
    "responses": token_use("OPENAI_API_KEY", "responses"),
    "responses-streaming": token_use("OPENAI_API_KEY", "responses", "--stream"),
    "embeddings": token_use("OPENAI_API_KEY", "embeddings"),
    "messages": token_use("ANTHROPIC_API_KEY", "messages"),
    "messages-streaming": token_use("ANTHROPIC_API_KEY", "messages", "--stream"),
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


class Pods(NamedTuple):
    """What a workload's pods have beside their program."""

    quotas: str | None = None
    trust_files: str | None = None
    more_env: str = ""
    # Fields of the pod, each on a line of its own.
    more_spec: tuple = ()
    cpu: str = "20m"
    memory: str = "64Mi"


def sdk(program, calls, clients):
    """The program of an SDK that makes so many calls, so many at once."""
    known = PROGRAMS[program]
    counts = ["--calls", str(calls), "--processes", "1", "--clients", str(clients)]
    return known._replace(words=known.words + counts)


def pod_template(name, program, account, pods):
    """Pods of one container, called as an account."""
    annotations = {"quotas": pods.quotas, "trust-files": pods.trust_files}
    annotations = {f"quotakeeper.dev/{key}": value for key, value in annotations.items() if value}
    return TEMPLATE.format(
        name=name, annotations=json.dumps(annotations)[1:-1], image=program.image, args=json.dumps(program.words),
        key=program.key, account=json.dumps(account), more_env=pods.more_env, cpu=pods.cpu, memory=pods.memory,
        more_spec="".join(f"\n      {field}" for field in pods.more_spec), images=guest.IMAGES, pull=guest.PULL,
        mounts=MOUNTS if program.image == "python" else "",
    )


class Deployment:
    """A Deployment whose pods call without an end, as an account of its name."""

    def __init__(self, namespace, name, program, replicas, clients, quotas):
        self.namespace, self.name = namespace, name
        pods = Pods(quotas, cpu="10m", memory="48Mi")
        template = pod_template(name, sdk(program, 100000, clients), name, pods)
        self.manifest = DEPLOYMENT.format(name=name, namespace=namespace, pods=replicas, template=template)

    def start(self):
        apply(self.manifest)
        return self

    def wait(self):
        kubectl("rollout", "status", "--namespace", self.namespace, f"deployment/{self.name}", "--timeout=300s")

    def delete(self):
        kubectl("delete", "deployment", "--namespace", self.namespace, self.name, "--ignore-not-found", "--wait=true")


class Job:
    """A Job of pods that share nothing but their account."""

    def __init__(self, namespace, name, program, account, pods, calls, clients=4, quotas=None, more_env=""):
        template = Pods(quotas, more_env=more_env)
        self._of(namespace, name, sdk(program, calls, clients), account, pods, template, NO_RETRIES)

    @classmethod
    def of(cls, namespace, name, program, account, template, retries=NO_RETRIES):
        """A Job of one pod that runs any program; `retries`: the fields of the Job about pods that fail."""
        job = cls.__new__(cls)
        job._of(namespace, name, program, account, 1, template, retries)
        return job

    def _of(self, namespace, name, program, account, pods, template, retries):
        self.namespace, self.name, self.pods = namespace, name, pods
        template = pod_template(name, program, account, template)
        self.manifest = JOB.format(name=name, namespace=namespace, pods=pods, template=template, retries=retries)

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
