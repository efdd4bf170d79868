// People in conference rooms of real XMPP servers, half of them over WebSockets with stream management, half over BOSH.
//
// The test speaks with this script over a socket, one JSON value a line: the script says what has come true, the test says
// what it did to the servers.

import { createConnection } from "node:net";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const load = (path) => import(pathToFileURL(`${process.env.ROOMGATE_E2E_MODULES}/@xmpp/${path}`));
// Not every Node has its own.
globalThis.WebSocket ??= (await import(pathToFileURL(`${process.env.ROOMGATE_E2E_MODULES}/ws/wrapper.mjs`))).default;
const { client, xml } = await load("client/index.js");
const { default: parse } = await load("xml/lib/parse.js");

const MUC = "http://jabber.org/protocol/muc";
const BOSH = "http://jabber.org/protocol/httpbind";
const SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND = "urn:ietf:params:xml:ns:xmpp-bind";
const XBOSH = "urn:xmpp:xbosh";

const deadline = Date.now() + Number(process.env.ROOMGATE_E2E_DEADLINE_MS ?? 60_000);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, missing) {
  for (;;) {
    const still = missing();
    if (still.length === 0) return;
    if (Date.now() > deadline) throw new Error(`${what}: ${still.length} not, such as ${still.slice(0, 5).join("; ")}`);
    await pause(50);
  }
}

/** What all people have: a room, a nickname, and whom they see. */
class Person {
  constructor(input, room, number) {
    Object.assign(this, { input, room, number });
    this.nick = `p${number}`;
    this.name = `${room.jid}-${this.nick}`;
    this.at = `${room.jid}@conference.${input.domain}`;
    this.address = null;
    this.seen = new Set();
    /** Who was seen to leave. */
    this.left = [];
    /** Sessions so far, and how often one was taken up again. */
    this.sessions = 0;
    this.resumed = 0;
  }

  url(scheme, path) {
    const { tenants, names } = this.room;
    const tenant = tenants.length > 0 ? `/${tenants[this.number % tenants.length]}` : "";
    return `${scheme}://${this.input.edge}${tenant}${path}?room=${names[this.number % names.length]}`;
  }

  /** A new session: nobody is seen yet. */
  begin(address) {
    this.address = address;
    this.sessions += 1;
    this.seen.clear();
    return xml("presence", { xmlns: "jabber:client", to: `${this.at}/${this.nick}` }, xml("x", { xmlns: MUC }));
  }

  take(stanza) {
    const [room, nick] = String(stanza.attrs.from ?? "").split("/");
    if (stanza.name !== "presence" || room !== this.at) return;
    if (stanza.attrs.type === "unavailable") {
      this.seen.delete(nick);
      this.left.push(nick);
    } else if (stanza.attrs.type !== "error") {
      this.seen.add(nick);
    }
  }

  toString() {
    const stream = this.xmpp ? `, ${this.xmpp.status}, last error ${this.error}` : "";
    return `${this.at}/${this.nick} (${this.constructor.name}) sees ${[...this.seen]}, ${this.sessions} sessions${stream}`;
  }
}

/** Over a WebSocket; the library resumes its stream by itself. */
class Socket extends Person {
  start() {
    const service = this.url("ws", "/xmpp-websocket");
    const credentials = (authenticate) => authenticate({ username: this.name, password: this.name }, "PLAIN");
    this.xmpp = client({ service, domain: this.input.domain, credentials, timeout: 20_000 });
    this.xmpp.reconnect.delay = 200;
    // What goes wrong is tried again; what stays wrong is seen in the end.
    this.xmpp.on("error", (error) => (this.error = `${this.xmpp.status}: ${error}`));
    this.xmpp.on("stanza", (stanza) => this.take(stanza));
    this.xmpp.streamManagement.on("resumed", () => (this.resumed += 1));
    this.xmpp.on("online", (address) => this.enter(String(address)).catch(() => {}));
    this.xmpp.start().catch(() => {});
  }

  /** Not before the stream is managed: the library counts what it received from a moment too late on, and a server does
   * not take up a stream that acknowledges less than before. */
  async enter(address) {
    while (!this.xmpp.streamManagement.enabled) {
      if (Date.now() > deadline) return;
      await pause(5);
    }
    await this.xmpp.send(this.begin(address));
  }

  async stop() {
    this.xmpp.reconnect.stop();
    await Promise.race([this.xmpp.stop().catch(() => {}), pause(1_000)]);
  }
}

/** Over long polls, one at a time. A poll that fails is sent again as it was: the server knows its number. */
class Poll extends Person {
  start() {
    this.running = true;
    this.queue = [];
    this.loop().catch((error) => (this.fault = error));
  }

  async loop() {
    while (this.running) {
      try {
        await this.session();
      } catch (error) {
        if (!(error instanceof Ended)) throw error;
        await pause(100);
      }
    }
  }

