//! Certificates of the binary: chosen by name and by what a client knows, exchanged while connections are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustls::{AlertDescription, SignatureScheme};
use tokio_tungstenite::tungstenite::Message;

use crate::kit::backends::Backend;
use crate::kit::client::Client;
use crate::kit::config::{JITSI, Shards};
use crate::kit::process::{Roomgate, command};
use crate::kit::tls::{Authority, Offer, TLS12, TLS13, TlsClient, now, replace};
use crate::kit::{SOON, long, until, within};

const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
/// A new certificate is in use within a second; threefold on a machine that is busy with other tests.
const IN_USE: Duration = Duration::from_secs(3);

/// A configuration with this `tls` in place of the self-signed one.
pub(crate) fn with_tls(backends: &[Backend], tls: &str) -> String {
    Shards::of(backends).text().replace("tls: self-signed", &format!("tls: {tls}"))
}

pub(crate) const MEET: &str = "{ certificates: [ { cert: meet.pem, key: meet.key } ] }";

#[tokio::test]
async fn the_certificate_follows_the_name_and_what_the_client_can_verify() {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    let rsa = authority.issue_with(&[JITSI], &rcgen::PKCS_RSA_SHA256, "rsa", 90);
    let (ecdsa, wild) = (authority.issue(&[JITSI]), authority.issue(&["*.example.com"]));
    rsa.write(folder.path(), "rsa");
    ecdsa.write(folder.path(), "ecdsa");
    wild.write(folder.path(), "wild");
    let pair = |name: &str| format!("{{ cert: {name}.pem, key: {name}.key }}");
    let tls = format!("{{ certificates: [ {}, {}, {} ] }}", pair("rsa"), pair("ecdsa"), pair("wild"));
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_in(folder, &with_tls(&backends, &tls)).await;
    for (name, schemes, versions, expected) in [
        (JITSI, None, TLS13, &ecdsa),
        (JITSI, Some(RSA), TLS13, &rsa),
        (JITSI, Some(RSA), TLS12, &rsa),
        ("api.example.com", None, TLS13, &wild),
        ("other.example.org", None, TLS13, &ecdsa),
        ("127.0.0.1", None, TLS13, &ecdsa),
    ] {
        let client = Offer { schemes, versions, any_name: true, ..Offer::of(&authority) }.client();
        let stream = client.connect(roomgate.https(), name).await.unwrap();
        let leaf = &stream.get_ref().1.peer_certificates().unwrap()[0];
        assert_eq!(*leaf, expected.der, "{name} {schemes:?} {versions:?}");
    }
}

#[tokio::test]
async fn an_unknown_name_gets_the_alert_when_names_are_strict() {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    authority.issue(&[JITSI]).write(folder.path(), "meet");
    let backends = Backend::start_many(1).await;
    let strict = MEET.replace("] }", "], unknown_name: refuse }");
    let roomgate = Roomgate::start_in(folder, &with_tls(&backends, &strict)).await;
    let client = Offer::of(&authority).client();
    for name in ["other.example.org", "127.0.0.1"] {
        let refused = client.connect(roomgate.https(), name).await.unwrap_err();
        let error = refused.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        let expected = rustls::Error::AlertReceived(AlertDescription::UnrecognisedName);
        assert_eq!(error, Some(expected), "{name}: {refused}");
    }
    client.connect(roomgate.https(), JITSI).await.unwrap();
    until(SOON, "both are counted", || async {
        let counted = roomgate.metrics().await.sum("roomgate_edge_handshakes_total", &["unknown_name"]);
        if counted == 2.0 { Ok(()) } else { Err(counted) }
    })
    .await;
}

/// Waits until new connections get this certificate; returns how long that took.
pub(crate) async fn in_use(client: &TlsClient, roomgate: &Roomgate, leaf: &[u8]) -> Duration {
    let from = Instant::now();
    until(SOON, "the new certificate is in use", || async {
        let stream = client.connect(roomgate.https(), JITSI).await.map_err(|fault| fault.to_string())?;
        let now = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        if now.as_ref() == leaf { Ok(()) } else { Err("still another".to_owned()) }
    })
    .await;
    from.elapsed()
}

