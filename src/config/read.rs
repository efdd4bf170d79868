//! From the tree to the file's records: one reader per kind of value, and [`record!`] for maps with known keys.
//!
//! Pure. A reader that finds a fault adds it and returns `None`; the walk goes on, so that one run tells everything.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::fault::{Collector, Mark, known, nearest, quote};
use super::settings::Name;
use super::tree::{Entry, Kind, Node, Scalar};

/// Collects faults and knows the path of the key that is being read.
pub(super) struct Reader {
    pub(super) faults: Collector,
    path: Vec<String>,
    /// Where the key of the value stands that is being read: the place of what is missing in it.
    key_at: Mark,
}

/// A value that can be read from a node.
pub(super) trait Read: Sized {
    /// Reads the node. `None`: a fault was added.
    fn read(node: &Node, reader: &mut Reader) -> Option<Self>;
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) at: Mark,
    pub(super) value: T,
}

impl<T> At<T> {
    /// The value of a key that the file does not have.
    pub(super) fn default_of(value: T) -> Self {
        Self { at: Mark::default(), value }
    }

    /// Whether the file has it.
    pub(super) fn is_given(&self) -> bool {
        self.at != Mark::default()
    }
}

/// A key that may be missing.
#[derive(Clone, Debug)]
pub(super) enum Given<T> {
    /// Not in the file.
    No,
    /// In the file, and reported.
    Faulty,
    /// In the file. The first mark is the key's.
    Yes(Mark, At<T>),
}

impl<T> Given<T> {
    pub(super) fn get(&self) -> Option<&T> {
        self.full().map(|(_, value)| &value.value)
    }

    pub(super) fn full(&self) -> Option<(Mark, &At<T>)> {
        match self {
            Self::Yes(key_at, value) => Some((*key_at, value)),
            Self::No | Self::Faulty => None,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::No)
    }
}

/// Whether a change of a key is taken over by a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reload {
    /// At once, for what arrives from then on.
    Live,
    /// At the next start.
    Restart,
    /// Its own keys say it.
    Inside,
}

impl Reload {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::Inside => "inside",
        }
    }
}

impl Reader {
    pub(super) fn new(faults: Collector) -> Self {
        Self { faults, path: Vec::new(), key_at: Mark::START }
    }

    pub(super) fn key_at(&self) -> Mark {
        self.key_at
    }

    /// Reads below a key: its name is part of the path, its place the place of what is missing.
    pub(super) fn below<R>(&mut self, key: &str, at: Mark, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.key_at, at);
        self.path.push(path_part(key));
        let result = read(self);
        self.path.pop();
        self.key_at = before;
        result
    }

    /// `pools.shards.check`, or what stands for the whole file.
    pub(super) fn path(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { self.path.join(".") }
    }

    pub(super) fn fault(&mut self, at: Mark, message: impl Into<String>, cure: impl Into<String>) {
        self.faults.fault(at, message, cure);
    }

    /// Adds a fault about the value of the current key.
    pub(super) fn wrong(&mut self, node: &Node, expected: &str, cure: impl Into<String>) {
        if !matches!(node.kind, Kind::Faulty) {
            // Nothing has no place to point at: its key has.
            let at = if node.is_nothing() { self.key_at } else { node.at };
            let message = format!("{}: expected {expected}, found {}", self.path(), node.found());
            self.faults.fault(at, message, cure);
        }
    }

    /// Adds the fault of an unknown key and returns the key that was probably meant.
    pub(super) fn unknown<'k>(&mut self, entry: &Entry, keys: &[&'k str]) -> Option<&'k str> {
        let message = format!("unknown key {} in {}", quote(&entry.key), self.path());
        self.faults.fault(entry.key_at, message, known(&entry.key, keys.iter().copied()));
        nearest(&entry.key, keys.iter().copied())
    }

    pub(super) fn missing(&mut self, key: &str) {
        let message = format!("{} has no `{key}`", self.path());
        self.faults.fault(self.key_at, message, format!("add `{key}`"));
    }

    pub(super) fn map<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n [Entry]> {
        if let Kind::Map(entries) = &node.kind {
            return Some(entries);
        }
        self.wrong(node, expected, if node.is_nothing() { "give it keys, or remove it" } else { "" });
        None
    }

    /// Returns a scalar's text, whatever its type; only nothing is a fault.
    pub(super) fn scalar<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n Scalar> {
        match &node.kind {
            Kind::Scalar(_) if node.is_nothing() => {
                self.wrong(node, expected, "give it a value or remove the key");
                None
            }
            Kind::Scalar(scalar) => Some(scalar),
            Kind::List(_) | Kind::Map(_) | Kind::Faulty => {
                self.wrong(node, expected, "");
                None
            }
        }
    }
}

