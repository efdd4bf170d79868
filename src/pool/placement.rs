//! Decides which node a new room gets.
//!
//! Pure: names and weights are passed in, an index comes out. Weighted rendezvous hashing: every edge that knows the
//! same nodes under the same secret makes the same choice, a node that leaves moves its own rooms only, and one that
//! comes takes rooms for itself only.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::config::settings::Name;

/// What a policy may know of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomName<'a> {
    /// Its pool.
    pub pool: &'a str,
    /// Its scope: the site, unless sites are merged.
    pub scope: &'a str,
    /// Its normalised key.
    pub key: &'a str,
}

/// A node that can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its name in the pool: its identity, whatever its address.
    pub name: &'a str,
    /// Its share of new rooms, relative to the others; 0 gets none.
    pub weight: u32,
}

/// What a request would like of a room that has no place yet. A room that has one stays where it is, whatever is
/// wished: it never splits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The node of this name, if it can serve; also one of weight 0.
    pub node: Option<Name>,
    /// A node that runs this release, if one can serve.
    pub release: Option<Name>,
}

impl Wish {
    /// No wish.
    pub const NONE: Self = Self { node: None, release: None };
}

/// Chooses a node for a room that has no place.
pub trait Policy: Send + Sync {
    /// Returns the index of the chosen candidate, or `None` if none may take a new room.
    fn pick(&self, room: RoomName<'_>, candidates: &mut dyn Iterator<Item = Candidate<'_>>) -> Option<usize>;
}

/// Weighted rendezvous hashing under a secret.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    empty: SipHasher13,
}

impl Rendezvous {
    /// Creates a policy that agrees with all others of the same `secret`.
    pub fn new(secret: &[u8; 16]) -> Self {
        Self { empty: SipHasher13::new_with_key(secret) }
    }
}

impl Default for Rendezvous {
    /// Agrees with every other default: edges without a shared secret still choose alike.
    fn default() -> Self {
        Self::new(DEFAULT_SECRET)
    }
}

impl Policy for Rendezvous {
    fn pick(&self, room: RoomName<'_>, candidates: &mut dyn Iterator<Item = Candidate<'_>>) -> Option<usize> {
        let mut hasher = self.empty;
        // 0xff is in no UTF-8 text: it ends each part, so that ("ab", "c") and ("a", "bc") differ.
        for part in [room.pool, room.scope, room.key] {
            hasher.write(part.as_bytes());
            hasher.write_u8(0xff);
        }
        let mut best: Option<(usize, f64, &str)> = None;
        for (index, candidate) in candidates.enumerate().filter(|(_, c)| c.weight > 0) {
            let mut hasher = hasher;
            hasher.write(candidate.name.as_bytes());
            let score = score(hasher.finish(), candidate.weight);
            let better = best
                .is_none_or(|(_, least, name)| score < least || (score == least && candidate.name < name));
            if better {
                best = Some((index, score, candidate.name));
            }
        }
        best.map(|(index, _, _)| index)
    }
}

/// The least of independent exponential variables with rates `weight` falls on each in proportion to its rate.
fn score(hash: u64, weight: u32) -> f64 {
    // The middle of one of 2^53 steps: never 0 and never 1.
    let u = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -u.ln() / f64::from(weight)
}

