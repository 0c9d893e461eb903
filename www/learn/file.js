// Made by learn/logs.mjs of the modules beside it, for step.html and chapters from a file.
"use strict";

function begin() {
const namesModule = (() => {
// The places that still hold the name of a connection: slot, poll, deadline, list of carried
// connections, job and inbox. This is `w NAME` of the stepper in a terminal.
//
// Reads the text of the steps, whose form docs/steps.md defines.

function milliseconds(ns) {
  if (ns === null || ns === undefined) return "none";
  return `${(ns / 1e6).toFixed(3)} ms`;
}

const slotOf = (id) => Number(id.split(".")[0]);

// Returns every connection that was accepted in the first n steps: id, slot, client, turns.
function lives(lines, n) {
  const found = new Map();
  for (const { text, turn } of lines.slice(0, n)) {
    let match;
    if (/^turn \d+/.test(text)) {
      for (const life of found.values()) life.hasEvent = false;
    } else if ((match = /^accept (\d+\.\d+): done/.exec(text))) {
      found.set(match[1], { id: match[1], slot: slotOf(match[1]), client: null, accepted: turn, registered: false, closed: null, freed: null, hasEvent: false, stale: [] });
    } else if ((match = /^(.+) is (\d+\.\d+): slot/.exec(text)) && found.has(match[2])) {
      found.get(match[2]).client = match[1];
    } else if ((match = /^(register|close|free|event|stale) (\d+\.\d+)(?:: (.*))?$/.exec(text)) && found.has(match[2])) {
      const life = found.get(match[2]);
      const rest = match[3] ?? "";
      if (match[1] === "register" && rest.startsWith("done")) life.registered = true;
      else if (match[1] === "close") life.closed = { turn, reason: rest };
      else if (match[1] === "free") life.freed = turn;
      else if (match[1] === "event") life.hasEvent = true;
      else if (match[1] === "stale") life.stale.push({ turn, holder: rest.split(" ")[0] });
    }
  }
  return found;
}

function called(id, found) {
  const client = found.get(id)?.client;
  return client ? `${id} (${client})` : id;
}

// Returns the places of one name, each with `holds` and a text.
function holders(position, found, id) {
  const life = found.get(id);
  if (!life) return [{ place: "slot", holds: false, text: `${id} is not accepted yet; the name does not exist at this step` }];
  const { state } = position;
  const one = state.connections.find((connection) => connection.id === id);
  const places = [
    slot(state, found, life, one),
    poll(state, life),
    deadline(position, life, one),
    { place: "carried", holds: one?.carried ?? false, text: one?.carried ? "the next turn pumps it without an event" : "not in the list" },
    job(state, id),
  ];
  const waits = state.inbox.includes(id);
  places.push({ place: "inbox", holds: waits, text: waits ? "a result that the loop has not taken yet" : "no result" });
  for (const { turn, holder } of life.stale) {
    places.push({ place: "stale", holds: false, text: `turn ${turn}: the ${holder} for this name had no owner, and was dropped` });
  }
  return places;
}

function slot(state, found, life, one) {
  const holds = one !== undefined;
  let text = `slot ${life.slot}, since turn ${life.accepted}`;
  if (life.closed && life.freed === null) {
    text = `slot ${life.slot}: closed in turn ${life.closed.turn} (${life.closed.reason}), occupied until the end of the turn`;
  } else if (life.freed !== null) {
    const owner = state.connections.find((other) => slotOf(other.id) === life.slot);
    const closed = life.closed ? `closed in turn ${life.closed.turn} (${life.closed.reason}), ` : "";
    text = `${closed}freed in turn ${life.freed}; ${owner ? `now ${called(owner.id, found)} has slot ${life.slot}` : `slot ${life.slot} is empty`}`;
  }
  return { place: "slot", holds, text };
}

function poll(state, life) {
  const place = (holds, text) => ({ place: "poll", holds, text });
  if (life.freed !== null) {
    if (life.hasEvent) return place(true, "an event of this turn has the name");
    return place(false, "the socket is closed, so the kernel has forgotten the name");
  }
  if (!life.registered) return place(false, "not registered yet: no read would have blocked so far");
  if (life.hasEvent) return place(true, "registered; an event of this turn has the name");
  const socket = state.sockets.find((one) => one.client === life.client);
  const pending = socket && socket.next_poll !== "nothing";
  return place(true, pending ? "registered; the next poll reports it" : "registered; nothing to report");
}

function deadline(position, life, one) {
  const place = (holds, text) => ({ place: "deadline", holds, text });
  if (life.closed && position.bug === "deadline-not-removed") return place(true, "its entry was left in the queue (bug deadline-not-removed)");
  if (life.closed) return place(false, "its entry was removed at the close");
  if (!one?.seen) return place(false, "armed at the end of this turn");
  // Only a bug of the loop leaves a connection without an entry for its deadline.
  if (one.seen.armed_ns === null && one.seen.deadline_ns !== null) return place(false, `no entry, although its deadline is ${milliseconds(one.seen.deadline_ns)}`);
  if (one.seen.armed_ns === null) return place(false, "it waits for nothing that has a deadline");
  return place(true, `an entry at ${milliseconds(one.seen.armed_ns)}, seen after turn ${position.state.seen_in}`);
}

function job(state, id) {
  const running = state.jobs_running.find((one) => one.id === id);
  if (running) {
    const until = running.ends_ns === null ? "" : ` until ${milliseconds(running.ends_ns)}`;
    return { place: "job", holds: true, text: `a worker is busy with it${until}, and nobody can call it back` };
  }
  if (state.jobs_waiting.includes(id)) return { place: "job", holds: true, text: "waits for a worker, and can still be removed" };
  return { place: "job", holds: false, text: "no job" };
}
return { milliseconds, slotOf, lives, called, holders };
})();

const drawModule = (() => {
const { called, holders, lives, milliseconds, slotOf } = namesModule;
// Draws the panes of a position. Each picture has a table with the same facts.
//
// This file must not know how a run is made or where a position comes from.


const PHASES = [
  ["wait", "wait for events"],
  ["results", "results of jobs, signals"],
  ["ready", "connections with an event"],
  ["carried", "connections carried over"],
  ["deadlines", "deadlines that are due"],
  ["accept", "new clients"],
  ["free", "slots of closed connections"],
];

// Socket capacity of a scenario without a line `socket N bytes`.
const SOCKET_BYTES = 24576;

// Makes an element. A null or false attribute or child is left out.
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function table(caption, heads, rows) {
  const head = h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)));
  const body = rows.map((row) => h("tr", {}, row.map((cell, at) => h(at === 0 ? "th" : "td", at === 0 ? { scope: "row" } : {}, cell))));
  if (rows.length === 0) body.push(h("tr", {}, h("td", { colspan: heads.length }, "none")));
  return h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, body));
}