/// Part of a key's path; a name with a dot in it is quoted.
pub(super) fn path_part(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(plain) { key.to_owned() } else { quote(key) }
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        Some(Self { at: node.at, value: T::read(node, reader)? })
    }
}

/// A list. A faulty item is reported and left out.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<At<T>>,
    faulty: bool,
}

impl<T> List<T> {
    pub(super) fn of(values: impl IntoIterator<Item = T>) -> Self {
        Self { items: values.into_iter().map(At::default_of).collect(), faulty: false }
    }

    /// Whether the file has a list without an item.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.faulty
    }
}

impl<T: Read> Read for List<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let items = match &node.kind {
            Kind::List(items) => items,
            Kind::Scalar(scalar) if !node.is_nothing() => {
                reader.wrong(node, "a list", format!("write [{}]", quote(&scalar.text)));
                return None;
            }
            Kind::Scalar(_) | Kind::Map(_) | Kind::Faulty => {
                reader.wrong(node, "a list", "");
                return None;
            }
        };
        let mut list = Self { items: Vec::new(), faulty: false };
        for (i, item) in items.iter().enumerate() {
            match reader.below(&i.to_string(), item.at, |reader| At::read(item, reader)) {
                Some(item) => list.items.push(item),
                None => list.faulty = true,
            }
        }
        Some(list)
    }
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.items.iter().map(|item| &item.value))
    }
}

/// Most names of one map. Checks compare maps with each other, so this bounds their work too.
const NAMES_MAX: usize = 4096;

/// The rule of the names of a map.
pub(super) trait NameRule {
    /// For the schema.
    const PATTERN: &'static str;
    /// Says what is wrong with a name and what would be right.
    fn check(name: &str) -> Result<(), (String, String)>;
}

/// A map from names that the operator chooses.
#[derive(Clone, Debug)]
pub(super) struct Names<K, T> {
    pub(super) entries: Vec<(At<Name>, At<T>)>,
    /// Names whose value was reported.
    pub(super) faulty: Vec<Name>,
    rule: std::marker::PhantomData<K>,
}

impl<K, T> Names<K, T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Mark, &Name, &At<T>)> + Clone {
        self.entries.iter().map(|(name, value)| (name.at, &name.value, value))
    }

    /// Whether the file has a map without a name.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.faulty.is_empty()
    }
}

impl<K, T> Default for Names<K, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), faulty: Vec::new(), rule: std::marker::PhantomData }
    }
}

impl<K: NameRule, T: Read> Read for Names<K, T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let mut names = Self::default();
        let entries = reader.map(node, "a map from names")?;
        if let Some(entry) = entries.get(NAMES_MAX) {
            let message = format!("{}: more than {NAMES_MAX} names", reader.path());
            reader.fault(entry.key_at, message, "");
        }
        for Entry { key, key_at, value } in entries.iter().take(NAMES_MAX) {
            if let Err((message, cure)) = K::check(key) {
                let message = format!("{}: {message}", reader.path());
                reader.fault(*key_at, message, cure);
            }
            let name: Name = Arc::from(key.as_str());
            match reader.below(key, *key_at, |reader| At::read(value, reader)) {
                Some(value) => names.entries.push((At { at: *key_at, value: name }, value)),
                None => names.faulty.push(name),
            }
        }
        Some(names)
    }
}

// Positions do not show in the schema.
impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("List_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

impl<K: NameRule, T: JsonSchema> JsonSchema for Names<K, T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Names_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": K::PATTERN },
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

/// What a record's table says of a key.
pub(super) struct KeySchema {
    pub(super) key: &'static str,
    pub(super) schema: Schema,
    pub(super) doc: &'static [&'static str],
    pub(super) kind: KeyKind,
    pub(super) default: Option<serde_json::Value>,
    pub(super) reload: Reload,
}

