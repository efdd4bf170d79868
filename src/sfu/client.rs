//! A synthetic participant: what a browser does, without sockets, clocks or codecs.
//!
//! Sans-IO around the same engine as the server, in its other role: full ICE, controlling, DTLS client. The self-test
//! joins each worker with it; the tests and the benchmark fill rooms with it.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::Codec;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use super::signalling::message::{Source, Track};

/// A synthetic participant.
pub struct Client {
    rtc: Rtc,
    address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    tracks: Vec<(Mid, Source)>,
    connected: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What a client has to say.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "worked off one at a time")]
pub enum Said {
    /// Send this.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// A packet of somebody's media came.
    Received(RtpPacket),
    /// ICE and DTLS are up.
    Connected,
    /// The server wants a keyframe.
    KeyframeWanted {
        /// Which source.
        source: Source,
        /// Which layer.
        rid: Option<String>,
    },
    /// The server closed the session.
    Closed,
    /// Nothing more until then.
    Timeout(Instant),
    /// The engine cannot go on.
    Failed(String),
}

/// One packet to send.
#[derive(Clone, Debug)]
pub struct Sent<'a> {
    /// Which source.
    pub source: Source,
    /// Which simulcast layer.
    pub rid: Option<&'a str>,
    /// Extended sequence number.
    pub seq: u64,
    /// RTP timestamp.
    pub time: u32,
    /// End of a frame.
    pub marker: bool,
    /// The payload, as the codec has it.
    pub payload: &'a [u8],
}

impl Client {
    /// Creates a client with one address.
    pub fn new(address: SocketAddr, now: Instant) -> Self {
        let mut rtc = RtcConfig::new()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .enable_h264(true)
            .set_stats_interval(None)
            .build(now);
        if let Ok(candidate) = Candidate::host(address, "udp") {
            rtc.add_local_candidate(candidate);
        }
        Self { rtc, address, pending: None, tracks: Vec::new(), connected: false }
    }

    /// Offers more lines: sources to send, and lines to receive on. `rids` are the layers of the camera.
    ///
    /// Returns `None` if nothing is to be negotiated.
    pub fn offer(
        &mut self,
        sends: &[Source],
        audio: u16,
        video: u16,
        rids: &[&str],
    ) -> Option<(String, Vec<Track>)> {
        let mut changes = self.rtc.sdp_api();
        for source in sends {
            let kind = match source {
                Source::Microphone => MediaKind::Audio,
                Source::Camera | Source::Screen => MediaKind::Video,
            };
            let simulcast = (*source == Source::Camera && !rids.is_empty()).then(|| Simulcast {
                send: rids.iter().map(|rid| SimulcastLayer::new(rid)).collect(),
                recv: Vec::new(),
            });
            let mid = changes.add_media(kind, Direction::SendOnly, None, None, simulcast);
            self.tracks.push((mid, *source));
        }
        for _ in 0..audio {
            changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        }
        for _ in 0..video {
            changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = changes.apply()?;
        self.pending = Some(pending);
        Some((offer.to_sdp_string(), self.tracks()))
    }

    /// Offers an ICE restart.
    pub fn restart_ice(&mut self) -> Option<(String, Vec<Track>)> {
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply()?;
        self.pending = Some(pending);
        Some((offer.to_sdp_string(), self.tracks()))
    }

    /// Moves to another address, as a phone does between networks. Offer an ICE restart next.
    pub fn move_to(&mut self, address: SocketAddr) {
        if let Ok(old) = Candidate::host(self.address, "udp") {
            self.rtc.direct_api().invalidate_candidate(&old);
        }
        if let Ok(new) = Candidate::host(address, "udp") {
            self.rtc.add_local_candidate(new);
        }
        self.address = address;
    }

    fn tracks(&self) -> Vec<Track> {
        self.tracks.iter().map(|(mid, source)| Track { mid: mid.to_string(), source: *source }).collect()
    }

    /// Takes the answer to the last offer.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn answer(&mut self, sdp: &str) -> Result<(), String> {
        let pending = self.pending.take().ok_or("no offer is open")?;
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| error.to_string())?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| error.to_string())
    }

    /// Takes one datagram.
    pub fn handle_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        if let Ok(receive) = Receive::new(Protocol::Udp, from, self.address, bytes) {
            let _ = self.rtc.handle_input(Input::Receive(now, receive));
        }
    }

    /// Does what has fallen due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = self.rtc.handle_input(Input::Timeout(now));
    }

    /// Returns the next thing it has to say; poll until [`Said::Timeout`].
    pub fn poll(&mut self) -> Said {
        loop {
            let output = match self.rtc.poll_output() {
                Ok(output) => output,
                Err(error) => return Said::Failed(error.to_string()),
            };
            match output {
                Output::Timeout(at) => return Said::Timeout(at),
                Output::Transmit(transmit) => {
                    return Said::Transmit { to: transmit.destination, bytes: transmit.contents.to_vec() };
                }
                Output::Event(Event::RtpPacket(packet)) => return Said::Received(packet),
                Output::Event(Event::Connected) => {
                    self.connected = true;
                    return Said::Connected;
                }
                Output::Event(Event::KeyframeRequest(request)) => {
                    let source = self.tracks.iter().find(|(mid, _)| *mid == request.mid);
                    if let Some((_, source)) = source {
                        let rid = request.rid.map(|rid| rid.to_string());
                        return Said::KeyframeWanted { source: *source, rid };
                    }
                }
                Output::Event(Event::Closed) => return Said::Closed,
                Output::Event(_) => {}
            }
        }
    }

    /// Returns whether ICE and DTLS are up.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Queues one packet. Call [`Client::handle_timeout`] and poll next.
    pub fn send(&mut self, sent: &Sent<'_>, now: Instant) {
        let Some((mid, _)) = self.tracks.iter().find(|(_, source)| *source == sent.source).copied() else {
            return;
        };
        let is_audio = sent.source == Source::Microphone;
        let Some(pt) = self.payload_type(if is_audio { Codec::Opus } else { Codec::Vp8 }) else { return };
        let extensions = ExtensionValues {
            audio_level: is_audio.then_some(-30),
            voice_activity: is_audio.then_some(true),
            ..ExtensionValues::default()
        };
        let write = RtpWrite::new(pt, sent.seq.into(), sent.time, now, sent.payload)
            .marker(sent.marker)
            .ext_vals(extensions)
            .nackable(!is_audio);
        let mut direct = self.rtc.direct_api();
        if let Some(stream) = direct.stream_tx_by_mid(mid, sent.rid.map(Rid::from)) {
            stream.write_rtp(write);
        }
    }

    /// Asks for a keyframe on the line that an SSRC comes on.
    pub fn want_keyframe(&mut self, ssrc: u32) {
        if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc.into()) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Returns the `a=mid` of the line that an SSRC comes on.
    pub fn mid_of(&mut self, ssrc: u32) -> Option<String> {
        self.rtc.direct_api().stream_rx(&ssrc.into()).map(|stream| stream.mid().to_string())
    }

    /// Closes DTLS. Poll next.
    pub fn close(&mut self) {
        let _ = self.rtc.close();
    }

    fn payload_type(&self, codec: Codec) -> Option<Pt> {
        self.rtc.codec_config().find(|params| params.spec().codec == codec).map(|params| params.pt())
    }
}
