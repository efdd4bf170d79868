//! An ICE restart from an address whose datagrams arrive at a worker that does not own the room: the new credentials
//! lead to the owner, over the ring.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roomgate::clock;
use roomgate::media::WorkerLimits;
use roomgate::sfu::SfuLimits;
use roomgate::sfu::client::{Client, Said};
use roomgate::sfu::signalling::message::{ClientMessage, ServerMessage};
use roomgate::wire::stun::{Message, MessageClass, TransactionId, success_transaction};
use tokio::net::UdpSocket;

use crate::sfu_rig::{DEADLINE, Rig, Socket};

/// A client whose STUN checks are followed.
struct Phone {
    client: Client,
    socket: UdpSocket,
    // The server's ufrag of each check, and how many were answered.
    checks: BTreeMap<[u8; 12], String>,
    answered: BTreeMap<String, usize>,
}

impl Phone {
    /// Drives the client until `is_done`; false when that takes longer than `limit`.
    async fn run(&mut self, limit: Duration, is_done: impl Fn(&Self) -> bool) -> bool {
        let end = clock::now() + limit;
        let mut buffer = vec![0; 2048];
        loop {
            let due = self.pump();
            if is_done(self) {
                return true;
            }
            if clock::now() >= end {
                return false;
            }
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let Ok((length, from)) = received else { continue };
                    let bytes = &buffer[..length];
                    let check = success_transaction(bytes).and_then(|TransactionId(id)| self.checks.remove(&id));
                    if let Some(ufrag) = check {
                        *self.answered.entry(ufrag).or_default() += 1;
                    }
                    self.client.handle_datagram(from, bytes, clock::now());
                }
                () = tokio::time::sleep_until(due.min(end).into()) => self.client.handle_timeout(clock::now()),
            }
        }
    }

    fn pump(&mut self) -> Instant {
        loop {
            match self.client.poll() {
                Said::Transmit { to, bytes } => {
                    let request = Message::parse(&bytes).filter(|m| m.class == MessageClass::Request);
                    if let Some((id, name)) = request.and_then(|m| Some((m.transaction.0, m.username?))) {
                        self.checks.insert(id, String::from_utf8(name.server.to_vec()).unwrap());
                    }
                    let _ = self.socket.try_send_to(&bytes, to);
                }
                Said::Timeout(at) => return at.max(clock::now() + Duration::from_millis(1)),
                Said::Failed(reason) => panic!("{reason}"),
                Said::Connected | Said::Closed | Said::Received(_) | Said::KeyframeWanted { .. } => {}
            }
        }
    }

    fn answered(&self, ufrag: &str) -> usize {
        self.answered.get(ufrag).copied().unwrap_or_default()
    }
}

/// Waits for reports that were made after this call.
async fn fresh(rig: &Rig) -> [(u64, u64); 2] {
    let reported = async {
        for _ in 0..2 {
            let before = rig.sfu.reports();
            while rig.sfu.reports().iter().zip(&before).any(|(now, then)| std::sync::Arc::ptr_eq(now, then)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::time::timeout(DEADLINE, reported).await.expect("workers report every second");
    let reports = rig.sfu.reports();
    [0, 1].map(|worker| (reports[worker].datagrams_in, reports[worker].ring_in))
}

/// Binds one socket for each of the two workers: the kernel gives that worker what it sends.
async fn sockets(rig: &Rig) -> [UdpSocket; 2] {
    let server = rig.workers.local_addrs()[0];
    loop {
        let before = fresh(rig).await;
        let mut found = [None, None];
        let mut candidates = Vec::new();
        // The n-th sends 2^n datagrams: the sum at a worker tells which are its.
        for n in 0..6 {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            for _ in 0..1 << n {
                socket.send_to(b"\xffnothing", server).await.unwrap();
            }
            candidates.push(socket);
        }
        let after = fresh(rig).await;
        let theirs = [0, 1].map(|worker| after[worker].0 - before[worker].0);
        assert_eq!(theirs[0] + theirs[1], 63, "all datagrams have arrived");
        for (n, socket) in candidates.into_iter().enumerate() {
            found[usize::from(theirs[1] >> n & 1 == 1)] = Some(socket);
        }
        if let [Some(zero), Some(one)] = found {
            return [zero, one];
        }
    }
}

async fn negotiate(socket: &mut Socket, id: u32, offer: ClientMessage) -> (String, String) {
    socket.say(&offer).await;
    let answer = socket
        .hear_until(|message| {
            if let ServerMessage::Answer { id: of, sdp } = message
                && *of == id
            {
                return Some(sdp.clone());
            }
            assert!(!matches!(message, ServerMessage::Error { .. }), "{message:?}");
            None
        })
        .await;
    let ufrag = answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap().trim().to_owned();
    (answer, ufrag)
}

/// Connects to a room of worker 0 from a socket of worker 0, moves to one of worker 1 and restarts ICE. Returns whether
/// a check with the new credentials is answered within `limit`, and the workers' counts before and after.
async fn restart(ring_capacity: usize, limit: Duration) -> (bool, [(u64, u64); 2], [(u64, u64); 2]) {
    let limits = WorkerLimits { ring_capacity, ..WorkerLimits::default() };
    let rig = Rig::with(2, limits, SfuLimits::new(100));
    let [right, wrong] = sockets(&rig).await;
    let mut socket = rig.connect(&rig.room_on(0)).await;
    socket.say(&ClientMessage::Join { name: "Ada".to_owned() }).await;
    let ServerMessage::Welcome { .. } = socket.hear().await else { panic!("a welcome comes first") };
    let mut client = Client::new(right.local_addr().unwrap(), clock::now());
    let (sdp, tracks) = client.offer(&[], 1, 0, &[]).unwrap();
    let (answer, old) = negotiate(&mut socket, 1, ClientMessage::Offer { id: 1, sdp, tracks }).await;
    client.answer(&answer).unwrap();
    let mut phone = Phone { client, socket: right, checks: BTreeMap::new(), answered: BTreeMap::new() };
    assert!(phone.run(DEADLINE, |phone| phone.client.is_connected()).await, "it connects");
    assert!(phone.answered(&old) > 0);

    let before = fresh(&rig).await;
    phone.client.move_to(wrong.local_addr().unwrap());
    phone.socket = wrong;
    let (sdp, tracks) = phone.client.restart_ice().unwrap();
    let (answer, new) = negotiate(&mut socket, 2, ClientMessage::Offer { id: 2, sdp, tracks }).await;
    assert_ne!(old, new);
    phone.client.answer(&answer).unwrap();
    let is_answered = phone.run(limit, |phone| phone.answered(&new) > 0).await;
    (is_answered, before, fresh(&rig).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_under_the_new_ufrag_crosses_the_ring() {
    let (is_answered, before, after) = restart(1024, DEADLINE).await;
    assert!(is_answered, "the owner answered a check with the new credentials");
    assert_eq!(after[0].0, before[0].0, "nothing arrived at the owner's own socket");
    assert!(after[1].0 > before[1].0, "the other worker received it");
    assert!(after[0].1 > before[0].1, "the owner got it over the ring");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_ring_a_restart_on_the_wrong_worker_is_not_answered() {
    let (is_answered, before, after) = restart(0, Duration::from_secs(3)).await;
    assert!(!is_answered, "only the ring leads to the owner");
    assert!(after[1].0 > before[1].0, "the other worker received it");
    assert_eq!((after[0].0, after[0].1), before[0], "nothing came to the owner");
}
