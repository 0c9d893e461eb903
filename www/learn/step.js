// The stepper in a page: the question of a scenario, a guess, and the run step by step.
//
// The engine is the code of the server, compiled to WebAssembly (loop.js), or recordings of it
// (recorded.js). This file keeps the state of the page, which is also its address, and must not
// know how things are drawn.

import * as draw from "./draw.js";
import { loadEngine } from "./engine.js";
import * as fate from "./fate.js";
import { LINK_CHARS_MAX, decode, encode, number, pack, start, unpack } from "./link.js";
import { called, lives, milliseconds } from "./names.js";
import { Runs } from "./runs.js";

const FIRST = "stale-answer";
const SEEDS = 500;
const SEEDS_AT_ONCE = 10;
const RUNS_KEPT = 6;

const at = (id) => document.getElementById(id);
const isEmbedded = document.documentElement.classList.contains("embed");
// The pane of an embedded page.
const PANES = ["turn", "slots", "kernel", "names"];
const asked = new URLSearchParams(location.search).get("pane");
document.documentElement.dataset.pane = PANES.includes(asked) ? asked : "slots";

let engine;
let runs;
let scenarios = [];
let bugs = [];
// Text of an edited scenario, or null.
let ownText = null;
// What the address contains.
let state = start(FIRST);
let run = null;
let position = null;
// The run beside it, if there is one.
let other = null;
let hasBegun = false;
// Number of the task that may still change the page; an older one gives up.
let task = 0;

function complain(text) {
  at("message").textContent = text;
  at("message").hidden = !text;
}

// Runs.

function optionsOf(bug) {
  return { scenario: state.scenario, text: ownText, bug, seed: state.seed, set: state.sets, guess: state.guess };
}

// Opens a run. Throws the sentence of the engine.
function open(bug) {
  return runs.open(optionsOf(bug));
}

// Number of first steps that two runs share.
function shared(one, two) {
  let same = 0;
  while (same < one.length && same < two.length && one[same].text === two[same].text && one[same].at_ns === two[same].at_ns) same += 1;
  return same;
}

// Opens the run of a changed state. On an error the page keeps the state before.
function become(next, { text = ownText, keepPlace = false } = {}) {
  const before = { state, text: ownText };
  const lines = run?.lines;
  [state, ownText] = [next, text];
  try {
    const opened = open(state.bug);
    other = state.versus === null ? null : open(state.versus);
    if (keepPlace && lines) state.n = Math.min(state.n, shared(lines, opened.lines));
    if (keepPlace && lines && opened !== run) {
      at("found").textContent = `Both runs are equal until step ${shared(lines, opened.lines)}.`;
    }
    run = opened;
    if (state.n > run.steps) {
      complain(`Step ${state.n} does not exist; this run has ${run.steps} steps. You are at the last one.`);
      state.n = run.steps;
    }
    position = engine.at(run.id, state.n);
  } catch (error) {
    state = before.state;
    ownText = before.text;
    throw error;
  }
}

// Shows.

function scenario() {
  if (ownText !== null) return { name: state.scenario, ...questionOf(ownText) };
  return scenarios.find((one) => one.name === state.scenario) ?? { name: state.scenario, title: "", question: "", guesses: [] };
}

// Reads the lines about the question; the engine has checked the text.
function questionOf(text) {
  const all = (word) => text.split("\n").filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length).trim());
  return { title: all("title").join(" "), question: all("question").join(" "), guesses: all("guess") };
}

function showQuestion() {
  const { title, question, guesses } = scenario();
  at("title").textContent = title || state.scenario;
  at("question").textContent = question;
  at("guess-list").replaceChildren(...guesses.map((guess, index) => draw.h("label", { class: "guess" },
    draw.h("input", { type: "radio", name: "guess", value: String(index + 1), checked: state.guess === index + 1 }), ` ${guess}`)));
  const asks = !hasBegun && !isEmbedded;
  at("guesses").hidden = !asks;
  at("guess-list").parentElement.hidden = guesses.length === 0;
  at("no-guess").hidden = guesses.length === 0;
  at("guessed").hidden = asks || guesses.length === 0;
  at("guessed-text").textContent = state.guess === null ? "You have made no guess." : `Your guess: ${guesses[state.guess - 1] ?? state.guess}.`;
  at("guess-again").textContent = state.guess === null ? "Make a guess" : "Change the guess";
  at("scenario").value = ownText === null ? state.scenario : "";
  at("main").classList.toggle("asks", asks);
  at("run").hidden = asks;
  at("switches").hidden = asks;
  at("ask").hidden = false;
}

