//! Session tickets of the binary: they outlive a reload, are good on every edge of a key file, and end with their key.

use rustls::HandshakeKind::{self, Full, Resumed};
use rustls::SupportedProtocolVersion;

use super::tls_certificates::{MEET, with_tls};
use crate::kit::backends::Backend;
use crate::kit::config::JITSI;
use crate::kit::process::Roomgate;
use crate::kit::tls::{Authority, Issued, Offer, TLS12, TLS13, TlsClient, replace};
use crate::kit::{SOON, until};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [TLS13, TLS12];

async fn edge(backends: &[Backend], issued: &Issued, tickets: &str, keys: &str) -> Roomgate {
    let folder = tempfile::tempdir().unwrap();
    issued.write(folder.path(), "meet");
    std::fs::write(folder.path().join("tickets.keys"), keys).unwrap();
    let tls = MEET.replace("] }", &format!("], {tickets} }}"));
    Roomgate::start_in(folder, &with_tls(backends, &tls)).await
}

async fn handshake(client: &TlsClient, roomgate: &Roomgate) -> HandshakeKind {
    let seen = client.get(roomgate.https(), JITSI, JITSI, "").await.unwrap();
    assert!(seen.status() > 0, "{}", seen.answer);
    seen.kind
}

fn is_resumed(kind: HandshakeKind) -> bool {
    kind == Resumed
}

#[tokio::test]
async fn a_session_is_resumed_across_a_reload_and_new_certificates() {
    let authority = Authority::new("test");
    let backends = Backend::start_many(1).await;
    let issued = authority.issue(&[JITSI]);
    let roomgate = edge(&backends, &issued, "tickets: { rotate: 1h }", "").await;
    for versions in VERSIONS {
        let client = Offer { versions, ..Offer::of(&authority) }.client();
        assert!(!is_resumed(handshake(&client, &roomgate).await));
        assert!(is_resumed(handshake(&client, &roomgate).await));
        // Another lifetime, another certificate: the keys stay.
        let text = std::fs::read_to_string(roomgate.file()).unwrap();
        let other =
            if text.contains("rotate: 1h") { text.replace("1h", "2h") } else { text.replace("2h", "1h") };
        std::fs::write(roomgate.file(), other).unwrap();
        authority.issue(&[JITSI]).write(roomgate.folder(), "meet");
        assert_eq!(roomgate.reload().await.status, 200);
        assert!(is_resumed(handshake(&client, &roomgate).await));
    }
    let resumed = roomgate.metrics().await.sum("roomgate_tls_resumed_total", &[]);
    assert_eq!(resumed, 4.0);
}

#[tokio::test]
async fn edges_with_one_key_file_know_each_others_tickets_and_a_dropped_key_ends_them() {
    let authority = Authority::new("test");
    let backends = Backend::start_many(1).await;
    let issued = authority.issue(&[JITSI]);
    let (a, b, c) = ("aa".repeat(32), "bb".repeat(32), "cc".repeat(32));
    let shared = "tickets: { keys: \"file:tickets.keys\" }";
    // In the middle of an exchange of keys: the second edge encrypts with another one already.
    let first = edge(&backends, &issued, shared, &format!("{a}\n{b}\n")).await;
    let second = edge(&backends, &issued, shared, &format!("# new first\n{b}\n{a}\n")).await;
    let alone = edge(&backends, &issued, "tickets: { rotate: 12h }", "").await;
    for versions in VERSIONS {
        let client = Offer { versions, ..Offer::of(&authority) }.client();
        assert_eq!(handshake(&client, &first).await, Full);
        assert_eq!(handshake(&client, &second).await, Resumed);
        assert_eq!(handshake(&client, &first).await, Resumed);
        // An edge that does not know the key: a full handshake, and no error.
        assert_eq!(handshake(&client, &alone).await, Full);
    }
    let client = Offer::of(&authority).client();
    assert_eq!(handshake(&client, &first).await, Full);
    // Half a key changes nothing and is told; a whole one takes the place of both.
    let keys = second.folder().join("tickets.keys");
    replace(&keys, &c[..40]);
    until(SOON, "the broken file is told", || async {
        let is_told = second.log().iter().any(|line| line.contains("cannot read the ticket keys: line 1"));
        if is_told { Ok(()) } else { Err(()) }
    })
    .await;
    assert_eq!(handshake(&client, &second).await, Resumed);
    replace(&keys, &c);
    until(SOON, "a ticket of a dropped key is none", || async {
        // Each try of the first edge brings a ticket of its key.
        handshake(&client, &first).await;
        let kind = handshake(&client, &second).await;
        if kind == Full { Ok(()) } else { Err(kind) }
    })
    .await;
    assert!(!second.log().iter().any(|line| line.contains(&c[..40])), "no key is logged");
}
