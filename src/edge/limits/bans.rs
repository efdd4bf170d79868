//! Who is banned, until when and why.
//!
//! Pure: the time is passed in. Bounded: at the bound the ban that ends first makes room for one that lasts longer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// Bans at once.
pub(super) const BANS_MAX: usize = 10_000;

/// The bans that are in force.
#[derive(Debug, Default)]
pub(super) struct Bans {
    bans: HashMap<IpNet, Ban>,
    by_end: BTreeSet<(Instant, IpNet)>,
    /// How many bans there are of each prefix length, IPv4 first: a look-up asks for these only.
    lengths: BTreeMap<(bool, u8), usize>,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ban {
    pub(super) since: Instant,
    pub(super) until: Instant,
    /// The rule, or who asked for it.
    pub(super) by: String,
    pub(super) reason: String,
}

impl Ban {
    /// `None`: it would end later than time can be told.
    pub(super) fn new(by: &str, reason: &str, now: Instant, lasts: Duration) -> Option<Self> {
        let until = now.checked_add(lasts)?;
        Some(Self { since: now, until, by: by.to_owned(), reason: reason.to_owned() })
    }
}

impl Bans {
    pub(super) fn len(&self) -> usize {
        self.bans.len()
    }

    /// Adds a ban or changes the one of the same network. False: the table is full of bans that last longer.
    pub(super) fn add(&mut self, network: IpNet, ban: Ban, now: Instant) -> bool {
        let network = network.trunc();
        self.expire(now);
        self.remove(network);
        if self.bans.len() >= BANS_MAX {
            match self.by_end.first() {
                Some((until, first)) if *until < ban.until => drop(self.remove(*first)),
                Some(_) | None => return false,
            }
        }
        self.by_end.insert((ban.until, network));
        *self.lengths.entry(length(network)).or_default() += 1;
        self.bans.insert(network, ban);
        true
    }

    /// Adds a ban unless all that it holds is banned by another one, such as an operator's that lasts longer. `None`: it
    /// is; else as [`Self::add`].
    pub(super) fn add_new(&mut self, network: IpNet, ban: Ban, now: Instant) -> Option<bool> {
        (!self.covers(network, now)).then(|| self.add(network, ban, now))
    }

    /// When the first of them ends.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.by_end.first().map(|(until, _)| *until)
    }

    /// Takes a ban away and returns it.
    pub(super) fn remove(&mut self, network: IpNet) -> Option<Ban> {
        let network = network.trunc();
        let ban = self.bans.remove(&network)?;
        self.by_end.remove(&(ban.until, network));
        let length = length(network);
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
        Some(ban)
    }

    /// Drops the bans that have ended.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((until, network)) = self.by_end.first().copied()
            && until <= now
        {
            self.remove(network);
        }
    }

    /// Tells whether an address is banned. It is canonical: no IPv4 in the clothes of IPv6.
    pub(super) fn has(&self, address: IpAddr, now: Instant) -> bool {
        self.covers(IpNet::from(address), now)
    }

    /// Tells whether a network is banned as a whole by one ban.
    fn covers(&self, network: IpNet, now: Instant) -> bool {
        let address = network.addr();
        self.lengths
            .keys()
            .filter(|(is_v6, length)| *is_v6 == address.is_ipv6() && *length <= network.prefix_len())
            .filter_map(|(_, length)| IpNet::new(address, *length).ok())
            .any(|network| self.bans.get(&network.trunc()).is_some_and(|ban| ban.until > now))
    }

    /// All bans in force, the one that ends first in front.
    pub(super) fn list(&self, now: Instant) -> Vec<(IpNet, Ban)> {
        let all = self.by_end.iter().filter(|(until, _)| *until > now);
        all.filter_map(|(_, network)| Some((*network, self.bans.get(network)?.clone()))).collect()
    }
}

