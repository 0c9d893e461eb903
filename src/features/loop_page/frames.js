// Frames of a loop: those that the page keeps, the figures that follow from them, and recordings
// in files. docs/live.md has the schema of a frame and of a recording.
//
// This file must not know how frames arrive or how figures are drawn.

import { SECOND_NS, plural, seconds } from "./units.js";

export const VERSION = 1;

// The page keeps the last minute of frames, but at most so many characters of JSON.
export const KEPT_NS = 60e9;
export const KEPT_CHARS_MAX = 24e6;

// Largest recording that is opened, in bytes.
export const FILE_BYTES_MAX = 64 * 1024 ** 2;

// Turns of the strip.
export const STRIP_TURNS = 200;

// A turn over this limit is a stall, in nanoseconds.
export const STALL_NS = 10e6;

// Upper bounds of `turns_taking`, in nanoseconds. The last range has none.
export const BOUNDS_NS = [10e3, 25e3, 50e3, 100e3, 250e3, 500e3, 1e6, 2.5e6, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6, 1e9, Infinity];

// Reading. A file may contain anything, so every value is checked.

const count = (value) => (Number.isFinite(value) && value >= 0 ? value : 0);
const text = (value) => (typeof value === "string" ? value : "");
const list = (value) => (Array.isArray(value) ? value : []);
const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});

// Returns the members of an object that are counts, as pairs of name and count.
const counts = (value) => Object.entries(object(value)).map(([name, number]) => [name, count(number)]);

const SUMS = ["turns", "busy_ns", "waited_ns", "events", "responses", "bytes_read", "bytes_written", "stale", "carried", "stalls", "own_turns", "own_ns", "own_steps"];

function sumsOf(given) {
  const sums = Object.fromEntries(SUMS.map((name) => [name, count(given[name])]));
  sums.taking = BOUNDS_NS.map((_, at) => count(list(given.turns_taking)[at]));
  sums.calls = Object.fromEntries(counts(given.calls));
  sums.wouldBlock = Object.fromEntries(counts(given.would_block));
  sums.phases = Object.fromEntries(counts(given.phases_ns));
  return sums;
}

function turnOf(given, place) {
  return {
    turn: count(given.turn),
    beganNs: count(given.began_ns),
    waitedNs: count(given.waited_ns),
    tookNs: count(given.took_ns),
    start: text(given.start),
    phases: counts(given.phases_ns),
    isSlowest: given.slowest === true,
    isSampled: given.sampled === true,
    leftOut: count(given.steps_left_out),
    place,
  };
}

// Returns the frame in a line of JSON. The error has a sentence.
function read(line) {
  let given;
  try {
    given = object(JSON.parse(line));
  } catch {
    throw new Error("not whole");
  }
  if (given.record !== "whirligig-loop") throw new Error("no frame");
  if (given.version !== VERSION) throw new Error(`version ${JSON.stringify(given.version)}`);
  return {
    line,
    number: count(given.frame),
    atNs: count(given.at_ns),
    spanNs: count(given.span_ns),
    sums: sumsOf(object(given.sums)),
    counters: counts(given.counters),
    connections: counts(given.connections),
    viewers: count(given.viewers),
    requestsTotal: count(given.requests_total),
    requests: list(given.requests).map(object).map((one) => ({
      id: text(one.id),
      request: text(one.request),
      phase: text(one.phase),
      ageNs: count(one.age_ns),
      moved: count(one.received_bytes),
      queued: count(one.queued_bytes),
      waitsFor: text(one.waits_for),
    })),
    strip: list(given.strip).map(list).map((one) => {
      const [turn, beganNs, waitedNs, tookNs, events, requests, open] = one.map(count);
      return { turn: turn ?? 0, beganNs: beganNs ?? 0, waitedNs: waitedNs ?? 0, tookNs: tookNs ?? 0, events: events ?? 0, requests: requests ?? 0, open: open ?? 0 };
    }),
    leftOut: count(given.strip_left_out),
    stalls: list(given.stalls).map(object).map((one) => ({
      turn: count(one.turn),
      beganNs: count(one.began_ns),
      tookNs: count(one.took_ns),
      by: text(one.by),
      byNs: count(one.by_ns),
      id: text(one.id),
      waiting: count(one.waiting),
    })),
    turns: list(given.turns).map(object).map(turnOf),
  };
}

// Returns the steps of a turn: time, text, and place in the source. They are read when they are
// needed, because they are most of a frame.
export function steps(frame, turn) {
  const given = object(list(JSON.parse(frame.line).turns)[turn.place]);
  return list(given.steps).map(list).map(([atNs, what, place]) => ({ atNs: count(atNs), text: text(what), place: text(place) }));
}

// Frames in the order of their time. A position is an index.
export class Frames {
  all = [];
  #chars = 0;
  #isBounded;

  constructor({ isBounded = true } = {}) {
    this.#isBounded = isBounded;
  }