const number = (value) => value.toLocaleString("en");
const yes = (value) => (value ? "yes" : "no");

function phases(place, position, lines) {
  const seen = new Set();
  for (const { turn, text } of lines.slice(0, position.n)) {
    if (turn !== position.turn) continue;
    if (/^turn \d+:/.test(text)) seen.clear();
    const match = /^phase ([a-z]+)/.exec(text);
    if (match) seen.add(match[1]);
  }
  const present = position.phase ?? "wait";
  if (position.in_turn) seen.add("wait");
  place.replaceChildren(...PHASES.map(([name, about], at) => {
    const is = name === present;
    const was = !is && position.in_turn && seen.has(name);
    let note = "";
    if (is) note = position.in_turn ? "now" : "waits";
    else if (was) note = "done";
    return h("li", { class: is ? "present" : was ? "past" : null, "aria-current": is ? "step" : null, title: about },
      h("span", { class: "number", "aria-hidden": "true" }, String(at + 1)), h("b", {}, name), h("span", { class: "phase-note" }, note));
  }));
}

// Shows the steps of the present turn, with those before its beginning since the turn before.
function log(place, position, lines, whole) {
  let from = 0;
  if (!whole) {
    for (let at = Math.min(position.n, lines.length) - 1; at > 0; at -= 1) {
      if (/^turn \d+ end/.test(lines[at - 1].text)) {
        from = at;
        break;
      }
    }
  }
  const items = lines.slice(from, position.n).map((line) => logLine(line, line.n === position.n));
  if (items.length === 0) items.push(h("li", { class: "empty" }, "Nothing has happened yet."));
  place.replaceChildren(...items);
}

function logLine(line, isPresent, sign = null) {
  return h("li", { class: `kind-${line.kind}${isPresent ? " present" : ""}`, "aria-current": isPresent ? "step" : null, style: `--indent:${line.indent}` },
    h("span", { class: "mark", "aria-hidden": "true" }, isPresent ? "▶" : sign ?? ""),
    h("span", { class: "time" }, milliseconds(line.at_ns)),
    h("span", { class: "what" }, line.text));
}

