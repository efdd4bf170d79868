//! Wakes a worker's loop from another thread, without a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// One worker's bell. Rung after something was put into one of its queues.
#[derive(Debug, Default)]
pub(super) struct Wake {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Wake {
    /// Ends the owner's wait, or the next one if it does not wait now.
    pub(super) fn ring(&self) {
        // Many rings before the owner looks cost one wake-up.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Returns whether the bell was rung since the last call; if not, the task is woken when it is.
    pub(super) fn poll(&self, cx: &Context<'_>) -> bool {
        if self.rung.swap(false, Ordering::AcqRel) {
            return true;
        }
        self.waker.register(cx.waker());
        self.rung.swap(false, Ordering::AcqRel)
    }
}
