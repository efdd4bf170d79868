// The room page: from the preview into the call and out again. It holds the state; the other modules do the work.

import { Call } from "./call.js";
import { LevelMeter, LocalMedia, memory } from "./media.js";
import { bindDevices, Preview, rememberedName } from "./preview.js";
import { figures, QualityWatch } from "./quality.js";
import { roomSegment, Signalling, socketUrl } from "./signalling.js";
import { setIcon, Tiles } from "./tiles.js";

/** Joins in a row whose media never got through, before the page stops trying. */
const BLOCKED_JOINS_MAX = 3;
const SPEAKING_PERIOD_MS = 150;
/** Linear level above which somebody speaks: about -38 dBov. */
const SPEAKING_LEVEL = 0.0125;
/** The ring stays this long after the last loud moment. */
const SPEAKING_HOLD_MS = 500;

const $ = (id) => document.getElementById(id);
const options = new URLSearchParams(location.search);

const media = new LocalMedia();
for (const source of ["microphone", "camera"]) {
  if (options.get(source) === "0") media.wanted[source] = false;
}

/** `preview`, `joining`, `in-room`, `reconnecting`, `left` or `failed`. */
let state = "preview";
let name = rememberedName(location.search);
let you = null;
let signalling = null;
let call = null;
let watch = null;
let blockedJoins = 0;
let shown = false; // Whether this page has been in the room since the last join by hand.
let wakeLock = null;
/** Others in the room: id -> `{ id, name, sources }`, in the order of their coming. */
let participants = new Map();
/** When somebody was last loud: id -> milliseconds. */
const loud = new Map();
/** Last RTP timestamp by id: a line that stands still is silent. */
const heard = new Map();
let levels = new Map();
const ownMeter = new LevelMeter();

const tiles = new Tiles({ area: $("area"), screens: $("screens"), participants: $("tiles"), onBlocked: () => setNotice("sound", "The browser holds back the sound until you click.", "Play sound", () => {
  setNotice("sound", null);
  tiles.resume();
}) });
const preview = new Preview($("preview"), media, (typed) => {
  name = typed;
  join();
});

// --- what tests and curious people look at: the real objects ---

window.roomgate = {
  get state() { return state; },
  get you() { return you; },
  get room() { return roomName(); },
  get pc() { return call?.pc ?? null; },
  get media() { return call?.media ?? null; },
  get local() { return media.tracks; },
  get participants() {
    return new Map([...participants.values()].map(({ id, name, sources }) => [id, {
      name,
      sources,
      video: tiles.video(id),
      screen: tiles.video(`${id}:screen`),
      tracks: call?.tracksOf(id) ?? { microphone: null, camera: null, screen: null },
    }]));
  },
};

// --- states ---

function setState(next) {
  state = next;
  document.documentElement.dataset.state = next;
  const view = next === "preview" ? "preview" : next === "left" || next === "failed" ? "end" : "call";
  for (const id of ["preview", "call", "end"]) $(id).hidden = id !== view;
  void holdScreen(view === "call");
}

