//! WHIP (RFC 9725) and WHEP: joining by one HTTP request.
//!
//! A POST with an SDP offer enters the room: WHIP sends, WHEP receives. Its resource, at an address that nobody can
//! guess, is deleted to leave. A session also ends when its client closes DTLS or falls silent for 15 s; whoever waits
//! for that holds the room. Trickle is taken and ignored (candidates of the client are learned from its checks); an
//! ICE restart by PATCH is done (RFC 9725 section 4.3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use http::{HeaderName, Method, StatusCode};
use prometheus::IntGauge;
use tokio::sync::mpsc;

use super::command::{Command, Join, Notice, Role, SessionId};
use super::control::{JoinContext, Sfu};
use super::engine::parses;
use super::offer::{IceCredentials, Offer, restamp};
use super::room::RoomRef;
use super::signalling::session::display_name;
use crate::rooms::RoomId;

/// WHIP or WHEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Sends into the room.
    Whip,
    /// Receives from the room.
    Whep,
}

impl Resource {
    /// Returns its segment of the path, also its label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// One request, as the edge has read it.
#[derive(Debug)]
pub struct SfuRequest {
    /// Which of the two.
    pub resource: Resource,
    /// The method.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent, without its question mark.
    pub query: Option<String>,
    /// The room that the path names.
    pub room: RoomId,
    /// The last segment of a resource's path; `None` for the endpoint.
    pub id: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// The body, at most [`BODY_BYTES_MAX`].
    pub body: Bytes,
    /// The place, if [`SfuRequest::needs_place`].
    pub join: Option<JoinContext>,
}

/// The answer. CORS headers are among `headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SfuResponse {
    /// The status.
    pub status: StatusCode,
    /// All headers but `Content-Length`.
    pub headers: Vec<(HeaderName, String)>,
    /// The body.
    pub body: Bytes,
}

impl SfuResponse {
    fn new(status: StatusCode) -> Self {
        let cors = CORS.iter().map(|(name, value)| (HeaderName::from_static(name), (*value).to_owned()));
        Self { status, headers: cors.collect(), body: Bytes::new() }
    }

    /// An answer with one sentence.
    fn fault(status: StatusCode, reason: impl Into<String>) -> Self {
        let mut body = reason.into();
        body.push('\n');
        Self { body: Bytes::from(body), ..Self::new(status).with(CONTENT_TYPE, "text/plain; charset=utf-8") }
    }

    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn full(reason: impl Into<String>) -> Self {
        Self::fault(StatusCode::SERVICE_UNAVAILABLE, reason).with(RETRY_AFTER, RETRY_SECONDS)
    }

    fn not_found() -> Self {
        Self::fault(StatusCode::NOT_FOUND, "there is no such session")
    }
}

/// All WHIP and WHEP sessions of the process, by the last segment of their address.
#[derive(Debug)]
pub(super) struct Registry {
    max: usize,
    gauge: IntGauge,
    sessions: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    resource: Resource,
    room: RoomId,
    worker: u8,
    session: SessionId,
    etag: String,
    // What was offered last: an ICE restart offers it again with other credentials.
    offer: Arc<str>,
    ice: IceCredentials,
    // Dropped to end the session's task.
    ended: mpsc::Sender<()>,
}

impl Registry {
    /// Creates an empty registry of at most `max` sessions.
    pub(super) fn new(max: usize, gauge: IntGauge) -> Self {
        Self { max, gauge, sessions: Mutex::new(HashMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, id: String, entry: Entry) -> bool {
        let mut sessions = self.lock();
        if sessions.len() >= self.max {
            return false;
        }
        sessions.insert(id, entry);
        self.gauge.inc();
        true
    }

    fn is_full(&self) -> bool {
        self.lock().len() >= self.max
    }

    fn find(&self, request: &SfuRequest) -> Option<Entry> {
        let id = request.id.as_deref()?;
        let entry = self.lock().get(id).cloned()?;
        (entry.resource == request.resource && entry.room == request.room).then_some(entry)
    }

    fn remove(&self, id: &str) {
        if self.lock().remove(id).is_some() {
            self.gauge.dec();
        }
    }

    fn update(&self, id: &str, etag: String, ice: IceCredentials) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.etag = etag;
            entry.ice = ice;
        }
    }
}