/// Part of the agreement between edges: a change moves every room that is not held anywhere.
const DEFAULT_SECRET: &[u8; 16] = b"roomgate-place-1";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pick<'a>(key: &str, nodes: &[(&'a str, u32)]) -> Option<&'a str> {
        let room = RoomName { pool: "shards", scope: "meet.example.com", key };
        let mut candidates = nodes.iter().map(|&(name, weight)| Candidate { name, weight });
        Rendezvous::default().pick(room, &mut candidates).map(|index| nodes[index].0)
    }

    // Worked out by an independent SipHash-1-3: edges of different builds must agree.
    #[test]
    fn the_choice_is_an_agreement_between_versions() {
        let nodes = [("s1", 100), ("s2", 100), ("s3", 200)];
        for (key, chosen) in [
            ("alpha", "s2"),
            ("beta", "s1"),
            ("gamma", "s1"),
            ("delta", "s1"),
            ("epsilon", "s3"),
            ("zeta", "s1"),
            ("eta", "s1"),
            ("caf\u{e9}", "s3"),
        ] {
            assert_eq!(pick(key, &nodes), Some(chosen), "{key}");
        }
    }

    #[test]
    fn nobody_is_chosen_from_nobody_and_weight_0_gets_nothing() {
        assert_eq!(pick("a", &[]), None);
        assert_eq!(pick("a", &[("s1", 0)]), None);
        for i in 0..200 {
            assert_eq!(pick(&i.to_string(), &[("s1", 0), ("s2", 1)]), Some("s2"));
        }
    }

    #[test]
    fn weights_are_shares() {
        let nodes = [("s1", 100), ("s2", 200), ("s3", 700)];
        let mut counts = [0u32; 3];
        for i in 0..20_000 {
            let name = pick(&format!("room-{i}"), &nodes).unwrap();
            counts[nodes.iter().position(|n| n.0 == name).unwrap()] += 1;
        }
        for (count, share) in counts.iter().zip([2_000.0, 4_000.0, 14_000.0]) {
            let off = (f64::from(*count) - share).abs() / share;
            assert!(off < 0.06, "{counts:?}");
        }
    }

    #[test]
    fn another_secret_is_another_choice() {
        let nodes = ["a", "b", "c", "d"];
        let (one, two) = (Rendezvous::default(), Rendezvous::new(&[7; 16]));
        let differ = (0..100)
            .filter(|i: &u32| {
                let key = i.to_string();
                let of = |p: &Rendezvous| {
                    let room = RoomName { pool: "p", scope: "s", key: &key };
                    p.pick(room, &mut nodes.iter().map(|&name| Candidate { name, weight: 1 }))
                };
                of(&one) != of(&two)
            })
            .count();
        assert!(differ > 50, "{differ}");
    }

    proptest! {
        #[test]
        fn the_order_of_nodes_does_not_matter(key in "[a-z]{1,12}", n in 2usize..8, turn in 0usize..8) {
            let names: Vec<String> = (0..n).map(|i| format!("s{i}")).collect();
            let mut nodes: Vec<_> = names.iter().map(|name| (name.as_str(), 100)).collect();
            let before = pick(&key, &nodes);
            nodes.rotate_left(turn % n);
            prop_assert_eq!(before, pick(&key, &nodes));
        }

        #[test]
        fn a_node_that_leaves_moves_its_own_rooms_only(
            weights in prop::collection::vec(1u32..500, 2..9), leaving in 0usize..9, keys in prop::collection::vec("[a-z0-9]{1,20}", 60)
        ) {
            let names: Vec<String> = (0..weights.len()).map(|i| format!("s{i}")).collect();
            let all: Vec<_> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let gone = all[leaving % all.len()].0;
            let left: Vec<_> = all.iter().copied().filter(|n| n.0 != gone).collect();
            for key in &keys {
                let before = pick(key, &all).unwrap();
                let after = pick(key, &left).unwrap();
                // Read backwards: a node that comes takes rooms for itself only.
                prop_assert!(before == after || before == gone, "{} moved from {} to {}", key, before, after);
            }
        }

        #[test]
        fn a_higher_weight_takes_rooms_and_gives_none(key in "[a-z0-9]{1,20}", more in 100u32..1000) {
            let before = pick(&key, &[("s0", 100), ("s1", 100), ("s2", 100)]).unwrap();
            let after = pick(&key, &[("s0", 100), ("s1", more), ("s2", 100)]).unwrap();
            prop_assert!(before == after || after == "s1");
        }
    }
}
