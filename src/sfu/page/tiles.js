// The tiles of a call: one per participant, one per shared screen, laid out so that they are as large as they can be.

/** Smallest tile in pixels: with more participants than fit, the grid scrolls. */
const TILE_WIDTH_MIN = 132;
const TILE_ASPECT_MAX = 16 / 9;
const GAP = 10;

/**
 * Returns the tile size `{ width, height }` that shows `count` tiles largest in an area. A tile is at most 16:9 wide
 * and at most so tall that faces stay whole.
 */
export function arrange(areaWidth, areaHeight, count, gap = GAP) {
  const aspectMin = areaWidth < areaHeight ? 0.8 : 1.25;
  let best = { width: 0, height: 0, columns: 1 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (areaWidth - gap * (columns - 1)) / columns;
    const cellHeight = (areaHeight - gap * (rows - 1)) / rows;
    const width = Math.min(cellWidth, cellHeight * TILE_ASPECT_MAX);
    const height = Math.min(cellHeight, width / aspectMin);
    if (width > 0 && height > 0 && width * height > best.width * best.height) best = { width, height, columns };
  }
  if (best.width < TILE_WIDTH_MIN) {
    const columns = Math.max(1, Math.floor((areaWidth + gap) / (TILE_WIDTH_MIN + gap)));
    const width = (areaWidth - gap * (columns - 1)) / columns;
    return { width: Math.floor(width), height: Math.floor(width / 1.25), columns };
  }
  return { width: Math.floor(best.width), height: Math.floor(best.height), columns: best.columns };
}

/** Returns one or two letters for a name. */
export function initials(name) {
  const words = name.trim().split(/[\s._-]+/u).filter((word) => word !== "");
  if (words.length === 0) return "?";
  const first = (word) => [...word][0];
  return (words.length === 1 ? first(words[0]) : first(words[0]) + first(words.at(-1))).toUpperCase();
}

/** Returns a hue for a name: the same participant keeps its colour after a reconnect. */
export function hue(name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 360;
  return hash;
}

/** All tiles of a call, in two lists: shared screens and participants. */
export class Tiles {
  #area;
  #lists;
  #tiles = new Map();
  #onBlocked;
  #speaker = "";

