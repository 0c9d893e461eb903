// The figures of a frame and of the time before it: texts, tables and pictures.
//
// This file must not know how frames arrive, nor how a position is chosen.

import * as draw from "./draw.js";
import { BOUNDS_NS, percentile, steps } from "./frames.js";
import { SECOND_NS, bound, bytes, duration, few, percent, plural, rate, seconds, whole } from "./units.js";

const RATES_NS = SECOND_NS;
const TURNS_NS = 10 * SECOND_NS;
const SLOWEST_NS = 2 * SECOND_NS;
const STALLS_SHOWN = 50;

const at = (id) => document.getElementById(id);

const tables = {
  strip: new draw.Table(at("strip-table"), "The last turns, newest first", ["turn", "began", "wait before", "time in the turn", "events", "requests", "open"]),
  phases: new draw.Table(at("phases-table"), "Phases of the turn", ["phase", "time", "share", "work"]),
  stalls: new draw.Table(at("stalls-table"), "Stalls, newest first", ["held up by", "turn took", "waiting", "turn", "when"], "no stall"),
  requests: new draw.Table(at("requests-table"), "Requests under way", ["method", "path", "phase", "age", "moved", "queued", "waits for", "connection"], "no request"),
  calls: new draw.Table(at("calls-table"), "System calls of the last second", ["call", "per response", "calls", "would block"]),
  taking: new draw.Table(at("taking-table"), "Turns by duration", ["at most", "turns"]),
  connections: new draw.Table(at("connections-table"), "Connections by phase", ["phase", "open"]),
  own: new draw.Table(at("own-table"), "Cost of looking", ["cost", "last second"]),
  counters: new draw.Table(at("counters-table"), "Counters of this loop", ["counter", "since the loop began"]),
};

// Returns the turn that is shown if the reader has chosen none: the slowest of the last 2 s, or
// else the last one that is recorded.
export const usual = (frames, shown) => frames.slowest(shown, SLOWEST_NS) ?? frames.recorded(0, shown).at(-1) ?? null;

// Shows the figures of the frame at `shown`. `chosen` is a recorded turn or null, `wanted` the
// number of the turn that the reader asked for, `hovered` an item of the strip. Returns a function
// from a place on the strip to its item.
export function show({ frames, shown, chosen, wanted, hovered }) {
  const turn = chosen ?? usual(frames, shown);
  showNow(frames, shown);
  const itemAt = showStrip(frames, shown, turn, hovered);
  showTurn(frames.all[shown], turn, chosen !== null, wanted);
  showStalls(frames, shown);
  showRequests(frames.all[shown]);
  showCalls(frames.since(shown, RATES_NS));
  showTaking(frames.since(shown, TURNS_NS).sums);
  showConnections(frames.all[shown], frames.since(shown, RATES_NS));
  return itemAt;
}

const perSecond = (number, ns) => (ns === 0 ? "none yet" : `${few(rate(number, ns))}/s`);
const bytesPerSecond = (number, ns) => (ns === 0 ? "none yet" : `${bytes(rate(number, ns))}/s`);

function utilisation(sums) {
  const all = sums.busy_ns + sums.waited_ns;
  return all > 0 ? percent(sums.busy_ns / all) : "none yet";
}

function showNow(frames, shown) {
  const { ns, sums } = frames.since(shown, RATES_NS);
  const { taking } = frames.since(shown, TURNS_NS).sums;
  const stalls = frames.stalls(shown).length + frames.stallsWithoutName(shown);
  draw.say(at("utilisation"), utilisation(sums));
  draw.say(at("turns"), perSecond(sums.turns, ns));
  draw.say(at("responses"), perSecond(sums.responses, ns));
  draw.say(at("received"), bytesPerSecond(sums.bytes_read, ns));
  draw.say(at("sent"), bytesPerSecond(sums.bytes_written, ns));
  draw.say(at("p50"), atMost(percentile(taking, 0.5)));
  draw.say(at("p99"), atMost(percentile(taking, 0.99)));
  draw.say(at("stalls"), whole(stalls));
  at("stalls-tile").classList.toggle("alarm", stalls > 0);
}

const atMost = (ns) => (ns === null || ns === Infinity ? bound(ns) : `≤ ${bound(ns)}`);

