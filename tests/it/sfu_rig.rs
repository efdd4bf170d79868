//! Workers with rooms over real sockets, and clients for them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roomgate::clock;
use roomgate::config::settings::{Advertise, Name, PoolNodes, PoolSettings, RoomTableSettings};
use roomgate::media::{WorkerLimits, Workers, WorkersConfig};
use roomgate::pool::{Pools, Target};
use roomgate::rooms::{RoomId, RoomKey, Rooms};
use roomgate::sfu::client::{Client, Said, Sent};
use roomgate::sfu::signalling::message::{ClientMessage, ServerMessage, Source, Track};
use roomgate::sfu::{Command, Engine, JoinContext, Sfu, SfuHost, SfuLimits, SfuReport};
use roomgate::tasks::Tasks;
use roomgate::telemetry::metrics::Metrics;
use tokio::io::DuplexStream;
use tokio::net::UdpSocket;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

/// Tells the next client's packets from everybody else's.
static LETTERS: AtomicU8 = AtomicU8::new(0);

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) workers: Arc<Workers<Command, SfuReport>>,
    pub(crate) sfu: Sfu,
    pub(crate) rooms: Rooms,
    pub(crate) pools: Pools,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
}

impl Rig {
    pub(crate) fn start(workers: u8) -> Self {
        Self::with(workers, WorkerLimits::default(), SfuLimits::new(100))
    }

    pub(crate) fn with(count: u8, limits: WorkerLimits, sfu_limits: SfuLimits) -> Self {
        let metrics = Metrics::new();
        let engine = Engine::new().unwrap();
        let config = WorkersConfig {
            bind: vec!["127.0.0.1:0".parse().unwrap()],
            count,
            edge: 3,
            key: None,
            advertise: Advertise::Auto,
            public: Vec::new(),
            limits,
        };
        let make = move |identity| SfuHost::new(identity, engine.clone(), sfu_limits, clock::now());
        let workers = Arc::new(Workers::start(config, make, metrics.media.clone()).unwrap());
        let tasks = Tasks::new();
        let sfu = Sfu::new(Arc::clone(&workers), tasks.clone(), metrics.sfu.clone());
        let pools = Pools::new(metrics.pool.clone());
        let settings = PoolSettings::new(
            "workers",
            PoolNodes::Embedded { workers: Some(count) },
            Duration::from_secs(60),
        );
        pools.apply(&BTreeMap::from([(Name::from("workers"), Arc::new(settings))]));
        for node in &pools.get("workers").unwrap().nodes {
            node.set_embedded(Ok(()), clock::now());
        }
        let table = RoomTableSettings { rooms_max: 1000 };
        let rooms = Rooms::new(pools.clone(), &table, metrics.rooms.clone());
        Self { workers, sfu, rooms, pools, tasks, metrics }
    }

    pub(crate) fn room(&self, key: &str) -> RoomId {
        RoomId { pool: "workers".into(), scope: "test".into(), key: RoomKey::new(key).unwrap() }
    }

    /// A room that is placed on that worker.
    pub(crate) fn room_on(&self, worker: u8) -> RoomId {
        (0..).map(|i| self.room(&format!("room {i}"))).find(|room| self.place(room).worker == worker).unwrap()
    }

    pub(crate) fn place(&self, room: &RoomId) -> JoinContext {
        let (node, hold) = self.rooms.hold(room, clock::now()).unwrap();
        let Target::Embedded { worker } = node.target else { panic!("an embedded pool") };
        JoinContext { room: room.clone(), worker, hold, open: node.open() }
    }

    /// Opens a WebSocket into a room, as the edge does after its 101.
    pub(crate) async fn connect(&self, room: &RoomId) -> Socket {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (sfu, context) = (self.sfu.clone(), self.place(room));
        self.tasks.spawn(async move { sfu.serve_websocket(theirs, context).await });
        Socket { stream: WebSocketStream::from_raw_socket(ours, Role::Client, None).await }
    }

    /// Joins with media, and keeps it running.
    pub(crate) async fn join(&self, room: &RoomId, sends: &[Source], audio: u16, video: u16) -> Talker {
        let mut socket = self.connect(room).await;
        socket.say(&ClientMessage::Join { name: "somebody".to_owned() }).await;
        let ServerMessage::Welcome { you, .. } = socket.hear().await else { panic!("a welcome comes first") };
        let (media, sdp, tracks) = Media::offer(sends, audio, video).await;
        socket.say(&ClientMessage::Offer { id: 1, sdp, tracks }).await;
        let answer = socket
            .hear_until(|message| {
                if let ServerMessage::Answer { id: 1, sdp } = message { Some(sdp.clone()) } else { None }
            })
            .await;
        media.answer(&answer, self.workers.local_addrs()[0]);
        Talker { you, socket, media }
    }

    pub(crate) fn ring_out(&self) -> u64 {
        self.workers.handles().iter().map(|handle| handle.report().ring_out).sum()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.stopping().cancel();
        self.workers.stop();
    }
}

pub(crate) struct Talker {
    pub(crate) you: String,
    pub(crate) socket: Socket,
    pub(crate) media: Media,
}

/// The client's end of a WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<DuplexStream>,
}

impl Socket {
    pub(crate) async fn say(&mut self, message: &ClientMessage) {
        self.say_text(serde_json::to_string(message).unwrap()).await;
    }

