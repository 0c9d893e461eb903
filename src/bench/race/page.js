// The race: receives the report and its changes, asks for a guess in each scenario, and shows the
// figures beside it.
//
// The figures of a scenario stay hidden until the reader has guessed or has asked for them.

// Attempts to connect again before the page gives up.
const LOSSES_MAX = 3;
// A guess is good if it is at most this factor off.
const NEAR = 1.25;

const NAMES = { faster: "reactor", slower: "threads", "no-difference": "no difference" };

// Rows of the table: name, key of the figure, and format.
const ROWS = [
  ["Responses per second", "rate", grouped],
  ["Service time, median (p50)", "p50_us", time],
  ["Service time, 99 of 100 (p99)", "p99_us", time],
  ["Processor time per response", "cpu_us_each", (us) => `${us.toFixed(2)} µs`],
  ["Context switches per response", "switches_each", (count) => count.toFixed(3)],
  ["Threads", "threads", grouped],
];

const at = (id) => document.getElementById(id);

let report = null;
// A card for each scenario, with the guess: undefined while the reader has not decided, null if
// the figures were asked for without one.
let cards = [];
let isOver = false;

// Makes an element.
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function s(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Writes text only if it has changed, so that nothing is announced twice.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function grouped(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

function time(us) {
  if (us < 10) return `${us.toFixed(1)} µs`;
  if (us < 1e3) return `${us.toFixed(0)} µs`;
  if (us < 1e4) return `${(us / 1e3).toFixed(2)} ms`;
  if (us < 1e6) return `${(us / 1e3).toFixed(0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

const runsOf = (scenario) => scenario.sides.reduce((sum, side) => sum + side.runs.length, 0);

// Events.

function start() {
  let losses = 0;
  const source = new EventSource("events");
  source.addEventListener("report", (event) => {
    losses = 0;
    const isFirst = report === null;
    report = JSON.parse(event.data);
    if (isFirst) makePage();
    showAll();
  });
  source.addEventListener("noise", (event) => {
    report.noise = JSON.parse(event.data);
    showRace();
  });
  source.addEventListener("scenario", (event) => {
    const change = JSON.parse(event.data);
    report.scenarios[change.at] = change.scenario;
    showCard(cards[change.at], change.scenario);
    showRace();
  });
  source.addEventListener("over", () => {
    isOver = true;
    source.close();
    if (report !== null) showAll();
  });
  source.addEventListener("error", () => {
    losses += 1;
    if (losses >= LOSSES_MAX || source.readyState === EventSource.CLOSED) source.close();
    const isEnd = source.readyState === EventSource.CLOSED;
    say(at("state"), isEnd ? "The connection is lost. The figures so far remain." : "The connection is lost. Connecting again");
  });
}

// The page as a whole.

function makePage() {
  cards = report.scenarios.map(makeCard);
  at("scenarios").replaceChildren(...cards.map((card) => card.root));
  const own = report.server_processors.length > 0 ? "The server has a processor to itself, and so has the load generator." : "Server and load generator share one processor.";
  say(at("conditions"), `${report.rounds} rounds in each scenario, ${report.measured_ms} ms for each model in each round, in random order: first one, then the other. ${own}`);
  at("warnings").replaceChildren(...report.warnings.map((warning) => h("li", {}, `Note: ${warning}.`)));
  at("warnings").hidden = report.warnings.length === 0;
}

function showAll() {
  report.scenarios.forEach((scenario, number) => showCard(cards[number], scenario));
  showRace();
}

function showRace() {
  const done = report.scenarios.reduce((sum, scenario) => sum + runsOf(scenario), 0);
  const all = report.scenarios.length * report.rounds * 2;
  at("progress").value = done / all;
  const running = report.scenarios.find((scenario) => scenario.verdict === null);
  if (isOver) say(at("state"), running === undefined ? "The race is over" : "The race was broken off");
  else if (report.noise === null) say(at("state"), "Each model races against itself");
  else say(at("state"), running === undefined ? "The race is over" : `Running: ${running.name}`);
  say(at("noise"), report.noise === null ? "" : `Noise: two servers of one model differ by up to ${(report.noise * 100).toFixed(1)} % here.`);
  showScore();
}

function showScore() {
  const judged = report.scenarios.map((scenario, number) => [scenario, cards[number].guess]).filter(([scenario, guess]) => scenario.verdict !== null && guess);
  const hits = judged.filter(([scenario, guess]) => guess.model === NAMES[scenario.verdict]).length;
  say(at("score"), judged.length === 0 ? "" : `You named the faster model in ${hits} of ${judged.length} scenario${judged.length === 1 ? "" : "s"}.`);
}

// Cards.

function makeCard(scenario, number) {
  const stage = h("p", { class: "stage" });
  const result = h("div", { class: "result", tabindex: "-1" });
  const times = h("input", { type: "number", min: "1", max: "1000", step: "any", inputmode: "decimal", id: `times-${number}`, placeholder: "2" });
  const choices = ["reactor", "threads", "no difference"].map((model) =>
    h("label", {}, h("input", { type: "radio", name: `guess-${number}`, value: model, required: "" }), model === "no difference" ? "no difference" : `the ${model}`));
  const skip = h("button", { type: "button", class: "plain" }, "Show without a guess");
  const form = h("form", {},
    h("fieldset", {}, h("legend", {}, "Which will be faster?"), h("div", { class: "choices" }, ...choices)),
    h("div", { class: "row" }, h("label", { for: `times-${number}` }, "How many times as fast?"), times, h("span", { class: "about" }, "(optional)")),
    h("div", { class: "row" }, h("button", {}, "Guess"), skip, h("p", { class: "hint" }, "The figures appear after your guess.")));
  const root = h("article", { class: "card", "aria-labelledby": `name-${number}`, "data-scenario": scenario.name },
    h("header", {}, h("h2", { id: `name-${number}` }, scenario.name), stage),
    h("p", { class: "question" }, scenario.question ?? `Load: ${scenario.title}.`), form, result);
  const card = { root, stage, form, result, guess: undefined };
  const reveal = (guess) => {
    card.guess = guess;
    form.hidden = true;
    showCard(card, report.scenarios[number]);
    showRace();
    result.focus();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const model = form.querySelector(":checked").value;
    reveal({ model, times: model === "no difference" ? 1 : times.valueAsNumber });
  });
  skip.addEventListener("click", () => reveal(null));
  return card;
}

function showCard(card, scenario) {
  const runs = runsOf(scenario);
  const all = report.rounds * 2;
  const stage = scenario.verdict !== null ? "ended" : runs === 0 ? "not started" : `${runs} of ${all} runs`;
  say(card.stage, isOver && scenario.verdict === null ? "broken off" : stage);
  card.result.hidden = card.guess === undefined;
  if (card.guess === undefined) return;
  const parts = [h("p", { class: "verdict" }, verdictOf(scenario))];
  if (scenario.verdict !== null) {
    parts.push(h("p", { class: "about" }, ratioOf(scenario)));
    if (card.guess !== null) parts.push(guessOf(card.guess, scenario));
  } else if (card.guess !== null) {
    parts.push(h("p", { class: "guess" }, `Your guess: ${words(card.guess.model, card.guess.times)}.`));
  }
  if (runs > 0) parts.push(picture(scenario), table(scenario));
  if (scenario.is_generator_bound) parts.push(h("p", { class: "note" }, "The load generator was the limit, so the ratio of the rates is too close to 1. Compare the processor time."));
  const errors = scenario.sides.reduce((sum, side) => sum + side.errors, 0);
  if (errors > 0) parts.push(h("p", { class: "note" }, `${errors} errors: do not trust these figures.`));
  if (scenario.verdict !== null && scenario.lesson !== null) parts.push(h("p", { class: "lesson" }, scenario.lesson));
  card.result.replaceChildren(...parts);
}

function verdictOf(scenario) {
  if (scenario.words !== null) return scenario.words;
  return runsOf(scenario) === 0 ? "No figures yet" : "Still running";
}

function ratioOf({ ratio, cpu_ratio: cpu }) {
  const range = ({ value, low, high }) => `${value.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
  return `Reactor over threads: rate ${range(ratio)}, processor time per response ${range(cpu)}. In parentheses the ${Math.floor(report.confidence * 100)} % interval.`;
}

function words(model, times) {
  if (model === "no difference") return "no difference";
  return Number.isNaN(times) ? `${model} faster` : `${model} ${times} times as fast`;
}

function guessOf({ model, times }, scenario) {
  const found = NAMES[scenario.verdict];
  const isHit = model === found;
  const measured = found === "threads" ? 1 / scenario.ratio.value : scenario.ratio.value;
  let judged = isHit ? "Right." : "Not this time.";
  if (isHit && found !== "no difference" && !Number.isNaN(times)) {
    const off = Math.max(times / measured, measured / times);
    judged = off <= NEAR ? "Right, and close." : `Right, but it is ${measured.toFixed(2)} times.`;
  }
  return h("p", { class: "guess", "data-hit": isHit ? "yes" : "no" }, `Your guess: ${words(model, times)}. ${judged}`);
}

// The rate of each run as a thin mark and the median as a thick one, for both models.
function picture(scenario) {
  const [left, width, lane] = [80, 500, 26];
  const most = Math.max(...scenario.sides.flatMap((side) => side.runs.map((run) => run.rate)), 1);
  const x = (rate) => left + (rate / most) * width;
  const lanes = scenario.sides.flatMap((side, number) => {
    const y = number * lane + 4;
    const marks = side.runs.map((run) => s("rect", { class: `run lane ${side.model}`, x: (x(run.rate) - 1).toFixed(1), y, width: 2, height: 18 }));
    return [
      s("text", { x: 0, y: y + 14 }, side.model),
      s("rect", { class: "track", x: left, y: y + 8, width, height: 2 }),
      ...marks,
      s("rect", { class: `lane ${side.model}`, x: (x(side.rate) - 2.5).toFixed(1), y: y - 2, width: 5, height: 22 }),
    ];
  });
  const label = `Responses per second, from 0 to ${grouped(most)}: ${scenario.sides.map((side) => `${side.model} ${grouped(side.rate)}`).join(", ")}. Thin marks are runs, thick ones medians.`;
  return s("svg", { class: "rounds", viewBox: `0 0 ${left + width + 10} ${2 * lane + 2}`, role: "img", "aria-label": label }, ...lanes);
}

function table(scenario) {
  const head = h("tr", {}, h("td", {}), ...scenario.sides.map((side) => h("th", { scope: "col", class: side.model }, side.model)));
  const rows = ROWS.map(([name, key, format]) => h("tr", { "data-figure": key }, h("th", { scope: "row" }, name), ...scenario.sides.map((side) => h("td", {}, side.runs.length > 0 ? format(side[key]) : ""))));
  return h("table", {}, h("caption", {}, `Median of the runs so far: ${scenario.sides.map((side) => `${side.runs.length} of ${side.model}`).join(", ")}`), h("thead", {}, head), h("tbody", {}, ...rows));
}

start();
