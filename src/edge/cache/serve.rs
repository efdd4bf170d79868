//! A request's way through the cache: found, waited for, or fetched; and an answer's way out of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use super::fetch::{Filled, Handover, Question, Upstream, fill, patience};
use super::fresh::{self, Bypass, Not, Terms, Use, Wishes};
use super::key::{self, Varied};
use super::object::{self, Body, End, Object};
use super::status::{Outcome, Told};
use super::{Cache, Flown, Join, Landed, Lead};
use crate::clock;
use crate::config::settings::CacheRule;
use crate::edge::compress;
use crate::edge::conditions::{Sent, decide};
use crate::edge::headers;
use crate::edge::proxy::{Phases, Request, front_stream_of, no_node, respond, write_whole};

/// How often a request looks: what it waited for may have been for others than it, and what it missed may have come.
const ROUNDS: usize = 3;

/// What a request asks the cache for.
struct Ask {
    rule: CacheRule,
    flown: Flown,
    /// The host that the URL has, and that the node is told.
    host: Vec<u8>,
}

/// What became of a node's answer.
enum Settled {
    /// What was kept is still good.
    Renewed(Arc<Object>),
    /// It is being kept, its body read by the rest of this.
    Stored(Arc<Object>, Box<(Upstream, Filled)>),
    /// The node cannot serve, and what was kept may be used.
    Stale(Arc<Object>, u16),
    /// It is not kept.
    Passed(Box<Upstream>),
}

impl Request {
    /// The scheme of the URL, as the node is told it.
    fn url_is_tls(&self) -> bool {
        self.via.as_ref().and_then(|via| via.tls).unwrap_or_else(|| self.is_tls())
    }

    /// The host of the URL, as the client wrote it.
    fn url_host(&self, request: &RequestHeader) -> Vec<u8> {
        headers::host_of(request).to_vec()
    }
}

/// Path and query in origin-form.
fn target_of(request: &RequestHeader) -> &[u8] {
    let raw = request.raw_path();
    if raw.first() == Some(&b'/') {
        return raw;
    }
    request.uri.path_and_query().map_or(&b"/"[..], |target| target.as_str().as_bytes())
}

impl Phases {
    /// Answers a request from the cache, or fetches the answer for it. False: it goes its usual way to a node.
    pub(in crate::edge) async fn cached(
        &self,
        session: &mut Session,
        ctx: &mut Request,
    ) -> pingora::Result<bool> {
        let Some(rule) = ctx.matched.as_ref().and_then(|matched| matched.route.cache) else {
            return Ok(false);
        };
        let request = session.req_header();
        let wishes = match fresh::wishes(&request.method, &request.headers) {
            Ok(wishes) => wishes,
            Err(why) => {
                let why = if why == Bypass::Method { "method" } else { "request" };
                return Ok(past(ctx, Outcome::Bypass, why));
            }
        };
        let Some(ask) = ask_of(request, ctx, rule) else {
            return Ok(past(ctx, Outcome::Bypass, "bypass"));
        };
        let cache = self.shared.cache.clone();
        for _ in 0..ROUNDS {
            let request = session.req_header();
            let kept = cache.find(&ask.flown.url, ask.flown.way, &request.headers);
            let now = clock::now();
            match kept.as_ref().map(|kept| (kept, kept.terms.usable(&rule, &wishes, now))) {
                Some((kept, Use::Fresh)) => {
                    return self.give(session, ctx, &ask, kept, Told::new(Outcome::Hit, "")).await;
                }
                Some((kept, Use::Stale)) => {
                    self.refresh(session, ctx, &ask, kept);
                    return self.give(session, ctx, &ask, kept, Told::new(Outcome::Stale, "")).await;
                }
                Some((_, Use::Ask)) | None => {}
            }
            if wishes.only_kept {
                let text = "nothing is kept that could be used";
                return respond(session, ctx, StatusCode::GATEWAY_TIMEOUT, &[], text).await;
            }
            let why = match &kept {
                Some(_) if wishes.ask || wishes.age_max.is_some() => "request",
                Some(_) => "stale",
                None if cache.knows(&ask.flown.url) => "vary-miss",
                None => "uri-miss",
            };
            // A head alone is not kept.
            if request.method == Method::HEAD || cache.is_passed(&ask.flown, now) {
                return Ok(past(ctx, Outcome::Unstored, why));
            }
            match cache.join(&ask.flown, &request.headers, kept.as_ref(), now) {
                Join::Changed => {}
                Join::Alone => return Ok(past(ctx, Outcome::Unstored, why)),
                Join::Lead(lead) => return self.lead(session, ctx, &ask, lead, kept, why).await,
                Join::Follow(follow) => {
                    let most = ctx.matched.as_ref().map(|matched| patience(&matched.route.timeouts));
                    let landed = unless_left(session, follow.wait(most.unwrap_or_default())).await?;
                    let fits = |object: &Object| key::fits(&object.varied, &session.req_header().headers);
                    match landed {
                        Some(Landed::Kept(object)) if fits(&object) => {
                            // One that has to be asked for each time was made for the first alone.
                            if object.terms.usable(&rule, &Wishes::default(), clock::now()) != Use::Ask {
                                let told = Told::new(Outcome::Collapsed, why);
                                return self.give(session, ctx, &ask, &object, told).await;
                            }
                        }
                        Some(Landed::Stale(object)) if fits(&object) => {
                            let told = Told::new(Outcome::StaleIfError, why);
                            return self.give(session, ctx, &ask, &object, told).await;
                        }
                        // For others than this one: the next round finds or fetches its own.
                        Some(Landed::Kept(_) | Landed::Stale(_)) => {}
                        Some(Landed::Passed | Landed::Failed) | None => {
                            return Ok(past(ctx, Outcome::Unstored, why));
                        }
                    }
                }
            }
        }
        Ok(past(ctx, Outcome::Unstored, "miss"))
    }

