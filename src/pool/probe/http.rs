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
    match tokio::time::timeout(timeout, get(host, port, path)).await {
        Ok(Ok(())) => CheckOutcome::Pass,
        Ok(Err(reason)) => CheckOutcome::Fail(reason),
        Err(_) => CheckOutcome::Fail(FailReason::Timeout(timeout)),
    }
}

async fn get(host: &str, port: u16, path: &str) -> Result<(), FailReason> {
    let request = hyper::Request::get(path)
        .header(HOST, authority(host, port))
        .header(USER_AGENT, "roomgate")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| FailReason::Answer(format!("no request can be made: {e}")))?;
    let stream = tcp::connect(host, port).await?;
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
