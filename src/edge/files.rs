//! Files of a folder: what Nginx did in front of a web client.
//!
//! Nothing outside of the folder is read: the kernel resolves the path beneath it (`openat2`), whatever links and dots
//! say. What may block is done on threads that may. A file is sent in parts, never held as a whole, but for pages with
//! server-side includes, which are bounded.

mod ssi;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use super::conditions::{Sent, Validators, decide, validators};
use super::headers::takes_encoding;
use super::proxy::{Request, respond, write_whole};
use super::route::{Goes, Values, clean_path};
use crate::config::settings::{FilesSettings, Name, Part, PathMatch, RouteSettings, Template};

/// How much of a file is read at once.
const PART: usize = 64 * 1024;

/// Answers with a file. Always true: answered.
pub(super) async fn serve(
    session: &mut Session,
    ctx: &mut Request,
    route: &RouteSettings,
    files: &FilesSettings,
) -> pingora::Result<bool> {
    let request = session.req_header();
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let allow = [("Allow", "GET, HEAD")];
        return respond(session, ctx, StatusCode::METHOD_NOT_ALLOWED, &allow, "files are only read").await;
    }
    let values = ctx.values(request);
    let path = match &files.file {
        Some(file) => values.expand(file, Goes::Text),
        None => path_below(route, request.uri.path()),
    };
    let Some(path) = safe(&path) else {
        return respond(session, ctx, StatusCode::NOT_FOUND, &[], "not found").await;
    };
    let wanted = Wanted {
        folder: files.folder.clone(),
        path,
        index: files.index.clone(),
        variables: files.ssi.as_ref().map(|ssi| variables(ssi, &values)),
        encodings: encodings(&request.headers),
    };
    let found = tokio::task::spawn_blocking(move || find(&wanted)).await;
    match found.unwrap_or(Found::Broken) {
        Found::Nothing => respond(session, ctx, StatusCode::NOT_FOUND, &[], "not found").await,
        Found::Broken => {
            respond(session, ctx, StatusCode::INTERNAL_SERVER_ERROR, &[], "the file cannot be read").await
        }
        Found::Folder => {
            let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
            let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
            // A path that begins with two slashes would be another host.
            let location = format!("/{}/", path.trim_matches('/'));
            let location = query.map_or(location.clone(), |query| format!("{location}?{query}"));
            let to = [("Location", location.as_str())];
            respond(session, ctx, StatusCode::MOVED_PERMANENTLY, &to, "see there").await
        }
        Found::Page { content_type, body } => {
            let mut response = ResponseHeader::build(StatusCode::OK, Some(4))?;
            response.insert_header(header::CONTENT_TYPE, content_type)?;
            write_whole(session, ctx, response, body).await
        }
        Found::File(opened) => send(session, ctx, opened).await,
    }
}

/// What a thread that may block is to look for.
struct Wanted {
    folder: PathBuf,
    /// Safe, without a slash at its beginning; empty: the folder itself.
    path: String,
    index: Name,
    /// `Some`: server-side includes.
    variables: Option<Vec<(Name, String)>>,
    /// Encodings that the client takes, as suffix and name.
    encodings: Vec<(&'static str, &'static str)>,
}

enum Found {
    Nothing,
    /// A folder whose path has no slash at its end.
    Folder,
    Page {
        content_type: String,
        body: Bytes,
    },
    File(Opened),
    Broken,
}

/// A file that is open.
struct Opened {
    file: File,
    content_type: String,
    encoding: Option<&'static str>,
    /// Another client may get it encoded otherwise.
    varies: bool,
    validators: Validators,
}

