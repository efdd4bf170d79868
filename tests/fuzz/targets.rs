//! What is fuzzed: each function takes any bytes and panics when a promise is broken.
//!
//! The fuzzer's binaries and the test that replays the corpora share them.

use std::path::Path;

use roomgate::config;
use roomgate::config::settings::{MemberPath, PathRule, RoomRule};
use roomgate::edge::cache::control::{Control, YEAR};
use roomgate::rooms::key::{RequestView, RoomKey, room_of};
use roomgate::sfu::signalling::message::ClientMessage;
use roomgate::wire::demux::Class;
use roomgate::wire::h2_frames::Frames;
use roomgate::wire::http_body::Chunks;
use roomgate::wire::http_head::{Framing, HeadScan, Scan, check_request, parse_response};
use roomgate::wire::proxy_protocol::{self, HEADER_MAX, Tlvs, encode_v2};
use roomgate::wire::rtp::{Header, RtcpHeader};
use roomgate::wire::stun::{BINDING, Message, MessageClass, USERNAME_BYTES_MAX, success_transaction};
use roomgate::wire::ufrag::{UFRAG_LEN, Ufrag, UfragCodec};
use webrtc_util::marshal::Unmarshal;

/// A datagram of any class, as the media port sees it first.
pub(crate) fn stun(data: &[u8]) {
    let message = Message::parse(data);
    if let Some(message) = message {
        // Methods beyond those that share the port have first bytes of other protocols (RFC 7983 section 7).
        assert_eq!(Class::of(data) == Class::Stun, data[0] < 4);
        if let Some(username) = message.username {
            let whole = username.server.len() + 1 + username.client.len();
            assert!(
                whole <= USERNAME_BYTES_MAX && !username.server.is_empty() && !username.client.is_empty()
            );
            assert!(!username.server.contains(&b':'), "the first colon divides");
        }
    }
    let transaction = success_transaction(data);
    if let (Some(message), Some(transaction)) = (message, transaction) {
        assert_eq!(message.transaction, transaction);
        assert_eq!((message.class, message.method), (MessageClass::Success, BINDING));
    }
}

/// A ufrag of any bytes, and one made from them.
pub(crate) fn ufrag(data: &[u8]) {
    let codec = UfragCodec::new(*b"0123456789abcdef");
    if let Some(ufrag) = codec.decode(data) {
        assert_eq!(codec.encode(&ufrag).as_bytes(), data, "one ufrag has one text");
    }
    let mut block = [0; 16];
    for (to, from) in block.iter_mut().zip(data) {
        *to = *from;
    }
    let [e0, e1, worker, flags, g0, g1, g2, n0, n1, n2, n3, n4, ..] = block;
    let ufrag = Ufrag {
        edge: u16::from_be_bytes([e0, e1]),
        worker,
        flags,
        generation: u32::from_be_bytes([0, g0, g1, g2]),
        nonce: u64::from_be_bytes([0, 0, 0, n0, n1, n2, n3, n4]),
    };
    let text = codec.encode(&ufrag);
    assert_eq!(text.len(), UFRAG_LEN);
    assert_eq!(codec.decode(text.as_bytes()), Some(ufrag));
    // Another key's ufrag is nobody's.
    assert_eq!(UfragCodec::new(*b"fedcba9876543210").decode(text.as_bytes()), None);
}

