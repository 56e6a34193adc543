"""Debian's Prometheus beside a cluster: it scrapes what the pods say and evaluates the chart's alerts."""

import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import urllib.parse
import urllib.request

import product
from cluster import run, until

HERE = pathlib.Path(__file__).parent
FILES = product.CHART / "files"
DEBIAN = HERE.parent / "cluster" / "debian.sh"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Prometheus:
    """Scrapes pods each second, through the API server. The alerts need not last to fire: what they last is promtool's
    part."""

    def __init__(self, pods):
        """`pods`: each with its port of metrics."""
        self.folder = tempfile.TemporaryDirectory()
        self.processes = []
        api = free_port()
        self.start(["kubectl", "proxy", "--port", str(api)])
        rules = pathlib.Path(self.folder.name) / "alerts.yaml"
        rules.write_text(re.sub(r"^    for: .*\n", "", (FILES / "alerts.yaml").read_text(), flags=re.MULTILINE))
        path = "/api/v1/namespaces/{namespace}/pods/{name}:%d/proxy/metrics"
        jobs = [
            {"job_name": pod["metadata"]["name"], "honor_labels": True, "metrics_path": path.format(**pod["metadata"]) % port,
             "static_configs": [{"targets": [f"127.0.0.1:{api}"], "labels": {"pod": pod["metadata"]["name"]}}]}
            for pod, port in pods
        ]
        times = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        # JSON is YAML too.
        config = pathlib.Path(self.folder.name) / "prometheus.yaml"
        config.write_text(json.dumps({"global": times, "rule_files": [str(rules)], "scrape_configs": jobs}))
        self.address = f"127.0.0.1:{free_port()}"
        program = pathlib.Path(run(DEBIAN, "prometheus").strip()) / "usr" / "bin" / "prometheus"
        data = pathlib.Path(self.folder.name) / "data"
        self.start([program, f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={self.address}"])
        until("Prometheus scrapes", lambda: self.query("sum(up)") and self.query("quotakeeper_limiter_active == 1"))

    def start(self, command):
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with open(pathlib.Path(self.folder.name) / f"log-{len(self.processes)}", "w") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        self.folder.cleanup()

    def ask(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, text):
        """What an expression finds now."""
        return self.ask("query", query=text)["result"]

    def firing(self, alertname, **labels):
        """The alerts of a name that fire, with these labels."""
        alerts = self.ask("alerts")["alerts"]
        labels["alertname"] = alertname
        matches = lambda alert: all(alert["labels"].get(key) == value for key, value in labels.items())
        return [each for each in alerts if each["state"] == "firing" and matches(each)]
