"""record_what_people_see.py FILE: brings faults about while Jobs call, and writes into FILE, between its markers, what
kubectl and the metrics said of each after 5, 15 and 60 seconds. It is no test: it judges nothing."""

import pathlib
import re
import subprocess
import sys
import threading
import time

import faults
import product
import recording
from cluster import kubectl
from provider import Provider
from workloads import namespace

MARKERS = re.compile(r"(<!-- begin record -->\n).*(<!-- end record -->)", re.DOTALL)
SIDE_BY_SIDE = (
    faults.Edited, faults.Conflicting, faults.Deleted, faults.Paused, faults.Overloaded, faults.Stopped, faults.Spent,
    faults.Impatient,
)


def main():
    page = pathlib.Path(sys.argv[1])
    provider = Provider()
    product.install(provider)
    namespace(faults.NAMESPACE, provider)
    quotas = quotas_faults([fault(provider) for fault in SIDE_BY_SIDE])
    records = [*installations_faults(provider), *quotas]
    text = "\n".join([heading(), "", *recording.summary(records), *(line for each in records for line in recording.section(each))])
    page.write_text(MARKERS.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page.read_text()))
    print(text)


def heading():
    commit = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return f"Recorded on {recording.now():%-d %B %Y} with commit `{commit}`."


def quotas_faults(begun):
    """Those of a quota or its provider: side by side, begun a little apart, because a look takes a second."""
    for fault in begun:
        fault.prepare()
    watches = [threading.Thread(target=fault.watch) for fault in begun]
    for watch in watches:
        watch.start()
        time.sleep(1.5)
    for watch in watches:
        watch.join()
    records = [fault.record() for fault in begun]
    for fault in begun:
        fault.job.delete()
    return records


def installations_faults(provider):
    """Those that concern every quota: one after the other."""
    away, forgotten = faults.LimiterAway(provider), faults.Forgotten(provider)
    away.prepare()
    forgotten.prepare()
    away.watch()
    forgotten.watch()
    records = [away.record(), forgotten.record()]
    unattended = faults.Unattended(provider)
    unattended.prepare()
    unattended.watch()
    records.append(unattended.record())
    faults.scale("operator", 2)
    opened = faults.Opened(provider)
    opened.prepare()
    opened.watch()
    kubectl("--namespace", product.NAMESPACE, "delete", "configmap", "quotakeeper-gate")
    records.append(opened.record())
    return records


if __name__ == "__main__":
    main()
