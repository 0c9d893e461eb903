// The running loop: receives its frames, keeps the last minute of them, and shows one of them with
// the time before it.
//
// This file keeps the state of the page. It must not know what a frame contains.

import * as draw from "./draw.js";
import * as figures from "./figures.js";
import { FILE_BYTES_MAX, Frames, gapOf, open, write } from "./frames.js";
import { bytes, plural, seconds } from "./units.js";

// Other loops that the page links.
const LOOPS_LINKED = 64;

// Milliseconds without a frame after which the page reports silence.
const SILENCE_MS = 1500;
// Time between two attempts to connect if the server has refused one.
const RETRY_MS = 3000;
// Time between two pictures that no reader has asked for, and that for readers who prefer less
// motion.
const DRAW_MS = 200;
const CALM_MS = 1000;
// A frame may come a little early.
const EARLY_MS = 30;

const at = (id) => document.getElementById(id);
const address = new URLSearchParams(location.search);
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

let frames = new Frames();
let hello = { version: "", loop: 0, loops: 1 };
// Position of the frame that is shown.
let shown = -1;
let isPaused = false;
// Recorded turn that the reader has chosen, with its frame; null shows the slowest.
let chosen = null;
// Item of the strip below the pointer, and the function that finds it.
let hovered = null;
let itemAt = () => null;
// Turn that was asked for, if another one is shown because it was not recorded.
let wanted = null;

const live = { source: null, isRefused: false, isLost: false, isSilent: false, losses: 0, lastMs: 0, dropped: 0 };
// The recording that is shown instead of the live loop, with the timer that plays it.
let file = null;
let playing = null;

// Shows.

let drawnMs = -Infinity;
let isDue = false;

// Draws at once if the reader has done something, and otherwise with the next frame that is due.
function show({ isReader = true } = {}) {
  const sinceMs = performance.now() - drawnMs;
  if (document.hidden || isDue || (!isReader && sinceMs < (isCalm.matches ? CALM_MS : DRAW_MS) - EARLY_MS)) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawnMs = performance.now();
    showAll();
  });
}

function showAll() {
  showState();
  const isEmpty = frames.all.length === 0;
  at("view").hidden = isEmpty;
  at("controls").hidden = isEmpty && file === null;
  at("controls").classList.toggle("empty", isEmpty);
  at("waiting").hidden = !isEmpty || file !== null || live.isLost || live.isRefused;
  at("live").hidden = file === null;
  at("save").hidden = file !== null;
  if (isEmpty) return;
  shown = Math.min(Math.max(shown, 0), frames.last);
  itemAt = figures.show({ frames, shown, chosen, wanted, hovered });
  showControls();
}

function showState() {
  let [text, kind] = ["Connecting", "wait"];
  if (file !== null) [text, kind] = [`Recording: ${file.name}${file.saved ? `, saved ${file.saved}` : ""}`, "file"];
  else if (live.isRefused) [text, kind] = ["Not connected", "lost"];
  else if (live.isLost) [text, kind] = ["The connection is lost. The page connects again; frames until then are missing.", "lost"];
  else if (live.isSilent) [text, kind] = ["No frame has come for more than a second: the loop is held up, or the connection is.", "lost"];
  else if (isPaused) [text, kind] = ["Paused. Further frames are not kept.", "paused"];
  else if (frames.all.length > 0) [text, kind] = ["Live", "live"];
  draw.say(at("state"), text);
  at("state").dataset.kind = kind;
  showLoops();
}

// Names the loop that is shown, and links the others.
function showLoops() {
  const { loop, loops } = hello;
  const key = `${loop} ${loops} ${file === null}`;
  if (at("loops").dataset.key === key) return;
  at("loops").dataset.key = key;
  at("loops").hidden = loops < 2;
  const others = Array.from({ length: Math.min(loops, LOOPS_LINKED) }, (_, other) => other).filter((other) => other !== loop && file === null);
  at("loops").replaceChildren(`This is loop ${loop}. The server has ${loops} loops.`, ...others.flatMap((other) => [" ", draw.h("a", { href: `?loop=${other}` }, `Show loop ${other}`)]));
}

