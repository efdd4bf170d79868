//! Traffic that is not HTTP: pools of TCP nodes and the listeners that lead there.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::Check;
use super::pools::PoolKind;
use crate::config::fault::{Mark, known, quote};
use crate::config::file::{CheckFile, ListenerFile, NodeFile, NodeMap, PoolFile};
use crate::config::read::{At, Given, List};
use crate::config::settings::{ConnectCheck, IpNet, Name, PoolNodes, StreamTimeouts, TcpNode};
use crate::config::values::network::Network;
use crate::config::values::{PoolRef, Scheme};

impl Check<'_> {
    /// Returns the pool that takes every connection of a listener.
    pub(super) fn listener_tcp(&mut self, path: &str, listener: &ListenerFile) -> Option<Name> {
        let (key_at, pool) = listener.tcp.full()?;
        for (key, missing) in [
            ("tls", listener.tls.is_missing()),
            ("redirect", listener.redirect.is_missing()),
            ("passthrough", listener.passthrough.is_missing()),
            ("turn", !listener.turn.value.0),
        ] {
            if !missing {
                let message =
                    format!("{path}: `tcp` passes every byte on as it is, so `{key}` has nothing to do");
                self.fault(key_at, message, format!("remove `tcp` or `{key}`"));
            }
        }
        self.tcp_pool(&format!("{path}.tcp"), pool);
        Some(pool.value.0.clone())
    }

    /// Returns the names that are passed on, and where to.
    pub(super) fn passthrough(&mut self, path: &str, listener: &ListenerFile) -> BTreeMap<Name, Name> {
        let Some((key_at, names)) = listener.passthrough.full() else { return BTreeMap::new() };
        if listener.tls.is_missing() && listener.tcp.is_missing() {
            let message = format!(
                "{path}: `passthrough` goes by the name in a ClientHello, and this listener has no `tls`"
            );
            self.fault(key_at, message, "add `tls`; for every byte of a plain listener, `tcp: POOL`");
        }
        let mut passed = BTreeMap::new();
        for (_, name, pool) in names.value.iter() {
            let part = crate::config::read::path_part(name);
            self.tcp_pool(&format!("{path}.passthrough.{part}"), pool);
            passed.insert(name.clone(), pool.value.0.clone());
        }
        passed
    }

    /// Returns whether TURN is told from HTTP.
    pub(super) fn turn(&mut self, path: &str, listener: &ListenerFile) -> bool {
        let turn = listener.turn.value.0;
        if turn && listener.tls.is_missing() && listener.tcp.is_missing() {
            let message = format!("{path}: `turn` looks inside TLS, and this listener has no `tls`");
            self.fault(listener.turn.at, message, "add `tls`, or remove `turn`");
        }
        turn
    }

    /// Returns whose connections begin with a PROXY header.
    pub(super) fn proxy_protocol_from(&mut self, path: &str, listener: &ListenerFile) -> Vec<IpNet> {
        let Some((at, from)) = listener.proxy_protocol.get().and_then(|proxy| proxy.from.full()) else {
            return Vec::new();
        };
        let path = format!("{path}.proxy_protocol.from");
        if from.value.is_empty() {
            self.fault(at, format!("{path}: no network"), "add one: [\"10.0.0.0/8\"]");
        }
        self.peers(&path, &from.value)
    }

    /// Returns the networks of a list that is looked through for each connection.
    pub(super) fn peers(&mut self, path: &str, networks: &List<Network>) -> Vec<IpNet> {
        if let Some(first_too_many) = networks.items.get(NETWORKS_MAX) {
            let message = format!("{path}: more than {NETWORKS_MAX} networks");
            self.fault(first_too_many.at, message, "name the larger networks that hold them");
        }
        networks.items.iter().map(|network| network.value.0).collect()
    }

    /// Pools that listeners send connections to.
    pub(super) fn pools_of_listeners(&self) -> Vec<Name> {
        let mut pools = Vec::new();
        for (_, _, listener) in self.listener_files() {
            pools.extend(listener.value.tcp.get().map(|pool| pool.0.clone()));
            let passed = listener.value.passthrough.get().into_iter().flat_map(|names| names.iter());
            pools.extend(passed.map(|(_, _, pool)| pool.value.0.clone()));
        }
        pools
    }

    /// Faults a reference to anything but a pool of TCP nodes.
    pub(super) fn tcp_pool(&mut self, path: &str, pool: &At<PoolRef>) {
        let name = &pool.value.0;
        // Without `pools`, or with a pool that was reported, nothing more can be said.
        if self.file.pools.get().is_none_or(|pools| pools.faulty.contains(name)) {
            return;
        }
        let Some((_, _, file)) = self.pool_files().find(|(_, other, _)| *other == name) else {
            let cure = known(name, self.pool_files().map(|(_, name, _)| &**name));
            self.fault(pool.at, format!("{path}: no pool is named {}", quote(name)), cure);
            return;
        };
        match Self::pool_kind(&file.value) {
            PoolKind::Tcp | PoolKind::Unclear => {}
            PoolKind::Http | PoolKind::Embedded => self.fault(
                pool.at,
                format!("{path}: {} is not a pool of TCP nodes", quote(name)),
                "name such a pool: `coturn: { nodes: { t1: \"tcp://10.0.0.30:5349\" } }`",
            ),
        }
    }

    /// What the nodes of a pool speak, by the first that says it. Without any node: HTTP.
    pub(super) fn nodes_kind(pool: &PoolFile) -> PoolKind {
        let Some(nodes) = pool.nodes.get() else { return PoolKind::Unclear };
        let scheme = |map: &NodeMap| match (&map.url, map.host.is_missing()) {
            (Given::Yes(_, url), _) => Some(url.value.0.scheme),
            (Given::Faulty, _) => None,
            (Given::No, _) => Some(Scheme::Http),
        };
        match nodes.iter().find_map(|(_, _, node)| scheme(&node.value.0)) {
            Some(Scheme::Http) => PoolKind::Http,
            Some(Scheme::Tcp) => PoolKind::Tcp,
            None if nodes.is_empty() => PoolKind::Http,
            // Every one of them was reported.
            None => PoolKind::Unclear,
        }
    }

    /// Faults what only a TCP pool can have.
    pub(super) fn only_tcp(&mut self, name: &Name, pool: &PoolFile) {
        let timeouts = &pool.timeouts;
        let given = [
            (timeouts.connect.is_given(), timeouts.connect.at),
            (timeouts.idle.is_given(), timeouts.idle.at),
        ];
        if let Some((_, at)) = given.into_iter().find(|(given, _)| *given) {
            let message = format!("pools.{name}.timeouts: they are those of TCP pools");
            self.fault(at, message, "requests have the `timeouts` of their site");
        }
    }

    /// Faults a node that is not of its pool's kind.
    pub(super) fn of_one_kind(&mut self, path: &str, map: &NodeMap, scheme: Scheme) {
        let (at, own) = match (&map.url, map.host.full()) {
            (Given::Yes(_, url), _) => (url.at, url.value.0.scheme),
            (Given::No, Some((_, host))) => (host.at, Scheme::Http),
            (Given::No | Given::Faulty, _) => return,
        };
        if own != scheme {
            self.fault(at, format!("{path}: HTTP and TCP nodes in one pool"), "make two pools of it");
        }
    }

    /// Builds a pool of TCP nodes.
    pub(super) fn tcp_nodes(&mut self, pool: &Name, file: &PoolFile) -> Option<PoolNodes> {
        let files = file.nodes.get()?;
        if file.sticky.linger.is_given() {
            let message = format!("pools.{pool}: a TCP pool has no rooms that could stick");
            self.fault(file.sticky.linger.at, message, "remove `sticky`");
        }
        let check = match &file.check {
            Given::Yes(at, check) => self.tcp_check(*at, pool, &check.value),
            Given::No | Given::Faulty => None,
        };
        let mut nodes: BTreeMap<Name, TcpNode> = BTreeMap::new();
        let mut seen: BTreeMap<(Name, u16), Name> = BTreeMap::new();
        for (_, name, NodeFile(map)) in files.iter().map(|(at, name, node)| (at, name, &node.value)) {
            let path = format!("pools.{pool}.nodes.{name}");
            self.of_one_kind(&path, map, Scheme::Tcp);
            self.no_services(&path, map);
            let Some((_, url)) = map.url.full() else { continue };
            let (host, port) = (url.value.0.host.clone(), url.value.0.service.port);
            if let Some(first) = seen.insert((host.clone(), port), name.clone()) {
                let message = format!("{path} has the address of {first}");
                self.faults.warn(
                    url.at,
                    message,
                    "each counts its own streams: this machine gets both shares",
                );
            }
            nodes.insert(name.clone(), TcpNode { host, port, weight: map.weight.value.0 });
        }
        let timeouts =
            StreamTimeouts { connect: file.timeouts.connect.value.0, idle: file.timeouts.idle.value.0 };
        Some(PoolNodes::Tcp { nodes, check, timeouts })
    }

    /// Faults what a TCP node cannot have: it is one service, and has no rooms.
    fn no_services(&mut self, path: &str, map: &NodeMap) {
        if map.url.get().is_none_or(|url| url.0.scheme != Scheme::Tcp) {
            return;
        }
        let place = |at: Option<Mark>, key: &'static str| at.map(|at| (at, key));
        let short = map.short();
        let short = short.iter().find_map(|(key, service)| place(service.full().map(|(at, _)| at), key));
        let given = short
            .or_else(|| place(map.services.full().map(|(at, _)| at), "services"))
            .or_else(|| place(map.region.full().map(|(at, _)| at), "region"))
            .or_else(|| place(map.release.full().map(|(at, _)| at), "release"));
        if let Some((at, key)) = given {
            self.fault(at, format!("{path}: a TCP node has no `{key}`"), format!("remove `{key}`"));
        }
    }

    fn tcp_check(&mut self, at: Mark, pool: &Name, check: &CheckFile) -> Option<ConnectCheck> {
        self.check_times(pool, check);
        let http = check.http.full().map(|(at, _)| at);
        let others = [&check.bosh, &check.jicofo].map(|probe| probe.full().map(|(at, _)| at));
        if let Some(at) = http.or(others[0]).or(others[1]) {
            let message = format!("pools.{pool}.check: a TCP node does not speak HTTP");
            self.fault(at, message, "write `tcp: connect` in its place");
        } else if check.tcp.is_missing() {
            self.fault(at, format!("pools.{pool}.check has no `tcp`"), "add `tcp: connect`");
        }
        Some(ConnectCheck {
            every: check.every.value.0,
            timeout: check.timeout.value.0,
            rise: NonZeroU32::new(check.rise.value.0)?,
            fall: NonZeroU32::new(check.fall.value.0)?,
        })
    }
}

/// Networks that one connection is compared with.
const NETWORKS_MAX: usize = 256;
