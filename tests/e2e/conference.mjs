// Three pages in one room and two in another: everybody sees and hears exactly the others of their room.
//
// Input: { base, admin, screenshots }. Output: what each page saw, for the test's figures.

import { input, launch, open, say, stateIs, until, view } from "./lib.mjs";

const PEOPLE = [
  { who: "Ada", room: "room-a", colour: "#c02020", tone: 330 },
  { who: "Ben", room: "room-a", colour: "#20a020", tone: 392 },
  { who: "Cleo", room: "room-a", colour: "#2040c0", tone: 440 },
  { who: "Dina", room: "room-b", colour: "#c0a010", tone: 523 },
  { who: "Emil", room: "room-b", colour: "#a020a0", tone: 587 },
];
/** Largest distance of a colour channel after encoding. */
const COLOUR_ERROR_MAX = 48;
const WATCH_MS = 5_000;

const { base, admin, screenshots } = await input();
const browser = await launch();
try {
  const pages = [];
  for (const person of PEOPLE) {
    const page = await open(browser, person);
    Object.assign(page, person);
    pages.push(page);
  }
  say("everybody joins");
  await Promise.all(pages.map((page) => enter(page)));
  await Promise.all(pages.map((page) => stateIs(page, "in-room")));
  const first = await everybodySeesTheirRoom(pages);

  say("screenshots");
  await pages[0].bringToFront();
  await pages[0].screenshot({ path: `${screenshots}/call.png` });
  const status = await browser.newPage({ viewport: { width: 1200, height: 800 } });
  await status.goto(admin);
  // Rates are known from the second reading on.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  await status.screenshot({ path: `${screenshots}/status.png`, fullPage: true });
  await status.close();

  say("Cleo leaves");
  const [ada, ben, cleo] = pages;
  const before = (await view(cleo)).you;
  await cleo.bringToFront();
  await cleo.locator("#leave").click();
  await stateIs(cleo, "left");
  for (const page of [ada, ben]) {
    await until(`${page.who} sees Cleo leave`, 10_000, async (seen) => {
      const names = Object.keys((await view(page)).remotes);
      seen(names);
      return names.length === 1;
    });
  }
  say("and comes back");
  await cleo.locator("#again").click();
  await stateIs(cleo, "preview");
  await cleo.locator("#join button[type=submit]").click();
  await stateIs(cleo, "in-room");
  await everybodySeesTheirRoom(pages);
  const after = (await view(cleo)).you;
  if (before === after) throw new Error(`Cleo came back under the id ${after} that had left`);

  say("Dina reloads the page");
  const dina = pages[3];
  await dina.reload();
  await stateIs(dina, "in-room");
  const last = await everybodySeesTheirRoom(pages);

  say("a second screenshot, as a phone shows it");
  await ben.setViewportSize({ width: 390, height: 780 });
  await ben.bringToFront();
  await ben.screenshot({ path: `${screenshots}/call-phone.png` });

  const faults = pages.flatMap((page) => page.faults.map((fault) => `${page.who}: ${fault}`));
  console.log(JSON.stringify({ first, last, faults }));
} finally {
  await browser.close();
}

async function enter(page) {
  await page.goto(`${base}/rooms/${page.room}?name=${page.who}&autojoin=1`);
}

// Waits until every page has the picture and sound of exactly the others of its room; then watches for some seconds
// that both go on, and that nothing else comes in.
async function everybodySeesTheirRoom(pages) {
  await Promise.all(pages.map((page) =>
    until(`${page.who} sees and hears the others`, 30_000, async (seen) => {
      const now = await view(page);
      const wrong = faultsOf(page, now);
      seen({ wrong, ...now, faults: page.faults });
      return wrong.length === 0;
    }),
  ));
  const before = await Promise.all(pages.map(view));
  await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  const after = await Promise.all(pages.map(view));
  return pages.map((page, index) => {
    const faults = faultsOf(page, after[index]);
    const rates = {};
    for (const [name, now] of Object.entries(after[index].remotes)) {
      const then = before[index].remotes[name];
      const frames = now.video - then.video;
      const sound = now.audio - then.audio;
      const samples = now.samples - then.samples;
      // Ten a second are sent; a machine at work on other tests may lose some.
      if (frames < 10) faults.push(`only ${frames} frames of ${name} in ${WATCH_MS} ms`);
      if (sound <= 0 || samples <= 0) faults.push(`no sound of ${name}: energy ${sound}, ${samples} samples`);
      rates[name] = { frames, samples, sound };
    }
    if (faults.length > 0) throw new Error(`${page.who}: ${faults.join("; ")}; ${JSON.stringify(after[index])}`);
    return { who: page.who, room: page.room, srtp: after[index].srtp, rates };
  });
}

// Everything that is wrong with what a page receives.
function faultsOf(page, { remotes, lines, srtp, dtls }) {
  const faults = [];
  const others = PEOPLE.filter((person) => person.room === page.room && person.who !== page.who);
  const names = Object.keys(remotes).sort().join();
  if (names !== others.map(({ who }) => who).sort().join()) faults.push(`the room is ${names}`);
  for (const { who, colour } of others) {
    const remote = remotes[who];
    if (remote === undefined) continue;
    if (remote.video === 0) faults.push(`no picture of ${who}`);
    if (remote.audio === 0) faults.push(`no sound of ${who}`);
    if (remote.colour === null || distance(remote.colour, colour) > COLOUR_ERROR_MAX) {
      faults.push(`${who} should be ${colour} and is ${remote.colour}`);
    }
  }
  // A line keeps its count when it is pointed at nobody, so there may be idle ones after somebody left; never more
  // than the room once had.
  for (const kind of ["audio", "video"]) {
    if (lines[kind] < others.length) faults.push(`media on ${lines[kind]} ${kind} lines`);
    if (lines[kind] > PEOPLE.filter((person) => person.room === page.room).length) {
      faults.push(`media on ${lines[kind]} ${kind} lines`);
    }
  }
  if (dtls !== "connected") faults.push(`DTLS is ${dtls}`);
  if (!/^SRTP_AEAD_AES_(128|256)_GCM$/.test(srtp ?? "")) faults.push(`the SRTP cipher is ${srtp}`);
  return faults;
}

function distance([r, g, b], colour) {
  const wanted = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  return Math.max(...[r, g, b].map((value, index) => Math.abs(value - wanted[index])));
}
