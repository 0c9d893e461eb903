// Makes the files that the stepper's page and the chapters need where browsers refuse their engine,
// as they do for pages from a file: `node learn/logs.mjs`.
//
// - www/learn/logs/*.js: recorded runs. Each scenario has a file with the run as written, the run
//   with its first bug, and those with the bugs that a chapter shows. Each position is a change of
//   the one before it.
// - www/learn/file.js: the modules of these pages as one script, because browsers load no modules
//   from files.
//
// Run it after learn/build.sh, after a change of a module of these pages, and after a change of a
// picture of a chapter. Tests compare the files with the program and the modules.

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

import { loadEngine } from "../www/learn/loop.js";

const learn = new URL("../www/learn/", import.meta.url);
const BYTES_MAX = 600000;

// Recorded runs.

// Returns the change that makes `to` of `from`, as recorded.js applies it, or undefined.
function change(from, to) {
  if (isDeepStrictEqual(from, to)) return undefined;
  const isObject = (value) => typeof value === "object" && value !== null;
  const haveSameKeys = isObject(from) && isObject(to) && Array.isArray(from) === Array.isArray(to)
    && isDeepStrictEqual(Object.keys(from), Object.keys(to));
  if (!haveSameKeys) return [to];
  const parts = Object.keys(to).map((key) => [key, change(from[key], to[key])]).filter(([, part]) => part !== undefined);
  return Object.fromEntries(parts);
}

// A list of values, each of them once.
class Table {
  values = [];

  placeOf(value) {
    const found = this.values.findIndex((other) => isDeepStrictEqual(other, value));
    return found < 0 ? this.values.push(value) - 1 : found;
  }
}

function recorded(engine, scenario, bug, sentences, sources) {
  const run = engine.open({ scenario, bug });
  const lines = engine.lines(run.id, 1, run.steps + 1);
  const positions = [];
  let before = {};
  for (let n = 0; n <= run.steps; n += 1) {
    const { turn, in_turn, phase, step, sentence, source, state, end } = engine.at(run.id, n);
    const { at_ns, indent, kind, text } = lines[n - 1] ?? {};
    if (n > 0 && at_ns !== state.at_ns) throw new Error(`${scenario} ${bug}: step ${n} has two times`);
    const now = {
      turn, in_turn, phase, id: step?.id ?? null, state, end,
      sentence: sentences.placeOf(sentence), source: source && sources.placeOf(source),
      line: n === 0 ? null : { indent, kind, text },
    };
    positions.push(change(before, now) ?? {});
    before = now;
  }
  const { hash, turns, operations } = run;
  return { hash, turns, operations, positions };
}

// Returns the bugs that the pictures of the chapters show in a scenario.
function shownBugs(scenario) {
  const bugs = [];
  for (const name of readdirSync(learn).filter((one) => one.endsWith(".html"))) {
    for (const [figure] of readFileSync(new URL(name, learn)).toString().matchAll(/<figure class="loop"[^>]*>/g)) {
      const value = (key) => new RegExp(` ${key}="([^"]*)"`).exec(figure)?.[1] ?? "";
      const link = new URLSearchParams(value("data-link").slice(1).replaceAll("&amp;", "&"));
      if (link.get("s") === scenario) bugs.push(link.get("bug"), value("data-versus"), ...value("data-bugs").split(" "));
    }
  }
  return bugs.filter(Boolean);
}

// Classic scripts.

// Modules of the pages, each after those that it imports. Recordings take the place of the engine.
const MODULES = ["names.js", "draw.js", "link.js", "runs.js", "fate.js", "recorded.js", "words.js"];
// The modules that begin a page.
const PAGES = ["chapter.js", "step.js"];
const INSTEAD = 'import { loadEngine } from "./engine.js";';
const TAKEN = "const { loadRecordings: loadEngine } = recordedModule;";

