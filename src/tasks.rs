//! Spawned tasks: counted, named, and told when the process stops.
//!
//! `tokio::spawn` is banned elsewhere (see `.clippy.toml`): a task that nobody counts is a task that nobody ends.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is dropped at a deadline has this long to be gone.
const DROPPING_MAX: Duration = Duration::from_millis(500);

/// Owns every task of the process. Cheap to clone; all clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    ended: CancellationToken,
    // Of the drain, once it has begun.
    deadline: Arc<OnceLock<Duration>>,
}

impl Tasks {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task on the current runtime and counts it until it ends.
    ///
    /// A task that is still running when the deadline of [`Tasks::drain`] passes is dropped at its next await point.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let ended = self.ended.clone();
        let future = async move {
            tokio::select! {
                () = future => {}
                () = ended.cancelled() => {}
            }
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that may spawn")]
        tokio::spawn(self.tracker.track_future(future))
    }

    /// Fires when the process begins to stop: accept nothing new, say goodbye, finish what runs.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Waits until the process stops, and then for one peer's turn to be told so: at random within the first half of
    /// the deadline, so that those who come back do not come all at once.
    pub async fn farewell(&self) {
        self.stopping.cancelled().await;
        let deadline = self.deadline.get().copied().unwrap_or_default();
        tokio::time::sleep(turn(deadline, rand::random())).await;
    }

    /// Returns the number of running tasks.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all tasks to finish and waits for them, at most `deadline`; then drops those that remain.
    ///
    /// Returns the number of tasks that had to be dropped.
    pub async fn drain(&self, deadline: Duration) -> usize {
        // Whoever drains first says how long.
        let _ = self.deadline.set(deadline);
        self.stopping.cancel();
        self.tracker.close();
        let left = match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        };
        self.ended.cancel();
        if left > 0 {
            // Dropping is work too: what they count and log is there when this returns.
            let _ = tokio::time::timeout(DROPPING_MAX, self.tracker.wait()).await;
        }
        left
    }
}

/// Returns when it is one peer's turn to be told that the process stops: `chance`, from 0 to 1, of the first half of
/// `deadline`. The other half is for peers that are slow to close.
pub fn turn(deadline: Duration, chance: f64) -> Duration {
    deadline.mul_f64(chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_dropped_is_gone_when_the_drain_returns() {
        struct Slow(Arc<AtomicBool>);
        impl Drop for Slow {
            fn drop(&mut self) {
                std::thread::sleep(Duration::from_millis(50));
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (tasks, gone) = (Tasks::new(), Arc::new(AtomicBool::new(false)));
        let slow = Slow(gone.clone());
        tasks.spawn(async move {
            let _slow = slow;
            std::future::pending().await
        });
        assert_eq!(tasks.drain(Duration::ZERO).await, 1);
        assert!(gone.load(Ordering::Relaxed));
    }

    #[test]
    fn turns_are_in_the_first_half_of_the_deadline() {
        let seconds = Duration::from_secs_f64;
        for (deadline, chance, expected) in
            [(10.0, 0.0, 0.0), (10.0, 0.5, 2.5), (10.0, 1.0, 5.0), (0.0, 0.7, 0.0), (10.0, 7.0, 5.0)]
        {
            assert_eq!(turn(seconds(deadline), chance), seconds(expected));
        }
    }
}
