"""Asks Anthropic's messages API about one lead after another. ANTHROPIC_API_KEY names the account."""

import anthropic

import clients

arguments = clients.arguments(__doc__, streams=True)


def call(client, number):
    messages = [{"role": "user", "content": f"In one sentence: what does the company of lead {number} sell?"}]
    asked = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": messages}
    if arguments.stream:
        with client.messages.stream(**asked) as stream:
            text = "".join(stream.text_stream)
    else:
        text = client.messages.create(**asked).content[0].text
    if not text:
        raise ValueError("an empty answer")


clients.run(arguments, anthropic.Anthropic, call)
