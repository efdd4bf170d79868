// One RTCPeerConnection of one join: offers, receive lines, and what each of them carries.
//
// The client is the only one who offers. At most one offer is under way; changes meanwhile lead to one more when its
// answer has come. The server points receive lines at participants with `slots`, without an offer.

/** An answer that takes longer than this will not come. */
const ANSWER_MS_MAX = 10_000;
/** From the first answer to the first connected transport. */
const CONNECT_MS_MAX = 12_000;
/** A transport may be gone this long (a change of network, say) before ICE is restarted. */
const DISCONNECTED_MS_MAX = 5_000;
/** From an ICE restart to a connected transport. */
const RESTART_MS_MAX = 8_000;
/** ICE restarts without success before the call is joined anew. */
const RESTARTS_MAX = 2;
/** Longest offer. The server takes messages of 1 MiB; the rest is for candidates and what JSON escapes. */
const OFFER_CHARS_MAX = 768 * 1024;

/**
 * Returns what a camera may send, by how many are in the room: everybody receives all of it. `height` is what the
 * camera gives, in pixels; 0 when that is not known.
 */
export function cameraLimits(participants, height = 0) {
  const [maxBitrate, heightMax, maxFramerate] =
    participants <= 2 ? [1_700_000, 720, 30]
    : participants <= 4 ? [900_000, 480, 30]
    : participants <= 9 ? [500_000, 360, 24]
    : [220_000, 180, 20];
  return { maxBitrate, maxFramerate, scaleResolutionDownBy: Math.max(1, height / heightMax) };
}

/**
 * Returns the codecs to name on lines that only receive: those that the server forwards, once each. A browser's whole
 * list is several times as long, and an offer repeats it on each of its many lines. `null`: leave the list as it is.
 */
export function receiveCodecs(kind, codecs = globalThis.RTCRtpReceiver?.getCapabilities?.(kind)?.codecs ?? []) {
  const is = (name) => codecs.filter((codec) => codec.mimeType.toLowerCase() === name);
  if (kind === "audio") return is("audio/opus").length > 0 ? is("audio/opus") : null;
  const h264 = is("video/h264").filter((codec) => /(^|;)\s*packetization-mode=1\s*(;|$)/.test(codec.sdpFmtpLine ?? ""));
  // One profile does: the server gives a receiver the others under it too. Constrained Baseline is what all can send.
  const baseline = h264.filter((codec) => /profile-level-id=42e0/i.test(codec.sdpFmtpLine));
  const chosen = [...is("video/vp8"), ...[...baseline, ...h264].slice(0, 1)];
  return chosen.length > 0 ? [...chosen, ...is("video/rtx")] : null;
}

/** Returns the ports of the answer's candidates, in words: what a firewall has to let through. */
export function portsOf(sdp) {
  const found = new Set();
  for (const line of sdp.split(/\r?\n/)) {
    const parts = /^a=candidate:\S+ \d+ (\w+) \d+ (\S+) (\d+) /i.exec(line);
    if (parts) found.add(`${parts[1].toUpperCase()} port ${parts[3]}`);
  }
  return [...found];
}

/**
 * Handlers: `send(message)`, `onAnswered()` after each applied answer, `onSlots()` when receive lines carry others now,
 * `onMedia(state)` with `connecting`, `connected`, `interrupted` or `blocked`, and `onDead(text)` when only a new join helps.
 */
export class Call {
  /** The connection itself. */
  pc;
  /** What the receive lines carry: mid -> `{ transceiver, participant, source }`. */
  slots = new Map();
  /** `connecting`, `connected`, `interrupted` or `blocked`. */
  media = "connecting";
  /** Ports that the server answered with, in words. */
  ports = [];

  #handlers;
  #senders = { microphone: null, camera: null, screen: null };
  #muted = { microphone: false, camera: false, screen: false };
  #offerId = 0;
  #pending = null;
  #again = false;
  #restart = false;
  #restarts = 0;
  #timer = 0;
  #participants = 1;
  #full = false;
  #dtls = null;
  #closed = false;

  constructor(handlers) {
    this.#handlers = handlers;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.pc.addEventListener("iceconnectionstatechange", () => this.#onIce());
  }

  /** Sends the first offer: these local tracks (null: none) and at least so many receive lines. */
  async start(tracks, muted, lines) {
    for (const source of ["microphone", "camera", "screen"]) {
      this.#muted[source] = muted[source] ?? false;
      if (tracks[source]) await this.#carry(source, tracks[source]);
    }
    // Somebody who is alone and sends nothing still needs a line: without one there is no transport to wait on.
    this.#reach({ audio: Math.max(1, lines.audio), video: Math.max(1, lines.video) });
    await this.#negotiate();
  }

