//! YAML with positions: each key and each value knows its place.
//!
//! Pure. One document, at most [`BYTES_MAX`] bytes, [`DEPTH_MAX`] levels and [`NODES_MAX`] values. Anchors, aliases
//! and tags are refused: a configuration is read by people, and an alias can make a small file large.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::fault::{Collector, Mark, quote};

/// One value of the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Map(Vec<Entry>),
    /// Already reported (an alias, say): readers skip it.
    Faulty,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Mark,
    pub(super) value: Node,
}

/// A scalar as written, without its quotes.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Not quoted and not a block: may be a number, a boolean or nothing.
    pub(super) plain: bool,
}

/// What a scalar is by YAML's core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ScalarType {
    Nothing,
    Bool,
    Int(i128),
    Float,
    Text,
}

impl Scalar {
    pub(super) fn scalar_type(&self) -> ScalarType {
        if !self.plain {
            return ScalarType::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => return ScalarType::Nothing,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return ScalarType::Bool,
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan"
            | ".NaN" | ".NAN" => return ScalarType::Float,
            _ => {}
        }
        if let Some(int) = int(&self.text) {
            return ScalarType::Int(int);
        }
        if is_float(&self.text) { ScalarType::Float } else { ScalarType::Text }
    }
}

impl Node {
    /// Whether it is a key without a value, or `null`.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.scalar_type() == ScalarType::Nothing)
    }

    /// Says what the node is, for "expected a text, found ...".
    pub(super) fn found(&self) -> String {
        match &self.kind {
            Kind::Scalar(scalar) => match scalar.scalar_type() {
                ScalarType::Nothing => "nothing".to_owned(),
                ScalarType::Bool | ScalarType::Int(_) | ScalarType::Float => {
                    quote(&scalar.text).replace('"', "")
                }
                ScalarType::Text => quote(&scalar.text),
            },
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
            Kind::Faulty => "a fault".to_owned(),
        }
    }
}

fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some(_) | None => (10, digits),
    };
    // A leading zero is a text (a postal code, a telephone number), as serde_yaml reads it too.
    let octal_look = radix == 10 && digits.len() > 1 && digits.starts_with('0');
    if digits.is_empty() || octal_look || !digits.bytes().all(|b| char::from(b).is_digit(radix)) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

fn is_float(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.starts_with(['-', '+'])
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && digits.bytes().any(|b| b.is_ascii_digit())
        && !(digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
        && digits.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Reads a file into a tree. `None`: a fault of the syntax was added, and nothing more can be said.
pub(super) fn parse(text: &str, faults: &mut Collector) -> Option<Node> {
    if text.len() > BYTES_MAX {
        let size = text.len();
        faults.fault(
            Mark::START,
            format!("the file has {size} bytes"),
            format!("at most {BYTES_MAX} are read"),
        );
        return None;
    }
    if let Some(at) = first_forbidden(text) {
        faults.fault(at, "a control character, which YAML does not allow", "remove it");
        return None;
    }
    // The parser holds several `unwrap`s on its own invariants. A configuration is not a reason to end the process.
    let parsed = std::panic::catch_unwind(|| {
        let mut inner = Collector::default();
        let mut builder = Builder::default();
        let root = builder.run(text, &mut inner);
        (root, inner)
    });
    match parsed {
        Ok((root, inner)) => {
            faults.append(inner);
            root
        }
        Err(_) => {
            faults.fault(Mark::START, "the file is not YAML that can be read", "look for an odd construct");
            None
        }
    }
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    nodes: usize,
    root: Option<Node>,
}

struct Frame {
    at: Mark,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, u32>, key: Option<(String, Mark, bool)> },
}

impl Builder {
    fn run(&mut self, text: &str, faults: &mut Collector) -> Option<Node> {
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = point(error.marker().line(), error.marker().col());
                    let (at, cure) = explain(error.info(), text, at);
                    faults.fault(at, format!("not YAML: {}", error.info()), cure);
                    return None;
                }
            };
            let at = mark(&span);
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        faults.fault(
                            at,
                            "a second document",
                            "a configuration is one document: remove the `---`",
                        );
                        return None;
                    }
                }
                Event::Alias(_) => {
                    faults.fault(
                        at,
                        "an alias",
                        "anchors and aliases are not read here: write the value out",
                    );
                    self.add(Node { at, kind: Kind::Faulty }, faults)?;
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let mut node = Node {
                        at,
                        kind: Kind::Scalar(Scalar {
                            text: text.into_owned(),
                            plain: style == ScalarStyle::Plain,
                        }),
                    };
                    if refuse_marks(at, anchor, tag.is_some(), faults) {
                        node.kind = Kind::Faulty;
                    }
                    self.add(node, faults)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    refuse_marks(at, anchor, tag.is_some(), faults);
                    self.open(at, Open::List(Vec::new()), faults)?;
                }
                Event::MappingStart(anchor, tag) => {
                    refuse_marks(at, anchor, tag.is_some(), faults);
                    let open = Open::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                    self.open(at, open, faults)?;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(Frame { at, open }) = self.stack.pop() else { continue };
                    let kind = match open {
                        Open::List(items) => Kind::List(items),
                        Open::Map { entries, .. } => Kind::Map(entries),
                    };
                    self.add(Node { at, kind }, faults)?;
                }
            }
        }
        if self.root.is_none() {
            faults.fault(Mark::START, "the file is empty", "it begins with `version: 1`");
        }
        self.root.take()
    }

    fn open(&mut self, at: Mark, open: Open, faults: &mut Collector) -> Option<()> {
        if let Some(Frame { open: Open::Map { key: None, .. }, .. }) = self.stack.last() {
            faults.fault(at, "a key that is a list or a map", "a key is a plain text");
            return None;
        }
        if self.stack.len() >= DEPTH_MAX {
            faults.fault(at, format!("more than {DEPTH_MAX} levels"), "no key of Roomgate is that deep");
            return None;
        }
        self.stack.push(Frame { at, open });
        Some(())
    }

    fn add(&mut self, node: Node, faults: &mut Collector) -> Option<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            faults.fault(node.at, format!("more than {NODES_MAX} values"), "");
            return None;
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut frame.open {
            Open::List(items) => items.push(node),
            Open::Map { entries, seen, key } => match key.take() {
                Some((key, key_at, true)) => entries.push(Entry { key, key_at, value: node }),
                Some((_, _, false)) => {}
                None => *key = Some(check_key(node, seen, faults)?),
            },
        }
        Some(())
    }
}