function slots(place, tablePlace, position, lines, clients) {
  const found = lives(lines, position.n);
  const { state } = position;
  const count = [...found.values()].reduce((most, life) => Math.max(most, life.slot + 1), 0);
  const boxes = [];
  const rows = [];
  for (let slot = 0; slot < Math.max(count, 1); slot += 1) {
    const one = state.connections.find((connection) => slotOf(connection.id) === slot);
    const before = [...found.values()].filter((life) => life.slot === slot && life.id !== one?.id).map((life) => called(life.id, found));
    boxes.push(slotBox(slot, one, before, state, clients));
    rows.push(slotRow(slot, one, before));
  }
  place.replaceChildren(...boxes, h("p", { class: "under" }, `Entries in the queue of deadlines: ${state.deadlines}. Phases, queues and deadlines are those of the end of turn ${state.seen_in}.`));
  tablePlace.replaceChildren(table("Slots", ["slot", "name", "client", "phase", "queued bytes", "deadline", "entry at", "reported", "carried", "closed", "before"], rows));
}

const reported = (one) => [one.readable && "readable", one.writable && "writable", one.read_closed && "read-closed"].filter(Boolean).join(", ") || "nothing";

function slotBox(slot, one, before, state, clients) {
  const past = before.length > 0 ? h("p", { class: "before" }, "before: ", before.flatMap((name, at) => [at > 0 ? ", " : "", h("s", {}, name)])) : null;
  if (!one) {
    return h("div", { class: "slot free" }, h("p", { class: "slot-number" }, `slot ${slot}`), h("p", { class: "name" }, "free"), past);
  }
  const [number_, generation] = one.id.split(".");
  const seen = one.seen;
  const left = seen?.deadline_ns === null || seen === null ? null : seen.deadline_ns - state.at_ns;
  return h("div", { class: `slot client-${clients.indexOf(one.client) % 4}${one.closed ? " closed" : ""}` },
    h("p", { class: "slot-number" }, `slot ${slot}`),
    h("p", { class: "name" }, number_, h("span", { class: "generation" }, `.${generation}`), " ", h("span", { class: "owner" }, one.client)),
    one.closed ? h("p", { class: "flag" }, `✕ closed: ${one.closed}`) : null,
    h("dl", {},
      h("dt", {}, "phase"), h("dd", {}, seen ? seen.phase : "new in this turn"),
      h("dt", {}, "queued"), h("dd", {}, seen ? `${number(seen.queued_bytes)} bytes` : "unknown yet"),
      h("dt", {}, "deadline"), h("dd", {}, left === null ? "none yet" : `${milliseconds(seen.deadline_ns)}, in ${milliseconds(Math.max(left, 0))}`),
      h("dt", {}, "reported"), h("dd", {}, reported(one))),
    one.carried ? h("p", { class: "flag" }, "↻ carried to the next turn") : null,
    past);
}

function slotRow(slot, one, before) {
  if (!one) return [String(slot), "free", "", "", "", "", "", "", "", "", before.join(", ")];
  const seen = one.seen;
  return [String(slot), one.id, one.client, seen?.phase ?? "", seen ? String(seen.queued_bytes) : "",
    milliseconds(seen?.deadline_ns), milliseconds(seen?.armed_ns), reported(one), yes(one.carried), one.closed ?? "", before.join(", ")];
}

function sockets(place, tablePlace, position, capacity, clients) {
  const { state } = position;
  const queue = h("div", { class: "queue" }, h("b", {}, "Listen queue: "),
    state.listen_queue.length === 0 ? "empty" : state.listen_queue.map((client) => h("span", { class: `chip client-${clients.indexOf(client) % 4}` }, client)));
  place.replaceChildren(queue, ...state.sockets.map((socket) => socketBox(socket, capacity, clients)));
  const room = (bytes) => (capacity === null ? "unknown" : number(Math.max(capacity - bytes, 0)));
  tablePlace.replaceChildren(
    table("Sockets", ["client", "connected", "unread by the server", "room for more", "unread by the client", "room for more", "side of the client", "side of the server", "next poll reports"],
      state.sockets.map((one) => [one.client, yes(one.connected), number(one.to_server), room(one.to_server), number(one.to_client), room(one.to_client), one.client_end, one.server_end, one.next_poll])),
    h("p", {}, `Listen queue: ${state.listen_queue.join(", ") || "empty"}.`));
}