  /** `onBlocked` is called when the browser does not play sound before a click. */
  constructor({ area, screens, participants, onBlocked }) {
    this.#area = area;
    this.#lists = { screen: screens, participant: participants };
    this.#onBlocked = onBlocked;
    const observer = new ResizeObserver(() => this.#layOut());
    observer.observe(screens);
    observer.observe(participants);
  }

  /**
   * Shows exactly these, in this order. A model: `{ key, kind, name, label, you, microphoneMuted, cameraMuted,
   * video, audio, mirrored }`; `kind` is `participant` or `screen`, `video` and `audio` are tracks or null.
   */
  show(models) {
    const keys = new Set(models.map((model) => model.key));
    for (const [key, tile] of this.#tiles) {
      if (keys.has(key)) continue;
      tile.end();
      this.#tiles.delete(key);
    }
    const positions = { screen: 0, participant: 0 };
    for (const model of models) {
      let tile = this.#tiles.get(model.key);
      if (tile === undefined) {
        tile = new Tile(model.kind, this.#onBlocked);
        this.#tiles.set(model.key, tile);
      }
      tile.show(model);
      tile.play(this.#speaker);
      const list = this.#lists[model.kind];
      const position = positions[model.kind];
      if (list.children[position] !== tile.element) list.insertBefore(tile.element, list.children[position] ?? null);
      positions[model.kind] += 1;
    }
    this.#area.classList.toggle("with-screen", positions.screen > 0);
    this.#layOut();
  }

  /** Removes all tiles. */
  clear() {
    this.show([]);
  }

  /** Returns the `<video>` of a tile, or null. */
  video(key) {
    return this.#tiles.get(key)?.video ?? null;
  }

  /** Draws the ring around whoever speaks. */
  speaking(key, on) {
    this.#tiles.get(key)?.element.classList.toggle("speaking", on);
  }

  /** Plays everybody's sound through this loudspeaker; empty: the default. */
  useSpeaker(id) {
    this.#speaker = id;
    for (const tile of this.#tiles.values()) tile.play(id);
  }

  /** Starts what the browser held back. Call it from a click. */
  resume() {
    for (const tile of this.#tiles.values()) tile.play(this.#speaker);
  }

  #layOut() {
    for (const [kind, list] of Object.entries(this.#lists)) {
      const count = list.children.length;
      if (count === 0) continue;
      const { width, height } = kind === "screen" && count === 1
        ? { width: list.clientWidth, height: list.clientHeight }
        : arrange(list.clientWidth, list.clientHeight, count);
      list.style.setProperty("--tile-width", `${width}px`);
      list.style.setProperty("--tile-height", `${height}px`);
      list.classList.toggle("small-tiles", width < 200);
    }
  }
}

class Tile {
  element = document.createElement("li");
  video = document.createElement("video");
  #audio = document.createElement("audio");
  #initials = document.createElement("span");
  #name = document.createElement("span");
  #muted = icon("microphone-off");
  #onBlocked;
  #streams = { video: null, audio: null };
  #sink = "";

  constructor(kind, onBlocked) {
    this.#onBlocked = onBlocked;
    this.element.className = `tile ${kind}`;
    this.video.muted = true; // Sound has an element of its own.
    this.video.autoplay = true;
    this.video.playsInline = true;
    this.video.disablePictureInPicture = kind === "participant";
    this.video.setAttribute("aria-hidden", "true");
    this.#initials.className = "initials";
    this.#initials.setAttribute("aria-hidden", "true");
    this.#muted.classList.add("muted-badge");
    const plate = document.createElement("div");
    plate.className = "plate";
    plate.setAttribute("aria-hidden", "true");
    this.#name.className = "name";
    plate.append(this.#muted, this.#name);
    this.element.append(this.#initials, this.video, plate, this.#audio);
  }

  show(model) {
    this.#initials.textContent = initials(model.name);
    this.#name.textContent = model.label;
    this.element.style.setProperty("--hue", String(hue(model.name)));
    this.element.dataset.key = model.key;
    this.element.classList.toggle("mirrored", model.mirrored);
    this.element.classList.toggle("you", model.you);
    this.#muted.toggleAttribute("hidden", !model.microphoneMuted);
    this.element.setAttribute("aria-label", describe(model));
    this.#carry("video", this.video, model.cameraMuted ? null : model.video);
    this.#carry("audio", this.#audio, model.audio);
  }

  play(sink) {
    if (this.#sink !== sink && "setSinkId" in this.#audio) {
      this.#sink = sink;
      this.#audio.setSinkId(sink).catch(() => {}); // The device is gone: the default plays.
    }
    for (const element of [this.video, this.#audio]) {
      if (element.srcObject === null || !element.paused) continue;
      element.play().catch((error) => {
        if (error.name === "NotAllowedError") this.#onBlocked();
      });
    }
  }

  end() {
    this.#carry("video", this.video, null);
    this.#carry("audio", this.#audio, null);
    this.element.remove();
  }

  // A line that is pointed at somebody else must not show the last frame of whom it carried before: the picture
  // stays hidden until the first new frame.
  #carry(kind, element, track) {
    if (this.#streams[kind] === track) return;
    this.#streams[kind] = track;
    if (kind === "video") {
      this.element.classList.remove("has-video");
      if (track !== null) {
        const shown = () => {
          if (this.#streams.video === track) this.element.classList.add("has-video");
        };
        if ("requestVideoFrameCallback" in element) element.requestVideoFrameCallback(shown);
        else element.addEventListener("playing", shown, { once: true });
      }
    }
    element.srcObject = track === null ? null : new MediaStream([track]);
  }
}

function describe(model) {
  if (model.kind === "screen") return model.label;
  const parts = [model.label];
  parts.push(model.microphoneMuted ? "microphone off" : "microphone on");
  parts.push(model.video !== null && !model.cameraMuted ? "camera on" : "camera off");
  return parts.join(", ");
}

/** Returns an icon of `icons.svg`. */
export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(namespace, "use");
  use.setAttribute("href", `/assets/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Points an icon at another drawing. */
export function setIcon(svg, name) {
  svg.querySelector("use").setAttribute("href", `/assets/icons.svg#${name}`);
}
