//! What the paths of a conference site are, and its page, compiled in.
//!
//! Pure. The edge asks [`route`] and carries out what it says: pages are answered from memory, the rest needs
//! authorisation and a place for the room first.

use std::hash::Hasher as _;
use std::sync::LazyLock;

use http::Method;
use siphasher::sip::SipHasher13;

/// What a request to a conference site is for. Rooms are as they stand in the path: percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route<'a> {
    /// A page or a file of it.
    Page(&'static Asset),
    /// The page of a room.
    RoomPage {
        /// The page.
        asset: &'static Asset,
        /// The room.
        room: &'a str,
    },
    /// A participant's WebSocket. A plain GET is answered after authorisation with 426.
    WebSocket {
        /// The room.
        room: &'a str,
    },
    /// WHIP (RFC 9725).
    Whip {
        /// The room.
        room: &'a str,
        /// The session's resource; `None` is the endpoint.
        id: Option<&'a str>,
    },
    /// WHEP.
    Whep {
        /// The room.
        room: &'a str,
        /// The session's resource; `None` is the endpoint.
        id: Option<&'a str>,
    },
    /// The path exists, the method does not: 405 with this `Allow`.
    MethodNotAllowed(&'static str),
    /// 404.
    NotFound,
}

/// One file of the page.
#[derive(Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its name in the source tree.
    pub name: &'static str,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Strong `ETag`, with its quotes: a hash of the body.
    pub etag: String,
    /// The body.
    pub body: &'static [u8],
}

impl Asset {
    /// Returns the response headers that go with every asset.
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        HEADERS
    }
}

/// Says what a request is for. `path` is without the query.
pub fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let is_read = *method == Method::GET || *method == Method::HEAD;
    let read = |route: Route<'a>| if is_read { route } else { Route::MethodNotAllowed("GET, HEAD") };
    if path == "/" {
        return read(page("index.html"));
    }
    if let Some(name) = path.strip_prefix("/assets/") {
        return match asset(name).filter(|asset| !asset.name.ends_with(".html")) {
            Some(asset) => read(Route::Page(asset)),
            None => Route::NotFound,
        };
    }
    if path == "/favicon.ico" {
        return read(page("favicon.svg"));
    }
    let Some(below) = path.strip_prefix("/rooms/") else { return Route::NotFound };
    let mut segments = below.split('/');
    let room = segments.next().unwrap_or_default();
    let rest = [segments.next(), segments.next(), segments.next()];
    if room.is_empty() {
        return Route::NotFound;
    }
    match rest {
        [None | Some(""), None, None] => match asset("room.html") {
            Some(asset) => read(Route::RoomPage { asset, room }),
            None => Route::NotFound,
        },
        [Some("ws"), None, None] => {
            if *method == Method::GET {
                Route::WebSocket { room }
            } else {
                Route::MethodNotAllowed("GET")
            }
        }
        [Some("whip"), None | Some(""), None] => Route::Whip { room, id: None },
        [Some("whep"), None | Some(""), None] => Route::Whep { room, id: None },
        [Some("whip"), id @ Some(_), None] => Route::Whip { room, id },
        [Some("whep"), id @ Some(_), None] => Route::Whep { room, id },
        [..] => Route::NotFound,
    }
}

fn page(name: &str) -> Route<'static> {
    asset(name).map_or(Route::NotFound, Route::Page)
}

fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|(name, body)| {
            let mut hasher = SipHasher13::new();
            hasher.write(body);
            let kind = name.rsplit('.').next().unwrap_or_default();
            Asset {
                name,
                content_type: content_type(kind),
                etag: format!("\"{:016x}\"", hasher.finish()),
                body,
            }
        })
        .collect()
});

fn content_type(extension: &str) -> &'static str {
    match extension {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("page/", $name)).as_slice())),*]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "call.js",
    "chevron.svg",
    "favicon.svg",
    "icons.svg",
    "index.html",
    "landing.js",
    "main.js",
    "media.js",
    "preview.js",
    "quality.js",
    "room.html",
    "signalling.js",
    "style.css",
    "tiles.js",
];

/// Assets change with the binary: a browser asks each time, and mostly hears 304.
const HEADERS: &[(&str, &str)] = &[
    ("cache-control", "no-cache"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob: mediastream:; \
         connect-src 'self' wss:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'",
    ),
    (
        "permissions-policy",
        "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), autoplay=(self), \
         clipboard-write=(self), geolocation=(), payment=(), usb=()",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn name(route: Route<'_>) -> String {
        match route {
            Route::Page(asset) => asset.name.to_owned(),
            Route::RoomPage { asset, room } => format!("{} {room}", asset.name),
            Route::WebSocket { room } => format!("ws {room}"),
            Route::Whip { room, id } => format!("whip {room} {id:?}"),
            Route::Whep { room, id } => format!("whep {room} {id:?}"),
            Route::MethodNotAllowed(allow) => format!("405 {allow}"),
            Route::NotFound => "404".to_owned(),
        }
    }

    #[test]
    fn paths_lead_where_they_should() {
        for (method, path, expected) in [
            (Method::GET, "/", "index.html"),
            (Method::HEAD, "/", "index.html"),
            (Method::POST, "/", "405 GET, HEAD"),
            (Method::GET, "/assets/main.js", "main.js"),
            (Method::GET, "/assets/room.html", "404"),
            (Method::GET, "/assets/../main.js", "404"),
            (Method::GET, "/favicon.ico", "favicon.svg"),
            (Method::GET, "/rooms/a", "room.html a"),
            (Method::GET, "/rooms/a%20b/", "room.html a%20b"),
            (Method::GET, "/rooms/", "404"),
            (Method::GET, "/rooms//ws", "404"),
            (Method::GET, "/rooms/a/ws", "ws a"),
            (Method::POST, "/rooms/a/ws", "405 GET"),
            (Method::POST, "/rooms/a/whip", "whip a None"),
            (Method::DELETE, "/rooms/a/whip/x1", "whip a Some(\"x1\")"),
            (Method::POST, "/rooms/a/whep", "whep a None"),
            (Method::PATCH, "/rooms/a/whep/x1", "whep a Some(\"x1\")"),
            (Method::GET, "/rooms/a/whip/x1/y", "404"),
            (Method::GET, "/rooms/a/other", "404"),
            (Method::GET, "/elsewhere", "404"),
        ] {
            assert_eq!(name(route(&method, path)), expected, "{method} {path}");
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_compiled_in() {
        let names: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        for (name, body) in FILES {
            let text = std::str::from_utf8(body).unwrap();
            for (at, _) in text.match_indices("/assets/") {
                let rest = &text[at + "/assets/".len()..];
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c))
                    .unwrap_or(rest.len());
                assert!(names.contains(&&rest[..end]), "{name} names {:?}", &rest[..end]);
            }
            for (at, _) in text.match_indices("from \"./") {
                let rest = &text[at + "from \"./".len()..];
                let end = rest.find('"').unwrap();
                assert!(names.contains(&&rest[..end]), "{name} imports {:?}", &rest[..end]);
            }
        }
    }

    #[test]
    fn assets_differ_in_their_etags() {
        let tags: std::collections::BTreeSet<&str> = ASSETS.iter().map(|asset| asset.etag.as_str()).collect();
        assert_eq!(tags.len(), ASSETS.len());
    }
}
