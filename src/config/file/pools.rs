//! Pools: what they are made of, how nodes are checked, how rooms stick.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::word;
use crate::config::fault::quote;
use crate::config::read::{
    At, Given, KeyKind, KeySchema, Names, Read, Reader, Reload, either, record, record_schema,
};
use crate::config::tree::Node;
use crate::config::values::{CheckPath, Count, Ident, NodeUrl, Time};

record! {
    /// A named set of nodes: HTTP services (`nodes`), or this process's own SFU workers (`embedded`).
    PoolFile {
        /// HTTP nodes, by name. The name is the identity: rooms follow it.
        nodes: Names<Ident, NodeFile>, optional, inside;
        /// Workers of the embedded SFU: auto (one per core), or how many.
        embedded: EmbeddedFile, optional, restart;
        /// Active check of each HTTP node. Without it a node is up until a connect to it fails.
        check: CheckFile, optional, inside;
        /// How rooms stick to their node.
        sticky: StickyFile, nested, inside;
    }
}

record! {
    /// An HTTP node with a weight.
    NodeMap {
        /// Where it is: http://host:port.
        url: NodeUrl, required, live;
        /// Share of new rooms, relative to the other nodes; 0 gets no new rooms.
        weight: Count<0, 10_000>, default(Count(100)), live;
    }
}

record! {
    /// An HTTP health check.
    CheckFile {
        /// Path to GET; a status of 2xx passes.
        http: CheckPath, required, live;
        /// Time between two checks of one node; jittered by a tenth.
        every: Time<100, 3600>, default(Time::secs(2)), live;
        /// Deadline of one check; not longer than `every`.
        timeout: Time<10, 3600>, default(Time::secs(1)), live;
        /// Passes in a row that bring a node up.
        rise: Count<1, 100>, default(Count(2)), live;
        /// Failures in a row that take a node down.
        fall: Count<1, 100>, default(Count(2)), live;
    }
}

record! {
    /// How rooms stick to their node.
    StickyFile {
        /// A placement that nobody holds or touches ends after this.
        linger: Time<0, 86_400>, default(Time::secs(300)), live;
    }
}

/// `auto` or a number of workers.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct EmbeddedFile(pub(in crate::config) Option<u8>);

impl Read for EmbeddedFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = &reader.scalar(node, "`auto` or a number")?.text;
        if text == "auto" {
            return Some(Self(None));
        }
        let workers = text.parse::<u8>().ok().filter(|n| (1..=64).contains(n));
        if workers.is_none() {
            let message = format!("{}: {} is not a number of workers", reader.path(), quote(text));
            reader.fault(node.at, message, "`auto` (one per core), or 1 to 64");
        }
        workers.map(|workers| Self(Some(workers)))
    }
}

/// An HTTP node: a URL, or a URL with more.
#[derive(Clone, Debug)]
pub(in crate::config) struct NodeFile {
    pub(in crate::config) url: Given<NodeUrl>,
    pub(in crate::config) weight: u32,
}

impl Read for NodeFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if word(node).is_some() {
            let url = Given::Yes(reader.key_at(), At::read(node, reader)?);
            return Some(Self { url, weight: NodeMap::absent().weight.value.0 });
        }
        let NodeMap { url, weight } = NodeMap::read(node, reader)?;
        Some(Self { url, weight: weight.value.0 })
    }
}

either!(EmbeddedFile, |_g| [
    json_schema!({ "const": "auto" }),
    json_schema!({ "type": "integer", "minimum": 1, "maximum": 64 }),
]);

either!(NodeFile, |g| [g.subschema_for::<NodeUrl>(), g.subschema_for::<NodeMap>()]);
