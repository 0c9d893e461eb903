// Replays the scenarios in www/learn/loop.wasm and compares the runs with those of a native build:
// `node learn/replay.mjs PROGRAM [--wasm FILE] [--seeds N]`.
//
// Every scenario runs with every bug, as it is written and with each seed, and the hashes of the runs
// must be equal. For runs as written, each step must have the same sentence, line of the source,
// state and places of names. Numbers of source lines may differ, so a line that only moves needs no
// new file. The texts of scenarios and bugs must be equal, and the step that decides a failing run.
// A difference means that the committed file is older than the loop: run learn/build.sh. Exit codes:
// 0 if everything is equal, 1 if not.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";

import { search } from "../www/learn/fate.js";
import { loadEngine } from "../www/learn/loop.js";
import { holders, lives } from "../www/learn/names.js";

const SHOWN_MAX = 5;
const SHOWN_CHARS = 1000;

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

// Runs the program. A run that does not fail has no fate, which is exit code 2.
function ask(args, input = "") {
  const ended = spawnSync(program, args, { input, maxBuffer: 1 << 28 });
  return ended.status === 0 ? ended.stdout.toString().trimEnd().split("\n") : [];
}

// Removes the numbers of source lines.
function withoutNumbers(position) {
  const { source, step } = position;
  const place = source && { ...source, line: null };
  return { ...position, source: place, step: step && { ...step, source: step.source?.replace(/:\d+$/, "") } };
}

let positions = 0;
let names = 0;
let fates = 0;
const bugs = engine.bugs();

function equal(what, ours, theirs) {
  if (isDeepStrictEqual(ours, theirs)) return;
  const [one, other] = [ours, theirs].map((value) => `${what}: ${JSON.stringify(value)}`);
  different.push([one, other]);
}

// Compares every step of a run as it is written: of a scenario of the program, or of a file with
// this text.
function comparePositions(scenario, bug, file = scenario, text = null) {
  const run = engine.open({ scenario, bug, text });
  const lines = ask(["step", file, "--bug", bug, "--json"], "n\n".repeat(run.steps));
  for (let n = 0; n <= run.steps; n += 1) {
    positions += 1;
    const [ours, theirs] = [withoutNumbers(JSON.parse(lines[n])), withoutNumbers(engine.at(run.id, n))];
    for (const key of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
      equal(`${scenario} ${bug} step ${n} ${key}`, ours[key], theirs[key]);
    }
  }
  comparePlaces(file, bug, run);
  engine.close(run.id);
}

// Compares the places that hold a name, which names.js finds for pages: `w NAME` of the terminal.
function comparePlaces(scenario, bug, run) {
  const lines = engine.lines(run.id, 1, run.steps + 1);
  const known = (n) => [...lives(lines, n).keys()];
  const steps = Array.from({ length: run.steps + 1 }, (_, n) => n);
  const commands = steps.flatMap((n) => known(n).map((id) => `at ${n} w ${id}\n`));
  const printed = ask(["step", scenario, "--bug", bug, "--color", "never"], commands.join("")).join("\n");
  const native = printed.split("\nThe name ").slice(1).map((block) => block.matchAll(/^  ([a-z]+) +(held|-) /gm));
  const shown = native.map((rows) => [...rows].map(([, place, mark]) => [place, mark === "held"]));
  let at = 0;
  for (const n of steps) {
    for (const id of known(n)) {
      const places = holders(engine.at(run.id, n), lives(lines, n), id).map(({ place, holds }) => [place, holds]);
      equal(`${scenario} ${bug} step ${n}: places of ${id}`, shown[at], places);
      at += 1;
    }
  }
  names += at;
}

// Compares the step that decides a run, for the run as written, or else for the first seed that fails.
async function compareFate(scenario, bug) {
  for (const seed of [null, engine.seeds({ scenario, bug }, 1, seeds || 1).first]) {
    const [native] = ask(["zoo", "fate", scenario, "--bug", bug, "--json", ...(seed === null ? [] : ["--seed", String(seed)])]);
    if (native === undefined) continue;
    fates += 1;
    const run = engine.open({ scenario, bug, seed });
    const { line } = await search(engine, run, { isStopped: () => false, onProgress: () => {} });
    equal(`fate of ${scenario} ${bug} seed ${seed}`, JSON.parse(native).fate, line);
    engine.close(run.id);
    return;
  }
}

// No scenario of the program lets a job wait for a worker.
const WAITS = `workers 1
route /a job 5ms responds "a"
client alice
  0ms connects
  0ms sends GET /a
client bob
  0ms connects
  1ms sends GET /a
expect alice receives 200 "a"
expect bob receives 200 "a"
`;
const folder = mkdtempSync(join(tmpdir(), "whirligig-replay-"));
writeFileSync(join(folder, "waits.txt"), WAITS);
comparePositions("waits", "none", join(folder, "waits.txt"), WAITS);
rmSync(folder, { recursive: true });

const listed = ask(["zoo", "list"]);
equal("bugs", listed.filter((line) => !line.startsWith(" ")), bugs.map(({ name }) => name));
// The program breaks long lines.
const list = listed.join(" ").replace(/\s+/g, " ");
for (const { name, what, title } of bugs) {
  const entry = `${name} ${what} as in "${title}"`.replace(/\s+/g, " ");
  equal(`what ${name} does`, list.includes(entry) ? entry : list, entry);
}
for (const { name, text, bugs: notes } of engine.scenarios()) {
  equal(`text of ${name}`, readFileSync(new URL(`../www/learn/scenarios/${name}.txt`, import.meta.url)).toString(), text);
  comparePositions(name, "none");
  for (const { bug } of notes.filter(({ fails }) => fails)) comparePositions(name, bug);
  for (const { name: bug } of bugs) await compareFate(name, bug);
}

const shown = (text) => (text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)} ..` : text);
for (const [ours, theirs] of different.slice(0, SHOWN_MAX)) console.log(`native: ${shown(ours)}\nwasm:   ${shown(theirs)}`);
console.log(`compared: ${compared} hashes, ${positions} positions, ${names} names, ${fates} fates; ${different.length} differ, ${panicked} runs panic and stay native`);
if (different.length > 0) {
  console.log("www/learn/loop.wasm is out of date: run learn/build.sh and commit the result");
  process.exitCode = 1;
}
