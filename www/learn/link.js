// Addresses of steps: the fragment of the URL, as docs/stepper.md defines it.
//
// Three more keys belong to the page only: x (an edited scenario, compressed), vs (the run to
// compare with) and w (the selected name).

export const LINK_CHARS_MAX = 2000;
const TEXT_BYTES_MAX = 65536;
const KEYS = "s, bug, seed, set, g, n, vs, w, x";

export function start(scenario) {
  return { scenario, bug: "none", seed: null, sets: [], guess: null, n: 0, versus: null, who: null, packed: null };
}

export function encode(state) {
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
export function decode(link) {
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
export function number(pair, value, least) {
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

export async function pack(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export async function unpack(packed) {
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
