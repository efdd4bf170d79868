//! The embedded conference: its page, its WebSockets, its WHIP and WHEP resources.
//!
//! [`crate::sfu::http::route`] says what a path is; this file carries it out at the HTTP side: entity tags, tokens
//! before places, bounded bodies, the WebSocket's 101. What a participant says is the SFU's business.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::headers::host_of;
use super::proxy::{Phases, Request, no_node, respond, write_whole};
use super::upgrade::{Asks, asks, early, refuse_early};
use crate::clock;
use crate::config::settings::{Auth, RoomRule, SiteSettings};
use crate::pool::Target;
use crate::rooms::{PlaceError, RequestView, RoomId, RoomKey, room_of};
use crate::sfu::auth::authorise;
use crate::sfu::http::{Asset, Route, route};
use crate::sfu::{BODY_BYTES_MAX, JoinContext, Resource, Sfu, SfuRequest};
use crate::wire::http_head::host_name;

/// A body must be whole this long after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Scripts of other sites may read refusals too, as they may read the SFU's own answers.
const CORS: (&str, &str) = ("Access-Control-Allow-Origin", "*");

impl Phases {
    /// Answers a request to a conference site. Always true: answered, or taken out of Pingora.
    pub(super) async fn conference(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        site: &Arc<SiteSettings>,
        auth: &Auth,
    ) -> pingora::Result<bool> {
        let request = session.req_header();
        let (method, path) = (request.method.clone(), request.uri.path().to_owned());
        match route(&method, &path) {
            Route::Page(asset) | Route::RoomPage { asset, .. } => page(session, ctx, asset).await,
            Route::NotFound => respond(session, ctx, StatusCode::NOT_FOUND, &[], "not found").await,
            Route::MethodNotAllowed(allow) => {
                let allow = [("Allow", allow)];
                respond(session, ctx, StatusCode::METHOD_NOT_ALLOWED, &allow, "not with this method").await
            }
            Route::WebSocket { .. } => self.participant(session, ctx, site, auth).await,
            Route::Whip { id, .. } => self.resource(session, ctx, site, auth, Resource::Whip, id).await,
            Route::Whep { id, .. } => self.resource(session, ctx, site, auth, Resource::Whep, id).await,
        }
    }

