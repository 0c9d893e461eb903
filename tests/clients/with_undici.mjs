// Tests the server with Node's fetch (undici): `node with_undici.mjs http://127.0.0.1:PORT`.

import assert from "node:assert";

const base = process.argv[2];
const get = (path, more = {}) => fetch(base + path, { signal: AbortSignal.timeout(40_000), ...more });
const bytes = async (got) => Buffer.from(await got.arrayBuffer());

for (let round = 0; round < 10; round += 1) {
  const answers = await Promise.all(Array.from({ length: 50 }, async () => (await get("/hello.txt")).text()));
  assert(answers.every((text) => text === "hello, world\n"));
}

const whole = await bytes(await get("/big.bin"));
assert.equal(whole.length, 20 * 1024 * 1024);
const part = await get("/big.bin", { headers: { range: "bytes=-1000" } });
assert.equal(part.status, 206);
assert((await bytes(part)).equals(whole.subarray(-1000)));

const first = await get("/hello.txt");
await first.text();
const again = await get("/hello.txt", { headers: { "if-none-match": first.headers.get("etag") } });
assert.equal(again.status, 304);
assert.equal((await bytes(again)).length, 0);

const moved = await get("/tree?json");
assert(moved.redirected && moved.url.endsWith("/tree/?json"));
assert(JSON.stringify(await moved.json()).includes("一个文件.txt"));

const content = whole.subarray(0, 2_000_000);
assert((await bytes(await get("/api/echo", { method: "POST", body: content }))).equals(content));
const stream = new ReadableStream({
  start(controller) {
    for (let at = 0; at < content.length; at += 60_000) controller.enqueue(content.subarray(at, at + 60_000));
    controller.close();
  },
});
assert((await bytes(await get("/api/echo", { method: "PUT", body: stream, duplex: "half" }))).equals(content));

// A client that leaves in the middle must not affect the next.
const leave = new AbortController();
const left = await fetch(base + "/big.bin", { signal: leave.signal });
await left.body.getReader().read();
leave.abort();
assert.equal((await get("/nothing")).status, 404);
