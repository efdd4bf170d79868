//! Spawned tasks: counted, named, and told when the process stops.
//!
//! `tokio::spawn` is banned elsewhere (see `.clippy.toml`): a task that nobody counts is a task that nobody ends.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns every task of the process. Cheap to clone; all clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    ended: CancellationToken,
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

    /// Returns the number of running tasks.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all tasks to finish and waits for them, at most `deadline`; then drops those that remain.
    ///
    /// Returns the number of tasks that had to be dropped.
    pub async fn drain(&self, deadline: std::time::Duration) -> usize {
        self.stopping.cancel();
        self.tracker.close();
        let left = match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        };
        self.ended.cancel();
        left
    }
}
