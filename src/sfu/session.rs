//! One participant's media: an `Rtc` of str0m and what the SFU knows about its lines.
//!
//! Sans-IO: datagrams and time come in, datagrams leave through the [`Outbox`], events are left in a list that the
//! host works off. Every call into the engine runs inside [`std::panic::catch_unwind`]: a fault there ends this session and no
//! other. After each change the engine is drained before the next one, as it asks for.
//!
//! ICE is lite (RFC 8445 section 2.5), DTLS is 1.2 and passive, so that this side picks the SRTP profile and AES-GCM
//! wins where the client has it.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::media::{KeyframeRequestKind, Mid, Pt, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc, RtcError};

use super::codec::{Codec, payload_type};
use super::engine::Engine;
use super::forward::{Outgoing, Rewriter};
use super::keyframes::KeyframeThrottle;
use super::layers::Layers;
use super::offer::{IceCredentials, Offer, OfferFault, restamp};
use super::signalling::message::{Source, Track};
use super::slots::Kind;
use crate::media::host::{Datagram, Outbox, SessionKey};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The engine panicked.
    Panic,
    /// The engine cannot go on: a DTLS fault, a fingerprint that does not match.
    Engine,
    /// The client closed DTLS.
    Closed,
    /// No integrity-checked STUN request for [`SILENCE_MAX`], or none at all for [`SETUP_MAX`].
    Silent,
}

/// What the host has to work off after a call.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the list is used again and again; a box would be an allocation a packet"
)]
pub(super) enum Happened {
    /// A packet of the client's media.
    Packet(Packet),
    /// The client needs a keyframe on a receive line.
    NeedsKeyframe(Mid),
    /// ICE and DTLS are up.
    Connected,
}

/// A packet of the client's media and where it belongs.
#[derive(Debug)]
pub(super) struct Packet {
    /// Index of the line in [`Session::sources`].
    pub(super) line: usize,
    /// Its codec.
    pub(super) codec: Codec,
    /// The packet.
    pub(super) rtp: RtpPacket,
}

/// A line that the client sends on.
#[derive(Debug)]
pub(super) struct SourceLine {
    /// Its number on this worker; never used twice.
    pub(super) number: u64,
    /// What it carries.
    pub(super) source: Source,
    /// Audio or video.
    pub(super) kind: Kind,
    mid: Mid,
    /// Its simulcast layers by SSRC.
    pub(super) layers: Layers<u32>,
    throttles: Vec<(Option<Rid>, KeyframeThrottle)>,
    // Where packets of an SSRC belong.
    rids: Vec<(u32, Option<Rid>)>,
    /// Receive lines that carry it: the participant's place and the index of its slot.
    pub(super) receivers: Vec<(u32, usize)>,
}

/// A line that the client receives on.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its `a=mid`.
    pub(super) name: String,
    mid: Mid,
    /// What it can carry.
    pub(super) kind: Kind,
    /// Number of the source that it carries.
    pub(super) from: Option<u64>,
    /// Its one continuous stream.
    pub(super) rewriter: Rewriter,
    ssrc: Ssrc,
    codecs: Vec<(Codec, Pt)>,
}

/// One participant's media.
pub(super) struct Session {
    rtc: Rtc,
    // Newest last. An old key stays until its path had time to fall silent.
    keys: Vec<(SessionKey, Option<Instant>)>,
    // Which key a client address last used.
    paths: Vec<(SocketAddr, SessionKey)>,
    candidates: Vec<SocketAddr>,
    remote: IceCredentials,
    codecs: Vec<(Codec, Pt)>,
    /// Lines that the client sends on.
    pub(super) sources: Vec<SourceLine>,
    /// Lines that the client receives on.
    pub(super) slots: Vec<Slot>,
    engine_due: Instant,
    begun: Instant,
    checked: Option<Instant>,
    connected: bool,
    // Packets wait for `flush`.
    dirty: bool,
    ended: Option<Ended>,
    ssrcs_seen: u32,
    /// Keyframe requests sent to the client, taken by the host.
    pub(super) keyframes_asked: u64,
    #[cfg(test)]
    pub(super) injected: Option<Injected>,
}

/// A panic that a test asks for.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Injected {
    Receive,
    Write,
    Read,
}

/// New credentials of this side.
#[derive(Clone, Debug)]
pub(super) struct Minted {
    /// What the worker finds the session by.
    pub(super) key: SessionKey,
    /// `ufrag` carries the key.
    pub(super) ice: IceCredentials,
}

