// Shared by the browser scripts: Chromium, pages with made-up media, and what those pages see of each other.

import { createRequire } from "node:module";

const { chromium } = createRequire(`${process.env.ROOMGATE_E2E_MODULES}/`)("playwright-core");

const deadline = Date.now() + Number(process.env.ROOMGATE_E2E_DEADLINE_MS ?? 60_000);

/** Reads the script's input. */
export async function input() {
  let text = "";
  for await (const chunk of process.stdin) text += chunk;
  return JSON.parse(text);
}

/** Says where the script is: the test prints it when the script fails. */
export function say(text) {
  console.error(`${(performance.now() / 1_000).toFixed(1)} s  ${text}`);
}

/** Milliseconds left for a step that may take at most `ms`. */
export function left(ms) {
  const rest = Math.min(ms, deadline - Date.now());
  if (rest <= 0) throw new Error("the script's time is over");
  return rest;
}

/** Starts headless Chromium. */
export async function launch() {
  return chromium.launch({
    executablePath: process.env.ROOMGATE_CHROMIUM,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-quic",
      "--no-first-run",
      "--no-proxy-server",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // Every page works as if it were in front.
      "--disable-background-timer-throttling",
      "--disable-backgrounding-occluded-windows",
      "--disable-renderer-backgrounding",
      "--autoplay-policy=no-user-gesture-required",
      // The test's whole network is the loopback.
      "--allow-loopback-in-peer-connection",
      "--disable-features=WebRtcHideLocalIpsWithMdns",
    ],
  });
}

/** Runs in a page before its scripts: the camera is a canvas in one colour, the microphone an oscillator. */
function madeUpMedia({ colour, tone }) {
  const camera = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [160, 120];
    const context = canvas.getContext("2d");
    let frame = 0;
    const draw = () => {
      context.fillStyle = colour;
      context.fillRect(0, 0, 160, 120);
      // Something moves at the edge; the middle keeps its colour.
      context.fillStyle = frame % 2 ? "#202020" : "#e0e0e0";
      context.fillRect((frame * 4) % 160, 110, 8, 8);
      frame += 1;
    };
    draw();
    const [track] = canvas.captureStream(10).getVideoTracks();
    const timer = setInterval(() => (track.readyState === "live" ? draw() : clearInterval(timer)), 100);
    return track;
  };
  const microphone = () => {
    const audio = new AudioContext();
    const source = audio.createOscillator();
    source.frequency.value = tone;
    const volume = audio.createGain();
    volume.gain.value = 0.3;
    const destination = audio.createMediaStreamDestination();
    source.connect(volume).connect(destination);
    source.start();
    return destination.stream.getAudioTracks()[0];
  };
  const devices = navigator.mediaDevices;
  devices.getUserMedia = async ({ audio, video } = {}) =>
    new MediaStream([...(audio ? [microphone()] : []), ...(video ? [camera()] : [])]);
  const named = (kind, deviceId) => ({ kind, deviceId, groupId: "made-up", label: deviceId, toJSON() { return this; } });
  devices.enumerateDevices = async () => [named("audioinput", "oscillator"), named("videoinput", "canvas")];
}

/** Opens a page whose camera shows `colour`; what it logs as an error is kept in `page.faults`. */
export async function open(browser, { colour, tone }) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 960, height: 600 } });
  await context.addInitScript(madeUpMedia, { colour, tone });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("console", (line) => line.type() === "error" && page.faults.push(line.text()));
  return page;
}

/** Waits until `ask` gives something that is not null, undefined or false. */
export async function until(what, ms, ask) {
  const end = Date.now() + left(ms);
  let last;
  for (;;) {
    const value = await ask((seen) => (last = seen));
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}; last seen: ${JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Waits for a state of the page. */
export async function stateIs(page, state, ms = 20_000) {
  await until(`${page.who} is ${state}`, ms, async (seen) => {
    const now = await page.evaluate(() => ({
      state: document.documentElement.dataset.state,
      same: window.roomgate?.state,
      notices: document.getElementById("notices")?.innerText,
    })).catch((error) => ({ error: String(error) }));
    seen({ ...now, faults: page.faults });
    return now.state === state && now.same === state;
  });
}

/**
 * Returns what a page receives: `{ you, srtp, remotes: { name: { id, video, audio, colour } }, lines }`. `video` is
 * the number of decoded frames, `audio` the sound's energy, `colour` the middle of the picture as [r, g, b], `lines`
 * the number of receiving lines on which packets have come, by kind.
 */
export async function view(page) {
  return page.evaluate(async () => {
    const { pc, participants, you } = window.roomgate;
    const stats = pc === null ? [] : [...(await pc.getStats()).values()];
    const inbound = stats.filter((entry) => entry.type === "inbound-rtp");
    const of = (track) => inbound.find((entry) => track !== null && entry.trackIdentifier === track.id);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [16, 12];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const remotes = {};
    for (const [id, { name, video, tracks }] of participants) {
      let colour = null;
      if (video?.videoWidth > 0) {
        context.drawImage(video, 0, 0, 16, 12);
        colour = [...context.getImageData(8, 5, 1, 1).data].slice(0, 3);
      }
      remotes[name] = {
        id,
        colour,
        video: of(tracks.camera)?.framesDecoded ?? 0,
        audio: of(tracks.microphone)?.totalAudioEnergy ?? 0,
        samples: of(tracks.microphone)?.totalSamplesReceived ?? 0,
        lost: of(tracks.camera)?.packetsLost ?? 0,
      };
    }
    const transport = stats.find((entry) => entry.type === "transport");
    const lines = { audio: 0, video: 0 };
    for (const entry of inbound) if (entry.packetsReceived > 0) lines[entry.kind] += 1;
    return { you, srtp: transport?.srtpCipher ?? null, dtls: transport?.dtlsState ?? null, remotes, lines };
  });
}
