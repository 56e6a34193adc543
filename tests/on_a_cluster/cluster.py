"""Words to a cluster: kubectl and helm as a person uses them, and patient questions."""

import json
import os
import re
import subprocess
import time

# Long enough for a noisy machine; nothing waits this long when all is well.
PATIENCE_SECONDS = 180
# What Kubernetes itself tells of a Job.
CONTROLLERS_REASONS = ("SuccessfulCreate", "Completed")


class Failed(AssertionError):
    """A command that should have succeeded."""


def run(*words, input=None, check=True):
    """Runs a command; its output, or with check=False the whole result."""
    done = subprocess.run([str(word) for word in words], input=input, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout if check else done


def kubectl(*words, **options):
    return run("kubectl", *words, **options)


def get(*words):
    """What kubectl finds, as values; None: it isn't there."""
    done = kubectl("get", *words, "--output", "json", "--ignore-not-found", check=False)
    if done.returncode != 0:
        raise Failed(done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def items(*words):
    found = get(*words)
    return found["items"] if found else []


def apply(text, *words):
    """Applies documents; what the server warns of is a failure unless it is asked for."""
    return kubectl("apply", "--filename", "-", *words, input=text)


def events(namespace, thing):
    """What Quotakeeper tells of a thing, as `kubectl events` shows it, without what differs from run to run."""
    table = kubectl("events", "--namespace", namespace, "--for", thing).splitlines()[1:]
    rows = (re.sub(r"^\S+( \(x\d+ over \S+\))?\s+", "", row) for row in table)
    told = (" ".join(row.split(maxsplit=3)) for row in rows)
    masked = (re.sub(r"\b\d+", "N", re.sub(r"\d\d:\d\d:\d\d", "HH:MM:SS", row)) for row in told)
    return sorted({row for row in masked if row.split()[1] not in CONTROLLERS_REASONS})


def until(what, so, seconds=PATIENCE_SECONDS):
    """Waits until `so()` is true and returns it; what it says last is told when it never is."""
    deadline = time.monotonic() + seconds
    said = None
    while time.monotonic() < deadline:
        try:
            if said := so():
                return said
        except (Failed, OSError, KeyError, IndexError, TypeError, ValueError) as error:
            said = error
        time.sleep(0.2)
    raise Failed(f"not within {seconds} s: {what}; the last answer was {said!r}")


def node_address():
    """Where NodePorts answer."""
    if address := os.environ.get("QUOTAKEEPER_NODE_ADDRESS"):
        return address
    addresses = items("nodes")[0]["status"]["addresses"]
    return next(each["address"] for each in addresses if each["type"] == "InternalIP")