// Returns a module as a function. It is called at once, unless it begins a page.
function script(name) {
  const [imports, exports, body] = [[], [], []];
  for (const line of readFileSync(new URL(name, learn)).toString().trimEnd().split("\n")) {
    const imported = /^import (?:\* as (\w+)|(\{.*\})) from "\.\/(\w+)\.js";$/.exec(line);
    const exported = /^export ((?:async function|function|class|const) (\w+).*)$/.exec(line);
    if (line === INSTEAD) imports.push(TAKEN);
    else if (imported) imports.push(`const ${imported[1] ?? imported[2]} = ${imported[3]}Module;`);
    else if (exported) {
      exports.push(exported[2]);
      body.push(exported[1]);
    } else if (/^(import|export)\b|import\.meta|^}? from /.test(line)) throw new Error(`${name}: the line is not understood: ${line}`);
    else body.push(line);
  }
  const variable = `${name.replace(".js", "")}Module`;
  const [begin, end] = PAGES.includes(name) ? ["() => {", "};"] : ["(() => {", "})();"];
  return [`const ${variable} = ${begin}`, ...imports, ...body, `return { ${exports.join(", ")} };`, end, ""].join("\n");
}

// Returns a value as JSON, with a line for each position and each sentence. A change of the loop then
// changes few lines.
function json(log) {
  const list = (values) => `[\n${values.map((value) => JSON.stringify(value)).join(",\n")}\n]`;
  const object = (value, write) => `{${Object.entries(value).map(([key, part]) => `${JSON.stringify(key)}:${write(part, key)}`).join(",")}}`;
  const run = (value) => object(value, (part, key) => (key === "positions" ? list(part) : JSON.stringify(part)));
  return object(log, (part, key) => (key === "runs" ? object(part, run) : Array.isArray(part) ? list(part) : JSON.stringify(part)));
}

function write(name, text) {
  writeFileSync(new URL(name, learn), text);
  return Buffer.byteLength(text);
}

const engine = await loadEngine(readFileSync(new URL("loop.wasm", learn)));
const logs = new URL("logs/", learn);
mkdirSync(logs, { recursive: true });
for (const name of readdirSync(logs)) rmSync(new URL(name, logs));
const scenarios = engine.scenarios();
const index = { names: scenarios.map(({ name }) => name), bugs: engine.bugs(), scenarios: {} };
let bytes = write("logs/index.js", `// Made by learn/logs.mjs.\nglobalThis.loopLogs = ${JSON.stringify(index)};\n`);
for (const scenario of scenarios) {
  const { name, bugs } = scenario;
  const [sentences, sources] = [new Table(), new Table()];
  const first = bugs.filter(({ fails }) => fails).slice(0, 1).map(({ bug }) => bug);
  const names = [...new Set(["none", ...first, ...shownBugs(name)])];
  const runs = Object.fromEntries(names.map((bug) => [bug, recorded(engine, name, bug, sentences, sources)]));
  const log = { scenario, sentences: sentences.values, sources: sources.values, runs };
  bytes += write(`logs/${name}.js`, `// Made by learn/logs.mjs.\nglobalThis.loopLogs.scenarios[${JSON.stringify(name)}] = ${json(log)};\n`);
}
console.log(`www/learn/logs: ${scenarios.length + 1} files, ${bytes} bytes`);
if (bytes > BYTES_MAX) {
  console.error(`learn/logs.mjs: at most ${BYTES_MAX} bytes are allowed`);
  process.exitCode = 1;
}

const head = '// Made by learn/logs.mjs of the modules beside it, for step.html and chapters from a file.\n"use strict";\n\nfunction begin() {\n';
const foot = 'if (document.querySelector("main.chapter")) chapterModule();\nelse stepModule();\n}\n\nif (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);\nelse begin();\n';
console.log(`www/learn/file.js: ${write("file.js", head + [...MODULES, ...PAGES].map(script).join("\n") + foot)} bytes`);
