//! What the admin server is shown: the parts' values, put together.

use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use prometheus::Registry;

use super::App;
use crate::admin::view::{
    AddBan, AdminView, BanView, BansView, CacheView, CertificateView, CloseTunnels, ConfigView, HealthState,
    NodeView, ProcessView, Purge, ReloadCause, ReloadRecord, RoomName, RoomView, SelftestView, TunnelView,
    TunnelsView, WhichTunnels, WorkerView,
};
use crate::clock;
use crate::config::settings::{IpNet, Name};
use crate::edge::explain::{Explained, Known, Question, explain};
use crate::edge::{CacheStatus, CertificateStatus, CloseCode, TunnelFilter};
use crate::media::drops::DropReason;
use crate::pool::{Node, NodeState};
use crate::rooms::{RoomId, RoomKey};

#[async_trait]
impl AdminView for App {
    fn process(&self) -> ProcessView {
        ProcessView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            edge: self.started.edge.name.as_deref().map(str::to_owned),
            uptime_seconds: clock::now().saturating_duration_since(self.started_at).as_secs(),
            now: clock::wall().as_secs(),
            tasks: self.tasks.running(),
            listeners: self
                .listeners()
                .into_iter()
                .map(|(name, address)| format!("{name} {address}"))
                .collect(),
            certificates: self.edge.certificates().into_iter().map(certificate_view).collect(),
        }
    }

    fn nodes(&self) -> Vec<NodeView> {
        let now = clock::now();
        let pools = self.pools.all();
        pools.iter().flat_map(|pool| &pool.nodes).map(|node| node_view(node, now)).collect()
    }

    fn rooms(&self, limit: usize) -> Vec<RoomView> {
        let now = clock::now();
        let participants = self.participants();
        self.rooms
            .list(limit)
            .into_iter()
            .map(|room| RoomView {
                participants: participants
                    .get(&(room.pool.clone(), room.scope.clone(), room.key.clone()))
                    .copied(),
                age_seconds: room.age(now).as_secs(),
                pool: room.pool.to_string(),
                scope: room.scope.to_string(),
                key: room.key.to_string(),
                node: room.node.to_string(),
                holds: room.holds as usize,
            })
            .collect()
    }

    fn rooms_total(&self) -> usize {
        self.rooms.len()
    }

    fn tunnels(&self, limit: usize) -> TunnelsView {
        let (total, tunnels) = self.edge.tunnels(limit);
        let view = |tunnel: crate::edge::TunnelInfo| TunnelView {
            id: tunnel.id,
            node: format!("{}/{}", tunnel.pool, tunnel.node),
            room: tunnel.room.map(|room| RoomName {
                pool: room.pool.to_string(),
                scope: room.scope.to_string(),
                key: room.key.to_string(),
            }),
            client: tunnel.client,
            age_seconds: tunnel.age.as_secs(),
        };
        TunnelsView { total, tunnels: tunnels.into_iter().map(view).collect() }
    }

    fn close_tunnels(&self, wish: &CloseTunnels) -> Result<usize, String> {
        let Some(code) = CloseCode::from_number(wish.code) else {
            return Err(format!("code: {} is not 1001, 1008, 1012 or 1013", wish.code));
        };
        let filter = match &wish.which {
            WhichTunnels::Node { pool, name } => {
                TunnelFilter::Node { pool: pool.as_str().into(), name: name.as_str().into() }
            }
            WhichTunnels::Room(room) => TunnelFilter::Room(RoomId {
                pool: room.pool.as_str().into(),
                scope: room.scope.as_str().into(),
                key: RoomKey::new(&room.key).map_err(|error| format!("room.key: {error}"))?,
            }),
            WhichTunnels::Client(network) => TunnelFilter::Client(*network),
            WhichTunnels::Id(id) => TunnelFilter::Id(*id),
        };
        let closed = self.edge.close_tunnels(&filter, code, wish.over);
        tracing::info!(which = ?filter, code = wish.code, over = ?wish.over, closed, "tunnels are told to close");
        Ok(closed)
    }

    fn config(&self) -> ConfigView {
        let running = self.running.load();
        ConfigView {
            generation: running.generation,
            loaded_at: running.loaded_at.as_secs(),
            source: self
                .origin
                .path
                .as_ref()
                .map_or_else(|| "built-in default".to_owned(), |p| p.display().to_string()),
            effective: running.effective.clone(),
            warnings: running.warnings.clone(),
            history: self.history.list(),
        }
    }

    fn media(&self) -> Vec<WorkerView> {
        let Some(embedded) = &self.embedded else { return Vec::new() };
        let now = clock::now();
        embedded
            .workers
            .handles()
            .iter()
            .zip(embedded.rates.iter())
            .map(|(handle, rates)| {
                let report = handle.report();
                let rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
                let drops: BTreeMap<String, u64> =
                    report.drops.iter().map(|(reason, count)| (reason.as_str().to_owned(), count)).collect();
                WorkerView {
                    worker: handle.worker(),
                    heartbeat_age_ms: millis(handle.heartbeat_age(now)),
                    selftest: embedded.selftest.last(handle.worker()).and_then(|last| {
                        Some(SelftestView {
                            ok: last.outcome.is_ok(),
                            why: last.outcome.clone().err().unwrap_or_default(),
                            age_seconds: now.saturating_duration_since(last.at?).as_secs(),
                        })
                    }),
                    rooms: report.host.rooms.len(),
                    sessions: report.host.participants as usize,
                    flows: report.flows,
                    rate: rates.current(),
                    history: rates.points(),
                    ring_full: report.drops.of(DropReason::RingFull),
                    socket_receive_overflows: handle.socket_drops(),
                    socket_send_overflows: report.drops.of(DropReason::SendBlocked),
                    drops,
                }
            })
            .collect()
    }

    fn bans_total(&self) -> usize {
        self.edge.bans_total()
    }

    fn bans(&self, limit: usize) -> BansView {
        let bans = self.edge.bans();
        let view = |ban: &crate::edge::BanView| BanView {
            network: ban.network.to_string(),
            by: ban.by.clone(),
            reason: ban.reason.clone(),
            age_seconds: ban.age.as_secs(),
            left_seconds: ban.left.as_secs(),
        };
        BansView { total: bans.len(), bans: bans.iter().take(limit).map(view).collect() }
    }

    fn ban(&self, wish: &AddBan) -> bool {
        self.edge.ban(wish.network, &wish.reason, wish.lasts)
    }

    fn unban(&self, network: IpNet) -> bool {
        self.edge.unban(network)
    }

    fn cache(&self) -> CacheView {
        let CacheStatus { bytes, bytes_max, objects, hits, requests } = self.edge.cache();
        // Counts of requests are far below what a float holds exactly.
        let hit_ratio = (requests > 0).then(|| hits as f64 / requests as f64);
        CacheView { objects, bytes, bytes_max, requests, hits, hit_ratio }
    }

    fn purge(&self, wish: &Purge) -> Result<usize, String> {
        self.edge.purge(&wish.url, wish.below)
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        let mut missing = Vec::new();
        if self.tasks.stopping().is_cancelled() {
            missing.push("the process is stopping".to_owned());
        }
        if self.listeners().is_empty() {
            missing.push("no listener accepts".to_owned());
        }
        let running = self.running.load();
        let of_sites = running.settings.sites.iter().map(|site| &*site.pool);
        let of_listeners = running.settings.listeners.values().flat_map(|listener| listener.passes_to());
        let of_listeners = of_listeners.map(|pool| &**pool);
        let mut pools: Vec<&str> = of_sites.chain(of_listeners).collect();
        pools.sort_unstable();
        pools.dedup();
        for name in pools {
            let serves =
                self.pools.get(name).is_some_and(|pool| pool.nodes.iter().any(|node| node.can_serve()));
            if !serves {
                missing.push(format!("pool {name}: no node can serve"));
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    fn explain(&self, question: &Question) -> Result<Explained, String> {
        let known = Known::Running { pools: &self.pools, rooms: &self.rooms };
        explain(&self.running.load().settings, known, question, clock::now())
    }

    async fn reload(&self) -> ReloadRecord {
        App::reload(self, ReloadCause::Api).await
    }

    fn registry(&self) -> &Registry {
        self.metrics.process.tasks.set(i64::try_from(self.tasks.running()).unwrap_or(i64::MAX));
        &self.metrics.registry
    }
}

impl App {
    /// Members of each conference that this process hosts.
    fn participants(&self) -> HashMap<(Name, Name, RoomKey), usize> {
        let Some(embedded) = &self.embedded else { return HashMap::new() };
        let reports = embedded.host_reports();
        reports
            .iter()
            .flat_map(|report| &report.host.rooms)
            .map(|room| {
                let id = &room.room;
                (
                    (id.pool.clone(), id.scope.clone(), id.key.clone()),
                    (room.participants + room.viewers) as usize,
                )
            })
            .collect()
    }
}

fn certificate_view(status: CertificateStatus) -> CertificateView {
    let CertificateStatus { listener, certificate, not_after, failure } = status;
    CertificateView { listener: listener.to_string(), certificate, not_after, failure }
}

fn node_view(node: &Node, now: std::time::Instant) -> NodeView {
    NodeView {
        pool: node.pool.to_string(),
        name: node.name.to_string(),
        target: node.target.to_string(),
        state: match node.state() {
            NodeState::Starting => HealthState::Starting,
            NodeState::Up => HealthState::Up,
            NodeState::Down => HealthState::Down,
        },
        can_serve: node.can_serve(),
        why: node.why(),
        since_seconds: now.saturating_duration_since(node.since()).as_secs(),
        open_streams: node.open_count(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