/// An RTP or RTCP packet; what passes must not trouble the crate `rtp`, and must mean the same to it.
pub(crate) fn rtp_header(data: &[u8]) {
    if let Some(rtcp) = RtcpHeader::parse(data) {
        assert!(rtcp.len >= 4 && rtcp.len <= data.len());
    }
    let Some((header, payload)) = Header::parse(data) else { return };
    assert_eq!(header.len() + payload.len(), data.len());
    assert!(header.csrcs().count() <= 15);
    if let Some(unpadded) = header.unpad(payload) {
        assert!(unpadded.len() <= payload.len());
    }
    let elements: Vec<_> = header.extension.iter().flat_map(|extension| extension.elements()).collect();
    assert!(elements.iter().all(|element| element.data.len() <= 255));
    // The oracle reads on where RFC 8285 section 4.2 ends an extension, up to a panic: it gets none of those.
    let ended = |data: &[u8]| data.iter().any(|byte| matches!(byte, 0x01..=0x0f | 0xf0..=0xff));
    if header.extension.is_some_and(|extension| extension.profile == 0xBEDE && ended(extension.data)) {
        return;
    }
    let mut rest = data;
    let Ok(oracle) = rtp::header::Header::unmarshal(&mut rest) else { return };
    assert_eq!(oracle.marker, header.marker);
    assert_eq!(oracle.payload_type, header.payload_type);
    assert_eq!(oracle.sequence_number, header.sequence);
    assert_eq!(oracle.timestamp, header.timestamp);
    assert_eq!(oracle.ssrc, header.ssrc);
    assert_eq!(oracle.csrc, header.csrcs().collect::<Vec<_>>());
    // Of the two-byte forms, the oracle knows the first profile only.
    if header.extension.is_some_and(|extension| matches!(extension.profile, 0xBEDE | 0x1000)) {
        let theirs = oracle.extensions.iter().map(|extension| (extension.id, &extension.payload[..]));
        assert!(theirs.eq(elements.iter().map(|element| (element.id, element.data))), "the same elements");
    }
}

/// A request head, the same in two pieces, a response head, and a chunked body.
pub(crate) fn http_head(data: &[u8]) {
    let whole = HeadScan::default().advance(data);
    let (first, _) = data.split_at(data.len() / 2);
    let mut scan = HeadScan::default();
    let found = match scan.advance(first) {
        Scan::Partial => scan.advance(data),
        early @ (Scan::Complete(_) | Scan::Refused(_)) => early,
    };
    assert_eq!(found, whole, "pieces change nothing");
    let end = match whole {
        Scan::Complete(end) => end,
        Scan::Partial | Scan::Refused(_) => data.len(),
    };
    let head = &data[..end];
    if let Ok(request) = check_request(head) {
        assert_eq!(whole, Scan::Complete(head.len()), "only a whole head passes");
        assert!(!head.contains(&0), "no NUL");
        let lower = head.to_ascii_lowercase();
        let has = |name: &[u8]| lower.windows(name.len()).any(|window| window == name);
        match request.framing {
            Framing::None => assert!(!has(b"\r\ncontent-length:") && !has(b"\r\ntransfer-encoding:")),
            Framing::Length(_) => assert!(!has(b"\r\ntransfer-encoding:")),
            Framing::Chunked => assert!(!has(b"\r\ncontent-length:")),
        }
        assert!(!head[request.target].iter().any(u8::is_ascii_whitespace), "no space in the target");
        assert!(!head[request.method].is_empty());
    }
    if let Ok(response) = parse_response(head) {
        assert!((100..1000).contains(&response.status));
    }
    let mut chunks = Chunks::default();
    let mut rest = data;
    while let Ok((taken, range)) = chunks.advance(rest) {
        assert!(range.end <= taken && taken <= rest.len());
        rest = &rest[taken..];
        if taken == 0 || chunks.is_done() {
            break;
        }
    }
}

/// The bytes of an HTTP/2 connection, the same in two pieces and byte by byte.
pub(crate) fn h2_frames(data: &[u8]) {
    let follow = |frames: &mut Frames, mut bytes: &[u8]| -> Vec<_> {
        std::iter::from_fn(|| frames.next(&mut bytes)).collect()
    };
    let mut frames = Frames::default();
    let whole = follow(&mut frames, data);
    let described: usize = whole.iter().map(|frame| 9 + frame.length).sum();
    assert_eq!(frames.is_between(), described == data.len(), "a boundary is where the lengths say");
    let (first, second) = data.split_at(data.len() / 2);
    let mut frames = Frames::default();
    let mut pieces = follow(&mut frames, first);
    pieces.extend(follow(&mut frames, second));
    assert_eq!(pieces, whole, "pieces change nothing");
    let mut frames = Frames::default();
    let single: Vec<_> = data.chunks(1).flat_map(|byte| follow(&mut frames, byte)).collect();
    assert_eq!(single, whole, "single bytes change nothing");
}

