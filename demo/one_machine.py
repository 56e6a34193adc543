"""`make demo`: a naive program against a quota, and the same program under Quotakeeper, on this machine alone.

A provider that counts for itself plays the API. Every figure at the end was counted by it in this run; the exit code
is 1 if what is claimed did not happen. Nothing but this machine's loopback is spoken to.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE.parent / "tests" / "sdk"
LEADS = 350
FORCED_AFTER = 150
RETRY_AFTER_SECONDS = 5
# What may have been granted before the 429 was heard. Without a pause fifty more would come.
IN_FLIGHT = 20

RULES = """
providers:
  hubspot:
    answerMillis: 20
    limits:
    - {name: tried, count: 100, windowMillis: 10000, countedAs: Sliding}
    - {name: daily, count: 250000, windowMillis: 86400000, countedAs: Fixed, endpoint: "*"}
  openai:
    answerMillis: 20
    limits:
    - {name: tried, count: 100, windowMillis: 10000, countedAs: Sliding}
"""

HUBSPOT = """apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: hubspot}
spec:
  provider: {name: hubspot, tier: free}
"""

OPENAI = """apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: openai}
spec:
  provider: {name: openai, tier: tier-1}
  limits:
  - {name: requests, unit: Requests, amount: 100, windowSeconds: 10}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder with quotakeeper and counting-provider")
    parser.add_argument("--sdk", type=pathlib.Path, required=True, help="folder that tests/sdk/install.sh printed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quotakeeper-demo-") as folder:
        sys.exit(0 if Demo(arguments, pathlib.Path(folder)).run() else 1)


