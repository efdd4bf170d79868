// A sender with two simulcast layers (RFC 8853) and a viewer of the page: one layer is forwarded, in the end the
// best one that is sent; when the sender stops that layer, the picture goes on with the next.

import { input, launch, open, say, stateIs, until } from "./lib.mjs";

const { base } = await input();
const browser = await launch();
try {
  const sender = await open(browser, { colour: "#2040c0", tone: 440 });
  await sender.goto(base);
  say("the sender offers two layers");
  const answer = await sender.evaluate(async () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [480, 360];
    const context = canvas.getContext("2d");
    let frame = 0;
    setInterval(() => {
      context.fillStyle = "#2040c0";
      context.fillRect(0, 0, 480, 360);
      context.fillStyle = frame % 2 ? "#202020" : "#e0e0e0";
      context.fillRect((frame * 8) % 480, 320, 32, 32);
      frame += 1;
    }, 100);
    const pc = new RTCPeerConnection();
    const { sender } = pc.addTransceiver(canvas.captureStream(10).getVideoTracks()[0], {
      direction: "sendonly",
      sendEncodings: [
        { rid: "h", scaleResolutionDownBy: 2 },
        { rid: "f" },
      ],
    });
    await pc.setLocalDescription();
    const response = await fetch("/rooms/layers/whip", {
      method: "POST",
      headers: { "content-type": "application/sdp" },
      body: pc.localDescription.sdp,
    });
    const sdp = await response.text();
    if (response.status !== 201) throw new Error(`${response.status}: ${sdp}`);
    await pc.setRemoteDescription({ type: "answer", sdp });
    window.sending = { pc, sender };
    return sdp;
  });
  if (!/^a=simulcast:recv /m.test(answer)) throw new Error(`the answer takes no layers:\n${answer}`);
  const sent = () =>
    sender.evaluate(async () =>
      [...(await window.sending.pc.getStats()).values()]
        // A layer without a frame may still carry padding, to probe the path.
        .filter((entry) => entry.type === "outbound-rtp" && entry.framesEncoded > 0)
        .map((entry) => entry.rid)
        .sort()
        .join(""),
    );
  await until("both layers are sent", 30_000, async (seen) => {
    const rids = await sent();
    seen(rids);
    return rids === "fh";
  });

  say("a viewer comes");
  const viewer = await open(browser, { colour: "#c02020", tone: 220 });
  viewer.who = "viewer";
  await viewer.goto(`${base}/rooms/layers?name=viewer&autojoin=1`);
  await stateIs(viewer, "in-room");
  const picture = () =>
    viewer.evaluate(async () => {
      const [other] = [...window.roomgate.participants.values()];
      const stats = [...(await window.roomgate.pc.getStats()).values()];
      const inbound = stats.find(
        (entry) => entry.type === "inbound-rtp" && entry.trackIdentifier === other?.tracks.camera?.id,
      );
      return { width: other?.video?.videoWidth ?? 0, frames: inbound?.framesDecoded ?? 0 };
    });
  const shows = (width, what) =>
    until(what, 30_000, async (seen) => {
      const now = await picture();
      seen(now);
      return now.width === width && now.frames > 0 && now;
    });
  const full = await shows(480, "the viewer sees the full layer");

  say("the sender stops its full layer");
  await sender.evaluate(async () => {
    const parameters = window.sending.sender.getParameters();
    parameters.encodings[1].active = false;
    await window.sending.sender.setParameters(parameters);
  });
  const half = await shows(240, "the viewer sees the half layer");
  if (half.frames <= full.frames) throw new Error("no further frame");

  say("and starts it again");
  await sender.evaluate(async () => {
    const parameters = window.sending.sender.getParameters();
    parameters.encodings[1].active = true;
    await window.sending.sender.setParameters(parameters);
  });
  const again = await shows(480, "the viewer sees the full layer again");
  console.log(JSON.stringify({ full, half, again, faults: viewer.faults }));
} finally {
  await browser.close();
}
