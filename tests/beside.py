#!/usr/bin/env -S python3 -B
"""beside.py [--at-once N] NAME COMMAND [NAME COMMAND]…: runs commands side by side, each a line of shell.

What a command prints is shown when it has ended, whole, under its name. The exit code is 1 if one of them failed; all
of them run to their end, and the failed ones are named last.
"""

import concurrent.futures
import signal
import subprocess
import sys
import tempfile
import time


class Job:
    """A command with a name that a reader knows it by."""

    def __init__(self, name, command, **options):
        self.name, self.command, self.options = name, command, options
        self.seconds, self.output, self.code, self.process = 0.0, "", None, None

    def stop(self):
        """Ends it, if it runs."""
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def run(self):
        begun = time.monotonic()
        with tempfile.TemporaryFile() as output:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            self.process = subprocess.Popen(self.command, **streams, **self.options)
            self.code = self.process.wait()
            output.seek(0)
            self.output = output.read().decode(errors="replace")
        self.seconds = time.monotonic() - begun
        return self


def show(job):
    verdict = "✓" if job.code == 0 else f"✗ exit code {job.code}"
    print(f"┌ {job.name}\n{job.output.rstrip()}\n└ {job.name}: {job.seconds:.0f} s {verdict}", flush=True)


def run(jobs, at_once=None):
    """Runs all jobs, `at_once` at a time, and prints each as it ends; whether all succeeded."""
    jobs = list(jobs)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with concurrent.futures.ThreadPoolExecutor(at_once or len(jobs) or 1) as pool:
        running = [pool.submit(job.run) for job in jobs]
        try:
            for ended in concurrent.futures.as_completed(running):
                show(ended.result())
        except BaseException:
            # Ctrl-C, or a signal: nobody is left behind.
            pool.shutdown(wait=False, cancel_futures=True)
            for job in jobs:
                job.stop()
            raise
    failed = [job.name for job in jobs if job.code != 0]
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return not failed


def main():
    words = sys.argv[1:]
    at_once = None
    if words[:1] == ["--at-once"]:
        at_once, words = int(words[1]), words[2:]
    if not words or len(words) % 2:
        sys.exit(__doc__)
    jobs = [Job(name, ["bash", "-c", command]) for name, command in zip(words[::2], words[1::2])]
    sys.exit(0 if run(jobs, at_once) else 1)


if __name__ == "__main__":
    main()
