//! Asks a service over HTTP/1.1: one connection, one request, a whole answer within the deadline.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;

use super::judge::Answer;
use super::{h2, tcp};
use crate::config::settings::{Name, Protocol};
use crate::pool::dial::Tls;
use crate::pool::health::FailReason;
use crate::pool::resolve::Resolver;
use crate::pool::tls::NodeTls;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Path of the request.
    pub path: &'a str,
    /// The Host header; `None`: the service's own address.
    pub host: Option<&'a str>,
    /// Media type and body of a POST; `None`: a GET.
    pub post: Option<(&'static str, &'static str)>,
    /// Whether the service wants a PROXY header in front: then one that says that this connection is our own.
    pub announced: bool,
}

/// How a service is reached.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Where names are looked up.
    pub resolver: &'a Arc<Resolver>,
    /// An IP address or a name.
    pub host: &'a Name,
    /// TCP port.
    pub port: u16,
    /// TLS, or none.
    pub tls: Option<&'a NodeTls>,
    /// What is spoken; over TLS, what the service chooses of it.
    pub protocol: Protocol,
}

/// Asks a service. `timeout` bounds everything from resolving to the last byte that is read; of a longer body than
/// [`BODY_BYTES_MAX`](super::judge::BODY_BYTES_MAX) the beginning is returned.
///
/// # Errors
/// There was no answer: why.
pub async fn ask(way: Way<'_>, question: &Question<'_>, timeout: Duration) -> Result<Answer, FailReason> {
    let asked = tokio::time::timeout(timeout, exchange(way, question, timeout)).await;
    asked.unwrap_or(Err(FailReason::Timeout(timeout)))
}

