//! Texts with variables in braces: `https://{host}{path}`, `/http-bind?prefix={tenant}&{query}`.
//!
//! Pure. `{arg_NAME}` is a query parameter. A name that is no variable of ours is a named group of the route's regular expression; whether there is one is
//! checked where the template stands. `{{` and `}}` are braces.

use std::fmt;

use super::Name;

/// A text with variables.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: Name,
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself.
    Text(String),
    /// A variable of ours.
    Var(Var),
    /// The first query parameter of this name, decoded; empty if there is none.
    Argument(Name),
    /// A named group of the route's regular expression; empty if it took no part in the match.
    Group(Name),
}

macro_rules! vars {
    ($( $(#[doc = $doc:literal])+ $word:literal => $name:ident, $when:ident; )+) => {
        /// A variable of ours.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Var {
            $( $(#[doc = $doc])+ $name ),+
        }

        impl Var {
            /// All names, for messages.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            fn find(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$name), )+ _ => None }
            }

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$name => $word ),+ }
            }

            /// Whether it is known as soon as the request is; the others need a node.
            pub fn is_of_request(self) -> bool {
                match self { $( Self::$name => vars!(@ $when) ),+ }
            }
        }
    };
    (@ request) => { true };
    (@ node) => { false };
}

vars! {
    /// The host of the request, without its port.
    "host" => Host, request;
    /// The path as it was sent.
    "path" => Path, request;
    /// The query as it was sent, without its `?`.
    "query" => Query, request;
    /// `http` or `https`.
    "scheme" => Scheme, request;
    /// `ws` or `wss`.
    "ws_scheme" => WsScheme, request;
    /// The host of the request as it was sent, with its port.
    "authority" => Authority, request;
    /// The client's address.
    "client" => Client, request;
    /// The room's normalised name.
    "room" => Room, request;
    /// What stands behind the last `_` of the room's name.
    "room_suffix" => RoomSuffix, request;
    /// The name of the route.
    "route" => Route, request;
    /// The name of the edge; empty without `edges`.
    "edge" => Edge, request;
    /// The region of the edge, if it has one.
    "region" => Region, request;
    /// The name of the node.
    "node" => Node, node;
    /// The region of the node, if it has one.
    "node_region" => NodeRegion, node;
    /// The release of the node, if it has one.
    "node_release" => NodeRelease, node;
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace that opens and does not close.
    #[error("a brace is not closed")]
    Open,
    /// A brace that closes and was not opened.
    #[error("a brace was not opened")]
    Close,
    /// What stands in braces is no name.
    #[error("{{{0}}} is no name")]
    Name(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with its braces.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some(after) = from.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(TemplateError::Open)?;
                let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if name.is_empty() || !name.bytes().all(legal) {
                    return Err(TemplateError::Name(name.to_owned()));
                }
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(match (Var::find(name), name.strip_prefix("arg_")) {
                    (Some(var), _) => Part::Var(var),
                    (None, Some(argument)) if !argument.is_empty() => Part::Argument(argument.into()),
                    (None, _) => Part::Group(name.into()),
                });
                rest = after;
            } else {
                return Err(TemplateError::Close);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { text: text.into(), parts })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its parts in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Puts values in: `value` appends what a variable or group stands for.
    pub fn expand(&self, mut value: impl FnMut(&Part, &mut String)) -> String {
        let mut out = String::with_capacity(self.text.len() + 16);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Var(_) | Part::Argument(_) | Part::Group(_) => value(part, &mut out),
            }
        }
        out
    }

    /// The text, if it has no variable.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", &*self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_hold_names() {
        let group = |name: &str| Part::Group(name.into());
        let text = |text: &str| Part::Text(text.to_owned());
        for (template, parts) in [
            ("", vec![]),
            ("/a", vec![text("/a")]),
            ("{host}", vec![Part::Var(Var::Host)]),
            ("/x?p={tenant}&{query}", vec![text("/x?p="), group("tenant"), text("&"), Part::Var(Var::Query)]),
            ("{arg_x}{arg_}", vec![Part::Argument("x".into()), group("arg_")]),
            ("{{a}} {b_1}", vec![text("{a} "), group("b_1")]),
        ] {
            assert_eq!(Template::parse(template).unwrap().parts(), parts, "{template}");
        }
        for (template, error) in [
            ("{host", TemplateError::Open),
            ("a}", TemplateError::Close),
            ("{}", TemplateError::Name(String::new())),
            ("{a-b}", TemplateError::Name("a-b".to_owned())),
        ] {
            assert_eq!(Template::parse(template), Err(error), "{template}");
        }
    }

    #[test]
    fn every_variable_is_found_by_its_name() {
        for word in Var::WORDS {
            assert_eq!(Var::find(word).map(Var::as_str), Some(*word));
        }
    }
}
