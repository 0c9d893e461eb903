// A chapter: questions that wait for a guess, and pictures of the loop at a step.
//
// The guesses are the state of the page and its address: #g=2&q1=3, where 0 is a question without
// a guess. The text of the chapter is in its page, which can be read without this file. This file
// must not know how the loop is drawn (draw.js) or where a run comes from (engine.js).

import * as draw from "./draw.js";
import { loadEngine } from "./engine.js";
import { decode, encode } from "./link.js";
import { called, lives, milliseconds } from "./names.js";
import { Runs } from "./runs.js";
import { wordsOf } from "./words.js";

const RUNS_KEPT = 12;
const NONE = 0;

const { h } = draw;
const words = wordsOf(document.documentElement.lang);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Guesses by the key of their question, from 1.
const guesses = new Map();
const forms = new Map(all("form.guess").map((form) => [form.dataset.key, form]));
const choices = (key) => all("input", forms.get(key));
const choice = (key, value) => choices(key).find((input) => input.value === String(value))?.closest("label").textContent.trim();

// The address.

// Returns the guesses of an address, and a sentence about the first part that is wrong.
function read(hash) {
  const text = hash.replace(/^#/, "");
  const found = new Map();
  let sentence = "";
  if (text === "" || isAnchor(text)) return { found, sentence };
  if (!text.includes("=")) return { found, sentence: words.badAnchor(text.slice(0, 40)) };
  for (const pair of text.split("&").filter(Boolean)) {
    const [key, value] = [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)];
    if (forms.has(key) && /^\d{1,2}$/.test(value) && Number(value) <= choices(key).length) found.set(key, Number(value));
    else if (!sentence) sentence = words.badPair(pair.slice(0, 40), [...forms.keys()].map((one) => `${one}=1..${choices(one).length}`).join(", "));
  }
  return { found, sentence };
}

function isAnchor(text) {
  return document.getElementById(text) !== null;
}

function write() {
  const pairs = [...forms.keys()].filter((key) => guesses.has(key)).map((key) => `${key}=${guesses.get(key)}`);
  history.replaceState(history.state, "", pairs.length > 0 ? `#${pairs.join("&")}` : location.pathname + location.search);
}

function open() {
  const { found, sentence } = read(location.hash);
  for (const [key, value] of found) guesses.set(key, value);
  complain(sentence);
  showGuesses();
}

function complain(text) {
  const note = document.getElementById("message") ?? h("p", { class: "note", id: "message", role: "alert" });
  if (!note.isConnected) document.querySelector(".intro").after(note);
  note.textContent = text;
  note.hidden = !text;
}

// Questions.

function prepare(key, form) {
  const status = h("p", { class: "kept", role: "status", tabindex: "-1" });
  const change = h("button", { type: "button" }, words.change);
  const skip = h("button", { type: "button" }, words.skip);
  form.append(h("p", { class: "row acts" }, h("button", { type: "submit", class: "button" }, words.guess), skip),
    h("p", { class: "row again" }, change), status);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = choices(key).find((input) => input.checked);
    if (!chosen) status.textContent = words.chooseFirst;
    else guess(key, Number(chosen.value));
  });
  skip.addEventListener("click", () => guess(key, NONE));
  change.addEventListener("click", () => {
    guesses.delete(key);
    write();
    showGuesses();
    (choices(key).find((input) => input.checked) ?? choices(key)[0]).focus();
  });
}

function guess(key, value) {
  guesses.set(key, value);
  write();
  showGuesses();
  const reveal = revealOf(key);
  const isHere = reveal === forms.get(key).nextElementSibling;
  (isHere ? reveal.querySelector(".outcome") : forms.get(key).querySelector(".kept")).focus({ preventScroll: true });
}

const revealOf = (key) => all(".reveal").find((reveal) => reveal.dataset.for === key);

