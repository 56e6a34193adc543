// Asks OpenAI's chat completions about one lead after another. OPENAI_API_KEY names the account.
// The same as openai_chat.py, in one process: so many clients at once, one JSON line at the end, exit code 1 if any
// call failed.

import { parseArgs } from "node:util";

import OpenAI from "openai";

const { values } = parseArgs({
  options: {
    calls: { type: "string" },
    clients: { type: "string", default: "20" },
    stream: { type: "boolean", default: false },
  },
});
const calls = Number(values.calls);
if (!Number.isInteger(calls)) throw new Error("--calls N says how many calls there are to make");

async function call(client, number) {
  const messages = [
    { role: "user", content: `In one sentence: what does the company of lead ${number} sell?` },
  ];
  const asked = { model: "gpt-4o-mini", messages };
  let text = "";
  if (values.stream) {
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? "";
    }
  } else {
    text = (await client.chat.completions.create(asked)).choices[0].message.content;
  }
  if (!text) throw new Error("an empty answer");
}

let taken = 0;
let ok = 0;
const errors = {};

async function client() {
  const openai = new OpenAI();
  while (++taken <= calls) {
    try {
      await call(openai, taken);
      ok += 1;
    } catch (error) {
      const outcome = error.status ? `${error.constructor.name} ${error.status}` : error.constructor.name;
      errors[outcome] = (errors[outcome] ?? 0) + 1;
    }
  }
}

await Promise.all(Array.from({ length: Number(values.clients) }, client));
console.log(JSON.stringify({ calls, ok, failed: calls - ok, errors }));
process.exitCode = ok === calls ? 0 : 1;
