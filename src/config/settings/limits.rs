//! Limits and bans: how much one client, one room or all of them may ask for.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::Name;

/// Limits of the whole edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Open client connections of all; `None`: what the descriptor limit allows, less a reserve.
    pub connections_max: Option<u32>,
    /// Open client connections of one IPv4 address or IPv6 /64. Default 2000.
    pub connections_per_ip: u32,
    /// Networks to which no limit and no automatic ban applies.
    pub exempt: Vec<IpNet>,
    /// Whether what is beyond `connections_per_ip` is counted and let in.
    pub dry_run: bool,
}

/// So many in a time, and so many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In this time.
    pub per: Duration,
    /// How many may come at once after a pause.
    pub burst: NonZeroU32,
}

/// Limits of the requests of a site, or of one of its routes. All are off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests of one IPv4 address or IPv6 /64.
    pub requests_per_ip: Option<Rate>,
    /// Requests for one room.
    pub requests_per_room: Option<Rate>,
    /// Requests of everybody.
    pub requests_total: Option<Rate>,
    /// Rooms opened by one IPv4 address or IPv6 /64.
    pub new_rooms_per_ip: Option<Rate>,
    /// Rooms opened by everybody.
    pub new_rooms_total: Option<Rate>,
    /// WebSockets open at once in one room.
    pub connections_per_room: Option<NonZeroU32>,
    /// Networks to which these limits do not apply.
    pub exempt: Vec<IpNet>,
    /// Whether what is beyond them is counted and let through.
    pub dry_run: bool,
}

impl RequestLimits {
    /// Whether there is none.
    pub fn is_off(&self) -> bool {
        let Self {
            requests_per_ip,
            requests_per_room,
            requests_total,
            new_rooms_per_ip,
            new_rooms_total,
            connections_per_room,
            exempt: _,
            dry_run: _,
        } = self;
        [requests_per_ip, requests_per_room, requests_total, new_rooms_per_ip, new_rooms_total]
            .iter()
            .all(|rate| rate.is_none())
            && connections_per_room.is_none()
    }
}

/// Who may ask a site at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRules {
    /// Only these; empty: everybody.
    pub allow: Vec<IpNet>,
    /// Never these, also if they are allowed.
    pub deny: Vec<IpNet>,
}

impl NetworkRules {
    /// Whether a client may ask.
    pub fn lets_in(&self, client: IpAddr) -> bool {
        !contains(&self.deny, client) && (self.allow.is_empty() || contains(&self.allow, client))
    }
}

/// A rule that bans a client for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanRule {
    /// Its name in the file.
    pub name: Name,
    /// Answers that count.
    pub statuses: Vec<u16>,
    /// Whether failed TLS handshakes count.
    pub handshake_failures: bool,
    /// How many lead to a ban: more than the burst at this rate.
    pub rate: Rate,
    /// How long the ban lasts.
    pub lasts: Duration,
    /// Networks that are never banned by it.
    pub exempt: Vec<IpNet>,
    /// Whether it only tells who would be banned.
    pub dry_run: bool,
}

/// Whether one of the networks has the address. Addresses are canonical: no IPv4 in the clothes of IPv6.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_beats_allow_and_an_empty_allow_is_everybody() {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        for (allow, deny, client, expected) in [
            (&[][..], &[][..], "192.0.2.7", true),
            (&["192.0.2.0/24"], &[], "192.0.2.7", true),
            (&["192.0.2.0/24"], &[], "198.51.100.1", false),
            (&["192.0.2.0/24"], &["192.0.2.7/32"], "192.0.2.7", false),
            (&["192.0.2.0/24"], &["192.0.2.7/32"], "192.0.2.8", true),
            (&[], &["2001:db8::/32"], "2001:db8::1", false),
            (&[], &["0.0.0.0/0"], "2001:db8::1", true),
        ] {
            let rules = NetworkRules { allow: nets(allow), deny: nets(deny) };
            assert_eq!(rules.lets_in(client.parse().unwrap()), expected, "{rules:?} {client}");
        }
    }
}
