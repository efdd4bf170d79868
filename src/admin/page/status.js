// The status page: asks the process once a second and shows what it says. Nothing here is kept or guessed.

const PERIOD_MS = 1_000;
const ANSWER_MS_MAX = 3_000;
const ROOMS_SHOWN = 50;
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);

let lastAnswer = null; // Date of the last good answer.
let token = sessionStorage.getItem("roomgate.admin-token") ?? "";
let timer = 0;

// --- asking ---

async function api(path, init = {}) {
  const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
  return fetch(path, { ...init, headers, cache: "no-store", signal: AbortSignal.timeout(init.method === "POST" ? 30_000 : ANSWER_MS_MAX) });
}

async function look() {
  clearTimeout(timer);
  try {
    const response = await api(`/api/v1/status?rooms=${ROOMS_SHOWN}`);
    if (response.status === 401) {
      askToken();
      return;
    }
    if (!response.ok) throw new Error(`the process answers ${response.status}: ${(await response.text()).trim()}`);
    const status = await response.json();
    lastAnswer = new Date();
    setLost(null);
    show(status);
  } catch (error) {
    setLost(error);
  }
  // A page that nobody sees asks nothing.
  if (document.visibilityState === "visible") timer = setTimeout(look, PERIOD_MS);
}

function setLost(error) {
  document.documentElement.dataset.link = error === null ? "live" : "lost";
  $("lost").hidden = error === null;
  if (error === null) return;
  const reason = error.name === "TimeoutError" ? "no answer in time" : error instanceof TypeError ? "nothing answers at this address" : error.message;
  const since = lastAnswer === null ? "" : ` What follows is from ${clock(lastAnswer)}, ${age((Date.now() - lastAnswer) / 1_000)} ago.`;
  $("lost").textContent = `No connection to the process: ${reason}.${since} Asking again every second.`;
  pill("lost", "No connection");
}

function askToken() {
  $("token-fault").textContent = token === "" ? "" : "This token is not known.";
  $("token-form").hidden = false;
  $("main").hidden = true;
  pill("new", "Token needed");
  $("token").focus();
}

// --- showing ---

function show(status) {
  const { process, ready, nodes, rooms, media, edge, config } = status;
  $("token-form").hidden = true;
  $("main").hidden = false;
  $("edge").textContent = process.edge ?? "";
  $("process").textContent = `Version ${process.version} · up ${age(process.uptime_seconds)} · ${process.listeners.join(", ")} · ${count(process.tasks, "task")}`;
  pill(ready.ready ? "good" : "bad", ready.ready ? "Serving" : "Not ready");
  list($("reasons"), ready.reasons);
  document.title = `${ready.ready ? "" : "✕ "}Roomgate ${process.edge ?? "status"}`;

  const serving = nodes.filter((node) => node.can_serve).length;
  $("sum-nodes").textContent = `${serving} of ${nodes.length}`;
  $("sum-nodes-note").textContent = serving === nodes.length ? "all can serve" : `${count(nodes.length - serving, "node")} cannot serve`;
  $("sum-nodes").classList.toggle("bad", serving < nodes.length);
  const people = media.reduce((sum, worker) => sum + worker.sessions, 0);
  $("sum-rooms").textContent = number(rooms.total);
  $("sum-rooms-note").textContent = media.length === 0 ? "" : `${count(people, "participant")} here`;
  // Of what this process does not do there are no figures: nodes elsewhere, a cache, media.
  $("tunnels-card").hidden = nodes.length <= media.length;
  $("sum-tunnels").textContent = number(edge.tunnels);
  $("sum-tunnels-note").textContent = edge.bans === 0 ? "nobody is banned" : `${count(edge.bans, "ban")} in force`;
  const { cache } = edge;
  $("cache-card").hidden = cache.bytes_max === 0;
  $("sum-cache").textContent = cache.hit_ratio === null ? "–" : `${Math.floor(cache.hit_ratio * 100)} %`;
  $("sum-cache-note").textContent = `${count(cache.objects, "answer")}, ${bytes(cache.bytes)} of ${bytes(cache.bytes_max)}`;
  document.querySelectorAll("[data-media]").forEach((card) => (card.hidden = media.length === 0));
  const total = (key) => media.reduce((sum, worker) => sum + worker.rate[key], 0);
  $("sum-in").textContent = bits(total("bytes_in"));
  $("sum-out").textContent = bits(total("bytes_out"));
  spark($("spark-in"), added(media, "bytes_in"));
  spark($("spark-out"), added(media, "bytes_out"));

  rows($("nodes"), nodes, (node) => `${node.pool}/${node.name}`, (node) => [
    cell("Node", [text("b", node.name), text("span", `${node.pool} · ${node.target}`, "soft")], "stack"),
    cell("State", [state(node.can_serve ? "good" : node.state === "starting" ? "warn" : "bad", node.state)]),
    cell("Why", [node.why], "wide"),
    cell("Since", [age(node.since_seconds)], "num"),
    cell("Open", [number(node.open_streams)], "num"),
  ], "No pools.");

  $("media-section").hidden = media.length === 0;
  keyed($("media"), media, (worker) => String(worker.worker), workerCard);

  $("rooms-note").textContent = rooms.total > rooms.rooms.length ? `${rooms.rooms.length} of ${number(rooms.total)}` : "";
  rows($("rooms"), rooms.rooms, (room) => `${room.pool} ${room.scope} ${room.key}`, (room) => [
    cell("Room", [text("b", room.key), text("span", room.scope === "*" ? room.pool : `${room.scope} · ${room.pool}`, "soft")], "stack wide"),
    cell("Place", [room.node]),
    cell("Participants", [room.participants === null ? "–" : number(room.participants)], "num"),
    cell("Held by", [number(room.holds)], "num"),
    cell("Age", [age(room.age_seconds)], "num"),
  ], "No rooms at the moment.");

  $("config").textContent = `Generation ${config.generation} from ${config.source}, running since ${moment(config.loaded_at)}.`;
  list($("warnings"), config.warnings);
  rows($("history"), config.history, (record) => `${record.at} ${record.generation} ${record.cause}`, (record) => [
    cell("When", [moment(record.at)]),
    cell("Asked by", [{ signal: "signal", file: "change of the file", api: "this API" }[record.cause] ?? record.cause]),
    cell("Result", [state({ applied: "good", rejected: "bad" }[record.result] ?? "none", record.result)]),
    cell("What it said", said(record), "wide"),
  ], "None since the start.");
}

