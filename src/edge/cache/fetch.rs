//! Asks a node for an answer that is to be kept, and reads it to its end whoever else reads along.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version, header};
use pingora::connectors::ConnectorOptions;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::fresh::Times;
use super::key;
use super::object::{End, Object, PART_BYTES};
use super::{Cache, Landed, Lead};
use crate::clock;
use crate::config::settings::SiteTimeouts;
use crate::edge::Shared;
use crate::edge::dial::{Dialer, reason_of};
use crate::edge::peer::peer;
use crate::edge::proxy::{Request, for_node};
use crate::pool::{FailReason, Node, OpenGuard};

/// One thread's connections to nodes for this.
pub(in crate::edge) type Connector = pingora::connectors::http::Connector;

/// Interim answers before the real one.
const INTERIM_MAX: usize = 8;
/// A kept connection may have been closed by its node just when it was used: the question is asked again.
const AGAIN_MAX: usize = 2;

pub(in crate::edge) fn connector(conf: &ServerConf) -> Arc<Connector> {
    Arc::new(Connector::new(Some(ConnectorOptions::from_server_conf(conf))))
}

/// A question to a node, with all that it takes to ask it.
pub(super) struct Question {
    pub(super) node: Arc<Node>,
    pub(super) service: Option<String>,
    pub(super) announcement: Option<Vec<u8>>,
    pub(super) timeouts: SiteTimeouts,
    pub(super) request: RequestHeader,
}

impl Question {
    /// Makes the question for a client's request, which is sent to `ctx.node`. `kept` is what the node may say is still
    /// good.
    pub(super) fn new(
        client: &RequestHeader,
        host: &[u8],
        ctx: &Request,
        announcement: Option<Vec<u8>>,
        kept: Option<&Object>,
    ) -> pingora::Result<Self> {
        let internal = || Error::explain(ErrorType::InternalError, "a request without its route or node");
        let matched = ctx.matched.as_ref().ok_or_else(internal)?;
        let mut request = client.clone();
        request.set_method(Method::GET);
        request.set_version(Version::HTTP_11);
        for name in key::for_keeping(&client.headers).names {
            request.remove_header(&name);
        }
        request.insert_header(header::HOST, host)?;
        let encodings = key::encodings(&client.headers);
        request.remove_header(&header::ACCEPT_ENCODING);
        if !encodings.is_empty() {
            request.insert_header(header::ACCEPT_ENCODING, encodings)?;
        }
        for_node(client, &mut request, ctx)?;
        if let Some(kept) = kept {
            for (of, name) in
                [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
            {
                if let Some(value) = kept.headers.get(of) {
                    request.insert_header(name, value.clone())?;
                }
            }
        }
        Ok(Self {
            node: ctx.node.clone().ok_or_else(internal)?,
            service: ctx.service().map(str::to_owned),
            announcement,
            timeouts: matched.route.timeouts.clone(),
            request,
        })
    }

    /// Asks, and waits for the head of the answer.
    ///
    /// # Errors
    /// The connect failed, which has been counted, or the node broke off. The flag tells whether another node may be
    /// asked.
    pub(super) async fn ask(
        &self,
        shared: &Arc<Shared>,
        connector: &Arc<Connector>,
    ) -> Result<Upstream, (Box<Error>, bool)> {
        let open = self.node.open();
        let service = self.service.as_deref();
        let failed = |reason: FailReason| {
            let ours = matches!(reason, FailReason::Local(_));
            (shared.connect_failed(&self.node, reason), !ours)
        };
        let addresses = shared.addresses(&self.node, service).await.map_err(failed)?;
        let announcement = self.announcement.clone();
        let times = (self.timeouts.connect, self.timeouts.response);
        let mut peer =
            peer(&self.node, service, &addresses, announcement.as_deref(), times).map_err(failed)?;
        peer.options.custom_l4 = Some(Arc::new(Dialer {
            shared: shared.clone(),
            node: self.node.clone(),
            addresses,
            announcement,
            timeout: self.timeouts.connect,
        }));
        let mut again = 0;
        loop {
            let asked = clock::now();
            let got = connector.get_http_session(&peer).await;
            let (mut session, reused) =
                got.map_err(|error| failed(reason_of(&error, self.timeouts.connect)))?;
            session.set_read_timeout(Some(self.timeouts.response));
            session.set_write_timeout(Some(self.timeouts.response));
            match exchange(&mut session, self.request.clone(), &peer).await {
                Ok(head) => {
                    let times = Times { asked, answered: clock::now(), wall: clock::wall() };
                    return Ok(Upstream {
                        session,
                        head,
                        times,
                        peer,
                        connector: connector.clone(),
                        _open: open,
                    });
                }
                Err(error) if reused && again < AGAIN_MAX && !is_timeout(&error) => again += 1,
                Err(mut error) => {
                    error.as_up();
                    return Err((error, false));
                }
            }
        }
    }
}

fn is_timeout(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
}

async fn exchange(
    session: &mut HttpSession,
    mut request: RequestHeader,
    peer: &HttpPeer,
) -> pingora::Result<ResponseHeader> {
    let is_h2 = matches!(session, HttpSession::H2(_));
    if is_h2 {
        request.set_version(Version::HTTP_2);
        let host = request.remove_header(&header::HOST);
        let built = Uri::builder()
            .scheme(if peer.sni.is_empty() { "http" } else { "https" })
            .authority(host.as_ref().map(|host| host.as_bytes()).unwrap_or_default())
            .path_and_query(request.raw_path())
            .build();
        let uri = built.map_err(|error| {
            Error::because(ErrorType::InvalidHTTPHeader, "a target that HTTP/2 does not know", error)
        })?;
        request.set_uri(uri);
    }
    session.write_request_header(Box::new(request)).await?;
    if is_h2 {
        session.finish_request_body().await?;
    }
    for _ in 0..INTERIM_MAX {
        session.read_response_header().await?;
        let head = session.response_header().cloned();
        let head = head
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "a head that was read is not there"))?;
        if !head.status.is_informational() {
            return Ok(head);
        }
    }
    Err(Error::explain(ErrorType::InvalidHTTPHeader, "interim answers without an end"))
}