  async session() {
    this.rid = Math.floor(Math.random() * 1_000_000) + 1;
    this.sid = undefined;
    const restart = { "xmlns:xmpp": XBOSH, to: this.input.domain, "xml:lang": "en" };
    const created = await this.post(
      { ...restart, wait: "2", hold: "1", ver: "1.6", "xmpp:version": "1.0", content: "text/xml; charset=utf-8" },
      [],
    );
    this.sid = created.attrs.sid;
    const plain = Buffer.from(`\0${this.name}\0${this.name}`).toString("base64");
    await this.ask(xml("auth", { xmlns: SASL, mechanism: "PLAIN" }, plain), (found) => found.is("success", SASL));
    await this.post({ ...restart, "xmpp:restart": "true" }, []);
    const bind = xml("iq", { xmlns: "jabber:client", type: "set", id: "bind" }, xml("bind", { xmlns: BIND }));
    const bound = await this.ask(bind, (found) => found.name === "iq" && found.attrs.id === "bind");
    let send = [this.begin(bound.getChild("bind", BIND).getChildText("jid"))];
    while (this.running) {
      const answer = await this.post({}, send);
      send = [];
      answer.getChildElements().forEach((stanza) => this.take(stanza));
    }
    await this.post({ type: "terminate" }, []);
  }

  async ask(question, isAnswer) {
    let send = [question];
    for (;;) {
      const answer = await this.post({}, send);
      send = [];
      const found = answer.getChildElements().find(isAnswer);
      if (found) return found;
    }
  }

  async post(attributes, stanzas) {
    this.rid += 1;
    const identity = { xmlns: BOSH, rid: String(this.rid), sid: this.sid };
    const body = xml("body", { ...identity, ...attributes }, ...stanzas).toString();
    for (;;) {
      if (Date.now() > deadline) throw new Error("the script's time is over");
      let text;
      const asked = Date.now();
      try {
        const headers = { "Content-Type": "text/xml; charset=utf-8" };
        const answer = await fetch(this.url("http", "/http-bind"), { method: "POST", body, headers });
        text = answer.ok ? await answer.text() : undefined;
        if (answer.status === 404) throw new Ended();
      } catch (error) {
        if (error instanceof Ended) throw error;
      }
      if (text !== undefined) {
        const parsed = parse(text);
        if (parsed.attrs.type === "terminate" && attributes.type !== "terminate") throw new Ended();
        this.answered = asked;
        return parsed;
      }
      if (this.sid === undefined) throw new Ended();
      await pause(100);
    }
  }

  async stop() {
    this.running = false;
  }
}

/** The server knows nothing of this session. */
class Ended extends Error {}

let text = "";
for await (const chunk of process.stdin) text += chunk;
const input = JSON.parse(text);

const [host, port] = input.control.split(":");
const control = createConnection({ host, port: Number(port) });
const lines = createInterface({ input: control })[Symbol.asyncIterator]();
const tell = (value) => control.write(`${JSON.stringify(value)}\n`);
const told = async () => JSON.parse((await lines.next()).value);

const people = input.rooms.flatMap((room) =>
  [0, 1, 2, 3].map((number) => new (number % 2 === 0 ? Socket : Poll)(input, room, number)),
);
const whole = (person) => person.seen.size === 4;
const forget = () => people.forEach((person) => person.left.splice(0));

for (const person of people) {
  person.start();
  await pause(input.between);
}
await until("everybody sees all of their room", () => people.filter((person) => !whole(person)).map(String));
// The last stanza was seen; streams that are managed have their number by then.
await until("streams are managed", () =>
  people.filter((p) => p instanceof Socket && !p.xmpp.streamManagement.id).map(String),
);
people.forEach((person) => (person.sessions = 1));
forget();
tell({ met: people.length });

// The edge was restarted: every stream goes on.
await told();
const back = Date.now();
const goesOn = (person) => (person instanceof Socket ? person.resumed > 0 : person.answered > back);
await until("everybody's stream goes on", () => people.filter((person) => !goesOn(person)).map(String));
tell({
  resumed: people.filter((person) => person.resumed > 0).length,
  fresh: people.filter((person) => person.sessions !== 1).map(String),
  left: people.flatMap((person) => person.left).length,
  whole: people.filter(whole).length,
});

// A server was killed, with these rooms on it.
const { rooms } = await told();
const moved = (person) => rooms.includes(person.room.key);
await until("the rooms meet again, whole", () =>
  people.filter((person) => !whole(person) || (moved(person) && person.sessions < 2)).map(String),
);
tell({
  moved: people.filter(moved).length,
  whole: people.filter(whole).length,
  disturbed: people.filter((person) => !moved(person) && (person.sessions > 1 || person.left.length > 0)).map(String),
});
await told();
await Promise.all(people.map((person) => person.stop()));
console.log(JSON.stringify({ people: people.length }));
process.exit(0);
