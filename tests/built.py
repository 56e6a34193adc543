#!/usr/bin/env -S python3 -B
"""built.py [--at-once N] TARGET… [-- ARGUMENT…]: runs test targets, several side by side, with arguments of libtest.

TARGET is PACKAGE:NAME or PACKAGE:KIND, where * stands for anything and a leading ! leaves out what earlier ones chose.
NAME is that of a file or folder in the package's folder tests, of the library (with _ for -), or of a program; KIND is
test, lib or bin. Examples:

    tests/built.py quotakeeper-proxy:proxy -- hosts_mode
    tests/built.py '*:*' '!quotakeeper:test'

All tests of the workspace are built, always together: with `cargo test -p` cargo chooses other features of the
dependencies for each selection of packages, and compiles the workspace again for each.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import subprocess
import sys

import beside

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Target:
    """A program of tests, and the package's folder, which it runs in."""

    def __init__(self, artifact):
        self.folder = pathlib.Path(artifact["manifest_path"]).parent
        owner, target = package(artifact["package_id"]), artifact["target"]
        self.name, self.kind = f"{owner}:{target['name']}", f"{owner}:{target['kind'][0]}"
        self.program = artifact["executable"]
        self.environment = dict(os.environ, CARGO_MANIFEST_DIR=str(self.folder))

    def matches(self, pattern):
        return any(fnmatch.fnmatchcase(word, pattern) for word in (self.name, self.kind))


def package(identity):
    """The name in `path+file:///…/crates/api#quotakeeper-api@0.1.0`, or `path+file:///…/api#0.1.0` for a folder api."""
    place, version = identity.rsplit("#", 1)
    return version.split("@")[0] if "@" in version else place.rsplit("/", 1)[1]


def build():
    """Builds all tests of the workspace; a list of targets."""
    words = ("cargo", "test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics")
    cargo = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if cargo.returncode != 0:
        sys.exit(cargo.returncode)
    messages = map(json.loads, cargo.stdout.splitlines())
    artifacts = (each for each in messages if each["reason"] == "compiler-artifact")
    return [Target(each) for each in artifacts if each["profile"]["test"] and each["executable"]]


def chosen(targets, patterns):
    """The targets that the patterns choose; each pattern that chooses nothing is a mistake."""
    wanted = []
    for pattern in patterns:
        found = [each for each in targets if each.matches(pattern.removeprefix("!"))]
        if not found:
            sys.exit(f"no test target {pattern}; there are: {' '.join(sorted(each.name for each in targets))}")
        if pattern.startswith("!"):
            wanted = [each for each in wanted if each not in found]
        else:
            wanted += [each for each in found if each not in wanted]
    return wanted


def main():
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("targets", nargs="+")
    options, arguments = parser.parse_args(words[:split]), words[split + 1 :]
    targets = chosen(build(), options.targets)
    if len(targets) == 1:
        [only] = targets
        os.chdir(only.folder)
        os.execve(only.program, [only.program, *arguments], only.environment)
    jobs = [beside.Job(each.name, [each.program, *arguments], cwd=each.folder, env=each.environment) for each in targets]
    sys.exit(0 if beside.run(jobs, options.at_once) else 1)


if __name__ == "__main__":
    main()
