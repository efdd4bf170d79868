//! What is known of a request before a node is asked: connection, site, route, room. Answers what needs no node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use super::acme;
use super::compress;
use super::cors;
use super::forwarded;
use super::headers;
use super::proxy::{Phases, Request, connection_of, no_node, respond, write_whole};
use super::route::{self, Goes, Matched, Values};
use crate::clock;
use crate::config::settings::{
    Action, App, ErrorPage, Name, Place, Prefer, RoomRule, RouteSettings, SiteSettings, Template,
};
use crate::pool::{Pool, Wish};
use crate::rooms::{KeyError, RequestView, RoomId, RoomKey, room_of};
use crate::wire::http_head::{Refusal, host_name};

/// A client that takes no byte of its answer for this long is dropped; so is one that sends none of its body.
const CLIENT_STALL: Duration = Duration::from_secs(60);
/// The rest of a body that nobody wants is read for at most this long, to keep the connection.
const DRAIN: Duration = Duration::from_secs(5);

impl Request {
    /// What the variables of templates stand for, as far as they are known.
    pub(super) fn values<'a>(&'a self, request: &'a RequestHeader) -> Values<'a> {
        Values {
            host: &self.host,
            authority: std::str::from_utf8(headers::host_of(request)).unwrap_or_default(),
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            tls: self.is_tls(),
            client: self.peer().ip(),
            room: self.room.as_ref().map(|room| room.key.as_str()),
            route: self.matched.as_ref().map(|matched| &*matched.route.name).unwrap_or_default(),
            edge: self.settings.edge.name.as_deref(),
            region: self.settings.edge.region.as_deref(),
            node: self.node.as_ref().map(|node| &*node.name),
            node_region: self.node.as_ref().and_then(|node| node.region()),
            node_release: self.node.as_ref().and_then(|node| node.release()),
            groups: self.matched.as_ref().map(|matched| &matched.groups[..]).unwrap_or_default(),
        }
    }

    /// The service of the node that the route names.
    pub(super) fn service(&self) -> Option<&str> {
        match &self.matched.as_ref()?.route.action {
            Action::Proxy { service, .. } => service.as_deref(),
            Action::Redirect { .. } | Action::Respond { .. } | Action::Files(_) => None,
        }
    }

    /// What path and query become towards the node.
    pub(super) fn rewrite(&self) -> Option<&Template> {
        let route = &self.matched.as_ref()?.route;
        let by_name = |service: &str| self.node.as_ref().is_some_and(|node| node.target.has_service(service));
        route
            .service_rewrite
            .as_ref()
            .filter(|_| self.service().is_some_and(by_name))
            .or(route.rewrite.as_ref())
    }

    /// The room for which the request asks for a place.
    pub(super) fn placed_room(&self) -> Option<&RoomId> {
        let place = self.matched.as_ref().map(|matched| matched.route.place);
        self.room.as_ref().filter(|_| place == Some(Place::Always))
    }

    /// The own page that the route has for an answer that is an error.
    pub(super) fn error_page(&self, status: StatusCode) -> Option<ErrorPage> {
        self.matched.as_ref()?.route.error_pages.get(&status.as_u16()).cloned()
    }

    /// Puts an own page in place of what a node answers, if the route has one. An answer that may be without a body
    /// stays as it is.
    pub(super) fn begin_error_page(
        &mut self,
        request: &RequestHeader,
        response: &mut ResponseHeader,
    ) -> pingora::Result<()> {
        let length = response.headers.get(header::CONTENT_LENGTH);
        let has_body = response.headers.contains_key(header::TRANSFER_ENCODING)
            || length.is_some_and(|length| length != "0");
        let Some(page) = self.error_page(response.status).filter(|_| has_body) else { return Ok(()) };
        for name in [
            header::CONTENT_ENCODING,
            header::TRANSFER_ENCODING,
            header::ETAG,
            header::LAST_MODIFIED,
            header::CONTENT_RANGE,
        ] {
            response.remove_header(&name);
        }
        response.insert_header(header::CONTENT_TYPE, &*page.content_type)?;
        response.insert_header(header::CONTENT_LENGTH, page.body.len().to_string())?;
        self.replaces_body = request.method != Method::HEAD;
        self.page_left = Some(page.body);
        Ok(())
    }

