//! Two media workers on one UDP port, with a host that checks integrity as ICE does and echoes what is no STUN.
//!
//! The kernel spreads clients over the workers' sockets by their address: with 24 source ports some arrive on the
//! worker that does not own their session. The ring is what connects them; without it they must stay outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use roomgate::clock;
use roomgate::config::settings::Advertise;
use roomgate::media::drops::DropReason;
use roomgate::media::host::{Datagram, Host, Outbox, SessionKey};
use roomgate::media::{SendError, WorkerIdentity, WorkerLimits, WorkerReport, Workers, WorkersConfig};
use roomgate::telemetry::metrics::Metrics;
use roomgate::wire::ufrag::{Ufrag, UfragCodec};
use stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use stun::textattrs::TextAttribute;
use stun::xoraddr::XorMappedAddress;

const KEY: [u8; 16] = [42; 16];
const PASSWORD: &str = "a password of more than 22 characters";

/// A host whose sessions all have the same password.
struct Toy {
    identity: WorkerIdentity,
    sessions: HashMap<SessionKey, Session>,
    keys: u64,
}

#[derive(Default)]
struct Session {
    got: u64,
    over: bool,
}

enum Command {
    Join(Sender<(SessionKey, String)>),
    Send(SessionKey, SocketAddr),
    End(SessionKey),
}

impl Host for Toy {
    type Command = Command;
    type Report = u64;

    fn handle_datagram(
        &mut self,
        session: SessionKey,
        datagram: Datagram<'_>,
        _: Instant,
        out: &mut dyn Outbox,
    ) -> bool {
        let Some(state) = self.sessions.get_mut(&session).filter(|state| !state.over) else { return false };
        if datagram.bytes[0] > 3 {
            state.got += 1;
            out.transmit(session, datagram.source, datagram.bytes);
        } else if let Some(answer) = answer(datagram) {
            out.transmit(session, datagram.source, &answer);
        }
        true
    }

    fn handle_command(&mut self, command: Command, _: Instant, out: &mut dyn Outbox) {
        match command {
            Command::Join(reply) => {
                self.keys += 1;
                let key = SessionKey(self.keys);
                self.sessions.insert(key, Session::default());
                let _ = reply.send((key, self.identity.mint(key)));
            }
            Command::Send(session, to) => out.transmit(session, to, b"\x80unasked"),
            Command::End(session) => self.sessions.entry(session).or_default().over = true,
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut dyn Outbox) {}

    fn stop(&mut self, _: Instant, _: &mut dyn Outbox) {}

    fn report(&mut self, _: Instant) -> u64 {
        self.sessions.values().map(|session| session.got).sum()
    }
}

fn integrity(password: &str) -> MessageIntegrity {
    MessageIntegrity::new_short_term_integrity(password.to_owned())
}

/// Answers a request whose integrity holds.
fn answer(datagram: Datagram<'_>) -> Option<Vec<u8>> {
    let mut request = Message::new();
    request.unmarshal_binary(datagram.bytes).ok()?;
    integrity(PASSWORD).check(&mut request).ok()?;
    let mapped = XorMappedAddress { ip: datagram.source.ip(), port: datagram.source.port() };
    let mut answer = Message::new();
    answer.transaction_id = request.transaction_id;
    answer.set_type(BINDING_SUCCESS);
    answer.write_header();
    mapped.add_to(&mut answer).ok()?;
    integrity(PASSWORD).add_to(&mut answer).ok()?;
    FINGERPRINT.add_to(&mut answer).ok()?;
    Some(answer.raw)
}

fn check(server: &str, password: &str) -> Vec<u8> {
    let mut request = Message::new();
    request.set_type(BINDING_REQUEST);
    request.write_header();
    request.new_transaction_id().unwrap();
    TextAttribute::new(ATTR_USERNAME, format!("{server}:peer")).add_to(&mut request).unwrap();
    request.add(ATTR_USE_CANDIDATE, &[]);
    integrity(password).add_to(&mut request).unwrap();
    FINGERPRINT.add_to(&mut request).unwrap();
    request.raw
}

struct Rig {
    workers: Workers<Command, u64>,
    metrics: Metrics,
}

impl Rig {
    fn start(bind: &str, count: u8, limits: WorkerLimits) -> Self {
        let config = WorkersConfig {
            bind: vec![bind.parse().unwrap()],
            count,
            edge: 3,
            key: Some(KEY),
            advertise: Advertise::Auto,
            public: Vec::new(),
            limits,
        };
        let metrics = Metrics::new();
        let make = |identity| Toy { identity, sessions: HashMap::new(), keys: 0 };
        Self { workers: Workers::start(config, make, metrics.media.clone()).unwrap(), metrics }
    }

