//! The HTTP check: one connection, one GET, a 2xx and a whole answer within the deadline.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;

use super::tcp;
use crate::pool::health::{CheckOutcome, FailReason};

/// Asks `http://host:port/path`. `timeout` bounds everything from resolving to the last byte that is read.
pub async fn check(host: &str, port: u16, path: &str, timeout: Duration) -> CheckOutcome {
    match tokio::time::timeout(timeout, get(host, port, path, timeout)).await {
        Ok(Ok(())) => CheckOutcome::Pass,
        Ok(Err(reason)) => CheckOutcome::Fail(reason),
        Err(_) => CheckOutcome::Fail(FailReason::Timeout(timeout)),
    }
}

async fn get(host: &str, port: u16, path: &str, timeout: Duration) -> Result<(), FailReason> {
    let request = hyper::Request::get(path)
        .header(HOST, authority(host, port))
        .header(USER_AGENT, "roomgate")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| FailReason::Answer(format!("no request can be made: {e}")))?;
    let stream = tcp::connect(host, port, timeout).await?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(answer)?;
    // Driven right here rather than spawned: when the deadline drops this future, the connection goes with it.
    let mut connection = std::pin::pin!(connection);
    let exchange = std::pin::pin!(exchange(&mut sender, request));
    match futures_util::future::select(exchange, connection.as_mut()).await {
        futures_util::future::Either::Left((result, _)) => result,
        // The connection may end together with the last byte of the answer: what is left needs no connection.
        futures_util::future::Either::Right((ended, exchange)) => {
            ended.map_err(answer)?;
            exchange.await
        }
    }
}

async fn exchange(
    sender: &mut hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    request: hyper::Request<Empty<Bytes>>,
) -> Result<(), FailReason> {
    let response = sender.send_request(request).await.map_err(answer)?;
    if !response.status().is_success() {
        return Err(FailReason::Status(response.status().as_u16()));
    }
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.map_err(answer)?.data_ref().map_or(0, Bytes::len);
        if read > BODY_BYTES_MAX {
            // It talks, and what it says is of no interest.
            break;
        }
    }
    Ok(())
}

fn answer(error: hyper::Error) -> FailReason {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    FailReason::Answer(text)
}

fn authority(host: &str, port: u16) -> String {
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    // RFC 9110 section 7.2: without the port when it is the scheme's own.
    if port == 80 { host } else { format!("{host}:{port}") }
}

/// An answer's head may not be larger. hyper asks for 8 KiB at least.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// More of a body is not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

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
    async fn ask(node: Node, timeout: Duration) -> (CheckOutcome, String) {
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
            let (outcome, asked) = ask(Node::Says(says), LONG).await;
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
            let (outcome, _) = ask(node, LONG).await;
            assert!(matches!(&outcome, CheckOutcome::Fail(FailReason::Answer(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_deadline_covers_head_and_body() {
        let short = Duration::from_millis(100);
        for node in [Node::IsSilent, Node::Drips] {
            let (outcome, _) = ask(node, short).await;
            assert_eq!(outcome, CheckOutcome::Fail(FailReason::Timeout(short)));
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_read_to_its_end() {
        let (outcome, _) = ask(Node::SaysMuch, LONG).await;
        assert_eq!(outcome, CheckOutcome::Pass);
    }

    #[tokio::test]
    async fn nobody_there_is_connect_refused() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = CheckOutcome::Fail(FailReason::ConnectRefused);
        assert_eq!(check("127.0.0.1", port, "/", LONG).await, refused);
        assert_eq!(tcp::check("127.0.0.1", port, LONG).await, refused);
    }

    #[test]
    fn the_host_header_is_the_nodes_own() {
        for (host, port, expected) in [
            ("10.0.0.1", 80, "10.0.0.1"),
            ("shard.example", 8080, "shard.example:8080"),
            ("2001:db8::1", 80, "[2001:db8::1]"),
            ("[2001:db8::1]", 81, "[2001:db8::1]:81"),
        ] {
            assert_eq!(authority(host, port), expected);
        }
    }
}
