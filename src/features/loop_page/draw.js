// Pictures and tables of the page. Each picture has a table or a text beside it.
//
// This file must not know where frames come from, nor which one is shown.

import { STALL_NS, STRIP_TURNS } from "./frames.js";
import { SECOND_NS, duration } from "./units.js";

// Address of the source, with a slash at its end, or nothing.
const SOURCE = document.querySelector('meta[name="source-base"]').content;

// Makes an element. A null or false attribute or child is left out.
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (element.getAttribute(key) !== String(value)) element.setAttribute(key, value);
  }
}

// Replaces a text, so that nothing happens if it has not changed.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A place such as src/reactor/mod.rs:197. It is a link if the address of the source is set.
export function place(text) {
  const [file, line] = text.split(":");
  const parts = text.split("/").flatMap((part, at) => (at === 0 ? part : ["/", h("wbr"), part]));
  return h(SOURCE ? "a" : "span", { href: SOURCE ? `${SOURCE}${file}${line ? `#L${line}` : ""}` : null }, parts);
}

// A table whose rows keep their elements, so that the focus stays on its row. A row has a key and
// cells; a cell is a text, or has a text with a bar, a swatch, a
// detail or a button. A free text may break anywhere.
export class Table {
  #body;
  #rows = new Map();
  #columns;
  #none;

  constructor(box, caption, heads, none = "none") {
    this.#columns = heads.length;
    this.#none = none;
    this.#body = h("tbody");
    const head = h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)));
    box.replaceChildren(h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, head), this.#body));
  }

  show(rows) {
    const all = rows.length > 0 ? rows : [{ key: "none", cells: [{ text: this.#none, isWide: true }] }];
    const keys = new Set(all.map(({ key }) => key));
    for (const [key, { row }] of this.#rows) {
      if (keys.has(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
    all.forEach(({ key, cells }, at) => {
      const kept = this.#rows.get(key) ?? { row: h("tr"), shown: [] };
      this.#rows.set(key, kept);
      if (this.#body.children[at] !== kept.row) this.#body.insertBefore(kept.row, this.#body.children[at] ?? null);
      cells.forEach((cell, column) => {
        const text = JSON.stringify(cell);
        if (kept.shown[column] === text) return;
        kept.shown[column] = text;
        const element = cellOf(cell, column, this.#columns);
        if (kept.row.children[column]) kept.row.children[column].replaceWith(element);
        else kept.row.append(element);
      });
    });
  }
}

function cellOf(cell, column, columns) {
  const { text, bar = null, mark = 0, detail = null, swatch = null, turn = null, isWide = false, isFree = false } = typeof cell === "string" ? { text: cell } : cell;
  const element = h(column === 0 && !isWide ? "th" : "td", { scope: column === 0 && !isWide ? "row" : null, colspan: isWide ? columns : null });
  if (isFree) element.classList.add("free");
  if (swatch !== null) element.append(h("span", { class: `swatch phase-${swatch}`, "aria-hidden": "true" }));
  element.append(turn === null ? text : h("button", { type: "button", "data-show": turn }, h("span", { class: "hidden" }, "Turn "), text));
  if (detail !== null) element.append(" ", h("span", { class: "detail" }, detail));
  if (bar !== null) {
    const part = h("span", { class: "bar-mark" });
    const full = h("span", { class: "bar-full" }, part);
    full.style.width = `${Math.max(bar * 100, bar > 0 ? 1 : 0)}%`;
    part.style.width = `${mark * 100}%`;
    element.replaceChildren(h("div", {}, h("span", {}, text), h("span", { class: "bar-box", "aria-hidden": "true" }, full)));
    element.classList.add("has-bar");
  }
  return element;
}

// Width of each picture. It is read once and after a change of the window, because reading it
// makes the browser lay out the page.
const widths = new Map();
export const forgetWidths = () => widths.clear();

// Pictures are drawn in pixels, so that letters and lines keep their size.
function canvas(box, height, parts) {
  if (!box.firstChild) {
    const hatch = `${box.id}-hatch`;
    const picture = svg("svg", { "aria-hidden": "true", focusable: "false" },
      svg("defs", {}, svg("pattern", { id: hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("path", { d: "M0 0V6", class: "hatch" }))),
      parts.map((name) => (name === "labels" ? svg("g", { class: name }) : svg("path", { class: name, fill: name === "gaps" ? `url(#${hatch})` : null }))));
    box.append(picture);
  }
  if (!(widths.get(box) > 0)) widths.set(box, box.clientWidth);
  const width = Math.max(widths.get(box), 200);
  set(box.firstChild, { viewBox: `0 0 ${width} ${height}`, width, height });
  const part = (name) => box.querySelector(`.${name}`);
  return { width, path: (name, d) => set(part(name), { d }), part };
}

const box = (x, y, width, height) => `M${x.toFixed(2)} ${y.toFixed(2)}h${width.toFixed(2)}v${height.toFixed(2)}h${(-width).toFixed(2)}z`;

const dot = (x, y, radius) => `M${(x - radius).toFixed(2)} ${y}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0`;

function label(x, y, text, anchor = "start") {
  return svg("text", { x, y, "text-anchor": anchor }, text);
}

function showLabels(group, key, make) {
  if (group.dataset.key === key) return;
  group.dataset.key = key;
  group.replaceChildren(...make());
}

// Between the bars is a lane for the marks of recorded turns.
const STRIP = { top: 14, up: 144, lane: 9, down: 84, left: 48 };
const DECADES = 6;
// Logarithm of a duration, from 0 for 1 us to 1 for 1 s.
const log = (ns) => Math.min(Math.max(Math.log10(ns / 1e3) / DECADES, 0), 1);
const GAP_COLUMNS = 4;

// Draws the strip. Returns a function from a place in pixels to the item there.
export function strip(box_, items, recorded, selected) {
  const { top, up, lane, down, left } = STRIP;
  const { width, path, part } = canvas(box_, top + up + lane + down + 6, ["grid", "limit", "gaps", "waits", "turns", "stalls", "peaks", "dots", "choice", "axis", "labels"]);
  const columns = items.reduce((sum, item) => sum + (item.isGap ? GAP_COLUMNS : 1), 0);
  const each = (width - left - 2) / Math.max(columns, STRIP_TURNS);
  const bar = Math.max(each - (each > 3 ? 1 : 0.35), 0.7);
  const base = top + up;
  const under = base + lane;
  const drawn = { gaps: "", waits: "", turns: "", stalls: "", peaks: "", dots: "", choice: "" };
  const places = [];
  let x = width - columns * each - 2;
  for (const item of items) {
    const wide = item.isGap ? each * GAP_COLUMNS : each;
    places.push({ x, item });
    if (item.isGap) {
      drawn.gaps += box(x + 0.5, top, Math.max(wide - 1, 1), up + lane + down);
    } else {
      const height = Math.max(log(item.tookNs) * up, 1.5);
      const isStall = item.tookNs >= STALL_NS;
      drawn[isStall ? "stalls" : "turns"] += box(x, base - height, bar, height);
      drawn.waits += box(x, under, bar, Math.max(log(item.waitedNs) * down, 0.5));
      if (isStall) drawn.peaks += `M${x + bar / 2} ${base - height - 9}l4 7h-8z`;
      if (recorded.has(item.turn)) drawn.dots += dot(x + bar / 2, base + lane / 2, Math.min(each * 0.42, 2.4));
      if (item.turn === selected) drawn.choice = box(x - 2, top - 10, bar + 4, up + lane + down + 12);
    }
    x += wide;
  }
  for (const [name, d] of Object.entries(drawn)) path(name, d);
  const line = (y) => `M${left} ${y}H${width}`;
  const steps = Array.from({ length: DECADES }, (_, at) => at + 1);
  path("grid", steps.map((step) => line(base - (step / DECADES) * up) + line(under + (step / DECADES) * down)).join(""));
  path("limit", line(base - log(STALL_NS) * up));
  path("axis", line(base + 0.5) + line(under - 0.5));
  showLabels(part("labels"), String(width), () => [
    ...["10 us", "100 us", "1 ms", "10 ms", "100 ms", "1 s"].map((text, at) => label(left - 6, base - ((at + 1) / DECADES) * up + 4, text, "end")),
    ...["100 us", "10 ms", "1 s"].map((text, at) => label(left - 6, under + ((at * 2 + 2) / DECADES) * down + 4, text, "end")),
  ]);
  return (pixels) => places.findLast((place_) => place_.x <= pixels)?.item ?? places[0]?.item ?? null;
}

// Draws the pieces of a second on a clock that ends at `endNs`.
export function clock(box_, pieces, endNs) {
  const { width, path, part } = canvas(box_, 52, ["track", "gaps", "turns", "stalls", "ticks", "labels"]);
  const left = 1;
  const whole = width - 2;
  const at = (ns) => left + Math.min(Math.max(1 - (endNs - ns) / SECOND_NS, 0), 1) * whole;
  const drawn = { gaps: "", turns: "", stalls: "" };
  for (const { fromNs, toNs, isGap } of pieces) {
    const [from, to] = [at(fromNs), at(toNs)];
    const name = isGap ? "gaps" : toNs - fromNs >= STALL_NS ? "stalls" : "turns";
    drawn[name] += box(from, 4, Math.max(to - from, 0.8), 26);
  }
  for (const [name, d] of Object.entries(drawn)) path(name, d);
  path("track", box(left, 4, whole, 26));
  path("ticks", [0, 0.25, 0.5, 0.75, 1].map((share) => `M${left + share * whole} 30v5`).join(""));
  showLabels(part("labels"), String(width), () => [
    label(0, 48, "1 s before"), label(width / 2, 48, "0.5 s", "middle"), label(width, 48, "this frame", "end"),
  ]);
}

// Half of the thumb of the slider, so that the picture above it fits its places.
const THUMB = 8;

// Draws the share of time in turns for each frame, with stalls, gaps and the frame that is shown.
export function history(box_, frames, at, isGap) {
  const { width, path } = canvas(box_, 40, ["gaps", "turns", "peaks", "choice", "axis"]);
  const each = (width - 2 * THUMB) / Math.max(frames.length - 1, 1);
  const drawn = { gaps: "", turns: "", peaks: "" };
  frames.forEach((frame, index) => {
    const x = THUMB + index * each;
    const height = Math.max(Math.min(frame.busyShare, 1) * 26, 0.75);
    drawn.turns += box(x - each * 0.45, 38 - height, Math.max(each * 0.9, 0.8), height);
    if (isGap(frame) && index > 0) drawn.gaps += box(x - each / 2 - 2, 10, 4, 28);
    if (frame.stalls.length > 0) drawn.peaks += `M${x} 3l3.5 6h-7z`;
  });
  for (const [name, d] of Object.entries(drawn)) path(name, d);
  path("choice", box(THUMB + at * each - 1, 0, 2, 40));
  path("axis", `M${THUMB} 38.5H${width - THUMB}`);
}

const PHASES = {
  results: "results of jobs, watched objects, signals",
  ready: "connections with an event",
  carried: "connections carried over, or with a result",
  deadlines: "deadlines that have passed",
  accept: "new clients, and their first requests",
  free: "slots of closed connections",
};

// Draws the phases of a turn as one bar.
export function phases(box_, given) {
  const total = given.reduce((sum, [, ns]) => sum + ns, 0);
  box_.replaceChildren(...given.map(([name, ns], at) => {
    const part = h("span", { class: `phase-${at % 6}`, title: `${name}: ${duration(ns)}` }, ns > total * 0.15 ? h("b", {}, name) : null);
    part.style.flexGrow = String(ns);
    return part;
  }));
}

export function phaseRows(given) {
  const total = given.reduce((sum, [, ns]) => sum + ns, 0);
  return given.map(([name, ns], at) => ({ key: name, cells: [{ text: name, swatch: at % 6 }, duration(ns), `${total > 0 ? ((100 * ns) / total).toFixed(0) : 0}%`, PHASES[name] ?? ""] }));
}

// A pause between two steps that is worth a line: most of a turn, or a millisecond.
const PAUSE_NS = 1e6;

// Shows the steps of a turn.
export function steps(box_, all, turn) {
  const items = [];
  const pause = (fromNs, toNs) => {
    const ns = toNs - fromNs;
    if (ns >= PAUSE_NS || (ns > turn.tookNs / 2 && ns > 50e3)) items.push(h("li", { class: "pause" }, h("span", { class: "time" }), h("span", {}, `${duration(ns)} until the next step`)));
  };
  let last = turn.beganNs;
  for (const step of all) {
    pause(last, step.atNs);
    last = step.atNs;
    const kind = /^(phase|stale|panic)/.exec(step.text)?.[1] ?? "step";
    items.push(h("li", { class: `kind-${kind}` },
      h("span", { class: "time" }, `+${((step.atNs - turn.beganNs) / 1e6).toFixed(3)} ms`),
      h("span", { class: "what" }, step.text),
      h("span", { class: "place" }, place(step.place))));
  }
  if (turn.leftOut > 0) items.push(h("li", { class: "pause" }, h("span", { class: "time" }), h("span", {}, `${turn.leftOut} further steps are not recorded`)));
  else pause(last, turn.beganNs + turn.tookNs);
  items.push(h("li", { class: "kind-phase" }, h("span", { class: "time" }, `+${(turn.tookNs / 1e6).toFixed(3)} ms`), h("span", { class: "what" }, `turn ${turn.turn} end`), h("span")));
  box_.replaceChildren(...items);
}