impl Session {
    /// Creates a session for a first offer and answers it.
    ///
    /// # Errors
    ///
    /// What is wrong with the offer.
    pub(super) fn new(
        engine: &Engine,
        minted: Minted,
        candidates: &[SocketAddr],
        offer: Offer,
        wanted: &[Track],
        numbers: &mut u64,
        now: Instant,
    ) -> Result<(Self, String), OfferFault> {
        let build = || {
            let mut rtc = engine.build(&minted.ice, now);
            for candidate in candidates {
                if let Ok(candidate) = Candidate::host(*candidate, "udp") {
                    rtc.add_local_candidate(candidate);
                }
            }
            rtc
        };
        let rtc = catch_unwind(build).map_err(|_| OfferFault::Engine("internal fault".to_owned()))?;
        let mut session = Self {
            rtc,
            keys: vec![(minted.key, None)],
            paths: Vec::new(),
            candidates: candidates.to_vec(),
            remote: offer.ice.clone(),
            codecs: Vec::new(),
            sources: Vec::new(),
            slots: Vec::new(),
            engine_due: now,
            begun: now,
            checked: None,
            connected: false,
            dirty: true,
            ended: None,
            ssrcs_seen: 0,
            keyframes_asked: 0,
            #[cfg(test)]
            injected: None,
        };
        let named = name_lines(&offer, wanted)?;
        let answer = session.accept(&offer)?;
        session.take_lines(&offer, &named, numbers)?;
        Ok((session, answer))
    }

    /// Answers a further offer. New ICE credentials in it are an ICE restart (RFC 8445 section 9): this side gets
    /// new ones too, by `mint`, while media goes on over the old path until the client has checked the new one.
    ///
    /// # Errors
    ///
    /// What is wrong with the offer. Offers that the engine refuses may leave the session ended.
    pub(super) fn offer(
        &mut self,
        offer: Offer,
        wanted: &[Track],
        numbers: &mut u64,
        mint: impl FnOnce() -> Minted,
    ) -> Result<String, OfferFault> {
        // Before the engine sees it: an offer that it has taken cannot be taken back.
        let named = name_lines(&offer, wanted)?;
        let restart = offer.ice != self.remote;
        let mut answer = self.accept(&offer)?;
        if restart {
            self.remote = offer.ice.clone();
            let minted = mint();
            let fresh = IceCreds { ufrag: minted.ice.ufrag.clone(), pass: minted.ice.pwd.clone() };
            // The engine has drawn credentials of its own, which no worker can be found by.
            let drawn = self
                .guarded(|rtc| {
                    let mut direct = rtc.direct_api();
                    let drawn = direct.local_ice_credentials();
                    direct.set_local_ice_credentials(fresh);
                    Ok(drawn)
                })
                .map_err(|_| OfferFault::Engine("internal fault".to_owned()))?;
            let drawn = IceCredentials { ufrag: drawn.ufrag, pwd: drawn.pass };
            answer = restamp(&answer, &drawn, &minted.ice);
            self.keys.push((minted.key, None));
        }
        self.take_lines(&offer, &named, numbers)?;
        self.dirty = true;
        Ok(answer)
    }

