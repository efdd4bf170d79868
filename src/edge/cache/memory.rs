//! The bytes that the cache holds: all of them, also those that are no longer found and that somebody still reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts bytes against a bound. Only [`super::Cache`] takes, one at a time; anybody gives back.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    held: Arc<AtomicU64>,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    memory: Memory,
    bytes: u64,
}

impl Memory {
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes bytes if that stays within `bound`. The caller sees to it that nobody else takes meanwhile.
    pub(super) fn take(&self, bytes: u64, bound: u64) -> Option<Held> {
        let fits = self.held().checked_add(bytes).is_some_and(|sum| sum <= bound);
        fits.then(|| {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            Held { memory: self.clone(), bytes }
        })
    }
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds what was taken later.
    pub(super) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_the_bound_and_all_is_given_back() {
        let memory = Memory::default();
        let mut a = memory.take(60, 100).unwrap();
        assert!(memory.take(41, 100).is_none());
        assert!(memory.take(u64::MAX, 100).is_none());
        let b = memory.take(40, 100).unwrap();
        a.join(b);
        assert_eq!((a.bytes(), memory.held()), (100, 100));
        drop(a);
        assert_eq!(memory.held(), 0);
    }
}
