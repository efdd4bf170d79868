//! What the admin server answers: paths, JSON, the status page's files.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200, or 503 with one reason a line |
//! | `GET /metrics` | Prometheus text |
//! | `GET /api/v1/status?rooms=N` | all that the status page shows |
//! | `GET /api/v1/nodes`, `rooms?limit=N`, `config`, `media` | one part of it |
//! | `GET /api/v1/explain?url=U&method=M` | what would become of a request now, as `roomgate explain` says it |
//! | `GET /api/v1/tunnels?limit=N` | how many WebSockets to nodes there are, and the oldest |
//! | `POST /api/v1/tunnels/close` | closes some of them: `{"closed": N}`, or 400 with what is wrong |
//! | `GET /api/v1/bans?limit=N` | how many bans there are, and those that end first |
//! | `POST /api/v1/bans` | bans a network: 200, or 400 with what is wrong, or 409 when the table is full |
//! | `DELETE /api/v1/bans?network=N` | ends a ban: 200, or 404 |
//! | `GET /api/v1/cache` | how much the cache keeps, and how often that was of use |
//! | `POST /api/v1/cache/purge` | takes away a URL, or all below one: `{"purged": N}`, or 400 with what is wrong |
//! | `POST /api/v1/reload` | 200 applied, 422 rejected: a [`ReloadRecord`](super::view::ReloadRecord) |
//! | `GET /` | the status page |

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use prometheus::{Encoder, TextEncoder};
use serde::Serialize;

use super::bans;
use super::cache;
use super::guard::{Ask, Guard, Refusal};
use super::tunnels;
use super::view::{AdminView, EdgeView, ReadyView, ReloadResult, RoomsView, StatusView};
use crate::edge::explain::Question;

/// Rooms in an answer unless asked otherwise.
const ROOMS_DEFAULT: usize = 100;
/// Rooms in an answer at most.
const ROOMS_MAX: usize = 10_000;

/// What a path of the admin server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Health,
    Ready,
    Metrics,
    Status,
    Nodes,
    Rooms,
    Config,
    Media,
    Explain,
    Tunnels,
    CloseTunnels,
    Bans,
    Cache,
    Purge,
    Reload,
    File(&'static File),
}

impl Route {
    fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/api/v1/status" => Self::Status,
            "/api/v1/nodes" => Self::Nodes,
            "/api/v1/rooms" => Self::Rooms,
            "/api/v1/config" => Self::Config,
            "/api/v1/media" => Self::Media,
            "/api/v1/explain" => Self::Explain,
            "/api/v1/tunnels" => Self::Tunnels,
            "/api/v1/tunnels/close" => Self::CloseTunnels,
            "/api/v1/bans" => Self::Bans,
            "/api/v1/cache" => Self::Cache,
            "/api/v1/cache/purge" => Self::Purge,
            "/api/v1/reload" => Self::Reload,
            _ => return FILES.iter().find(|file| file.path == path).map(Self::File),
        })
    }

    // Nothing here tells more than whether the edge serves.
    fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::File(_))
    }

    /// The methods that it has, as `Allow` lists them.
    fn methods(self) -> &'static str {
        match self {
            Self::Reload | Self::CloseTunnels | Self::Purge => "POST",
            Self::Bans => "GET, HEAD, POST, DELETE",
            Self::Health
            | Self::Ready
            | Self::Metrics
            | Self::Status
            | Self::Nodes
            | Self::Rooms
            | Self::Config
            | Self::Media
            | Self::Tunnels
            | Self::Cache
            | Self::Explain
            | Self::File(_) => "GET, HEAD",
        }
    }

    fn has(self, method: &Method) -> bool {
        self.methods().split(", ").any(|one| one == method.as_str())
    }
}

/// The outcome of one request, for the caller to count.
#[derive(Debug)]
pub struct Answer {
    /// What goes back.
    pub response: Response<Full<Bytes>>,
    /// Why it was refused, if the guard did.
    pub refused: Option<Refusal>,
}

