// Recorded runs in the place of the engine: browsers load no engine for a page from a file.
//
// learn/logs.mjs makes the recordings: each scenario as it is written, with its first bug, and
// with the bugs that a chapter shows. The functions are those of loop.js. This file must not know
// what the page shows.

const NEEDS_ENGINE = "needs the engine, which browsers load only from a server. Start 'whirligig www', or use 'whirligig step' in a terminal.";

// Loads recordings as scripts, because browsers read no other files for a page from a file. They
// are those of the scenarios with these names, or all.
export async function loadRecordings(wanted) {
  await script("logs/index.js");
  const logs = globalThis.loopLogs;
  const names = logs.names.filter((name) => wanted?.includes(name) ?? true);
  await Promise.all(names.map((name) => script(`logs/${name}.js`)));
  return new Recordings({ ...logs, names });
}

function script(source) {
  return new Promise((done, failed) => {
    const element = document.createElement("script");
    // The page can be in another folder, and a script from a file does not know its own address.
    // So a style sheet beside the recordings gives that of their folder.
    element.src = new URL(source, document.querySelector('link[href$="picture.css"]').href).href;
    element.addEventListener("load", done);
    element.addEventListener("error", () => failed(new Error(`${source} could not be loaded`)));
    document.head.append(element);
  });
}

// Applies a change: [value] replaces everything, an object changes the values at its keys.
export function changed(value, change) {
  if (Array.isArray(change)) return change[0];
  const copy = Array.isArray(value) ? [...value] : { ...value };
  for (const [key, part] of Object.entries(change)) copy[key] = changed(copy[key], part);
  return copy;
}

class Recordings {
  isRecorded = true;
  #logs;
  #opened = [];

  constructor(logs) {
    this.#logs = logs;
  }

  scenarios() {
    return this.#logs.names.map((name) => this.#logs.scenarios[name].scenario);
  }

  bugs() {
    return this.#logs.bugs;
  }

  open({ scenario, text = null, bug = "none", seed = null, set = [] }) {
    const log = this.#logs.scenarios[scenario];
    if (text !== null) throw new Error(`A text of your own ${NEEDS_ENGINE}`);
    if (log === undefined) throw new Error(`No scenario '${scenario}'; allowed: ${this.#logs.names.join(", ")}`);
    if (seed !== null) throw new Error(`A seed ${NEEDS_ENGINE}`);
    if (set.length > 0) throw new Error(`Another limit ${NEEDS_ENGINE}`);
    const run = log.runs[bug];
    if (run === undefined) {
      const recorded = Object.keys(log.runs).join(", ");
      throw new Error(`The bug ${bug} ${NEEDS_ENGINE} Recorded for ${scenario}: ${recorded}.`);
    }
    const positions = [];
    for (const change of run.positions) positions.push(changed(positions.at(-1), change));
    const { hash, turns, operations } = run;
    this.#opened.push({ positions, log, scenario, bug });
    return { id: this.#opened.length, steps: positions.length - 1, hash, turns, operations };
  }

  at(id, n) {
    const { positions, log, scenario, bug } = this.#opened[id - 1];
    const { id: about, sentence, source, line, ...position } = positions[n];
    return {
      scenario, bug, seed: null, set: [], n, steps: positions.length - 1, ...position, step: { id: about },
      sentence: log.sentences[sentence], source: source === null ? null : log.sources[source],
    };
  }

  lines(id, from, to) {
    const { positions } = this.#opened[id - 1];
    const found = [];
    for (let n = Math.max(from, 1); n < Math.min(to, positions.length); n += 1) {
      const { turn, line, state } = positions[n];
      found.push({ n, at_ns: state.at_ns, turn, ...line });
    }
    return found;
  }

  // Obeys one of the moves n, e, t, b and T.
  command(id, n, word) {
    const { positions } = this.#opened[id - 1];
    const last = positions.length - 1;
    const next = (meets) => {
      let to = Math.min(n + 1, last);
      while (to < last && !meets(to)) to += 1;
      return to;
    };
    const is = (form) => (to) => form.test(positions[to].line?.text ?? "");
    const isTurnEnd = is(/^turn \d+ end/);
    const back = () => {
      let to = Math.max(n - 1, 0);
      while (to > 0 && !isTurnEnd(to)) to -= 1;
      return to;
    };
    const moves = {
      n: () => Math.min(n + 1, last),
      e: () => next(is(/^event /)),
      t: () => next(isTurnEnd),
      b: () => Math.max(n - 1, 0),
      T: back,
    };
    if (!Object.hasOwn(moves, word)) throw new Error(`A condition ${NEEDS_ENGINE}`);
    return this.at(id, moves[word]());
  }

  seeds() {
    throw new Error(`A run with a seed ${NEEDS_ENGINE}`);
  }

  fate() {
    throw new Error(`A run with other seeds ${NEEDS_ENGINE}`);
  }

  // A recording costs little, so it stays open.
  close() {}
}