    /// Lets a participant in by WebSocket (RFC 6455 section 4.2).
    async fn participant(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        site: &Arc<SiteSettings>,
        auth: &Auth,
    ) -> pingora::Result<bool> {
        let Some(room) = room_at(site, session.req_header()) else {
            return respond(session, ctx, StatusCode::NOT_FOUND, &[], "not found").await;
        };
        ctx.room = Some(room.clone());
        let token = query_token(session.req_header());
        if let Err(error) =
            authorise(auth, &room.key, bearer(session.req_header()), token.as_deref(), clock::wall())
        {
            return unauthorised(session, ctx, error.status(), &error.to_string()).await;
        }
        let accept = match handshake(session.req_header()) {
            Ok(accept) => accept,
            Err((status, text)) => {
                let headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
                let headers = if status == StatusCode::UPGRADE_REQUIRED { &headers[..] } else { &[] };
                return respond(session, ctx, status, headers, text).await;
            }
        };
        if early(session) {
            return refuse_early(session, ctx).await;
        }
        let (Some(sfu), Some(join)) = (self.sfu(), self.seat(ctx, room).await?) else {
            return Err(no_node(&PlaceError::NoNode));
        };
        let Some(mut stream) = self.take_stream(session, ctx) else {
            return Err(Error::explain(ErrorType::InternalError, "a WebSocket without its stream"));
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let log = ctx.log.take();
        let participant = async move {
            if stream.write_all(answer.as_bytes()).await.is_ok() && stream.flush().await.is_ok() {
                sfu.serve_websocket(stream, join).await;
            }
            if let Some(mut log) = log {
                log.end("ended", None);
            }
        };
        // Boxed once: every wrapper around a future by value would make the task larger by its size.
        self.shared.tasks.spawn(self.connections.track_future(Box::pin(participant)));
        Ok(true)
    }

    /// Answers a WHIP or WHEP request.
    async fn resource(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        site: &Arc<SiteSettings>,
        auth: &Auth,
        resource: Resource,
        id: Option<&str>,
    ) -> pingora::Result<bool> {
        let Some(room) = room_at(site, session.req_header()) else {
            return respond(session, ctx, StatusCode::NOT_FOUND, &[CORS], "not found").await;
        };
        ctx.room = Some(room.clone());
        let method = session.req_header().method.clone();
        if method != Method::OPTIONS
            && let Err(error) = authorise(auth, &room.key, bearer(session.req_header()), None, clock::wall())
        {
            return unauthorised(session, ctx, error.status(), &error.to_string()).await;
        }
        let Some(sfu) = self.sfu() else {
            return Err(no_node(&PlaceError::NoNode));
        };
        let body = match tokio::time::timeout(BODY_TIMEOUT, whole_body(session)).await {
            Ok(Ok(Some(body))) => body,
            Ok(Ok(None)) => {
                session.downstream_session.set_keepalive(None);
                let text = format!("the body is longer than {BODY_BYTES_MAX} bytes");
                return respond(session, ctx, StatusCode::PAYLOAD_TOO_LARGE, &[CORS], &text).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                session.downstream_session.set_keepalive(None);
                return respond(session, ctx, StatusCode::REQUEST_TIMEOUT, &[CORS], "the body took too long")
                    .await;
            }
        };
        let request = session.req_header();
        let text = |name: HeaderName| {
            request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let mut request = SfuRequest {
            resource,
            path: request.uri.path().to_owned(),
            query: request.uri.query().map(str::to_owned),
            content_type: text(header::CONTENT_TYPE),
            if_match: text(header::IF_MATCH),
            id: id.map(str::to_owned),
            method,
            room: room.clone(),
            body,
            join: None,
        };
        if request.needs_place() {
            request.join = self.seat(ctx, room).await?;
        }
        let answer = sfu.http(request).await;
        let mut response = ResponseHeader::build(answer.status, Some(answer.headers.len() + 3))?;
        for (name, value) in answer.headers {
            response.append_header(name, value)?;
        }
        write_whole(session, ctx, response, answer.body).await
    }

    fn sfu(&self) -> Option<Sfu> {
        self.shared.parts.sfu.clone()
    }

    /// Holds the room at its worker. `None`: its node is not one of our workers.
    async fn seat(&self, ctx: &mut Request, mut room: RoomId) -> pingora::Result<Option<JoinContext>> {
        let rooms = &self.shared.parts.rooms;
        let mut held = rooms.hold(&room, clock::now());
        if held.is_err() {
            self.await_node(ctx).await;
            if let Some(now) = &ctx.room {
                room = now.clone();
            }
            held = rooms.hold(&room, clock::now());
        }
        let (node, hold) = held.map_err(|error| no_node(&error))?;
        ctx.node = Some(node.clone());
        Ok(match node.target {
            Target::Embedded { worker } => Some(JoinContext { room, worker, hold, open: node.open() }),
            Target::Http { .. } | Target::Tcp { .. } => None,
        })
    }
}

/// Answers with a file of the page, or 304 if the client has it.
async fn page(session: &mut Session, ctx: &mut Request, asset: &'static Asset) -> pingora::Result<bool> {
    let known = matches_etag(&session.req_header().headers, &asset.etag);
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = ResponseHeader::build(status, Some(asset.headers().len() + 5))?;
    if !known {
        response.insert_header(header::CONTENT_TYPE, asset.content_type)?;
    }
    response.insert_header(header::ETAG, asset.etag.as_str())?;
    for (name, value) in asset.headers() {
        response.insert_header(*name, *value)?;
    }
    write_whole(session, ctx, response, Bytes::from_static(asset.body)).await
}

/// Compares weakly (RFC 9110 section 13.1.2).
fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

async fn unauthorised(
    session: &mut Session,
    ctx: &mut Request,
    status: u16,
    text: &str,
) -> pingora::Result<bool> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED);
    let headers = [CORS, ("WWW-Authenticate", "Bearer")];
    let headers = if status == StatusCode::UNAUTHORIZED { &headers[..] } else { &headers[..1] };
    respond(session, ctx, status, headers, text).await
}

