//! The access log: one line a request, and one a WebSocket when it ends.
//!
//! [`format`] writes a line (pure); [`writer`] brings it to its file without anybody's waiting; this file gathers what
//! a line tells. Off unless the configuration has `access_log`; a site can keep its requests out of it.

mod format;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Version, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use super::headers;
use super::proxy::Request;
use super::stream::ConnMeta;
use crate::clock;
use crate::config::settings::{AccessLogSettings, Secret, Settings};
use crate::telemetry::metrics::AccessLogMetrics;
use crate::wire::http_head::Refusal;
pub(crate) use format::Tls;
use format::{End, Line, Record};
use writer::Queue;

/// The access log of the process.
#[derive(Debug)]
pub(super) struct AccessLog {
    queue: Arc<Queue>,
    /// Hashes addresses unless the configuration has a key.
    drawn: [u8; 16],
}

/// The line of a WebSocket, which is written when it ends.
#[derive(Debug)]
pub(super) struct Pending {
    line: Line,
    began: Instant,
    queue: Arc<Queue>,
    written: bool,
}

impl AccessLog {
    pub(super) fn new(metrics: AccessLogMetrics) -> Self {
        Self { queue: Arc::new(Queue::new(metrics)), drawn: rand::random() }
    }

    /// Follows the configuration. Lines on their way still go to the old file.
    pub(super) fn apply(&self, settings: &Settings) {
        let target = settings.access_log.as_ref().map(|log| log.target.clone());
        if let Err(error) = self.queue.set_target(target) {
            tracing::error!(%error, "no thread for the access log: its lines are lost and counted");
        }
    }

    /// Opens the file by its name: the old one has been renamed.
    pub(super) fn reopen(&self) {
        self.queue.reopen();
    }

    /// Writes what waits, at most for so long.
    pub(super) fn finish(&self, deadline: Duration) {
        self.queue.finish(deadline);
    }

    /// Writes the line of a request that has been answered.
    pub(super) fn request(&self, session: &Session, ctx: &Request) {
        let Some(log) = wanted(ctx) else { return };
        let client = &session.downstream_session;
        let end = End {
            bytes_in: Some(client.body_bytes_read() as u64),
            bytes_out: Some(client.body_bytes_sent() as u64),
            took: clock::now().duration_since(ctx.started),
            tunnel: None,
        };
        self.queue.push(&self.line(log, session.req_header(), ctx).end(&end));
    }

    /// Keeps the line of a WebSocket for its end.
    pub(super) fn websocket(&self, request: &RequestHeader, ctx: &Request) -> Option<Box<Pending>> {
        let log = wanted(ctx)?;
        let line = self.line(log, request, ctx);
        Some(Box::new(Pending { line, began: ctx.started, queue: Arc::clone(&self.queue), written: false }))
    }

    /// Writes the line of a request whose head was refused before anything of it was known.
    pub(super) fn refused(&self, settings: &Settings, conn: &ConnMeta, refusal: Refusal) {
        let Some(log) = &settings.access_log else { return };
        let record = Record {
            at: clock::wall(),
            client: &format::client(conn.peer.ip(), log.ip, &self.key(log)),
            listener: &conn.listener.name(),
            tls: conn.tls,
            status: refusal.status(),
            ..Record::default()
        };
        self.queue.push(&Line::begin(log.format, &log.redact, &record).end(&End::default()));
    }

    fn line(&self, log: &AccessLogSettings, request: &RequestHeader, ctx: &Request) -> Line {
        let field = |name| request.headers.get(name).map(http::HeaderValue::as_bytes);
        let listener = ctx.conn.as_ref().map(|conn| conn.listener.name()).unwrap_or_default();
        let region = ctx.node.as_ref().and_then(|node| node.region());
        let record = Record {
            // When it began, by the clock on the wall.
            at: clock::wall().saturating_sub(clock::now().duration_since(ctx.started)),
            client: &format::client(ctx.peer().ip(), log.ip, &self.key(log)),
            listener: &listener,
            site: ctx.site.as_ref().map(|site| &*site.name),
            host: headers::host_of(request),
            room: ctx.room.as_ref().map(|room| room.key.as_str()),
            pool: ctx.node.as_ref().map(|node| &*node.pool),
            node: ctx.node.as_ref().map(|node| &*node.name),
            region: region.as_deref(),
            route: ctx.matched.as_ref().map(|matched| &*matched.route.name),
            method: request.method.as_str(),
            target: request.raw_path(),
            http: version(request.version),
            status: ctx.status,
            referer: field(header::REFERER),
            user_agent: field(header::USER_AGENT),
            request_id: &ctx.id,
            tls: ctx.conn.as_ref().and_then(|conn| conn.tls),
            head_took: ctx.head_took,
            cache: ctx.cache.map(|told| told.outcome.as_str()),
        };
        Line::begin(log.format, &log.redact, &record)
    }

    fn key(&self, log: &AccessLogSettings) -> [u8; 16] {
        log.key.as_ref().map(Secret::expose).and_then(|key| key.try_into().ok()).unwrap_or(self.drawn)
    }
}

impl Pending {
    /// Writes the line: why it ended, and the bytes from and to the client if somebody counted.
    pub(super) fn end(&mut self, why: &'static str, bytes: Option<(u64, u64)>) {
        self.written = true;
        let end = End {
            bytes_in: bytes.map(|(bytes_in, _)| bytes_in),
            bytes_out: bytes.map(|(_, bytes_out)| bytes_out),
            took: clock::now().duration_since(self.began),
            tunnel: Some(why),
        };
        self.queue.push(&self.line.end(&end));
    }
}

impl Drop for Pending {
    /// The WebSocket was cut: its task ended before it could say why.
    fn drop(&mut self) {
        if !self.written {
            self.end("cut", None);
        }
    }
}

/// The log that a request belongs in.
fn wanted(ctx: &Request) -> Option<&AccessLogSettings> {
    let log = ctx.settings.access_log.as_ref()?;
    ctx.site.as_ref().is_none_or(|site| site.access_log).then_some(log)
}

/// Draws the id of a request.
pub(super) fn new_id() -> Box<str> {
    format!("{:032x}", rand::random::<u128>()).into()
}

/// Reads how a connection is encrypted.
pub(super) fn tls_of(connection: &ServerConnection) -> Tls {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(_) | None => "",
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    Tls {
        version,
        cipher: cipher.unwrap_or_default(),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
