// The engine of the page, or recordings in its place where the browser refuses it.
//
// This file must not know what the page does with it.

import { loadRecordings } from "./recorded.js";

// Recordings are those of the scenarios with these names, or all.
export async function loadEngine(names) {
  try {
    const { loadEngine: load } = await import("./loop.js");
    return await load(new URL("loop.wasm", import.meta.url));
  } catch (error) {
    // Without recordings as well, the first error is the one to show.
    return loadRecordings(names).catch(() => Promise.reject(error));
  }
}