/// Checks a WebSocket handshake and returns `Sec-WebSocket-Accept`, or what the client is told.
fn handshake(request: &RequestHeader) -> Result<String, (StatusCode, &'static str)> {
    match asks(request) {
        Asks::Yes => {}
        Asks::No => return Err((StatusCode::UPGRADE_REQUIRED, "this is a WebSocket")),
        Asks::Wrongly => return Err((StatusCode::BAD_REQUEST, "malformed WebSocket handshake")),
    }
    if !same_host(request) {
        return Err((StatusCode::FORBIDDEN, "a page of another host may not join"));
    }
    let one = |name: &str| {
        let mut values = request.headers.get_all(name).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        first.filter(|_| values.next().is_none())
    };
    if one("sec-websocket-version") != Some("13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 is spoken here"));
    }
    // RFC 6455 section 4.2.1: 16 bytes in base64.
    let is_key = |key: &&str| {
        key.len() == 24
            && key.ends_with("==")
            && key.bytes().take(22).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
    };
    let key = one("sec-websocket-key").filter(is_key);
    key.map(|key| derive_accept_key(key.as_bytes()))
        .ok_or((StatusCode::BAD_REQUEST, "malformed WebSocket handshake"))
}

/// Browsers say which page asks; a page of somebody else may not use this visitor's address and cookies.
fn same_host(request: &RequestHeader) -> bool {
    let Some(origin) = request.headers.get(header::ORIGIN) else { return true };
    let host = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")))
        .and_then(|authority| host_name(authority.as_bytes()));
    host.is_some() && host == host_name(host_of(request))
}

/// Finds the room in the path, whatever rules the site has.
fn room_at(site: &SiteSettings, request: &RequestHeader) -> Option<RoomId> {
    let view = RequestView { path: request.uri.path(), query: None, header: &|_| None, text: &|_| None };
    let key: Option<RoomKey> = room_of(&[RoomRule::Conference], &view).ok().flatten();
    Some(RoomId { pool: site.pool.clone(), scope: site.name.clone(), key: key? })
}

fn bearer(request: &RequestHeader) -> Option<&str> {
    let value = request.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn query_token(request: &RequestHeader) -> Option<String> {
    let raw = request.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    percent_encoding::percent_decode_str(raw).decode_utf8().ok().map(|token| token.into_owned())
}

/// Reads a body of at most [`BODY_BYTES_MAX`]; `None`: it is longer.
async fn whole_body(session: &mut Session) -> pingora::Result<Option<Bytes>> {
    let headers = &session.req_header().headers;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|n| n > BODY_BYTES_MAX as u64) {
        return Ok(None);
    }
    let waits = headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits {
        session.downstream_session.write_continue_response().await?;
    }
    let mut body = BytesMut::new();
    while let Some(part) = session.downstream_session.read_request_body().await? {
        if body.len() + part.len() > BODY_BYTES_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Version;

    fn request(lines: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/rooms/a%20b/ws?x=1&token=a%2Bb", None).unwrap();
        request.set_version(Version::HTTP_11);
        request.append_header("Host", "sfu.example:8443").unwrap();
        for (name, value) in lines {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    const GOOD: [(&str, &str); 4] = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_handshake_is_checked() {
        // RFC 6455 section 1.3.
        assert_eq!(handshake(&request(&GOOD)).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let with = |name: &'static str, value: &'static str| {
            let lines: Vec<_> =
                GOOD.iter().copied().filter(|(n, _)| *n != name).chain([(name, value)]).collect();
            handshake(&request(&lines)).map_err(|(status, _)| status.as_u16())
        };
        for (name, value, status) in [
            ("Sec-WebSocket-Version", "12", 426),
            ("Sec-WebSocket-Key", "short", 400),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=!", 400),
            ("Upgrade", "h2c", 426),
            ("Connection", "close", 400),
            ("Origin", "https://evil.example", 403),
            ("Origin", "null", 403),
            ("Origin", "https://sfu.example.evil.example", 403),
        ] {
            assert_eq!(with(name, value), Err(status), "{name}: {value}");
        }
        for origin in ["https://sfu.example:8443", "https://SFU.example"] {
            assert!(with("Origin", origin).is_ok(), "{origin}");
        }
    }

    #[test]
    fn tokens_are_found_where_they_may_stand() {
        assert_eq!(query_token(&request(&[])).as_deref(), Some("a+b"));
        assert_eq!(bearer(&request(&[("Authorization", "bearer  x.y ")])), Some("x.y"));
        assert_eq!(bearer(&request(&[("Authorization", "Basic x")])), None);
    }

    #[test]
    fn an_entity_tag_is_compared_weakly() {
        for (value, known) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false)]
        {
            assert_eq!(
                matches_etag(&request(&[("If-None-Match", value)]).headers, "\"a\""),
                known,
                "{value}"
            );
        }
    }
}
