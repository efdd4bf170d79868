//! The phases of a request inside Pingora: site, room, node, headers, answer.
//!
//! Every request works on the configuration that was current when its head arrived. A host that no site serves gets
//! 421 (RFC 9110 section 15.5.20): a browser that reused a connection for another name then opens its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::compression::ResponseCompressionBuilder;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::access_log;
use super::cache;
use super::compress;
use super::dial::{self, Dialer};
use super::forwarded::Via;
use super::headers::{self, Origin};
use super::json_edit::JsonEdit;
use super::learn::Learning;
use super::limits;
use super::peer::peer;
use super::route::{Goes, Matched};
use super::stream::{ConnMeta, FrontStream};
use super::tunnels::TunnelShard;
use super::upgrade::{self, Asks};
use crate::clock;
use crate::config::settings::{App, ListenerLimits, Name, Settings, SiteSettings};
use crate::pool::{FailReason, Node, OpenGuard, Wish};
use crate::rooms::{PlaceError, RoomId};
use crate::telemetry::redact;

/// Nodes tried for one request, the first one included, whatever its route says.
const TRIES_MAX: u8 = 5;
/// Idle connections kept towards nodes, per thread.
const IDLE_TO_NODES_MAX: usize = 256;
/// Largest HTTP/2 head of all, whatever a listener allows: a connection may have a hundred under way.
const HTTP2_HEAD_MAX: u32 = 128 * 1024;
/// What a client is told to wait when no node can serve, in seconds.
const RETRY_AFTER: &str = "2";

/// Builds one thread's proxy, with its own connections towards nodes.
pub(super) fn new_proxy(
    shared: &Arc<Shared>,
    stopping: &CancellationToken,
    connections: &TaskTracker,
    tunnels: &Arc<TunnelShard>,
) -> HttpProxy<Phases> {
    let conf = ServerConf {
        threads: 1,
        max_retries: usize::from(TRIES_MAX),
        upstream_keepalive_pool_size: IDLE_TO_NODES_MAX,
        ..ServerConf::default()
    };
    let connector = cache::connector(&conf);
    http_proxy(
        &Arc::new(conf),
        Phases {
            shared: shared.clone(),
            stopping: stopping.clone(),
            connections: connections.clone(),
            tunnels: tunnels.clone(),
            connector,
        },
    )
}

/// One HTTP/2 connection's way into Pingora, with its listener's limits as they are when it begins: HTTP/2 settings are
/// agreed once.
pub(super) struct Http2 {
    proxy: Arc<HttpProxy<Phases>>,
    head_bytes_max: u32,
    streams_max: u32,
    options: HttpServerOptions,
}

impl Http2 {
    pub(super) fn new(proxy: Arc<HttpProxy<Phases>>, limits: &ListenerLimits) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.idle_timeout);
        let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX).min(HTTP2_HEAD_MAX);
        Self { proxy, head_bytes_max, streams_max: limits.streams_max, options }
    }
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        // From Pingora's bounded defaults, tighter: a browser needs no more.
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(self.streams_max)
            .max_header_list_size(self.head_bytes_max)
            .initial_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_send_buffer_size(64 * 1024);
        Some(h2)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Carries out the phases.
pub(super) struct Phases {
    pub(super) shared: Arc<Shared>,
    /// The thread's own token: fires when the process stops.
    pub(super) stopping: CancellationToken,
    /// What the thread waits for before it ends.
    pub(super) connections: TaskTracker,
    /// The thread's tunnels.
    pub(super) tunnels: Arc<TunnelShard>,
    /// The thread's connections to nodes for what is to be kept.
    pub(super) connector: Arc<cache::Connector>,
}

