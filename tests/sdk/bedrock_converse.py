"""Asks Amazon Bedrock about three leads at once, as boto3 signs such calls: models with `:` and `/` in their names,
a body that is announced by `Expect: 100-continue`, and a signed header that proxies like to change.

Prints a JSON object: how many calls got an answer, how often boto3 sent any of them again, and what went wrong.
"""

import json
import sys
import threading

import boto3
from botocore.config import Config

MODELS = [
    "anthropic.claude-haiku-4-5-20251001-v1:0",
    "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
    "amazon.nova-lite-v1:0",
]
results = {"ok": 0, "retries": 0, "errors": []}
lock = threading.Lock()


def sign_more(request, **_):
    request.headers["Accept-Encoding"] = "gzip, br"


def expect(params, **_):
    params["headers"]["Expect"] = "100-continue"


def client(number):
    config = Config(retries={"mode": "standard", "total_max_attempts": 12}, read_timeout=120)
    made = boto3.client("bedrock-runtime", region_name="eu-west-1", config=config)
    made.meta.events.register("before-sign.bedrock-runtime", sign_more)
    if number == 0:
        made.meta.events.register("before-call.bedrock-runtime", expect)
    return made


def call(made, model):
    content = [{"text": "In one sentence: what does the company sell?"}]
    try:
        answer = made.converse(modelId=model, messages=[{"role": "user", "content": content}])
        assert answer["output"]["message"]["content"][0]["text"]
        with lock:
            results["ok"] += 1
            results["retries"] += answer["ResponseMetadata"]["RetryAttempts"]
    except Exception as error:
        with lock:
            results["errors"].append(f"{type(error).__name__}: {error}")


clients = [client(number) for number in range(len(MODELS))]
threads = [threading.Thread(target=call, args=pair) for pair in zip(clients, MODELS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(results), flush=True)
sys.exit(0 if not results["errors"] else 1)
