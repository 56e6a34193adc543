"""Many clients that work off one list of calls: processes of threads, as a workflow's pods and workers are.

A program hands over how a client is made and what one call is. A call that fails is counted and not tried again: what
an SDK retries as shipped, it retries; nothing is added. At the end one JSON line tells how many calls there were and
how they went, and the exit code is 1 if any failed.
"""

import argparse
import collections
import json
import multiprocessing
import sys
import threading


def arguments(description, streams):
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser, streams)
    return parser.parse_args()


def add_arguments(parser, streams):
    parser.add_argument("--calls", type=int, required=True, help="how many calls there are to make")
    parser.add_argument("--processes", type=int, default=2, help="how many processes work at once")
    parser.add_argument("--clients", type=int, default=10, help="how many clients each process has")
    if streams:
        parser.add_argument("--stream", action="store_true", help="read the answers as streams")


def run(arguments, make_client, call):
    """`make_client()` once for each client; `call(client, number)` once for each call, raising when it failed."""
    context = multiprocessing.get_context("fork")
    taken, outcomes = context.Value("q", 0), context.Queue()

    def take():
        with taken.get_lock():
            taken.value += 1
            return taken.value

    def client_of(counts):
        client = make_client()
        while (number := take()) <= arguments.calls:
            try:
                call(client, number)
                outcome = "ok"
            except Exception as error:
                status = getattr(error, "status_code", None) or getattr(error, "status", None)
                outcome = f"{type(error).__name__} {status}" if status else type(error).__name__
            counts[outcome] += 1

    def process():
        each = [collections.Counter() for _ in range(arguments.clients)]
        threads = [threading.Thread(target=client_of, args=(counts,)) for counts in each]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcomes.put(sum(each, collections.Counter()))

    processes = [context.Process(target=process) for _ in range(arguments.processes)]
    for started in processes:
        started.start()
    counts = sum((outcomes.get() for _ in processes), collections.Counter())
    for started in processes:
        started.join()
    ok = counts.pop("ok", 0)
    print(json.dumps({"calls": arguments.calls, "ok": ok, "failed": arguments.calls - ok, "errors": counts}), flush=True)
    sys.exit(0 if ok == arguments.calls else 1)
