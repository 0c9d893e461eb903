// Replays the scenarios in www/learn/loop.wasm and compares the hashes of the runs with those of a
// native build: `node learn/replay.mjs PROGRAM [--wasm FILE] [--seeds N]`.
//
// Every scenario runs with every bug, as it is written and with each seed. A difference means that
// the committed file is older than the loop: run learn/build.sh. Exit codes: 0 if all hashes are
// equal, 1 if not.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { loadEngine } from "../www/learn/loop.js";

const SHOWN_MAX = 5;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    wasm: { type: "string", default: new URL("../www/learn/loop.wasm", import.meta.url).pathname },
    seeds: { type: "string", default: "200" },
  },
});
const program = positionals[0] ?? "target/ci/whirligig";
const seeds = Number(values.seeds);

const printed = execFileSync(program, ["zoo", "hashes", "--seeds", values.seeds], { maxBuffer: 1 << 28 });
const native = new Map();
for (const line of printed.toString().trimEnd().split("\n")) {
  const [scenario, bug] = line.split(" ");
  const key = `${scenario} ${bug}`;
  native.set(key, [...(native.get(key) ?? []), line]);
}

const engine = await loadEngine(readFileSync(values.wasm));
let [compared, panicked] = [0, 0];
const different = [];

// Compares the runs with these numbers. After a panic it continues with halves: the module cannot
// go on, and the other runs still count.
function compare(options, lines, from, count) {
  let found;
  try {
    found = engine.hashes(options, from, count);
  } catch (error) {
    if (count === 1) {
      panicked += 1;
      console.log(`left out: ${options.scenario} ${options.bug} seed ${from}: ${error.message}`);
      return;
    }
    const half = Math.floor(count / 2);
    compare(options, lines, from, half);
    compare(options, lines, from + half, count - half);
    return;
  }
  compared += count;
  for (let at = 0; at < count; at += 1) {
    if (found[at] !== lines[from + at]) different.push([lines[from + at], found[at]]);
  }
}

for (const { name } of engine.scenarios()) {
  for (const bug of ["none", ...engine.bugs().map((bug) => bug.name)]) {
    const lines = native.get(`${name} ${bug}`) ?? [];
    native.delete(`${name} ${bug}`);
    compare({ scenario: name, bug }, lines, 0, seeds + 1);
  }
}
for (const key of native.keys()) different.push([`${key}: only in the native build`, "nothing"]);

for (const [ours, theirs] of different.slice(0, SHOWN_MAX)) console.log(`native: ${ours}\nwasm:   ${theirs}`);
console.log(`${compared} hashes compared, ${different.length} differ, ${panicked} runs panic and stay native`);
if (different.length > 0) {
  console.log("www/learn/loop.wasm is out of date: run learn/build.sh and commit the result");
  process.exitCode = 1;
}
