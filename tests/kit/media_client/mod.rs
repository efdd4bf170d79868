//! A WebRTC media client that shares nothing with the product's stack: own ICE over the crate `stun`, DTLS by `dtls`,
//! SRTP by `webrtc-srtp`, RTP by `rtp`. It offers; the server answers with ICE-lite and is the DTLS server.
//!
//! What it sends looks like Opus and VP8 from outside; the payload is the test's. It chooses its source port, so that a
//! test can reach another worker's socket, and can change it in the middle of a session.

mod ice;
mod sdp;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use dtls::config::Config;
use dtls::conn::DTLSConn;
use dtls::crypto::Certificate;
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtp::header::Header;
use rtp::packet::Packet;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use webrtc_srtp::context::Context;
use webrtc_srtp::option::srtp_no_replay_protection;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::conn::Conn;
use webrtc_util::marshal::{Marshal, Unmarshal};

pub(crate) use sdp::{Answer, Direction, Kind, Line};
use sdp::{Credentials, MID_EXTENSION, Offer};

/// SRTP profiles that the client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Srtp {
    /// AES-GCM first, then AES-CM with HMAC-SHA1.
    Any,
    /// Only AES-CM with HMAC-SHA1, as an old client does.
    WithoutGcm,
}

/// How a client is made.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) lines: Vec<Line>,
    pub(crate) srtp: Srtp,
    /// Source port; 0 takes any.
    pub(crate) port: u16,
}

impl Setup {
    /// Sends one audio and one video line.
    pub(crate) fn sender() -> Self {
        Self::with(&[(Kind::Audio, Direction::Send), (Kind::Video, Direction::Send)])
    }

    /// Receives one audio and one video line.
    pub(crate) fn receiver() -> Self {
        Self::with(&[(Kind::Audio, Direction::Receive), (Kind::Video, Direction::Receive)])
    }

    /// Takes the lines as they are named.
    pub(crate) fn with(lines: &[(Kind, Direction)]) -> Self {
        let lines =
            lines.iter().map(|(kind, direction)| Line { kind: *kind, direction: *direction }).collect();
        Self { lines, srtp: Srtp::Any, port: 0 }
    }

    /// Offers no GCM.
    pub(crate) fn without_gcm(mut self) -> Self {
        self.srtp = Srtp::WithoutGcm;
        self
    }
}

/// One received RTP packet, decrypted.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The line's mid, if the packet names it.
    pub(crate) mid: Option<String>,
    pub(crate) header: Header,
    pub(crate) payload: Bytes,
}

/// A client before and after it has connected. Dropping it ends it without a word to the server.
pub(crate) struct MediaClient {
    setup: Setup,
    certificate: Certificate,
    fingerprint: String,
    ssrc_base: u32,
    offers: u32,
    shared: Arc<Shared>,
    /// Media that came, at most [`RECEIVED_MAX`]; more is dropped, as a socket would.
    received: mpsc::Receiver<Received>,
    to_dtls: Option<mpsc::Receiver<Bytes>>,
    dtls: Option<DTLSConn>,
    /// Last sequence number of each line.
    sequences: Vec<u16>,
    _end: DropGuard,
}

struct Shared {
    socket: ArcSwap<UdpSocket>,
    moved: Notify,
    remote: ArcSwap<Option<Remote>>,
    local: ArcSwap<Credentials>,
    keys: Mutex<Option<Keys>>,
    checks: watch::Sender<Checks>,
    pictures_asked: AtomicU64,
}

#[derive(Clone, Debug)]
struct Remote {
    address: SocketAddr,
    credentials: Credentials,
}

/// What became of connectivity checks.
#[derive(Clone, Debug, Default)]
struct Checks {
    /// Good answers with the credentials of now, from the address that was asked.
    answered: u64,
    fault: Option<String>,
}

struct Keys {
    send: Context,
    receive: Context,
}

