"""Sends requests as the SDKs of OpenAI and Anthropic write them: streams, megabytes before the model's name, forms.

Each argument is one call, and all of them begin at once. `hold:FILE` among them starts the later ones when FILE
exists. Nothing is tried again by the SDKs. Prints one JSON object: for each call "ok", or what went wrong.

  chat:MODEL          a chat completion
  image:MODEL:BYTES   a chat completion with an image; the SDK writes the model behind it
  stream:MODEL        a response as a stream
  document:MODEL:BYTES  Anthropic's messages with a document
  held:MODEL          a chat completion that is not waited for at the end
  models, batch, file:BYTES, transcription:MODEL   calls that name no model in JSON
"""

import base64
import io
import json
import os
import sys
import threading
import time

import anthropic
import openai


def chat(model, content="In one sentence: what does the company sell?"):
    messages = [{"role": "user", "content": content}]
    return client().chat.completions.create(model=model, messages=messages).choices[0].message.content


def held(model):
    return chat(model)


def image(model, size):
    url = "data:image/png;base64," + base64.b64encode(bytes(int(size) * 3 // 4)).decode()
    return chat(model, [{"type": "image_url", "image_url": {"url": url}}])


def stream(model):
    text = ""
    with client().responses.create(model=model, input="In one sentence.", stream=True) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type in ("response.failed", "error"):
                raise RuntimeError(event.type)
    return text


def document(model, size):
    data = base64.b64encode(bytes(int(size) * 3 // 4)).decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    messages = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    asked = anthropic.Anthropic(max_retries=0)
    return asked.messages.create(model=model, max_tokens=64, messages=messages).content[0].text


def models():
    return [model.id for model in client().models.list()]


def batch():
    return client().batches.retrieve("batch_1").id


def file(size):
    return client().files.create(file=("lines.jsonl", io.BytesIO(bytes(int(size)))), purpose="batch").id


def transcription(model):
    sound = ("call.mp3", io.BytesIO(bytes(1_500_000)))
    return client().audio.transcriptions.create(file=sound, model=model).text


def client():
    return openai.OpenAI(max_retries=0)


results = {}


def make(name, words):
    try:
        came = globals()[words[0]](*words[1:])
        results[name] = "ok" if came else "an empty answer"
    except Exception as error:
        results[name] = f"{type(error).__name__}: {error}"


def main():
    threads = []
    for number, argument in enumerate(sys.argv[1:]):
        words = argument.split(":")
        if words[0] == "hold":
            while not os.path.exists(words[1]):
                time.sleep(0.02)
            continue
        thread = threading.Thread(target=make, args=(f"{number} {argument}", words), daemon=True)
        thread.start()
        threads.append((words, thread))
    for words, thread in threads:
        if words[0] != "held":
            thread.join()
    print(json.dumps(results), flush=True)
    os._exit(0 if all(result == "ok" for result in results.values()) else 1)


main()