function showGuesses() {
  for (const [key, form] of forms) {
    const isMade = guesses.has(key);
    const value = guesses.get(key);
    for (const input of choices(key)) if (isMade) input.checked = Number(input.value) === value;
    form.querySelector("fieldset").disabled = isMade;
    form.querySelector(".acts").hidden = isMade;
    form.querySelector(".again").hidden = !isMade;
    const isLater = revealOf(key) !== form.nextElementSibling;
    form.querySelector(".kept").textContent = isMade && isLater ? (value === NONE ? words.skippedLater : words.keptLater(choice(key, value))) : "";
    showReveal(key, value);
  }
}

// The answer is hidden until the guess is made. A reveal that does not follow its question leaves
// a line in its place.
function showReveal(key, value) {
  const reveal = revealOf(key);
  if (!reveal) return;
  const isMade = value !== undefined;
  reveal.classList.toggle("shown", isMade);
  let wait = reveal.previousElementSibling;
  if (reveal !== forms.get(key).nextElementSibling && !wait?.classList.contains("waits")) {
    const skip = h("button", { type: "button" }, words.skip);
    skip.addEventListener("click", () => {
      guess(key, NONE);
      reveal.querySelector(".outcome").focus({ preventScroll: true });
    });
    wait = h("p", { class: "row waits" }, h("span", {}, words.waits), h("a", { href: `#${forms.get(key).closest("section").id}` }, words.toQuestion), skip);
    reveal.before(wait);
  }
  if (wait?.classList.contains("waits")) wait.hidden = isMade;
  reveal.querySelector(":scope > .outcome")?.remove();
  if (!isMade) return;
  const answer = Number(forms.get(key).dataset.answer);
  const right = choice(key, answer);
  const mine = value === NONE ? words.noGuess : `✕ ${choice(key, value)}`;
  const facts = value === answer ? [[words.both, `✓ ${right}`]] : [[words.yourGuess, mine], [words.theAnswer, right]];
  reveal.prepend(h("dl", { class: "outcome", tabindex: "-1" }, facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))));
}

// Pictures of the loop.

let engine;
let runs;

// The step of another run that is the same as step n: equal so far, or else the last one of its
// time.
function sameStep(one, other, n) {
  const differs = one.lines.findIndex((line, at) => line.text !== other.lines[at]?.text || line.at_ns !== other.lines[at].at_ns);
  if (differs < 0 || n <= differs) return Math.min(n, other.steps);
  const after = other.lines.findIndex((line) => line.at_ns > one.lines[n - 1].at_ns);
  return after < 0 ? other.steps : after;
}

class Picture {
  constructor(figure) {
    this.figure = figure;
    this.link = decode(figure.dataset.link);
    this.bugs = (figure.dataset.bugs ?? "").split(" ").filter(Boolean);
    this.panes = (figure.dataset.panes ?? "slots").split(" ").filter(Boolean);
    this.n = this.link.n;
    this.#open();
    this.#build();
    this.#show();
  }