/// What a connection begins with that has to begin with a PROXY header.
pub(crate) fn proxy_protocol(data: &[u8]) {
    let whole = proxy_protocol::scan(data);
    let (first, _) = data.split_at(data.len() / 2);
    match proxy_protocol::scan(first) {
        proxy_protocol::Scan::Partial => assert!(first.len() < HEADER_MAX, "nobody waits for more"),
        early @ (proxy_protocol::Scan::Complete(..) | proxy_protocol::Scan::Refused(_)) => {
            assert_eq!(early, whole, "pieces change nothing");
        }
    }
    let proxy_protocol::Scan::Complete(header, length) = whole else { return };
    assert!(length <= data.len() && length <= HEADER_MAX);
    let tlvs: usize = Tlvs(header.tlvs).map(|(_, value)| 3 + value.len()).sum();
    assert_eq!(tlvs, header.tlvs.len(), "whole ones only");
    if let Some(addresses) = header.addresses {
        let again = encode_v2(&addresses);
        let proxy_protocol::Scan::Complete(again, _) = proxy_protocol::scan(&again) else {
            panic!("what is written is read")
        };
        let canonical = |a: std::net::SocketAddr| (a.ip().to_canonical(), a.port());
        let again = again.addresses.expect("an address of TCP");
        assert_eq!(canonical(again.source), canonical(addresses.source));
        assert_eq!(canonical(again.destination), canonical(addresses.destination));
    }
}

/// A configuration file.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A path to a device would be read without an end; whoever writes the file is trusted not to.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    match config::load_str("fuzz.yaml", text, Path::new("/nonexistent"), None) {
        Ok(loaded) => assert!(loaded.effective.contains("version: 1")),
        Err(faults) => {
            assert!(faults.total() > 0, "a refusal says why");
            // YAML ends a line at a CR, too.
            let ends =
                text.chars().filter(|c| ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'].contains(c)).count();
            let lines = u32::try_from(ends + 1).unwrap_or(u32::MAX);
            for fault in faults.list() {
                assert!(fault.line >= 1 && fault.column >= 1 && fault.line <= lines + 1, "a place: {fault}");
                assert!(!fault.message.is_empty());
            }
            assert!(!faults.to_string().is_empty());
        }
    }
}

/// A message of a participant.
pub(crate) fn signalling(data: &[u8]) {
    let Ok(message) = serde_json::from_slice::<ClientMessage>(data) else { return };
    let text = serde_json::to_string(&message).expect("what was read can be written");
    let again: ClientMessage = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(again, message);
}

/// A request target: whatever room it names, the name is stable.
pub(crate) fn room_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let header = |_: &str| None;
    let request = RequestView { path, query, header: &header, text: &|_| None };
    let rules = [RoomRule::Query("room".into()), RoomRule::Path(PathRule::Last)];
    let claim = [RoomRule::Claim(MemberPath::new("video.room").expect("a path of members"))];
    for rules in [&rules[..], &[RoomRule::Jitsi], &[RoomRule::Conference], &claim] {
        let Ok(Some(key)) = room_of(rules, &request) else { continue };
        let length = key.as_ref().len();
        assert!((1..=256).contains(&length), "{length} bytes");
        // Every part stays what it is when a client takes it for a name and asks again.
        for part in key.as_ref().split('/').filter(|part| !part.is_empty()) {
            let again = RoomKey::new(part).expect("a normalised name is a name");
            assert_eq!(again.as_ref(), part, "normalisation is idempotent");
        }
    }
}

/// A value of `Cache-Control`: what it says does not depend on how it is cut into fields, and no time is endless.
pub(crate) fn cache_control(data: &[u8]) {
    let read = |values: &[&[u8]]| {
        let mut headers = http::HeaderMap::new();
        for value in values {
            let Ok(value) = http::HeaderValue::from_bytes(value) else { return None };
            headers.append(http::header::CACHE_CONTROL, value);
        }
        Some(Control::of(&headers))
    };
    let Some(control) = read(&[data]) else { return };
    let times = [control.max_age, control.shared_max_age, control.min_fresh, control.stale_if_error];
    assert!(times.into_iter().flatten().all(|time| time <= YEAR));
    // Cut at a comma outside of quotes, two fields say what one says.
    if !data.contains(&b'"')
        && let Some(at) = data.iter().position(|b| *b == b',')
    {
        assert_eq!(read(&[&data[..at], &data[at + 1..]]), Some(control));
    }
    let upper: Vec<u8> = data.to_ascii_uppercase();
    assert_eq!(read(&[&upper]), Some(control), "names are of either case");
}