const ENDS = { open: "● open", shut: "◐ FIN sent", closed: "○ closed", reset: "✕ reset" };

function socketBox(socket, capacity, clients) {
  const client = `client-${clients.indexOf(socket.client) % 4}`;
  if (!socket.connected) return h("div", { class: `socket away ${client}` }, h("p", { class: "name" }, socket.client), h("p", {}, "has not connected yet"));
  return h("div", { class: `socket ${client}` },
    h("p", { class: "name" }, socket.client),
    h("p", { class: "ends" }, h("span", {}, "client: ", ENDS[socket.client_end] ?? socket.client_end), h("span", {}, "server: ", ENDS[socket.server_end] ?? socket.server_end)),
    pipe("→ to the server", socket.to_server, capacity),
    pipe("← to the client", socket.to_client, capacity),
    h("p", { class: socket.next_poll === "nothing" ? "poll" : "poll pending" }, socket.next_poll === "nothing" ? "The next poll reports nothing." : `! The next poll reports ${socket.next_poll}.`));
}

function pipe(label, bytes, capacity) {
  const full = capacity ? Math.min(bytes / capacity, 1) : bytes > 0 ? 1 : 0;
  const room = capacity === null ? "" : `, room for ${number(Math.max(capacity - bytes, 0))}`;
  const bar = h("span", { class: "bar-box", "aria-hidden": "true" }, h("span", { class: "bar-fill", style: `--full:${bytes > 0 ? Math.max(full, 0.03) : 0}` }));
  return h("p", { class: "pipe" }, h("span", {}, `${label}: ${number(bytes)} bytes${room}`), bar);
}

function names(place, workers, tablePlace, position, lines, who, clients) {
  const found = lives(lines, position.n);
  const places = who ? holders(position, found, who) : [];
  place.replaceChildren(places.length === 0 ? h("p", {}, "No connection has been accepted yet, so no name exists.")
    : h("ul", { class: "holders" }, places.map((one) => h("li", { class: one.holds ? "holds" : one.place === "stale" ? "stale" : null },
      h("span", { class: "mark", "aria-hidden": "true" }, one.holds ? "■" : one.place === "stale" ? "✕" : "□"),
      h("b", {}, one.place), h("span", { class: "hidden-title" }, one.holds ? " holds the name: " : ": "), h("span", { class: "what" }, one.text)))));
  const { state } = position;
  const client = (id) => `chip client-${clients.indexOf(found.get(id)?.client) % 4}`;
  const chips = (ids, none) => (ids.length === 0 ? none : ids.map((id) => h("span", { class: client(id) }, called(id, found))));
  workers.replaceChildren(h("dl", { class: "workers" },
    h("dt", {}, "Jobs waiting"), h("dd", {}, chips(state.jobs_waiting, "none")),
    h("dt", {}, "Jobs under way"), h("dd", {}, state.jobs_running.length === 0 ? "none" : state.jobs_running.map((one) =>
      h("span", { class: client(one.id) }, called(one.id, found), one.ends_ns === null ? "" : ` until ${milliseconds(one.ends_ns)}`))),
    h("dt", {}, "Inbox"), h("dd", {}, chips(state.inbox, "empty"))));
  tablePlace.replaceChildren(
    table(who ? `Places of the name ${called(who, found)}` : "Places", ["place", "holds the name", "detail"], places.map((one) => [one.place, yes(one.holds), one.text])),
    table("Workers", ["name", "where", "until"], [
      ...state.jobs_waiting.map((id) => [called(id, found), "waits for a worker", ""]),
      ...state.jobs_running.map((one) => [called(one.id, found), "a worker", milliseconds(one.ends_ns)]),
      ...state.inbox.map((id) => [called(id, found), "inbox", ""]),
    ]));
}

// Returns rows of pairs with equal times, so that both runs can be read side by side.
function aligned(left, right) {
  const rows = [];
  let [at, other] = [0, 0];
  while (at < left.length || other < right.length) {
    const time = Math.min(left[at]?.at_ns ?? Infinity, right[other]?.at_ns ?? Infinity);
    const take = (lines, from) => {
      let to = from;
      while (to < lines.length && lines[to].at_ns === time) to += 1;
      return lines.slice(from, to);
    };
    const [one, two] = [take(left, at), take(right, other)];
    at += one.length;
    other += two.length;
    rows.push(...paired(one, two).map((pair) => [time, ...pair]));
  }
  return rows;
}