/// Swaps certificates under open WebSockets, requests on kept connections and requests on new ones.
async fn swaps_close_nothing(swaps: usize, sockets: usize) {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    authority.issue(&[JITSI]).write(folder.path(), "meet");
    let backends = Backend::start_many(2).await;
    let roomgate = Roomgate::start_in(folder, &with_tls(&backends, MEET)).await;
    roomgate.nodes_up().await;
    let client = Client::of(roomgate.https());
    let mut open = Vec::new();
    for number in 0..sockets {
        let path = format!("/xmpp-websocket?room=room{number}");
        let mut socket = within(SOON, "a WebSocket", client.websocket(JITSI, &path)).await.unwrap();
        within(SOON, "its node's name", socket.next()).await.unwrap().unwrap();
        open.push(socket);
    }
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut lanes = Vec::new();
    for lane in ["h1", "h2", "new"] {
        let (client, stop, sent) = (client.clone(), stop.clone(), sent.clone());
        lanes.push(tokio::spawn(async move {
            let mut kept = match lane {
                "h2" => client.h2(JITSI).await.unwrap(),
                _ => client.h1(JITSI).await.unwrap(),
            };
            while !stop.load(Ordering::Relaxed) {
                let answer = match lane {
                    "new" => within(SOON, "an answer", client.get(JITSI, "/room")).await,
                    _ => within(SOON, "an answer", kept.get("/room")).await,
                };
                assert_eq!(answer.unwrap_or_else(|fault| panic!("{lane}: {fault}")).status, 200, "{lane}");
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
    }
    let verifying = Offer::of(&authority).client();
    let mut took = Vec::new();
    for _ in 0..swaps {
        let new = authority.issue(&[JITSI]);
        new.write(roomgate.folder(), "meet");
        took.push(in_use(&verifying, &roomgate, &new.der).await);
    }
    stop.store(true, Ordering::Relaxed);
    for lane in lanes {
        within(SOON, "the lane ends", lane).await.unwrap();
    }
    for socket in &mut open {
        socket.send(Message::text("still there?")).await.unwrap();
        let echo = within(SOON, "an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(echo, Message::text("still there?"));
    }
    took.sort();
    let longest = *took.last().unwrap();
    let requests = sent.load(Ordering::Relaxed);
    eprintln!(
        "{swaps} swaps under {sockets} WebSockets and {requests} requests: 0 closed, 0 failed; in use after {:?} \
         (median), {longest:?} (longest)",
        took[took.len() / 2]
    );
    assert!(longest < IN_USE, "a certificate was in use only after {longest:?}");
    assert!(requests > 100, "{requests} requests");
    let metrics = roomgate.metrics().await;
    assert!(metrics.sum("roomgate_tls_file_loads_total", &["replaced"]) >= swaps as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_traffic_close_nothing_and_fail_nothing() {
    // Each takes a fifth of a second.
    let swaps = if long("a hundred swaps instead of thirty") { 100 } else { 30 };
    swaps_close_nothing(swaps, 500).await;
}

#[tokio::test]
async fn what_is_half_written_or_does_not_fit_leaves_the_old_one_and_is_named() {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    let old = authority.issue(&[JITSI]);
    old.write(folder.path(), "meet");
    let backends = Backend::start_many(1).await;
    let mut roomgate = Roomgate::start_in(folder, &with_tls(&backends, MEET)).await;
    let client = Offer::of(&authority).client();
    let failed = "roomgate_tls_certificate_load_failed";
    let new = authority.issue(&[JITSI]);
    let cert = roomgate.folder().join("meet.pem");

    std::fs::write(&cert, &new.cert[..300]).unwrap();
    roomgate
        .wait_log(SOON, "the cut file", |line| {
            let text = line["message"].as_str().unwrap_or_default();
            text.contains("meet.pem: cannot read the certificate chain: it is cut") && text.contains("rename")
        })
        .await;
    in_use(&client, &roomgate, &old.der).await;
    until(SOON, "the metric says so", || async {
        let value = roomgate.metrics().await.sum(failed, &["meet.pem"]);
        if value == 1.0 { Ok(()) } else { Err(value) }
    })
    .await;

    // Whole now, and its key is still the old one.
    replace(&cert, &new.cert);
    roomgate
        .wait_log(SOON, "the pair that does not fit", |line| {
            let text = line["message"].as_str().unwrap_or_default();
            text.contains("meet.key: the private key does not fit the certificate in")
        })
        .await;
    in_use(&client, &roomgate, &old.der).await;
    let certificates = roomgate.api("/api/v1/status").await["process"]["certificates"].clone();
    assert!(certificates[0]["failure"].as_str().unwrap().contains("does not fit"), "{certificates}");

    replace(&roomgate.folder().join("meet.key"), &new.key);
    in_use(&client, &roomgate, &new.der).await;
    let metrics = roomgate.metrics().await;
    assert_eq!(metrics.sum(failed, &[]), 0.0);
    assert!(metrics.has(failed));
    let complaints = roomgate.log().iter().filter(|line| line.contains("stays in use")).count();
    assert_eq!(complaints, 2, "each is told once:\n{}", roomgate.log().join("\n"));
}

#[tokio::test]
async fn an_end_that_is_near_is_told_by_the_metric_the_check_the_start_and_the_status() {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    authority.issue_with(&[JITSI], &rcgen::PKCS_ECDSA_P256_SHA256, "test", 10).write(folder.path(), "meet");
    let backends = Backend::start_many(1).await;
    let config = with_tls(&backends, MEET);
    std::fs::write(folder.path().join("roomgate.yaml"), &config).unwrap();
    let output = command(&["check", "roomgate.yaml"], folder.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("meet.pem expires in "), "{said}");
    let roomgate = Roomgate::start_in(folder, &config).await;
    assert!(roomgate.log().iter().any(|line| line.contains("meet.pem expires in ")), "the start warns");
    let expiry = roomgate.metrics().await.sum("roomgate_tls_certificate_expiry_seconds", &["meet.pem"]);
    let left = expiry - now() as f64;
    assert!((9.9..=10.0).contains(&(left / 86_400.0)), "{left}");
    let status = roomgate.api("/api/v1/status").await;
    assert_eq!(status["process"]["certificates"][0]["not_after"].as_f64(), Some(expiry), "{status}");
    // One that stays for longer takes its place: no warning, another metric.
    let new = authority.issue(&[JITSI]);
    new.write(roomgate.folder(), "meet");
    in_use(&Offer::of(&authority).client(), &roomgate, &new.der).await;
    let later = roomgate.metrics().await.sum("roomgate_tls_certificate_expiry_seconds", &["meet.pem"]);
    assert!(later > expiry, "{later}");
}