    pub(crate) async fn say_text(&mut self, text: String) {
        self.stream.send(Message::Text(text.into())).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> ServerMessage {
        self.hear_until(|message| Some(message.clone())).await
    }

    pub(crate) async fn hear_until<T>(&mut self, mut wanted: impl FnMut(&ServerMessage) -> Option<T>) -> T {
        let found = async {
            loop {
                match self.stream.next().await.expect("the connection is open").unwrap() {
                    Message::Text(text) => {
                        if let Some(found) = wanted(&serde_json::from_str(&text).unwrap()) {
                            return found;
                        }
                    }
                    Message::Close(frame) => panic!("closed: {frame:?}"),
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("the message comes")
    }

    /// What the server says last, and its close frame.
    pub(crate) async fn end(mut self) -> (Option<ServerMessage>, Option<CloseFrame>) {
        let mut last = None;
        let end = async {
            while let Some(Ok(message)) = self.stream.next().await {
                match message {
                    Message::Text(text) => last = Some(serde_json::from_str(&text).unwrap()),
                    Message::Close(frame) => return frame,
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                }
            }
            None
        };
        let frame = tokio::time::timeout(DEADLINE, end).await.expect("the connection ends");
        (last, frame)
    }
}

/// What a client's media has come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected: bool,
    pub(crate) closed: bool,
    /// Packets by the letter at the end of their payload.
    pub(crate) packets: BTreeMap<u8, usize>,
}

/// A client's media over a socket of its own, driven by a task.
pub(crate) struct Media {
    pub(crate) seen: Arc<Mutex<Seen>>,
    client: Arc<Mutex<Client>>,
    task: tokio::task::JoinHandle<()>,
    start: Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
}

impl Media {
    pub(crate) async fn offer(sends: &[Source], audio: u16, video: u16) -> (Self, String, Vec<Track>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut client = Client::new(address, clock::now());
        let (sdp, tracks) = client.offer(sends, audio, video, &[]).unwrap();
        let (start, begun) = tokio::sync::oneshot::channel();
        let client = Arc::new(Mutex::new(client));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let driver = Driver {
            client: Arc::clone(&client),
            seen: Arc::clone(&seen),
            socket,
            sends: sends.to_vec(),
            letter: LETTERS.fetch_add(1, Ordering::Relaxed),
        };
        let task = Tasks::new().spawn(async move {
            if begun.await.is_ok() {
                driver.run().await;
            }
        });
        (Self { seen, client, task, start: Mutex::new(Some(start)) }, sdp, tracks)
    }

    pub(crate) fn answer(&self, sdp: &str, server: SocketAddr) {
        assert!(sdp.contains(&format!(" {} ", server.port())), "the answer names the media port");
        self.client.lock().unwrap().answer(sdp).unwrap();
        if let Some(start) = self.start.lock().unwrap().take() {
            start.send(()).unwrap();
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) {
        let found = async {
            while !wanted(&self.seen()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, found).await;
        assert!(found.is_ok(), "{what}: {:?}", self.seen());
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driver {
    client: Arc<Mutex<Client>>,
    seen: Arc<Mutex<Seen>>,
    socket: UdpSocket,
    sends: Vec<Source>,
    letter: u8,
}

impl Driver {
    async fn run(self) {
        let mut buffer = vec![0; 2048];
        let mut seq = 1;
        let mut next = clock::now();
        loop {
            let mut due = self.pump();
            let now = clock::now();
            if now >= next {
                next = now + Duration::from_millis(20);
                due = self.talk(seq);
                seq += 1;
            }
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let Ok((length, from)) = received else { continue };
                    self.client.lock().unwrap().handle_datagram(from, &buffer[..length], clock::now());
                }
                () = tokio::time::sleep_until(due.min(next).into()) => {
                    self.client.lock().unwrap().handle_timeout(clock::now());
                }
            }
        }
    }

    fn pump(&self) -> std::time::Instant {
        let mut client = self.client.lock().unwrap();
        let mut seen = self.seen.lock().unwrap();
        loop {
            match client.poll() {
                Said::Transmit { to, bytes } => drop(self.socket.try_send_to(&bytes, to)),
                Said::Received(packet) => {
                    let letter = packet.payload.last().copied().unwrap_or_default();
                    *seen.packets.entry(letter).or_default() += 1;
                }
                Said::Connected => seen.connected = true,
                Said::Closed => seen.closed = true,
                Said::KeyframeWanted { .. } => {}
                Said::Failed(reason) => panic!("{reason}"),
                Said::Timeout(at) => return at.max(clock::now() + Duration::from_millis(1)),
            }
        }
    }

    fn talk(&self, seq: u64) -> std::time::Instant {
        for source in &self.sends {
            let payload = match source {
                Source::Microphone => vec![0xfc, 0, 0, self.letter],
                // Every frame is a keyframe: what is tested here is the way, not the rewriting.
                Source::Camera | Source::Screen => vec![0x10, 0, 0, 0, 0x9d, 1, 0x2a, 0, 0, self.letter],
            };
            let time = u32::try_from(seq).unwrap() * 960;
            let sent = Sent { source: *source, rid: None, seq, time, marker: true, payload: &payload };
            {
                let mut client = self.client.lock().unwrap();
                if !client.is_connected() {
                    break;
                }
                client.send(&sent, clock::now());
            }
            self.pump();
            self.client.lock().unwrap().handle_timeout(clock::now());
        }
        self.pump()
    }
}
