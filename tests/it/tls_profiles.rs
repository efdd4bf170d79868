//! How the binary speaks TLS: versions, suites and groups of each profile, and what it refuses without a word.

use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tls_certificates::{MEET, with_tls};
use crate::kit::backends::Backend;
use crate::kit::config::JITSI;
use crate::kit::process::Roomgate;
use crate::kit::tls::{Authority, Offer, TLS12};
use crate::kit::{SOON, until, within};

async fn start(authority: &Authority, profile: &str) -> Roomgate {
    let folder = tempfile::tempdir().unwrap();
    authority.issue(&[JITSI]).write(folder.path(), "meet");
    let backends = Backend::start_many(1).await;
    let tls = MEET.replace("] }", &format!("], profile: {profile} }}"));
    Roomgate::start_in(folder, &with_tls(&backends, &tls)).await
}

#[tokio::test]
async fn each_profile_has_its_versions_and_the_hybrid_group_is_agreed_on() {
    let authority = Authority::new("test");
    for (profile, tls12) in [("intermediate", true), ("modern", false)] {
        let roomgate = start(&authority, profile).await;
        let old = Offer { versions: TLS12, ..Offer::of(&authority) }.client();
        let agreed = old.connect(roomgate.https(), JITSI).await;
        assert_eq!(agreed.is_ok(), tls12, "{profile}: {:?}", agreed.err());
        if let Ok(stream) = agreed {
            assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        }
        for (groups, expected) in [
            // A client that has nothing else.
            (Some(vec![kx_group::X25519MLKEM768]), NamedGroup::X25519MLKEM768),
            (Some(vec![kx_group::X25519MLKEM768, kx_group::X25519]), NamedGroup::X25519MLKEM768),
            (Some(vec![kx_group::X25519]), NamedGroup::X25519),
            (Some(vec![kx_group::SECP384R1]), NamedGroup::secp384r1),
        ] {
            let client = Offer { groups, ..Offer::of(&authority) }.client();
            let stream = client.connect(roomgate.https(), JITSI).await.unwrap();
            let tls = stream.get_ref().1;
            assert_eq!(tls.negotiated_key_exchange_group().unwrap().name(), expected, "{profile}");
            assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        }
        let metrics = roomgate.metrics().await;
        let refused = metrics.sum("roomgate_edge_handshakes_total", &["\"version\""]);
        assert_eq!(refused, if tls12 { 0.0 } else { 1.0 }, "{profile}");
    }
}

#[tokio::test]
async fn failed_handshakes_are_counted_by_kind_and_never_logged() {
    let authority = Authority::new("test");
    let roomgate = start(&authority, "intermediate").await;
    let lines = roomgate.log().len();
    let connect = || TcpStream::connect(roomgate.https());
    let mut http = connect().await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: meet.example.com\r\n\r\n").await.unwrap();
    // An alert, and the end.
    let _ = within(SOON, "plain HTTP is refused", http.read_to_end(&mut Vec::new())).await;
    let mut garbage = connect().await.unwrap();
    garbage.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9, 9, 9, 9]).await.unwrap();
    let _ = within(SOON, "garbage is refused", garbage.read_to_end(&mut Vec::new())).await;
    drop(connect().await.unwrap());
    // It knows another authority: it refuses us.
    let stranger = Authority::new("another");
    Offer::of(&stranger).client().connect(roomgate.https(), JITSI).await.unwrap_err();
    let client = Offer { protocols: &["spdy/1"], ..Offer::of(&authority) }.client();
    client.connect(roomgate.https(), JITSI).await.unwrap_err();
    for kind in ["not_tls", "malformed", "closed", "alert", "protocol"] {
        until(SOON, kind, || async {
            let metrics = roomgate.metrics().await;
            let count = metrics.sum("roomgate_edge_handshakes_total", &[&format!("\"{kind}\"")]);
            if count == 1.0 { Ok(()) } else { Err(count) }
        })
        .await;
    }
    assert_eq!(roomgate.log().len(), lines, "{}", roomgate.log().join("\n"));
}