/// Builds the schema of a record; [`record!`] calls it.
pub(super) fn record_schema(about: &[&str], keys: Vec<KeySchema>) -> Schema {
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    for KeySchema { key, mut schema, doc, kind, default, reload } in keys {
        if kind == KeyKind::Required {
            required.push(key);
        }
        schema.insert("description".to_owned(), sentence(doc).into());
        if let Some(default) = default {
            schema.insert("default".to_owned(), default);
        }
        if reload != Reload::Inside {
            schema.insert("x-roomgate-change".to_owned(), reload.as_str().into());
        }
        properties.insert(key.to_owned(), schema.into());
    }
    let mut schema = json_schema!({
        "type": "object",
        "description": sentence(about),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

/// How a record treats a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Required,
    Optional,
    Default,
    Nested,
}

fn sentence(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Declares a map with known keys: the struct, its reader and its schema from one table.
///
/// `required` and `optional` keys become [`Given`]; a key with a `default` is an [`At`] that is always there; a
/// `nested` record is always there too, with its own defaults.
macro_rules! record {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident : $ty:ty , $kind:ident $(($default:expr))? , $reload:ident ; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(in crate::config) struct $name {
            $( $(#[doc = $doc])+ pub(in crate::config) $key: record!(@type $kind $ty), )+
        }

        impl $name {
            /// The record of a file that does not have it.
            pub(in crate::config) fn absent() -> Self {
                Self { $( $key: record!(@absent $kind $ty $(, $default)?), )+ }
            }
        }

        impl Read for $name {
            fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
                let entries = reader.map(node, "a map")?;
                let mut this = Self::absent();
                // A required key that was mistyped is one fault, not two.
                let mut mistyped: Vec<&str> = Vec::new();
                for entry in entries {
                    match entry.key.as_str() {
                        $( stringify!($key) => reader.below(&entry.key, entry.key_at, |reader| {
                            record!(@read $kind $ty, this.$key, entry, reader);
                        }), )+
                        _ => mistyped.extend(reader.unknown(entry, &[$(stringify!($key)),+])),
                    }
                }
                $( record!(@missing $kind this.$key, stringify!($key), mistyped, reader); )+
                Some(this)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                record_schema(&[$($about),+], vec![
                    $( KeySchema {
                        key: stringify!($key),
                        schema: generator.subschema_for::<$ty>(),
                        doc: &[$($doc),+],
                        kind: record!(@kind $kind),
                        default: record!(@default $ty $(, $default)?),
                        reload: record!(@reload $reload),
                    }, )+
                ])
            }
        }
    };

    (@type required $ty:ty) => { Given<$ty> };
    (@type optional $ty:ty) => { Given<$ty> };
    (@type default $ty:ty) => { At<$ty> };
    (@type nested $ty:ty) => { $ty };

    (@absent required $ty:ty) => { Given::No };
    (@absent optional $ty:ty) => { Given::No };
    (@absent default $ty:ty, $default:expr) => { At::default_of($default) };
    (@absent nested $ty:ty) => { <$ty>::absent() };

    (@read required $ty:ty, $field:expr, $entry:ident, $reader:ident) => {
        record!(@read optional $ty, $field, $entry, $reader)
    };
    (@read optional $ty:ty, $field:expr, $entry:ident, $reader:ident) => {
        $field = match At::<$ty>::read(&$entry.value, $reader) {
            Some(value) => Given::Yes($entry.key_at, value),
            None => Given::Faulty,
        }
    };
    (@read default $ty:ty, $field:expr, $entry:ident, $reader:ident) => {
        if let Some(value) = At::<$ty>::read(&$entry.value, $reader) {
            $field = value;
        }
    };
    (@read nested $ty:ty, $field:expr, $entry:ident, $reader:ident) => {
        if let Some(value) = <$ty>::read(&$entry.value, $reader) {
            $field = value;
        }
    };

    (@missing required $field:expr, $key:expr, $mistyped:ident, $reader:ident) => {
        if $field.is_missing() {
            if $mistyped.contains(&$key) {
                $field = Given::Faulty;
            } else {
                $reader.missing($key);
            }
        }
    };
    (@missing optional $field:expr, $key:expr, $mistyped:ident, $reader:ident) => {
        if $field.is_missing() && $mistyped.contains(&$key) {
            $field = Given::Faulty;
        }
    };
    (@missing $kind:ident $field:expr, $key:expr, $mistyped:ident, $reader:ident) => {};

    (@kind required) => { KeyKind::Required };
    (@kind optional) => { KeyKind::Optional };
    (@kind default) => { KeyKind::Default };
    (@kind nested) => { KeyKind::Nested };

    (@default $ty:ty) => { None };
    (@default $ty:ty, $default:expr) => {{
        let default: $ty = $default;
        serde_json::to_value(&default).ok()
    }};

    (@reload live) => { Reload::Live };
    (@reload restart) => { Reload::Restart };
    (@reload inside) => { Reload::Inside };
}
pub(super) use record;

/// Declares the schema of a value that is either of several forms.
macro_rules! either {
    ($name:ident, |$generator:ident| [$($form:expr),+ $(,)?]) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                let forms: Vec<serde_json::Value> = vec![$(serde_json::Value::from($form)),+];
                json_schema!({ "oneOf": forms })
            }
        }
    };
}
pub(super) use either;
