//! Limits and bans: how much one client, one room or all of them may ask for.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::fault::quote;
use crate::config::read::{
    At, Given, KeyKind, KeySchema, List, Read, Reader, Reload, either, record, record_schema,
};
use crate::config::tree::Node;
use crate::config::values::flag::Flag;
use crate::config::values::network::Network;
use crate::config::values::rate::RateText;
use crate::config::values::{Count, Time};

record! {
    /// Limits of the whole edge.
    LimitsFile {
        /// Client connections that are open at once.
        connections: ConnectionLimitsFile, nested, inside;
        /// Networks to which no limit and no automatic ban applies, neither here nor of a site.
        exempt: List<Network>, optional, live;
        /// true: a client's connections beyond the limit are counted and let in.
        dry_run: Flag, default(Flag(false)), live;
    }
}

record! {
    /// Client connections that are open at once.
    ConnectionLimitsFile {
        /// Of all clients: auto (what the descriptor limit allows, less a reserve), or a number.
        total: TotalFile, default(TotalFile(None)), live;
        /// Of one IPv4 address or one IPv6 /64. Many people share one address behind a NAT.
        per_ip: Count<1, 1_000_000>, default(Count(2000)), live;
    }
}

record! {
    /// How many requests may come.
    RequestRatesFile {
        /// From one IPv4 address or IPv6 /64; beyond it 429.
        per_ip: RateText, optional, live;
        /// How many of `per_ip` may come at once; without it as many as the number in the rate.
        burst: Count<1, 1_000_000>, optional, live;
        /// For one room; beyond it 429.
        per_room: RateText, optional, live;
        /// How many of `per_room` may come at once.
        room_burst: Count<1, 1_000_000>, optional, live;
        /// From everybody; beyond it 503.
        total: RateText, optional, live;
        /// How many of `total` may come at once.
        total_burst: Count<1, 1_000_000>, optional, live;
    }
}

record! {
    /// How many of a route's requests may come, beside the limits of its site. Off unless they are set.
    RouteLimitsFile {
        /// How many requests may come.
        requests: RequestRatesFile, nested, inside;
        /// Networks to which these rates do not apply.
        exempt: List<Network>, optional, live;
        /// true: what is beyond them is counted and let through.
        dry_run: Flag, default(Flag(false)), live;
    }
}

record! {
    /// How many rooms may open: requests that name a room without a place.
    NewRoomRatesFile {
        /// By one IPv4 address or IPv6 /64; beyond it 429.
        per_ip: RateText, optional, live;
        /// How many of `per_ip` may open at once; without it as many as the number in the rate.
        burst: Count<1, 1_000_000>, optional, live;
        /// By everybody; beyond it 503.
        total: RateText, optional, live;
        /// How many of `total` may open at once.
        total_burst: Count<1, 1_000_000>, optional, live;
    }
}

record! {
    /// WebSockets that are open at once.
    RoomConnectionsFile {
        /// In one room; a further one gets 503.
        per_room: Count<1, 1_000_000>, optional, live;
    }
}

record! {
    /// A rule that bans a client for a while.
    BanRuleFile {
        /// Answers that count: statuses from 400 on, such as [401, 403, 404, 429].
        statuses: List<Count<400, 599>>, optional, live;
        /// Whether failed TLS handshakes count.
        handshake_failures: Flag, default(Flag(false)), live;
        /// How many lead to a ban.
        count: Count<5, 100_000>, required, live;
        /// Within this time; a client that does it more slowly is never banned.
        within: Time<1000, 86_400>, required, live;
        /// How long the ban lasts.
        lasts: Time<1000, 2_592_000>, required, live;
        /// Networks that are never banned by it.
        exempt: List<Network>, optional, live;
        /// true: it is counted and logged who would be banned.
        dry_run: Flag, default(Flag(false)), live;
    }
}

/// `auto` or a number of connections.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct TotalFile(pub(in crate::config) Option<u32>);

impl Read for TotalFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = &reader.scalar(node, "`auto` or a number")?.text;
        if text == "auto" {
            return Some(Self(None));
        }
        let total = text.parse::<u32>().ok().filter(|n| (1..=10_000_000).contains(n));
        if total.is_none() {
            let message = format!("{}: {} is not a number of connections", reader.path(), quote(text));
            reader.fault(node.at, message, "`auto`, or 1 to 10000000");
        }
        total.map(|total| Self(Some(total)))
    }
}

impl serde::Serialize for TotalFile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str("auto"),
            Some(total) => serializer.serialize_u32(total),
        }
    }
}

either!(TotalFile, |_g| [
    json_schema!({ "const": "auto" }),
    json_schema!({ "type": "integer", "minimum": 1, "maximum": 10_000_000 }),
]);