/// Answers one request, whose body the caller has read.
pub async fn answer(
    request: &Request<Bytes>,
    local: std::net::SocketAddr,
    guard: &Guard,
    view: &dyn AdminView,
) -> Answer {
    let route = Route::find(request.uri().path());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers();
    let hosts: Vec<&str> =
        headers.get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    let ask = Ask {
        reads,
        open: route.is_some_and(Route::is_open),
        host: &hosts,
        origin: text(headers, &ORIGIN),
        fetch_site: text(headers, &HeaderName::from_static("sec-fetch-site")),
        content_type: text(headers, &CONTENT_TYPE),
        has_body: headers.contains_key(TRANSFER_ENCODING)
            || text(headers, &CONTENT_LENGTH).is_some_and(|length| length != "0"),
        authorization: text(headers, &AUTHORIZATION),
        local,
    };
    let (mut response, refused) = match guard.check(&ask) {
        Err(refusal) => (refuse(refusal), Some(refusal)),
        Ok(_) => (serve(request, route, view).await, None),
    };
    secure(response.headers_mut());
    Answer { response, refused }
}

async fn serve(
    request: &Request<Bytes>,
    route: Option<Route>,
    view: &dyn AdminView,
) -> Response<Full<Bytes>> {
    let Some(route) = route else {
        return plain(StatusCode::NOT_FOUND, "there is nothing at this path\n");
    };
    if !route.has(request.method()) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this path has another method\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
        return response;
    }
    match route {
        Route::Health => plain(StatusCode::OK, "alive\n"),
        Route::Ready => match view.ready() {
            Ok(()) => plain(StatusCode::OK, "ready\n"),
            Err(reasons) => plain(StatusCode::SERVICE_UNAVAILABLE, &lines(&reasons)),
        },
        Route::Metrics => metrics(view),
        Route::Status => json(StatusCode::OK, &status(view, limit(request, "rooms"))),
        Route::Nodes => json(StatusCode::OK, &view.nodes()),
        Route::Rooms => json(StatusCode::OK, &rooms(view, limit(request, "limit"))),
        Route::Config => json(StatusCode::OK, &view.config()),
        Route::Media => json(StatusCode::OK, &view.media()),
        Route::Explain => match question(request).and_then(|question| view.explain(&question)) {
            Ok(explained) => json(StatusCode::OK, &explained),
            Err(wrong) => plain(StatusCode::BAD_REQUEST, &format!("{wrong}\n")),
        },
        Route::Tunnels => json(StatusCode::OK, &view.tunnels(limit(request, "limit"))),
        Route::CloseTunnels => {
            let closed = tunnels::read(request.body()).and_then(|wish| view.close_tunnels(&wish));
            match closed {
                Ok(closed) => json(StatusCode::OK, &serde_json::json!({ "closed": closed })),
                Err(wrong) => plain(StatusCode::BAD_REQUEST, &format!("{wrong}\n")),
            }
        }
        Route::Bans => bans(request, view),
        Route::Cache => json(StatusCode::OK, &view.cache()),
        Route::Purge => match cache::read(request.body()).and_then(|wish| view.purge(&wish)) {
            Ok(purged) => json(StatusCode::OK, &serde_json::json!({ "purged": purged })),
            Err(wrong) => plain(StatusCode::BAD_REQUEST, &format!("{wrong}\n")),
        },
        Route::Reload => {
            let record = view.reload().await;
            let code = match record.result {
                ReloadResult::Applied => StatusCode::OK,
                ReloadResult::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
            };
            json(code, &record)
        }
        Route::File(file) => {
            let mut response = Response::new(Full::new(Bytes::from_static(file.bytes)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
            response
        }
    }
}

fn bans(request: &Request<Bytes>, view: &dyn AdminView) -> Response<Full<Bytes>> {
    let wrong = |wrong: String| plain(StatusCode::BAD_REQUEST, &format!("{wrong}\n"));
    if request.method() == Method::POST {
        return match bans::read(request.body()) {
            Err(fault) => wrong(fault),
            Ok(wish) if view.ban(&wish) => {
                json(StatusCode::OK, &serde_json::json!({ "banned": wish.network.to_string() }))
            }
            Ok(_) => plain(StatusCode::CONFLICT, "the table is full of bans that last longer\n"),
        };
    }
    if request.method() == Method::DELETE {
        return match bans::read_network(request.uri().query()) {
            Err(fault) => wrong(fault),
            Ok(network) if view.unban(network) => {
                json(StatusCode::OK, &serde_json::json!({ "ended": network.to_string() }))
            }
            Ok(network) => plain(StatusCode::NOT_FOUND, &format!("there is no ban of {network}\n")),
        };
    }
    json(StatusCode::OK, &view.bans(limit(request, "limit")))
}

fn status(view: &dyn AdminView, limit: usize) -> StatusView {
    let reasons = view.ready().err().unwrap_or_default();
    StatusView {
        process: view.process(),
        ready: ReadyView { ready: reasons.is_empty(), reasons },
        nodes: view.nodes(),
        rooms: rooms(view, limit),
        media: view.media(),
        edge: EdgeView { tunnels: view.tunnels(0).total, bans: view.bans_total(), cache: view.cache() },
        config: view.config().into(),
    }
}

fn rooms(view: &dyn AdminView, limit: usize) -> RoomsView {
    RoomsView { total: view.rooms_total(), rooms: view.rooms(limit) }
}

// A number that cannot be read is as good as none: the answer says how many rooms there are.
fn limit<B>(request: &Request<B>, name: &str) -> usize {
    request
        .uri()
        .query()
        .and_then(|query| url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name))
        .and_then(|(_, value)| value.parse().ok())
        .map_or(ROOMS_DEFAULT, |limit: usize| limit.min(ROOMS_MAX))
}