    /// Makes the changes of an answer's headers that the route asks for.
    pub(super) fn edit_response(&self, request: &RequestHeader, response: &mut ResponseHeader) {
        let Some(matched) = &self.matched else { return };
        if !matched.route.response_headers.is_empty() {
            headers::edit(response, &matched.route.response_headers, &self.values(request));
        }
        if let Some(cors) = &matched.route.cors {
            // All of these values are legal ones.
            let _ = cors::apply(cors, request, response);
        }
    }
}

impl Phases {
    /// Finds connection, site, route and room; answers what needs no node. True: answered.
    pub(super) async fn admit(&self, session: &mut Session, ctx: &mut Request) -> pingora::Result<bool> {
        let Some(conn) = connection_of(session) else {
            return Err(Error::explain(ErrorType::InternalError, "a session without its connection"));
        };
        let listener = conn.listener.settings();
        let trusted = &ctx.settings.trusted;
        ctx.via = forwarded::via(&session.req_header().headers, conn.peer, trusted).map(Box::new);
        if ctx.via.is_some()
            && let Some(id) = forwarded::request_id(&session.req_header().headers)
        {
            ctx.id = id.into();
        }
        ctx.conn = Some(conn);
        headers::join_cookies(session.req_header_mut());
        self.set_limits(session, listener.limits.idle_timeout);
        if self.banned(session, ctx).await? {
            return Ok(true);
        }
        // Of HTTP/1 the raw head has been checked.
        if session.downstream_session.is_http2() {
            let request = session.req_header();
            let (method, fields) = (request.method.as_str().as_bytes(), request.headers.len());
            if let Err(refusal) = headers::check_http2(method, request.raw_path(), fields) {
                return self.refuse_head(session, ctx, refusal).await;
            }
        }
        let Some(host) = host_name(headers::host_of(session.req_header())) else {
            return respond(session, ctx, StatusCode::MISDIRECTED_REQUEST, &[], "no such host here").await;
        };
        ctx.host = host.to_string();
        if let Some(webroot) = &listener.acme_challenge
            && matches!(session.req_header().method, Method::GET | Method::HEAD)
        {
            let path = session.req_header().uri.path().to_owned();
            match acme::asked(&path) {
                acme::Asked::Other => {}
                acme::Asked::Nonsense => return no_challenge(session, ctx).await,
                acme::Asked::Token(token) => match acme::answer(webroot.clone(), token).await {
                    None => return no_challenge(session, ctx).await,
                    Some(answer) => {
                        let mut response = ResponseHeader::build(StatusCode::OK, Some(3))?;
                        response.insert_header("Content-Type", "application/octet-stream")?;
                        return write_whole(session, ctx, response, Bytes::from(answer)).await;
                    }
                },
            }
        }
        // Any name: who asks it decides whose name it is.
        if let Some(redirect) = &listener.redirect {
            let port = if redirect.port == 443 { String::new() } else { format!(":{}", redirect.port) };
            let target = session.req_header().uri.path_and_query().map_or("/", |target| target.as_str());
            let location = format!("https://{}{port}{target}", ctx.host);
            let headers = [("Location", location.as_str())];
            return respond(session, ctx, StatusCode::PERMANENT_REDIRECT, &headers, "see HTTPS").await;
        }
        let Some(site) = ctx.settings.sites.find(&ctx.host).cloned() else {
            return respond(session, ctx, StatusCode::MISDIRECTED_REQUEST, &[], "no such host here").await;
        };
        let client = ctx.conn.as_ref().and_then(|conn| conn.client.as_deref());
        if !ctx.conn.as_ref().is_some_and(|conn| conn.listener.admits(&site, client)) {
            // Another connection, with the name of this site in its handshake, is what is needed.
            session.downstream_session.set_keepalive(None);
            let text = "this site asks for a connection of its own";
            return respond(session, ctx, StatusCode::MISDIRECTED_REQUEST, &[], text).await;
        }
        ctx.site = Some(site.clone());
        // Of HTTP/1 the raw head has been measured.
        let request = session.req_header();
        if session.downstream_session.is_http2() && headers::head_bytes(request) > site.head_bytes_max {
            return self.refuse_head(session, ctx, Refusal::TooLarge).await;
        }
        let Some(path) = route::clean_path(request.uri.path()) else {
            return respond(session, ctx, StatusCode::BAD_REQUEST, &[], "the path leaves its root").await;
        };
        let offered =
            request.headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        let matched = route::find(&site, &request.method, &path, request.uri.query(), offered);
        drop(path);
        ctx.matched = Some(matched);
        if let Err(error) = self.name_room(ctx, &site, session.req_header()) {
            self.shared.parts.rooms.count_key_error(error);
            return respond(session, ctx, StatusCode::BAD_REQUEST, &[], &error.to_string()).await;
        }
        if let Some(error) = unverified(ctx, &site, session.req_header()) {
            let headers = [("WWW-Authenticate", "Bearer")];
            return respond(session, ctx, StatusCode::UNAUTHORIZED, &headers, error).await;
        }
        if self.limited(session, ctx).await? {
            return Ok(true);
        }
        compress::prepare(session, ctx);
        self.act(session, ctx, &site).await
    }

