//! The handshake of a WebSocket: asks the node inside the request, and leaves Pingora when it agrees.
//!
//! The node is dialled and answers while the request is still Pingora's: a 101 takes the client's stream out of
//! Pingora into a [`Tunnel`]; any other answer goes back as a normal response. Nothing is sent to the node before
//! its room is held, and nothing that the client sent too early is ever passed on (RFC 6455 section 4.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::destination_of;
use super::headers;
use super::proxy::{Phases, Request, for_node, front_stream_of, log_request, no_node, respond};
use super::stream::FrontStream;
use super::tunnel::{Greeting, Limits, Tunnel};
use crate::clock;
use crate::pool::{FailReason, Node, NodeStream, OpenGuard};
use crate::rooms::{Hold, PlaceError};
use crate::wire::http_body::Chunks;
use crate::wire::http_head::{self, Framing, HeadScan, ResponseHead, Scan, has_token};
use crate::wire::ws_frame::CloseCode;

/// Largest answer head of a node.
const ANSWER_HEAD_MAX: usize = 64 * 1024;
/// Interim answers (1xx) that are skipped.
const INTERIM_MAX: usize = 8;
/// How much is read at once of a refusal's body.
const PART: usize = 8 * 1024;

/// Whether a request asks for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// It does not.
    No,
    /// It does, by the rules.
    Yes,
    /// It names WebSockets in a way that means nothing.
    Wrongly,
}

/// Reads the intent of a request (RFC 6455 section 4.1).
pub(super) fn asks(request: &RequestHeader) -> Asks {
    let names = |name: HeaderName, token: &str| {
        request.headers.get_all(name).iter().any(|value| has_token(value.as_bytes(), token))
    };
    if !names(header::UPGRADE, "websocket") {
        return Asks::No;
    }
    let framed = request.headers.contains_key(header::TRANSFER_ENCODING)
        || request.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let right = request.method == Method::GET
        && request.version == Version::HTTP_11
        && names(header::CONNECTION, "upgrade")
        && !framed;
    if right { Asks::Yes } else { Asks::Wrongly }
}

/// A node that was dialled for a WebSocket.
struct Dialled {
    tcp: NodeStream,
    hold: Option<Hold>,
    open: OpenGuard,
}

/// A node's whole answer head, and what came behind it.
struct Answer {
    head: BytesMut,
    behind: BytesMut,
}