/// A node's answer whose body is to be read.
pub(super) struct Upstream {
    session: HttpSession,
    pub(super) head: ResponseHeader,
    pub(super) times: Times,
    peer: HttpPeer,
    connector: Arc<Connector>,
    _open: OpenGuard,
}

impl Upstream {
    /// Reads a part of the body; `None`: it is whole.
    pub(super) async fn read(&mut self) -> pingora::Result<Option<Bytes>> {
        loop {
            let part = self.session.read_response_body().await.map_err(|mut error| {
                error.esource = ErrorSource::Upstream;
                error
            })?;
            match part {
                Some(part) if part.is_empty() => {}
                // Of HTTP/2 a part may be a slice of something larger.
                Some(part) if matches!(self.session, HttpSession::H2(_)) => {
                    return Ok(Some(Bytes::copy_from_slice(&part)));
                }
                part => return Ok(part),
            }
        }
    }

    /// Gives the connection back after a whole answer.
    pub(super) async fn release(mut self) {
        if self.session.response_done() {
            let idle = self.peer.options.idle_timeout;
            self.connector.release_http_session(self.session, &self.peer, idle).await;
        }
    }

    /// The length of the body as the head says it.
    pub(super) fn length(&self) -> Option<u64> {
        if self.head.status == http::StatusCode::NO_CONTENT {
            return Some(0);
        }
        length_of(&self.head.headers)
    }

    /// Tells whether a body without a length has an end that can be told from a broken connection.
    pub(super) fn has_end(&self) -> bool {
        let chunked = self.head.headers.contains_key(header::TRANSFER_ENCODING);
        self.head.version == Version::HTTP_2 || chunked || self.length().is_some()
    }
}

fn length_of(headers: &HeaderMap) -> Option<u64> {
    // Some proxies drop the length and some nodes say it twice; only a plain one counts.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Where the client for whom an answer was fetched goes on when it turns out not to be kept.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Option<(Bytes, Upstream)>>>);

impl Handover {
    /// What the node sent that is not in the body, and the node itself.
    pub(super) fn take(&self) -> Option<(Bytes, Upstream)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What becomes of an answer while it is read.
pub(super) enum Filled {
    /// It is in the table already, by this id: taken away again if it breaks off.
    Known(Arc<str>, u64),
    /// It is kept once it is whole; until then it is this one's duty.
    Later(Lead),
    /// It is not kept, since it was purged on its way.
    Never,
}

/// Ends a body whose filling ends early, be it that the process stops: those who read learn of it by a body that is too
/// short, and nobody finds it any more.
struct Filling {
    cache: Arc<Cache>,
    object: Arc<Object>,
    filled: Option<Filled>,
}

impl Drop for Filling {
    fn drop(&mut self) {
        if self.object.body.progress().end == End::Open {
            if let Some(Filled::Known(url, id)) = &self.filled {
                self.cache.forget(url, *id);
            }
            self.object.body.end(End::Broken);
        }
    }
}

/// Reads the body of an answer into memory.
pub(super) async fn fill(
    cache: Arc<Cache>,
    object: Arc<Object>,
    mut upstream: Upstream,
    filled: Filled,
    handover: Handover,
) {
    let mut filling = Filling { cache: cache.clone(), object: object.clone(), filled: Some(filled) };
    let body = &object.body;
    loop {
        let read = upstream.read().await;
        match read {
            Ok(Some(part)) => {
                let so_far = body.progress().bytes + part.len() as u64;
                let held = match body.length {
                    // Taken as a whole before.
                    Some(length) if so_far <= length => match cache.take(PART_BYTES) {
                        None => return,
                        held => held,
                    },
                    Some(_) => return,
                    None => {
                        let held = cache
                            .take(part.len() as u64 + PART_BYTES)
                            .filter(|_| so_far <= cache.object_max());
                        if held.is_none() {
                            if let Some(Filled::Later(lead)) = filling.filled.take() {
                                cache.pass(&lead.flown, super::Not::Large, clock::now());
                                lead.land(Landed::Passed);
                            }
                            *handover.0.lock().unwrap_or_else(PoisonError::into_inner) =
                                Some((part, upstream));
                            body.end(End::Handed);
                            return;
                        }
                        held
                    }
                };
                body.push(part, held);
            }
            Ok(None) if body.length.is_some_and(|length| length != body.progress().bytes) => return,
            Ok(None) => {
                body.end(End::Whole);
                if let Some(Filled::Later(lead)) = filling.filled.take() {
                    let landed = match cache.put(&lead, &object, None) {
                        Ok(_) => Landed::Kept(object.clone()),
                        Err(newer) => newer.map_or(Landed::Passed, Landed::Kept),
                    };
                    lead.land(landed);
                }
                upstream.release().await;
                return;
            }
            Err(_) => return,
        }
    }
}

/// The longest that somebody waits for another's fetch: as long as for a node, within reason.
pub(super) fn patience(timeouts: &SiteTimeouts) -> Duration {
    (timeouts.connect + timeouts.response).min(Duration::from_secs(30))
}
