//! The cache: whether a route keeps answers, and how much is kept in all.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::read::{
    At, Given, KeyKind, KeySchema, Read, Reader, Reload, either, record, record_schema,
};
use crate::config::tree::{Kind, Node};
use crate::config::values::flag::Flag;
use crate::config::values::{Size, Time};

record! {
    /// Bounds of what routes with `cache` keep. Nothing is kept before there is such a route.
    CacheFile {
        /// Most memory for answers, those that clients still read included. A smaller value takes away what was not asked
        /// for lately.
        memory: Size<{ 1 << 20 }, { 1 << 40 }>, default(Size(256 << 20)), live;
        /// Longest body that is kept, at most a quarter of `memory`.
        object: Size<1024, { 1 << 36 }>, default(Size(8 << 20)), live;
    }
}

record! {
    /// How long answers are kept where they say nothing themselves (RFC 9111, RFC 5861).
    CacheRuleFile {
        /// How long an answer is fresh that says neither `max-age`, `s-maxage` nor `Expires`. Without it such an answer is
        /// not kept.
        fresh: Time<1000, 31_536_000>, optional, live;
        /// How long an answer is fresh at most, whatever it says: what a purge does not reach is right again after this.
        max: Time<1000, 31_536_000>, optional, live;
        /// How long after that it may still be used while the node is asked for a new one.
        stale: Time<1000, 31_536_000>, optional, live;
        /// How long after that it may still be used when no node can serve, or one answers with 500, 502, 503 or 504.
        stale_if_error: Time<1000, 31_536_000>, optional, live;
    }
}

/// `true`, `false` or how long.
#[derive(Clone, Debug)]
pub(in crate::config) enum RouteCacheFile {
    Flag(bool),
    Rule(CacheRuleFile),
}

impl Read for RouteCacheFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            return CacheRuleFile::read(node, reader).map(Self::Rule);
        }
        Flag::read(node, reader).map(|flag| Self::Flag(flag.0))
    }
}

either!(RouteCacheFile, |g| [json_schema!({ "type": "boolean" }), g.subschema_for::<CacheRuleFile>()]);