/// Answers one request.
pub(super) async fn answer(sfu: &Sfu, request: SfuRequest) -> SfuResponse {
    let is_endpoint = request.id.is_none();
    let method = request.method.clone();
    if method == Method::OPTIONS {
        return options(is_endpoint);
    }
    if is_endpoint {
        if method == Method::POST {
            return post(sfu, request).await;
        }
        return SfuResponse::fault(StatusCode::METHOD_NOT_ALLOWED, "POST an SDP offer here")
            .with(ALLOW, ENDPOINT_METHODS);
    }
    if method == Method::DELETE {
        return delete(sfu, &request);
    }
    if method == Method::PATCH {
        return patch(sfu, &request).await;
    }
    SfuResponse::fault(StatusCode::METHOD_NOT_ALLOWED, "DELETE ends the session, PATCH restarts ICE")
        .with(ALLOW, RESOURCE_METHODS)
}

fn options(is_endpoint: bool) -> SfuResponse {
    let response = SfuResponse::new(StatusCode::NO_CONTENT);
    if is_endpoint {
        // RFC 9725 section 4.2.
        response.with(ACCEPT_POST, SDP).with(ALLOW, ENDPOINT_METHODS)
    } else {
        response.with(ACCEPT_PATCH, FRAGMENT).with(ALLOW, RESOURCE_METHODS)
    }
}

impl SfuRequest {
    /// Returns whether the request enters a room, so that it needs a place: a POST of a good offer to an endpoint.
    /// What will be refused anyway makes no room.
    pub fn needs_place(&self) -> bool {
        self.method == Method::POST && self.id.is_none() && offered(self).is_ok()
    }
}

/// Reads the offer of a POST, and what its participant is in the room for.
fn offered(request: &SfuRequest) -> Result<(&str, Offer, Role), SfuResponse> {
    if !is_type(request, SDP) {
        let reason = "the offer must come as Content-Type: application/sdp";
        return Err(SfuResponse::fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).with(ACCEPT_POST, SDP));
    }
    if request.body.len() > BODY_BYTES_MAX {
        let reason = "the offer is longer than 65536 bytes";
        return Err(SfuResponse::fault(StatusCode::PAYLOAD_TOO_LARGE, reason));
    }
    let bad = |reason: String| SfuResponse::fault(StatusCode::BAD_REQUEST, reason);
    let sdp = std::str::from_utf8(&request.body).map_err(|_| bad("the offer is not UTF-8".to_owned()))?;
    let offer = Offer::read(sdp).map_err(|fault| bad(fault.to_string()))?;
    parses(&offer).map_err(|fault| bad(fault.to_string()))?;
    let role = match request.resource {
        Resource::Whip if !offer.lines.iter().any(|line| line.sends) => {
            return Err(bad("a WHIP offer needs a sending m= line".to_owned()));
        }
        Resource::Whep if !offer.lines.iter().any(|line| line.receives) => {
            return Err(bad("a WHEP offer needs a receiving m= line".to_owned()));
        }
        Resource::Whip => Role::Ingest,
        Resource::Whep => Role::Viewer { only: parameter(request.query.as_deref(), "participant") },
    };
    Ok((sdp, offer, role))
}

async fn post(sfu: &Sfu, mut request: SfuRequest) -> SfuResponse {
    let place = request.join.take();
    let (sdp, offer, role) = match offered(&request) {
        Ok(offered) => offered,
        Err(refused) => return refused,
    };
    let Some(context) = place else {
        return SfuResponse::full("there is no place for the room");
    };
    if sfu.registry().is_full() {
        return SfuResponse::full("this server has as many sessions as it may");
    }
    let name = display_name(&parameter(request.query.as_deref(), "name").unwrap_or_default());
    let (notices, heard) = mpsc::channel(NOTICES_MAX);
    let worker = context.worker;
    let join = Join { room: RoomRef::Public(context.room.clone()), name, role, notices };
    let joined = match sfu.join(worker, join).await {
        Ok(Ok(joined)) => joined,
        Ok(Err(fault)) => return SfuResponse::full(fault.to_string()),
        Err(error) => return SfuResponse::full(error.to_string()),
    };
    // From here on the session leaves when this request is dropped half-way.
    let mut guard = LeaveOnDrop { sfu: sfu.clone(), worker, session: Some(joined.session) };
    let answer = match sfu.offer(worker, joined.session, sdp.to_owned(), Vec::new()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(fault)) => return SfuResponse::fault(StatusCode::BAD_REQUEST, fault.to_string()),
        Err(error) => return SfuResponse::full(error.to_string()),
    };
    let id = unguessable();
    let etag = format!("\"{}\"", unguessable());
    let (ended, end) = mpsc::channel(1);
    let entry = Entry {
        resource: request.resource,
        room: request.room.clone(),
        worker,
        session: joined.session,
        etag: etag.clone(),
        offer: Arc::from(sdp),
        ice: offer.ice,
        ended,
    };
    if !sfu.registry().insert(id.clone(), entry) {
        return SfuResponse::full("this server has as many sessions as it may");
    }
    guard.session = None;
    let watcher = sfu.clone();
    let watched = id.clone();
    sfu.tasks().spawn(async move { watch(&watcher, watched, joined.session, context, heard, end).await });
    SfuResponse { body: Bytes::from(answer), ..SfuResponse::new(StatusCode::CREATED) }
        .with(CONTENT_TYPE, SDP)
        .with(LOCATION, format!("{}/{id}", request.path.trim_end_matches('/')))
        .with(ETAG, etag)
        .with(ACCEPT_PATCH, FRAGMENT)
}