/// Returns the key, its place and whether it counts: a second one of the same name does not.
fn check_key(
    node: Node,
    seen: &mut HashMap<String, u32>,
    faults: &mut Collector,
) -> Option<(String, Mark, bool)> {
    let at = node.at;
    let Kind::Scalar(Scalar { text, .. }) = node.kind else {
        // An alias as a key, or a key with a tag: reported; the entry is left out.
        return Some((String::new(), at, false));
    };
    if let Some(first) = seen.get(&text) {
        faults.fault(
            at,
            format!("{} stands here a second time", quote(&text)),
            format!("first on line {first}"),
        );
        return Some((text, at, false));
    }
    seen.insert(text.clone(), at.line);
    Some((text, at, true))
}

fn refuse_marks(at: Mark, anchor: usize, tag: bool, faults: &mut Collector) -> bool {
    if anchor != 0 {
        faults.fault(at, "an anchor", "anchors and aliases are not read here: write the value out");
    }
    if tag {
        faults.fault(at, "a tag", "tags are not read here: remove it");
    }
    anchor != 0 || tag
}

/// Says what an error of the syntax usually comes from, and where: the parser may notice it a line later.
fn explain(info: &str, text: &str, at: Mark) -> (Mark, &'static str) {
    let lines: Vec<&str> = text.lines().take(at.line as usize).collect();
    let here = lines.get(at.line as usize - 1).copied().unwrap_or_default();
    let indent = &here[..here.len() - here.trim_start().len()];
    if indent.contains('\t') || info.contains("tab") {
        return (at, "indent with spaces: a tab is not allowed here");
    }
    for (i, line) in lines.iter().enumerate().rev().take(2) {
        if line.trim_start().starts_with('*') {
            let column = line.chars().take_while(|c| c.is_whitespace()).count();
            return (point(i + 1, column), "quote a name that begins with `*`: \"*\"");
        }
    }
    if info.contains("alias") || info.contains("anchor") {
        return (at, "anchors and aliases are not read here: quote a text that begins with `*` or `&`");
    }
    if info.contains("quote") {
        return (at, "a quote is not closed, here or above");
    }
    if info.contains("flow") {
        return (at, "a `{` or `[` is not closed, here or above, or a comma is missing");
    }
    (at, "")
}

fn mark(span: &Span) -> Mark {
    let one_line = span.start.line() == span.end.line();
    let width = if one_line { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Mark {
        width: u32::try_from(width).unwrap_or(1).max(1),
        last_line: u32::try_from(span.end.line()).unwrap_or(u32::MAX),
        ..point(span.start.line(), span.start.col())
    }
}

fn point(line: usize, column: usize) -> Mark {
    let line = u32::try_from(line).unwrap_or(u32::MAX).max(1);
    let column = u32::try_from(column).unwrap_or(u32::MAX - 1).saturating_add(1);
    Mark { line, column, width: 1, last_line: line }
}

/// Finds the first character that YAML 1.2 section 5.1 does not allow. The parser takes NUL for the end of the file.
fn first_forbidden(text: &str) -> Option<Mark> {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
            && c != '\u{feff}'
    };
    let index = text.char_indices().find(|(_, c)| !allowed(*c))?.0;
    Some(place_of(text, index))
}

/// Returns line and column of a byte of the text.
pub(super) fn place_of(text: &str, byte: usize) -> Mark {
    let before = &text[..byte];
    let start = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let breaks = before.matches('\n').count() + before.matches('\r').count() - before.matches("\r\n").count();
    point(breaks + 1, before[start..].chars().count())
}

/// Largest file.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Most values, so that a small file cannot make a large tree.
const NODES_MAX: usize = 200_000;
