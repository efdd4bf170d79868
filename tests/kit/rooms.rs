//! The room checker: where every answer of every room came from, and whether a room was in two places.
//!
//! Pure: sightings in, findings out. A test counts an *epoch* up whenever it does something that may move rooms (it
//! kills a node). Within one epoch a room has one node: two are a **split**. From one epoch to the next a room may
//! have a new node: that is a **move**, and the test says which moves it allows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Collects sightings.
#[derive(Debug, Default)]
pub(crate) struct RoomChecker {
    epoch: u32,
    /// Nodes by room and epoch, with the number of sightings of each.
    seen: BTreeMap<String, BTreeMap<u32, BTreeMap<String, usize>>>,
}

impl RoomChecker {
    /// Starts without a sighting, in epoch 0.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Says that from now on rooms may be elsewhere.
    pub(crate) fn next_epoch(&mut self) {
        self.epoch += 1;
    }

    /// Records that an answer for `room` (its normalised key) came from `node`.
    pub(crate) fn saw(&mut self, room: &str, node: &str) {
        let nodes = self.seen.entry(room.to_owned()).or_default().entry(self.epoch).or_default();
        *nodes.entry(node.to_owned()).or_default() += 1;
    }

    /// Number of rooms seen.
    pub(crate) fn rooms(&self) -> usize {
        self.seen.len()
    }

    /// Number of sightings.
    pub(crate) fn sightings(&self) -> usize {
        self.seen.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values).sum()
    }

    /// Nodes that hosted a room in the last epoch, with the number of rooms of each.
    pub(crate) fn rooms_by_node(&self) -> BTreeMap<String, usize> {
        let mut rooms = BTreeMap::new();
        for nodes in self.seen.values().filter_map(|epochs| epochs.get(&self.epoch)) {
            for node in nodes.keys() {
                *rooms.entry(node.clone()).or_default() += 1;
            }
        }
        rooms
    }

    /// Finds every room that had two nodes in one epoch.
    pub(crate) fn splits(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for (room, epochs) in &self.seen {
            for (epoch, nodes) in epochs {
                if nodes.len() > 1 {
                    let nodes = nodes.keys().cloned().collect();
                    found.push(Finding { room: room.clone(), epoch: *epoch, nodes });
                }
            }
        }
        found
    }

    /// Finds every room that has another node in the last epoch than in the one before it in which it was seen.
    pub(crate) fn moves(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for (room, epochs) in &self.seen {
            let Some(now) = epochs.get(&self.epoch) else { continue };
            let Some((_, before)) = epochs.range(..self.epoch).next_back() else { continue };
            let before: BTreeSet<&String> = before.keys().collect();
            let now: BTreeSet<&String> = now.keys().collect();
            if before != now {
                let nodes = before.into_iter().chain(now).cloned().collect();
                found.push(Finding { room: room.clone(), epoch: self.epoch, nodes });
            }
        }
        found
    }

    /// Panics with the first rooms that were split.
    pub(crate) fn assert_no_splits(&self) {
        let splits = self.splits();
        assert!(
            splits.is_empty(),
            "{} of {} rooms were split: {}",
            splits.len(),
            self.rooms(),
            first(&splits)
        );
    }

    /// Panics unless exactly the rooms that were on `node` before have another node now.
    pub(crate) fn assert_moved_only_from(&self, node: &str) {
        let moves = self.moves();
        let wrong: Vec<Finding> = moves.iter().filter(|m| m.nodes[0] != node).cloned().collect();
        assert!(wrong.is_empty(), "{} rooms moved that were not on {node}: {}", wrong.len(), first(&wrong));
        let stayed = self.rooms_by_node().get(node).copied().unwrap_or_default();
        assert_eq!(stayed, 0, "{stayed} rooms are still on {node}");
    }

    /// Panics if a room has another node than in the epoch before.
    pub(crate) fn assert_no_moves(&self) {
        let moves = self.moves();
        assert!(moves.is_empty(), "{} of {} rooms moved: {}", moves.len(), self.rooms(), first(&moves));
    }
}

/// A room in more than one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Which room.
    pub(crate) room: String,
    /// When.
    pub(crate) epoch: u32,
    /// Where: for a move, the old nodes and then the new ones.
    pub(crate) nodes: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} (epoch {})", self.room, self.nodes.join(", "), self.epoch)
    }
}

fn first(findings: &[Finding]) -> String {
    findings.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

mod tests {
    use super::*;

    fn checker(sightings: &[(u32, &str, &str)]) -> RoomChecker {
        let mut checker = RoomChecker::new();
        for (epoch, room, node) in sightings {
            while checker.epoch < *epoch {
                checker.next_epoch();
            }
            checker.saw(room, node);
        }
        checker
    }

    #[test]
    fn a_room_on_two_nodes_at_once_is_split() {
        assert_eq!(checker(&[(0, "a", "s1"), (0, "a", "s1"), (0, "b", "s2")]).splits(), []);
        let split = Finding { room: "a".into(), epoch: 0, nodes: vec!["s1".into(), "s2".into()] };
        assert_eq!(checker(&[(0, "a", "s1"), (0, "a", "s2"), (1, "a", "s2")]).splits(), [split]);
    }

    #[test]
    fn a_room_on_another_node_later_has_moved_and_is_not_split() {
        let moved = checker(&[(0, "a", "s1"), (0, "b", "s2"), (2, "a", "s3"), (2, "b", "s2")]);
        assert_eq!(moved.splits(), []);
        let expected = Finding { room: "a".into(), epoch: 2, nodes: vec!["s1".into(), "s3".into()] };
        assert_eq!(moved.moves(), [expected]);
        moved.assert_moved_only_from("s1");
        assert_eq!(moved.rooms_by_node(), BTreeMap::from([("s2".into(), 1), ("s3".into(), 1)]));
    }

    #[test]
    #[should_panic(expected = "1 rooms moved that were not on s1")]
    fn a_move_from_a_living_node_is_found() {
        checker(&[(0, "a", "s2"), (1, "a", "s3")]).assert_moved_only_from("s1");
    }

    #[test]
    #[should_panic(expected = "1 rooms are still on s1")]
    fn a_room_that_stays_on_a_dead_node_is_found() {
        checker(&[(0, "a", "s1"), (1, "a", "s1")]).assert_moved_only_from("s1");
    }
}
