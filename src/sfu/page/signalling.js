// The WebSocket of a room: messages both ways, what an end of it means, and when to come back.

/** A connect that takes longer than this is given up. */
const CONNECT_MS_MAX = 10_000;
/** A join that held this long was a good one: the next break starts with a short wait again. */
const STABLE_MS = 10_000;

/** Returns the room's path segment as it stands in the address, still percent-encoded, or null. */
export function roomSegment(pathname) {
  return /^\/rooms\/([^/]+)\/?$/.exec(pathname)?.[1] ?? null;
}

/** Returns the address of a room's WebSocket. The page's own `token` goes with it. */
export function socketUrl(location) {
  const url = new URL(`/rooms/${roomSegment(location.pathname)}/ws`, location.href);
  url.protocol = location.protocol === "http:" ? "ws:" : "wss:";
  const token = new URLSearchParams(location.search).get("token");
  if (token !== null) url.searchParams.set("token", token);
  return url;
}

/**
 * Says what the end of a WebSocket means: whether to come back, after how many milliseconds at least (`floor`, and up
 * to `spread` more), and in words. `told` is the text of the server's last fatal `error`, if it sent one.
 */
export function meaningOf(code, told = "") {
  switch (code) {
    case 1000: return { retry: false, floor: 0, kind: "ended", text: told || "The server ended the call." };
    case 1001: return { retry: true, floor: 500, spread: 2_500, kind: "restart", text: "The service restarts. You will be back in a moment." };
    case 1008: return { retry: false, floor: 0, kind: "refused", text: told || "Your link is not valid for this room, or it has expired. Ask for a new one." };
    case 1009: return { retry: false, floor: 0, kind: "refused", text: told || "A message was larger than the service accepts." };
    case 1012: return { retry: true, floor: 0, spread: 400, kind: "moved", text: "The room moved to another machine. Joining it there." };
    case 1013: return { retry: true, floor: 8_000, spread: 4_000, kind: "full", text: told || "The service is full at the moment." };
    default: return { retry: true, floor: 0, kind: "lost", text: "The connection was lost." };
  }
}

/** Waits that double up to a limit, each drawn from its upper half, so that a whole room does not return at one instant. */
export class Backoff {
  #random;
  #attempt = 0;

  constructor(random = Math.random) {
    this.#random = random;
  }

  /** Returns the next wait in milliseconds. With a `spread`, the first one lies between `floor` and `floor + spread`. */
  next(floor = 0, spread = 0) {
    const ceiling = Math.min(1_000 * 2 ** this.#attempt, 20_000);
    const doubled = ceiling / 2 + (this.#random() * ceiling) / 2;
    const spreadOut = floor + this.#random() * spread;
    const first = this.#attempt === 0 && spread > 0;
    this.#attempt += 1;
    return Math.round(first ? spreadOut : Math.max(doubled, spreadOut));
  }

  get attempts() {
    return this.#attempt;
  }

  reset() {
    this.#attempt = 0;
  }
}

/**
 * Keeps one WebSocket of a room alive until `stop`. Handlers:
 * `onOpen()`, `onMessage(message)`, `onWait({ kind, text, ms, attempts })` before each return, `onEnd({ kind, text })` when it will not.
 */
export class Signalling {
  #url;
  #handlers;
  #backoff = new Backoff();
  #socket = null;
  #told = "";
  #timer = 0;
  #stable = 0;
  #stopped = false;

  constructor(url, handlers) {
    this.#url = url;
    this.#handlers = handlers;
    addEventListener("online", this.#onOnline);
  }

  /** Opens the first connection. */
  start() {
    this.#open();
  }

  /** Sends a message if the connection is open; returns whether it was. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Drops this connection and joins anew after a wait: for when the media is lost for good. */
  restart(text) {
    if (this.#stopped) return;
    this.#release();
    this.#wait({ retry: true, floor: 0, kind: "media", text });
  }

  /** Returns at once instead of waiting. */
  now() {
    if (this.#timer !== 0) this.#open();
  }

  /** Ends it for good. What was sent before still leaves. */
  stop() {
    this.#stopped = true;
    removeEventListener("online", this.#onOnline);
    this.#release();
  }

  #onOnline = () => this.now();

  #release() {
    clearTimeout(this.#timer);
    clearTimeout(this.#stable);
    this.#timer = 0;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  #open() {
    this.#release();
    this.#told = "";
    let socket;
    try {
      socket = new WebSocket(this.#url);
    } catch (error) {
      this.#handlers.onEnd({ kind: "refused", text: `The browser refused to connect: ${error.message}` });
      return;
    }
    this.#socket = socket;
    // An event of a socket that was let go is nobody's.
    const current = () => this.#socket === socket;
    let opened = false;
    const deadline = setTimeout(() => socket.close(), CONNECT_MS_MAX);

    socket.addEventListener("open", () => {
      clearTimeout(deadline);
      opened = true;
      if (current()) this.#handlers.onOpen();
    });
    socket.addEventListener("message", (event) => {
      if (!current()) return;
      let message;
      try {
        message = JSON.parse(event.data);
      } catch {
        return; // Not of this protocol: nothing that a participant could do about it.
      }
      if (message.type === "error" && message.fatal) this.#told = message.message;
      if (message.type === "welcome") this.#stable = setTimeout(() => this.#backoff.reset(), STABLE_MS);
      this.#handlers.onMessage(message);
    });
    socket.addEventListener("close", async (event) => {
      clearTimeout(deadline);
      clearTimeout(this.#stable);
      if (!current()) return;
      const meaning = opened ? meaningOf(event.code, this.#told) : await this.#whyRefused();
      if (current() && !this.#stopped) {
        this.#socket = null;
        this.#wait(meaning);
      }
    });
  }

  // A browser does not tell a page why a WebSocket was refused. A plain request to the same address does.
  async #whyRefused() {
    const url = new URL(this.#url);
    url.protocol = url.protocol === "ws:" ? "http:" : "https:";
    let response;
    try {
      response = await fetch(url, { cache: "no-store", redirect: "error", signal: AbortSignal.timeout(5_000) });
    } catch {
      const text = navigator.onLine ? "The service cannot be reached." : "This device is offline.";
      return { retry: true, floor: 0, kind: "unreachable", text };
    }
    const later = Number(response.headers.get("retry-after")) * 1_000 || 0;
    switch (response.status) {
      case 401:
      case 403: return meaningOf(1008);
      case 404: return { retry: false, floor: 0, kind: "refused", text: "There is no such room on this service." };
      case 429: return { retry: true, floor: Math.max(later, 5_000), kind: "full", text: "Too many people join at this moment." };
      case 502:
      case 503:
      case 504: return { retry: true, floor: Math.min(later, 30_000), kind: "full", text: "No machine can take the room at the moment." };
      default: return { retry: true, floor: 0, kind: "unreachable", text: "The service did not open a connection." };
    }
  }

  #wait(meaning) {
    if (!meaning.retry) {
      this.#handlers.onEnd(meaning);
      return;
    }
    const ms = this.#backoff.next(meaning.floor, meaning.spread);
    this.#timer = setTimeout(() => this.#open(), ms);
    this.#handlers.onWait({ kind: meaning.kind, text: meaning.text, ms, attempts: this.#backoff.attempts });
  }
}