  // Opens the runs of the columns. With two, a place is a row of both logs.
  #open() {
    const { scenario, seed, sets } = this.link;
    const { versus } = this.figure.dataset;
    const of = (bug) => runs.open({ scenario, bug, seed, set: sets });
    const bugs = [this.link.bug, ...(versus ? [versus] : [])];
    this.columns = bugs.map((bug, at) => ({ ...this.columns?.[at], bug, run: of(bug) }));
    const [{ run }] = this.columns;
    this.rows = this.columns.length === 2 ? draw.aligned(run.lines, this.columns[1].run.lines) : run.lines.map((line) => [line.at_ns, line]);
    const { from, to } = this.figure.dataset;
    this.from = from === undefined ? 0 : this.#rowOf(Number(from));
    this.to = to === undefined ? this.rows.length : this.#rowOf(Number(to));
    this.row = this.#rowOf(this.n);
  }

  // The number of rows until step n of the first run, with those of the other run before the next.
  #rowOf(n) {
    const next = this.rows.findIndex(([, line]) => line?.n === n + 1);
    const row = next < 0 ? this.rows.length : next;
    return n === 0 ? 0 : row;
  }

  #positions() {
    const shown = this.rows.slice(0, this.row);
    return this.columns.map((column, at) => {
      const n = shown.findLast((row) => row[at + 1] !== undefined)?.[at + 1].n ?? 0;
      return engine.at(column.run.id, n);
    });
  }

  #build() {
    const button = (word, move) => {
      const one = h("button", { type: "button", "data-move": move }, word);
      one.addEventListener("click", () => this.move(move));
      return one;
    };
    this.tables = h("div", { lang: "en" });
    const moves = h("div", { class: "row moves", role: "group", "aria-label": words.moves },
      button(words.back, "b"), button(words.next, "n"), button(words.turn, "t"));
    const link = this.figure.querySelector("a.open");
    if (link) moves.append(link);
    this.body = h("div", { class: "pictures" },
      this.bugs.length > 0 ? this.#switch() : null,
      // Above the panes, because these change their height.
      moves,
      h("div", { class: "columns" }, this.columns.map((column) => this.#column(column))),
      h("details", {}, h("summary", {}, words.tables), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": words.tables }, this.tables)));
    this.figure.append(this.body);
    this.figure.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
      if (["b", "n", "t"].includes(event.key)) this.move(event.key);
    });
  }

  // The choice of a bug. The place in the run stays where its time is.
  #switch() {
    const name = `bug-${all("figure.loop").indexOf(this.figure)}`;
    return h("fieldset", { class: "bugs" }, h("legend", {}, words.chooseBug), this.bugs.map((bug) => {
      const input = h("input", { type: "radio", name, value: bug, checked: bug === this.link.bug });
      input.addEventListener("change", () => this.become(bug));
      return h("label", {}, input, " ", bug === "none" ? words.realLoop : words.withBug(bug));
    }));
  }

  become(bug) {
    const before = this.columns[0].run;
    const { n } = this.#positions()[0];
    this.link.bug = bug;
    this.#open();
    const { run } = this.columns[0];
    const rowOf = (step) => this.#rowOf(sameStep(before, run, step));
    const { from, to } = this.figure.dataset;
    if (from !== undefined) this.from = rowOf(Number(from));
    if (to !== undefined) this.to = rowOf(Number(to));
    this.row = Math.min(Math.max(rowOf(n), this.from), this.to);
    this.#show();
  }

  #column(column) {
    // The engine has English sentences, also on a page in another language.
    const part = (name, attributes = {}) => (column[name] = h("div", { lang: "en", ...attributes }));
    column.where = h("p", { class: "where" });
    column.sentence = h("p", { class: "sentence", lang: "en", "aria-live": "polite" });
    column.end = h("p", { class: "end", role: "status" });
    const title = this.columns.length > 1 ? h("p", { class: "which" }, column.bug === "none" ? words.realLoop : words.withBug(column.bug)) : null;
    const panes = this.panes.map((pane) => {
      column[`${pane}Title`] = h("p", { class: "pane-title" }, words.panes[pane]);
      const inner = [];
      if (pane === "turn") {
        column.log = h("ol", { class: "log", lang: "en" });
        column.scroll = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": words.log }, column.log);
        inner.push(column.scroll);
      } else if (pane === "names") {
        inner.push(part("names"), h("p", { class: "pane-title" }, words.workers), part("workers"));
      } else {
        inner.push(part(pane, { class: pane === "kernel" ? "sockets" : "slots" }));
      }
      return h("div", { class: `pane pane-${pane}` }, column[`${pane}Title`], inner);
    });
    return h("div", { class: "column" }, title, column.where, column.sentence, h("div", { class: "panes" }, panes), column.end);
  }

  move(word) {
    if (word === "b") this.row -= 1;
    else if (word === "n") this.row += 1;
    else this.row = this.#endOfTurn();
    this.row = Math.min(Math.max(this.row, this.from), this.to);
    this.#show();
  }

  // The row after the end of this or the next turn of the first run.
  #endOfTurn() {
    const ends = this.rows.findIndex(([, ...lines], at) => at >= this.row && lines.some((line) => line && /^turn \d+ end/.test(line.text)));
    return ends < 0 ? this.rows.length : ends + 1;
  }

  #show() {
    const positions = this.#positions();
    this.tables.replaceChildren();
    this.columns.forEach((column, at) => this.#showColumn(column, positions[at]));
    for (const one of all("[data-move]", this.body)) {
      const isOver = one.dataset.move === "b" ? this.row <= this.from : this.row >= this.to;
      one.setAttribute("aria-disabled", String(isOver));
    }
    this.n = positions[0].n;
    this.figure.dataset.n = String(this.n);
    this.figure.dataset.row = String(this.row);
    const link = this.figure.querySelector("a.open");
    const versus = this.columns[1]?.bug ?? null;
    if (link) link.hash = encode({ ...this.link, n: this.n, versus });
  }

  #showColumn(column, position) {
    const { lines, clients, steps } = column.run;
    const { state } = position;
    const turn = position.in_turn ? words.inTurn(position.turn) : position.turn === 0 ? words.beforeTurn : words.afterTurn(position.turn);
    column.where.replaceChildren(h("b", {}, turn), ` ${words.position(position.n, steps, milliseconds(state.at_ns))}`);
    column.sentence.textContent = position.sentence;
    const tables = this.panes.includes("turn") ? [] : [h("p", {}, lines[position.n - 1]?.text ?? "")];
    const place = () => tables[tables.push(h("div", {})) - 1];
    if (column.log) {
      draw.log(column.log, position, lines, false);
      const present = column.log.querySelector(".present");
      if (present) column.scroll.scrollTop = present.offsetTop - column.scroll.clientHeight / 2;
    }
    if (column.slots) draw.slots(column.slots, place(), position, lines, clients);
    if (column.kernel) draw.sockets(column.kernel, place(), position, capacityOf(this.link.scenario), clients);
    if (column.names) {
      const found = lives(lines, position.n);
      const who = this.link.who ?? [...found.keys()].at(-1) ?? null;
      draw.names(column.names, column.workers, place(), position, lines, who, clients);
      column.namesTitle.textContent = who ? words.placesOf(called(who, found)) : words.panes.names;
    }
    this.tables.append(...tables);
    const { end } = position;
    column.end.hidden = end === null;
    column.end.className = end?.symptom ? "end wrong" : "end";
    if (end === null) column.end.textContent = "";
    else column.end.textContent = end.symptom ? words.wrong(end.symptom.turn, milliseconds(end.symptom.at_ns), end.symptom.what) : words.right;
  }
}