impl Phases {
    /// Carries a WebSocket handshake to the room's node. True: answered, or taken out of Pingora.
    pub(super) async fn upgrade(&self, session: &mut Session, ctx: &mut Request) -> pingora::Result<bool> {
        if early(session) {
            return refuse_early(session, ctx).await;
        }
        let timeouts = ctx.matched.as_ref().map(|matched| matched.route.timeouts.clone());
        let Some(timeouts) = timeouts else {
            return Err(Error::explain(ErrorType::InternalError, "a request without its route"));
        };
        // The session is watched for a client that leaves while the node is dialled.
        let request = session.req_header().clone();
        let destination = destination_of(session);
        let dialogue = async {
            let dialled = self.dial(ctx, destination, timeouts.connect).await?;
            // Only now: path and headers depend on the node.
            let head = request_head(&request, ctx)?;
            Ok((dialled, head))
        };
        let (dialled, head) = tokio::select! {
            dialled = dialogue => match dialled {
                Ok(dialled) => dialled,
                Err(error) => return Err(error),
            },
            gone = session.downstream_session.read_body_or_idle(true) => return Err(left(gone)),
        };
        let Dialled { mut tcp, hold, open } = dialled;
        let answer = tokio::select! {
            answer = tokio::time::timeout(timeouts.response, exchange(&mut tcp, &head)) => answer,
            gone = session.downstream_session.read_body_or_idle(true) => return Err(left(gone)),
        };
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return respond(session, ctx, StatusCode::BAD_GATEWAY, &[], "the node failed").await,
            Err(_) => {
                return respond(session, ctx, StatusCode::GATEWAY_TIMEOUT, &[], "the node took too long")
                    .await;
            }
        };
        let took = clock::now().duration_since(ctx.started);
        self.shared.parts.metrics.response_seconds.observe(took.as_secs_f64());
        ctx.head_took = Some(took);
        let Ok(parsed) = http_head::parse_response(&answer.head) else {
            return respond(session, ctx, StatusCode::BAD_GATEWAY, &[], "the node failed").await;
        };
        if parsed.status != 101 {
            return pass_on(session, ctx, tcp, &parsed, answer.behind.clone(), timeouts.response).await;
        }
        if !parsed.get("upgrade").is_some_and(|value| has_token(value, "websocket")) {
            return respond(session, ctx, StatusCode::BAD_GATEWAY, &[], "the node failed").await;
        }
        if early(session) {
            return refuse_early(session, ctx).await;
        }
        let mut greeting =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n".to_vec();
        let mut response = ResponseHeader::build(101, Some(parsed.headers.len() + 2))?;
        copy_headers(&mut response, &parsed)?;
        ctx.edit_response(session.req_header(), &mut response);
        append_headers(
            &mut greeting,
            response.case_header_iter().map(|(name, value)| (name.as_slice(), value.as_bytes())),
        );
        greeting.extend_from_slice(b"\r\n");
        let Some(client) = self.take_stream(session, ctx) else {
            return Err(Error::explain(ErrorType::InternalError, "a WebSocket without its stream"));
        };
        let Some(site) = ctx.site.clone() else {
            return Err(Error::explain(ErrorType::InternalError, "a request without its site"));
        };
        let room = ctx.room.as_ref().map(|room| room.key.clone());
        let ticket = self.tunnels.enter(open.node().clone(), site, room, ctx.peer().ip(), clock::now());
        tracing::debug!(tunnel = ticket.id(), "tunnel");
        // A ban that came while its node was asked, and whose closing of tunnels found none, is seen from here.
        if self.shared.limits.is_banned(ctx.peer().ip()) {
            self.shared.limits.count_kept_out("banned");
            ticket.close(CloseCode::PolicyViolation("not allowed"), clock::now());
        }
        let tunnel = Tunnel {
            log: ctx.log.take(),
            client,
            node: tcp,
            greeting: Greeting { head: greeting, frames: answer.behind.to_vec() },
            hold,
            open,
            ticket,
            limits: Limits { idle: timeouts.tunnel_idle, ping: timeouts.tunnel_ping },
            shared: self.shared.clone(),
        };
        // Boxed once: every wrapper around a future by value would make the task larger by its size.
        self.shared.tasks.spawn(self.connections.track_future(Box::pin(tunnel.run())));
        Ok(true)
    }

    /// Holds the room and connects to its node; once more if that node turns out to be down.
    async fn dial(
        &self,
        ctx: &mut Request,
        destination: Option<SocketAddr>,
        connect: Duration,
    ) -> pingora::Result<Dialled> {
        loop {
            let mut held = self.held(ctx);
            if held.is_err() {
                self.await_node(ctx).await;
                held = self.held(ctx);
            }
            let (node, hold) = held.map_err(|error| no_node(&error))?;
            let open = node.open();
            ctx.node = Some(node.clone());
            ctx.tries += 1;
            let dialled = async {
                let addresses = self.shared.addresses(&node, ctx.service()).await?;
                let announcement = self.shared.announcement_to(&node, ctx, || destination);
                self.shared.connect(&node, ctx.service(), &addresses, announcement.as_deref(), connect).await
            };
            match dialled.await {
                Ok(tcp) => {
                    // Both are hints: a tunnel works without them.
                    let _ = tcp.tcp().set_nodelay(true);
                    let _ = socket2::SockRef::from(tcp.tcp()).set_keepalive(true);
                    return Ok(Dialled { tcp, hold, open });
                }
                Err(reason) => {
                    let ours = matches!(reason, FailReason::Local(_));
                    let error = self.shared.connect_failed(&node, reason);
                    if ours || !self.may_retry(ctx) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Picks the node, and holds the room there if there is one.
    fn held(&self, ctx: &Request) -> Result<(Arc<Node>, Option<Hold>), PlaceError> {
        match ctx.placed_room().filter(|_| ctx.named.is_none()) {
            Some(room) => self
                .shared
                .parts
                .rooms
                .hold_as(room, &ctx.wish, clock::now())
                .map(|(node, hold)| (node, Some(hold))),
            None => self.pick(ctx).map(|node| (node, None)),
        }
    }

    /// Counts and logs the request as a 101 and takes its stream out of Pingora, which keeps a dummy.
    pub(super) fn take_stream(&self, session: &mut Session, ctx: &mut Request) -> Option<Box<FrontStream>> {
        ctx.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
        self.shared.parts.metrics.requests.count(ctx.status);
        log_request(session.req_header(), None, ctx);
        ctx.log = self.shared.log.websocket(session.req_header(), ctx);
        ctx.taken = true;
        let dummy = ServerSession::new_http1(Box::new(tokio::io::duplex(1).0));
        let ServerSession::H1(h1) = std::mem::replace(&mut *session.downstream_session, dummy) else {
            return None;
        };
        let mut stream = h1.into_inner().into_any().downcast::<FrontStream>().ok()?;
        stream.become_tunnel(ctx.seat.take());
        Some(stream)
    }
}

/// Tells whether the client sent anything behind its handshake.
pub(super) fn early(session: &Session) -> bool {
    front_stream_of(session).is_none_or(FrontStream::has_more_than_the_request)
}

/// Answers a client that did not wait for the 101. What it sent is not a request either: the connection ends.
pub(super) async fn refuse_early(session: &mut Session, ctx: &mut Request) -> pingora::Result<bool> {
    session.downstream_session.set_keepalive(None);
    respond(session, ctx, StatusCode::BAD_REQUEST, &[], "bytes before the handshake's answer").await
}

/// Makes an error of a client that ended its side during the handshake.
fn left(outcome: pingora::Result<Option<Bytes>>) -> Box<Error> {
    let mut error = match outcome {
        Err(error) => error,
        Ok(_) => Error::explain(ErrorType::ConnectionClosed, "the client left during its handshake"),
    };
    error.as_down();
    error
}

/// Writes the request head for the node, with our headers in place of the client's copies.
fn request_head(request: &RequestHeader, ctx: &Request) -> pingora::Result<Vec<u8>> {
    let mut rewritten = request.clone();
    for name in nominated(request) {
        rewritten.remove_header(&name);
    }
    rewritten.remove_header(&header::CONTENT_LENGTH);
    for_node(request, &mut rewritten, ctx)?;
    let mut head = b"GET ".to_vec();
    head.extend_from_slice(rewritten.raw_path());
    head.extend_from_slice(b" HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    append_headers(
        &mut head,
        rewritten.case_header_iter().map(|(name, value)| (name.as_slice(), value.as_bytes())),
    );
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Headers that `Connection` names: they speak about this connection only. Those of the handshake itself stay.
fn nominated(request: &RequestHeader) -> Vec<HeaderName> {
    let values = request.headers.get_all(header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| *name != header::HOST && !name.as_str().starts_with("sec-websocket-"))
        .collect()
}

/// Appends header lines, without those of one connection. Values have been checked when they came in.
fn append_headers<'a>(head: &mut Vec<u8>, lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in lines {
        let hop = std::str::from_utf8(name).is_ok_and(|n| headers::is_hop_by_hop(&n.to_ascii_lowercase()));
        if !hop {
            head.extend_from_slice(name);
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
    }
}

/// Copies the headers of a node's answer, without those of one connection.
fn copy_headers(response: &mut ResponseHeader, answer: &ResponseHead<'_>) -> pingora::Result<()> {
    for (name, value) in &answer.headers {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        if !headers::is_hop_by_hop(&name.to_ascii_lowercase()) {
            response.append_header(name.to_owned(), value)?;
        }
    }
    Ok(())
}

/// Sends the request and reads the answer's head. `None`: the node closed, or does not speak HTTP.
async fn exchange(tcp: &mut NodeStream, head: &[u8]) -> Option<Answer> {
    tcp.write_all(head).await.ok()?;
    tcp.flush().await.ok()?;
    let mut received = BytesMut::with_capacity(1024);
    for _ in 0..INTERIM_MAX {
        let mut scan = HeadScan::default();
        let length = loop {
            match scan.advance(&received) {
                Scan::Complete(length) => break length,
                Scan::Refused(_) => return None,
                Scan::Partial if received.len() >= ANSWER_HEAD_MAX => return None,
                Scan::Partial => {}
            }
            if tcp.read_buf(&mut received).await.ok()? == 0 {
                return None;
            }
        };
        let head = received.split_to(length);
        let status = http_head::parse_response(&head).ok()?.status;
        if status == 101 || status >= 200 {
            return Some(Answer { head, behind: received });
        }
    }
    None
}

/// Passes a node's refusal on: status, headers and body, as it comes.
async fn pass_on(
    session: &mut Session,
    ctx: &mut Request,
    mut tcp: NodeStream,
    answer: &ResponseHead<'_>,
    mut received: BytesMut,
    stall: Duration,
) -> pingora::Result<bool> {
    let bodiless = matches!(answer.status, 204 | 304);
    let mut response = ResponseHeader::build(answer.status, Some(answer.headers.len() + 2))?;
    copy_headers(&mut response, answer)?;
    ctx.edit_response(session.req_header(), &mut response);
    ctx.status = answer.status;
    let mut body = match answer.framing {
        _ if bodiless => Body::Length(0),
        Some(Framing::Length(length)) => Body::Length(length),
        Some(Framing::Chunked) => Body::Chunked(Chunks::default()),
        Some(Framing::None) | None => Body::UntilClose,
    };
    if matches!(body, Body::Chunked(_) | Body::UntilClose) {
        response.remove_header(&header::CONTENT_LENGTH);
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    // As it comes: a refusal may drip.
    if let Some(stream) = front_stream_of(session) {
        stream.send_at_once();
    }
    session.write_response_header(Box::new(response), body.is_over()).await?;
    while !body.is_over() {
        if received.is_empty() {
            received.reserve(PART);
            let read = tokio::time::timeout(stall, tcp.read_buf(&mut received)).await;
            match (read, &body) {
                (Ok(Ok(n)), _) if n > 0 => {}
                (Ok(Ok(_)), Body::UntilClose) => break,
                // Cut short: the client must not take it for whole.
                _ => {
                    session.downstream_session.shutdown().await;
                    return Err(Error::explain(
                        ErrorType::ConnectionClosed,
                        "the node's answer is cut short",
                    ));
                }
            }
        }
        let Some(part) = body.take(&mut received) else {
            session.downstream_session.shutdown().await;
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "the node's answer is malformed"));
        };
        if !part.is_empty() {
            session.write_response_body(Some(part), false).await?;
        }
    }
    session.write_response_body(None, true).await?;
    Ok(true)
}

/// What is left of a refusal's body.
enum Body {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

impl Body {
    fn is_over(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunks) => chunks.is_done(),
            Body::UntilClose => false,
        }
    }

    /// Takes the next run of data off what was received; `None`: malformed.
    fn take(&mut self, received: &mut BytesMut) -> Option<Bytes> {
        match self {
            Body::Length(left) => {
                let n = usize::try_from(*left).map_or(received.len(), |left| left.min(received.len()));
                *left -= n as u64;
                Some(received.split_to(n).freeze())
            }
            Body::Chunked(chunks) => {
                let (taken, data) = chunks.advance(received).ok()?;
                Some(received.split_to(taken).freeze().slice(data))
            }
            Body::UntilClose => Some(std::mem::take(received).freeze()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, lines: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, b"/ws?room=x", None).unwrap();
        request.set_version(Version::HTTP_11);
        for (name, value) in lines {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn only_a_get_with_both_headers_and_no_body_asks_for_a_websocket() {
        let both = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")];
        let with = |extra: (&'static str, &'static str)| request("GET", &[both[0], both[1], extra]);
        for (request, expected) in [
            (request("GET", &[]), Asks::No),
            (request("GET", &[("Upgrade", "h2c"), ("Connection", "Upgrade")]), Asks::No),
            (request("GET", &both), Asks::Yes),
            (with(("Content-Length", "0")), Asks::Yes),
            (with(("Content-Length", "5")), Asks::Wrongly),
            (with(("Transfer-Encoding", "chunked")), Asks::Wrongly),
            (request("POST", &both), Asks::Wrongly),
            (request("GET", &both[1..]), Asks::Wrongly),
        ] {
            assert_eq!(asks(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn what_connection_names_goes_but_for_the_handshake() {
        let request = request("GET", &[("Connection", "Upgrade, X-Custom, Sec-WebSocket-Key, Host, a b")]);
        let names: Vec<String> = nominated(&request).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["upgrade", "x-custom"]);
    }
}