function roomName() {
  const segment = roomSegment(location.pathname) ?? "";
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function join() {
  preview.exit();
  blockedJoins = 0;
  shown = false;
  placeDevices("devices-call");
  setState("joining");
  setNotice("connection", "Joining…");
  setQuality(null);
  LevelMeter.wake();
  render();
  $("call-title").focus();
  signalling = new Signalling(socketUrl(location), {
    onOpen: () => signalling.send({ type: "join", name }),
    onMessage: (message) => (inbox = inbox.then(() => onMessage(message)).catch((error) => {
      console.error(error);
      signalling?.restart("The page met a fault and joins again.");
    })),
    onWait,
    onEnd: ({ kind, text }) => finish("failed", kind === "ended" ? "The call has ended" : shown ? "You are no longer in the room" : "You could not join", text),
  });
  signalling.start();
}

// Messages are handled one after another, in the order of their coming, although some steps wait.
let inbox = Promise.resolve();

function leave() {
  signalling?.send({ type: "leave" });
  finish("left", "You left the room", "Camera and microphone are off.");
}

function finish(next, title, text) {
  signalling?.stop();
  signalling = null;
  endCall();
  participants = new Map();
  tiles.clear();
  media.closeAll();
  ownMeter.attach(null);
  clearNotices();
  you = null;
  if ($("settings").open) $("settings").close();
  $("end-title").textContent = title;
  $("end-text").textContent = text;
  $("again").textContent = next === "left" ? "Join again" : "Try again";
  setState(next);
  document.title = `${roomName()} · Roomgate`;
  $("end-title").focus();
}

function endCall() {
  watch?.stop();
  watch = null;
  call?.close();
  call = null;
  loud.clear();
  heard.clear();
}

function onWait({ text, ms, attempts }) {
  if (state === "in-room") announce(text);
  setState(shown ? "reconnecting" : "joining");
  const seconds = Math.max(1, Math.round(ms / 1_000));
  const words = ms < 2_500 && attempts < 3 ? text : `${text} Trying again in ${seconds} s.`;
  setNotice("connection", words, ms < 2_500 ? null : "Try now", () => signalling?.now());
  setQuality(null);
}

// --- messages ---

async function onMessage(message) {
  switch (message.type) {
    case "welcome":
      await enter(message);
      break;
    case "answer":
    case "slots":
    case "lines":
      await call?.handle(message);
      break;
    case "joined":
      for (const participant of message.participants) participants.set(participant.id, participant);
      announce(`${names(message.participants)} joined`);
      onPeopleChange();
      break;
    case "left": {
      const gone = message.participants.map((id) => participants.get(id)).filter((participant) => participant !== undefined);
      for (const { id } of gone) participants.delete(id);
      if (gone.length > 0) announce(`${names(gone)} left`);
      onPeopleChange();
      break;
    }
    case "sources":
      for (const participant of message.participants) {
        if (participants.has(participant.id)) participants.set(participant.id, participant);
      }
      render();
      break;
    case "error":
      if (!message.fatal) toast(message.message);
      break;
  }
}

async function enter(welcome) {
  // Only now does the old connection end: until here its sound and picture may still have come through.
  endCall();
  you = welcome.you;
  participants = new Map(welcome.participants.map((participant) => [participant.id, participant]));
  const socket = signalling;
  call = new Call({
    send: (message) => socket.send(message),
    onAnswered: () => {
      if (state === "in-room") return;
      if (shown) announce("You are back in the room");
      shown = true;
      setState("in-room");
      setNotice("connection", null);
    },
    onSlots: render,
    onMedia,
    onDead: (text, blocked) => {
      if (!blocked) {
        socket.restart(text);
        return;
      }
      blockedJoins += 1;
      if (blockedJoins >= BLOCKED_JOINS_MAX) finish("failed", "Sound and picture do not get through", blockedWords());
      else socket.restart(`${text} Trying once more.`);
    },
  });
  watch = new QualityWatch(call.pc, (report) => {
    levels = report.levels;
    setQuality(report);
  });
  onPeopleChange();
  const muted = { microphone: !media.isOn("microphone"), camera: !media.isOn("camera") };
  await call.start({ ...media.tracks }, muted, welcome.lines);
}

let lastPorts = [];

function blockedWords() {
  const port = (call?.ports.length ? call.ports : lastPorts).join(" or ") || "the service's UDP port";
  return `The network between you and the service lets nothing through on ${port}. Ask for it to be opened in the firewall, or try another network, such as a phone's.`;
}

function onMedia(media) {
  lastPorts = call.ports;
  switch (media) {
    case "connected":
      blockedJoins = 0;
      setNotice("media", null);
      setQuality(null, "Connected");
      break;
    case "interrupted":
      setNotice("media", "Sound and picture are interrupted. Looking for another way…");
      break;
    case "blocked":
      setNotice("media", blockedWords());
      break;
  }
  if (media !== "connected") setQuality(null);
}

// --- local media ---

// One step after another: a track that is replaced twice at once may end as the older one.
let syncing = Promise.resolve();

media.addEventListener("change", () => {
  render();
  syncing = syncing.then(async () => {
    if (call === null) return;
    for (const source of ["microphone", "camera", "screen"]) {
      await call?.setTrack(source, media.tracks[source]);
      if (source !== "screen") call?.setMuted(source, !media.isOn(source));
    }
  }).catch((error) => console.error(error));
});
media.addEventListener("lost", ({ detail }) => {
  if (detail === "screen") announce("Your screen is no longer shared");
  else if (state !== "preview") toast(`The ${detail} was unplugged or stopped.`);
});

async function toggle(source) {
  await media.want(source, !media.isOn(source));
  const fault = media.faults[source];
  if (fault !== null) toast(`${fault.title} ${fault.cure}`);
}

async function toggleScreen() {
  if (media.tracks.screen !== null) {
    media.stopScreen();
    return;
  }
  const shared = await media.shareScreen();
  if (shared) announce("Your screen is shared");
  else toast(`${media.faults.screen.title} ${media.faults.screen.cure}`);
}

function placeDevices(slot) {
  $(slot).append($("devices"));
}

// --- drawing ---

function onPeopleChange() {
  call?.setParticipants(participants.size + 1);
  render();
}

function render() {
  if (state === "preview" || state === "left" || state === "failed") return;
  const models = [];
  if (media.tracks.screen !== null) {
    models.push({ key: "you:screen", kind: "screen", name, label: "Your screen", you: true, microphoneMuted: false, cameraMuted: false, video: media.tracks.screen, audio: null, mirrored: false });
  }
  models.push({
    key: "you", kind: "participant", name: name || "Guest", label: `${name || "Guest"} (you)`, you: true, mirrored: true,
    microphoneMuted: !media.isOn("microphone"), cameraMuted: false, video: media.tracks.camera, audio: null,
  });
  for (const participant of participants.values()) {
    const tracks = call?.tracksOf(participant.id) ?? { microphone: null, camera: null, screen: null };
    const source = (wanted) => participant.sources.find((entry) => entry.source === wanted);
    const label = participant.name || "Guest";
    const common = { name: label, you: false, mirrored: false };
    if (source("screen")) {
      models.unshift({ ...common, key: `${participant.id}:screen`, kind: "screen", label: `Screen of ${label}`, microphoneMuted: false, cameraMuted: false, video: tracks.screen, audio: null });
    }
    models.push({
      ...common, key: participant.id, kind: "participant", label,
      microphoneMuted: source("microphone")?.muted ?? true, cameraMuted: source("camera")?.muted ?? true,
      video: tracks.camera, audio: tracks.microphone,
    });
  }
  tiles.show(models);
  ownMeter.attach(media.tracks.microphone);

  const count = participants.size + 1;
  $("count").textContent = String(count);
  document.title = `${roomName()} (${count}) · Roomgate`;
  button("microphone", media.isOn("microphone"), "Mute microphone (M)", "Unmute microphone (M)");
  button("camera", media.isOn("camera"), "Switch camera off (V)", "Switch camera on (V)");
  const sharing = media.tracks.screen !== null;
  const words = sharing ? "Stop sharing your screen (S)" : "Share your screen (S)";
  $("screen").hidden = !media.canShareScreen;
  $("screen").classList.toggle("active", sharing);
  $("screen").setAttribute("aria-label", words);
  $("screen").title = words;
  setIcon($("screen").querySelector("svg"), sharing ? "screen-off" : "screen");
  setNotice("alone", count === 1 && state === "in-room" ? "Nobody else is here yet." : null, "Copy the link", copyLink);
}

function button(source, on, whenOn, whenOff) {
  const words = on ? whenOn : whenOff;
  $(source).classList.toggle("off", !on);
  $(source).setAttribute("aria-label", words);
  $(source).title = words;
  setIcon($(source).querySelector("svg"), on ? source : `${source}-off`);
}

// Without a report: nothing is measured yet, and `word` says what there is instead.
function setQuality(report, word = "Connecting") {
  $("quality").dataset.grade = report?.grade ?? "none";
  $("quality-word").textContent = report === null ? word : { good: "Good", fair: "Fair", poor: "Poor" }[report.grade];
  $("quality").setAttribute("aria-label", `Your connection: ${report?.grade ?? "not measured yet"}. Show figures`);
  $("quality").title = report?.words ?? "Your connection";
  $("quality-words").textContent = report?.words ?? "Nothing is measured yet.";
  $("quality-figures").replaceChildren(...(report === null ? [] : figures(report.sample)).flatMap(([term, value]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = term;
    dd.textContent = value;
    return [dt, dd];
  }));
}

setInterval(() => {
  if (call === null || document.visibilityState === "hidden") return;
  const now = performance.now();
  if (media.isOn("microphone") && ownMeter.read() > 0.4) loud.set("you", now);
  for (const id of participants.keys()) {
    const receiver = call.microphoneOf(id);
    if (receiver === null) continue;
    const [source] = receiver.getSynchronizationSources?.() ?? [];
    const moving = source !== undefined && heard.get(id) !== source.rtpTimestamp;
    heard.set(id, source?.rtpTimestamp);
    // Without the audio-level header extension the browser knows the level only in its statistics.
    const level = source?.audioLevel ?? levels.get(call.midOf(receiver)) ?? 0;
    if (moving && level > SPEAKING_LEVEL) loud.set(id, now);
  }
  for (const id of ["you", ...participants.keys()]) tiles.speaking(id, now - (loud.get(id) ?? -Infinity) < SPEAKING_HOLD_MS);
}, SPEAKING_PERIOD_MS);

// --- words ---

const notices = new Map();

// Shows, changes or takes away (text null) one notice with at most one button.
function setNotice(key, text, action = null, onAction = null) {
  if (text === null) {
    notices.get(key)?.remove();
    notices.delete(key);
    return;
  }
  let row = notices.get(key);
  if (row === undefined) {
    row = document.createElement("div");
    row.className = `notice ${key}`;
    row.append(document.createElement("span"));
    notices.set(key, row);
    $("notices").append(row);
  }
  const span = row.firstElementChild;
  if (span.textContent !== text) span.textContent = text;
  const present = row.querySelector("button");
  if ((present?.textContent ?? null) === action) return;
  present?.remove();
  if (action !== null) {
    const control = document.createElement("button");
    control.type = "button";
    control.textContent = action;
    control.addEventListener("click", onAction);
    row.append(control);
  }
}

function clearNotices() {
  for (const key of [...notices.keys()]) setNotice(key, null);
}

function toast(text) {
  const row = document.createElement("div");
  row.className = "toast";
  row.textContent = text;
  $("toasts").append(row);
  while ($("toasts").children.length > 3) $("toasts").firstElementChild.remove();
  setTimeout(() => row.remove(), 4_000 + 60 * text.length);
}

let announced = [];
let announceTimer = 0;

// Says things to screen readers, gathered: fifty people who join are not fifty sentences.
function announce(text) {
  announced.push(text);
  clearTimeout(announceTimer);
  announceTimer = setTimeout(() => {
    $("announce").textContent = announced.length > 4 ? `${participants.size + 1} are in the room` : `${announced.join(". ")}.`;
    announced = [];
  }, 400);
}

function names(list) {
  const all = list.map((participant) => participant.name || "Guest");
  if (all.length > 3) return `${all[0]}, ${all[1]} and ${all.length - 2} others`;
  return all.length === 1 ? all[0] : `${all.slice(0, -1).join(", ")} and ${all.at(-1)}`;
}

async function copyLink() {
  // Without the query: a token and a name belong to one person.
  const link = new URL(location.pathname, location.href).href;
  try {
    await navigator.clipboard.writeText(link);
    setIcon($("copy").querySelector("svg"), "check");
    setTimeout(() => setIcon($("copy").querySelector("svg"), "link"), 1_600);
    toast(options.has("token") ? "The room's address is copied. Others need a link of their own to enter." : "The link is copied. Send it to whom you want to meet.");
  } catch {
    toast(`The browser does not let this page copy. The link is ${link}`);
  }
}

async function holdScreen(on) {
  if (!on) {
    wakeLock?.release().catch(() => {});
    wakeLock = null;
  } else if (wakeLock === null && document.visibilityState === "visible") {
    wakeLock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
    wakeLock?.addEventListener("release", () => (wakeLock = null));
  }
}

// --- wiring ---

for (const element of document.querySelectorAll(".room-name")) element.textContent = roomName();
document.title = `${roomName()} · Roomgate`;
bindDevices($("devices"), media, (id) => tiles.useSpeaker(id));
if (media.chosen.speaker !== "") tiles.useSpeaker(media.chosen.speaker);

$("microphone").addEventListener("click", () => toggle("microphone"));
$("camera").addEventListener("click", () => toggle("camera"));
$("screen").addEventListener("click", toggleScreen);
$("copy").addEventListener("click", copyLink);
$("leave").addEventListener("click", leave);
$("quality").addEventListener("click", () => $("settings").showModal());
$("open-settings").addEventListener("click", () => $("settings").showModal());
$("again").addEventListener("click", () => {
  placeDevices("devices-preview");
  setState("preview");
  void preview.enter();
  $("name").focus();
});

const shortcuts = $("shortcuts");
shortcuts.checked = memory.get("shortcuts", "on") === "on";
shortcuts.addEventListener("change", () => memory.set("shortcuts", shortcuts.checked ? "on" : "off"));
document.addEventListener("keydown", (event) => {
  LevelMeter.wake();
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (!shortcuts.checked || $("call").hidden || typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  switch (event.key.toLowerCase()) {
    case "m": void toggle("microphone"); break;
    case "v": void toggle("camera"); break;
    case "s": if (media.canShareScreen) void toggleScreen(); break;
  }
});
document.addEventListener("pointerdown", () => LevelMeter.wake());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && !$("call").hidden) void holdScreen(true);
});
addEventListener("online", () => call?.nudge());
addEventListener("pagehide", () => {
  signalling?.send({ type: "leave" });
  signalling?.stop();
});
addEventListener("pageshow", (event) => {
  // A page from the browser's memory has lost its connection and its devices.
  if (event.persisted) location.reload();
});

if (options.get("autojoin") === "1") {
  setState("joining");
  await media.open();
  join();
} else {
  await preview.enter();
}