    fn accept(&mut self, offer: &Offer) -> Result<String, OfferFault> {
        let sdp = offer.sdp.as_str();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let parsed = SdpOffer::from_sdp_string(sdp).map_err(|error| error.to_string())?;
            let answer = self.rtc.sdp_api().accept_offer(parsed).map_err(|error| error.to_string())?;
            Ok::<_, String>(answer.to_sdp_string())
        }));
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(reason)) => Err(OfferFault::Engine(reason.chars().take(200).collect())),
            Err(_) => {
                self.ended = Some(Ended::Panic);
                Err(OfferFault::Engine("internal fault".to_owned()))
            }
        }
    }

    /// Brings the lists of lines in step with what was negotiated.
    fn take_lines(
        &mut self,
        offer: &Offer,
        named: &[(String, Source)],
        numbers: &mut u64,
    ) -> Result<(), OfferFault> {
        let fault = |_| OfferFault::Engine("internal fault".to_owned());
        self.codecs = self.known_codecs(None).map_err(fault)?;
        let mut sources = Vec::new();
        let mut slots = Vec::new();
        for line in &offer.lines {
            let mid = Mid::from(line.mid.as_str());
            let direction = self
                .guarded(|rtc| Ok(rtc.media(mid).filter(|m| !m.disabled()).map(|m| m.direction())))
                .map_err(fault)?;
            let Some(direction) = direction else { continue };
            let source = named.iter().find(|(named, _)| *named == line.mid).map(|(_, source)| *source);
            if direction.is_receiving()
                && line.sends
                && let Some(source) = source
            {
                let known = self.sources.iter().position(|s| s.mid == mid && s.source == source);
                sources.push(match known {
                    Some(index) => self.sources.swap_remove(index),
                    None => {
                        *numbers += 1;
                        SourceLine {
                            number: *numbers,
                            source,
                            kind: line.kind,
                            mid,
                            layers: Layers::new(),
                            throttles: Vec::new(),
                            rids: Vec::new(),
                            receivers: Vec::new(),
                        }
                    }
                });
            }
            if direction.is_sending() && line.receives {
                let codecs = self.known_codecs(Some(mid)).map_err(fault)?;
                let ssrc = self
                    .guarded(|rtc| Ok(rtc.direct_api().stream_tx_by_mid(mid, None).map(|s| s.ssrc())))
                    .map_err(fault)?;
                let Some(ssrc) = ssrc else { continue };
                let known = self.slots.iter().position(|s| s.mid == mid);
                slots.push(match known {
                    Some(index) => Slot { ssrc, codecs, ..self.slots.swap_remove(index) },
                    None => Slot {
                        name: line.mid.clone(),
                        mid,
                        kind: line.kind,
                        from: None,
                        rewriter: Rewriter::new(rand::random(), rand::random()),
                        ssrc,
                        codecs,
                    },
                });
            }
        }
        self.sources = sources;
        self.slots = slots;
        Ok(())
    }

    /// Returns the codecs of the session, or those that one line may use.
    fn known_codecs(&mut self, mid: Option<Mid>) -> Result<Vec<(Codec, Pt)>, Ended> {
        #[cfg(test)]
        let inject = self.injected == Some(Injected::Read);
        self.guarded(|rtc| {
            #[cfg(test)]
            assert!(!inject, "injected");
            let media = mid.and_then(|mid| rtc.media(mid));
            let usable = |pt: Pt| mid.is_none() || media.is_some_and(|m| m.remote_pts().contains(&pt));
            let params = rtc.codec_config().params().iter();
            Ok(params.filter(|p| usable(p.pt())).filter_map(|p| Some((Codec::of(p)?, p.pt()))).collect())
        })
    }

    /// Takes one datagram.
    pub(super) fn handle_datagram(
        &mut self,
        key: SessionKey,
        datagram: Datagram<'_>,
        now: Instant,
        out: &mut dyn Outbox,
        happened: &mut Vec<Happened>,
    ) {
        let is_stun = datagram.bytes.first().is_some_and(|first| *first < 2);
        if !is_stun {
            self.note_path(datagram.source, key);
        }
        let destination = candidate_for(&self.candidates, datagram.asked);
        // What does not parse is not the session's: it may be anybody's.
        let Ok(Ok(received)) =
            catch_unwind(|| Receive::new(Protocol::Udp, datagram.source, destination, datagram.bytes))
        else {
            return;
        };
        #[cfg(test)]
        let inject = self.injected == Some(Injected::Receive);
        let taken = self.guarded(|rtc| {
            #[cfg(test)]
            assert!(!inject, "injected");
            rtc.handle_input(Input::Receive(now, received))
        });
        if taken.is_ok() {
            self.drain(Some(key), now, out, happened);
        }
    }

    /// Does what has fallen due, and sends what waits.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut dyn Outbox,
        happened: &mut Vec<Happened>,
    ) {
        self.dirty = false;
        if self.silence_due() <= now {
            self.ended.get_or_insert(Ended::Silent);
            return;
        }
        for index in 0..self.sources.len() {
            self.poll_keyframes(index, now);
        }
        if self.guarded(|rtc| rtc.handle_input(Input::Timeout(now))).is_ok() {
            self.drain(None, now, out, happened);
        }
    }

    /// Queues one packet on a receive line; [`Session::handle_timeout`] sends it. Returns whether it was queued.
    pub(super) fn write(
        &mut self,
        slot: usize,
        packet: &Packet,
        outgoing: Outgoing,
        now: Instant,
        out: &mut dyn Outbox,
        happened: &mut Vec<Happened>,
    ) -> bool {
        let Some(line) = self.slots.get(slot) else { return false };
        let Some(pt) = payload_type(&line.codecs, packet.codec) else { return false };
        let ssrc = line.ssrc;
        let values = &packet.rtp.header.ext_vals;
        let extensions = ExtensionValues {
            audio_level: values.audio_level,
            voice_activity: values.voice_activity,
            video_orientation: values.video_orientation,
            ..ExtensionValues::default()
        };
        let mut write =
            RtpWrite::new(pt, outgoing.seq.into(), outgoing.time, now, packet.rtp.payload.clone())
                .marker(packet.rtp.header.marker)
                .ext_vals(extensions)
                .nackable(packet.codec.needs_keyframe());
        if let Some(patch) = outgoing.patch {
            write = write.vp8_patch(patch);
        }
        #[cfg(test)]
        let inject = self.injected == Some(Injected::Write);
        let written = self.guarded(|rtc| {
            #[cfg(test)]
            assert!(!inject, "injected");
            if let Some(stream) = rtc.direct_api().stream_tx(&ssrc) {
                stream.write_rtp(write);
            }
            Ok(())
        });
        if written.is_err() {
            return false;
        }
        self.drain(None, now, out, happened);
        self.ended.is_none()
    }

    /// Asks the client for a keyframe of a source, at most twice a second and layer.
    pub(super) fn request_keyframe(&mut self, line: usize, ssrc: Option<u32>, now: Instant) {
        let Some(source) = self.sources.get_mut(line) else { return };
        let ssrc = ssrc.or(source.layers.target());
        let Some((_, rid)) = source.rids.iter().find(|(known, _)| Some(*known) == ssrc).copied() else {
            return;
        };
        let index = match source.throttles.iter().position(|(known, _)| *known == rid) {
            Some(index) => index,
            None => {
                source.throttles.push((rid, KeyframeThrottle::default()));
                source.throttles.len() - 1
            }
        };
        let mid = source.mid;
        if source.throttles[index].1.request(now) {
            self.send_request(mid, rid);
        }
    }

    fn send_request(&mut self, mid: Mid, rid: Option<Rid>) {
        self.keyframes_asked += 1;
        let _ = self.guarded(|rtc| {
            if let Some(stream) = rtc.direct_api().stream_rx_by_mid(mid, rid) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
            Ok(())
        });
        self.dirty = true;
    }

    fn poll_keyframes(&mut self, line: usize, now: Instant) {
        let Some(source) = self.sources.get_mut(line) else { return };
        let mid = source.mid;
        let due: Vec<Option<Rid>> =
            source.throttles.iter_mut().filter_map(|(rid, t)| t.poll(now).then_some(*rid)).collect();
        for rid in due {
            self.send_request(mid, rid);
        }
    }

    /// Notes that a keyframe of a layer came.
    pub(super) fn on_keyframe(&mut self, line: usize, ssrc: u32) {
        let Some(source) = self.sources.get_mut(line) else { return };
        let rid = source.rids.iter().find(|(known, _)| *known == ssrc).map(|(_, rid)| *rid);
        if let Some((_, throttle)) = source.throttles.iter_mut().find(|(known, _)| Some(*known) == rid) {
            throttle.on_keyframe();
        }
    }

    /// Returns the source that a receive line carries.
    pub(super) fn source_of(&self, mid: Mid) -> Option<u64> {
        self.slots.iter().find(|slot| slot.mid == mid)?.from
    }

    /// Returns all sources that receive lines carry.
    pub(super) fn carried(&self) -> impl Iterator<Item = u64> + '_ {
        self.slots.iter().filter_map(|slot| slot.from)
    }

    /// Says goodbye to the client: RTCP BYE and DTLS close_notify.
    pub(super) fn close(&mut self, now: Instant, out: &mut dyn Outbox, happened: &mut Vec<Happened>) {
        if self.ended.is_none() && self.guarded(Rtc::close).is_ok() {
            self.drain(None, now, out, happened);
        }
    }

    /// Returns why the session has ended.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Returns whether ICE and DTLS are up.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Returns whether packets wait for [`Session::handle_timeout`].
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Returns when [`Session::handle_timeout`] is wanted.
    pub(super) fn due(&self) -> Instant {
        let requests = self.sources.iter().flat_map(|s| &s.throttles).filter_map(|(_, t)| t.due()).min();
        let least = self.engine_due.min(self.silence_due());
        requests.map_or(least, |due| least.min(due))
    }

    /// Returns all keys that lead here.
    pub(super) fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.keys.iter().map(|(key, _)| *key)
    }

    /// Takes the keys that lead here no longer: older than one whose path was checked long enough ago, or too many.
    pub(super) fn take_retired(&mut self, now: Instant) -> Option<SessionKey> {
        let newest = self.keys.last().and_then(|(_, checked)| *checked);
        let settled = newest.is_some_and(|checked| now.duration_since(checked) >= SILENCE_MAX);
        if self.keys.len() > 1 && (settled || self.keys.len() > KEYS_MAX) {
            let (key, _) = self.keys.remove(0);
            self.paths.retain(|(_, used)| *used != key);
            return Some(key);
        }
        None
    }

    fn silence_due(&self) -> Instant {
        self.checked.map_or(self.begun + SETUP_MAX, |checked| checked + SILENCE_MAX)
    }

    /// Runs one change of the engine; a panic or an error ends the session.
    fn guarded<R>(&mut self, change: impl FnOnce(&mut Rtc) -> Result<R, RtcError>) -> Result<R, Ended> {
        if let Some(ended) = self.ended {
            return Err(ended);
        }
        let rtc = &mut self.rtc;
        let ended = match catch_unwind(AssertUnwindSafe(|| change(rtc))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(_)) => Ended::Engine,
            Err(_) => Ended::Panic,
        };
        self.ended = Some(ended);
        Err(ended)
    }

    /// Takes everything that the engine has to say.
    fn drain(
        &mut self,
        via: Option<SessionKey>,
        now: Instant,
        out: &mut dyn Outbox,
        happened: &mut Vec<Happened>,
    ) {
        while self.ended.is_none() {
            let Ok(output) = self.guarded(Rtc::poll_output) else { return };
            match output {
                Output::Timeout(at) => {
                    self.engine_due = at;
                    self.dirty |= at <= now;
                    return;
                }
                Output::Transmit(transmit) => {
                    let bytes: &[u8] = &transmit.contents;
                    let key = match via {
                        Some(key) if bytes.first().is_some_and(|first| *first < 2) => {
                            if bytes.starts_with(&STUN_SUCCESS) {
                                self.on_checked(key, transmit.destination, now);
                            }
                            key
                        }
                        Some(_) | None => self.key_towards(transmit.destination),
                    };
                    out.transmit(key, transmit.destination, bytes);
                }
                Output::Event(event) => self.on_event(event, happened),
            }
        }
    }

    fn on_event(&mut self, event: Event, happened: &mut Vec<Happened>) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the engine's list is open-ended; only these matter here"
        )]
        match event {
            Event::RtpPacket(rtp) => {
                if let Some(packet) = self.place(rtp) {
                    happened.push(Happened::Packet(packet));
                }
            }
            Event::KeyframeRequest(request) => happened.push(Happened::NeedsKeyframe(request.mid)),
            Event::Connected => {
                self.connected = true;
                happened.push(Happened::Connected);
            }
            Event::Closed => self.ended = Some(Ended::Closed),
            _ => {}
        }
    }

    /// Finds the line and the codec of a packet.
    fn place(&mut self, rtp: RtpPacket) -> Option<Packet> {
        let pt = rtp.header.payload_type;
        let codec = self.codecs.iter().find(|(_, known)| *known == pt).map(|(codec, _)| *codec)?;
        let ssrc = *rtp.header.ssrc;
        let known = self.sources.iter().position(|s| s.rids.iter().any(|(known, _)| *known == ssrc));
        let line = match known {
            Some(line) => line,
            None => {
                let stream = self.guarded(|rtc| {
                    Ok(rtc.direct_api().stream_rx(&ssrc.into()).map(|stream| (stream.mid(), stream.rid())))
                });
                let (mid, rid) = stream.ok().flatten()?;
                let line = self.sources.iter().position(|s| s.mid == mid)?;
                // The engine keeps something of each SSRC for good.
                self.ssrcs_seen += 1;
                if self.ssrcs_seen > SSRCS_SEEN_MAX {
                    self.ended = Some(Ended::Engine);
                    return None;
                }
                let source = &mut self.sources[line];
                // A layer has one SSRC at a time: the new one takes the place of the old.
                source.rids.retain(|(_, known)| *known != rid);
                source.rids.push((ssrc, rid));
                line
            }
        };
        Some(Packet { line, codec, rtp })
    }

    fn on_checked(&mut self, key: SessionKey, from: SocketAddr, now: Instant) {
        self.checked = Some(now);
        self.note_path(from, key);
        if let Some((_, checked)) = self.keys.iter_mut().find(|(known, _)| *known == key) {
            checked.get_or_insert(now);
        }
    }

    fn note_path(&mut self, from: SocketAddr, key: SessionKey) {
        match self.paths.iter_mut().find(|(known, _)| *known == from) {
            Some((_, used)) => *used = key,
            None => {
                if self.paths.len() >= PATHS_MAX {
                    self.paths.remove(0);
                }
                self.paths.push((from, key));
            }
        }
    }

    fn key_towards(&self, to: SocketAddr) -> SessionKey {
        let used = self.paths.iter().find(|(known, _)| *known == to).map(|(_, key)| *key);
        let newest = || self.keys.last().map(|(key, _)| *key).expect("a session keeps its newest key");
        used.unwrap_or_else(newest)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.ended == Some(Ended::Panic) {
            // What a panic left behind may panic again when it is dropped.
            let rtc = std::mem::replace(&mut self.rtc, Rtc::new(self.begun));
            let _ = catch_unwind(AssertUnwindSafe(move || drop(rtc)));
        }
    }
}

