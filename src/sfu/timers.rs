//! Deadlines of many things on one worker: the earliest is known at once, and each thing has at most one.
//!
//! Pure: a binary heap that knows where each thing sits, so that moving a deadline costs a few swaps and leaves
//! nothing stale behind. Memory is bounded by the number of things.

use std::time::Instant;

/// A heap of deadlines, keyed by small indexes (slots of a slab).
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<(Instant, u32)>,
    // Position in `heap` of each key, or `NOWHERE`.
    places: Vec<u32>,
}

impl Timers {
    /// Sets, moves or clears the deadline of `key`.
    pub(super) fn set(&mut self, key: u32, due: Option<Instant>) {
        let index = key as usize;
        if index >= self.places.len() {
            if due.is_none() {
                return;
            }
            self.places.resize(index + 1, NOWHERE);
        }
        let place = self.places[index];
        match (place == NOWHERE, due) {
            (true, None) => {}
            (true, Some(due)) => {
                self.heap.push((due, key));
                self.settle(self.heap.len() - 1);
            }
            (false, Some(due)) => {
                let place = place as usize;
                if self.heap[place].0 != due {
                    self.heap[place].0 = due;
                    self.settle(place);
                }
            }
            (false, None) => {
                let place = place as usize;
                self.heap.swap_remove(place);
                self.places[index] = NOWHERE;
                if place < self.heap.len() {
                    self.settle(place);
                }
            }
        }
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(due, _)| *due)
    }

    /// Takes one thing whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let (due, key) = *self.heap.first()?;
        if due > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }

    /// Moves the entry at `place` up or down to where it belongs.
    fn settle(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= self.heap[place].0 {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
        loop {
            let left = 2 * place + 1;
            let right = left + 1;
            let mut least = place;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].0 < self.heap[least].0 {
                    least = child;
                }
            }
            if least == place {
                break;
            }
            self.swap(least, place);
            place = least;
        }
        self.note(place);
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, place: usize) {
        let key = self.heap[place].1 as usize;
        // Keys are `u32` and each sits in the heap once, so a place fits.
        self.places[key] = u32::try_from(place).unwrap_or(NOWHERE);
    }
}

const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_heap_agrees_with_a_sorted_map(ops in prop::collection::vec((0u32..20, prop::option::of(0u64..50), 0u64..60), 1..200)) {
            let start = crate::clock::now();
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
            for (key, due, now) in ops {
                let due = due.map(|ms| start + Duration::from_millis(ms));
                timers.set(key, due);
                match due { Some(due) => { model.insert(key, due); } None => { model.remove(&key); } }
                prop_assert_eq!(timers.next(), model.values().min().copied());
                let now = start + Duration::from_millis(now);
                if now.duration_since(start).as_millis().is_multiple_of(3) {
                    while let Some(key) = timers.pop_due(now) {
                        let due = model.remove(&key);
                        prop_assert!(due.is_some_and(|due| due <= now));
                    }
                    prop_assert!(model.values().all(|due| *due > now));
                }
            }
            prop_assert_eq!(timers.heap.len(), model.len());
        }
    }
}
