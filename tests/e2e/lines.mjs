// The page's own call asks for the most receive lines there can be: how long its offer is, and whether it is answered.
//
// Then more than any offer can hold, which is not sent: the page keeps what fits.
//
// Input: { base, lines }. Output: { bytes, lines, answered, ms, cut: { bytes, lines } }.

import { input, launch, open, say } from "./lib.mjs";

const { base, lines } = await input();
const browser = await launch();
try {
  const page = await open(browser, { colour: "#2040c0", tone: 440 });
  await page.goto(`${base}/rooms/many`);
  say("a call with the most receive lines");
  const seen = await page.evaluate(async ({ lines }) => {
    const script = [...document.scripts].find((found) => found.src.endsWith("main.js")).src;
    const { Call } = await import(new URL("call.js", script).href);
    const socket = new WebSocket(`wss://${location.host}/rooms/many/ws`);
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    const tracks = { microphone: stream.getAudioTracks()[0], camera: stream.getVideoTracks()[0], screen: null };
    return new Promise((resolve, reject) => {
      let bytes = 0;
      let begun = 0;
      let answers = 0;
      let full = null;
      const linesOf = (sdp) => sdp.match(/^m=/gm).length;
      const send = (message) => {
        const text = JSON.stringify(message);
        if (full !== null) {
          resolve({ ...full, cut: { bytes: new TextEncoder().encode(text).length, lines: linesOf(message.sdp) } });
          return;
        }
        if (message.type === "offer") [bytes, begun] = [new TextEncoder().encode(text).length, performance.now()];
        socket.send(text);
      };
      const call = new Call({
        send,
        onAnswered() {
          answers += 1;
          if (answers === 1) {
            call.handle({ type: "lines", ...lines });
            return;
          }
          const answered = call.pc.remoteDescription.sdp.match(/^m=\w+ [1-9]/gm).length;
          full = { bytes, lines: linesOf(call.pc.localDescription.sdp), answered, ms: performance.now() - begun };
          call.handle({ type: "lines", audio: 500, video: 500 });
        },
        onSlots() {},
        onMedia() {},
        onDead: (text) => reject(new Error(text)),
      });
      socket.onopen = () => socket.send(JSON.stringify({ type: "join", name: "Ada" }));
      socket.onclose = (event) => reject(new Error(`closed: ${event.code} ${event.reason} after an offer of ${bytes} bytes`));
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "error") reject(new Error(message.message));
        if (message.type === "welcome") call.start(tracks, {}, message.lines);
        else call.handle(message);
      };
    });
  }, { lines });
  console.log(JSON.stringify({ ...seen, faults: page.faults }));
} finally {
  await browser.close();
}