function showStrip(frames, shown, turn, hovered) {
  const items = frames.strip(shown);
  const turns = items.filter(({ isGap }) => !isGap);
  const recorded = new Set();
  for (let index = shown; index >= 0 && frames.all[index].atNs >= (turns[0]?.beganNs ?? 0); index -= 1) {
    for (const one of frames.all[index].turns) recorded.add(one.turn);
  }
  const itemAt = draw.strip(at("strip"), items, recorded, turn?.turn.turn ?? null);
  draw.say(at("strip-text"), hovered === null ? stripText(items, turns) : turnText(hovered));
  const pieces = frames.clock(shown);
  const frame = frames.all[shown];
  draw.clock(at("clock"), pieces, frame.atNs);
  draw.say(at("clock-text"), clockText(pieces, frame));
  if (at("strip-details").open) {
    tables.strip.show(items.map((item, index) => ({ item, index })).reverse().map(({ item, index }) => (item.isGap
      ? { key: `gap ${index}`, cells: [item.why, "", "", "", "", "", ""] }
      : { key: `turn ${item.turn}`, cells: [{ text: String(item.turn), turn: item.turn }, seconds(item.beganNs), duration(item.waitedNs), duration(item.tookNs), String(item.events), String(item.requests), String(item.open)] })));
  }
  return itemAt;
}

function stripText(items, turns) {
  if (turns.length === 0) return "No turn has served a client yet.";
  const longest = turns.reduce((most, turn) => (turn.tookNs > most.tookNs ? turn : most));
  const last = turns.at(-1);
  const gaps = items.filter(({ isGap }) => isGap).map(({ why }) => why);
  const missing = gaps.length > 0 ? ` Not known: ${gaps.slice(-3).join(", ")}${gaps.length > 3 ? ", and more" : ""}.` : "";
  return `${plural(turns.length, "turn")} in ${duration(last.beganNs + last.tookNs - turns[0].beganNs)}. The longest, turn ${longest.turn}, took ${duration(longest.tookNs)}.${missing}`;
}

function turnText(item) {
  if (item.isGap) return `${item.why[0].toUpperCase()}${item.why.slice(1)}.`;
  return `Turn ${item.turn}: ${duration(item.tookNs)}, after ${duration(item.waitedNs)} in the poll. ${plural(item.events, "event")}, ${plural(item.requests, "request")}, ${whole(item.open)} open.`;
}

function clockText(pieces, frame) {
  const fromNs = frame.atNs - SECOND_NS;
  const total = (isGap) => pieces.filter((piece) => piece.isGap === isGap).reduce((sum, piece) => sum + piece.toNs - Math.max(piece.fromNs, fromNs), 0);
  const gaps = total(true);
  const missing = gaps > 0 ? ` Nothing is known of ${duration(gaps)}.` : "";
  return `${plural(pieces.filter(({ isGap }) => !isGap).length, "turn")} with ${duration(total(false))} together.${missing}`;
}

function showTurn(frame, turn, isChosen, wanted) {
  at("follow").setAttribute("aria-disabled", String(!isChosen));
  if (turn === null) {
    draw.say(at("turn-which"), "No turn is recorded yet.");
    for (const id of ["turn-start", "steps-text"]) draw.say(at(id), "");
    at("phases").replaceChildren();
    at("steps").replaceChildren();
    tables.phases.show([]);
    at("steps").dataset.turn = "";
    return;
  }
  const one = turn.turn;
  const isSlowest = frame.atNs - turn.frame.atNs < SLOWEST_NS;
  const which = `Turn ${one.turn}, ${isChosen ? "your choice" : isSlowest ? "the slowest of the last 2 s" : "the last one that is recorded"}`;
  const other = wanted !== null && wanted !== one.turn ? ` Turn ${wanted} was not recorded; this is the nearest one.` : "";
  draw.say(at("turn-which"), `${which}: ${duration(one.tookNs)} in the turn, after ${duration(one.waitedNs)} in the poll. It began at ${seconds(one.beganNs)}.${other}`);
  if (at("steps").dataset.turn === `${turn.frame.series} ${one.turn}`) return;
  at("steps").dataset.turn = `${turn.frame.series} ${one.turn}`;
  draw.say(at("turn-start"), one.start);
  draw.phases(at("phases"), one.phases);
  tables.phases.show(draw.phaseRows(one.phases));
  const all = steps(turn.frame, one);
  const left = one.leftOut > 0 ? `, and ${plural(one.leftOut, "step")} without a record` : "";
  const clock = one.isSampled ? "Each step has its own time." : "The clock was read only at phases and requests, so a step has the time of the last reading before it.";
  draw.say(at("steps-text"), `${plural(all.length, "step")}${left}. ${clock}`);
  draw.steps(at("steps"), all, one);
}

