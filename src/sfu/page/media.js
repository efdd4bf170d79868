// Camera, microphone and screen of this device: which one, whether it works, and what to do when it does not.

/** What the camera is asked for. 720p is what a big tile can show; a device that has less gives less. */
const CAMERA = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
/** Text and slides: sharpness before motion. */
const SCREEN = { video: { frameRate: { ideal: 15, max: 30 } }, audio: false };

const NOUN = { microphone: "microphone", camera: "camera", screen: "screen" };

/**
 * Returns `{ title, cure }` for a DOMException of getUserMedia or getDisplayMedia; `both` is the title when camera and
 * microphone share the fault. `what`: `microphone`, `camera` or `screen`.
 */
export function explain(error, what) {
  const noun = NOUN[what];
  if (what === "screen") {
    switch (error.name) {
      case "NotAllowedError": return { title: "The screen is not shared.", cure: "You closed the choice, or the system forbids it. On a Mac: System Settings, Privacy & Security, Screen Recording." };
      case "NotFoundError": return { title: "There is no screen to share.", cure: "This device offers no screen or window to the browser." };
      case "NotReadableError": return { title: "The system does not hand out this screen.", cure: "Choose another window, or the whole screen." };
      case "NotSupportedError":
      case "TypeError": return { title: "This browser cannot share a screen.", cure: "Browsers on phones cannot. Use one on a computer." };
      default: return { title: "The screen is not shared.", cure: `The browser says: ${error.message || error.name}` };
    }
  }
  switch (error.name) {
    case "NotAllowedError":
      return { title: `The ${noun} is not allowed.`, both: "Camera and microphone are not allowed.", cure: "Allow it in the browser: use the icon left of the address, then reload. On some systems the browser itself needs leave too, in the system's privacy settings." };
    case "SecurityError":
      return { title: `The browser forbids the ${noun} on this page.`, cure: "A policy of the browser or of the organisation switched it off. Ask whoever manages this device." };
    case "NotFoundError":
      return { title: `No ${noun} was found.`, both: "No camera and no microphone were found.", cure: "Plug one in: it is picked up by itself. You can join without one." };
    case "NotReadableError":
      return { title: `The ${noun} is in use or does not answer.`, cure: "Close other programs and tabs that use it, or unplug it and plug it in again." };
    case "OverconstrainedError":
      return { title: `The chosen ${noun} is gone.`, cure: "Choose another one." };
    case "AbortError":
      return { title: `The ${noun} stopped while it was being opened.`, cure: "Try again. If it stays so, unplug the device and plug it in again." };
    case "InvalidStateError":
      return { title: `The ${noun} cannot be opened while this page is in the background.`, cure: "Come back to this tab and try again." };
    case "TypeError":
    case "NotSupportedError":
      return { title: `This page cannot ask for a ${noun}.`, both: "This page cannot ask for camera and microphone.", cure: "Browsers hand out cameras and microphones only to pages on https:// (or localhost)." };
    default:
      return { title: `The ${noun} cannot be opened.`, cure: `The browser says: ${error.message || error.name}` };
  }
}

/** Small settings that outlive the page. A browser that keeps none is fine. */
export const memory = {
  get(key, fallback = "") {
    try {
      return localStorage.getItem(`roomgate.${key}`) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(`roomgate.${key}`, value);
    } catch {
      // Private windows may refuse: then it is forgotten.
    }
  },
};

/**
 * The local media. Emits `change` (a track, a fault or a mute is different now), `devices` (the lists are) and
 * `lost` with `detail: source` (a device was pulled out).
 */
export class LocalMedia extends EventTarget {
  /** Live tracks by source, or null. */
  tracks = { microphone: null, camera: null, screen: null };
  /** Why a source does not work: `{ title, cure }`, or null. */
  faults = { microphone: null, camera: null, screen: null };
  /** What the participant wants, which outlives the devices. */
  wanted = { microphone: memory.get("microphone", "on") === "on", camera: memory.get("camera", "on") === "on" };
  /** Chosen device ids; empty: the browser's default. */
  chosen = { microphone: memory.get("microphone-id"), camera: memory.get("camera-id"), speaker: memory.get("speaker-id") };
  /** Devices by kind, as `[{ id, label }]`. */
  devices = { microphone: [], camera: [], speaker: [] };