impl MediaClient {
    /// Binds a socket and makes a certificate.
    pub(crate) async fn new(setup: Setup) -> Self {
        // The crate `dtls` asks for the process's provider; the first call decides, later ones change nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let socket = UdpSocket::bind(("127.0.0.1", setup.port)).await.expect("the source port is free");
        let certificate = Certificate::generate_self_signed(vec!["kit".to_owned()]).expect("a certificate");
        let fingerprint = fingerprint(&certificate.certificate[0]);
        let shared = Arc::new(Shared {
            socket: ArcSwap::from_pointee(socket),
            moved: Notify::new(),
            remote: ArcSwap::from_pointee(None),
            local: ArcSwap::from_pointee(credentials()),
            keys: Mutex::new(None),
            checks: watch::Sender::new(Checks::default()),
            pictures_asked: AtomicU64::new(0),
        });
        let (received_in, received) = mpsc::channel(RECEIVED_MAX);
        let (dtls_in, to_dtls) = mpsc::channel(DTLS_MAX);
        let end = CancellationToken::new();
        tokio::spawn(end.clone().run_until_cancelled_owned(pump(shared.clone(), received_in, dtls_in)));
        Self {
            setup,
            certificate,
            fingerprint,
            ssrc_base: rand::random::<u32>() >> 1,
            offers: 0,
            shared,
            received,
            to_dtls: Some(to_dtls),
            dtls: None,
            sequences: Vec::new(),
            _end: end.drop_guard(),
        }
    }

    /// Writes the next offer.
    pub(crate) fn offer(&mut self) -> String {
        self.offers += 1;
        let credentials = self.shared.local.load();
        Offer {
            lines: &self.setup.lines,
            credentials: &credentials,
            fingerprint: &self.fingerprint,
            ssrc_base: self.ssrc_base,
            version: self.offers,
        }
        .text()
    }

    /// Adds lines to the next offer.
    pub(crate) fn add_lines(&mut self, kind: Kind, direction: Direction, count: usize) {
        self.setup.lines.extend(std::iter::repeat_n(Line { kind, direction }, count));
    }

    /// Number of lines of this kind and direction.
    pub(crate) fn lines(&self, kind: Kind, direction: Direction) -> usize {
        self.setup.lines.iter().filter(|line| **line == Line { kind, direction }).count()
    }

    /// Writes an offer with new ICE credentials (RFC 8445 section 9).
    pub(crate) fn offer_ice_restart(&mut self) -> String {
        self.shared.local.store(Arc::new(credentials()));
        self.offer()
    }

    /// Follows the answer: ICE, and at the first time DTLS and the SRTP keys.
    ///
    /// # Errors
    ///
    /// Says which step failed and why.
    pub(crate) async fn connect(&mut self, answer: &str) -> Result<(), String> {
        let answer = Answer::parse(answer)?;
        if !answer.ice_lite {
            return Err("the server is not ICE-lite".to_owned());
        }
        let address = *answer.candidates.first().ok_or("no candidate")?;
        self.shared.checks.send_replace(Checks::default());
        let remote = Remote { address, credentials: answer.credentials.clone() };
        self.shared.remote.store(Arc::new(Some(remote)));
        self.shared.moved.notify_one();
        self.answered().await?;
        if self.dtls.is_none() {
            if answer.setup != "passive" {
                return Err(format!("the server wants to be {} in DTLS", answer.setup));
            }
            let limit = tokio::time::timeout(CONNECT_MAX, self.handshake(&answer.fingerprint)).await;
            limit.map_err(|_| format!("DTLS did not finish within {CONNECT_MAX:?}"))??;
        }
        Ok(())
    }