    /// Fetches for all that wait.
    async fn lead(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        ask: &Ask,
        lead: Lead,
        kept: Option<Arc<Object>>,
        why: &'static str,
    ) -> pingora::Result<bool> {
        let upstream = match self.ask_nodes(session, ctx, ask, kept.as_deref()).await {
            Ok(upstream) => upstream,
            Err(error) => {
                let now = clock::now();
                let Some(old) = kept.filter(|old| old.terms.usable_after_error(&ask.rule, now)) else {
                    ctx.cache = Some(Told::new(Outcome::Unstored, why));
                    return Err(error);
                };
                lead.land(Landed::Stale(old.clone()));
                ctx.node = None;
                return self.give(session, ctx, ask, &old, Told::new(Outcome::StaleIfError, why)).await;
            }
        };
        let took = clock::now().duration_since(ctx.started);
        self.shared.parts.metrics.response_seconds.observe(took.as_secs_f64());
        ctx.head_took = Some(took);
        let request = &session.req_header().headers;
        match settle(&self.shared.cache, lead, kept.as_ref(), upstream, &ask.rule, request).await {
            Settled::Renewed(object) => {
                let told = Told { node_status: Some(304), ..Told::new(Outcome::Revalidated, why) };
                self.give(session, ctx, ask, &object, told).await
            }
            Settled::Stale(object, status) => {
                let told = Told { node_status: Some(status), ..Told::new(Outcome::StaleIfError, why) };
                self.give(session, ctx, ask, &object, told).await
            }
            Settled::Stored(object, rest) => {
                let (upstream, filled) = *rest;
                let handover = Handover::default();
                let cache = self.shared.cache.clone();
                // Nobody's task but its own: the client may leave, others read on, those of other threads too.
                let _wanted = object.body.want();
                let fill = fill(cache, object.clone(), upstream, filled, handover.clone());
                let (stopping, body) = (self.stopping.clone(), object.body.clone());
                self.shared.tasks.spawn(self.connections.track_future(async move {
                    tokio::select! {
                        () = fill => {}
                        // The end of the process waits for those who read, and for nothing that nobody wants.
                        () = async { stopping.cancelled().await; body.unwanted().await } => {}
                    }
                }));
                self.give_live(session, ctx, ask, &object, Told::new(Outcome::Miss, why), Some(handover))
                    .await
            }
            Settled::Passed(upstream) => {
                if key::for_keeping(&session.req_header().headers).asks_less {
                    // What was asked was less than this client's request.
                    (ctx.node, ctx.tries, ctx.head_took) = (None, 0, None);
                    return Ok(past(ctx, Outcome::Unstored, why));
                }
                ctx.cache = Some(Told::new(Outcome::Unstored, why));
                pass_on(session, ctx, *upstream).await
            }
        }
    }

