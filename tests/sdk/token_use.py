"""Calls of an API whose tokens are counted: each allows --max-tokens of output and uses fewer, by its number.

The answers' usage, as the SDK reads it, is a part of what a call has to have. The key's variable names the account.
"""

import argparse

import anthropic
import openai

import clients


def output_of(number):
    """How much a call uses, spread over what it allows."""
    return 1 + number * 37 % 100 * arguments.uses_at_most // 100


def prompt_of(number):
    return f"What does the company of lead {number} sell? [play output={output_of(number)}]"


def messages_of(number):
    return [{"role": "user", "content": prompt_of(number)}]


def chat(client, number):
    asked = {"model": "gpt-4o-mini", "messages": messages_of(number), "max_tokens": arguments.max_tokens}
    if arguments.stream:
        with client.chat.completions.create(**asked, stream=True) as chunks:
            for chunk in chunks:
                # Nobody asked for a chunk that has no choices.
                if not chunk.choices:
                    raise ValueError("a chunk without choices")
    elif client.chat.completions.create(**asked).usage.completion_tokens != output_of(number):
        raise ValueError("another usage")


def responses(client, number):
    asked = {"model": "gpt-4o-mini", "input": prompt_of(number), "max_output_tokens": arguments.max_tokens}
    if arguments.stream:
        with client.responses.create(**asked, stream=True) as events:
            usage = [event.response.usage for event in events if event.type == "response.completed"][0]
    else:
        usage = client.responses.create(**asked).usage
    if usage.output_tokens != output_of(number):
        raise ValueError("another usage")


def embeddings(client, number):
    # As long as a page of a lead's notes.
    client.embeddings.create(model="text-embedding-3-small", input=prompt_of(number) * 5)


def messages(client, number):
    asked = {"model": "claude-haiku-4-5", "max_tokens": arguments.max_tokens, "messages": messages_of(number)}
    if arguments.stream:
        with client.messages.stream(**asked) as stream:
            usage = stream.get_final_message().usage
    else:
        usage = client.messages.create(**asked).usage
    if usage.output_tokens != output_of(number):
        raise ValueError("another usage")


CALLS = {
    "chat": (openai.OpenAI, chat),
    "responses": (openai.OpenAI, responses),
    "embeddings": (openai.OpenAI, embeddings),
    "messages": (anthropic.Anthropic, messages),
}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--api", choices=CALLS, required=True, help="which API to call")
parser.add_argument("--max-tokens", type=int, default=200, help="the output that each call allows")
parser.add_argument("--uses-at-most", type=int, default=100, help="the output that a call may use")
clients.add_arguments(parser, streams=True)
arguments = parser.parse_args()
clients.run(arguments, *CALLS[arguments.api])