let scenarios = [];

function capacityOf(name) {
  const text = scenarios.find((one) => one.name === name)?.text ?? "";
  return Number(/^socket\s+(\d+)\s+bytes/m.exec(text)?.[1] ?? draw.SOCKET_BYTES);
}

function sentenceOf(error) {
  return String(error?.message ?? error).split("\n")[0];
}

// A picture that cannot be drawn leaves a sentence; the text around it is complete without it.
function sayWhy(figure, error) {
  figure.append(h("p", { class: "note", role: "status" }, words.noPicture(sentenceOf(error).replace(/\.$/, ""), figure.dataset.link)));
}

async function drawPictures() {
  const figures = all("figure.loop");
  if (figures.length === 0) return;
  try {
    engine = await loadEngine(figures.map((figure) => decode(figure.dataset.link).scenario));
    runs = new Runs(engine, RUNS_KEPT);
    scenarios = engine.scenarios();
  } catch (error) {
    for (const figure of figures) sayWhy(figure, error);
    return;
  }
  for (const figure of figures) {
    try {
      new Picture(figure);
    } catch (error) {
      sayWhy(figure, error);
    }
  }
}

function linkSources() {
  const base = document.querySelector('meta[name="source-base"]')?.content;
  if (!base) return;
  for (const place of all(".source[data-file]")) for (const link of all("a", place)) link.href = `${base}${place.dataset.file}`;
  for (const link of all("a[data-file]")) link.href = `${base}${link.dataset.file}`;
}

for (const [key, form] of forms) prepare(key, form);
// A long line scrolls, also with the keyboard.
for (const block of all("pre.console")) block.tabIndex = 0;
open();
linkSources();
addEventListener("hashchange", () => {
  const text = location.hash.slice(1);
  // The fragment of the address belongs to the guesses.
  if (isAnchor(text)) write();
  else open();
});
drawPictures().then(() => {
  document.documentElement.dataset.ready = "yes";
});