    async fn refuse_head(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        refusal: Refusal,
    ) -> pingora::Result<bool> {
        self.shared.parts.metrics.heads_refused.with_label_values(&[refusal.as_str()]).inc();
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        respond(session, ctx, status, &[], refusal.message()).await
    }

    /// Does what the route says, as far as no node is needed for it. True: answered.
    async fn act(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        site: &Arc<SiteSettings>,
    ) -> pingora::Result<bool> {
        let Some(route) = ctx.matched.as_ref().map(|matched| matched.route.clone()) else { return Ok(false) };
        if let Some(cors) = route.cors.as_ref().filter(|_| cors::is_preflight(session.req_header())) {
            let mut response = ResponseHeader::build(StatusCode::NO_CONTENT, Some(6))?;
            cors::answer_preflight(cors, session.req_header(), &mut response)?;
            return write_whole(session, ctx, response, Bytes::new()).await;
        }
        match &route.action {
            Action::Redirect { to, status } => {
                let location = ctx.values(session.req_header()).expand(to, Goes::Target);
                let headers = [("Location", location.as_str())];
                respond(session, ctx, *status, &headers, "see there").await
            }
            Action::Respond { status, body, content_type, as_node } => {
                if as_node.is_some() && ctx.room.is_some() {
                    self.wish(session.req_header(), ctx, &route);
                    match self.pick(ctx) {
                        Ok(node) => ctx.node = Some(node),
                        Err(error) => return Err(no_node(&error)),
                    }
                }
                fixed(session, ctx, *status, body, content_type).await
            }
            Action::Files(files) => super::files::serve(session, ctx, &route, files).await,
            // The workers take a conference's bodies themselves, with a bound of their own.
            Action::Proxy { .. }
                if matches!(site.app, App::Conference { .. }) && Arc::ptr_eq(&route, &site.rest) =>
            {
                Ok(false)
            }
            Action::Proxy { pool, node, .. } => {
                if let Some(max) = route.body_bytes_max
                    && content_length(session.req_header()).is_some_and(|length| length > max)
                {
                    session.downstream_session.set_keepalive(None);
                    let text = format!("the body is longer than {max} bytes");
                    return respond(session, ctx, StatusCode::PAYLOAD_TOO_LARGE, &[], &text).await;
                }
                if let Some(node) = node {
                    let name = ctx.values(session.req_header()).expand(node, Goes::Text);
                    let known =
                        self.shared.parts.pools.get(pool).is_some_and(|pool| pool.node(&name).is_some());
                    if !known {
                        return respond(session, ctx, StatusCode::NOT_FOUND, &[], "no such node").await;
                    }
                    ctx.named = Some(Name::from(name));
                }
                self.wish(session.req_header(), ctx, &route);
                Ok(false)
            }
        }
    }

