//! Kinds of values that routes are made of: paths, patterns, templates, methods, names of headers.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Wrong, parse_token, value};
use crate::config::fault::quote;
use crate::config::read::{NameRule, Read, Reader};
use crate::config::settings::{MemberPath, Name, Pattern, QueryMatch, Template, TemplateError};
use crate::config::tree::Node;

text_value! {
    /// The name of a route.
    RouteName(Name), "the name of a route", { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" }, parse_ident
}
text_value! {
    /// The name of a node's service.
    ServiceName(Name), "the name of a service", { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
    parse_ident
}
text_value! {
    /// A path, decoded: it begins with `/`.
    RoutePath(Name), "a path that begins with \"/\"", { "type": "string", "pattern": "^/" }, parse_route_path
}
text_value! {
    /// A regular expression.
    PatternText(Pattern), "a regular expression", { "type": "string", "format": "regex" }, parse_pattern
}
text_value! {
    /// A text with variables in braces.
    TemplateText(Template), "a text", { "type": "string", "maxLength": 4096 }, parse_template
}
text_value! {
    /// A query parameter that must be there, with or without its value.
    QueryTest(QueryMatch), "a query parameter",
    { "type": "string", "minLength": 1, "maxLength": 192, "examples": ["room", "stick=true"] }, parse_query_test
}
text_value! {
    /// Names of members of nested JSON objects.
    MemberText(MemberPath), "a path of members",
    { "type": "string", "minLength": 1, "maxLength": 128, "examples": ["data.id", "video.room"] }, parse_members
}
text_value! {
    /// An origin of pages, or `*`.
    OriginText(Name), "an origin", { "type": "string", "examples": ["https://app.example.com", "*"] }, parse_origin
}
text_value! {
    /// What stands before a name.
    BeforeText(Name), "a text", { "type": "string", "maxLength": 64 }, parse_before
}
text_value! {
    /// A method of HTTP.
    MethodName(Method), "a method", { "type": "string", "examples": ["GET", "POST"] }, parse_method
}
text_value! {
    /// The type of a body.
    ContentType(Name), "a type", { "type": "string", "examples": ["text/plain; charset=utf-8"] }, parse_content_type
}

impl serde::Serialize for ContentType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Names of headers.
#[derive(Clone, Debug)]
pub(in crate::config) enum HeaderNames {}

impl NameRule for HeaderNames {
    const PATTERN: &'static str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$";

    fn check(name: &str) -> Result<(), Wrong> {
        parse_token(name).map_err(|(message, cure)| (format!("{}: {message}", quote(name)), cure))?;
        let lower = name.to_ascii_lowercase();
        if UNTOUCHABLE.contains(&lower.as_str()) {
            let message = format!("{} is not for configurations to change", quote(name));
            return Err((message, "it speaks about one connection or frames a message".to_owned()));
        }
        Ok(())
    }
}

/// Statuses of errors.
#[derive(Clone, Debug)]
pub(in crate::config) enum Statuses {}

impl NameRule for Statuses {
    const PATTERN: &'static str = "^[45][0-9][0-9]$";

    fn check(name: &str) -> Result<(), Wrong> {
        let status = name.parse::<u16>().ok().filter(|status| (400..600).contains(status));
        match status {
            Some(_) => Ok(()),
            None => Err((format!("{} is no status of an error", quote(name)), "400 to 599".to_owned())),
        }
    }
}

/// Headers that say where a message ends, or that speak about one connection.
const UNTOUCHABLE: &[&str] =
    &["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

fn parse_ident(text: &str) -> Result<Name, Wrong> {
    super::Ident::check(text)?;
    Ok(Arc::from(text))
}

fn parse_route_path(text: &str) -> Result<Name, Wrong> {
    let wrong = |message: &str, cure: &str| Err((message.to_owned(), cure.to_owned()));
    if !text.starts_with('/') {
        return wrong("not a path", "it begins with \"/\"");
    }
    if text.contains(['?', '#']) {
        return wrong("a path has no query", "say `query: NAME` for a parameter that must be there");
    }
    if text.contains("//") || text.split('/').any(|segment| segment == "." || segment == "..") {
        return wrong(
            "a path that no request has",
            "without \"//\", \"/./\" and \"/../\": requests are cleaned before",
        );
    }
    if text.len() > 1024 || text.chars().any(char::is_control) {
        return wrong("not a path", "up to 1024 bytes without control characters");
    }
    Ok(Arc::from(text))
}

fn parse_pattern(text: &str) -> Result<Pattern, Wrong> {
    let cure = "a pattern of the Rust crate `regex`: no look-around and no back-references";
    Pattern::new(text).map_err(|error| (format!("not a regular expression: {error}"), cure.to_owned()))
}

fn parse_template(text: &str) -> Result<Template, Wrong> {
    if text.len() > 4096 {
        return Err(("too long".to_owned(), "up to 4096 bytes".to_owned()));
    }
    Template::parse(text).map_err(|error| {
        let cure = match error {
            TemplateError::Open | TemplateError::Close => "a brace itself is written twice: \"{{\", \"}}\"",
            TemplateError::Name(_) => "letters, digits and \"_\"; a brace itself is written twice: \"{{\"",
        };
        (error.to_string(), cure.to_owned())
    })
}

fn parse_query_test(text: &str) -> Result<QueryMatch, Wrong> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let legal = |text: &str| text.len() <= 128 && text.chars().all(|c| !c.is_control() && c != '&');
    if value.is_some_and(|value| !legal(value)) {
        return Err(("not a value".to_owned(), "up to 128 bytes, decoded, without \"&\"".to_owned()));
    }
    Ok(QueryMatch { name: super::parse_parameter(name)?, value: value.map(Name::from) })
}

fn parse_members(text: &str) -> Result<MemberPath, Wrong> {
    let cure = "1 to 8 names with dots between them, such as \"data.id\"";
    MemberPath::new(text).ok_or_else(|| ("not a path of members".to_owned(), cure.to_owned()))
}

fn parse_origin(text: &str) -> Result<Name, Wrong> {
    let exact = url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
    if text == "*" || exact {
        Ok(Arc::from(text))
    } else {
        let cure =
            "\"https://app.example.com\": scheme, host, and the port if it is not the scheme's own; or \"*\"";
        Err(("not an origin".to_owned(), cure.to_owned()))
    }
}

fn parse_before(text: &str) -> Result<Name, Wrong> {
    // What a room's name may hold in any spelling: it is not normalised.
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/_.-".contains(&b);
    if text.len() <= 64 && text.bytes().all(legal) {
        Ok(Arc::from(text))
    } else {
        let cure = "up to 64 lower-case letters, digits, \"/\", \"_\", \".\" and \"-\"";
        Err(("not a beginning of room names".to_owned(), cure.to_owned()))
    }
}

fn parse_method(text: &str) -> Result<Method, Wrong> {
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| text == text.to_ascii_uppercase());
    method
        .ok_or_else(|| ("not a method".to_owned(), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned()))
}

fn parse_content_type(text: &str) -> Result<Name, Wrong> {
    let legal = text.contains('/') && text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.len() <= 128;
    if legal {
        Ok(Arc::from(text))
    } else {
        Err(("not a type".to_owned(), "\"text/html; charset=utf-8\"".to_owned()))
    }
}