function valueOfSet(name) {
  return state.sets.find((set) => set.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
}

function showSwitches() {
  at("bug").value = state.bug;
  at("versus").value = state.versus ?? "";
  at("seed").value = state.seed ?? "";
  at("batch").value = valueOfSet("batch");
  at("budget").value = valueOfSet("budget");
  const bug = bugs.find(({ name }) => name === state.bug);
  at("bug-about").replaceChildren(...(bug ? [`${bug.what} A public report of this mistake: `, draw.h("a", { href: bug.url }, bug.title), bug.gloss ? ` (${bug.gloss}).` : "."] : ["This is the real loop."]));
  for (const option of at("bug").options) {
    const breaks = scenario().bugs?.some((one) => one.bug === option.value && one.fails);
    if (option.value !== "none") option.textContent = breaks ? `${option.value} (fails here)` : option.value;
  }
  at("facts").textContent = `This run: ${run.steps} steps, ${run.turns} turns, ${run.operations} operations. Hash: ${run.hash}`;
}

function names() {
  const found = [...lives(run.lines, state.n).values()];
  return found.map(({ id, client }) => ({ id, client }));
}

// Returns the selected name, or the one that the last step is about.
function selectedName() {
  const all = names();
  if (state.who !== null) return state.who;
  for (let n = state.n; n > 0; n -= 1) {
    const id = engine.at(run.id, n).step?.id;
    if (id && all.some((one) => one.id === id)) return id;
  }
  return all.at(-1)?.id ?? null;
}

function showPosition() {
  const { lines, clients } = run;
  draw.phases(at("phases"), position, lines);
  draw.log(at("log"), position, lines, at("whole").checked);
  draw.slots(at("slots"), at("slots-table"), position, lines, clients);
  draw.sockets(at("sockets"), at("sockets-table"), position, capacity(), clients);
  const who = selectedName();
  at("who").replaceChildren(draw.h("option", { value: "" }, "of the last step"),
    ...names().map(({ id, client }) => draw.h("option", { value: id }, client ? `${id} (${client})` : id)));
  if (state.who !== null && !names().some(({ id }) => id === state.who)) at("who").append(draw.h("option", { value: state.who }, state.who));
  at("who").value = state.who ?? "";
  draw.names(at("holders"), at("workers"), at("names-table"), position, lines, who, clients);
  at("pane-names-title").textContent = who ? `Who holds ${called(who, lives(lines, state.n))}` : "Who holds a name";

  const bug = state.bug === "none" ? "" : `, with ${state.bug}`;
  at("now-title").textContent = position.in_turn ? `Turn ${position.turn}${bug}` : position.turn === 0 ? `Before turn 1${bug}` : `After turn ${position.turn}${bug}`;
  at("sentence").textContent = position.sentence;
  showSource();
  at("position").textContent = `Step ${state.n} of ${run.steps}, ${milliseconds(position.state.at_ns)}`;
  at("slider").max = String(run.steps);
  at("slider").value = String(state.n);
  at("slider").setAttribute("aria-valuetext", `step ${state.n} of ${run.steps}, turn ${position.turn}`);
  for (const button of document.querySelectorAll("[data-move]")) {
    const isBack = "bT".includes(button.dataset.move);
    button.setAttribute("aria-disabled", String(isBack ? state.n === 0 : state.n === run.steps));
  }
  showEnd();
  showComparison();
  // The present step stays in sight without a move of the page itself.
  const box = at("log-box");
  const present = at("log").querySelector(".present");
  if (present) box.scrollTop = present.offsetTop - box.clientHeight / 2;
}

function showSource() {
  const { source } = position;
  at("source").hidden = source === null;
  if (source === null) return;
  const base = document.querySelector('meta[name="source-base"]').content;
  const place = `${source.file}:${source.line}`;
  at("place").replaceChildren(base ? draw.h("a", { href: `${base}${source.file}#L${source.line}` }, place) : place);
  at("line").textContent = source.text.trim();
}

function showEnd() {
  const { end } = position;
  at("end").hidden = end === null;
  if (end === null) return at("end").replaceChildren();
  const { guesses } = scenario();
  const answer = end.answer === null ? null : guesses[end.answer - 1];
  const parts = [draw.h("h3", {}, "The run is over")];
  if (answer) {
    const isRight = state.guess === end.answer;
    parts.push(draw.h("dl", { class: "outcome" },
      draw.h("dt", {}, "Your guess"), draw.h("dd", {}, state.guess === null ? "none" : `${isRight ? "✓" : "✕"} ${guesses[state.guess - 1] ?? state.guess}`),
      draw.h("dt", {}, state.bug === "none" ? "The answer" : "The answer for the real loop"), draw.h("dd", {}, answer)));
    parts.push(draw.h("p", {}, end.because));
  }
  parts.push(draw.h("p", { class: end.symptom ? "symptom" : null }, end.symptom
    ? `✕ Went wrong first: turn ${end.symptom.turn}, ${milliseconds(end.symptom.at_ns)}: ${end.symptom.what}`
    : "✓ Everything that the scenario expects has happened."));
  at("end").replaceChildren(...parts);
  if (end.symptom && !isEmbedded) {
    const button = draw.h("button", { type: "button" }, "When was it decided?");
    button.addEventListener("click", () => {
      at("fate-title").scrollIntoView({ block: "start" });
      if (!isSearching && searched !== run) whenDecided();
    });
    at("end").append(draw.h("p", {}, button));
  }
}

function showComparison() {
  at("compare").hidden = other === null;
  if (other === null) return;
  const title = (bug) => (bug === "none" ? "the real loop" : `with ${bug}`);
  const isEnd = state.n === run.steps;
  // The real loop is on the left.
  const isMineLeft = other.bug !== "none";
  const [left, right] = isMineLeft ? [run, other] : [other, run];
  if (other.rowsWith !== run) [other.rowsWith, other.rows] = [run, draw.aligned(left.lines, right.lines)];
  const isMineShown = (line) => line !== undefined && line.n <= state.n;
  const isOtherShown = (line) => line !== undefined && (isEnd || (state.n > 0 && line.at_ns <= position.state.at_ns));
  const isShown = isMineLeft ? [isMineShown, isOtherShown] : [isOtherShown, isMineShown];
  const heads = [title(left.bug), title(right.bug)];
  draw.compare(at("compare-box"), other.rows, isShown, heads, state.n, isMineLeft ? 1 : 2);
  const same = shared(run.lines, other.lines);
  const isSame = same === run.steps && same === other.steps;
  let text = `Left: ${heads[0]}. Right: ${heads[1]}. `;
  if (isSame) text += "Both runs are equal.";
  else if (state.n > same) text += `They are equal until step ${same}; ≠ marks each difference.`;
  else text += "They have been equal until here.";
  if (isEnd) {
    const [real, broken] = [left, right].map((one) => engine.at(one.id, one.steps).end?.symptom?.what ?? "nothing went wrong");
    text += ` At the end on the left: ${real}. On the right: ${broken}.`;
  }
  at("compare-text").textContent = text;
  const box = at("compare-box");
  box.scrollTop = box.scrollHeight;
}

// Writes the state into the address, without an entry in the history for each step.
function writeLink() {
  let link = encode(state);
  if (link.length > LINK_CHARS_MAX) {
    complain(`This scenario is too long for a link; allowed: ${LINK_CHARS_MAX} characters.`);
    link = encode({ ...state, packed: null });
  }
  if (location.hash !== link) history.replaceState(null, "", link);
  at("whole-page").href = `step.html${link}`;
}

function show() {
  showQuestion();
  showSwitches();
  showPosition();
  forgetFate();
  writeLink();
  if (!at("text").value) at("text").value = scenarioText();
}

// Text of the scenario, which the editor shows.
function scenarioText() {
  return ownText ?? scenario().text ?? "";
}

function capacity() {
  return Number(/^socket\s+(\d+)\s+bytes/m.exec(scenarioText())?.[1] ?? draw.SOCKET_BYTES);
}

// Acts.

function attempt(act) {
  try {
    complain("");
    act();
    show();
    return true;
  } catch (error) {
    complain(sentenceOf(error));
    return false;
  }
}

function sentenceOf(error) {
  return String(error?.message ?? error).split("\n")[0];
}

function goTo(n) {
  attempt(() => {
    at("found").textContent = "";
    state.n = Math.min(Math.max(n, 0), run.steps);
    position = engine.at(run.id, state.n);
  });
}

function move(word) {
  if (!hasBegun) return;
  const n = state.n;
  try {
    complain("");
    at("found").textContent = "";
    goTo(engine.command(run.id, n, word).n);
    if (word.startsWith("u ") && state.n === n) at("found").textContent = `No step after ${n} meets: ${word.slice(2)}`;
  } catch (error) {
    at("found").textContent = sentenceOf(error);
  }
}

function until() {
  const condition = at("condition").value.trim();
  if (condition) move(`u ${condition}`);
  else at("found").textContent = "Write a condition, such as stale or op=read.";
}

function begin(guess) {
  hasBegun = true;
  if (attempt(() => become({ ...state, guess }))) at("now-title").scrollIntoView({ block: "nearest" });
  document.querySelector('[data-move="n"]').focus({ preventScroll: true });
}

function choose() {
  const isDone = attempt(() => {
    const next = { ...state, bug: at("bug").value, versus: at("versus").value || null };
    next.seed = at("seed").value.trim() === "" ? null : number(`seed=${at("seed").value}`, at("seed").value.trim(), 0);
    next.sets = state.sets.filter((set) => !/^(batch|budget)=/.test(set));
    for (const name of ["batch", "budget"]) {
      const value = at(name).value.trim();
      if (value !== "") next.sets.push(`${name}=${number(`${name}=${value}`, value, 1)}`);
    }
    become(next, { keepPlace: true });
  });
  // Recordings have no other run, so the choice does not wait for a correction.
  if (!isDone && engine.isRecorded) showSwitches();
}

async function runText() {
  const text = at("text").value;
  const mine = ++task;
  at("text-error").textContent = "";
  try {
    const packed = await pack(text);
    if (mine !== task) return;
    become({ ...start("own"), packed }, { text });
    hasBegun = !scenario().question;
    complain("");
    show();
    at("title").focus();
  } catch (error) {
    at("text-error").textContent = sentenceOf(error);
  }
}

async function manySeeds() {
  const button = at("seeds");
  if (button.dataset.busy) {
    task += 1;
    return;
  }
  const mine = ++task;
  const options = { ...optionsOf(state.bug) };
  const progress = at("progress");
  button.dataset.busy = "yes";
  button.textContent = "Stop";
  progress.hidden = false;
  let [done, failed, first, symptom] = [0, 0, null, ""];
  const title = state.bug === "none" ? "The real loop" : `The loop with ${state.bug}`;
  try {
    while (done < SEEDS && mine === task) {
      const part = engine.seeds(options, done + 1, SEEDS_AT_ONCE);
      failed += part.failed;
      if (first === null && part.failed > 0) [first, symptom] = [part.first, part.symptom];
      done += SEEDS_AT_ONCE;
      progress.value = done;
      // The page stays usable between two pieces of work.
      await new Promise((resume) => setTimeout(resume));
    }
    const link = first === null ? null : draw.h("a", { href: encode({ ...state, seed: first, n: 0 }) }, `Open seed ${first}`);
    const result = failed === 0 ? `${title} fails in none of ${done} seeds.` : `${title} fails in ${failed} of ${done} seeds. First in seed ${first}: ${symptom}. `;
    at("seeds-text").replaceChildren(result, ...(link ? [link] : []));
  } catch (error) {
    at("seeds-text").textContent = sentenceOf(error);
  }
  delete button.dataset.busy;
  button.textContent = `Run ${SEEDS} seeds here`;
  progress.hidden = true;
}

// Run that is searched, or was, for the step that decides it.
let searched = null;
let isSearching = false;

async function whenDecided() {
  if (isSearching) {
    searched = null;
    return;
  }
  const mine = run;
  [searched, isSearching] = [mine, true];
  const isStopped = () => searched !== mine || run !== mine;
  at("fate").textContent = "Stop";
  at("fate-text").textContent = "";
  at("fate-box").hidden = true;
  at("fate-progress").value = 0;
  at("fate-progress").hidden = false;
  try {
    const onProgress = (share) => { at("fate-progress").value = share; };
    const { line, isLate } = await fate.search(engine, mine, { isStopped, onProgress });
    if (run === mine) showFate(line, isLate);
  } catch (error) {
    if (run === mine) at("fate-text").textContent = sentenceOf(error);
  }
  isSearching = false;
  at("fate").textContent = "When was it decided?";
  at("fate-progress").hidden = true;
}

function showFate(line, isLate) {
  const linkTo = (n) => encode({ ...state, n });
  const step = line.decided_at;
  const link = step ? [" ", draw.h("a", { href: linkTo(step), id: "fate-link" }, `Open step ${step}`)] : [];
  at("fate-text").replaceChildren(isLate ? "The time for the search is over. " : "", line.sentence, ...link);
  at("fate-box").hidden = line.points.length < 2;
  at("fate-chart").replaceChildren(fate.chart(line, run.steps));
  at("fate-table").replaceChildren(fate.rows(line, run.lines, linkTo));
}

// Forgets the result for another run.
function forgetFate() {
  if (searched === run) return;
  at("fate-text").textContent = "";
  at("fate-box").hidden = true;
}

// Opens what the address says. A bad link leaves a sentence, and the page goes on.
async function openLink() {
  const mine = ++task;
  let sentence = "";
  let next = start(FIRST);
  let text = null;
  try {
    if (location.hash.length > 1) next = decode(location.hash);
    if (next.packed !== null) text = await unpack(next.packed);
    if (mine !== task) return;
    complain("");
    at("found").textContent = "";
    at("text").value = "";
    become(next, { text });
  } catch (error) {
    sentence = sentenceOf(error);
    if (mine !== task) return;
    if (run === null) become(start(FIRST), { text: null });
  }
  if (!sentence) hasBegun = state.n > 0 || state.guess !== null || state.bug !== "none" || isEmbedded;
  show();
  if (sentence) complain(sentence);
}

function listen() {
  at("scenario").addEventListener("change", () => {
    const name = at("scenario").value;
    if (!name) return;
    at("text").value = "";
    hasBegun = false;
    attempt(() => become(start(name), { text: null }));
  });
  at("guesses").addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = new FormData(at("guesses")).get("guess");
    if (chosen === null && scenario().guesses.length > 0) return complain("Choose a guess first, or begin without one.");
    begin(chosen === null ? null : Number(chosen));
  });
  at("no-guess").addEventListener("click", () => begin(null));
  at("guess-again").addEventListener("click", () => {
    hasBegun = false;
    showQuestion();
    at("guess-list").querySelector("input")?.focus();
  });
  for (const button of document.querySelectorAll("[data-move]")) button.addEventListener("click", () => move(button.dataset.move));
  at("until").addEventListener("submit", (event) => {
    event.preventDefault();
    until();
  });
  at("slider").addEventListener("input", () => goTo(Number(at("slider").value)));
  at("whole").addEventListener("change", showPosition);
  at("who").addEventListener("change", () => attempt(() => { state.who = at("who").value || null; }));
  at("choices").addEventListener("submit", (event) => {
    event.preventDefault();
    choose();
  });
  for (const id of ["bug", "versus"]) at(id).addEventListener("change", choose);
  at("seeds").addEventListener("click", manySeeds);
  at("fate").addEventListener("click", whenDecided);
  at("run-text").addEventListener("click", runText);
  at("drop-text").addEventListener("click", () => {
    at("text").value = "";
    at("text-error").textContent = "";
    const name = ownText === null ? state.scenario : FIRST;
    attempt(() => become(start(name), { text: null }));
  });
  addEventListener("hashchange", openLink);
  at("skip").addEventListener("click", (event) => {
    // The fragment of the address belongs to the state.
    event.preventDefault();
    at("main").focus();
  });
  addEventListener("keydown", (event) => {
    if (!at("keys").checked || event.ctrlKey || event.metaKey || event.altKey || !hasBegun) return;
    const inText = event.target.closest?.("textarea, select, input:not([type=range], [type=checkbox], [type=radio])");
    if (inText) return;
    if (["n", "e", "t", "b", "T"].includes(event.key)) move(event.key);
    else if (event.key === "u") {
      event.preventDefault();
      until();
    }
  });
}

function fillLists() {
  at("scenario").replaceChildren(...scenarios.map(({ name }) => draw.h("option", { value: name }, name)), draw.h("option", { value: "" }, "edited text"));
  const options = () => bugs.map(({ name }) => draw.h("option", { value: name }, name));
  at("bug").replaceChildren(draw.h("option", { value: "none" }, "none (the real loop)"), ...options());
  at("versus").replaceChildren(draw.h("option", { value: "" }, "nothing"), draw.h("option", { value: "none" }, "the real loop"), ...options());
}

async function main() {
  try {
    engine = await loadEngine();
    runs = new Runs(engine, RUNS_KEPT);
  } catch (error) {
    complain(`The loop could not be loaded (${sentenceOf(error)}). The page needs loop.js and loop.wasm beside it, and WebAssembly. In a terminal, 'whirligig step' does the same work.`);
    return;
  }
  document.documentElement.classList.toggle("recorded", engine.isRecorded === true);
  scenarios = engine.scenarios();
  bugs = engine.bugs();
  fillLists();
  listen();
  await openLink();
}

main();
