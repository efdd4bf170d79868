// Before joining: own picture, level of the own microphone, choice of devices, a name.

import { LevelMeter, memory } from "./media.js";
import { hue, initials, setIcon } from "./tiles.js";

const KINDS = { camera: "Camera", microphone: "Microphone", speaker: "Loudspeaker" };

/** Returns the name in an address or the remembered one. */
export function rememberedName(search) {
  return (new URLSearchParams(search).get("name") ?? memory.get("name")).slice(0, 64);
}

/** Fills the device lists under `root` and keeps them true. `onSpeaker(id)` is told of another loudspeaker. */
export function bindDevices(root, media, onSpeaker) {
  const selects = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, root.querySelector(`#choose-${kind}`)]));
  const fill = () => {
    for (const [kind, select] of Object.entries(selects)) {
      const devices = media.devices[kind];
      const options = devices.map((device, index) => new Option(device.label || `${KINDS[kind]} ${index + 1}`, device.id));
      select.replaceChildren(...options);
      select.closest(".field").hidden = devices.length === 0 || (kind === "speaker" && !media.canChooseSpeaker);
      const current = media.tracks[kind]?.getSettings().deviceId ?? media.chosen[kind];
      if (devices.some((device) => device.id === current)) select.value = current;
    }
  };
  for (const [kind, select] of Object.entries(selects)) {
    select.addEventListener("change", async () => {
      await media.choose(kind, select.value);
      if (kind === "speaker") onSpeaker(select.value);
    });
  }
  media.addEventListener("devices", fill);
  media.addEventListener("change", fill);
  fill();
}

/** The preview. `onJoin(name)` is called when the participant joins. */
export class Preview {
  #root;
  #media;
  #meter = new LevelMeter();
  #bar;
  #frame = 0;
  #name;

  constructor(root, media, onJoin) {
    this.#root = root;
    this.#media = media;
    this.#bar = root.querySelector("#level");
    this.#name = root.querySelector("#name");
    this.#name.value = rememberedName(location.search);
    this.#name.addEventListener("input", () => this.#show());
    for (const source of ["microphone", "camera"]) {
      root.querySelector(`#preview-${source}`).addEventListener("click", () => media.want(source, !media.isOn(source)));
    }
    root.querySelector("#join").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = this.#name.value.trim();
      memory.set("name", name);
      onJoin(name);
    });
    media.addEventListener("change", () => this.#show());
    this.#show();
  }

  /** Shows the preview and opens the devices. */
  async enter() {
    const draw = () => {
      this.#bar.value = this.#meter.read();
      this.#frame = requestAnimationFrame(draw);
    };
    cancelAnimationFrame(this.#frame);
    draw();
    this.#root.classList.add("asking");
    await this.#media.open();
    this.#root.classList.remove("asking");
  }

  /** Stops drawing; the devices stay open for the call. */
  exit() {
    cancelAnimationFrame(this.#frame);
    this.#meter.attach(null);
    this.#root.querySelector("#preview-video").srcObject = null;
  }

  #show() {
    if (this.#root.hidden) return;
    const { tracks, faults } = this.#media;
    const video = this.#root.querySelector("#preview-video");
    const shown = video.srcObject?.getVideoTracks()[0] ?? null;
    if (shown !== tracks.camera) video.srcObject = tracks.camera === null ? null : new MediaStream([tracks.camera]);
    this.#root.querySelector(".preview-stage").classList.toggle("has-video", tracks.camera !== null);
    this.#meter.attach(tracks.microphone);
    this.#bar.hidden = tracks.microphone === null;

    const name = this.#name.value.trim();
    const avatar = this.#root.querySelector(".preview-stage .initials");
    avatar.textContent = name === "" ? "?" : initials(name);
    avatar.parentElement.style.setProperty("--hue", String(hue(name)));

    for (const source of ["microphone", "camera"]) {
      const on = this.#media.isOn(source);
      const button = this.#root.querySelector(`#preview-${source}`);
      const words = source === "microphone" ? (on ? "Mute microphone" : "Unmute microphone") : on ? "Switch camera off" : "Switch camera on";
      button.classList.toggle("off", !on);
      button.setAttribute("aria-label", words);
      button.title = words;
      setIcon(button.querySelector("svg"), on ? source : `${source}-off`);
    }

    const list = this.#root.querySelector("#preview-faults");
    list.replaceChildren(...together(faults).map(({ title, cure }) => {
      const item = document.createElement("li");
      const strong = document.createElement("strong");
      strong.textContent = title;
      item.append(strong, ` ${cure}`);
      return item;
    }));
    const sends = ["microphone", "camera"].filter((source) => this.#media.isOn(source));
    this.#root.querySelector("#join-note").textContent = {
      0: "You will hear and see the others. They will see only your name.",
      1: sends[0] === "camera" ? "The others will see you, but not hear you." : "The others will hear you, but not see you.",
      2: "",
    }[sends.length];
  }
}

// One fault of both devices is told once.
function together({ camera, microphone }) {
  if (camera !== null && camera.both && camera.both === microphone?.both) return [{ title: camera.both, cure: camera.cure }];
  return [camera, microphone].filter((fault) => fault !== null);
}