/// Says which line carries which source. Without names, audio is the microphone, the first video the camera, the
/// second the screen.
fn name_lines(offer: &Offer, wanted: &[Track]) -> Result<Vec<(String, Source)>, OfferFault> {
    let mut named: Vec<(String, Source)> = Vec::new();
    if wanted.is_empty() {
        let mut free = [Source::Microphone, Source::Camera, Source::Screen].to_vec();
        for line in offer.lines.iter().filter(|line| line.sends) {
            if let Some(at) = free.iter().position(|source| kind_of(*source) == line.kind) {
                named.push((line.mid.clone(), free.remove(at)));
            }
        }
        return Ok(named);
    }
    for track in wanted {
        let Some(line) = offer.lines.iter().find(|line| line.mid == track.mid) else {
            return Err(OfferFault::Track(track.mid.chars().take(32).collect()));
        };
        // A line that is inactive for now may keep its name.
        if !line.sends {
            continue;
        }
        let twice = named.iter().any(|(mid, source)| *mid == track.mid || *source == track.source);
        if twice || kind_of(track.source) != line.kind {
            return Err(OfferFault::Track(track.mid.clone()));
        }
        named.push((track.mid.clone(), track.source));
    }
    Ok(named)
}

/// Returns what kind of line a source needs.
pub(super) fn kind_of(source: Source) -> Kind {
    match source {
        Source::Microphone => Kind::Audio,
        Source::Camera | Source::Screen => Kind::Video,
    }
}