  /** Puts a track on its sending line, or takes it off (null). The first track of a source and a screen need an offer. */
  async setTrack(source, track) {
    if (this.#closed) return;
    if (await this.#carry(source, track)) await this.#negotiate();
  }

  /** Tells the room that a source is muted or not. */
  setMuted(source, muted) {
    if (this.#muted[source] === muted) return;
    this.#muted[source] = muted;
    // Before its first offer the server does not know the source: `#onAnswer` tells it then.
    if (this.#senders[source]?.mid) this.#handlers.send({ type: "mute", source, muted });
  }

  /** Tells how many are in the room: cameras send less the more receive them. */
  setParticipants(count) {
    this.#participants = count;
    this.#limitCamera();
  }

  /** Takes `answer`, `slots` and `lines`. */
  async handle(message) {
    if (this.#closed) return;
    switch (message.type) {
      case "answer":
        await this.#onAnswer(message);
        break;
      case "slots":
        for (const { mid, from } of message.slots) this.#point(mid, from);
        this.#handlers.onSlots();
        break;
      case "lines":
        if (this.#reach(message)) await this.#negotiate();
        break;
    }
  }

  /** Returns the tracks that carry a participant now: `{ microphone, camera, screen }`, each a track or null. */
  tracksOf(participant) {
    const tracks = { microphone: null, camera: null, screen: null };
    for (const slot of this.slots.values()) {
      if (slot.participant === participant) tracks[slot.source] = slot.transceiver.receiver.track;
    }
    return tracks;
  }

  /** Returns the receiver that carries a participant's microphone, or null. */
  microphoneOf(participant) {
    for (const slot of this.slots.values()) {
      if (slot.participant === participant && slot.source === "microphone") return slot.transceiver.receiver;
    }
    return null;
  }

  /** Returns the mid of a receiver, or undefined. */
  midOf(receiver) {
    return this.pc.getTransceivers().find((transceiver) => transceiver.receiver === receiver)?.mid;
  }

  /** Tries another path at once: the device is back online. */
  nudge() {
    if (this.media !== "connected") this.#restartIce();
  }

  /** Ends it. Local tracks stay open: they are the page's. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#pending?.deadline);
    this.#pending = null;
    this.pc.close();
  }

  // --- sending lines ---

  // Returns whether an offer is needed.
  async #carry(source, track) {
    const transceiver = this.#senders[source];
    if (transceiver === null) {
      if (track === null) return false;
      const init = { direction: "sendonly" };
      if (source === "screen") init.sendEncodings = [{ maxBitrate: 2_500_000, maxFramerate: 30 }];
      if (source === "camera") init.sendEncodings = [this.#cameraLimits(track)];
      this.#senders[source] = this.pc.addTransceiver(track, init);
      return true;
    }
    if (transceiver.sender.track !== track) {
      await transceiver.sender.replaceTrack(track);
      if (source === "camera") this.#limitCamera();
    }
    // A camera that is off keeps its line, muted. A screen that is not shared is gone for the others.
    if (source !== "screen") return false;
    const direction = track === null ? "inactive" : "sendonly";
    if (transceiver.direction === direction) return false;
    transceiver.direction = direction;
    return true;
  }

  #limitCamera() {
    const sender = this.#senders.camera?.sender;
    if (!sender) return;
    const parameters = sender.getParameters();
    const [encoding] = parameters.encodings ?? [];
    if (!encoding || sender.track === null) return;
    const limits = this.#cameraLimits(sender.track);
    if (Object.entries(limits).every(([key, value]) => encoding[key] === value)) return;
    Object.assign(encoding, limits);
    // Between an offer and its answer parameters may not be set: `#onAnswer` comes back here.
    sender.setParameters(parameters).catch(() => {});
  }

  #cameraLimits(track) {
    return cameraLimits(this.#participants, track.getSettings().height);
  }

  // --- receive lines ---

  // Adds receive lines until there are as many as asked. Returns whether any was added.
  #reach({ audio, video }) {
    if (this.#full) return false;
    let added = false;
    for (const [kind, wanted] of [["audio", audio], ["video", video]]) {
      const have = this.pc.getTransceivers().filter((t) => t.receiver.track.kind === kind && t.direction === "recvonly").length;
      for (let n = have; n < wanted; n += 1) {
        const transceiver = this.pc.addTransceiver(kind, { direction: "recvonly" });
        const codecs = receiveCodecs(kind);
        try {
          if (codecs !== null) transceiver.setCodecPreferences?.(codecs);
        } catch {
          // The browser's own list is longer, and as good.
        }
        added = true;
      }
    }
    return added;
  }

  // Makes an offer that the server can take: of new receive lines as many are let go as it needs. Who has none is not
  // seen or heard here; the call goes on.
  async #fittingOffer() {
    for (;;) {
      const offer = await this.pc.createOffer({ iceRestart: this.#restart });
      const isNew = (transceiver) => transceiver.mid === null && transceiver.direction === "recvonly";
      const added = this.pc.getTransceivers().filter(isNew);
      if (offer.sdp.length <= OFFER_CHARS_MAX || added.length === 0) return offer;
      this.#full = true;
      added.slice(Math.floor(added.length / 2)).forEach((transceiver) => transceiver.stop());
    }
  }

  #point(mid, from) {
    if (from === null) {
      this.slots.delete(mid);
      return;
    }
    const transceiver = this.pc.getTransceivers().find((t) => t.mid === mid);
    if (transceiver) this.slots.set(mid, { transceiver, participant: from.participant, source: from.source });
  }

  // --- offers ---

  async #negotiate() {
    if (this.#closed) return;
    if (this.#pending !== null) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#offerId += 1;
    const pending = { id: this.#offerId, deadline: 0 };
    this.#pending = pending;
    try {
      const offer = await this.#fittingOffer();
      this.#restart = false;
      await this.pc.setLocalDescription(offer);
    } catch (error) {
      this.#die(`The browser could not make an offer: ${error.message}`);
      return;
    }
    if (this.#closed) return;
    const tracks = Object.entries(this.#senders)
      .filter(([, transceiver]) => transceiver?.direction === "sendonly")
      .map(([source, transceiver]) => ({ mid: transceiver.mid, source }));
    pending.deadline = setTimeout(() => this.#die("The service did not answer."), ANSWER_MS_MAX);
    this.#handlers.send({ type: "offer", id: pending.id, sdp: this.pc.localDescription.sdp, tracks });
  }

  async #onAnswer({ id, sdp }) {
    if (this.#pending?.id !== id) return;
    clearTimeout(this.#pending.deadline);
    try {
      await this.pc.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.#die(`The browser did not accept the service's answer: ${error.message}`);
      return;
    }
    if (this.#closed) return;
    this.#pending = null;
    this.ports = portsOf(sdp);
    this.#watchDtls();
    for (const source of ["microphone", "camera", "screen"]) {
      if (this.#muted[source] && this.#senders[source]?.direction === "sendonly") this.#handlers.send({ type: "mute", source, muted: true });
    }
    this.#limitCamera();
    if (id === 1) this.#within(CONNECT_MS_MAX, () => this.#restartIce());
    this.#handlers.onAnswered();
    if (this.#again) await this.#negotiate();
  }

  // --- transport ---

  // One transport carries all lines. When DTLS on it has failed or was ended by the server, ICE cannot mend that.
  #watchDtls() {
    const transport = this.pc.getTransceivers()[0]?.receiver.transport ?? null;
    if (transport === null || transport === this.#dtls) return;
    this.#dtls = transport;
    transport.addEventListener("statechange", () => {
      if (transport.state === "failed") this.#die("The encrypted connection could not be set up.");
      if (transport.state === "closed") this.#die("The service ended the media connection.");
    });
  }

  #onIce() {
    switch (this.pc.iceConnectionState) {
      case "connected":
      case "completed":
        clearTimeout(this.#timer);
        this.#restarts = 0;
        this.#setMedia("connected");
        break;
      case "disconnected":
        if (this.media === "connected") {
          this.#setMedia("interrupted");
          this.#within(DISCONNECTED_MS_MAX, () => this.#restartIce());
        }
        break;
      case "failed":
        this.#restartIce();
        break;
    }
  }

  #restartIce() {
    if (this.#closed) return;
    if (this.media !== "interrupted") this.#setMedia(this.media === "connected" ? "interrupted" : "blocked");
    if (this.#restarts >= RESTARTS_MAX) {
      this.#die(this.media === "blocked" ? "Sound and picture do not get through." : "The media connection was lost.");
      return;
    }
    this.#restarts += 1;
    this.#restart = true;
    this.#within(RESTART_MS_MAX, () => this.#restartIce());
    void this.#negotiate();
  }

  #within(ms, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  #setMedia(state) {
    if (this.media === state || this.#closed) return;
    this.media = state;
    this.#handlers.onMedia(state);
  }

  #die(text) {
    if (this.#closed) return;
    const blocked = this.media === "blocked";
    this.close();
    this.#handlers.onDead(text, blocked);
  }
}