/// Waits for the end of a session and holds its room until then.
async fn watch(
    sfu: &Sfu,
    id: String,
    session: SessionId,
    context: JoinContext,
    mut heard: mpsc::Receiver<Notice>,
    mut end: mpsc::Receiver<()>,
) {
    let lost = context.hold.lost();
    let is_out = async {
        loop {
            match heard.recv().await {
                Some(Notice::Bye(_)) | None => return,
                Some(Notice::Message(_)) => {}
            }
        }
    };
    tokio::select! {
        () = is_out => {}
        () = lost => {}
        _ = end.recv() => {}
        () = sfu.tasks().farewell() => {}
    }
    sfu.registry().remove(&id);
    sfu.tell(context.worker, Command::Leave { session });
}

fn delete(sfu: &Sfu, request: &SfuRequest) -> SfuResponse {
    let (Some(entry), Some(id)) = (sfu.registry().find(request), request.id.as_deref()) else {
        return SfuResponse::not_found();
    };
    sfu.registry().remove(id);
    // A full channel means that somebody else has said so already.
    let _ = entry.ended.try_send(());
    SfuResponse::new(StatusCode::OK)
}

/// Trickle and ICE restart (RFC 9725 sections 4.3.1 to 4.3.3).
async fn patch(sfu: &Sfu, request: &SfuRequest) -> SfuResponse {
    let (Some(entry), Some(id)) = (sfu.registry().find(request), request.id.as_deref()) else {
        return SfuResponse::not_found();
    };
    if !is_type(request, FRAGMENT) {
        return SfuResponse::fault(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "PATCH takes Content-Type: application/trickle-ice-sdpfrag",
        )
        .with(ACCEPT_PATCH, FRAGMENT);
    }
    let Some(wanted) = request.if_match.as_deref().map(str::trim) else {
        return SfuResponse::fault(StatusCode::PRECONDITION_REQUIRED, "PATCH needs If-Match");
    };
    if wanted != "*" && wanted != entry.etag {
        return SfuResponse::fault(StatusCode::PRECONDITION_FAILED, "If-Match names an older ICE session");
    }
    if request.body.len() > BODY_BYTES_MAX {
        return SfuResponse::fault(StatusCode::PAYLOAD_TOO_LARGE, "the fragment is longer than 65536 bytes");
    }
    let fragment = std::str::from_utf8(&request.body).ok().and_then(credentials);
    let Some(fresh) = fragment else {
        return SfuResponse::fault(StatusCode::BAD_REQUEST, "the fragment has no a=ice-ufrag and a=ice-pwd");
    };
    if fresh == entry.ice {
        // Trickled candidates: this side is ICE-lite and learns them from the client's checks.
        return SfuResponse::new(StatusCode::NO_CONTENT).with(ETAG, entry.etag);
    }
    if wanted != "*" {
        return SfuResponse::fault(
            StatusCode::PRECONDITION_FAILED,
            "the credentials are of another ICE session: restart it with If-Match: *",
        );
    }
    let offer = restamp(&entry.offer, &entry.ice, &fresh);
    let answer = match sfu.offer(entry.worker, entry.session, offer, Vec::new()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(fault)) => return SfuResponse::fault(StatusCode::BAD_REQUEST, fault.to_string()),
        Err(error) => return SfuResponse::full(error.to_string()),
    };
    let etag = format!("\"{}\"", unguessable());
    sfu.registry().update(id, etag.clone(), fresh);
    SfuResponse { body: Bytes::from(to_fragment(&answer)), ..SfuResponse::new(StatusCode::OK) }
        .with(CONTENT_TYPE, FRAGMENT)
        .with(ETAG, etag)
}

