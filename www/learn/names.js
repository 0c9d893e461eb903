// The places that still hold the name of a connection: slot, poll, deadline, list of carried
// connections, job and inbox. This is `w NAME` of the stepper in a terminal.
//
// Reads the text of the steps, whose form docs/steps.md defines.

export function milliseconds(ns) {
  if (ns === null || ns === undefined) return "none";
  return `${(ns / 1e6).toFixed(3)} ms`;
}

export const slotOf = (id) => Number(id.split(".")[0]);

// Returns every connection that was accepted in the first n steps: id, slot, client, turns.
export function lives(lines, n) {
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

export function called(id, found) {
  const client = found.get(id)?.client;
  return client ? `${id} (${client})` : id;
}

// Returns the places of one name, each with `holds` and a text.
export function holders(position, found, id) {
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
