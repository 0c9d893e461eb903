// Runs that are open in the engine, each with all its steps and the names of its clients.
//
// This file must not know how a run is shown.

export class Runs {
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