    /// Asks nodes until one answers, as far as the route allows.
    async fn ask_nodes(
        &self,
        session: &Session,
        ctx: &mut Request,
        ask: &Ask,
        kept: Option<&Object>,
    ) -> pingora::Result<Upstream> {
        loop {
            let mut picked = self.pick(ctx);
            if picked.is_err() {
                self.await_node(ctx).await;
                picked = self.pick(ctx);
            }
            let node = picked.map_err(|error| no_node(&error))?;
            ctx.node = Some(node.clone());
            ctx.tries += 1;
            let announcement = self.shared.announcement(&node, ctx, session);
            let question = Question::new(session.req_header(), &ask.host, ctx, announcement, kept)?;
            match question.ask(&self.shared, &self.connector).await {
                Ok(upstream) => return Ok(upstream),
                Err((_, true)) if self.may_retry(ctx) => {}
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Asks the node behind the back of a request that gets a stale answer (RFC 5861 section 3).
    fn refresh(&self, session: &Session, ctx: &mut Request, ask: &Ask, kept: &Arc<Object>) {
        let request = &session.req_header().headers;
        let Join::Lead(lead) = self.shared.cache.join(&ask.flown, request, Some(kept), clock::now()) else {
            return;
        };
        let Ok(node) = self.pick(ctx) else { return };
        let announcement = self.shared.announcement(&node, ctx, session);
        ctx.node = Some(node);
        let question = Question::new(session.req_header(), &ask.host, ctx, announcement, Some(kept));
        // The client's own answer comes from no node.
        ctx.node = None;
        let Ok(question) = question else { return };
        let (shared, connector, kept) = (self.shared.clone(), self.connector.clone(), kept.clone());
        let (rule, client) = (ask.rule, session.req_header().headers.clone());
        let stopping = self.stopping.clone();
        self.shared.tasks.spawn(async move {
            let renewed = async {
                let Ok(upstream) = question.ask(&shared, &connector).await else { return };
                let settled = settle(&shared.cache, lead, Some(&kept), upstream, &rule, &client).await;
                if let Settled::Stored(object, rest) = settled {
                    let (upstream, filled) = *rest;
                    fill(shared.cache.clone(), object, upstream, filled, Handover::default()).await;
                }
            };
            tokio::select! {
                () = renewed => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    async fn give(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        ask: &Ask,
        object: &Arc<Object>,
        told: Told,
    ) -> pingora::Result<bool> {
        self.give_live(session, ctx, ask, object, told, None).await
    }

    /// Sends an answer that is kept, or is about to be.
    async fn give_live(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        ask: &Ask,
        object: &Arc<Object>,
        told: Told,
        handover: Option<Handover>,
    ) -> pingora::Result<bool> {
        let _wanted = object.body.want();
        let now = clock::now();
        let told = Told { left: Some(object.terms.left(&ask.rule, now)), ..told };
        ctx.cache = Some(told);
        let length = object.body.known_length();
        let request = session.req_header();
        let is_head = request.method == Method::HEAD;
        let sent = if object.status == StatusCode::OK {
            decide(&request.headers, &object.validators(length.unwrap_or_default()))
        } else {
            Sent::Whole
        };
        // RFC 9110 section 14.2: ranges are for GET. Of a body without a length no part can be told.
        let no_part = is_head || length.is_none();
        let sent =
            if no_part && matches!(sent, Sent::Part(..) | Sent::Unsatisfiable) { Sent::Whole } else { sent };
        let (status, from, count) = match sent {
            Sent::Whole => (object.status, 0, length),
            Sent::Part(from, count) => (StatusCode::PARTIAL_CONTENT, from, Some(count)),
            Sent::NotModified => (StatusCode::NOT_MODIFIED, 0, Some(0)),
            // Conditions that could fail went past the cache.
            Sent::Failed | Sent::Unsatisfiable => {
                let range = format!("bytes */{}", length.unwrap_or_default());
                let lines = [("Content-Range", range.as_str())];
                return respond(session, ctx, StatusCode::RANGE_NOT_SATISFIABLE, &lines, "no such part")
                    .await;
            }
        };
        let mut response = head_of(status, &object.headers)?;
        response.insert_header(header::AGE, object.terms.age(now).as_secs().to_string())?;
        response.append_header("Cache-Status", told.text())?;
        if status == StatusCode::NOT_MODIFIED {
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
                response.remove_header(&name);
            }
            return write_whole(session, ctx, response, Bytes::new()).await;
        }
        if ctx.error_page(status).is_some() {
            for name in [header::CONTENT_ENCODING, header::ETAG, header::LAST_MODIFIED] {
                response.remove_header(&name);
            }
            return write_whole(session, ctx, response, Bytes::new()).await;
        }
        if let (Sent::Part(from, count), Some(length)) = (sent, length) {
            response.insert_header(
                header::CONTENT_RANGE,
                format!("bytes {from}-{}/{length}", from + count - 1),
            )?;
        }
        if status == StatusCode::OK && length.is_some() {
            response.insert_header(header::ACCEPT_RANGES, "bytes")?;
        }
        frame(session, &mut response, count)?;
        ctx.edit_response(session.req_header(), &mut response);
        compress::reconsider(session, ctx, &response);
        ctx.status = status.as_u16();
        if object.body.progress().end == End::Open
            && let Some(stream) = front_stream_of(session)
        {
            // As it comes.
            stream.send_at_once();
        }
        let without_body = is_head || count == Some(0) || status == StatusCode::NO_CONTENT;
        session.write_response_header(Box::new(response), without_body).await?;
        if without_body {
            return Ok(true);
        }
        self.send_body(session, &object.body, from, count, handover).await
    }

    async fn send_body(
        &self,
        session: &mut Session,
        body: &Arc<Body>,
        from: u64,
        count: Option<u64>,
        handover: Option<Handover>,
    ) -> pingora::Result<bool> {
        let mut reader = body.read(from, count);
        let mut left = count;
        loop {
            match unless_left(session, reader.next()).await? {
                Ok(part) => {
                    left = left.map(|left| left - part.len() as u64);
                    session.write_response_body(Some(part), left == Some(0)).await?;
                    if left == Some(0) {
                        return Ok(true);
                    }
                }
                Err(End::Whole) => {
                    session.write_response_body(None, true).await?;
                    return Ok(true);
                }
                Err(End::Handed) => {
                    let Some((part, upstream)) = handover.and_then(|handover| handover.take()) else {
                        return cut_short(session).await;
                    };
                    session.write_response_body(Some(part), false).await?;
                    return send_rest(session, upstream).await;
                }
                Err(End::Broken | End::Open) => return cut_short(session).await,
            }
        }
    }

    /// Notes what a request did to the cache, once it has been answered.
    pub(in crate::edge) fn note_cached(&self, ctx: &Request) {
        if let Some(told) = ctx.cache {
            self.shared.cache.count(told.outcome);
        }
    }

    /// Takes away what an unsafe method has changed, before its client learns that it has.
    pub(in crate::edge) fn note_changed(&self, request: &RequestHeader, ctx: &Request) {
        let safe = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
        if !safe && (200..400).contains(&ctx.status) {
            let host = ctx.url_host(request);
            self.shared.cache.changed_by_client(ctx.url_is_tls(), &host, target_of(request));
        }
    }
}

/// Waits for something, unless the client leaves: a stream of HTTP/2 would outlive its connection, and so all bounds on
/// connections.
async fn unless_left<T>(session: &mut Session, wait: impl Future<Output = T>) -> pingora::Result<T> {
    let Some(left) = session.downstream_session.watch_h2_stream_close() else { return Ok(wait.await) };
    tokio::select! {
        biased;
        done = wait => Ok(done),
        left = left => Err(match left {
            Ok(reason) => Error::explain(ErrorType::H2Error, format!("the client left: {reason}")).into_down(),
            Err(error) => error,
        }),
    }
}

fn ask_of(request: &RequestHeader, ctx: &Request, rule: CacheRule) -> Option<Ask> {
    let host = ctx.url_host(request);
    let url = key::url(ctx.url_is_tls(), &host, target_of(request))?;
    let matched = ctx.matched.as_ref()?;
    let via = ctx.via.as_ref().and_then(|via| via.host.as_deref()).unwrap_or_default();
    let flown = Flown {
        url: url.into(),
        way: key::way(&matched.route, via),
        encodings: key::encodings(&request.headers),
    };
    Some(Ask { rule, flown, host })
}

/// Lets a request go its usual way. Returns false: not answered.
fn past(ctx: &mut Request, outcome: Outcome, why: &'static str) -> bool {
    ctx.cache = Some(Told::new(outcome, why));
    false
}

/// Decides what becomes of a node's answer, and tells those that wait, unless its body decides.
async fn settle(
    cache: &Arc<Cache>,
    lead: Lead,
    kept: Option<&Arc<Object>>,
    upstream: Upstream,
    rule: &CacheRule,
    client: &HeaderMap,
) -> Settled {
    let now = clock::now();
    let status = upstream.head.status;
    if let Some(old) = kept {
        if status == StatusCode::NOT_MODIFIED {
            let renewed = renew(cache, &lead, old, &upstream, rule, client);
            upstream.release().await;
            return match renewed {
                Ok(renewed) => {
                    lead.land(Landed::Kept(renewed.clone()));
                    Settled::Renewed(renewed)
                }
                Err(Some(newer)) => {
                    lead.land(Landed::Kept(newer));
                    Settled::Renewed(old.clone())
                }
                // Good for this one and nobody after it.
                Err(None) => {
                    cache.purge(&lead.flown.url);
                    lead.land(Landed::Passed);
                    Settled::Renewed(old.clone())
                }
            };
        }
        if fresh::is_error(status) && old.terms.usable_after_error(rule, now) {
            lead.land(Landed::Stale(old.clone()));
            return Settled::Stale(old.clone(), status.as_u16());
        }
    }
    match judge(cache, &lead, &upstream, rule, client) {
        Ok(object) => store(cache, lead, object, upstream),
        Err(why) => {
            if !fresh::is_error(status) {
                if kept.is_some() {
                    cache.purge(&lead.flown.url);
                }
                cache.pass(&lead.flown, why, now);
            }
            lead.land(Landed::Passed);
            Settled::Passed(Box::new(upstream))
        }
    }
}

fn store(cache: &Arc<Cache>, lead: Lead, object: Arc<Object>, upstream: Upstream) -> Settled {
    let filled = if object.body.length.is_none() {
        Filled::Later(lead)
    } else {
        match cache.put(&lead, &object, None) {
            Ok(id) => {
                let url = lead.flown.url.clone();
                lead.land(Landed::Kept(object.clone()));
                Filled::Known(url, id)
            }
            Err(newer) => {
                lead.land(newer.map_or(Landed::Passed, Landed::Kept));
                Filled::Never
            }
        }
    };
    Settled::Stored(object, Box::new((upstream, filled)))
}

/// Makes an object of an answer that may be kept, and takes the memory for it.
fn judge(
    cache: &Cache,
    lead: &Lead,
    upstream: &Upstream,
    rule: &CacheRule,
    client: &HeaderMap,
) -> Result<Arc<Object>, Not> {
    let head = &upstream.head;
    let terms = fresh::judge(head.status, &head.headers, rule, upstream.times)?;
    let varied = key::varied(&head.headers, client).ok_or(Not::Varies)?;
    if !upstream.has_end() {
        return Err(Not::Endless);
    }
    let length = upstream.length();
    if length.is_some_and(|length| length > cache.object_max()) {
        return Err(Not::Large);
    }
    let held = cache.take(length.unwrap_or_default()).ok_or(Not::Large)?;
    let body = Arc::new(Body::new(length, held));
    object(cache, lead, head.status, object::kept_headers(&head.headers), terms, varied, body)
}

/// Makes a new object of an old one that is still good (RFC 9111 section 4.3.4).
///
/// # Errors
/// It must not be kept any more, or another one is there that was asked for later: this one.
fn renew(
    cache: &Cache,
    lead: &Lead,
    old: &Arc<Object>,
    upstream: &Upstream,
    rule: &CacheRule,
    client: &HeaderMap,
) -> Result<Arc<Object>, Option<Arc<Object>>> {
    let headers = object::updated_headers(&old.headers, &upstream.head.headers);
    let mut judged = headers.clone();
    if let Some(age) = upstream.head.headers.get(header::AGE) {
        judged.insert(header::AGE, age.clone());
    }
    let terms = fresh::judge(old.status, &judged, rule, upstream.times).map_err(|_| None)?;
    let varied = key::varied(&headers, client).ok_or(None)?;
    let object =
        object(cache, lead, old.status, headers, terms, varied, old.body.clone()).map_err(|_| None)?;
    cache.put(lead, &object, Some(old)).map(|_| object)
}

fn object(
    cache: &Cache,
    lead: &Lead,
    status: StatusCode,
    headers: HeaderMap,
    terms: Terms,
    varied: Varied,
    body: Arc<Body>,
) -> Result<Arc<Object>, Not> {
    let held = cache.take(object::head_bytes(&lead.flown.url, &headers, &varied)).ok_or(Not::Large)?;
    Ok(Arc::new(Object { status, headers, terms, varied, body, held }))
}

/// Builds a head with headers that are kept.
fn head_of(status: StatusCode, headers: &HeaderMap) -> pingora::Result<ResponseHeader> {
    let mut response = ResponseHeader::build(status, Some(headers.len() + 6))?;
    for (name, value) in headers {
        response.append_header(name.clone(), value.clone())?;
    }
    Ok(response)
}

/// Says how long the body is, or that it comes in chunks.
fn frame(session: &mut Session, response: &mut ResponseHeader, length: Option<u64>) -> pingora::Result<()> {
    match (length, session.req_header().version) {
        (Some(_), _) if response.status == StatusCode::NO_CONTENT => {}
        (Some(length), _) => response.insert_header(header::CONTENT_LENGTH, length.to_string())?,
        (None, Version::HTTP_11) => response.insert_header(header::TRANSFER_ENCODING, "chunked")?,
        // RFC 9112 section 7.1: HTTP/1.0 knows no chunks; the body ends with the connection.
        (None, Version::HTTP_10) => session.downstream_session.set_keepalive(None),
        (None, _) => {}
    }
    Ok(())
}

/// Sends a node's answer that is not kept.
async fn pass_on(session: &mut Session, ctx: &mut Request, upstream: Upstream) -> pingora::Result<bool> {
    let status = upstream.head.status;
    let bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = upstream.length();
    let mut response = head_of(status, &object::kept_headers(&upstream.head.headers))?;
    if let Some(age) = upstream.head.headers.get(header::AGE) {
        response.insert_header(header::AGE, age.clone())?;
    }
    if let Some(told) = ctx.cache {
        response.append_header("Cache-Status", told.text())?;
    }
    if !bare {
        frame(session, &mut response, length)?;
    }
    ctx.status = status.as_u16();
    ctx.begin_error_page(session.req_header(), &mut response)?;
    ctx.edit_response(session.req_header(), &mut response);
    compress::reconsider(session, ctx, &response);
    if let Some(stream) = front_stream_of(session) {
        stream.send_at_once();
    }
    let without_body = bare || (length == Some(0) && !ctx.replaces_body);
    session.write_response_header(Box::new(response), without_body).await?;
    if without_body {
        upstream.release().await;
        return Ok(true);
    }
    if ctx.replaces_body {
        session.write_response_body(ctx.page_left.take(), true).await?;
        return Ok(true);
    }
    send_rest(session, upstream).await
}

async fn send_rest(session: &mut Session, mut upstream: Upstream) -> pingora::Result<bool> {
    loop {
        match upstream.read().await {
            Ok(Some(part)) => session.write_response_body(Some(part), false).await?,
            Ok(None) => break,
            Err(error) => {
                session.downstream_session.shutdown().await;
                return Err(error);
            }
        }
    }
    upstream.release().await;
    session.write_response_body(None, true).await?;
    Ok(true)
}

/// The node broke off: the client must not take what it has for whole.
async fn cut_short(session: &mut Session) -> pingora::Result<bool> {
    session.downstream_session.shutdown().await;
    Err(Error::explain(ErrorType::ConnectionClosed, "the node's answer is cut short"))
}
