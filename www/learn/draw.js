// Draws the panes of a position. Each picture has a table with the same facts.
//
// This file must not know how a run is made or where a position comes from.

import { called, holders, lives, milliseconds, slotOf } from "./names.js";

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
export const SOCKET_BYTES = 24576;

// Makes an element. A null or false attribute or child is left out.
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function table(caption, heads, rows) {
  const head = h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)));
  const body = rows.map((row) => h("tr", {}, row.map((cell, at) => h(at === 0 ? "th" : "td", at === 0 ? { scope: "row" } : {}, cell))));
  if (rows.length === 0) body.push(h("tr", {}, h("td", { colspan: heads.length }, "none")));
  return h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, body));
}

const number = (value) => value.toLocaleString("en");
const yes = (value) => (value ? "yes" : "no");

export function phases(place, position, lines) {
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
export function log(place, position, lines, whole) {
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

export function logLine(line, isPresent, sign = null) {
  return h("li", { class: `kind-${line.kind}${isPresent ? " present" : ""}`, "aria-current": isPresent ? "step" : null, style: `--indent:${line.indent}` },
    h("span", { class: "mark", "aria-hidden": "true" }, isPresent ? "▶" : sign ?? ""),
    h("span", { class: "time" }, milliseconds(line.at_ns)),
    h("span", { class: "what" }, line.text));
}

export function slots(place, tablePlace, position, lines, clients) {
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

export function sockets(place, tablePlace, position, capacity, clients) {
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

export function names(place, workers, tablePlace, position, lines, who, clients) {
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
export function aligned(left, right) {
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
export function compare(place, rows, isShown, heads, present, column) {
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
