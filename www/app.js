// Interactive parts of the home page. Without this script all links and the form still work.
"use strict";

const SHOWN_CHARS_MAX = 4000;

for (const element of document.querySelectorAll("[data-script]")) element.hidden = false;

// Shows the address of this server in the commands.
if (location.protocol.startsWith("http")) {
  for (const element of document.querySelectorAll(".origin")) element.textContent = location.origin;
}

const hold = document.getElementById("hold");
hold.hidden = false;
hold.addEventListener("click", () => {
  const held = document.documentElement.classList.toggle("held");
  hold.textContent = held ? "Let it spin" : "Hold the wheel";
});

// Adds a button to each command that copies it, without the output below it.
for (const block of document.querySelectorAll("pre[data-copy]")) {
  if (!navigator.clipboard) break; // Only secure origins and loopback have one.
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.ariaLabel = "Copy the command";
  button.addEventListener("click", async () => {
    const copy = block.cloneNode(true);
    for (const output of copy.querySelectorAll("samp")) output.remove();
    try {
      await navigator.clipboard.writeText(copy.textContent.trim());
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(block);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  const frame = document.createElement("div");
  frame.className = "copied";
  block.replaceWith(frame);
  frame.append(block, button);
}

// Returns the milliseconds between request and end of the response, as the browser measured them:
// without the time to connect, and without the work of this page.
function roundTrip(target) {
  const timing = performance.getEntriesByName(new URL(target, document.baseURI).href).at(-1);
  const spent = timing?.requestStart > 0 ? timing.responseEnd - timing.requestStart : -1;
  return spent >= 0 ? `${spent.toFixed(1)} ms round trip` : null;
}

// Indents JSON, so that no line is too wide.
function readable(text, type) {
  if (!type.startsWith("application/json")) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// Sends one request. Shows status line, media type, size and body as text.
async function ask(target, options, place) {
  let summary;
  let content = "";
  let response = null;
  performance.clearResourceTimings();
  try {
    response = await fetch(target, { cache: "no-store", ...options });
    const bytes = await response.arrayBuffer();
    const type = response.headers.get("content-type") ?? "no type";
    const facts = [`${response.status} ${response.statusText}`, type, `${bytes.byteLength} bytes`, roundTrip(target)];
    summary = facts.filter(Boolean).join(" · ");
    content = readable(new TextDecoder().decode(bytes), type);
    if (content.length > SHOWN_CHARS_MAX) content = `${content.slice(0, SHOWN_CHARS_MAX)}\n(truncated)`;
  } catch {
    summary = "No response. Is the server still running?";
  }
  const line = document.createElement("p");
  line.textContent = summary;
  const block = document.createElement("pre");
  block.textContent = content.trimEnd();
  block.tabIndex = 0;
  place.replaceChildren(line, ...(block.textContent ? [block] : []));
  place.hidden = false;
  return response;
}

for (const button of document.querySelectorAll("button[data-get]")) {
  button.addEventListener("click", () => {
    const { get, accept } = button.dataset;
    ask(get, accept ? { headers: { accept } } : {}, button.closest(".card").querySelector(".answer"));
  });
}

const echo = document.getElementById("echo");
echo.addEventListener("submit", (event) => {
  event.preventDefault();
  const type = document.getElementById("echo-type").value;
  const body = new Blob([document.getElementById("echo-text").value], { type });
  ask(echo.action, { method: "POST", body }, document.getElementById("echo-answer"));
});

// A first request checks whether the routes below /api/ are available.
function withoutApi() {
  document.getElementById("api-note").hidden = false;
  document.getElementById("time-answer").hidden = true;
  for (const control of document.querySelectorAll("#api-cards :is(button, textarea, select)")) control.disabled = true;
}

async function greet() {
  if (!location.protocol.startsWith("http")) return withoutApi();
  const place = document.getElementById("time-answer");
  // The second request shows the time of a warm server and an open connection.
  await fetch("api/time", { cache: "no-store" }).then((response) => response.arrayBuffer()).catch(() => {});
  const response = await ask("api/time", { headers: { accept: "application/json" } }, place);
  const type = response?.headers.get("content-type") ?? "";
  if (!response?.ok || !type.includes("json")) withoutApi();
}

greet();
