#!/usr/bin/env python3
"""sbom.py PACKAGE TRIPLE: prints the bill of materials of a program of this repository, as CycloneDX 1.6.

It has the crates that are built into the program for the target, with licences and the checksums of Cargo.lock.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def built_in(metadata, package):
    """The ids of a package and of all that it needs at run time."""
    ids = {it["name"]: it["id"] for it in metadata["packages"] if it["id"] in metadata["workspace_members"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, left = set(), [ids[package]]
    while left:
        here = left.pop()
        if here in found:
            continue
        found.add(here)
        for needed in nodes[here]["deps"]:
            # Kinds are null for normal dependencies, `build` and `dev` for others.
            if any(kind["kind"] is None for kind in needed["dep_kinds"]):
                left.append(needed["pkg"])
    return ids[package], found


def component(package, checksums):
    name, version = package["name"], package["version"]
    found = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if package["license"]:
        # Cargo once allowed a slash for OR.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if (name, version) in checksums:
        found["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    return found


def main():
    package, triple = sys.argv[1:]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", triple]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(it["name"], it["version"]): it["checksum"] for it in lock["package"] if "checksum" in it}
    root, found = built_in(metadata, package)
    packages = sorted((it for it in metadata["packages"] if it["id"] in found), key=lambda it: (it["name"], it["version"]))
    components = {it["id"]: component(it, checksums) for it in packages}
    program = {**components.pop(root), "type": "application"}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program},
        "components": list(components.values()),
    }
    json.dump(bill, sys.stdout, indent=2)
    print()


main()