    /// Notes what the room would like, if it gets a place now.
    fn wish(&self, request: &RequestHeader, ctx: &mut Request, route: &RouteSettings) {
        let Some(prefer) = &route.prefer else { return };
        let Some(pool) = ctx.matched.as_ref().and_then(Matched::pool) else { return };
        let Some(pool) = self.shared.parts.pools.get(pool) else { return };
        ctx.wish = wish_of(&pool, prefer, &ctx.values(request));
    }

    fn name_room(
        &self,
        ctx: &mut Request,
        site: &SiteSettings,
        request: &RequestHeader,
    ) -> Result<(), KeyError> {
        let Some(matched) = &ctx.matched else { return Ok(()) };
        if matched.route.place == Place::Never {
            return Ok(());
        }
        let Some(pool) = matched.pool() else { return Ok(()) };
        let key = find_room(&matched.route.room, request, &ctx.values(request))?;
        ctx.room = key.map(|key| RoomId { pool: pool.clone(), scope: site.name.clone(), key });
        Ok(())
    }

    fn set_limits(&self, session: &mut Session, idle: Duration) {
        let client = &mut session.downstream_session;
        if self.stopping.is_cancelled() {
            client.set_keepalive(None);
        } else if client.get_keepalive().is_some() {
            // Without this a connection waits for ever after its first request.
            client.set_keepalive(Some(idle.as_secs().max(1)));
        }
        client.set_read_timeout(Some(CLIENT_STALL));
        client.set_write_timeout(Some(CLIENT_STALL));
        client.set_total_drain_timeout(Some(DRAIN));
    }
}

async fn no_challenge(session: &mut Session, ctx: &mut Request) -> pingora::Result<bool> {
    respond(session, ctx, StatusCode::NOT_FOUND, &[], "no such challenge").await
}

/// Returns what a room that gets a place in `pool` would like.
pub(super) fn wish_of(pool: &Pool, prefer: &Prefer, values: &Values<'_>) -> Wish {
    let mut names = prefer.node.iter().map(|name| values.expand(name, Goes::Text));
    let node = names.find_map(|name| pool.node(&name).map(|node| node.name.clone()));
    let release = prefer.release.as_ref().map(|release| values.expand(release, Goes::Text));
    Wish { node, release: release.filter(|release| !release.is_empty()).map(Name::from) }
}

/// Answers with a route's fixed text.
async fn fixed(
    session: &mut Session,
    ctx: &mut Request,
    status: StatusCode,
    body: &Template,
    content_type: &Name,
) -> pingora::Result<bool> {
    let goes =
        if content_type.contains("html") || content_type.contains("xml") { Goes::Html } else { Goes::Text };
    let body = ctx.values(session.req_header()).expand(body, goes);
    let mut response = ResponseHeader::build(status, Some(4))?;
    response.insert_header("Content-Type", &**content_type)?;
    write_whole(session, ctx, response, Bytes::from(body)).await
}

fn content_length(request: &RequestHeader) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unverified(ctx: &Request, site: &SiteSettings, request: &RequestHeader) -> Option<&'static str> {
    let secret = site.token_secret.as_ref()?;
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let path = request.uri.path();
    let view = RequestView { path, query: request.uri.query(), header: &header, text: &|_| None };
    super::token::fault(secret, &ctx.matched.as_ref()?.route, &request.method, &view, clock::wall())
}

/// Finds the room that a request names by the rules of its route.
fn find_room(
    rules: &[RoomRule],
    request: &RequestHeader,
    values: &Values<'_>,
) -> Result<Option<RoomKey>, KeyError> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let text = |template: &Template| values.expand_whole(template);
    let view =
        RequestView { path: request.uri.path(), query: request.uri.query(), header: &header, text: &text };
    room_of(rules, &view)
}