function showStalls(frames, shown) {
  const stalls = frames.stalls(shown);
  const nameless = frames.stallsWithoutName(shown);
  const endNs = frames.all[shown].atNs;
  const most = stalls.length > STALLS_SHOWN ? ` The newest ${STALLS_SHOWN} are shown.` : "";
  const others = nameless > 0 ? ` ${plural(nameless, "further stall")} had no room in the frames.` : "";
  draw.say(at("stalls-text"), stalls.length === 0 ? `No turn has taken more than 10 ms in the ${seconds(endNs - frames.all[0].atNs + frames.all[0].spanNs)} before this frame.` : `${plural(stalls.length, "stall")}.${most}${others}`);
  tables.stalls.show(stalls.slice(0, STALLS_SHOWN).map((stall) => ({
    key: `${stall.turn} ${stall.beganNs}`,
    cells: [
      { text: stall.by, isFree: true, detail: `for ${duration(stall.byNs)}${stall.byNs * 2 < stall.tookNs ? "; no other piece was longer" : ""}` },
      duration(stall.tookNs),
      whole(stall.waiting),
      { text: String(stall.turn), turn: stall.turn },
      { text: `${seconds(Math.max(endNs - stall.beganNs, 0))} before`, detail: `at ${seconds(stall.beganNs)}` },
    ],
  })));
}

function showRequests({ requests, requestsTotal }) {
  draw.say(at("requests-text"), requestsTotal > requests.length ? `The ${requests.length} oldest of ${whole(requestsTotal)}.` : requestsTotal === 0 ? "" : `${plural(requestsTotal, "request")}.`);
  tables.requests.show(requests.map((one) => {
    const space = one.request.indexOf(" ");
    const [method, path] = space > 0 ? [one.request.slice(0, space), one.request.slice(space + 1)] : ["–", "not known yet"];
    return { key: one.id, cells: [method, { text: path, isFree: true }, one.phase.replaceAll("_", " "), duration(one.ageNs), bytes(one.moved), bytes(one.queued), one.waitsFor, one.id] };
  }));
}

function showCalls({ sums }) {
  const calls = Object.entries(sums.calls);
  const most = Math.max(...calls.map(([, number]) => number), 1);
  tables.calls.show(calls.map(([name, number]) => {
    const blocked = sums.wouldBlock[name] ?? 0;
    const share = number > 0 ? blocked / number : 0;
    return { key: name, cells: [name, sums.responses > 0 ? few(number / sums.responses) : "–", { text: whole(number), bar: number / most, mark: share }, number > 0 ? percent(share) : "–"] };
  }));
  const all = calls.reduce((sum, [, number]) => sum + number, 0);
  draw.say(at("calls-text"), sums.responses > 0 ? `All kinds together: ${few(all / sums.responses)} calls for each of ${plural(sums.responses, "response")}. The dark part of a bar would have blocked.` : "No response in this second.");
}

function showTaking({ taking }) {
  const turns = taking.reduce((sum, number) => sum + number, 0);
  const [p50, p99] = [percentile(taking, 0.5), percentile(taking, 0.99)];
  const top = Math.max(...taking, 1);
  tables.taking.show(taking.map((number, index) => {
    const limit = BOUNDS_NS[index];
    const marks = [turns > 0 && limit === p50 ? "p50" : null, turns > 0 && limit === p99 ? "p99" : null].filter(Boolean);
    return { key: String(index), cells: [{ text: limit === Infinity ? "more" : bound(limit), detail: marks.length > 0 ? marks.join(", ") : null }, { text: whole(number), bar: number / top }] };
  }));
}

function showConnections(frame, { ns, sums }) {
  const open = frame.connections.filter(([name, number]) => name !== "closed" || number > 0);
  const largest = Math.max(...open.map(([, number]) => number), 1);
  tables.connections.show(open.map(([name, number]) => ({ key: name, cells: [name.replaceAll("_", " "), { text: whole(number), bar: number / largest }] })));
  tables.own.show([
    { key: "viewers", cells: ["viewers on this loop", whole(frame.viewers)] },
    { key: "time", cells: ["time in turns of their own", `${duration(sums.own_ns)}, ${percent(ns > 0 ? sums.own_ns / ns : 0)}`] },
    { key: "turns", cells: ["turns of their own", whole(sums.own_turns)] },
    { key: "steps", cells: ["steps", whole(sums.own_steps)] },
  ]);
  tables.counters.show(frame.counters.map(([name, number]) => ({ key: name, cells: [name.replaceAll("_", " "), whole(number)] })));
}