fn find(wanted: &Wanted) -> Found {
    let Ok(folder) = open(&wanted.folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return Found::Broken;
    };
    let beneath = |path: &str| {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            openat2(&folder, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS);
        file.ok().map(File::from)
    };
    let Some(mut file) = beneath(wanted.path.trim_end_matches('/')) else { return Found::Nothing };
    let mut path = wanted.path.clone();
    if is(&file, FileType::Directory) {
        if !(path.is_empty() || path.ends_with('/')) {
            return Found::Folder;
        }
        path.push_str(&wanted.index);
        file = match beneath(&path) {
            Some(file) => file,
            None => return Found::Nothing,
        };
    } else if path.ends_with('/') {
        return Found::Nothing;
    }
    if !is(&file, FileType::RegularFile) {
        return Found::Nothing;
    }
    let content_type = content_type(&path);
    if let Some(variables) = &wanted.variables
        && (content_type.starts_with("text/") || content_type.contains("javascript"))
    {
        let mut source = Pages { open: &beneath, variables };
        let Some(page) = read_page(&mut file) else { return Found::Broken };
        return match ssi::expand(&page, &mut source) {
            Ok(body) => Found::Page { content_type, body: body.into() },
            Err(_) => Found::Broken,
        };
    }
    let encoded = wanted.encodings.iter().find_map(|(suffix, name)| {
        let encoded = beneath(&format!("{path}.{suffix}")).filter(|file| is(file, FileType::RegularFile))?;
        Some((encoded, *name))
    });
    let varies =
        encoded.is_some() || ENCODED.iter().any(|(suffix, _)| beneath(&format!("{path}.{suffix}")).is_some());
    let encoding = encoded.as_ref().map(|(_, name)| *name);
    let file = encoded.map_or(file, |(encoded, _)| encoded);
    match fstat(&file) {
        Ok(stat) => {
            let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
            let since = Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
            let validators = validators(since, u64::try_from(stat.st_size).unwrap_or_default());
            Found::File(Opened { file, content_type, encoding, varies, validators })
        }
        Err(_) => Found::Broken,
    }
}

fn is(file: &File, kind: FileType) -> bool {
    fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind)
}

fn read_page(file: &mut File) -> Option<Vec<u8>> {
    let mut page = Vec::new();
    file.take(ssi::PAGE_BYTES_MAX as u64 + 1).read_to_end(&mut page).ok()?;
    Some(page)
}

/// Where pages get what they include.
struct Pages<'a> {
    open: &'a dyn Fn(&str) -> Option<File>,
    variables: &'a [(Name, String)],
}

impl ssi::Source for Pages<'_> {
    fn include(&mut self, path: &str) -> Option<Vec<u8>> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut file = (self.open)(&safe(path)?).filter(|file| is(file, FileType::RegularFile))?;
        read_page(&mut file)
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(n, _)| **n == *name).map(|(_, text)| text.as_str())
    }
}

/// What the path has behind the route's prefix, decoded.
fn path_below(route: &RouteSettings, raw: &str) -> String {
    let clean = clean_path(raw).unwrap_or_default();
    match &route.when.path {
        PathMatch::Prefix(prefix) => clean.strip_prefix(&**prefix).unwrap_or_default().to_owned(),
        PathMatch::Any | PathMatch::Exact(_) | PathMatch::Regex(_) => clean.into_owned(),
    }
}

/// Returns a path in a folder without slashes at its beginning; `None`: no client may have it. No part begins with a
/// dot, but for `.well-known` (RFC 8615).
fn safe(path: &str) -> Option<String> {
    let path = path.trim_start_matches('/');
    let hidden = |part: &str| part.starts_with('.') && part != ".well-known";
    let legal = path.len() <= 4096 && !path.contains(['\0', '\\']) && !path.split('/').any(hidden);
    legal.then(|| path.to_owned())
}

/// A variable whose groups are all empty is empty: `{tenant}/` is nothing without a tenant.
fn variables(ssi: &[(Name, Template)], values: &Values<'_>) -> Vec<(Name, String)> {
    let value = |template: &Template| {
        let mut groups = template.parts().iter().filter_map(|part| match part {
            Part::Group(name) => Some(name),
            Part::Text(_) | Part::Var(_) | Part::Argument(_) => None,
        });
        let is_empty =
            |name: &Name| values.groups.iter().all(|(group, text)| group != name || text.is_empty());
        let any = groups.clone().next().is_some();
        if any && groups.all(is_empty) { String::new() } else { values.expand(template, Goes::Text) }
    };
    ssi.iter().map(|(name, template)| (name.clone(), value(template))).collect()
}

fn content_type(path: &str) -> String {
    let guess = mime_guess::from_path(Path::new(path)).first_or_octet_stream();
    let essence = guess.essence_str();
    let text =
        essence.starts_with("text/") || matches!(essence, "application/javascript" | "application/json");
    if text { format!("{essence}; charset=utf-8") } else { essence.to_owned() }
}

/// What may lie beside a file, the better first.
const ENCODED: &[(&str, &str)] = &[("br", "br"), ("gz", "gzip")];

/// The encodings of [`ENCODED`] that a client takes (RFC 9110 section 12.5.3).
fn encodings(headers: &HeaderMap) -> Vec<(&'static str, &'static str)> {
    ENCODED.iter().copied().filter(|(_, name)| takes_encoding(headers, name)).collect()
}