function showControls() {
  const { all, last } = frames;
  const frame = all[shown];
  draw.history(at("history"), all, shown, (one) => gapOf(one) !== null);
  const slider = at("slider");
  slider.max = String(last);
  slider.value = String(shown);
  const before = seconds(all[last].atNs - frame.atNs);
  slider.setAttribute("aria-valuetext", `frame ${shown + 1} of ${all.length}, ${before} before the newest`);
  draw.say(at("position"), `Frame ${shown + 1} of ${all.length}, at ${seconds(frame.atNs)}`);
  draw.say(at("pause"), file !== null ? (playing === null ? "Play" : "Pause") : isPaused ? "Continue" : "Pause");
  for (const button of document.querySelectorAll("[data-frame]")) {
    const to = shown + Number(button.dataset.frame);
    button.setAttribute("aria-disabled", String(to < 0 || to > last));
  }
  const gaps = frames.gaps();
  const kept = `This page has ${plural(all.length, "frame")} of ${seconds(all[last].atNs - all[0].atNs + all[0].spanNs)}.`;
  const missing = gaps.places > 0 ? ` ${plural(gaps.places, "gap")}: ${plural(gaps.frames, "frame")} skipped, ${seconds(gaps.ns)} not seen.` : " No frame is missing.";
  const lost = live.losses > 0 ? ` The connection was lost ${plural(live.losses, "time")}.` : "";
  const dropped = live.dropped > 0 && isPaused ? ` ${plural(live.dropped, "frame")} came during this pause.` : "";
  draw.say(at("kept"), `${kept}${missing}${lost}${dropped}`);
}

function complain(sentences) {
  at("message").replaceChildren(...sentences.map((sentence) => draw.h("p", {}, sentence)));
  at("message").hidden = sentences.length === 0;
}

// Receives.

function framesAddress() {
  const wantedLoop = address.get("loop");
  return `loop/frames${wantedLoop === null ? "" : `?loop=${encodeURIComponent(wantedLoop)}`}`;
}

function connect() {
  live.source = new EventSource(framesAddress());
  live.source.addEventListener("hello", (event) => greet(JSON.parse(event.data)));
  live.source.addEventListener("frame", (event) => take(event.data));
  live.source.addEventListener("error", () => {
    if (!live.isLost && frames.all.length > 0) live.losses += 1;
    live.isLost = frames.all.length > 0;
    show();
    if (live.source.readyState === EventSource.CLOSED) explain();
  });
}

function greet(given) {
  const isFirst = hello.version === "";
  if (!isFirst && given.loop !== hello.loop) {
    // Another loop has accepted the new connection.
    live.source.close();
    address.set("loop", String(hello.loop));
    connect();
    return;
  }
  hello = { version: String(given.version), loop: Number(given.loop), loops: Number(given.loops) };
  complain([]);
}

function take(line) {
  live.lastMs = performance.now();
  [live.isRefused, live.isLost, live.isSilent] = [false, false, false];
  if (isPaused) {
    live.dropped += 1;
    show({ isReader: false });
    return;
  }
  try {
    if (frames.add(line)) {
      chosen = null;
      complain(["The server was started again. The frames of the loop before are gone."]);
    }
  } catch (error) {
    complain([`The page cannot read a frame: ${error.message}. Load the page again if the server is new.`]);
    return;
  }
  shown = frames.last;
  show({ isReader: false });
}

// The server has refused the frames. Shows its sentence and tries again.
async function explain() {
  let isWrong = false;
  const ending = new AbortController();
  try {
    const response = await fetch(framesAddress(), { headers: { Accept: "text/plain" }, signal: ending.signal, cache: "no-store" });
    if (!response.ok) {
      const [status, ...sentence] = (await response.text()).trim().split("\n");
      complain([`The server refused the frames: ${sentence.join(" ") || status}.`]);
      isWrong = response.status === 400;
      live.isRefused = true;
    }
  } catch {
    // There is no server. The state of the page is "lost" already.
  }
  ending.abort();
  if (!isWrong && file === null) setTimeout(() => file === null && connect(), RETRY_MS);
}

// A loop that is held up makes no frames, so the page has a clock of its own.
setInterval(() => {
  const isSilent = file === null && frames.all.length > 0 && !live.isLost && performance.now() - live.lastMs > SILENCE_MS;
  if (isSilent === live.isSilent) return;
  live.isSilent = isSilent;
  show();
}, 500);

// Moves.

function pause(value) {
  if (file !== null) return play(!value);
  isPaused = value;
  live.dropped = 0;
  if (!value) [shown, chosen, wanted] = [frames.last, null, null];
  show();
}

function play(value) {
  clearTimeout(playing);
  playing = null;
  if (value && frames.all.length > 1) {
    if (shown >= frames.last) shown = 0;
    [chosen, wanted] = [null, null];
    const next = () => {
      const waitMs = shown < frames.last ? Math.min((frames.all[shown + 1].atNs - frames.all[shown].atNs) / 1e6, 1000) : 0;
      playing = setTimeout(() => {
        shown += 1;
        if (shown >= frames.last) playing = null;
        else next();
        show({ isReader: playing === null });
      }, isCalm.matches ? Math.max(waitMs, CALM_MS) : waitMs);
    };
    next();
  }
  show();
}

const isMoving = () => (file === null ? !isPaused : playing !== null);

function hold() {
  if (isMoving()) pause(true);
}

function goTo(position) {
  hold();
  shown = Math.min(Math.max(position, 0), frames.last);
  [chosen, wanted] = [null, null];
  show();
}