async fn exchange(way: Way<'_>, question: &Question<'_>, timeout: Duration) -> Result<Answer, FailReason> {
    let Way { resolver, host, port, tls, protocol } = way;
    let tls = tls.map(|policy| Tls { policy, host, protocol });
    let stream = tcp::connect(resolver, host, port, question.announced, timeout, tls).await?;
    let own = authority(host, port, tls.is_some());
    let authority = question.host.unwrap_or(&own);
    let h2 = stream.chose_h2() || (tls.is_none() && protocol == Protocol::H2);
    if h2 {
        let scheme = if tls.is_some() { "https" } else { "http" };
        return h2::exchange(stream, scheme, authority, question).await;
    }
    let mut request = hyper::Request::get(question.path)
        .header(HOST, authority)
        .header(USER_AGENT, "roomgate")
        .header(CONNECTION, "close");
    if let Some((media_type, _)) = question.post {
        request = request.method(hyper::Method::POST).header(CONTENT_TYPE, media_type);
    }
    let body = Full::new(Bytes::from_static(question.post.map_or(&[], |(_, body)| body.as_bytes())));
    let request =
        request.body(body).map_err(|e| FailReason::Answer(format!("no request can be made: {e}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(answer)?;
    // Driven right here rather than spawned: when the deadline drops this future, the connection goes with it.
    let mut connection = std::pin::pin!(connection);
    let exchange = std::pin::pin!(read(&mut sender, request));
    match futures_util::future::select(exchange, connection.as_mut()).await {
        futures_util::future::Either::Left((result, _)) => result,
        // The connection may end together with the last byte of the answer: what is left needs no connection.
        futures_util::future::Either::Right((ended, exchange)) => {
            ended.map_err(answer)?;
            exchange.await
        }
    }
}

async fn read(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    request: hyper::Request<Full<Bytes>>,
) -> Result<Answer, FailReason> {
    let response = sender.send_request(request).await.map_err(answer)?;
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut read = Answer {
        status: response.status().as_u16(),
        content_type: content_type.unwrap_or_default().to_ascii_lowercase(),
        body: Vec::new(),
    };
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(answer)?;
        if !read.add(frame.data_ref().map_or(&[][..], |data| data)) {
            break;
        }
    }
    Ok(read)
}

fn answer(error: hyper::Error) -> FailReason {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    FailReason::Answer(text)
}

fn authority(host: &str, port: u16, tls: bool) -> String {
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    // RFC 9110 section 7.2: without the port when it is the scheme's own.
    if port == if tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
}

/// An answer's head may not be larger. hyper asks for 8 KiB at least.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::judge::judge;
    use super::*;
    use crate::config::settings::ProbeKind;
    use crate::pool::health::CheckOutcome;
    use crate::telemetry::metrics::Metrics;

    fn resolver() -> Arc<Resolver> {
        Arc::new(Resolver::new(Metrics::new().pool.lookups))
    }

    async fn ask_plainly(
        host: &str,
        port: u16,
        question: &Question<'_>,
        timeout: Duration,
    ) -> Result<Answer, FailReason> {
        let (resolver, host) = (&resolver(), &Name::from(host));
        ask(Way { resolver, host, port, tls: None, protocol: Protocol::H1 }, question, timeout).await
    }

    /// Asks and judges as a check of a path does.
    async fn check(host: &str, port: u16, path: &str, timeout: Duration) -> CheckOutcome {
        let question = Question { path, host: None, post: None, announced: false };
        let asked = ask_plainly(host, port, &question, timeout).await;
        let kind = ProbeKind::Http { status: None, body: None };
        match asked.and_then(|answer| judge(&kind, &answer)) {
            Ok(()) => CheckOutcome::Pass,
            Err(reason) => CheckOutcome::Fail(reason),
        }
    }

    /// What a node does with the one connection it gets.
    #[derive(Clone, Copy)]
    enum Node {
        Says(&'static str),
        SaysMuch,
        Drips,
        IsSilent,
        HangsUp,
    }

    /// Checks a node that behaves so; also returns what it was asked.
    async fn asked(node: Node, timeout: Duration) -> (CheckOutcome, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            match node {
                Node::Says(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                Node::SaysMuch => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                    while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
                }
                Node::Drips => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                    while stream.write_all(b"x").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                // Until the check gives up.
                Node::IsSilent => drop(stream.read_u8().await),
                Node::HangsUp => {}
            }
            String::from_utf8(asked).unwrap()
        };
        tokio::join!(check("127.0.0.1", port, "/about/health?x=1", timeout), serve)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn any_2xx_passes_and_nothing_else() {
        for (says, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", CheckOutcome::Pass),
            ("HTTP/1.1 204 No Content\r\n\r\n", CheckOutcome::Pass),
            ("HTTP/1.0 299 x\r\n\r\nuntil the end", CheckOutcome::Pass),
            ("HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n", CheckOutcome::Fail(FailReason::Status(503))),
            ("HTTP/1.1 302 there\r\nlocation: /\r\n\r\n", CheckOutcome::Fail(FailReason::Status(302))),
        ] {
            let (outcome, asked) = asked(Node::Says(says), LONG).await;
            assert_eq!(outcome, expected, "{says}");
            assert!(asked.starts_with("GET /about/health?x=1 HTTP/1.1\r\n"), "{asked}");
            assert!(
                asked.contains("host: 127.0.0.1:") && asked.contains("user-agent: roomgate\r\n"),
                "{asked}"
            );
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_none_fails_and_says_why() {
        for node in [
            Node::Says("SSH-2.0-OpenSSH\r\n\r\n"),
            Node::Says("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"),
            Node::HangsUp,
        ] {
            let (outcome, _) = asked(node, LONG).await;
            assert!(matches!(&outcome, CheckOutcome::Fail(FailReason::Answer(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_deadline_covers_head_and_body() {
        let short = Duration::from_millis(100);
        for node in [Node::IsSilent, Node::Drips] {
            let (outcome, _) = asked(node, short).await;
            assert_eq!(outcome, CheckOutcome::Fail(FailReason::Timeout(short)));
        }
    }

    #[tokio::test]
    async fn a_post_carries_its_body_and_the_host_that_it_is_told() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let question = Question {
            announced: false,
            path: "/http-bind",
            host: Some("meet.example.com"),
            post: Some(("text/xml", "<body/>")),
        };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"<body/>") {
                asked.push(stream.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Type: Text/XML\r\nContent-Length: 5\r\n\r\n<ok/>";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let (answer, asked) = tokio::join!(ask_plainly("127.0.0.1", port, &question, LONG), serve);
        let expected = Answer { status: 200, content_type: "text/xml".to_owned(), body: b"<ok/>".to_vec() };
        assert_eq!(answer, Ok(expected));
        assert!(asked.starts_with("POST /http-bind HTTP/1.1\r\n"), "{asked}");
        for line in ["host: meet.example.com\r\n", "content-type: text/xml\r\n", "content-length: 7\r\n"] {
            assert!(asked.contains(line), "{asked}");
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_read_to_its_end() {
        let (outcome, _) = asked(Node::SaysMuch, LONG).await;
        assert_eq!(outcome, CheckOutcome::Pass);
    }

    #[tokio::test]
    async fn nobody_there_is_connect_refused() {
        // Bound and not listening: refused for as long as the socket lives.
        let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = nobody.local_addr().unwrap().as_socket().unwrap().port();
        let refused = CheckOutcome::Fail(FailReason::ConnectRefused);
        assert_eq!(check("127.0.0.1", port, "/", LONG).await, refused);
        assert_eq!(tcp::check(&resolver(), &"127.0.0.1".into(), port, false, LONG).await, refused);
    }

    #[test]
    fn the_host_header_is_the_nodes_own() {
        for (host, port, expected) in [
            ("10.0.0.1", 80, "10.0.0.1"),
            ("shard.example", 8080, "shard.example:8080"),
            ("2001:db8::1", 80, "[2001:db8::1]"),
            ("[2001:db8::1]", 81, "[2001:db8::1]:81"),
        ] {
            assert_eq!(authority(host, port, false), expected);
            assert_eq!(authority("a", port, true), format!("a:{port}"));
        }
    }
}