fn length(network: IpNet) -> (bool, u8) {
    (network.addr().is_ipv6(), network.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn ban(since: Instant, seconds: u64) -> Ban {
        let until = since + Duration::from_secs(seconds);
        Ban { since, until, by: "test".to_owned(), reason: String::new() }
    }

    #[test]
    fn a_ban_holds_for_its_network_until_it_ends() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut bans = Bans::default();
        assert!(bans.add("192.0.2.7/32".parse().unwrap(), ban(start, 10), start));
        assert!(bans.add("198.51.100.0/24".parse().unwrap(), ban(start, 20), start));
        assert!(bans.add("2001:db8:1:2::/64".parse().unwrap(), ban(start, 20), start));
        for (address, second, expected) in [
            ("192.0.2.7", 0, true),
            ("192.0.2.7", 10, false),
            ("192.0.2.8", 0, false),
            ("198.51.100.200", 15, true),
            ("198.51.101.1", 15, false),
            ("2001:db8:1:2:3::4", 15, true),
            ("2001:db8:1:3::4", 15, false),
        ] {
            assert_eq!(bans.has(address.parse().unwrap(), at(second)), expected, "{address} {second}");
        }
        assert_eq!(bans.list(at(15)).len(), 2);
        assert!(bans.remove("198.51.100.0/24".parse().unwrap()).is_some());
        assert!(bans.remove("198.51.100.0/24".parse().unwrap()).is_none());
        assert!(!bans.has("198.51.100.200".parse().unwrap(), at(15)));
        bans.expire(at(15));
        assert_eq!((bans.len(), bans.lengths.len()), (1, 1));
    }

    #[test]
    fn a_rule_changes_no_ban_that_is_there() {
        let start = clock::now();
        let mut bans = Bans::default();
        let (one, all) = ("192.0.2.7/32".parse().unwrap(), "192.0.2.0/24".parse().unwrap());
        assert_eq!(bans.add_new(one, ban(start, 10), start), Some(true));
        assert_eq!(bans.add_new(one, ban(start, 20), start), None, "two threads found the same");
        assert!(bans.add(all, ban(start, 100), start));
        let later = start + Duration::from_secs(15);
        assert_eq!(bans.add_new(one, ban(later, 10), later), None, "its network is banned for longer");
        assert_eq!(bans.first_end(), Some(start + Duration::from_secs(10)));
        bans.expire(later);
        let (part, whole) = ("2001:db8::/80".parse().unwrap(), "2001:db8::/64".parse().unwrap());
        assert!(bans.add(part, ban(start, 10), start));
        assert_eq!(bans.add_new(whole, ban(start, 10), start), Some(true), "only a part of it is banned");
        bans.expire(later);
        assert_eq!((bans.len(), bans.first_end()), (1, Some(start + Duration::from_secs(100))));
    }

    #[test]
    fn a_ban_again_takes_the_new_time() {
        let start = clock::now();
        let mut bans = Bans::default();
        let network: IpNet = "192.0.2.0/24".parse().unwrap();
        bans.add(network, ban(start, 100), start);
        // Written with an address within: the same network.
        bans.add("192.0.2.9/24".parse().unwrap(), ban(start, 10), start);
        assert_eq!((bans.len(), bans.by_end.len()), (1, 1));
        assert!(!bans.has("192.0.2.1".parse().unwrap(), start + Duration::from_secs(11)));
    }

    #[test]
    fn at_the_bound_the_longest_are_kept() {
        let start = clock::now();
        let mut bans = Bans::default();
        let network = |n: u32| IpNet::from(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        for n in 0..10_000 {
            assert!(bans.add(network(n), ban(start, 100 + u64::from(n)), start));
        }
        assert!(!bans.add(network(20_000), ban(start, 50), start), "shorter than all");
        assert!(bans.add(network(20_001), ban(start, 5_000), start));
        let has = |n: u32| bans.has(network(n).addr(), start);
        assert_eq!((has(0), has(1), has(20_000), has(20_001)), (false, true, false, true));
        assert_eq!(bans.len(), BANS_MAX);
    }
}