  #opening = { microphone: null, camera: null };

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#onDeviceChange());
  }

  /** Whether this browser can play to a chosen loudspeaker. */
  get canChooseSpeaker() {
    return "setSinkId" in HTMLMediaElement.prototype;
  }

  get canShareScreen() {
    return typeof navigator.mediaDevices?.getDisplayMedia === "function";
  }

  /** Opens what is wanted, in one question to the participant where that works. Never throws: see `faults`. */
  async open() {
    const kinds = ["microphone", "camera"].filter((kind) => this.wanted[kind] && this.tracks[kind] === null);
    if (kinds.length === 2) {
      try {
        const stream = await getUserMedia({ audio: this.#constraints("microphone"), video: this.#constraints("camera") });
        this.#adopt("microphone", stream.getAudioTracks()[0]);
        this.#adopt("camera", stream.getVideoTracks()[0]);
      } catch {
        // One of the two is at fault. Asked one by one, each says for itself.
        await this.#openOne("microphone");
        await this.#openOne("camera");
      }
    } else {
      for (const kind of kinds) await this.#openOne(kind);
    }
    await this.refresh();
    this.#changed();
  }

  /** Switches a source on or off. A camera that is off is closed, so that its light goes out; a microphone is muted. */
  async want(source, on) {
    this.wanted[source] = on;
    memory.set(source, on ? "on" : "off");
    if (source === "microphone" && this.tracks.microphone !== null) {
      this.tracks.microphone.enabled = on;
    } else if (on) {
      await this.#openOne(source);
      await this.refresh();
    } else {
      this.#close(source);
      this.faults[source] = null;
    }
    this.#changed();
  }

  /** Whether a source sends something others can perceive. */
  isOn(source) {
    const track = this.tracks[source];
    return track !== null && track.enabled && track.readyState === "live";
  }

  /** Chooses a device; an open source moves to it at once. */
  async choose(kind, id) {
    this.chosen[kind] = id;
    memory.set(`${kind}-id`, id);
    if (kind !== "speaker" && this.wanted[kind]) {
      this.#close(kind);
      await this.#openOne(kind);
    }
    this.#changed();
  }

  /** Asks for a screen. Returns whether one is shared now; a refusal is in `faults.screen`. */
  async shareScreen() {
    this.faults.screen = null;
    try {
      if (!this.canShareScreen) throw new DOMException("no getDisplayMedia", "NotSupportedError");
      const stream = await navigator.mediaDevices.getDisplayMedia(SCREEN);
      const track = stream.getVideoTracks()[0];
      track.contentHint = "detail";
      this.#adopt("screen", track);
    } catch (error) {
      this.faults.screen = explain(error, "screen");
    }
    this.#changed();
    return this.tracks.screen !== null;
  }

  stopScreen() {
    this.#close("screen");
    this.#changed();
  }

  /** Closes every device. */
  closeAll() {
    for (const source of ["microphone", "camera", "screen"]) this.#close(source);
    this.#changed();
  }

  /** Reads the lists of devices. Labels are empty until the participant has allowed one. */
  async refresh() {
    if (!navigator.mediaDevices?.enumerateDevices) return;
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    const of = (kind) => all.filter((device) => device.kind === kind && device.deviceId !== "").map(({ deviceId, label }) => ({ id: deviceId, label }));
    this.devices = { microphone: of("audioinput"), camera: of("videoinput"), speaker: of("audiooutput") };
    this.dispatchEvent(new Event("devices"));
  }

  #constraints(kind) {
    const id = this.chosen[kind];
    const known = this.devices[kind].length === 0 || this.devices[kind].some((device) => device.id === id);
    const base = kind === "camera" ? CAMERA : MICROPHONE;
    return id !== "" && known ? { ...base, deviceId: { exact: id } } : { ...base };
  }

  async #openOne(kind) {
    // Two quick clicks are one question.
    this.#opening[kind] ??= this.#ask(kind).finally(() => (this.#opening[kind] = null));
    await this.#opening[kind];
  }

  async #ask(kind) {
    const request = (constraints) => getUserMedia(kind === "camera" ? { video: constraints } : { audio: constraints });
    let stream;
    try {
      try {
        stream = await request(this.#constraints(kind));
      } catch (error) {
        if (error.name !== "OverconstrainedError" || this.chosen[kind] === "") throw error;
        // The remembered device is not here today: any will do.
        this.chosen[kind] = "";
        stream = await request(this.#constraints(kind));
      }
    } catch (error) {
      this.faults[kind] = explain(error, kind);
      return;
    }
    const track = kind === "camera" ? stream.getVideoTracks()[0] : stream.getAudioTracks()[0];
    if (kind === "camera" && !this.wanted.camera) {
      track.stop(); // Switched off again while the browser was asking.
      return;
    }
    this.#adopt(kind, track);
  }

  #adopt(source, track) {
    this.#close(source);
    this.faults[source] = null;
    this.tracks[source] = track;
    if (source === "microphone") track.enabled = this.wanted.microphone;
    track.addEventListener("ended", () => {
      if (this.tracks[source] !== track) return;
      this.tracks[source] = null;
      this.#changed();
      this.dispatchEvent(new CustomEvent("lost", { detail: source }));
    });
  }

  #close(source) {
    const track = this.tracks[source];
    this.tracks[source] = null;
    track?.stop();
  }

  async #onDeviceChange() {
    await this.refresh();
    for (const kind of ["microphone", "camera"]) {
      const missing = this.tracks[kind] === null && this.wanted[kind] && this.devices[kind].length > 0;
      if (missing && document.visibilityState === "visible") {
        await this.#openOne(kind);
        this.#changed();
      }
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

async function getUserMedia(constraints) {
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("not a secure context", "NotSupportedError");
  return navigator.mediaDevices.getUserMedia(constraints);
}

/** Measures how loud a track is: 0 (silence) to 1. One audio context serves all meters of the page. */
export class LevelMeter {
  static #context = null;
  #source = null;
  #analyser = null;
  #track = null;
  #samples = new Float32Array(512);

  /** Measures this track from now on; null: nothing. */
  attach(track) {
    if (track === this.#track) return;
    this.#source?.disconnect();
    this.#source = null;
    this.#track = track;
    if (track === null || typeof AudioContext === "undefined") return;
    LevelMeter.#context ??= new AudioContext();
    LevelMeter.wake();
    this.#analyser ??= new AnalyserNode(LevelMeter.#context, { fftSize: 512 });
    this.#source = LevelMeter.#context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#analyser);
  }

  /** Returns the level now. Speech is about 0.3 to 0.8: the scale is logarithmic, as ears are. */
  read() {
    if (this.#source === null || !this.#track.enabled) return 0;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const decibels = 10 * Math.log10(sum / this.#samples.length + 1e-10);
    return Math.min(1, Math.max(0, (decibels + 60) / 55));
  }

  /** Browsers start audio only after a click or key: called on each, it costs nothing once it runs. */
  static wake() {
    if (LevelMeter.#context?.state === "suspended") LevelMeter.#context.resume().catch(() => {});
  }
}