/// Reads `url` and `method`.
fn question<B>(request: &Request<B>) -> Result<Question, String> {
    let parameter = |name: &str| {
        let query = request.uri().query().unwrap_or_default();
        let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    };
    let url = parameter("url").ok_or("say which: ?url=https://HOST/PATH, percent-encoded")?;
    let url = url::Url::parse(&url).map_err(|error| format!("{url}: {error}; write https://HOST/PATH"))?;
    let method = parameter("method").unwrap_or_else(|| "GET".to_owned());
    let method = method.parse::<Method>().map_err(|_| format!("{method:?} is no method"))?;
    Ok(Question { url, method, headers: Vec::new(), client: IpAddr::from([192, 0, 2, 1]) })
}

fn metrics(view: &dyn AdminView) -> Response<Full<Bytes>> {
    let mut text = Vec::new();
    if TextEncoder::new().encode(&view.registry().gather(), &mut text).is_err() {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n");
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
    response
}

fn json<T: Serialize>(code: StatusCode, value: &T) -> Response<Full<Bytes>> {
    let Ok(text) = serde_json::to_vec(value) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n");
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(code: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let code = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = plain(code, &format!("{}\n", refusal.message()));
    if code == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"roomgate admin\""));
    }
    response
}

fn lines(reasons: &[String]) -> String {
    reasons.iter().map(|reason| format!("{reason}\n")).collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // A value that is not text is there all the same: it must not count as absent.
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// On every answer, of whatever kind.
const SECURITY: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
];

/// A file of the status page.
#[derive(Debug, PartialEq, Eq)]
struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

static FILES: [File; 4] = [
    File { path: "/", content_type: "text/html; charset=utf-8", bytes: include_bytes!("page/index.html") },
    File {
        path: "/status.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("page/status.css"),
    },
    File {
        path: "/status.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("page/status.js"),
    },
    File { path: "/favicon.svg", content_type: "image/svg+xml", bytes: include_bytes!("page/favicon.svg") },
];
