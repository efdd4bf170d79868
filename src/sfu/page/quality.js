// How good this participant's own connection is: from getStats, in one word and one sentence.

const PERIOD_MS = 2_000;

/** Reads the values that count from a report of getStats. Counters are since the start of the connection. */
export function read(report) {
  const values = { at: 0, rttMs: null, received: 0, lost: 0, lostOut: null, bytesIn: 0, bytesOut: 0, estimate: null, jitterMs: null, levels: new Map() };
  let pair = null;
  for (const stat of report.values()) {
    switch (stat.type) {
      case "transport":
        values.at = stat.timestamp;
        values.bytesIn += stat.bytesReceived ?? 0;
        values.bytesOut += stat.bytesSent ?? 0;
        pair = report.get(stat.selectedCandidatePairId) ?? pair;
        break;
      case "inbound-rtp":
        values.received += stat.packetsReceived ?? 0;
        values.lost += stat.packetsLost ?? 0;
        if (stat.kind === "audio") {
          if (stat.audioLevel !== undefined) values.levels.set(stat.mid, stat.audioLevel);
          values.jitterMs = Math.max(values.jitterMs ?? 0, (stat.jitter ?? 0) * 1_000);
        }
        break;
      case "remote-inbound-rtp":
        values.lostOut = Math.max(values.lostOut ?? 0, stat.fractionLost ?? 0);
        break;
    }
  }
  if (pair?.currentRoundTripTime !== undefined) values.rttMs = pair.currentRoundTripTime * 1_000;
  if (pair?.availableOutgoingBitrate !== undefined) values.estimate = pair.availableOutgoingBitrate;
  return values;
}

/** Returns what happened between two readings: rates in bits per second, losses as a share of packets. */
export function between(before, after) {
  const seconds = (after.at - before.at) / 1_000;
  if (seconds <= 0) return null;
  const lost = Math.max(0, after.lost - before.lost);
  const expected = lost + Math.max(0, after.received - before.received);
  return {
    rttMs: after.rttMs,
    jitterMs: after.jitterMs,
    lossIn: expected > 0 ? lost / expected : 0,
    lossOut: after.lostOut ?? 0,
    bitrateIn: Math.max(0, (8 * (after.bytesIn - before.bytesIn)) / seconds),
    bitrateOut: Math.max(0, (8 * (after.bytesOut - before.bytesOut)) / seconds),
    estimate: after.estimate,
  };
}

/** Returns `{ grade, words }`: `good`, `fair` or `poor`, and the worst reason for it. */
export function grade({ rttMs, lossIn, lossOut, jitterMs, estimate }) {
  const rules = [
    [lossIn, 0.02, 0.08, (v) => `${percent(v)} of what others send is lost on the way to you`],
    [lossOut, 0.02, 0.08, (v) => `${percent(v)} of what you send is lost`],
    [rttMs, 200, 450, (v) => `the way to the service and back takes ${Math.round(v)} ms`],
    [jitterMs, 40, 100, (v) => `packets arrive unevenly, by ${Math.round(v)} ms`],
    [estimate === null ? null : 1 / estimate, 1 / 300_000, 1 / 120_000, (v) => `only about ${Math.round(1 / v / 1_000)} kbit/s can be sent`],
  ];
  for (const [name, limit] of [["poor", 2], ["fair", 1]]) {
    for (const rule of rules) {
      if (rule[0] !== null && rule[0] > rule[limit]) return { grade: name, words: `${title(name)} connection: ${rule[3](rule[0])}.` };
    }
  }
  return { grade: "good", words: "Good connection." };
}

/** Returns the figures in words: round trip, loss, rates. */
export function figures(sample) {
  const rtt = sample.rttMs === null ? "unknown" : `${Math.round(sample.rttMs)} ms`;
  return [
    ["Round trip", rtt],
    ["Lost, received", percent(sample.lossIn)],
    ["Lost, sent", percent(sample.lossOut)],
    ["Receiving", bitrate(sample.bitrateIn)],
    ["Sending", bitrate(sample.bitrateOut)],
  ];
}

/** Watches one connection: `onReport({ grade, words, sample, levels })` every two seconds. */
export class QualityWatch {
  #timer = 0;
  #before = null;
  #pc;
  #onReport;

  constructor(pc, onReport) {
    this.#pc = pc;
    this.#onReport = onReport;
    this.#timer = setInterval(() => this.#look(), PERIOD_MS);
  }

  stop() {
    clearInterval(this.#timer);
  }

  async #look() {
    if (this.#pc.connectionState !== "connected") {
      this.#before = null;
      return;
    }
    const after = read(await this.#pc.getStats());
    const sample = this.#before && between(this.#before, after);
    this.#before = after;
    if (sample) this.#onReport({ ...grade(sample), sample, levels: after.levels });
  }
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 && share > 0 ? 1 : 0)} %`;
}

function bitrate(bits) {
  return bits >= 1_000_000 ? `${(bits / 1_000_000).toFixed(1)} Mbit/s` : `${Math.round(bits / 1_000)} kbit/s`;
}

function title(word) {
  return word[0].toUpperCase() + word.slice(1);
}
