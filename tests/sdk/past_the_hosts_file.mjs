// Calls a URL by got with a resolver of its own: cacheable-lookup asks DNS and reads /etc/hosts only where that knows
// nothing. The DNS server is here, too: it knows one name. Then it waits until a file exists.
//
//   node past_the_hosts_file.mjs URL KEY ADDRESS FILE     ADDRESS: what DNS says of the URL's host

import dgram from "node:dgram";
import { promises as dns } from "node:dns";
import { existsSync } from "node:fs";

import CacheableLookup from "cacheable-lookup";
import got from "got";

const [url, key, address, file] = process.argv.slice(2);
const TYPE_A = 1;

// An answer to one question (RFC 1035 §4.1): the address, or no record of another type.
function answer(question) {
  let end = 12;
  while (question[end] !== 0) end += question[end] + 1;
  const type = question.readUInt16BE(end + 1);
  const found = type === TYPE_A ? 1 : 0;
  const head = Buffer.from([question[0], question[1], 0x81, 0x80, 0, 1, 0, found, 0, 0, 0, 0]);
  const record = Buffer.from([0xc0, 12, 0, TYPE_A, 0, 1, 0, 0, 0, 60, 0, 4, ...address.split(".").map(Number)]);
  return Buffer.concat([head, question.subarray(12, end + 5), ...(found ? [record] : [])]);
}

const server = dgram.createSocket("udp4");
server.on("message", (question, from) => server.send(answer(question), from.port, from.address));
await new Promise((listening) => server.bind(0, "127.0.0.1", listening));

const resolver = new dns.Resolver();
resolver.setServers([`127.0.0.1:${server.address().port}`]);
const dnsCache = new CacheableLookup({ resolver });
for (let call = 0; call < 3; call += 1) {
  const response = await got(url, { dnsCache, headers: { authorization: `Bearer ${key}` } });
  console.log(response.statusCode);
}
while (!existsSync(file)) await new Promise((again) => setTimeout(again, 50));
server.close();