/// What is known about one request.
pub(super) struct Request {
    pub(super) started: Instant,
    pub(super) settings: Arc<Settings>,
    pub(super) conn: Option<Arc<ConnMeta>>,
    /// What a trusted peer said of it.
    pub(super) via: Option<Box<Via>>,
    pub(super) site: Option<Arc<SiteSettings>>,
    /// The host that the request is for, without its port.
    pub(super) host: String,
    /// The route that takes it.
    pub(super) matched: Option<Matched>,
    pub(super) room: Option<RoomId>,
    /// The node that the route names, instead of a choice.
    pub(super) named: Option<Name>,
    /// What a room that gets a place now would like.
    pub(super) wish: Wish,
    /// Bytes of the body so far.
    body_bytes: u64,
    /// An own page stands for what the node answered.
    pub(super) replaces_body: bool,
    /// That page, until it is sent.
    pub(super) page_left: Option<Bytes>,
    pub(super) node: Option<Arc<Node>>,
    /// Counts the request at its node.
    open: Option<OpenGuard>,
    /// Nodes tried so far.
    pub(super) tries: u8,
    /// Status of the answer; 0 until there is one.
    pub(super) status: u16,
    /// Names the request in the access log and to the node.
    pub(super) id: Box<str>,
    /// From the request to the head of the node's answer; `None` until it is there.
    pub(super) head_took: Option<Duration>,
    /// Counts a WebSocket among those of its room.
    pub(super) seat: Option<limits::Seat>,
    /// The access log's line of a WebSocket, on its way to whoever carries it.
    pub(super) log: Option<Box<access_log::Pending>>,
    /// What became of it in the cache, if its route has one.
    pub(super) cache: Option<cache::Told>,
    /// The connection has left Pingora: nothing of the session may be asked any more.
    pub(super) taken: bool,
    /// The answer so far, if it may name a room.
    learning: Option<Box<Learning>>,
    /// The answer, while it is held to be changed.
    json_edit: Option<Box<JsonEdit>>,
}

impl Request {
    /// Returns the client: who connected, or whom those that are believed say they speak for.
    pub(super) fn peer(&self) -> SocketAddr {
        self.via.as_ref().map_or_else(|| self.connected(), |via| via.client)
    }

    /// Returns who connected; behind a PROXY header, its client.
    fn connected(&self) -> SocketAddr {
        self.conn.as_ref().map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |conn| conn.peer)
    }

    /// Returns what nodes are told of where the request came from.
    pub(super) fn origin<'a>(&'a self, request: &'a RequestHeader) -> Origin<'a> {
        Origin {
            peer: self.connected(),
            via: self.via.as_deref(),
            tls: self.is_tls(),
            host: headers::host_of(request),
            id: &self.id,
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| conn.listener.is_tls())
    }
}

impl Request {
    /// Holds an answer whose route changes members of its JSON. One without a body stays as it is.
    fn begin_json_edit(&mut self, request: &RequestHeader, response: &mut ResponseHeader) {
        let Some(route) = self.matched.as_ref().map(|matched| matched.route.clone()) else { return };
        if route.set_json.is_empty() || request.method == http::Method::HEAD {
            return;
        }
        let values = self.values(request);
        let members = route.set_json.iter();
        let members =
            members.map(|(name, text)| (name.to_string(), values.expand(text, Goes::Target))).collect();
        self.json_edit = JsonEdit::begin(response, members).map(Box::new);
    }

    /// Tells the node who the client is, where its site wants that.
    pub(super) fn identify(&self, request: &mut RequestHeader) -> pingora::Result<()> {
        let rule = self.site.as_ref().and_then(|site| site.client_certificate.as_ref());
        let client = self.conn.as_ref().and_then(|conn| conn.client.as_ref());
        let header = rule.and_then(|rule| rule.header.as_deref());
        let own = header.zip(client.and_then(|client| client.subject.as_ref()));
        headers::identify(request, &self.settings.sites.client_headers, own)
    }
}

impl Phases {
    /// Picks the node of the next try.
    pub(super) fn pick(&self, ctx: &Request) -> Result<Arc<Node>, PlaceError> {
        let rooms = &self.shared.parts.rooms;
        if ctx.named.is_none()
            && let Some(room) = ctx.placed_room()
        {
            return rooms.place_as(room, &ctx.wish, clock::now());
        }
        let pool = ctx.matched.as_ref().and_then(Matched::pool).ok_or(PlaceError::UnknownPool)?;
        let pool = self.shared.parts.pools.get(pool).ok_or(PlaceError::UnknownPool)?;
        if let Some(name) = &ctx.named {
            let node = pool.node(name).filter(|node| node.can_serve());
            return node.cloned().ok_or(PlaceError::NoNode);
        }
        // Where the room lives, if it lives: this request alone gives it no place.
        if let Some(room) = &ctx.room
            && let Some(node) = rooms.find(room, Some(clock::now()))
        {
            return Ok(node);
        }
        // A second try goes to another node if there is one.
        let failed = ctx.node.as_ref().filter(|_| ctx.tries > 0);
        pool.least_open(&ctx.wish, failed).ok_or(PlaceError::NoNode)
    }