// Longest common subsequence of two short lists of lines. Very long ones are paired by order.
function paired(one, two) {
  if (one.length * two.length > 250000) {
    return Array.from({ length: Math.max(one.length, two.length) }, (_, at) => [one[at], two[at]]);
  }
  const length = Array.from({ length: one.length + 1 }, () => new Uint32Array(two.length + 1));
  for (let i = one.length - 1; i >= 0; i -= 1) {
    for (let j = two.length - 1; j >= 0; j -= 1) {
      length[i][j] = one[i].text === two[j].text ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  const rows = [];
  let [i, j] = [0, 0];
  while (i < one.length || j < two.length) {
    if (i < one.length && j < two.length && one[i].text === two[j].text) rows.push([one[i++], two[j++]]);
    else if (i < one.length && (j >= two.length || length[i + 1][j] >= length[i][j + 1])) rows.push([one[i++], undefined]);
    else rows.push([undefined, two[j++]]);
  }
  return rows;
}

// Shows those rows of `aligned` that have happened. `present` is a step of the run in this column,
// 1 or 2.
function compare(place, rows, isShown, heads, present, column) {
  const cell = (line, differs) => h("td", { class: line ? `kind-${line.kind}${differs ? " differs" : ""}` : "none" },
    line ? h("div", { class: "pair" }, h("span", { class: "mark" }, differs ? "≠" : ""), h("span", { style: `--indent:${line.indent}`, class: "what" }, line.text)) : h("span", { class: "hidden-title" }, "nothing"));
  let last = null;
  const body = [];
  for (const [time, one, two] of rows) {
    const cells = [one, two].map((line, at) => (isShown[at](line) ? line : undefined));
    if (!cells.some(Boolean)) continue;
    const differs = one?.text !== two?.text;
    const isPresent = cells[column - 1]?.n === present;
    body.push(h("tr", { class: isPresent ? "present" : null, "aria-current": isPresent ? "step" : null },
      h("td", { class: "time" }, isPresent ? "▶ " : "", time === last ? "" : milliseconds(time)), cell(cells[0], differs), cell(cells[1], differs)));
    last = time;
  }
  place.replaceChildren(h("table", { class: "two" }, h("caption", { class: "hidden-title" }, "Steps of two runs by time"),
    h("thead", {}, h("tr", {}, ["time", ...heads].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, body)));
}
return { SOCKET_BYTES, h, table, phases, log, logLine, slots, sockets, names, aligned, compare };
})();

const linkModule = (() => {
// Addresses of steps: the fragment of the URL, as docs/stepper.md defines it.
//
// Three more keys belong to the page only: x (an edited scenario, compressed), vs (the run to
// compare with) and w (the selected name).

const LINK_CHARS_MAX = 2000;
const TEXT_BYTES_MAX = 65536;
const KEYS = "s, bug, seed, set, g, n, vs, w, x";

function start(scenario) {
  return { scenario, bug: "none", seed: null, sets: [], guess: null, n: 0, versus: null, who: null, packed: null };
}

function encode(state) {
  let link = `#s=${escape(state.scenario)}&bug=${escape(state.bug)}`;
  if (state.seed !== null) link += `&seed=${state.seed}`;
  for (const set of state.sets) link += `&set=${escape(set)}`;
  if (state.guess !== null) link += `&g=${state.guess}`;
  link += `&n=${state.n}`;
  if (state.versus !== null) link += `&vs=${escape(state.versus)}`;
  if (state.who !== null) link += `&w=${escape(state.who)}`;
  if (state.packed !== null) link += `&x=${state.packed}`;
  return link;
}

// Reads a link. An error is one sentence with the allowed values.
function decode(link) {
  if (link.length > LINK_CHARS_MAX) throw new Error(`The link has ${link.length} characters; allowed: at most ${LINK_CHARS_MAX}.`);
  const state = start("");
  for (const pair of link.replace(/^#/, "").split("&").filter(Boolean)) {
    const at = pair.indexOf("=");
    const key = at < 0 ? pair : pair.slice(0, at);
    let value;
    try {
      value = decodeURIComponent(at < 0 ? "" : pair.slice(at + 1));
    } catch {
      throw new Error(`'${pair}' in the link is not UTF-8 text.`);
    }
    if (key === "s") state.scenario = value;
    else if (key === "bug") state.bug = value;
    else if (key === "seed") state.seed = number(pair, value, 0);
    else if (key === "set" && state.sets.length < 16) state.sets.push(value);
    else if (key === "set") throw new Error("Too many limits in the link; allowed: 16.");
    else if (key === "g") state.guess = number(pair, value, 1);
    else if (key === "n") state.n = number(pair, value, 0);
    else if (key === "vs") state.versus = value;
    else if (key === "w") state.who = value;
    else if (key === "x") state.packed = value;
    else throw new Error(`Unknown '${key.slice(0, 40)}' in the link; allowed: ${KEYS}.`);
  }
  if (!state.scenario) throw new Error("The link names no scenario; allowed: #s=NAME&bug=NAME&n=STEP.");
  return state;
}

// Returns a number, or throws the sentence about the allowed ones.
function number(pair, value, least) {
  if (!/^\d{1,16}$/.test(value) || Number(value) < least || !Number.isSafeInteger(Number(value))) {
    throw new Error(`'${pair}': allowed is a number from ${least}.`);
  }
  return Number(value);
}

// Percent-encodes everything but letters, digits and -._=, as the program does.
function escape(text) {
  const bytes = new TextEncoder().encode(text);
  const plain = /[a-zA-Z0-9\-._=]/;
  return Array.from(bytes, (byte) => {
    const char = String.fromCharCode(byte);
    return plain.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }).join("");
}

async function pack(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

async function unpack(packed) {
  try {
    const bytes = Uint8Array.from(atob(packed.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    const pieces = [];
    let size = 0;
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      size += piece.value.length;
      // A short link can expand to very much text.
      if (size > TEXT_BYTES_MAX) throw new Error("too long");
      pieces.push(piece.value);
    }
    return await new Blob(pieces).text();
  } catch {
    throw new Error("The scenario in the link cannot be read; the link may have been cut off.");
  }
}
return { LINK_CHARS_MAX, start, encode, decode, number, pack, unpack };
})();

const runsModule = (() => {
// Runs that are open in the engine, each with all its steps and the names of its clients.
//
// This file must not know how a run is shown.

class Runs {
  #engine;
  #most;
  #kept = new Map();

  // Keeps at most `most` runs open; the one that was not used for longest is closed.
  constructor(engine, most) {
    this.#engine = engine;
    this.#most = most;
  }

  // Opens a run, or returns the one that is open. Throws the sentence of the engine.
  open(options) {
    const key = JSON.stringify(options);
    if (this.#kept.has(key)) {
      const found = this.#kept.get(key);
      this.#kept.delete(key);
      this.#kept.set(key, found);
      return found;
    }
    const opened = this.#engine.open(options);
    opened.lines = this.#engine.lines(opened.id, 0, opened.steps + 1).filter((line) => line.n >= 1 && line.n <= opened.steps);
    opened.clients = this.#engine.at(opened.id, 0).state.sockets.map((socket) => socket.client);
    opened.bug = options.bug;
    this.#kept.set(key, opened);
    for (const [old, { id }] of this.#kept) {
      if (this.#kept.size <= this.#most) break;
      this.#kept.delete(old);
      this.#engine.close(id);
    }
    return opened;
  }
}
return { Runs };
})();

const fateModule = (() => {
const { h } = drawModule;
// The fate of a failing run: the search for the step that decides it, and its picture.
//
// `whirligig zoo fate` does the same search in a terminal. This file must not know the page.


const SEARCH_MS_MAX = 30000;
// A piece of the search ends after about this time, so that the page stays usable.
const PIECE_MS = 15;

// Examines steps of a run until one is found, the time is over, or `isStopped()` returns true.
// Calls `onProgress` with a number from 0 to 1. Returns the line of fate (loop.js), and in
// `isLate` whether the time was over.
async function search(engine, run, { isStopped, onProgress }) {
  const began = performance.now();
  let line = engine.fate(run.id, []);
  let size = 1;
  while (line.next !== null) {
    let [done, failed] = [0, 0];
    while (done < line.futures) {
      if (isStopped()) return { line, isLate: false };
      if (performance.now() - began > SEARCH_MS_MAX) return { line, isLate: true };
      const count = Math.min(size, line.futures - done);
      const start = performance.now();
      failed += engine.futures(run.id, line.next, done, count);
      if (performance.now() - start < PIECE_MS / 2) size *= 2;
      else if (performance.now() - start > PIECE_MS) size = Math.max(1, Math.floor(size / 2));
      done += count;
      onProgress((line.points.length - 1 + done / line.futures) / line.expected);
      await new Promise((resume) => setTimeout(resume));
    }
    line = engine.fate(run.id, [...line.points, { step: line.next, failed }]);
  }
  return { line, isLate: false };
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [480, 230, 58, 14, 14, 42];

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Returns the picture of a line: the share of failing futures over the steps of a run.
function chart(line, steps) {
  const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / Math.max(steps, 1);
  const y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
  const text = (className, left, top, words, anchor = "middle") => svg("text", { class: className, x: left, y: top, "text-anchor": anchor }, words);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(share), y2: y(share) }));
    parts.push(text("tick", LEFT - 8, y(share) + 5, `${share * 100} %`, "end"));
  }
  parts.push(svg("line", { class: "bound", x1: LEFT, x2: WIDTH - RIGHT, y1: y(0.9), y2: y(0.9) }));
  parts.push(text("tick", x(0), HEIGHT - 24, "0"), text("tick", x(steps), HEIGHT - 24, String(steps), "end"), text("tick", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "futures that fail, by step"));
  const at = ({ step, failed }) => [x(step), y(failed / line.futures)];
  parts.push(svg("polyline", { class: "share", points: line.points.map((point) => at(point).join(",")).join(" ") }));
  for (const point of line.points) {
    const [left, top] = at(point);
    parts.push(svg("circle", { class: "point", cx: left, cy: top, r: 4 }, svg("title", {}, `after step ${point.step}: ${point.failed} of ${line.futures}`)));
  }
  if (line.decided_at !== null) {
    const left = x(line.decided_at);
    parts.push(svg("line", { class: "decides", x1: left, x2: left, y1: TOP, y2: HEIGHT - BOTTOM }));
    if (line.decided_at > 0) {
      const isRight = line.decided_at > steps / 2;
      parts.push(text("decides-name", left + (isRight ? -8 : 8), y(0.6), `step ${line.decided_at}`, isRight ? "end" : "start"));
    }
  }
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Share of failing futures by step. ${line.sentence}` }, ...parts);
}

// Returns a table of the examined steps. `linkTo(step)` is the address of a step.
function rows(line, lines, linkTo) {
  const heads = ["after step", `fail of ${line.futures}`, "last step until there"];
  const cells = line.points.map(({ step, failed }) => h("tr", { class: step === line.decided_at ? "decided" : null },
    h("th", { scope: "row" }, h("a", { href: linkTo(step) }, String(step)), step === line.decided_at && step > 0 ? " decides" : ""),
    h("td", {}, String(failed)), h("td", {}, step === 0 ? "none" : lines[step - 1].text)));
  return h("table", {}, h("caption", {}, "Futures that fail"), h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, cells));
}
return { search, chart, rows };
})();

const recordedModule = (() => {
// Recorded runs in the place of the engine: browsers load no engine for a page from a file.
//
// learn/logs.mjs makes the recordings: each scenario as it is written, with its first bug, and
// with the bugs that a chapter shows. The functions are those of loop.js. This file must not know
// what the page shows.

const NEEDS_ENGINE = "needs the engine, which browsers load only from a server. Start 'whirligig www', or use 'whirligig step' in a terminal.";

// Loads recordings as scripts, because browsers read no other files for a page from a file. They
// are those of the scenarios with these names, or all.
async function loadRecordings(wanted) {
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
function changed(value, change) {
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
return { loadRecordings, changed };
})();

const wordsModule = (() => {
// Words of the interface of a chapter, by language. The text of a chapter is in its page.

const ALL = {
  en: {
    guess: "Make this guess",
    skip: "Show the answer without a guess",
    chooseFirst: "Choose an answer first, or skip the guess.",
    yourGuess: "Your guess",
    noGuess: "none",
    theAnswer: "The answer",
    both: "Your guess is the answer",
    change: "Change the guess",
    kept: (guess) => `Your guess: ${guess}`,
    keptLater: (guess) => `Your guess: ${guess}. The run below shows the answer.`,
    skipped: "You have made no guess.",
    skippedLater: "You have made no guess. The run below shows the answer.",
    waits: "The answer waits for your guess.",
    toQuestion: "To the question",
    back: "Back",
    next: "Next step",
    turn: "Next turn",
    moves: "Moves",
    position: (n, steps, time) => `Step ${n} of ${steps}, ${time}`,
    beforeTurn: "Before turn 1",
    inTurn: (turn) => `Turn ${turn}`,
    afterTurn: (turn) => `After turn ${turn}`,
    realLoop: "The loop of the server",
    withBug: (bug) => `With the bug ${bug}`,
    chooseBug: "Loop",
    panes: { turn: "This turn", slots: "Slots of the loop", kernel: "What the kernel knows", names: "Places that hold the name" },
    placesOf: (name) => `Places that hold ${name}`,
    workers: "Workers",
    tables: "The picture as tables",
    log: "Log of this turn",
    wrong: (turn, time, what) => `✕ Went wrong first in turn ${turn}, ${time}: ${what}`,
    right: "✓ Everything that the scenario expects has happened.",
    noPicture: (reason, link) => `No picture: ${reason}. In a terminal, this command shows the step: whirligig step '${link}'`,
    badPair: (pair, allowed) => `'${pair}' in the address of this page is unknown; allowed: ${allowed}.`,
    badAnchor: (name) => `'#${name}' in the address names no part of this page.`,
  },
  zh: {
    guess: "就猜这个",
    skip: "不猜，直接看答案",
    chooseFirst: "请先选一个答案，或者跳过。",
    yourGuess: "你的猜测",
    noGuess: "没有猜",
    theAnswer: "答案",
    both: "你猜对了",
    change: "改猜测",
    kept: (guess) => `你的猜测：${guess}`,
    keptLater: (guess) => `你的猜测：${guess}。下面的运行会给出答案。`,
    skipped: "你没有猜。",
    skippedLater: "你没有猜。下面的运行会给出答案。",
    waits: "先猜，再看答案。",
    toQuestion: "回到问题",
    back: "后退",
    next: "下一步",
    turn: "下一轮",
    moves: "移动",
    position: (n, steps, time) => `第 ${n} 步，共 ${steps} 步，${time}`,
    beforeTurn: "第 1 轮之前",
    inTurn: (turn) => `第 ${turn} 轮`,
    afterTurn: (turn) => `第 ${turn} 轮之后`,
    realLoop: "服务器的事件循环",
    withBug: (bug) => `带有错误 ${bug}`,
    chooseBug: "事件循环",
    panes: { turn: "这一轮", slots: "循环的槽位", kernel: "内核所知道的", names: "持有这个名字的地方" },
    placesOf: (name) => `持有 ${name} 的地方`,
    workers: "工作线程",
    tables: "用表格看这张图",
    log: "这一轮的记录",
    wrong: (turn, time, what) => `✕ 第 ${turn} 轮（${time}）首先出错：${what}`,
    right: "✓ 场景所期望的都发生了。",
    noPicture: (reason, link) => `没有图：${reason}。在终端里，这条命令显示这一步：whirligig step '${link}'`,
    badPair: (pair, allowed) => `本页地址中的“${pair}”无法识别；可用：${allowed}。`,
    badAnchor: (name) => `本页没有地址中的“#${name}”这一部分。`,
  },
};

// Returns the words of a language such as zh-Hans. Languages without words have those of English.
function wordsOf(language) {
  return ALL[language.split("-")[0]] ?? ALL.en;
}
return { wordsOf };
})();

const chapterModule = () => {
const draw = drawModule;
const { loadRecordings: loadEngine } = recordedModule;
const { decode, encode } = linkModule;
const { called, lives, milliseconds } = namesModule;
const { Runs } = runsModule;
const { wordsOf } = wordsModule;
// A chapter: questions that wait for a guess, and pictures of the loop at a step.
//
// The guesses are the state of the page and its address: #g=2&q1=3, where 0 is a question without
// a guess. The text of the chapter is in its page, which can be read without this file. This file
// must not know how the loop is drawn (draw.js) or where a run comes from (engine.js).


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
return {  };
};

const stepModule = () => {
const draw = drawModule;
const { loadRecordings: loadEngine } = recordedModule;
const fate = fateModule;
const { LINK_CHARS_MAX, decode, encode, number, pack, start, unpack } = linkModule;
const { called, lives, milliseconds } = namesModule;
const { Runs } = runsModule;
// The stepper in a page: the question of a scenario, a guess, and the run step by step.
//
// The engine is the code of the server, compiled to WebAssembly (loop.js), or recordings of it
// (recorded.js). This file keeps the state of the page, which is also its address, and must not
// know how things are drawn.


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
return {  };
};
if (document.querySelector("main.chapter")) chapterModule();
else stepModule();
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
else begin();
