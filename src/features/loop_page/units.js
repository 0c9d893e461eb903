// Texts of numbers: durations, bytes, rates and shares.

export const SECOND_NS = 1e9;

const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2));

// A measured duration: 52.7 ms. The letters are those of the steps.
export function duration(ns) {
  if (ns < 999.5) return `${Math.round(ns)} ns`;
  if (ns < 999.5e3) return `${digits(ns / 1e3)} us`;
  if (ns < 999.5e6) return `${digits(ns / 1e6)} ms`;
  return seconds(ns);
}

export const seconds = (ns) => `${(ns / SECOND_NS).toFixed(ns < 9.995e9 ? 2 : 1)} s`;

// The upper bound of a range of durations: 2.5 ms.
export function bound(ns) {
  if (ns === null) return "none";
  if (ns === Infinity) return "over 1 s";
  if (ns < 1e6) return `${ns / 1e3} us`;
  return ns < SECOND_NS ? `${ns / 1e6} ms` : `${ns / SECOND_NS} s`;
}

export function bytes(value) {
  if (value < 1023.5) return `${Math.round(value)} B`;
  if (value < 1023.5 * 1024) return `${digits(value / 1024)} KiB`;
  if (value < 1023.5 * 1024 ** 2) return `${digits(value / 1024 ** 2)} MiB`;
  return `${digits(value / 1024 ** 3)} GiB`;
}

export const rate = (number, ns) => (ns === 0 ? 0 : (number * SECOND_NS) / ns);
export const whole = (value) => Math.round(value).toLocaleString("en");
export const few = (value) => (value === 0 || value >= 99.95 ? whole(value) : digits(value));

export function percent(share) {
  if (share > 0 && share < 0.001) return "under 0.1%";
  return `${(share * 100).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}%`;
}

export const plural = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;