    fn join(&self, worker: u8) -> (SessionKey, String) {
        let (reply, joined) = mpsc::channel();
        self.workers.handle(worker).unwrap().send(Command::Join(reply)).unwrap();
        joined.recv_timeout(PATIENCE).unwrap()
    }

    fn at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.workers.local_addrs()[0].port())
    }

    /// Waits until the workers' reports add up to something.
    fn wait_for(&self, what: &str, reached: impl Fn(&[WorkerReport<u64>]) -> bool) -> Vec<WorkerReport<u64>> {
        let end = clock::now() + PATIENCE;
        loop {
            let reports =
                self.workers.handles().iter().map(|handle| (*handle.report()).clone()).collect::<Vec<_>>();
            if reached(&reports) {
                return reports;
            }
            assert!(clock::now() < end, "{what}: {reports:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn drops(&self, reason: DropReason, count: u64) {
        self.wait_for(reason.as_str(), |reports| {
            reports.iter().map(|report| report.drops.of(reason)).sum::<u64>() == count
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.workers.stop();
        let left = self.workers.join(PATIENCE);
        assert!(left == 0 || std::thread::panicking(), "{left} workers did not end");
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

struct Client(UdpSocket);

impl Client {
    fn at(ip: &str) -> Self {
        let socket = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn receive(&self) -> io::Result<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2048];
        let (len, from) = self.0.recv_from(&mut buffer)?;
        Ok((buffer[..len].to_vec(), from))
    }

    /// Says whether nothing comes in the time that an answer would take a hundred times over.
    fn hears_nothing(&self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let silent = self.receive().is_err();
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    fn validate(&self, server: &str, to: SocketAddr) {
        self.0.send_to(&check(server, PASSWORD), to).unwrap();
        let (answer, from) = self.receive().unwrap();
        assert_eq!(from, to);
        assert_eq!(answer[..2], [1, 1]);
        let mut message = Message::new();
        message.unmarshal_binary(&answer).unwrap();
        integrity(PASSWORD).check(&mut message).unwrap();
    }
}

const MEDIA: &[u8] = &[0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xAA, 0xBB];

/// Joins 24 clients to sessions of worker 0 and returns how many of them got their answers and their media back.
fn clients_through(
    limits: WorkerLimits,
    tries: u32,
    settled: impl Fn(&[WorkerReport<u64>]) -> bool,
) -> (usize, Vec<WorkerReport<u64>>) {
    let rig = Rig::start("127.0.0.1:0", 2, limits);
    let to = rig.at("127.0.0.1");
    let clients = (0..24).map(|_| (Client::at("127.0.0.1"), rig.join(0).1)).collect::<Vec<_>>();
    for (client, _) in &clients {
        client.0.set_nonblocking(true).unwrap();
    }
    // ICE repeats its checks too.
    let answered = exchange(&clients, tries, |(client, ufrag)| {
        client.0.send_to(&check(ufrag, PASSWORD), to).unwrap();
    });
    let answered =
        answered.into_iter().filter(|(_, got)| got.is_some()).map(|(one, _)| one).collect::<Vec<_>>();
    let echoed = exchange(&answered, tries, |(client, _)| {
        client.0.send_to(MEDIA, to).unwrap();
    });
    let through = echoed.iter().filter(|(_, got)| got.as_ref() == Some(&(MEDIA.to_vec(), to))).count();
    let reports = rig.wait_for("reports after the last client", |reports| settled(reports));
    (through, reports)
}

/// A client and what it heard last.
type Heard<'a> = (&'a (Client, String), Option<(Vec<u8>, SocketAddr)>);

/// Lets all clients ask at once, up to `tries` times each, and returns what each one heard last.
fn exchange<T>(clients: &[T], tries: u32, ask: impl Fn(&T)) -> Vec<Heard<'_>>
where
    T: std::borrow::Borrow<(Client, String)>,
{
    let mut heard = clients.iter().map(|one| (one.borrow(), None)).collect::<Vec<_>>();
    for _ in 0..tries {
        if heard.iter().all(|(_, got)| got.is_some()) {
            break;
        }
        for (one, _) in clients.iter().zip(&heard).filter(|(_, (_, got))| got.is_none()) {
            ask(one);
        }
        let end = clock::now() + Duration::from_millis(250);
        while clock::now() < end && heard.iter().any(|(_, got)| got.is_none()) {
            std::thread::sleep(Duration::from_millis(1));
            for (one, got) in &mut heard {
                while let Ok(datagram) = one.0.receive() {
                    *got = Some(datagram);
                }
            }
        }
    }
    heard
}

#[test]
fn clients_on_the_wrong_worker_reach_their_session_over_the_ring() {
    let (through, reports) = clients_through(WorkerLimits::default(), 20, |reports| {
        reports[0].flows == 24 && reports[0].ring_in > 0 && reports[1].ring_out > 0
    });
    assert_eq!(through, 24);
    assert!(reports[1].datagrams_in > 0, "no client arrived on worker 1: the test has tested nothing");
    assert!(reports[1].ring_out > 0 && reports[0].ring_in > 0, "{reports:#?}");
    assert_eq!(reports[0].flows, 24, "all flows are worker 0's");
    assert_eq!(reports[1].flows, 0);
}

#[test]
fn without_the_ring_they_do_not() {
    let limits = WorkerLimits { ring_capacity: 0, ..WorkerLimits::default() };
    let (through, reports) =
        clients_through(limits, 3, |reports| reports[1].drops.of(DropReason::RingFull) > 0);
    assert!(through < 24, "the ring was out, and yet all came through");
    assert!(reports[1].drops.of(DropReason::RingFull) > 0, "{reports:#?}");
    assert_eq!(reports[0].ring_in, 0);
}

#[test]
fn nothing_is_sent_to_an_address_without_an_answered_check() {
    let rig = Rig::start("127.0.0.1:0", 1, WorkerLimits::default());
    let (to, client, (key, ufrag)) = (rig.at("127.0.0.1"), Client::at("127.0.0.1"), rig.join(0));
    let send = || {
        let address = client.0.local_addr().unwrap();
        rig.workers.handle(0).unwrap().send(Command::Send(key, address)).unwrap();
    };
    send();
    client.0.send_to(MEDIA, to).unwrap();
    client.0.send_to(&check(&ufrag, "not the password, but as long as it"), to).unwrap();
    send();
    assert!(client.hears_nothing());
    rig.drops(DropReason::Unvalidated, 2);
    rig.drops(DropReason::NoFlow, 1);
    client.validate(&ufrag, to);
    send();
    assert_eq!(client.receive().unwrap().0, b"\x80unasked");
    // Another client's media is nobody's, even now.
    let other = Client::at("127.0.0.1");
    other.0.send_to(MEDIA, to).unwrap();
    assert!(other.hears_nothing());
    rig.drops(DropReason::NoFlow, 2);
    // The host says that the session is over: from then on its addresses get nothing.
    rig.workers.handle(0).unwrap().send(Command::End(key)).unwrap();
    client.0.send_to(MEDIA, to).unwrap();
    assert!(client.hears_nothing());
    send();
    assert!(client.hears_nothing());
    rig.drops(DropReason::Unvalidated, 3);
}

#[test]
fn ufrags_of_others_are_refused_and_counted() {
    let rig = Rig::start("127.0.0.1:0", 2, WorkerLimits::default());
    let (to, client) = (rig.at("127.0.0.1"), Client::at("127.0.0.1"));
    let (key, good) = rig.join(0);
    let generation = rig.workers.generation();
    let ours = Ufrag { edge: 3, worker: 0, flags: 0, generation, nonce: key.0 };
    let codec = UfragCodec::new(KEY);
    assert_eq!(codec.encode(&ours), good);
    for (ufrag, reason) in [
        (codec.encode(&Ufrag { generation: generation ^ 1, ..ours }), DropReason::OldGeneration),
        (codec.encode(&Ufrag { edge: 4, ..ours }), DropReason::WrongEdge),
        (codec.encode(&Ufrag { worker: 2, ..ours }), DropReason::NoWorker),
        (UfragCodec::new([0; 16]).encode(&ours), DropReason::Forged),
    ] {
        client.0.send_to(&check(&ufrag, PASSWORD), to).unwrap();
        rig.drops(reason, 1);
    }
    assert!(client.hears_nothing());
    client.validate(&good, to);
    let text = prometheus::TextEncoder::new().encode_to_string(&rig.metrics.registry.gather()).unwrap();
    for reason in ["old_generation", "wrong_edge", "no_worker", "forged"] {
        let counted = (0..2).any(|worker| {
            let line = format!(
                "roomgate_media_datagrams_dropped_total{{reason=\"{reason}\",worker=\"{worker}\"}} 1"
            );
            text.contains(&line)
        });
        assert!(counted, "{reason} is not in\n{text}");
    }
}

#[test]
fn replies_leave_from_the_address_that_was_asked() {
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let rig = Rig::start(bind, 2, WorkerLimits::default());
        let dual = rig.workers.local_addrs()[0].is_ipv6();
        let mut asked = vec!["127.0.0.1", "127.0.0.2", "127.0.0.3"];
        if dual {
            asked.push("::1");
        }
        for asked in asked {
            let to = rig.at(asked);
            // Each from several ports, so that some replies come from the owner of a session on the other worker.
            for worker in [0, 1, 0, 1] {
                let client = Client::at(if to.is_ipv6() { "::1" } else { "127.0.0.1" });
                client.validate(&rig.join(worker).1, to);
                client.0.send_to(MEDIA, to).unwrap();
                assert_eq!(client.receive().unwrap(), (MEDIA.to_vec(), to), "{bind} {asked}");
            }
        }
    }
}

#[test]
fn client_that_asks_two_addresses_gets_each_answer_from_the_one_it_asked() {
    let rig = Rig::start("0.0.0.0:0", 2, WorkerLimits::default());
    let client = Client::at("127.0.0.1");
    let (_, ufrag) = rig.join(1);
    for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"] {
        client.validate(&ufrag, rig.at(ip));
    }
    // The last one that was nominated carries the media, wherever it came in.
    client.0.send_to(MEDIA, rig.at("127.0.0.1")).unwrap();
    assert_eq!(client.receive().unwrap().1, rig.at("127.0.0.2"));
}

#[test]
fn client_that_moves_and_restarts_keeps_its_old_path_until_the_new_one_is_proven() {
    let rig = Rig::start("127.0.0.1:0", 2, WorkerLimits::default());
    let to = rig.at("127.0.0.1");
    let (before, (_, first)) = (Client::at("127.0.0.1"), rig.join(0));
    before.validate(&first, to);
    let echo = |client: &Client| {
        client.0.send_to(MEDIA, to).unwrap();
        assert_eq!(client.receive().unwrap().0, MEDIA);
    };
    // A thief who has seen the ufrag moves nothing.
    let thief = Client::at("127.0.0.1");
    thief.0.send_to(&check(&first, "not the password, but as long as it"), to).unwrap();
    thief.0.send_to(MEDIA, to).unwrap();
    assert!(thief.hears_nothing());
    echo(&before);
    // New credentials on the same address, then a new address with the same credentials.
    let (_, second) = rig.join(1);
    before.validate(&second, to);
    for _ in 0..3 {
        echo(&before);
    }
    let reports =
        rig.wait_for("echoes of both sessions", |reports| reports.iter().map(|r| r.host).sum::<u64>() >= 4);
    assert_eq!((reports[0].host, reports[1].host), (1, 3), "the last proven credentials own the address");
    let after = Client::at("127.0.0.1");
    after.validate(&second, to);
    echo(&after);
    echo(&before);
}

#[test]
fn bursts_cross_whole_and_in_order() {
    let rig = Rig::start("127.0.0.1:0", 2, WorkerLimits::default());
    let to = rig.at("127.0.0.1");
    for worker in [0, 1] {
        let client = Client::at("127.0.0.1");
        client.validate(&rig.join(worker).1, to);
        client.0.send_to(MEDIA, to).unwrap();
        client.receive().unwrap();
        let state = quinn_udp::UdpSocketState::new((&client.0).into()).unwrap();
        let mut burst = Vec::new();
        for n in 0..10_u8 {
            let size = if n == 9 { 500 } else { 1100 };
            burst.extend(MEDIA);
            burst.resize(usize::from(n) * 1100 + size, n);
        }
        let segment_size = (state.max_gso_segments() > 1).then_some(1100);
        if segment_size.is_some() {
            let transmit = quinn_udp::Transmit {
                destination: to,
                ecn: None,
                contents: &burst,
                segment_size,
                src_ip: None,
            };
            state.try_send((&client.0).into(), &transmit).unwrap();
        } else {
            for segment in burst.chunks(1100) {
                client.0.send_to(segment, to).unwrap();
            }
        }
        client.0.set_nonblocking(false).unwrap();
        let mut echoed = Vec::<u8>::new();
        while echoed.len() < burst.len() {
            // The client's socket may put them together again; only bytes and order count.
            let mut buffer = vec![0; 65_536];
            let len = client.0.recv(&mut buffer).unwrap();
            echoed.extend(&buffer[..len]);
        }
        assert_eq!(echoed, burst);
    }
}

#[test]
fn stalled_worker_stops_beating_and_the_other_goes_on() {
    let rig = Rig::start("127.0.0.1:0", 2, WorkerLimits::default());
    let [stalled, lively] = rig.workers.handles() else { panic!("two workers") };
    let (release, released) = mpsc::channel::<()>();
    stalled
        .run_on(Box::new(move || {
            let _ = released.recv_timeout(PATIENCE);
        }))
        .unwrap();
    let until = |what: &str, reached: &dyn Fn() -> bool| {
        let end = clock::now() + PATIENCE;
        while !reached() {
            assert!(clock::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // A beat is due every 100 ms: half a second without one is a stall, and it is seen while it lasts.
    until("the stall is seen", &|| stalled.heartbeat_age(clock::now()) > Duration::from_millis(500));
    until("the other one beats", &|| lively.heartbeat_age(clock::now()) < Duration::from_millis(150));
    assert!(stalled.heartbeat_age(clock::now()) > Duration::from_millis(500), "and this one does not");
    release.send(()).unwrap();
    until("it comes back", &|| stalled.heartbeat_age(clock::now()) < Duration::from_millis(150));
    rig.join(0);
}

#[test]
fn worker_that_panics_is_seen_to_be_gone() {
    let rig = Rig::start("127.0.0.1:0", 2, WorkerLimits::default());
    let dead = rig.workers.handle(0).unwrap();
    dead.run_on(Box::new(|| panic!("a fault that the test wants"))).unwrap();
    let end = clock::now() + PATIENCE;
    while dead.is_running() {
        assert!(clock::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(dead.run_on(Box::new(|| ())), Err(SendError::Gone));
    let text = prometheus::TextEncoder::new().encode_to_string(&rig.metrics.registry.gather()).unwrap();
    assert!(text.contains("roomgate_media_worker_up{worker=\"0\"} 0"), "{text}");
    assert!(text.contains("roomgate_media_worker_up{worker=\"1\"} 1"), "{text}");
    // Its socket is closed, so the kernel gives everything to the other one, whose sessions live on.
    let client = Client::at("127.0.0.1");
    client.validate(&rig.join(1).1, rig.at("127.0.0.1"));
}

#[test]
fn full_command_queue_refuses() {
    let rig = Rig::start("127.0.0.1:0", 1, WorkerLimits { commands_max: 2, ..WorkerLimits::default() });
    let worker = rig.workers.handle(0).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let stall = move || {
        entered.send(()).unwrap();
        let _ = released.recv_timeout(PATIENCE);
    };
    worker.run_on(Box::new(stall)).unwrap();
    inside.recv_timeout(PATIENCE).unwrap();
    for _ in 0..2 {
        worker.send(Command::End(SessionKey(1))).unwrap();
    }
    assert_eq!(worker.send(Command::End(SessionKey(1))), Err(SendError::Full));
    release.send(()).unwrap();
    let end = clock::now() + PATIENCE;
    while worker.send(Command::End(SessionKey(1))) == Err(SendError::Full) {
        assert!(clock::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn commands_sent_before_the_stop_are_carried_out() {
    let rig = Rig::start("127.0.0.1:0", 1, WorkerLimits::default());
    let (to, client, (key, ufrag)) = (rig.at("127.0.0.1"), Client::at("127.0.0.1"), rig.join(0));
    client.validate(&ufrag, to);
    rig.workers.handle(0).unwrap().send(Command::Send(key, client.0.local_addr().unwrap())).unwrap();
    rig.workers.stop();
    assert_eq!(client.receive().unwrap().0, b"\x80unasked", "a goodbye leaves before the worker ends");
    assert_eq!(rig.workers.join(PATIENCE), 0);
}