    /// Waits for a good answer to a connectivity check since the last change of credentials or port.
    ///
    /// # Errors
    ///
    /// Tells the last bad answer.
    async fn answered(&self) -> Result<(), String> {
        let mut checks = self.shared.checks.subscribe();
        match tokio::time::timeout(CONNECT_MAX, checks.wait_for(|checks| checks.answered > 0)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let fault = self.shared.checks.borrow().fault.clone();
                Err(format!("no good answer to a check within {CONNECT_MAX:?}; last fault: {fault:?}"))
            }
        }
    }

    /// Goes on from another source port, as a client does whose network changed, and waits until it is answered there.
    ///
    /// # Errors
    ///
    /// Tells the last bad answer.
    pub(crate) async fn move_to(&mut self, port: u16) -> Result<(), String> {
        let socket = UdpSocket::bind(("127.0.0.1", port)).await.map_err(|fault| fault.to_string())?;
        self.shared.socket.store(Arc::new(socket));
        self.shared.checks.send_replace(Checks::default());
        self.shared.moved.notify_one();
        self.answered().await
    }

    /// The server's address of media.
    pub(crate) fn remote_addr(&self) -> Option<SocketAddr> {
        (**self.shared.remote.load()).as_ref().map(|remote| remote.address)
    }

    /// Whether the SRTP profile that was agreed on is AES-GCM.
    pub(crate) fn is_gcm(&self) -> bool {
        let dtls = self.dtls.as_ref().expect("it is connected");
        match dtls.selected_srtpprotection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm | SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => {
                true
            }
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80
            | SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32
            | SrtpProtectionProfile::Unsupported => false,
        }
    }

    /// How often the server has asked for a whole picture (PLI, RFC 4585 section 6.3.1; FIR, RFC 5104 section 4.3.1).
    pub(crate) fn pictures_asked(&self) -> u64 {
        self.shared.pictures_asked.load(Ordering::Relaxed)
    }

    /// Sends one packet on a line; `payload` follows what makes it look like its codec.
    pub(crate) async fn send(&mut self, line: usize, payload: &[u8]) {
        let kind = self.setup.lines[line].kind;
        let (bytes, step) = match kind {
            // A stereo Opus packet of one 20 ms frame (RFC 6716 section 3.1).
            Kind::Audio => ([&[0xfc][..], payload].concat(), 960),
            Kind::Video => ([VP8_KEYFRAME, payload].concat(), 9000),
        };
        self.sequences.resize(self.setup.lines.len(), FIRST_SEQUENCE);
        self.sequences[line] = self.sequences[line].wrapping_add(1);
        let sequence = self.sequences[line];
        let mut header = Header {
            version: 2,
            marker: kind == Kind::Video,
            payload_type: kind.payload_type(),
            sequence_number: sequence,
            timestamp: u32::from(sequence).wrapping_mul(step),
            ssrc: sdp::ssrc(self.ssrc_base, line),
            ..Header::default()
        };
        let mid = Bytes::from(line.to_string());
        header.set_extension(MID_EXTENSION, mid).expect("a short extension");
        let packet = Packet { header, payload: Bytes::from(bytes) }.marshal().expect("a legal packet");
        let encrypted = {
            let mut keys = self.shared.keys.lock().expect("nobody panics with it");
            keys.as_mut().expect("it is connected").send.encrypt_rtp(&packet).expect("the key is fresh")
        };
        self.shared.transmit(&encrypted).await;
    }

    /// Waits for the next packet.
    pub(crate) async fn receive(&mut self) -> Received {
        self.received.recv().await.expect("the pump runs as long as the client")
    }

    /// Takes what has come, without waiting.
    pub(crate) fn drain(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.received.try_recv().ok()).collect()
    }

    /// Ends DTLS with a close_notify.
    pub(crate) async fn close(&self) {
        if let Some(dtls) = &self.dtls {
            let _ = dtls.close().await;
        }
    }

    async fn handshake(&mut self, remote_fingerprint: &str) -> Result<(), String> {
        let from_pump = self.to_dtls.take().expect("the first handshake");
        let conn = DtlsConn { shared: self.shared.clone(), from_pump: tokio::sync::Mutex::new(from_pump) };
        let config = Config {
            certificates: vec![self.certificate.clone()],
            srtp_protection_profiles: match self.setup.srtp {
                Srtp::Any => vec![
                    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                ],
                Srtp::WithoutGcm => vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80],
            },
            // The certificate is checked against the answer's fingerprint below.
            insecure_skip_verify: true,
            flight_interval: Duration::from_millis(200),
            ..Config::default()
        };
        let dtls = DTLSConn::new(Arc::new(conn), config, true, None)
            .await
            .map_err(|fault| format!("DTLS: {fault}"))?;
        let state = dtls.connection_state().await;
        let presented = state.peer_certificates.first().map(|certificate| fingerprint(certificate));
        if presented.as_deref() != Some(remote_fingerprint) {
            return Err(format!("the answer says {remote_fingerprint}, DTLS presents {presented:?}"));
        }
        let profile = match dtls.selected_srtpprotection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            other @ (SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32
            | SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm
            | SrtpProtectionProfile::Unsupported) => {
                return Err(format!("the server chose the SRTP profile {other:?}"));
            }
        };
        let mut srtp = webrtc_srtp::config::Config { profile, ..webrtc_srtp::config::Config::default() };
        srtp.extract_session_keys_from_dtls(state, true)
            .await
            .map_err(|fault| format!("SRTP keys: {fault}"))?;
        let context = |key: &[u8], salt: &[u8]| {
            let (rtp, rtcp) = (srtp_no_replay_protection(), srtp_no_replay_protection());
            Context::new(key, salt, profile, Some(rtp), Some(rtcp)).map_err(|fault| format!("SRTP: {fault}"))
        };
        let keys = Keys {
            send: context(&srtp.keys.local_master_key, &srtp.keys.local_master_salt)?,
            receive: context(&srtp.keys.remote_master_key, &srtp.keys.remote_master_salt)?,
        };
        *self.shared.keys.lock().expect("nobody panics with it") = Some(keys);
        self.dtls = Some(dtls);
        Ok(())
    }
}

