//! How many are open at once, by key.
//!
//! Pure. Exact for every key that is in the table; the table is bounded, and what finds no room in it is let in without
//! being counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Counts of some keys, none of them zero.
#[derive(Debug)]
pub(super) struct Counts {
    counts: HashMap<u128, u32>,
    keys_max: usize,
}

/// What came of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is counted; whoever got this calls [`Counts::leave`] once. `over`: it is beyond the limit.
    Counted {
        /// Whether there are more than the limit now.
        over: bool,
    },
    /// It is not counted: the table is full.
    Unknown,
}

impl Counts {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { counts: HashMap::new(), keys_max }
    }

    /// Counts one more.
    pub(super) fn enter(&mut self, key: u128, limit: u32) -> Entered {
        let full = self.counts.len() >= self.keys_max;
        match self.counts.entry(key) {
            Entry::Occupied(mut count) => {
                *count.get_mut() += 1;
                Entered::Counted { over: *count.get() > limit }
            }
            Entry::Vacant(_) if full => Entered::Unknown,
            Entry::Vacant(count) => {
                count.insert(1);
                Entered::Counted { over: limit == 0 }
            }
        }
    }

    /// Counts one less.
    pub(super) fn leave(&mut self, key: u128) {
        if let Entry::Occupied(mut count) = self.counts.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_exact_and_forgets_who_has_left() {
        let mut counts = Counts::new(2);
        assert_eq!(counts.enter(1, 2), Entered::Counted { over: false });
        assert_eq!(counts.enter(1, 2), Entered::Counted { over: false });
        assert_eq!(counts.enter(1, 2), Entered::Counted { over: true });
        counts.leave(1);
        counts.leave(1);
        assert_eq!(counts.enter(1, 2), Entered::Counted { over: false });
        assert_eq!(counts.enter(2, 1), Entered::Counted { over: false });
        assert_eq!(counts.enter(3, 1), Entered::Unknown, "the table is full");
        assert_eq!(counts.enter(2, 1), Entered::Counted { over: true }, "known ones are still counted");
        counts.leave(1);
        counts.leave(1);
        assert_eq!(counts.enter(3, 1), Entered::Counted { over: false });
        counts.leave(7);
    }
}
