//! Limits and bans: what is said of a rate that is not there, and rules that count nothing.

use std::num::NonZeroU32;

use super::Check;
use crate::config::file::{
    BanRuleFile, NewRoomRatesFile, RequestRatesFile, RoomConnectionsFile, RouteLimitsFile, SiteFile,
};
use crate::config::read::{Given, List};
use crate::config::settings::{BanRule, EdgeLimits, IpNet, Name, NetworkRules, Rate, RequestLimits};
use crate::config::values::Count;
use crate::config::values::network::Network;
use crate::config::values::rate::RateText;

/// How many may come at once, as the file has it.
type Burst = Given<Count<1, 1_000_000>>;

impl Check<'_> {
    pub(super) fn limits(&mut self) -> EdgeLimits {
        let limits = &self.file.limits;
        EdgeLimits {
            connections_max: limits.connections.total.value.0,
            connections_per_ip: limits.connections.per_ip.value.0,
            exempt: networks(&limits.exempt),
            dry_run: limits.dry_run.value.0,
        }
    }

    /// Builds the limits of a site.
    pub(super) fn site_limits(&mut self, path: &str, site: &SiteFile) -> RequestLimits {
        let limits = &site.limits;
        let mut settings = self.request_limits(
            &format!("{path}.limits"),
            &limits.requests,
            &limits.new_rooms,
            &limits.connections,
        );
        settings.exempt = networks(&limits.exempt);
        settings.dry_run = limits.dry_run.value.0;
        settings
    }

    /// Builds the limits of a route. `path` is that of their map.
    pub(super) fn route_limits(&mut self, path: &str, limits: &RouteLimitsFile) -> RequestLimits {
        let requests = self.request_rates(path, &limits.requests);
        RequestLimits { exempt: networks(&limits.exempt), dry_run: limits.dry_run.value.0, ..requests }
    }

    /// Builds the rates of requests; the rest is off.
    fn request_rates(&mut self, path: &str, requests: &RequestRatesFile) -> RequestLimits {
        let path = format!("{path}.requests");
        let mut rate = |key: &str, rate: &Given<RateText>, burst_key: &str, burst: &Burst| {
            self.rate(&path, key, rate, burst_key, burst)
        };
        RequestLimits {
            requests_per_ip: rate("per_ip", &requests.per_ip, "burst", &requests.burst),
            requests_per_room: rate("per_room", &requests.per_room, "room_burst", &requests.room_burst),
            requests_total: rate("total", &requests.total, "total_burst", &requests.total_burst),
            ..RequestLimits::default()
        }
    }

    /// Builds the limits of whatever has these records. `path` is that of their map.
    pub(super) fn request_limits(
        &mut self,
        path: &str,
        requests: &RequestRatesFile,
        new_rooms: &NewRoomRatesFile,
        connections: &RoomConnectionsFile,
    ) -> RequestLimits {
        let requests = self.request_rates(path, requests);
        let path = format!("{path}.new_rooms");
        let mut rate = |key: &str, rate: &Given<RateText>, burst_key: &str, burst: &Burst| {
            self.rate(&path, key, rate, burst_key, burst)
        };
        RequestLimits {
            new_rooms_per_ip: rate("per_ip", &new_rooms.per_ip, "burst", &new_rooms.burst),
            new_rooms_total: rate("total", &new_rooms.total, "total_burst", &new_rooms.total_burst),
            connections_per_room: connections.per_room.get().and_then(|count| NonZeroU32::new(count.0)),
            ..requests
        }
    }

    fn rate(
        &mut self,
        path: &str,
        key: &str,
        rate: &Given<RateText>,
        burst_key: &str,
        burst: &Burst,
    ) -> Option<Rate> {
        if let (Given::No, Some((at, _))) = (rate, burst.full()) {
            let message = format!("{path}.{burst_key}: there is no `{key}`");
            self.fault(at, message, format!("add `{key}: \"60/s\"`, or remove it"));
        }
        let (count, per) = rate.get()?.0;
        let burst = burst.get().and_then(|burst| NonZeroU32::new(burst.0)).unwrap_or(count);
        Some(Rate { count, per, burst })
    }

    pub(super) fn network_rules(&mut self, path: &str, site: &SiteFile) -> NetworkRules {
        if let Some((at, allow)) = site.allow.full()
            && allow.value.is_empty()
        {
            let message = format!("{path}.allow: no network, so it is not clear who may ask");
            self.fault(at, message, "name networks, or remove it: everybody may");
        }
        NetworkRules { allow: networks(&site.allow), deny: networks(&site.deny) }
    }

    pub(super) fn bans(&mut self) -> Vec<BanRule> {
        let Some(names) = self.file.bans.get() else { return Vec::new() };
        let mut rules: Vec<BanRule> =
            names.iter().filter_map(|(at, name, rule)| self.ban_rule(at, name, &rule.value)).collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some((at, _, _)) = names.iter().nth(BAN_RULES_MAX) {
            // Each answer is held against each rule.
            self.fault(at, format!("bans: more than {BAN_RULES_MAX} rules"), "put statuses together");
        }
        rules
    }

    fn ban_rule(
        &mut self,
        at: crate::config::fault::Mark,
        name: &Name,
        rule: &BanRuleFile,
    ) -> Option<BanRule> {
        let statuses: Vec<u16> = match &rule.statuses {
            Given::Yes(_, list) => {
                list.value.items.iter().filter_map(|status| u16::try_from(status.value.0).ok()).collect()
            }
            Given::No | Given::Faulty => Vec::new(),
        };
        let clear = !matches!(&rule.statuses, Given::Faulty)
            && rule.statuses.get().is_none_or(|list| list.is_empty() || !list.items.is_empty());
        if statuses.is_empty() && !rule.handshake_failures.value.0 && clear {
            let message = format!("bans.{name}: nothing counts");
            self.fault(at, message, "add `statuses: [401, 403, 404, 429]` or `handshake_failures: true`");
        }
        let count = NonZeroU32::new(rule.count.get()?.0)?;
        Some(BanRule {
            name: name.clone(),
            statuses,
            handshake_failures: rule.handshake_failures.value.0,
            // The one that goes beyond the burst is the one that leads to the ban.
            rate: Rate {
                count,
                per: rule.within.get()?.0,
                burst: NonZeroU32::new(count.get() - 1).unwrap_or(NonZeroU32::MIN),
            },
            lasts: rule.lasts.get()?.0,
            exempt: networks(&rule.exempt),
            dry_run: rule.dry_run.value.0,
        })
    }
}

fn networks(list: &Given<List<Network>>) -> Vec<IpNet> {
    list.get().map(|list| list.items.iter().map(|network| network.value.0).collect()).unwrap_or_default()
}

const BAN_RULES_MAX: usize = 32;