    /// Makes the error of a request whose node could not be reached, and says whether it may try once more.
    fn failed(&self, ctx: &Request, node: &Node, reason: FailReason) -> Box<Error> {
        let ours = matches!(reason, FailReason::Local(_));
        let mut error = self.shared.connect_failed(node, reason);
        error.set_retry(!ours && self.may_retry(ctx));
        error
    }

    /// Gives a request that found no node a second chance during a reload: its site may have another pool by now, and
    /// the nodes of a pool may be waiting for their first check.
    pub(super) async fn await_node(&self, ctx: &mut Request) {
        let Some(site) = &ctx.site else { return };
        let pool_of = |ctx: &Request| ctx.matched.as_ref().and_then(Matched::pool).cloned();
        if pool_of(ctx).is_some_and(|pool| self.shared.parts.pools.get(&pool).is_none()) {
            let settings = self.shared.settings.load_full();
            let same = |now: &&Arc<SiteSettings>| now.name == site.name && now.app == site.app;
            if let Some(now) = settings.sites.find(&ctx.host).filter(same).cloned() {
                if let Some(matched) = &mut ctx.matched {
                    let named = now.routes.iter().find(|route| route.name == matched.route.name);
                    matched.route = named.unwrap_or(&now.rest).clone();
                }
                if let (Some(pool), Some(room)) = (pool_of(ctx), &mut ctx.room) {
                    room.pool = pool;
                }
                ctx.settings = settings;
                ctx.site = Some(now);
            }
        }
        if let Some(pool) = pool_of(ctx) {
            self.shared.parts.pools.wait_for_first_checks(&pool).await;
        }
    }

    /// Gives the room that an answer names its place at the node that answered.
    fn learn(&self, ctx: &Request, answer: &Learning) {
        let (Some(matched), Some(site), Some(node)) = (&ctx.matched, &ctx.site, &ctx.node) else { return };
        let Some(key) = matched.route.learn.as_ref().and_then(|rule| answer.room(rule)) else { return };
        let room = RoomId { pool: node.pool.clone(), scope: site.name.clone(), key };
        if !self.shared.parts.rooms.learn(&room, node, clock::now()) {
            tracing::debug!(room = %room.key, node = %node.name, "a room that was named lives elsewhere");
        }
    }

    /// Tells whether a request may go to a node once more after a connect failed: nothing has been sent yet. A room
    /// moves only when its node is down, and then as a whole.
    pub(super) fn may_retry(&self, ctx: &Request) -> bool {
        let tries = ctx.matched.as_ref().map_or(1, |matched| 1 + matched.route.retries).min(TRIES_MAX);
        ctx.tries < tries
            && (ctx.placed_room().is_none() || ctx.node.as_ref().is_none_or(|node| !node.can_serve()))
    }
}

#[async_trait]
impl ProxyHttp for Phases {
    type CTX = Box<Request>;

    fn new_ctx(&self) -> Self::CTX {
        Box::new(Request {
            started: clock::now(),
            settings: self.shared.settings.load_full(),
            conn: None,
            via: None,
            site: None,
            host: String::new(),
            matched: None,
            room: None,
            named: None,
            wish: Wish::NONE,
            body_bytes: 0,
            replaces_body: false,
            page_left: None,
            node: None,
            open: None,
            tries: 0,
            status: 0,
            id: access_log::new_id(),
            head_took: None,
            seat: None,
            log: None,
            cache: None,
            taken: false,
            learning: None,
            json_edit: None,
        })
    }

