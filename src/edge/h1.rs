//! HTTP/1: the keep-alive loop of one connection, and the guard in front of Pingora's parser.
//!
//! Between requests a connection owns no buffer. Each raw head is bounded in bytes and time and checked
//! ([`crate::wire::http_head`]) before Pingora parses it; a refused one is answered in a short text and the
//! connection ends, for nothing after it can be trusted.

use bytes::{Buf, BytesMut};
use pingora::apps::HttpServerApp;
use pingora::protocols::Shutdown;
use pingora::protocols::http::ServerSession;

use super::front_door::Shard;
use super::headers;
use super::stream::FrontStream;
use crate::wire::http_head::{self, HeadScan, Refusal, RequestHead, Scan};

/// Serves a connection until it ends or leaves for a tunnel.
pub(super) async fn serve(shard: &std::sync::Arc<Shard>, mut stream: Box<FrontStream>) {
    let mut received = BytesMut::new();
    loop {
        let (head, length) = match next_head(shard, &mut stream, &mut received).await {
            Next::Request(head, length) => (head, length),
            Next::Refused(refusal) => {
                shard.shared.parts.metrics.heads_refused.with_label_values(&[refusal.as_str()]).inc();
                shard.shared.parts.metrics.requests.count(refusal.status());
                let client = stream.meta().peer.ip();
                shard.shared.limits.answered(&shard.shared.settings.load(), client, refusal.status());
                shard.shared.log.refused(&shard.shared.settings.load(), stream.meta(), refusal);
                return Box::pin(refuse(stream, refusal)).await;
            }
            Next::End => return Shutdown::shutdown(&mut *stream).await,
        };
        // An empty rest would keep the whole head's memory for as long as the connection lives.
        let ahead = if received.len() > length { received.split_off(length) } else { BytesMut::new() };
        stream.begin_request(head.framing, ahead);
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(std::mem::take(&mut received));
        let Some(reused) = shard.proxy.process_new_http(session, &shard.shutdown).await else { return };
        let Ok(back) = reused.consume().0.into_any().downcast::<FrontStream>() else { return };
        stream = back;
        match stream.end_request() {
            Some(ahead) => received = ahead,
            None => return Shutdown::shutdown(&mut *stream).await,
        }
    }
}

enum Next {
    /// A checked head and its length.
    Request(RequestHead, usize),
    Refused(Refusal),
    /// The client left, was silent for too long, or the process stops.
    End,
}

async fn next_head(shard: &Shard, stream: &mut FrontStream, received: &mut BytesMut) -> Next {
    let limits = stream.meta().listener.limits();
    if received.is_empty() {
        let first = tokio::select! {
            biased;
            first = tokio::time::timeout(limits.idle_timeout, stream.fill(received)) => first,
            () = shard.stopping.cancelled() => return Next::End,
        };
        if !matches!(first, Ok(Ok(n)) if n > 0) {
            return Next::End;
        }
    } else if shard.stopping.is_cancelled() {
        return Next::End;
    }
    match tokio::time::timeout(limits.head_timeout, whole_head(stream, received, limits.head_bytes_max)).await
    {
        Err(_) => Next::Refused(Refusal::Timeout),
        Ok(Next::Request(head, length)) if length > site_limit(shard, &received[..length], &head) => {
            Next::Refused(Refusal::TooLarge)
        }
        Ok(next) => next,
    }
}

async fn whole_head(stream: &mut FrontStream, received: &mut BytesMut, bytes_max: usize) -> Next {
    // RFC 9112 section 2.2: an empty line before a request is ignored. One is.
    while received.len() < 2 {
        if !matches!(stream.fill(received).await, Ok(n) if n > 0) {
            return Next::End;
        }
    }
    if received.starts_with(b"\r\n") {
        received.advance(2);
    }
    let mut scan = HeadScan::default();
    loop {
        match scan.advance(received) {
            Scan::Complete(length) if length <= bytes_max => {
                return match http_head::check_request(&received[..length]) {
                    Ok(head) => Next::Request(head, length),
                    Err(refusal) => Next::Refused(refusal),
                };
            }
            Scan::Refused(refusal) => return Next::Refused(refusal),
            Scan::Complete(_) => return Next::Refused(Refusal::TooLarge),
            Scan::Partial if received.len() >= bytes_max => return Next::Refused(Refusal::TooLarge),
            Scan::Partial => {}
        }
        if !matches!(stream.fill(received).await, Ok(n) if n > 0) {
            return Next::End;
        }
    }
}

/// Largest head for the site that the request names; the listener's own limit has been checked.
fn site_limit(shard: &Shard, bytes: &[u8], head: &RequestHead) -> usize {
    let Some(host) = head.host.clone().and_then(|range| http_head::host_name(&bytes[range])) else {
        return usize::MAX;
    };
    shard.shared.settings.load().sites.find(&host).map_or(usize::MAX, |site| site.head_bytes_max)
}

async fn refuse(mut stream: Box<FrontStream>, refusal: Refusal) {
    stream.refuse(&headers::plain_answer(refusal.status(), refusal.message())).await;
}