/// Returns the advertised address that stands for the one a datagram was sent to: behind a NAT the kernel sees an
/// internal one, while the engine knows what the client was told.
fn candidate_for(candidates: &[SocketAddr], asked: IpAddr) -> SocketAddr {
    let asked = asked.to_canonical();
    let same = candidates.iter().find(|c| c.ip() == asked);
    let family = || candidates.iter().find(|c| c.is_ipv4() == asked.is_ipv4());
    let any = || candidates.first();
    same.or_else(family).or_else(any).copied().unwrap_or_else(|| SocketAddr::new(asked, 0))
}

/// A session without an integrity-checked STUN request ends after this (str0m lets its pairs go after as long).
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);
/// From the first offer to the first integrity-checked STUN request at the latest.
pub(super) const SETUP_MAX: Duration = Duration::from_secs(30);
/// SSRCs that one session may come with in its life; a client that takes so many is not one.
const SSRCS_SEEN_MAX: u32 = 1024;
/// Client addresses remembered.
const PATHS_MAX: usize = 8;
/// Keys of one session; at more, the oldest ends at once.
const KEYS_MAX: usize = 4;
// RFC 8489 section 5: class success response, method Binding.
const STUN_SUCCESS: [u8; 2] = [0x01, 0x01];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_address_stands_for_the_advertised_one_of_its_family() {
        let candidates: Vec<SocketAddr> = ["203.0.113.1:10000", "203.0.113.2:10000", "[2001:db8::1]:10000"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        for (asked, expected) in [
            ("203.0.113.2", "203.0.113.2:10000"),
            ("10.0.0.7", "203.0.113.1:10000"),
            ("::ffff:10.0.0.7", "203.0.113.1:10000"),
            ("fd00::7", "[2001:db8::1]:10000"),
        ] {
            assert_eq!(
                candidate_for(&candidates, asked.parse().unwrap()),
                expected.parse().unwrap(),
                "{asked}"
            );
        }
        assert_eq!(candidate_for(&candidates[2..], "10.0.0.7".parse().unwrap()), candidates[2]);
    }
}