  get last() {
    return this.all.length - 1;
  }

  // Adds the frame of a line. Throws a sentence. Returns true if the loop is another one than
  // before, because the server was started again; then the frames before are dropped.
  add(line) {
    const frame = read(line);
    const before = this.all.at(-1);
    const isOther = before !== undefined && frame.atNs <= before.atNs;
    if (isOther) this.#drop(this.all.length);
    // Sums begin again at 0 if nobody looked for a while.
    const isSame = !isOther && before !== undefined && frame.number > before.number && frame.sums.turns >= before.sums.turns;
    frame.series = isSame ? before.series : (before?.series ?? -1) + 1;
    frame.missing = isSame ? frame.number - before.number - 1 : 0;
    const base = isSame ? before : { sums: sumsOf({}), atNs: frame.atNs - frame.spanNs };
    frame.busyShare = isSame || frame.number === 0 ? (frame.sums.busy_ns - base.sums.busy_ns) / Math.max(frame.atNs - base.atNs, 1) : 0;
    frame.gapNs = isOther || before === undefined ? 0 : Math.max(frame.atNs - frame.spanNs - before.atNs, 0);
    this.all.push(frame);
    this.#chars += line.length;
    if (this.#isBounded) {
      let drop = 0;
      for (let chars = this.#chars; drop < this.last && (frame.atNs - this.all[drop].atNs > KEPT_NS || chars > KEPT_CHARS_MAX); drop += 1) chars -= this.all[drop].line.length;
      if (drop > 0) this.#drop(drop);
    }
    return isOther;
  }

  #drop(number) {
    for (const frame of this.all.splice(0, number)) this.#chars -= frame.line.length;
  }

  // Returns the sums of the time before a position, at most `ns` of it, and how long that time is.
  since(at, ns) {
    const frame = this.all[at];
    let from = at;
    while (from > 0 && this.all[from - 1].series === frame.series && frame.atNs - this.all[from].atNs < ns) from -= 1;
    const first = this.all[from];
    // Frame 0 contains everything since its recording began.
    const isWhole = first.number === 0 && frame.atNs - first.atNs < ns;
    if (from === at && !isWhole) return { ns: 0, sums: minus(frame.sums, frame.sums) };
    const [base, beganNs] = isWhole ? [sumsOf({}), first.atNs - first.spanNs] : [first.sums, first.atNs];
    const sums = minus(frame.sums, base);
    const elapsed = frame.atNs - beganNs;
    // The first wait may have begun before the recording.
    sums.waited_ns = Math.min(sums.waited_ns, Math.max(elapsed - sums.busy_ns, 0));
    return { ns: elapsed, sums };
  }

  // Returns the last turns before a position, oldest first. Turns that are not known are entries
  // with `isGap`.
  strip(at, most = STRIP_TURNS) {
    const found = [];
    let turns = 0;
    for (let index = at; index >= 0 && turns < most; index -= 1) {
      const frame = this.all[index];
      for (let place = frame.strip.length - 1; place >= 0 && turns < most; place -= 1, turns += 1) found.push(frame.strip[place]);
      if (turns === most) break;
      if (frame.leftOut > 0) found.push({ isGap: true, why: `${plural(frame.leftOut, "turn")} left out` });
      const gap = gapOf(frame);
      if (gap !== null) found.push({ isGap: true, why: gap });
    }
    while (found.at(-1)?.isGap && turns < most) found.pop();
    return found.reverse();
  }

  // Returns the pieces of the last `ns` before a position on the clock: turns, and times of which
  // nothing is known.
  clock(at, ns = SECOND_NS) {
    const end = this.all[at].atNs;
    const pieces = [];
    for (let index = at; index >= 0 && this.all[index].atNs > end - ns; index -= 1) {
      const frame = this.all[index];
      const beganNs = frame.atNs - frame.spanNs;
      for (const turn of frame.strip) pieces.push({ fromNs: turn.beganNs, toNs: turn.beganNs + turn.tookNs, isGap: false });
      const first = frame.strip[0];
      if (frame.leftOut > 0 && first) pieces.push({ fromNs: beganNs, toNs: Math.max(first.beganNs - first.waitedNs, beganNs), isGap: true });
      if (frame.gapNs > 0 && index > 0) pieces.push({ fromNs: beganNs - frame.gapNs, toNs: beganNs, isGap: true });
    }
    return pieces.filter(({ toNs }) => toNs > end - ns);
  }

  // Returns the stalls before a position, newest first.
  stalls(at) {
    return this.all.slice(0, at + 1).flatMap((frame) => frame.stalls).reverse();
  }

  // Returns the number of stalls before a position of which only the number is known.
  stallsWithoutName(at) {
    let [counted, named] = [0, 0];
    for (let index = 0; index <= at; index += 1) {
      const [frame, before] = [this.all[index], this.all[index - 1]];
      const isSame = before !== undefined && before.series === frame.series;
      if (!isSame && frame.number > 0) continue;
      counted += frame.sums.stalls - (isSame ? before.sums.stalls : 0);
      named += frame.stalls.length;
    }
    // The last one has its name after the next turn, which has the events of those that waited.
    return Math.max(counted - named - 1, 0);
  }

