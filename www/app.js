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

// Sends one request. Shows status line, media type, size and body as text.
async function ask(target, options, place) {
  const started = performance.now();
  let summary;
  let content = "";
  let response = null;
  try {
    response = await fetch(target, { cache: "no-store", ...options });
    const bytes = await response.arrayBuffer();
    const spent = (performance.now() - started).toFixed(1);
    const type = response.headers.get("content-type") ?? "no type";
    summary = `${response.status} ${response.statusText} · ${type} · ${bytes.byteLength} bytes · ${spent} ms round trip`;
    content = new TextDecoder().decode(bytes);
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
  const response = await ask("api/time", { headers: { accept: "application/json" } }, place);
  const type = response?.headers.get("content-type") ?? "";
  if (!response?.ok || !type.includes("json")) withoutApi();
}

greet();