impl Shared {
    async fn transmit(&self, bytes: &[u8]) {
        let remote = (**self.remote.load()).as_ref().map(|remote| remote.address);
        if let Some(remote) = remote {
            // A full buffer or a port that is gone loses the datagram, as a network does.
            let _ = self.socket.load_full().send_to(bytes, remote).await;
        }
    }

    fn take_stun(&self, bytes: &[u8]) {
        let Some(remote) = (**self.remote.load()).clone() else { return };
        let local = self.socket.load().local_addr().ok();
        let fault = match ice::answer(bytes, &remote.credentials) {
            Ok(mapped) if Some(mapped) == local => None,
            Ok(mapped) => Some(format!("the server saw {mapped}, the socket is {local:?}")),
            Err(fault) => Some(fault),
        };
        self.checks.send_modify(|checks| match fault {
            None => checks.answered += 1,
            Some(fault) => checks.fault = Some(fault),
        });
    }

    fn take_rtp(&self, bytes: &[u8]) -> Option<Received> {
        let mut keys = self.keys.lock().expect("nobody panics with it");
        let decrypted = keys.as_mut()?.receive.decrypt_rtp(bytes).ok()?;
        let packet = Packet::unmarshal(&mut decrypted.clone()).ok()?;
        let mid = packet.header.get_extension(MID_EXTENSION);
        let mid = mid.map(|mid| String::from_utf8_lossy(&mid).into_owned());
        Some(Received { mid, header: packet.header, payload: packet.payload })
    }