class Provider:
    """The counting provider as a process, and questions to its control port."""

    def __init__(self, program, folder, https):
        self.ca = folder / "provider-ca.pem"
        ready, rules = folder / "ready.json", folder / "rules.yaml"
        rules.write_text(RULES)
        options = {"https": https, "http": "127.0.0.1:0", "control": "127.0.0.1:0", "rules": rules, "ready": ready}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words = [str(program), *words, "--ca-out", str(self.ca)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        while not ready.exists():
            if self.process.poll() is not None:
                raise OSError(f"the counting provider ended with {self.process.returncode}")
            time.sleep(0.02)
        addresses = json.loads(ready.read_text())
        self.https, self.http, self.control = addresses["https"], addresses["http"], addresses["control"]

    def ask(self, path, order=None):
        data = None if order is None else json.dumps(order).encode()
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{self.control}{path}", data) as answer:
            return answer.read().decode()

    def totals(self, account):
        return json.loads(self.ask(f"/summary?account={account}"))["totals"]

    def counted(self, account):
        """What the provider's log says of an account."""
        summary = json.loads(self.ask(f"/summary?account={account}"))
        log = sorted(map(json.loads, self.ask(f"/log?account={account}").splitlines()), key=lambda e: e["arrivalNanos"])
        arrivals = [entry["arrivalNanos"] / 1e9 for entry in log]
        forced = next((i for i, entry in enumerate(log) if entry["verdict"] == "forced"), None)
        until = None if forced is None else arrivals[forced] + RETRY_AFTER_SECONDS
        asked_to_wait = 0 if until is None else sum(at < until for at in arrivals[forced + 1 :])
        tried = next(limit for limit in summary["limits"] if limit["limit"] == "tried")
        return {**summary["totals"], "most": tried["largestSliding"], "during": asked_to_wait, "took": arrivals[-1] - arrivals[0]}


class Demo:
    def __init__(self, arguments, folder):
        self.folder, self.quotakeeper = folder, arguments.bin / "quotakeeper"
        self.python = arguments.sdk / "python" / "bin" / "python"
        program = arguments.bin / "counting-provider"
        self.by_host, why = True, ""
        if os.geteuid() != 0:
            self.by_host, why = False, "not root"
        elif subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
            self.by_host, why = False, "no mount namespace can be had"
        # 127.0.x.y with port 443: the name alone leads there, as it would lead to the real one.
        https = f"127.0.{os.getpid() % 200 + 20}.200:443" if self.by_host else "127.0.0.1:0"
        if not self.by_host:
            print(f"HubSpot's SDK knows no base-URL variable, and {why}: OpenAI's SDK is shown instead.\n")
        self.provider = Provider(program, folder, https)

    def run(self):
        try:
            return self.show()
        finally:
            self.provider.process.terminate()
            self.provider.process.wait()

    def show(self):
        name, script = ("HubSpot", "hubspot_contacts.py") if self.by_host else ("OpenAI", "openai_chat.py")
        # The OpenAI SDK tries three times: it takes more clients at once to see it fail.
        clients = 4 if self.by_host else 60
        words = [str(self.python), str(PROGRAMS / script), "--calls", str(LEADS), "--processes", "5", "--clients", str(clients)]
        said = f"python {script} --calls {LEADS} --processes 5 --clients {clients}"
        quota = self.folder / f"{name.lower()}.yaml"
        quota.write_text(HUBSPOT if self.by_host else OPENAI)

        print(f"{name} allows 100 calls in 10 seconds. {LEADS} leads are to be enriched, by five processes at once.")
        print(f"The program is a plain one, with {name}'s own SDK.\n")
        print(f"WITHOUT QUOTAKEEPER\n$ {said}", flush=True)
        naive = self.alone(words)
        print(f"exit code {naive}\n")

        print(f"WITH QUOTAKEEPER: nothing is changed but for one file, {quota.name}:\n")
        print("".join(f"    {line}\n" for line in quota.read_text().splitlines()))
        print(f"$ quotakeeper run -f {quota.name} -- {said}", flush=True)
        kept = self.kept(quota, words)
        print(f"exit code {kept}\n")
        return self.table(naive, kept)

    def alone(self, words):
        if self.by_host:
            hosts = self.folder / "hosts"
            hosts.write_text(f"127.0.0.1 localhost\n{self.provider.https.split(':')[0]} api.hubapi.com\n")
            words = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts), *words]
            own = {"SSL_CERT_FILE": str(self.provider.ca)}
        else:
            own = {"OPENAI_BASE_URL": f"http://{self.provider.http}/v1"}
        return subprocess.run(words, env=self.environment("naive", own), stdin=subprocess.DEVNULL).returncode

    def kept(self, quota, words):
        options = ["-f", str(quota), "--report", str(self.folder / "report.json"), "--state", str(self.folder / "state"), "--upstream-ca", str(self.provider.ca)]
        for host in ("api.hubapi.com", "api.openai.com"):
            options += ["--resolve", f"{host}:443:{self.provider.https}"]
        running = subprocess.Popen(
            [str(self.quotakeeper), "run", *options, "--", *words], env=self.environment("kept", {}), stdin=subprocess.DEVNULL
        )
        threading.Thread(target=self.force_in_the_middle, args=(running,), daemon=True).start()
        return running.wait()

    def force_in_the_middle(self, running):
        while running.poll() is None and self.provider.totals("kept")["ok"] < FORCED_AFTER:
            time.sleep(0.02)
        if running.poll() is None:
            self.provider.ask("/force", {"account": "kept", "retryAfter": str(RETRY_AFTER_SECONDS)})
            clear = "\r\x1b[2K" if sys.stderr.isatty() else ""
            print(f"{clear}-- the provider rejects the next call: 429, Retry-After: {RETRY_AFTER_SECONDS} --", file=sys.stderr)

    def environment(self, account, own):
        names = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
        inherited = {name: value for name, value in os.environ.items() if name not in names}
        # Two accounts, so that neither run meets what the other has used.
        return {**inherited, "HUBSPOT_ACCESS_TOKEN": account, "OPENAI_API_KEY": account, **own}

    def table(self, naive, kept):
        before, after = self.provider.counted("naive"), self.provider.counted("kept")
        rows = [
            ("calls answered", before["ok"], after["ok"]),
            ("rejected, over the quota (429)", before["over"], after["over"]),
            ("rejected because this demo asked for it", before["forced"], after["forced"]),
            (f"calls that came in the {RETRY_AFTER_SECONDS} s after that", "-", after["during"]),
            ("most calls within any 10 s", before["most"], after["most"]),
            ("from the first call to the last", f"{before['took']:.1f} s", f"{after['took']:.1f} s"),
            ("the program's exit code", naive, kept),
        ]
        print(f"{'COUNTED BY THE PROVIDER':42}{'without':>10}{'with Quotakeeper':>20}")
        for row in rows:
            print(f"{row[0]:42}{row[1]:>10}{row[2]:>20}")
        report = json.loads((self.folder / "report.json").read_text())
        late = sum(account["breaches"] for account in report["accounts"])
        claims = {
            "without Quotakeeper the program fails": naive != 0 and before["over"] > 0 and before["ok"] < LEADS,
            "with it every lead is enriched": kept == 0 and after["ok"] == LEADS,
            "with it nothing is over the quota": after["over"] == 0,
            "the forced 429 pauses everybody": after["forced"] == 1 and after["during"] < IN_FLIGHT,
        }
        print()
        for claim, held in claims.items():
            print(f"{'yes' if held else 'NO ':4}{claim}")
        if late:
            print(f"{late} calls left this machine later than the bound that the promise rests on: was it very busy?")
        return all(claims.values())


main()