/// Lets a session go whose request was not answered.
struct LeaveOnDrop {
    sfu: Sfu,
    worker: u8,
    session: Option<SessionId>,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.sfu.tell(self.worker, Command::Leave { session });
        }
    }
}

fn is_type(request: &SfuRequest, wanted: &str) -> bool {
    let essence = request.content_type.as_deref().and_then(|t| t.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case(wanted))
}

/// Returns the decoded value of a query parameter that is not empty.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.into_owned())
}

/// Returns the ICE credentials of a fragment (RFC 8840 section 9).
fn credentials(fragment: &str) -> Option<IceCredentials> {
    let value = |prefix: &str| fragment.lines().find_map(|line| line.trim_end().strip_prefix(prefix));
    let (ufrag, pwd) = (value("a=ice-ufrag:")?, value("a=ice-pwd:")?);
    Some(IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
}

/// Returns the ICE part of an answer: credentials, and the candidates of its first line.
fn to_fragment(answer: &str) -> String {
    let mut fragment = String::new();
    let mut lines = 0;
    let mut is_told = false;
    for line in answer.lines() {
        let is_credential = line.starts_with("a=ice-ufrag:") || line.starts_with("a=ice-pwd:");
        let is_first = lines <= 1;
        if line.starts_with("m=") {
            lines += 1;
        }
        let is_line = lines == 1
            && (line.starts_with("m=") || line.starts_with("a=mid:") || line.starts_with("a=candidate:"));
        if (is_credential && is_first && !is_told) || line == "a=ice-lite" || is_line {
            fragment.push_str(line);
            fragment.push_str("\r\n");
        }
        is_told |= line.starts_with("a=ice-pwd:");
    }
    fragment.push_str("a=end-of-candidates\r\n");
    fragment
}

/// Returns 128 random bits as 32 hex digits.
fn unguessable() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Largest body of a request.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Messages are not for these participants; only the end is.
const NOTICES_MAX: usize = 4;
const RETRY_SECONDS: &str = "5";
const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ENDPOINT_METHODS: &str = "OPTIONS, POST";
const RESOURCE_METHODS: &str = "DELETE, OPTIONS, PATCH";
/// Anybody's page may use the endpoints: what lets somebody in is the token, not where their page is from.
const CORS: &[(&str, &str)] = &[
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "DELETE, OPTIONS, PATCH, POST"),
    ("access-control-allow-headers", "Authorization, Content-Type, If-Match"),
    ("access-control-expose-headers", "Accept-Patch, Accept-Post, ETag, Link, Location"),
    ("access-control-max-age", "7200"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_read_and_written() {
        let read = credentials("a=ice-ufrag:abcd\r\na=ice-pwd:efgh\r\nm=audio 9 x 0\r\na=mid:0\r\n").unwrap();
        assert_eq!(read, IceCredentials { ufrag: "abcd".to_owned(), pwd: "efgh".to_owned() });
        assert_eq!(credentials("a=ice-ufrag:abcd\r\n"), None);
        let answer = "v=0\r\na=ice-lite\r\nm=audio 9 x 0\r\na=candidate:1 1 udp\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
            a=mid:0\r\na=sendrecv\r\nm=video 9 x 0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=mid:1\r\n";
        let expected = "a=ice-lite\r\nm=audio 9 x 0\r\na=candidate:1 1 udp\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
            a=mid:0\r\na=end-of-candidates\r\n";
        assert_eq!(to_fragment(answer), expected);
    }

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_none() {
        for (query, expected) in [
            (Some("participant=a%20b&name=x"), Some("a b")),
            (Some("participant="), None),
            (Some("other=1"), None),
            (None, None),
        ] {
            assert_eq!(parameter(query, "participant").as_deref(), expected, "{query:?}");
        }
    }

    #[test]
    fn addresses_are_128_random_bits() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| unguessable()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}
