"""Being a guest on a cluster that somebody has (QUOTAKEEPER_CLUSTER=existing): nothing there is taken over, and all that
is made goes again at the end. On a cluster of our own nothing of this is needed."""

import atexit
import os

from cluster import Failed, get, kubectl, run

EXISTING = os.environ.get("QUOTAKEEPER_CLUSTER") == "existing"
# Where pods pull the images from, such as registry.example.com/team; localhost: the nodes have them.
IMAGES = os.environ.get("QUOTAKEEPER_TEST_IMAGES", "localhost")
PULL = "Never" if IMAGES == "localhost" else "Always"
# What says that a namespace is ours.
MARK = "quotakeeper.dev/made-by-a-test"

_undone_at_the_end = []


def at_the_end(undo):
    """Registers what makes a change undone, last change first."""
    if EXISTING:
        if not _undone_at_the_end:
            atexit.register(_undo)
        _undone_at_the_end.append(undo)


def _undo():
    for undo in reversed(_undone_at_the_end):
        try:
            undo()
        except Failed as error:
            print(f"left behind: {error}")


def makes_namespace(name):
    """Says that a namespace is about to be made; refuses if somebody else has it. Returns its labels, for YAML."""
    if not EXISTING:
        return ""
    found = get("namespace", name)
    if found and MARK not in found["metadata"].get("labels", {}):
        raise Failed(f"the cluster has a namespace {name} already; take a cluster without Quotakeeper and its tests' names")
    at_the_end(lambda: kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=180s"))
    return f', {MARK}: "true"'


def installs(namespace):
    """Says that Quotakeeper is about to be installed in a namespace; refuses if it is there already."""
    if not EXISTING or get("namespace", namespace):
        if EXISTING and MARK not in get("namespace", namespace)["metadata"].get("labels", {}):
            raise Failed("Quotakeeper is installed in this cluster; take one without it")
        return
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, f"{MARK}=true")
    at_the_end(lambda: kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=true"))
    at_the_end(lambda: run("helm", "uninstall", "quotakeeper", "--namespace", namespace, "--wait", "--ignore-not-found"))
    definitions = ("apiquotas.quotakeeper.dev", "apiproviders.quotakeeper.dev")
    at_the_end(lambda: kubectl("delete", "crd", *definitions, "--ignore-not-found"))