    fn init_downstream_modules(&self, modules: &mut pingora::modules::http::HttpModules) {
        // Off until a route wants it.
        modules.add_module(ResponseCompressionBuilder::enable(0));
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<bool> {
        if self.admit(session, ctx).await? {
            return Ok(true);
        }
        if let Some(site) = ctx.site.clone()
            && let App::Conference { auth } = &site.app
            && ctx.matched.as_ref().is_none_or(|matched| Arc::ptr_eq(&matched.route, &site.rest))
        {
            return self.conference(session, ctx, &site, auth).await;
        }
        match upgrade::asks(session.req_header()) {
            Asks::No => self.cached(session, ctx).await,
            Asks::Yes => self.upgrade(session, ctx).await,
            Asks::Wrongly => {
                respond(session, ctx, StatusCode::BAD_REQUEST, &[], "malformed WebSocket handshake").await
            }
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Box<HttpPeer>> {
        let mut picked = self.pick(ctx);
        if picked.is_err() {
            self.await_node(ctx).await;
            picked = self.pick(ctx);
        }
        let node = picked.map_err(|error| no_node(&error))?;
        ctx.open = Some(node.open());
        ctx.node = Some(node.clone());
        ctx.tries += 1;
        let addresses = match self.shared.addresses(&node, ctx.service()).await {
            Ok(addresses) => addresses,
            Err(reason) => return Err(self.failed(ctx, &node, reason)),
        };
        let Some(timeouts) = ctx.matched.as_ref().map(|matched| &matched.route.timeouts) else {
            return Err(Error::explain(ErrorType::InternalError, "a request without its route"));
        };
        let timeout = timeouts.connect;
        let announcement = self.shared.announcement(&node, ctx, session);
        let mut peer = match peer(
            &node,
            ctx.service(),
            &addresses,
            announcement.as_deref(),
            (timeout, timeouts.response),
        ) {
            Ok(peer) => peer,
            Err(reason) => return Err(self.failed(ctx, &node, reason)),
        };
        peer.options.custom_l4 =
            Some(Arc::new(Dialer { shared: self.shared.clone(), node, addresses, announcement, timeout }));
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        for_node(session.req_header(), request, ctx)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        ctx.body_bytes += body.as_ref().map_or(0, |body| body.len() as u64);
        let max = ctx.matched.as_ref().and_then(|matched| matched.route.body_bytes_max);
        if max.is_some_and(|max| ctx.body_bytes > max) {
            let status = StatusCode::PAYLOAD_TOO_LARGE.as_u16();
            return Err(Error::explain(
                ErrorType::HTTPStatus(status),
                "the body is longer than the route allows",
            ));
        }
        // Pingora writes an empty last part as a chunk, and then the last chunk once more: the connection towards the
        // node would be out of step.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        ctx.status = response.status.as_u16();
        let took = clock::now().duration_since(ctx.started);
        self.shared.parts.metrics.response_seconds.observe(took.as_secs_f64());
        ctx.head_took = Some(took);
        self.note_changed(session.req_header(), ctx);
        if ctx.matched.as_ref().is_some_and(|matched| matched.route.learn.is_some()) {
            ctx.learning = Learning::begin(response).map(Box::new);
        }
        ctx.begin_json_edit(session.req_header(), response);
        ctx.begin_error_page(session.req_header(), response)?;
        if let Some(told) = ctx.cache {
            response.append_header("Cache-Status", told.text())?;
        }
        ctx.edit_response(session.req_header(), response);
        compress::reconsider(session, ctx, response);
        // RFC 9112 section 7.1: an HTTP/1.0 client does not know chunks; its body ends with the connection.
        let unframed = session.req_header().version == Version::HTTP_10
            && response.remove_header(&header::TRANSFER_ENCODING).is_some();
        if unframed || self.stopping.is_cancelled() {
            session.downstream_session.set_keepalive(None);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(learning) = &mut ctx.learning {
            learning.take(body.as_deref().unwrap_or_default());
            // Before the last part leaves: the client may use the name as soon as it has it.
            if end_of_stream && let Some(learning) = ctx.learning.take() {
                self.learn(ctx, &learning);
            }
        }
        if let Some(edit) = &mut ctx.json_edit {
            match edit.take(body.as_deref().unwrap_or_default()) {
                Some(all) => {
                    ctx.json_edit = None;
                    *body = Some(all);
                }
                None if end_of_stream => *body = ctx.json_edit.take().map(|edit| edit.end()),
                None => *body = None,
            }
        }
        // The page goes out with the first part of what the node says instead; the rest is dropped.
        if ctx.replaces_body {
            *body = Some(ctx.page_left.take().unwrap_or_default());
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Self::CTX,
        error: Box<Error>,
    ) -> Box<Error> {
        match &ctx.node {
            Some(node) => {
                let route = ctx.matched.as_ref().map(|matched| &matched.route);
                let timeout = route.map(|route| route.timeouts.connect).unwrap_or_default();
                self.failed(ctx, node, dial::reason_of(&error, timeout))
            }
            None => error,
        }
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy
    where
        Self::CTX: Send + Sync,
    {
        let failed = FailToProxy { error_code: 0, can_reuse_downstream: false };
        if ctx.taken {
            return failed;
        }
        let broken_body = front_stream_of(session).is_some_and(FrontStream::is_body_broken);
        let Some((status, text)) = answer_to(error, broken_body) else { return failed };
        session.downstream_session.set_keepalive(None);
        if session.response_written().is_none_or(|r| r.status.is_informational()) {
            let retry = [("Retry-After", RETRY_AFTER)];
            let headers = if status == StatusCode::SERVICE_UNAVAILABLE { &retry[..] } else { &[] };
            let _ = respond(session, ctx, status, headers, text).await;
        }
        if !session.downstream_session.is_http2() {
            // Pingora drops a failed connection as it is; ours says goodbye, so that the answer arrives.
            session.downstream_session.shutdown().await;
        }
        FailToProxy { error_code: status.as_u16(), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX)
    where
        Self::CTX: Send + Sync,
    {
        if ctx.taken {
            return;
        }
        if ctx.status == 0 {
            ctx.status = session.response_written().map_or(0, |response| response.status.as_u16());
        }
        self.shared.parts.metrics.requests.count(ctx.status);
        log_request(session.req_header(), error, ctx);
        self.note_cached(ctx);
        // Once more: a node may have changed it only while it answered.
        self.note_changed(session.req_header(), ctx);
        self.shared.log.request(session, ctx);
        self.shared.limits.answered(&ctx.settings, ctx.peer().ip(), ctx.status);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Self::CTX,
        _error: &Error,
        _log_ctx: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Answers a request for a challenge that is not there.
/// Writes a short answer of our own. Returns true: answered.
pub(super) async fn respond(
    session: &mut Session,
    ctx: &mut Request,
    status: StatusCode,
    headers: &[(&'static str, &str)],
    text: &str,
) -> pingora::Result<bool> {
    let body = Bytes::from(format!("{text}\n"));
    let mut response = ResponseHeader::build(status, Some(headers.len() + 4))?;
    response.insert_header("Content-Type", "text/plain; charset=utf-8")?;
    for (name, value) in headers {
        response.insert_header(*name, *value)?;
    }
    write_whole(session, ctx, response, body).await
}

/// Writes an answer whose body is at hand. Returns true: answered.
pub(super) async fn write_whole(
    session: &mut Session,
    ctx: &mut Request,
    mut response: ResponseHeader,
    mut body: Bytes,
) -> pingora::Result<bool> {
    if let Some(page) = ctx.error_page(response.status) {
        response.insert_header("Content-Type", &*page.content_type)?;
        body = page.body;
    }
    let bare = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !bare {
        response.insert_header("Content-Length", body.len().to_string())?;
    }
    ctx.edit_response(session.req_header(), &mut response);
    compress::reconsider(session, ctx, &response);
    ctx.status = response.status.as_u16();
    let without_body = bare || body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(response), without_body).await?;
    if !without_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(true)
}

/// Makes of a client's request the one that its node gets: path, what only an edge may say, the route's changes.
pub(super) fn for_node(from: &RequestHeader, to: &mut RequestHeader, ctx: &Request) -> pingora::Result<()> {
    let rewrite = ctx.rewrite();
    if let Some(rewrite) = rewrite {
        to.set_raw_path(ctx.values(from).expand(rewrite, Goes::Target).as_bytes())?;
    } else if to.raw_path().first().is_some_and(|b| !matches!(b, b'/' | b'*')) {
        // Absolute-form is for proxies; a node gets origin-form.
        let target = to.uri.path_and_query().map_or("/", |t| t.as_str()).to_owned();
        to.set_raw_path(target.as_bytes())?;
    }
    headers::rewrite(to, &ctx.origin(from))?;
    if ctx.matched.as_ref().is_some_and(|matched| !matched.route.set_json.is_empty()) {
        // Only what is not encoded can be changed.
        to.remove_header(&header::ACCEPT_ENCODING);
    }
    ctx.identify(to)?;
    if let Some(matched) = ctx.matched.as_ref().filter(|matched| !matched.route.request_headers.is_empty()) {
        headers::edit(to, &matched.route.request_headers, &ctx.values(from));
    }
    Ok(())
}

/// Writes one line about a request, at debug level only: it is about a person.
pub(super) fn log_request(request: &RequestHeader, error: Option<&Error>, ctx: &Request) {
    let proxied = ctx.conn.as_ref().and_then(|conn| conn.proxied.as_ref());
    tracing::debug!(
        method = %request.method,
        target = redact::target(&String::from_utf8_lossy(request.raw_path())),
        host = %String::from_utf8_lossy(headers::host_of(request)),
        client = %redact::network(ctx.peer().ip()),
        via = proxied.map(|proxied| tracing::field::display(proxied.via)),
        via_id = proxied.and_then(|proxied| proxied.unique_id()),
        status = ctx.status,
        node = ctx.node.as_ref().map(|node| &*node.name),
        error = error.map(tracing::field::display),
        took_ms = clock::now().duration_since(ctx.started).as_millis(),
        "request"
    );
}

pub(super) fn front_stream_of(session: &Session) -> Option<&FrontStream> {
    session.downstream_session.stream()?.as_any().downcast_ref()
}

pub(super) fn connection_of(session: &Session) -> Option<Arc<ConnMeta>> {
    if let Some(stream) = front_stream_of(session) {
        return Some(stream.meta().clone());
    }
    let digest = session.downstream_session.digest()?.proxy_digest.as_ref()?;
    digest.user_data.as_ref()?.downcast_ref::<Arc<ConnMeta>>().cloned()
}

pub(super) fn no_node(error: &PlaceError) -> Box<Error> {
    unavailable(error.to_string())
}

/// Makes the error of a request that may come again soon.
pub(super) fn unavailable(why: String) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(StatusCode::SERVICE_UNAVAILABLE.as_u16()), why)
}

/// Decides what a client is told about an error; `None`: nobody is there to be told.
fn answer_to(error: &Error, broken_body: bool) -> Option<(StatusCode, &'static str)> {
    if broken_body {
        return Some((StatusCode::BAD_REQUEST, "malformed request body"));
    }
    if let ErrorType::HTTPStatus(code) = error.etype() {
        let status = StatusCode::from_u16(*code).ok()?;
        let no_node = status == StatusCode::SERVICE_UNAVAILABLE;
        return Some((status, if no_node { "no node can serve this now" } else { "refused" }));
    }
    let is = |kinds: &[ErrorType]| kinds.contains(error.etype());
    match error.esource() {
        ErrorSource::Downstream if is(GONE) => None,
        ErrorSource::Downstream if is(&[ErrorType::ReadTimedout]) => {
            Some((StatusCode::REQUEST_TIMEOUT, "the request took too long"))
        }
        ErrorSource::Downstream => Some((StatusCode::BAD_REQUEST, "malformed request")),
        ErrorSource::Upstream if is(TIMEOUTS) => {
            Some((StatusCode::GATEWAY_TIMEOUT, "the node took too long"))
        }
        ErrorSource::Upstream => Some((StatusCode::BAD_GATEWAY, "the node failed")),
        ErrorSource::Internal | ErrorSource::Unset => {
            Some((StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
        }
    }
}

/// A client that is not there any more.
const GONE: &[ErrorType] =
    &[ErrorType::WriteError, ErrorType::ReadError, ErrorType::ConnectionClosed, ErrorType::WriteTimedout];
/// A node that does not answer in time.
const TIMEOUTS: &[ErrorType] =
    &[ErrorType::ConnectTimedout, ErrorType::ReadTimedout, ErrorType::WriteTimedout];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_answer() {
        let up = |etype| {
            let mut error = Error::new(etype);
            error.as_up();
            error
        };
        let down = |etype| {
            let mut error = Error::new(etype);
            error.as_down();
            error
        };
        for (error, expected) in [
            (up(ErrorType::ConnectRefused), Some(502)),
            (up(ErrorType::ConnectTimedout), Some(504)),
            (up(ErrorType::ReadTimedout), Some(504)),
            (up(ErrorType::ConnectionClosed), Some(502)),
            (down(ErrorType::ConnectionClosed), None),
            (down(ErrorType::ReadTimedout), Some(408)),
            (down(ErrorType::InvalidHTTPHeader), Some(400)),
            (no_node(&PlaceError::NoNode), Some(503)),
            (Error::new(ErrorType::InternalError), Some(500)),
        ] {
            assert_eq!(answer_to(&error, false).map(|(s, _)| s.as_u16()), expected, "{error}");
        }
        assert_eq!(answer_to(&down(ErrorType::ReadError), true).map(|(s, _)| s.as_u16()), Some(400));
    }
}
