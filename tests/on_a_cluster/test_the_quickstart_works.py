"""docs/quickstart.md on Kubernetes: its files are written and its commands run as they stand there, and what the page
shows of their output is what they print, apart from figures. The provider counts the calls of the Job."""

import json
import os
import pathlib
import re
import tempfile
import unittest

import guest
import product
from cluster import Failed, kubectl, run, until
from provider import Provider
from workloads import Job, namespace

PAGE = product.HERE.parent.parent / "docs" / "quickstart.md"
BEGIN = "\n## On Kubernetes\n"
# Of a file: where its name is said.
NAMED = re.compile(r"Save as `([^`]+)`")
CALLS = 40

# It installs anew.
DISTURBS_THE_INSTALLATION = True


def blocks(page):
    """The fenced blocks of a page: the line before, the language and the text of each."""
    for found in re.finditer(r"([^\n]*)\n+```(\w+)\n(.*?)\n```\n", page, re.DOTALL):
        yield found.groups()


def form(line):
    """A line without its figures and its exact spaces."""
    return re.sub(r"\d[\d,.]*", "N", " ".join(line.split()))


class Quickstart(unittest.TestCase):
    def setUp(self):
        if guest.EXISTING:
            self.skipTest("the page names a namespace, which somebody may have")
        self.provider = Provider()
        folder = tempfile.TemporaryDirectory(prefix="quotakeeper-quickstart-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "charts").symlink_to(product.CHART.parent)
        run("helm", "uninstall", "quotakeeper", "--namespace", product.NAMESPACE, "--wait", "--ignore-not-found")
        kubectl("delete", "namespace", "gtm", product.NAMESPACE, "--ignore-not-found", "--wait=true")
        self.environment = dict(os.environ, PATH=f"{self.programs()}:{os.environ['PATH']}")

    def programs(self):
        """Programs before the real ones: the images are there, and helm is told which they are."""
        folder = self.folder / "programs"
        folder.mkdir()
        values = self.folder / "values.json"
        values.write_text(json.dumps(product.values(self.provider)))
        real = run("which", "helm").strip()
        install = f'[ "$1" != install ] || set -- "$@" --set global.imageRegistry= --values {values}'
        for name, script in (("make", "exit 0"), ("helm", f'{install}\nexec {real} "$@"')):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return folder

    def command(self, words, shown):
        """A command of the page prints what the page shows, if not at once."""

        def printed():
            done = run("bash", "-c", f"cd {self.folder}; PATH={self.environment['PATH']}; {words}", check=False)
            lines = [form(line) for line in (done.stdout + done.stderr).splitlines()]
            lacking = [line for line in shown if form(line) not in lines]
            if done.returncode or lacking:
                raise Failed(f"exit code {done.returncode}, without {lacking}:\n{done.stdout}{done.stderr}")
            return True

        # A command that changes something is run once.
        printed() if not shown else until(f"$ {words}", printed, 60)

    def test_each_command_prints_what_the_page_shows(self):
        job, commands = None, 0
        for before, language, text in blocks(PAGE.read_text().split(BEGIN)[1]):
            if name := NAMED.search(before):
                (self.folder / name[1]).write_text(text)
                continue
            if language == "yaml":
                # The annotation of the Job.
                namespace("gtm", self.provider)
                annotation = re.search(r"\{quotakeeper.dev/quotas: (.*)\}", text)
                job = Job("gtm", "enrich", "hubspot", "enrich", 1, CALLS, clients=1, quotas=annotation[1]).start()
                continue
            for found in re.finditer(r"^\$ ((?:.*\\\n)*.*)((?:\n(?!\$ ).*)*)", text, re.MULTILINE):
                words, shown = found.groups()
                self.command(words, [line for line in shown.splitlines() if line not in ("", "…")])
                commands += 1
        self.assertEqual(job.wait(), "Complete")
        totals = self.provider.totals("enrich")
        self.assertEqual((totals["ok"], totals["over"]), (CALLS, 0), totals)
        self.assertGreaterEqual(commands, 10)


if __name__ == "__main__":
    unittest.main(verbosity=2)
