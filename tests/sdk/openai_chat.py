"""Asks OpenAI's chat completions about one lead after another. OPENAI_API_KEY names the account."""

import openai

import clients

arguments = clients.arguments(__doc__, streams=True)


def call(client, number):
    messages = [{"role": "user", "content": f"In one sentence: what does the company of lead {number} sell?"}]
    if arguments.stream:
        with client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True) as chunks:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    else:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        text = answer.choices[0].message.content
    if not text:
        raise ValueError("an empty answer")


clients.run(arguments, openai.OpenAI, call)
