// Calls a URL by undici's fetch from a dozen clients at once, which announce a timeout of ten minutes and give up after
// three seconds. After a 429 a client comes back when Retry-After says, as SDKs do; after a timeout at once.
//
//   node impatient_fetch.mjs URL KEY ANSWERS
//
// Ends when so many answers have come since a call was last given up, or after two minutes. Prints a JSON object.

import { setTimeout as sleep } from "node:timers/promises";

import { Agent, fetch, setGlobalDispatcher } from "undici";

const [url, key, wanted] = process.argv.slice(2);
const headers = { authorization: `Bearer ${key}`, "x-stainless-timeout": "600" };
const ends = Date.now() + 120_000;
let answered = 0;
let refused = 0;
let givenUp = 0;
let inARow = 0;

setGlobalDispatcher(new Agent({ headersTimeout: 3000 }));

const isOver = () => inARow >= Number(wanted) || Date.now() > ends;

async function call() {
  try {
    const response = await fetch(url, { headers });
    await response.text();
    if (response.status === 200) {
      answered += 1;
      inARow += 1;
    } else {
      refused += 1;
      await sleep(1000 * Number(response.headers.get("retry-after") ?? 1));
    }
  } catch (error) {
    if (error.cause?.code !== "UND_ERR_HEADERS_TIMEOUT") throw error;
    givenUp += 1;
    inARow = 0;
  }
}

async function client() {
  while (!isOver()) await call();
}

await Promise.all(Array.from({ length: 12 }, client));
console.log(JSON.stringify({ answered, refused, givenUp, inARow }));
process.exitCode = inARow >= Number(wanted) ? 0 : 1;
