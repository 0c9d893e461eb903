// The engine of the stepper: loop.wasm behind functions that take and return plain values.
//
// The module is the code of the server (learn/wasm). A request is a list of fields, each with its
// length; a reply is JSON or a line of text about an error. A panic of the loop ends the module,
// because WebAssembly cannot catch it. Then the engine begins a new one and opens its runs again
// when they are used. Works in pages and in Node; knows no DOM.

// Returns an engine. `source` is a URL, a Response, or the bytes of loop.wasm.
export async function loadEngine(source) {
  return new Engine(await WebAssembly.compile(await bytesOf(source)));
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  const refused = (reason) => new Error(`loop.wasm could not be loaded: ${reason}`);
  let response;
  try {
    response = source instanceof Response ? source : await fetch(source);
  } catch (error) {
    throw refused(error.message);
  }
  if (!response.ok) throw refused(`the server answered ${response.status}`);
  return response.arrayBuffer();
}

class Engine {
  #module;
  #exports;
  // Number of modules so far. A run of an earlier one has to be opened again.
  #age = 0;
  // Runs by their number in this engine: options, number in the module, age of the module.
  #runs = new Map();
  #opened = 0;

  constructor(module) {
    this.#module = module;
    this.#begin();
  }

  // Returns the scenarios of the program: name, title, question, guesses, answer (from 1), because,
  // bugs ({bug, fails, text}), file, text.
  scenarios() {
    return this.#ask({ op: "scenarios" });
  }

  // Returns the bugs: name, what, and title and url of a public report.
  bugs() {
    return this.#ask({ op: "bugs" });
  }

  // Runs a scenario of the program, or the text of another one, and keeps the run. `set` is a list
  // such as ["batch=1"], and `guess` a number from 1. Returns {id, steps, hash, turns, operations}.
  // Throws an Error with one line of text.
  open(options) {
    const fields = { op: "open", ...fieldsOf(options), guess: options.guess };
    const opened = this.#ask(fields, options);
    const id = ++this.#opened;
    this.#runs.set(id, { fields, options, inner: opened.id, age: this.#age });
    return { ...opened, id };
  }

  // Returns the position after `n` steps: the object of docs/stepper.md, "JSON".
  at(id, n) {
    return this.#askRun("at", id, { n });
  }

  // Returns step `n`, from 1: {n, at_ns, turn, indent, kind, text, sentence, step}.
  step(id, n) {
    return this.#askRun("step", id, { n });
  }

  // Returns the steps `from` (from 1) up to and without `to`: {n, at_ns, turn, indent, kind, text}.
  lines(id, from, to) {
    return this.#askRun("lines", id, { from, to });
  }

  // Obeys commands of the terminal from step `n`. Returns the position after them, with the lines
  // that a terminal shows as `reply`. The run stays as it is: after `bug NAME` the position names
  // another one, which can be opened.
  command(id, n, commands) {
    const { position, reply } = this.#askRun("command", id, { n, commands });
    return { ...position, reply };
  }

  // Runs the seeds from `from`, `count` of them. Returns {failed, first, symptom}: the number of
  // seeds that fail, the first one or null, and its first symptom or null.
  seeds(options, from, count) {
    return this.#ask({ op: "seeds", ...fieldsOf(options), seed: null, from, count }, options);
  }

  // Returns what the examined steps `points`, a list of {step, failed}, show about a failing run:
  // {futures, points, next, decided_at, expected, sentence}. `next` is the step to examine, or null
  // after the search. `decided_at` is the deciding step (0: the beginning), or null. `expected` is
  // the number of points that the search will need.
  fate(id, points) {
    return this.#askRun("fate", id, { point: points.map(({ step, failed }) => `${step} ${failed}`) });
  }

  // Runs futures of a run: its first `n` steps, and then the chances of other seeds. Takes `count`
  // of them, from number `from`. Returns how many fail. A future fails also if its loop panics.
  futures(id, n, from, count) {
    try {
      return this.#askRun("futures", id, { n, from, count });
    } catch (error) {
      if (error.cause === undefined) throw error;
      if (count === 1) return 1;
      const half = Math.floor(count / 2);
      return this.futures(id, n, from, half) + this.futures(id, n, from + half, count - half);
    }
  }

  // Returns lines as `whirligig zoo hashes` prints them. Seed 0 is the run without a seed.
  hashes(options, from, count) {
    return this.#ask({ op: "hashes", ...fieldsOf(options), seed: null, from, count }, options);
  }

  // Reads a link to a step, as the terminal does. Returns {scenario, bug, seed, set, guess, n};
  // `seed` is a string or null.
  link(link) {
    return this.#ask({ op: "link", link });
  }

  // Forgets a run.
  close(id) {
    const run = this.#runs.get(id);
    this.#runs.delete(id);
    if (run?.age === this.#age) this.#ask({ op: "close", id: run.inner });
  }

  #begin() {
    this.#exports = new WebAssembly.Instance(this.#module, {}).exports;
    this.#age += 1;
  }

  #askRun(op, id, fields) {
    const run = this.#runs.get(id);
    if (run === undefined) throw new Error(`the run ${id} is not open`);
    if (run.age !== this.#age) {
      const { id: inner } = this.#ask(run.fields, run.options);
      Object.assign(run, { inner, age: this.#age });
    }
    return this.#ask({ op, id: run.inner, ...fields }, run.options);
  }

  #ask(fields, options = {}) {
    const request = encode(fields);
    if (request.length > REQUEST_BYTES_MAX) throw new Error("the request is too long for the engine");
    let text;
    try {
      const at = this.#exports.request(request.length) >>> 0;
      new Uint8Array(this.#exports.memory.buffer, at, request.length).set(request);
      const length = this.#exports.call() >>> 0;
      const reply = new Uint8Array(this.#exports.memory.buffer, this.#exports.reply() >>> 0, length);
      text = new TextDecoder().decode(reply);
    } catch (error) {
      this.#begin();
      throw new Error(panicSentence(options, error), { cause: error });
    }
    if (text[0] === "!") throw new Error(text.slice(1));
    return JSON.parse(text.slice(1));
  }
}

// Longest request, as in learn/wasm/src/exports.rs.
const REQUEST_BYTES_MAX = 1 << 20;

function panicSentence({ scenario, text, bug, seed }, error) {
  const options = [bug && bug !== "none" ? ` --bug ${bug}` : "", given(seed) ? ` --seed ${seed}` : ""].join("");
  const name = given(text) ? "FILE" : scenario ?? "NAME";
  return `the loop panicked, which a page cannot record (${error.message}); a terminal can: whirligig step ${name}${options}`;
}

const given = (value) => value !== undefined && value !== null;

function fieldsOf({ scenario, text, bug, seed, set }) {
  const sets = given(set) ? [set].flat() : [];
  return { scenario, text, bug, seed, set: sets };
}

// Writes fields as learn/wasm/src/request.rs reads them. Those without a value are left out.
function encode(fields) {
  const encoder = new TextEncoder();
  const parts = [];
  for (const [key, values] of Object.entries(fields)) {
    for (const value of [values].flat().filter(given)) {
      const bytes = encoder.encode(String(value));
      parts.push(encoder.encode(`${key} ${bytes.length}\n`), bytes);
    }
  }
  const request = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    request.set(part, at);
    at += part.length;
  }
  return request;
}
