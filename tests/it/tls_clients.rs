//! Client certificates: a site's rule holds for its name, its host and its resumed sessions.

use futures_util::{SinkExt, StreamExt};
use rustls::HandshakeKind;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::kit::SOON;
use crate::kit::backends::Backend;
use crate::kit::process::Roomgate;
use crate::kit::tls::{Authority, Issued, Offer, TlsClient, replace};
use crate::kit::{until, within};

const OPEN: &str = "open.example.com";
const SECURE: &str = "secure.example.com";
const MAYBE: &str = "maybe.example.com";
const NOBODY: &str = "nobody.example.com";
const FORGED: &str = "X-Client-Subject: CN=admin\r\nX_Client_Subject: CN=admin\r\n";

struct Setup {
    /// Of the servers.
    authority: Authority,
    /// Of the clients.
    members: Authority,
    roomgate: Roomgate,
    _backends: Vec<Backend>,
}

async fn setup() -> Setup {
    let (authority, members) = (Authority::new("servers"), Authority::new("members"));
    let folder = tempfile::tempdir().unwrap();
    authority.issue(&[OPEN, SECURE, MAYBE, NOBODY, "127.0.0.1"]).write(folder.path(), "meet");
    std::fs::write(folder.path().join("members.pem"), members.pem()).unwrap();
    let backends = Backend::start_many(1).await;
    let config = format!(
        r#"version: 1
listeners:
  https: {{ bind: ["127.0.0.1:0"], tls: {{ certificates: [ {{ cert: meet.pem, key: meet.key }} ] }} }}
  plain: {{ bind: ["127.0.0.1:0"] }}
sites:
  {OPEN}: {{ pool: shards }}
  {SECURE}: {{ pool: shards, client_certificate: {{ ca: members.pem, header: X-Client-Subject }} }}
  {MAYBE}: {{ pool: shards, client_certificate: {{ ca: members.pem, mode: optional, header: X-Client-Subject }} }}
pools:
  shards: {{ nodes: {{ s1: "{}" }} }}
admin: {{ bind: ["127.0.0.1:0"] }}
"#,
        backends[0].url()
    );
    let roomgate = Roomgate::start_in(folder, &config).await;
    Setup { authority, members, roomgate, _backends: backends }
}

impl Setup {
    fn client(&self, certificate: Option<&Issued>) -> TlsClient {
        Offer { certificate, ..Offer::of(&self.authority) }.client()
    }

    /// Status, and the subject that the node was told.
    async fn ask(&self, client: &TlsClient, name: &str, host: &str) -> Option<(u16, Option<String>)> {
        let seen = client.get(self.roomgate.https(), name, host, FORGED).await.ok()?;
        let body = seen.answer.split("\r\n\r\n").nth(1)?;
        assert!(!body.contains("CN=admin"), "{name} {host}: {body}");
        let told = serde_json::from_str::<serde_json::Value>(body).ok();
        let subject = told.and_then(|told| Some(told["headers"]["x-client-subject"].as_str()?.to_owned()));
        (seen.status() > 0).then(|| (seen.status(), subject))
    }
}

#[tokio::test]
async fn a_rule_holds_for_the_name_and_for_the_host() {
    let setup = setup().await;
    let alice = setup.members.issue_client("Alice, of sales");
    let stranger = Authority::new("others").issue_client("mallory");
    let told = Some("CN=Alice\\, of sales".to_owned());
    for (who, name, host, expected) in [
        // Without a certificate.
        (None, OPEN, OPEN, Some((200, None))),
        (None, SECURE, SECURE, None),
        (None, MAYBE, MAYBE, Some((200, None))),
        (None, OPEN, SECURE, Some((421, None))),
        (None, OPEN, MAYBE, Some((421, None))),
        (None, MAYBE, SECURE, Some((421, None))),
        (None, "127.0.0.1", SECURE, Some((421, None))),
        (None, "127.0.0.1", OPEN, Some((200, None))),
        (None, NOBODY, SECURE, Some((421, None))),
        // With one of the members' authority.
        (Some(&alice), SECURE, SECURE, Some((200, told.clone()))),
        (Some(&alice), MAYBE, MAYBE, Some((200, told.clone()))),
        (Some(&alice), OPEN, OPEN, Some((200, None))),
        (Some(&alice), SECURE, OPEN, Some((421, None))),
        (Some(&alice), SECURE, MAYBE, Some((421, None))),
        (Some(&alice), "127.0.0.1", SECURE, Some((421, None))),
        // With one of another.
        (Some(&stranger), SECURE, SECURE, None),
        (Some(&stranger), MAYBE, MAYBE, None),
        (Some(&stranger), OPEN, OPEN, Some((200, None))),
    ] {
        let client = setup.client(who);
        assert_eq!(setup.ask(&client, name, host).await, expected, "{name} {host} {}", who.is_some());
    }
    until(SOON, "the refusals are counted", || async {
        let metrics = setup.roomgate.metrics().await;
        let refused = metrics.sum("roomgate_edge_handshakes_total", &["client_certificate"]);
        if refused == 3.0 { Ok(()) } else { Err(refused) }
    })
    .await;
    // A listener without TLS can ask nobody.
    let plain = setup.roomgate.listener("plain");
    for (host, expected) in [(OPEN, 200), (SECURE, 421)] {
        let answer = plain_get(plain, host).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{host}: {answer}");
        assert!(!answer.contains("CN=admin"), "{answer}");
    }
}

