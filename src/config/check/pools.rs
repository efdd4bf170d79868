//! Pools: HTTP nodes or embedded workers, and how they are checked.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::Check;
use crate::config::fault::Mark;
use crate::config::file::{CheckFile, NodeFile, PoolFile};
use crate::config::read::{At, Given, Names};
use crate::config::settings::{CheckSettings, HttpNode, Name, PoolNodes, PoolSettings, StickySettings};
use crate::config::values::{Ident, show_time};

/// What a pool is made of, as far as the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolKind {
    Http,
    Embedded,
    /// Reported elsewhere.
    Unclear,
}

impl<'a> Check<'a> {
    pub(super) fn pool_files(
        &self,
    ) -> impl Iterator<Item = (Mark, &'a Name, &'a At<PoolFile>)> + Clone + use<'a> {
        self.file.pools.get().into_iter().flat_map(|names| names.iter())
    }

    pub(super) fn pool_kind(pool: &PoolFile) -> PoolKind {
        match (pool.nodes.is_missing(), pool.embedded.is_missing()) {
            (false, true) => PoolKind::Http,
            (true, false) => PoolKind::Embedded,
            (true, true) | (false, false) => PoolKind::Unclear,
        }
    }

    /// Whether every pool of the file says what it is made of.
    pub(super) fn pools_are_clear(&self) -> bool {
        self.file.pools.get().is_some_and(|pools| pools.faulty.is_empty())
            && self.pool_files().all(|(_, _, pool)| Self::pool_kind(&pool.value) != PoolKind::Unclear)
    }

    /// Where each embedded pool says that it is one.
    pub(super) fn embedded_pools(&self) -> impl Iterator<Item = Mark> + Clone + use<'a> {
        self.pool_files()
            .filter(|(_, _, pool)| Self::pool_kind(&pool.value) == PoolKind::Embedded)
            .map(|(at, _, pool)| pool.value.embedded.full().map_or(at, |(key_at, _)| key_at))
    }

    pub(super) fn pools(&mut self) -> BTreeMap<Name, Arc<PoolSettings>> {
        let file = self.file;
        if let Some((at, names)) = file.pools.full()
            && names.value.is_empty()
        {
            self.fault(at, "pools: no pool", "add one: `workers: { embedded: auto }`");
        }
        for at in self.embedded_pools().skip(1) {
            let message = "a second embedded pool: a process has one set of workers";
            self.fault(at, message, "let several sites share one pool: their rooms stay apart");
        }
        let mut pools = BTreeMap::new();
        let Some(names) = file.pools.get() else { return pools };
        for (at, name, pool) in names.iter() {
            if let Some(nodes) = self.pool(at, name, &pool.value) {
                let sticky = StickySettings { linger: pool.value.sticky.linger.value.0 };
                pools.insert(name.clone(), Arc::new(PoolSettings { name: name.clone(), nodes, sticky }));
            }
        }
        pools
    }

    fn pool(&mut self, at: Mark, name: &Name, pool: &PoolFile) -> Option<PoolNodes> {
        match Self::pool_kind(pool) {
            PoolKind::Embedded => {
                if let Some((check_at, _)) = pool.check.full() {
                    let message = format!("pools.{name}: embedded workers check themselves");
                    self.fault(check_at, message, "remove `check`; see `media.selftest`");
                }
                pool.embedded.get().map(|embedded| PoolNodes::Embedded { workers: embedded.0 })
            }
            PoolKind::Http => {
                let (nodes_at, nodes) = pool.nodes.full()?;
                if nodes.value.is_empty() {
                    self.fault(
                        nodes_at,
                        format!("pools.{name}.nodes: no node"),
                        "add one: `s1: \"http://10.0.1.11:80\"`",
                    );
                }
                let check = match &pool.check {
                    Given::Yes(_, check) => self.node_check(name, &check.value),
                    Given::No | Given::Faulty => None,
                };
                Some(PoolNodes::Http { nodes: self.nodes(name, nodes_at, &nodes.value), check })
            }
            PoolKind::Unclear => {
                if pool.nodes.is_missing() {
                    let message = format!("pools.{name} has neither `nodes` nor `embedded`");
                    self.fault(
                        at,
                        message,
                        "HTTP services: `nodes: { ... }`; the embedded SFU: `embedded: auto`",
                    );
                } else {
                    let message = format!("pools.{name} has both `nodes` and `embedded`");
                    self.fault(at, message, "make two pools of it");
                }
                None
            }
        }
    }

    fn nodes(&mut self, pool: &Name, at: Mark, files: &Names<Ident, NodeFile>) -> BTreeMap<Name, HttpNode> {
        let mut nodes: BTreeMap<Name, HttpNode> = BTreeMap::new();
        let mut seen: BTreeMap<(Name, u16), Name> = BTreeMap::new();
        for (_, name, node) in files.iter() {
            let Some((_, url)) = node.value.url.full() else { continue };
            let (host, port) = url.value.0.clone();
            if let Some(first) = seen.get(&(host.clone(), port)) {
                let message = format!("pools.{pool}.nodes.{name} has the address of {first}");
                self.faults.warn(
                    url.at,
                    message,
                    "rooms are shared out by name: this machine gets both shares",
                );
            } else {
                seen.insert((host.clone(), port), name.clone());
            }
            nodes.insert(name.clone(), HttpNode { host, port, weight: node.value.weight });
        }
        if !nodes.is_empty() && nodes.values().all(|node| node.weight == 0) {
            let message = format!("pools.{pool}: every node has weight 0");
            self.faults.warn(at, message, "no new room finds a place here");
        }
        nodes
    }

    fn node_check(&mut self, pool: &Name, check: &CheckFile) -> Option<CheckSettings> {
        let (every, timeout) = (check.every.value.0, check.timeout.value.0);
        if timeout > every {
            let at = if check.timeout.is_given() { check.timeout.at } else { check.every.at };
            let message = format!(
                "pools.{pool}.check: timeout ({}) is longer than every ({})",
                show_time(timeout),
                show_time(every)
            );
            self.fault(
                at,
                message,
                "a check ends before the next one begins: at most `every`, better half of it",
            );
        }
        Some(CheckSettings {
            path: check.http.get()?.0.clone(),
            every,
            timeout,
            rise: NonZeroU32::new(check.rise.value.0)?,
            fall: NonZeroU32::new(check.fall.value.0)?,
        })
    }
}
