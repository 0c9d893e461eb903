// The fate of a failing run: the search for the step that decides it, and its picture.
//
// `whirligig zoo fate` does the same search in a terminal. This file must not know the page.

import { h } from "./draw.js";

const SEARCH_MS_MAX = 30000;
// A piece of the search ends after about this time, so that the page stays usable.
const PIECE_MS = 15;

// Examines steps of a run until one is found, the time is over, or `isStopped()` returns true.
// Calls `onProgress` with a number from 0 to 1. Returns the line of fate (loop.js), and in
// `isLate` whether the time was over.
export async function search(engine, run, { isStopped, onProgress }) {
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
export function chart(line, steps) {
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
export function rows(line, lines, linkTo) {
  const heads = ["after step", `fail of ${line.futures}`, "last step until there"];
  const cells = line.points.map(({ step, failed }) => h("tr", { class: step === line.decided_at ? "decided" : null },
    h("th", { scope: "row" }, h("a", { href: linkTo(step) }, String(step)), step === line.decided_at && step > 0 ? " decides" : ""),
    h("td", {}, String(failed)), h("td", {}, step === 0 ? "none" : lines[step - 1].text)));
  return h("table", {}, h("caption", {}, "Futures that fail"), h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, cells));
}