async fn plain_get(address: std::net::SocketAddr, host: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{FORGED}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(SOON, "an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_resumed_session_is_under_the_rule_of_now() {
    let setup = setup().await;
    let alice = setup.members.issue_client("alice");
    let (member, guest) = (setup.client(Some(&alice)), setup.client(None));
    let address = setup.roomgate.https();
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let seen = member.get(address, SECURE, SECURE, "").await.unwrap();
        assert_eq!((seen.kind, seen.status()), (expected, 200));
        assert!(seen.answer.contains("CN=alice"), "{}", seen.answer);
        let seen = guest.get(address, MAYBE, MAYBE, "").await.unwrap();
        assert_eq!((seen.kind, seen.status()), (expected, 200));
    }
    // Optional becomes required: the guest's ticket is worth nothing any more.
    let text = std::fs::read_to_string(setup.roomgate.file()).unwrap();
    std::fs::write(setup.roomgate.file(), text.replace("mode: optional", "mode: required")).unwrap();
    assert_eq!(setup.roomgate.reload().await.status, 200);
    guest.get(address, MAYBE, MAYBE, "").await.unwrap_err();
    // Another authority: so is the member's.
    let others = Authority::new("others");
    replace(&setup.roomgate.folder().join("members.pem"), &others.pem());
    until(SOON, "the member is not known any more", || async {
        match member.get(address, SECURE, SECURE, "").await {
            Ok(seen) => Err(seen.status()),
            Err(_) => Ok(()),
        }
    })
    .await;
    let other = others.issue_client("olaf");
    let seen = setup.client(Some(&other)).get(address, SECURE, SECURE, "").await.unwrap();
    assert!(seen.status() == 200 && seen.answer.contains("CN=olaf"), "{}", seen.answer);
}

#[tokio::test]
async fn an_open_connection_serves_a_site_only_under_its_rule_of_now() {
    let setup = setup().await;
    let alice = setup.members.issue_client("alice");
    let client = setup.client(Some(&alice));
    let stream = client.connect(setup.roomgate.https(), SECURE).await.unwrap();
    let mut request = format!("wss://{SECURE}/ws").into_client_request().unwrap();
    request.headers_mut().insert("x-client-subject", "CN=admin".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    within(SOON, "its node's name", socket.next()).await.unwrap().unwrap();
    let kept = client.connect(setup.roomgate.https(), SECURE).await.unwrap();
    let others = Authority::new("others");
    replace(&setup.roomgate.folder().join("members.pem"), &others.pem());
    until(SOON, "the new authority is in use", || async {
        let olaf = others.issue_client("olaf");
        let seen = setup.client(Some(&olaf)).get(setup.roomgate.https(), SECURE, SECURE, "").await;
        seen.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
    // A tunnel that is open stays; a request on a kept connection does not pass.
    socket.send(Message::text("still there?")).await.unwrap();
    let echo = within(SOON, "an echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(echo, Message::text("still there?"));
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut kept = kept;
    kept.write_all(format!("GET / HTTP/1.1\r\nHost: {SECURE}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(SOON, "the connection ends", kept.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 421 "), "{}", String::from_utf8_lossy(&answer));
}