  // Returns the turns whose steps are known, oldest first, each with its frame.
  recorded(from = 0, to = this.last) {
    const found = new Map();
    for (let index = from; index <= to; index += 1) {
      const frame = this.all[index];
      for (const turn of frame.turns) {
        // The slowest turn may also be a sample. Its begin tells turns of two servers apart.
        if (!found.has(turn.beganNs)) found.set(turn.beganNs, { frame, turn });
      }
    }
    return [...found.values()].sort((one, two) => one.turn.beganNs - two.turn.beganNs);
  }

  // Returns the slowest recorded turn of the last `ns` before a position.
  slowest(at, ns) {
    const end = this.all[at].atNs;
    let from = at;
    while (from > 0 && this.all[from - 1].atNs > end - ns) from -= 1;
    return this.recorded(from, at).reduce((most, one) => (most === null || one.turn.tookNs > most.turn.tookNs ? one : most), null);
  }

  // Returns the number of frames that are missing up to a position, the time that they leave open,
  // and the number of places where they are missing.
  gaps(at = this.last) {
    const found = { places: 0, frames: 0, ns: 0 };
    for (const frame of this.all.slice(1, at + 1)) {
      if (gapOf(frame) === null) continue;
      found.places += 1;
      found.frames += frame.missing;
      found.ns += frame.gapNs;
    }
    return found;
  }
}

// Returns a sentence about what is missing before a frame, or null. Frames touch each other, so a
// short difference is none.
export function gapOf(frame) {
  if (frame.missing > 0) return `${plural(frame.missing, "frame")} missing`;
  if (frame.gapNs > 1e6) return `${seconds(frame.gapNs)} without frames`;
  return null;
}

function minus(sums, base) {
  const each = (one, two) => Object.fromEntries(Object.entries(one).map(([name, number]) => [name, number - (two[name] ?? 0)]));
  return {
    ...Object.fromEntries(SUMS.map((name) => [name, sums[name] - base[name]])),
    taking: sums.taking.map((number, at) => number - base.taking[at]),
    calls: each(sums.calls, base.calls),
    wouldBlock: each(sums.wouldBlock, base.wouldBlock),
    phases: each(sums.phases, base.phases),
  };
}

// Returns the bound that a share of the turns does not exceed, in nanoseconds, or null without a
// turn.
export function percentile(taking, share) {
  const total = taking.reduce((sum, number) => sum + number, 0);
  if (total === 0) return null;
  let sum = 0;
  for (const [at, number] of taking.entries()) {
    sum += number;
    if (sum >= share * total) return BOUNDS_NS[at];
  }
  return Infinity;
}

// Recordings.

const RECORDING = "whirligig-recording";

// Returns frames as the text of a file: a header, and one frame on each line.
export function write(frames, hello, savedAt) {
  const header = { record: RECORDING, version: VERSION, server: hello.version, loop: hello.loop, loops: hello.loops, saved: savedAt, frames: frames.all.length };
  return [JSON.stringify(header), ...frames.all.map((frame) => frame.line), ""].join("\n");
}

// Reads a file. Returns its frames, its header, and sentences about what could not be read. There
// may be no frame.
export function open(name, content) {
  const frames = new Frames({ isBounded: false });
  const notes = [];
  const lines = content.split("\n");
  if (lines.at(-1) === "") lines.pop();
  let header = {};
  try {
    header = object(JSON.parse(lines[0] ?? ""));
  } catch {
    // A first line that is no JSON is no header.
  }
  const hasHeader = header.record === RECORDING;
  if (!hasHeader) notes.push(`${name} does not begin with the header of a recording.`);
  else if (header.version !== VERSION) notes.push(`${name} is a recording of version ${JSON.stringify(header.version) ?? "unknown"}; this page reads version ${VERSION}.`);
  const body = hasHeader ? lines.slice(1) : lines;
  let [others, unread] = [0, 0];
  for (const [at, line] of body.entries()) {
    const before = frames.all.length;
    try {
      if (frames.add(line)) notes.push(`The frames of ${name} are not in order, so the first ${before} are left out.`);
    } catch (error) {
      if (error.message === "not whole" && at === body.length - 1 && hasHeader) notes.push(`${name} is cut: its last line is not whole.`);
      else if (error.message.startsWith("version")) others += 1;
      else unread += 1;
    }
  }
  const shown = frames.all.length;
  if (others > 0) notes.push(`${plural(others, "frame")} of another version left out.`);
  if (unread > 0) notes.push(`${plural(unread, "line")} without a frame left out.`);
  const promised = count(header.frames);
  if (hasHeader && promised > shown) notes.push(`It has ${shown} of ${promised} frames.`);
  return { frames, header, notes };
}