function workerCard(worker) {
  const card = document.createElement("div");
  card.className = "worker";
  const well = worker.selftest?.ok !== false && worker.heartbeat_age_ms < 1_000;
  const title = document.createElement("h3");
  title.append(state(well ? "good" : "bad", `worker ${worker.worker}`));
  const selftest = worker.selftest === null ? "not tested yet" : worker.selftest.ok ? `passed ${age(worker.selftest.age_seconds)} ago` : worker.selftest.why;
  const lines = document.createElement("div");
  lines.className = "lines";
  for (const [name, rate, key] of [
    ["in", `${bits(worker.rate.bytes_in)} · ${number(worker.rate.packets_in)} packets/s`, "bytes_in"],
    ["out", `${bits(worker.rate.bytes_out)} · ${number(worker.rate.packets_out)} packets/s`, "bytes_out"],
  ]) {
    const line = document.createElement("div");
    const figure = document.createElement("div");
    figure.className = "spark";
    spark(figure, worker.history.map((point) => point[key]));
    line.append(text("span", name, "soft"), text("span", rate, "rate"), figure);
    lines.append(line);
  }
  const facts = document.createElement("dl");
  const dropped = Object.entries(worker.drops).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  for (const [term, value, bad] of [
    ["Rooms", number(worker.rooms)],
    ["Participants", number(worker.sessions)],
    ["Flows", number(worker.flows)],
    ["Heartbeat", `${number(worker.heartbeat_age_ms)} ms ago`, worker.heartbeat_age_ms >= 1_000],
    ["Self-test", selftest, worker.selftest?.ok === false],
    ["Socket buffer full, in", number(worker.socket_receive_overflows), worker.socket_receive_overflows > 0],
    ["Socket buffer full, out", number(worker.socket_send_overflows), worker.socket_send_overflows > 0],
    ["Ring full", number(worker.ring_full), worker.ring_full > 0],
    ["Dropped", dropped.length === 0 ? "0" : dropped.map(([reason, n]) => `${number(n)} ${reason.replaceAll("_", " ")}`).join(", ")],
  ]) {
    facts.append(text("dt", term), text("dd", value, bad ? "bad" : ""));
  }
  card.append(title, lines, facts);
  return card;
}

function said(record) {
  const parts = [];
  if (record.faults !== "") parts.push(text("pre", record.faults.trimEnd(), "faults"));
  if (record.restart_needed.length > 0) parts.push(`Waits for a restart: ${record.restart_needed.join(", ")}`);
  if (parts.length === 0) parts.push(`Generation ${record.generation}, in ${number(record.took_ms)} ms`);
  return parts;
}

// --- pieces ---

// Keeps one child per item; a child is made anew only when its item is another than before.
function keyed(parent, items, keyOf, make) {
  const present = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = keyOf(item);
    const told = JSON.stringify(item);
    const child = present.get(key);
    if (child !== undefined && child.told === told) return child;
    const made = make(item);
    made.dataset.key = key;
    made.told = told;
    return made;
  });
  if (wanted.length !== parent.children.length || wanted.some((child, index) => parent.children[index] !== child)) parent.replaceChildren(...wanted);
}

