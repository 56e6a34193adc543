"""run.py [STORY…]: the stories of this folder, or some of them, such as test_the_gate_opens, on the cluster of KUBECONFIG.

Stories that leave the installation alone run side by side: most of each is waiting for windows to pass. Those that
kill, upgrade or uninstall it say so by DISTURBS_THE_INSTALLATION and run after them, one by one. Long ones, which say
ONLY_WHEN_NAMED, are for `make soak`.
"""

import importlib
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import beside
import product
from provider import PLAYING, Provider

# More would leave the pods' programs too little of two cores to use nine tenths of a quota.
AT_ONCE = int(os.environ.get("CLUSTER_STORIES_AT_ONCE", "3"))


def says(story, word):
    return getattr(importlib.import_module(story), word, False)


def job(story, *prepared):
    environment = dict(os.environ, **{name: "1" for name in prepared})
    return beside.Job(story, [sys.executable, "-m", "unittest", "--verbose", story], cwd=HERE, env=environment)


def main():
    every = sorted(path.stem for path in HERE.glob("test_*.py"))
    stories = sys.argv[1:] or [story for story in every if not says(story, "ONLY_WHEN_NAMED")]
    disturbing = [story for story in stories if says(story, "DISTURBS_THE_INSTALLATION")]
    calm = [job(story, PLAYING, product.INSTALLED) for story in stories if story not in disturbing]
    disturbing = [job(story, PLAYING) for story in disturbing]
    provider = Provider()
    if calm:
        product.install(provider)
    held = beside.run(calm, AT_ONCE)
    sys.exit(0 if beside.run(disturbing, 1) and held else 1)


if __name__ == "__main__":
    main()
