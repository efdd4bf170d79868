//! Reload: the whole new configuration or nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::{App, Running};
use crate::admin::view::{HISTORY_MAX, ReloadCause, ReloadRecord, ReloadResult};
use crate::clock;
use crate::config::{self, Fault, Loaded, watch};

/// The last [`HISTORY_MAX`] reloads, newest first.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<ReloadRecord>>);

impl History {
    fn push(&self, record: ReloadRecord) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.truncate(HISTORY_MAX - 1);
        list.push_front(record);
    }

    pub(super) fn list(&self) -> Vec<ReloadRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl App {
    /// Reads the file again and puts it in force, or leaves everything as it is.
    ///
    /// One reload at a time: a second caller waits for the first.
    pub async fn reload(&self, cause: ReloadCause) -> ReloadRecord {
        let _one_at_a_time = self.reloading.lock().await;
        let started = clock::now();
        let origin = self.origin.clone();
        // The file and its certificates are read and parsed on a thread that may block.
        let loaded = match tokio::task::spawn_blocking(move || origin.load()).await {
            Ok(loaded) => loaded.map_err(|faults| faults.to_string()),
            Err(_) => Err("the configuration's reader failed; this is a fault of Roomgate".to_owned()),
        };
        let applied = loaded.and_then(|loaded| self.put_in_force(loaded));
        let running = self.running.load();
        let (result, faults, restart_needed) = match applied {
            Ok(()) => (ReloadResult::Applied, String::new(), running.restart_needed.clone()),
            Err(faults) => (ReloadResult::Rejected, faults, Vec::new()),
        };
        let record = ReloadRecord {
            at: clock::wall().as_secs(),
            cause,
            result,
            generation: running.generation,
            faults,
            restart_needed,
            took_ms: u64::try_from(clock::now().saturating_duration_since(started).as_millis())
                .unwrap_or(u64::MAX),
        };
        self.tell(&record);
        self.history.push(record.clone());
        record
    }

    fn put_in_force(&self, loaded: Loaded) -> Result<(), String> {
        let settings = Arc::new(loaded.settings);
        let reasons = config::unsafe_without_restart(&self.started, &settings);
        if !reasons.is_empty() {
            return Err(reasons.join(
                "
",
            ));
        }
        // No site may point to a pool that is not there: new pools come first, those that go are last. The edge is the
        // only part that can still refuse (a certificate that changed since the check): then the new pools go again.
        let pools = self.pools.prepare(&settings.pools);
        self.edge.apply(Arc::clone(&settings)).map_err(|error| error.to_string())?;
        pools.finish();
        if let Some(admin) = self.admin.get() {
            admin.apply(&settings.admin.tokens);
        }
        self.tls_files.send_if_modified(|files| {
            let now = settings.tls_files();
            let is_other = *files != now;
            *files = now;
            is_other
        });
        let generation = self.running.load().generation + 1;
        self.running.store(Arc::new(Running {
            generation,
            loaded_at: clock::wall(),
            restart_needed: config::restart_needed(&self.started, &settings),
            settings,
            effective: loaded.effective,
            warnings: loaded.warnings.iter().map(Fault::one_line).collect(),
        }));
        Ok(())
    }

    fn tell(&self, record: &ReloadRecord) {
        let metrics = &self.metrics.config;
        let cause = record.cause.as_str();
        let generation = record.generation;
        match record.result {
            ReloadResult::Applied => {
                metrics.reloads.with_label_values(&["applied"]).inc();
                metrics.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
                metrics.last_reload_ok.set(1);
                tracing::info!(generation, cause, restart_needed = ?record.restart_needed, "configuration applied");
            }
            ReloadResult::Rejected => {
                metrics.reloads.with_label_values(&["rejected"]).inc();
                metrics.last_reload_ok.set(0);
                tracing::error!(
                    generation,
                    cause,
                    "configuration rejected, generation {generation} stays in force:\n{}",
                    record.faults
                );
            }
        }
    }

    /// Reloads on SIGHUP and when the file changes, until the process stops.
    /// `text` is what the running configuration was made of: an edit since then counts as a change.
    pub(super) fn reload_when_asked(self: &Arc<Self>, text: &str, mut hangup: Signal) {
        let (changed, mut changes) = mpsc::channel(1);
        let path = self.origin.path.clone();
        let watch = path.map(|path| watch::watch_from(path, text, &self.tasks, changed));
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            // Ends the watch when this task ends.
            let _watch = watch;
            loop {
                let cause = tokio::select! {
                    () = app.tasks.stopping().cancelled() => return,
                    Some(()) = hangup.recv() => ReloadCause::Signal,
                    Some(()) = changes.recv() => ReloadCause::File,
                };
                app.reload(cause).await;
            }
        });
    }
}
