"""Plays Amazon Bedrock with TLS and verifies each request's signature by botocore's own signer, as AWS does by its own.

Writes its port to a file when it listens, and a JSON line for each request to another: path, verdict, arrival. The
verdict is "ok", "expired" (the date is further from now than the window) or what differs from what was signed.
"""

import argparse
import hashlib
import http.server
import json
import ssl
import threading
import time
from datetime import datetime, timezone

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--certificate", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--port-file", required=True)
parser.add_argument("--log", required=True)
parser.add_argument("--secret", required=True, help="the secret access key of all clients")
parser.add_argument("--window", type=float, required=True, help="seconds for which a signature is good")
options = parser.parse_args()

CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "It sells rockets."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14},
    "metrics": {"latencyMs": 1},
}
log_lock = threading.Lock()


def verdict(method, target, headers, body):
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme != "AWS4-HMAC-SHA256":
        return "not signed"
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    key, _day, region, service, _end = fields["Credential"].split("/")
    date = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    if abs(time.time() - date.timestamp()) > options.window:
        return "expired"
    if hashlib.sha256(body).hexdigest() != headers.get("x-amz-content-sha256", hashlib.sha256(body).hexdigest()):
        return "another body"
    request = AWSRequest(method, f"https://{headers['host']}{target}", data=body)
    for name in fields["SignedHeaders"].split(";"):
        for value in headers.get_all(name, []):
            request.headers[name] = value
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(key, options.secret), service, region)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    return "ok" if signature == fields["Signature"] else f"another signature of {canonical!r}"


class Bedrock(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        arrived = time.time()
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        found = verdict(self.command, self.path, self.headers, body)
        line = {"path": self.path, "verdict": found, "arrived": arrived, "expect": self.headers.get("expect")}
        with log_lock, open(options.log, "a") as log:
            log.write(json.dumps(line) + "\n")
        if found == "ok":
            self.answer(200, CONVERSED, None)
        else:
            self.answer(403, {"message": f"Signature not accepted: {found}"}, "InvalidSignatureException")

    def answer(self, status, body, error):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if error:
            self.send_header("x-amzn-errortype", error)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_words):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bedrock)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(options.certificate, options.key)
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(options.port_file, "w") as file:
    file.write(f"{server.server_address[1]}\n")
server.serve_forever()