    fn take_rtcp(&self, bytes: &[u8]) {
        let mut keys = self.keys.lock().expect("nobody panics with it");
        let Some(Ok(compound)) = keys.as_mut().map(|keys| keys.receive.decrypt_rtcp(bytes)) else { return };
        let mut rest = &compound[..];
        while let [first, payload_type, high, low, ..] = *rest {
            // PSFB is 206; its formats 1 and 4 are PLI and FIR.
            if payload_type == 206 && [1, 4].contains(&(first & 0x1f)) {
                self.pictures_asked.fetch_add(1, Ordering::Relaxed);
            }
            let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// Reads the socket, sorts by first byte (RFC 7983), and keeps up connectivity checks.
async fn pump(shared: Arc<Shared>, received: mpsc::Sender<Received>, dtls: mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; 2048];
    let mut check_at = tokio::time::Instant::now();
    loop {
        let socket = shared.socket.load_full();
        tokio::select! {
            () = shared.moved.notified() => check_at = tokio::time::Instant::now(),
            () = tokio::time::sleep_until(check_at) => {
                let remote = (**shared.remote.load()).clone();
                if let Some(remote) = remote {
                    let check = ice::check(&shared.local.load(), &remote.credentials);
                    shared.transmit(&check).await;
                }
                let settled = shared.checks.borrow().answered > 0;
                check_at = tokio::time::Instant::now() + if settled { CHECK_EVERY } else { CHECK_FIRST };
            }
            datagram = socket.recv_from(&mut buffer) => {
                let Ok((length, from)) = datagram else { continue };
                // Replies leave from the address that was asked; anything else is a fault that a test should notice.
                if Some(from) != (**shared.remote.load()).as_ref().map(|remote| remote.address) {
                    let fault = format!("a datagram from {from}");
                    shared.checks.send_modify(|checks| checks.fault = Some(fault));
                    continue;
                }
                let bytes = &buffer[..length];
                match bytes {
                    [0..=3, ..] => shared.take_stun(bytes),
                    [20..=63, ..] => drop(dtls.try_send(Bytes::copy_from_slice(bytes))),
                    // RTCP by its packet type (RFC 5761 section 4).
                    [128..=191, 192..=223, ..] => shared.take_rtcp(bytes),
                    [128..=191, ..] => {
                        if let Some(packet) = shared.take_rtp(bytes) {
                            drop(received.try_send(packet));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The part of the socket that DTLS sees.
struct DtlsConn {
    shared: Arc<Shared>,
    from_pump: tokio::sync::Mutex<mpsc::Receiver<Bytes>>,
}

type ConnResult<T> = Result<T, webrtc_util::Error>;

#[async_trait]
impl Conn for DtlsConn {
    async fn connect(&self, _: SocketAddr) -> ConnResult<()> {
        Err(webrtc_util::Error::Other("it is connected".to_owned()))
    }

    async fn recv(&self, buffer: &mut [u8]) -> ConnResult<usize> {
        let datagram = self.from_pump.lock().await.recv().await;
        let datagram = datagram.ok_or(webrtc_util::Error::ErrBufferClosed)?;
        let room = buffer.get_mut(..datagram.len()).ok_or(webrtc_util::Error::ErrBufferShort)?;
        room.copy_from_slice(&datagram);
        Ok(datagram.len())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> ConnResult<(usize, SocketAddr)> {
        let length = self.recv(buffer).await?;
        let remote = self.remote_addr().ok_or(webrtc_util::Error::ErrBufferClosed)?;
        Ok((length, remote))
    }

    async fn send(&self, bytes: &[u8]) -> ConnResult<usize> {
        self.shared.transmit(bytes).await;
        Ok(bytes.len())
    }

    async fn send_to(&self, bytes: &[u8], _: SocketAddr) -> ConnResult<usize> {
        self.send(bytes).await
    }

    fn local_addr(&self) -> ConnResult<SocketAddr> {
        Ok(self.shared.socket.load().local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        (**self.shared.remote.load()).as_ref().map(|remote| remote.address)
    }

    async fn close(&self) -> ConnResult<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// Draws credentials of legal length (RFC 8839 section 5.4: at least 4 and 22 characters).
fn credentials() -> Credentials {
    let hex = |length: usize| -> String {
        let digits = (0..length).map(|_| rand::random_range(0..36u32));
        digits.map(|digit| char::from_digit(digit, 36).expect("below 36")).collect()
    };
    Credentials { ufrag: hex(8), password: hex(24) }
}

/// SHA-256 of a certificate as `a=fingerprint` writes it (RFC 8122 section 5).
fn fingerprint(certificate: &[u8]) -> String {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is one of TLS 1.3");
    let digest = suite.common.hash_provider.hash(certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Payload descriptor of a first packet (RFC 7741 section 4.2) and the head of a 160x120 key frame (RFC 6386
/// section 9.1).
pub(crate) const VP8_KEYFRAME: &[u8] = &[0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0xa0, 0x00, 0x78, 0x00];

/// Wraps around within a test that sends for a while.
const FIRST_SEQUENCE: u16 = 65_500;
const CONNECT_MAX: Duration = Duration::from_secs(10);
const CHECK_FIRST: Duration = Duration::from_millis(50);
const CHECK_EVERY: Duration = Duration::from_millis(500);
const RECEIVED_MAX: usize = 4096;
const DTLS_MAX: usize = 64;