async fn send(session: &mut Session, ctx: &mut Request, opened: Opened) -> pingora::Result<bool> {
    let Opened { file, content_type, encoding, varies, validators } = opened;
    let sent = decide(&session.req_header().headers, &validators);
    let (status, from, count) = match sent {
        Sent::Whole => (StatusCode::OK, 0, validators.length),
        Sent::Part(from, count) => (StatusCode::PARTIAL_CONTENT, from, count),
        Sent::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
        Sent::Failed => {
            return respond(session, ctx, StatusCode::PRECONDITION_FAILED, &[], "the file is another one")
                .await;
        }
        Sent::Unsatisfiable => {
            let range = format!("bytes */{}", validators.length);
            let range = [("Content-Range", range.as_str())];
            return respond(session, ctx, StatusCode::RANGE_NOT_SATISFIABLE, &range, "no such part").await;
        }
    };
    let mut response = ResponseHeader::build(status, Some(9))?;
    if let Some(etag) = &validators.etag {
        response.insert_header(header::ETAG, etag.as_str())?;
    }
    if let Some(modified) = validators.modified {
        response.insert_header(header::LAST_MODIFIED, httpdate::fmt_http_date(modified))?;
    }
    if varies {
        response.insert_header(header::VARY, "Accept-Encoding")?;
    }
    if status == StatusCode::NOT_MODIFIED {
        return write_whole(session, ctx, response, Bytes::new()).await;
    }
    response.insert_header(header::CONTENT_TYPE, content_type)?;
    response.insert_header(header::ACCEPT_RANGES, "bytes")?;
    response.insert_header(header::CONTENT_LENGTH, count.to_string())?;
    if let Some(encoding) = encoding {
        response.insert_header(header::CONTENT_ENCODING, encoding)?;
    }
    if let Sent::Part(from, count) = sent {
        let range = format!("bytes {from}-{}/{}", from + count - 1, validators.length);
        response.insert_header(header::CONTENT_RANGE, range)?;
    }
    ctx.edit_response(session.req_header(), &mut response);
    super::compress::reconsider(session, ctx, &response);
    ctx.status = status.as_u16();
    let without_body = count == 0 || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(response), without_body).await?;
    if without_body {
        return Ok(true);
    }
    let file = Arc::new(file);
    let mut at = from;
    let end = from + count;
    while at < end {
        let (file, want) = (file.clone(), usize::try_from(end - at).unwrap_or(PART).min(PART));
        let part = tokio::task::spawn_blocking(move || read_at(&file, at, want)).await;
        let Ok(Ok(part)) = part else {
            // Cut short: the client must not take it for whole.
            session.downstream_session.shutdown().await;
            return Err(pingora::Error::explain(pingora::ErrorType::FileReadError, "a file became shorter"));
        };
        at += part.len() as u64;
        session.write_response_body(Some(part), at == end).await?;
    }
    Ok(true)
}

fn read_at(mut file: &File, at: u64, want: usize) -> std::io::Result<Bytes> {
    let mut part = vec![0; want];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut part)?;
    Ok(part.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_paths_are_looked_for() {
        for (path, expected) in [
            ("/", Some("")),
            ("/a/b.html", Some("a/b.html")),
            ("//a/", Some("a/")),
            ("/.well-known/x", Some(".well-known/x")),
            ("/.git/config", None),
            ("/a/.env", None),
            ("/a/../b", None),
            ("/a\\b", None),
            ("/a\0", None),
        ] {
            assert_eq!(safe(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn types_are_those_of_a_web_client() {
        for (path, expected) in [
            ("a/index.html", "text/html; charset=utf-8"),
            ("x.js", "text/javascript; charset=utf-8"),
            ("x.css", "text/css; charset=utf-8"),
            ("x.json", "application/json; charset=utf-8"),
            ("x.wasm", "application/wasm"),
            ("x.wav", "audio/wav"),
            ("x.svg", "image/svg+xml"),
            ("x.png", "image/png"),
            ("x.woff2", "font/woff2"),
            ("x", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path), expected, "{path}");
        }
    }

    #[test]
    fn encodings_that_a_client_takes() {
        for (value, expected) in [
            ("gzip, deflate, br", &["br", "gzip"][..]),
            ("GZIP", &["gzip"]),
            ("br;q=0, gzip;q=0.5", &["gzip"]),
            ("identity", &[]),
            ("", &[]),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("accept-encoding", value.parse().unwrap());
            let names: Vec<&str> = encodings(&headers).iter().map(|(_, name)| *name).collect();
            assert_eq!(names, expected, "{value}");
        }
    }
}
