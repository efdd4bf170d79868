//! Certificates, authorities and ticket keys: taken over when their files change, and warned of before they end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::App;
use crate::clock;
use crate::config::watch;

impl App {
    /// Watches the files of the running configuration until the process stops.
    pub(super) fn renew_certificates(self: &Arc<Self>) {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            let stopping = app.tasks.stopping().clone();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = app.follow_files() => {}
            }
        });
    }

    async fn follow_files(self: &Arc<Self>) {
        let mut sets = self.tls_files.subscribe();
        let mut daily = tokio::time::interval(DAY);
        // The first tick comes at once, and the start has warned already.
        daily.tick().await;
        loop {
            let files = sets.borrow_and_update().clone();
            let (changed, mut changes) = mpsc::channel(1);
            let _watch = watch::watch_files(files, &self.tasks, changed);
            // What changed between the load and the watch.
            self.refresh_certificates().await;
            loop {
                tokio::select! {
                    other = sets.changed() => match other {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Some(()) = changes.recv() => self.refresh_certificates().await,
                    _ = daily.tick() => self.warn_of_ends(),
                }
            }
        }
    }

    /// On a thread that may block, and never beside a reload, which would put back what it had read before.
    async fn refresh_certificates(self: &Arc<Self>) {
        let _one_at_a_time = self.reloading.lock().await;
        let app = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || app.edge.refresh_certificates()).await;
    }

    fn warn_of_ends(&self) {
        let now = clock::wall().as_secs();
        for warning in self.edge.certificates().iter().filter_map(|certificate| certificate.warning(now)) {
            tracing::warn!("{warning}");
        }
    }
}

/// The files to watch, told anew when a reload changes them.
pub(super) type TlsFiles = tokio::sync::watch::Sender<Vec<PathBuf>>;

const DAY: Duration = Duration::from_secs(86_400);