function rows(body, items, keyOf, cells, empty) {
  if (items.length === 0) {
    const row = document.createElement("tr");
    const only = text("td", empty, "soft");
    only.colSpan = 5;
    row.append(only);
    body.replaceChildren(row);
    return;
  }
  keyed(body, items, keyOf, (item) => {
    const row = document.createElement("tr");
    row.append(...cells(item));
    return row;
  });
}

function cell(label, children, className = "") {
  const td = document.createElement("td");
  td.dataset.label = label;
  td.className = className;
  td.append(...children);
  return td;
}

function text(tag, words, className = "") {
  const element = document.createElement(tag);
  element.textContent = words;
  element.className = className;
  return element;
}

function state(grade, words) {
  const element = text("span", words, "state");
  element.dataset.state = grade;
  return element;
}

function pill(grade, words) {
  $("ready").dataset.state = grade;
  if ($("ready").textContent !== words) $("ready").textContent = words;
}

function list(element, lines) {
  element.hidden = lines.length === 0;
  const now = lines.join("\n");
  if (element.told === now) return;
  element.told = now;
  element.replaceChildren(...lines.map((line) => text("li", line)));
}

function added(media, key) {
  const length = Math.max(0, ...media.map((worker) => worker.history.length));
  const sums = new Array(length).fill(0);
  for (const worker of media) {
    worker.history.forEach((point, index) => (sums[length - worker.history.length + index] += point[key]));
  }
  return sums;
}

// A line over the last two minutes, with zero at the bottom and the largest value at the top.
function spark(parent, values) {
  const [width, height, points] = [240, 36, 120];
  const top = Math.max(1, ...values);
  const x = (index) => width - ((values.length - 1 - index) * width) / (points - 1);
  const y = (value) => height - 2 - (value / top) * (height - 4);
  const path = values.map((value, index) => `${index === 0 ? "M" : "L"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  if (values.length > 1) {
    for (const [className, d] of [["fill", `${path}L${width} ${height}L${x(0).toFixed(1)} ${height}Z`], ["line", path]]) {
      const element = document.createElementNS(SVG, "path");
      element.setAttribute("class", className);
      element.setAttribute("d", d);
      svg.append(element);
    }
  }
  parent.replaceChildren(svg);
}

function number(value) {
  return value.toLocaleString("en").replaceAll(",", "\u202f");
}

function count(value, noun) {
  return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
}

function bits(bytes) {
  const value = 8 * bytes;
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} Gbit/s`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(value / 1e3)} kbit/s`;
}

// Of memory: steps of 1024, as the file writes them.
function bytes(count) {
  const steps = ["B", "KiB", "MiB", "GiB"];
  let step = 0;
  for (; count >= 1024 && step < steps.length - 1; step += 1) count /= 1024;
  return `${count >= 10 || step === 0 ? Math.round(count) : count.toFixed(1)} ${steps[step]}`;
}

function age(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
}

function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

function moment(seconds) {
  const date = new Date(seconds * 1_000);
  return date.toDateString() === new Date().toDateString() ? clock(date) : `${date.toLocaleDateString("en-CA")} ${clock(date)}`;
}

// --- doing ---

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("roomgate.admin-token", token);
  void look();
});

$("reload").addEventListener("click", async () => {
  const answer = $("reload-answer");
  $("reload").disabled = true;
  answer.className = "";
  answer.textContent = "Reading the configuration…";
  try {
    const response = await api("/api/v1/reload", { method: "POST" });
    const record = response.headers.get("content-type") === "application/json" ? await response.json() : null;
    if (record === null) throw new Error((await response.text()).trim());
    const restart = record.restart_needed.length > 0 ? ` These keys wait for a restart: ${record.restart_needed.join(", ")}.` : "";
    answer.className = record.result === "rejected" ? "bad" : "good";
    answer.textContent = {
      applied: `Applied: generation ${record.generation} runs.${restart}`,
      rejected: "Rejected: the file has faults, and the old configuration runs on.",
    }[record.result];
    if ($("effective").open) void readEffective();
  } catch (error) {
    answer.className = "bad";
    answer.textContent = `The reload could not be asked for: ${error.message}`;
  }
  $("reload").disabled = false;
  void look();
});

async function readEffective() {
  try {
    const response = await api("/api/v1/config");
    $("effective-text").textContent = response.ok ? (await response.json()).effective : await response.text();
  } catch (error) {
    $("effective-text").textContent = `It could not be read: ${error.message}`;
  }
}

$("effective").addEventListener("toggle", () => {
  if ($("effective").open) void readEffective();
});

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") void look();
});

void look();