// Chooses a recorded turn. A page that stands still shows its frame as well.
function choose(one) {
  chosen = one;
  const position = frames.all.indexOf(one.frame);
  if (!isMoving() && position >= 0 && !frames.strip(shown).some(({ turn }) => turn === one.turn.turn)) shown = position;
  show();
}

function goToTurn(by) {
  hold();
  const all = frames.recorded();
  const present = (chosen ?? figures.usual(frames, shown))?.turn.beganNs;
  const place = all.findIndex(({ turn }) => turn.beganNs === present);
  const next = all[place < 0 ? all.length - 1 : place + by];
  wanted = null;
  if (next) choose(next);
}

// Chooses the recorded turn that is nearest to a turn.
function chooseNear(number) {
  const all = frames.recorded();
  if (all.length === 0) return;
  wanted = number;
  choose(all.reduce((best, one) => (Math.abs(one.turn.turn - number) < Math.abs(best.turn.turn - number) ? one : best)));
}

// Files.

function save() {
  const text = write(frames, hello, new Date().toISOString());
  const url = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  const name = `loop-${hello.loop}-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.jsonl`;
  const link = draw.h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function showFile(name, text) {
  live.source?.close();
  clearTimeout(playing);
  const opened = open(name, text);
  frames = opened.frames;
  file = { name, saved: typeof opened.header.saved === "string" ? opened.header.saved.slice(0, 19).replace("T", " ") : "" };
  hello = { version: String(opened.header.server ?? ""), loop: Number(opened.header.loop) || 0, loops: Number(opened.header.loops) || 1 };
  [shown, chosen, wanted, playing, isPaused] = [frames.last, null, null, null, false];
  complain(frames.all.length === 0 ? [...opened.notes, "There is nothing to show."] : opened.notes);
  show();
}

async function openFile(chosenFile) {
  if (chosenFile.size > FILE_BYTES_MAX) return complain([`${chosenFile.name} has ${bytes(chosenFile.size)}; this page opens recordings of at most ${bytes(FILE_BYTES_MAX)}.`]);
  showFile(chosenFile.name, await chosenFile.text());
}

async function openAddress(path) {
  file = { name: path, saved: "" };
  show();
  try {
    const url = new URL(path, location.href);
    if (url.origin !== location.origin) return complain([`${path} is of another site. This page opens recordings of its own site only.`]);
    const response = await fetch(url);
    if (!response.ok) return complain([`There is no recording at ${path}: ${response.status} ${response.statusText}.`]);
    if (Number(response.headers.get("Content-Length")) > FILE_BYTES_MAX) return complain([`${path} is larger than ${bytes(FILE_BYTES_MAX)}.`]);
    showFile(path, await response.text());
  } catch (error) {
    complain([`The recording at ${path} could not be loaded: ${error.message}.`]);
  }
}

// Input.

const stripItem = (event) => itemAt(event.clientX - at("strip").getBoundingClientRect().left);

at("strip").addEventListener("pointermove", (event) => {
  hovered = stripItem(event);
  show();
});
at("strip").addEventListener("pointerleave", () => {
  hovered = null;
  show();
});
at("strip").addEventListener("click", (event) => {
  const item = stripItem(event);
  if (item !== null && !item.isGap) chooseNear(item.turn);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  const { frame, turn, show: number } = button.dataset;
  if (frame) goTo(shown + Number(frame));
  else if (turn) goToTurn(Number(turn));
  else if (number) chooseNear(Number(number));
});
at("pause").addEventListener("click", () => pause(isMoving()));
at("follow").addEventListener("click", () => {
  [chosen, wanted] = [null, null];
  show();
});
at("slider").addEventListener("input", () => goTo(Number(at("slider").value)));
at("save").addEventListener("click", save);
at("file").addEventListener("change", () => {
  const [first] = at("file").files;
  if (first) openFile(first);
  at("file").value = "";
});
at("strip-details").addEventListener("toggle", () => show());
addEventListener("resize", () => {
  draw.forgetWidths();
  show();
});
document.addEventListener("visibilitychange", () => show());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, summary, .scroll")) return;
  if (frames.all.length === 0) return;
  const isControl = event.target.closest("button, a, label") !== null;
  if (event.key === " " && !event.shiftKey && !isControl) pause(isMoving());
  else if (event.key === "ArrowLeft") event.shiftKey ? goToTurn(-1) : goTo(shown - 1);
  else if (event.key === "ArrowRight") event.shiftKey ? goToTurn(1) : goTo(shown + 1);
  else return;
  event.preventDefault();
});

for (const element of document.querySelectorAll(".place")) element.replaceChildren(draw.place(element.textContent));
const log = address.get("log");
if (log === null) connect();
else openAddress(log);
show();
