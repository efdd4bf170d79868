//! The workers of this process, what watches them, and their rates.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use super::probe::Probe;
use crate::admin::rates::{RateSeries, Totals};
use crate::clock;
use crate::config::settings::{PoolNodes, Settings};
use crate::media::{Workers, WorkersConfig};
use crate::pool::WorkerProbe;
use crate::sfu::selftest::{Selftest, SelftestConfig};
use crate::sfu::{Command, Engine, Sfu, SfuHost, SfuLimits, SfuReport};
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

/// The embedded SFU.
pub(super) struct Embedded {
    pub(super) workers: Arc<Workers<Command, SfuReport>>,
    pub(super) selftest: Selftest,
    pub(super) sfu: Sfu,
    /// One for each worker; fed once a second.
    pub(super) rates: Arc<[Mutex<RateSeries>]>,
}

impl Embedded {
    /// Starts the workers that the embedded pool asks for; `None` when there is no such pool.
    pub(super) fn start(
        settings: &Settings,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Self>> {
        let Some(count) = settings.pools.values().find_map(|pool| match pool.nodes {
            PoolNodes::Embedded { workers } => Some(workers.unwrap_or_else(cores)),
            PoolNodes::Http { .. } | PoolNodes::Tcp { .. } => None,
        }) else {
            return Ok(None);
        };
        let media = settings.media.as_ref().context("an embedded pool needs `media`")?;
        let engine = Engine::new().context("the DTLS certificate could not be made")?;
        let limits = SfuLimits::new(media.sessions_max.get());
        let workers = Workers::start(
            WorkersConfig::from_settings(media, &settings.edge, count)?,
            move |identity| SfuHost::new(identity, engine.clone(), limits, clock::now()),
            metrics.media.clone(),
        )
        .with_context(|| format!("media.bind {:?}", media.bind))?;
        let workers = Arc::new(workers);
        let sfu = Sfu::new(Arc::clone(&workers), tasks.clone(), metrics.sfu.clone());
        let config = SelftestConfig::new(workers.local_addrs(), media.selftest_every)
            .context("media.bind is empty")?;
        let selftest = Selftest::start(&sfu, config);
        let rates = (0..count).map(|_| Mutex::default()).collect();
        let embedded = Self { workers, selftest, sfu, rates };
        embedded.sample_rates(tasks);
        Ok(Some(embedded))
    }

    /// Returns what the pool's checks ask.
    pub(super) fn probe(&self) -> impl WorkerProbe + use<> {
        Probe::new(Arc::clone(&self.workers), self.selftest.clone())
    }

    fn sample_rates(&self, tasks: &Tasks) {
        let (workers, rates) = (Arc::clone(&self.workers), Arc::clone(&self.rates));
        let stopping = tasks.stopping().clone();
        tasks.spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    _ = second.tick() => {}
                }
                let now = clock::now();
                for (handle, series) in workers.handles().iter().zip(rates.iter()) {
                    let report = handle.report();
                    let totals = Totals {
                        packets_in: report.datagrams_in,
                        packets_out: report.datagrams_out,
                        bytes_in: report.bytes_in,
                        bytes_out: report.bytes_out,
                        drops: report.drops.total(),
                    };
                    series.lock().unwrap_or_else(PoisonError::into_inner).record(totals, now);
                }
            }
        });
    }

    /// Returns each worker's report.
    pub(super) fn host_reports(&self) -> Vec<Arc<crate::media::WorkerReport<SfuReport>>> {
        self.workers.handles().iter().map(|handle| handle.report()).collect()
    }
}

fn cores() -> u8 {
    std::thread::available_parallelism()
        .map_or(1, |cores| u8::try_from(cores.get()).unwrap_or(u8::MAX).min(WORKERS_MAX))
}

/// As many as `embedded` may name in the file.
const WORKERS_MAX: u8 = 64;
