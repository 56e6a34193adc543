#!/usr/bin/env python3
"""values_matter.py CHART VALUES: each value of the chart's schema changes what is rendered. VALUES sets every value to
another than the default; without one of them the outcome has to differ."""

import concurrent.futures
import copy
import functools
import json
import pathlib
import subprocess
import sys

SEVERAL_LIMITERS = {"limiter.persistence.enabled": False, "limiter.replicas": 3}
# What has to be otherwise for a value to matter.
BESIDE = {
    "image.tag": {"image.digest": ""},
    "proxy.image.tag": {"proxy.image.digest": ""},
    "crds.keep": {"crds.enabled": True},
    "limiter.ledger.sizeLimit": {"limiter.persistence.enabled": False},
    "limiter.replicas": {"limiter.persistence.enabled": False},
    "limiter.leaseSeconds": SEVERAL_LIMITERS,
    "limiter.offlinePercent": SEVERAL_LIMITERS,
    "limiter.offlineSeconds": SEVERAL_LIMITERS,
    "limiter.podDisruptionBudget.enabled": SEVERAL_LIMITERS,
    "limiter.podDisruptionBudget.maxUnavailable": SEVERAL_LIMITERS | {"limiter.podDisruptionBudget.enabled": True},
    "operator.podDisruptionBudget.maxUnavailable": {"operator.podDisruptionBudget.enabled": True},
    "uninstall.timeoutSeconds": {"uninstall.openGate": True},
}
PERSISTENCE = "limiter.persistence."
CHART_OF_CLAIM = ("storageClass", "accessModes", "size", "annotations")


def leaves(schema, definitions, path=()):
    """The paths of the values. A map whose keys are free is one value."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    properties = schema.get("properties")
    if not properties or path[-1:] == ("claims",):
        yield path
    else:
        for name, value in properties.items():
            yield from leaves(value, definitions, path + (name,))


def put(values, path, value):
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


def drop(values, path):
    for name in path[:-1]:
        values = values[name]
    del values[path[-1]]


@functools.cache
def rendered(chart, values):
    """What helm makes of values, given as JSON."""
    command = ["helm", "template", "quotakeeper", chart, "--namespace", "quotakeeper", "--kube-version", "1.36", "--values", "-"]
    return subprocess.run(command, input=values, text=True, capture_output=True, check=True).stdout


def problem(chart, everything, path):
    """What is wrong with a value, if anything."""
    name = ".".join(path)
    values = copy.deepcopy(everything)
    beside = dict(BESIDE.get(name, {}))
    if name.startswith(PERSISTENCE) and path[-1] in CHART_OF_CLAIM:
        beside["limiter.persistence.existingClaim"] = ""
    for other, value in beside.items():
        put(values, other.split("."), value)
    without = copy.deepcopy(values)
    try:
        drop(without, path)
    except KeyError:
        return f"{name} is not set by the values that set everything"
    if rendered(chart, json.dumps(values)) == rendered(chart, json.dumps(without)):
        return f"{name} changes nothing"
    return None


def main():
    chart, values = sys.argv[1:]
    schema = json.loads((pathlib.Path(chart) / "values.schema.json").read_text())
    everything = json.loads(pathlib.Path(values).read_text())
    # Claims of resources are the container's alone, and quantities of the sidecar are one map each.
    paths = [path for path in leaves(schema, schema["definitions"]) if path[-1] != "claims"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        problems = [each for each in pool.map(lambda path: problem(chart, everything, path), paths) if each]
    print("\n".join(problems) or f"{len(paths)} values matter")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
