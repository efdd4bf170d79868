//! Pools: HTTP nodes, TCP nodes or embedded workers, and how they are checked.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::Check;
use crate::config::fault::{Mark, quote};
use crate::config::file::{CheckFile, HttpProbe, NodeFile, NodeMap, NodeTlsFile, PoolFile, ServiceProbe};
use crate::config::read::{At, Given, Names};
use crate::config::secrets;
use crate::config::settings::{
    Authorities, CertificateFiles, CheckSettings, ClientCertificate, HttpNode, Name, NodeTlsSettings,
    PoolNodes, PoolSettings, Probe, ProbeKind, Protocol, Service, StickySettings, WEB,
};
use crate::config::values::{FilePath, Ident, Label, ProbeHost, ProtocolWord, Scheme, StoreWord, show_time};

/// What a pool is made of, as far as the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolKind {
    Http,
    Tcp,
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
            (false, true) => Self::nodes_kind(pool),
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

    /// Builds the pools of an edge that stands in `region`.
    pub(super) fn pools(&mut self, region: Option<&Name>) -> BTreeMap<Name, Arc<PoolSettings>> {
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
                let region = region.cloned();
                let protocol = match pool.value.protocol.value {
                    ProtocolWord::H1 => Protocol::H1,
                    ProtocolWord::H2 => Protocol::H2,
                };
                let tls = self.node_tls(name, &pool.value, &nodes);
                let proxy_protocol = pool.value.proxy_protocol.get().is_some();
                let name = name.clone();
                let settings =
                    PoolSettings { name: name.clone(), nodes, sticky, region, protocol, tls, proxy_protocol };
                pools.insert(name, Arc::new(settings));
            }
        }
        self.regions(&pools);
        pools
    }

    fn pool(&mut self, at: Mark, name: &Name, pool: &PoolFile) -> Option<PoolNodes> {
        match Self::pool_kind(pool) {
            PoolKind::Embedded => {
                if let Some((check_at, _)) = pool.check.full() {
                    let message = format!("pools.{name}: embedded workers check themselves");
                    self.fault(check_at, message, "remove `check`; see `media.selftest`");
                }
                if pool.protocol.is_given() {
                    let message = format!("pools.{name}: embedded workers are not reached by HTTP");
                    self.fault(pool.protocol.at, message, "remove `protocol`");
                }
                if let Some((tls_at, _)) = pool.tls.full() {
                    let message = format!("pools.{name}: embedded workers are not reached over TLS");
                    self.fault(
                        tls_at,
                        message,
                        "remove `tls`; certificates for clients stand in `listeners`",
                    );
                }
                self.only_tcp(name, pool);
                if let Some((at, _)) = pool.proxy_protocol.full() {
                    let message = format!("pools.{name}: embedded workers are not connected to");
                    self.fault(at, message, "remove `proxy_protocol`");
                }
                pool.embedded.get().map(|embedded| PoolNodes::Embedded { workers: embedded.0 })
            }
            PoolKind::Tcp => self.tcp_nodes(name, pool),
            PoolKind::Http => {
                let (nodes_at, nodes) = pool.nodes.full()?;
                self.only_tcp(name, pool);
                if nodes.value.is_empty() {
                    self.fault(
                        nodes_at,
                        format!("pools.{name}.nodes: no node"),
                        "add one: `s1: \"http://10.0.1.11:80\"`",
                    );
                }
                let nodes = self.nodes(name, nodes_at, &nodes.value);
                let check = pool.check.full().and_then(|(at, check)| {
                    let probes = self.probes(at, name, &check.value, &nodes);
                    self.node_check(name, &check.value, probes)
                });
                Some(PoolNodes::Http { nodes, check })
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
        for (at, name, NodeFile(map)) in files.iter().map(|(at, name, node)| (at, name, &node.value)) {
            let path = format!("pools.{pool}.nodes.{name}");
            self.of_one_kind(&path, map, Scheme::Http);
            let Some((host_at, host)) = self.node_host(at, &path, map) else { continue };
            let services = self.services(at, &path, map);
            let mut doubles = services.values().filter_map(|service| seen.get(&(host.clone(), service.port)));
            if let Some(first) = doubles.next() {
                let message = format!("{path} has the address of {first}");
                self.faults.warn(
                    host_at,
                    message,
                    "rooms are shared out by name: this machine gets both shares",
                );
            }
            for service in services.values() {
                seen.entry((host.clone(), service.port)).or_insert_with(|| name.clone());
            }
            let label = |label: &Given<Label>| label.get().map(|label| label.0.clone());
            nodes.insert(
                name.clone(),
                HttpNode {
                    host,
                    services: Arc::new(services),
                    weight: map.weight.value.0,
                    region: label(&map.region),
                    release: label(&map.release),
                },
            );
        }
        if !nodes.is_empty() && nodes.values().all(|node| node.weight == 0) {
            let message = format!("pools.{pool}: every node has weight 0");
            self.faults.warn(at, message, "no new room finds a place here");
        }
        nodes
    }

    /// Finds where a node is: by its URL or its host.
    fn node_host(&mut self, at: Mark, path: &str, map: &NodeMap) -> Option<(Mark, Name)> {
        match (&map.url, &map.host) {
            (Given::Yes(_, url), Given::No) => Some((url.at, url.value.0.host.clone())),
            (Given::No, Given::Yes(_, host)) => Some((host.at, host.value.0.clone())),
            (Given::No, Given::No) => {
                let cure =
                    "`url: \"http://10.0.1.11:80\"`, or `host: 10.0.1.11` with services such as `web: 80`";
                self.fault(at, format!("{path} has neither `url` nor `host`"), cure);
                None
            }
            (Given::Yes(key_at, _), Given::Yes(..)) => {
                let message = format!("{path} has both `url` and `host`");
                self.fault(*key_at, message, "keep `host`, and write the port as `web`");
                None
            }
            (Given::Faulty, _) | (_, Given::Faulty) => None,
        }
    }

    fn services(&mut self, at: Mark, path: &str, map: &NodeMap) -> BTreeMap<Name, Service> {
        let mut services = BTreeMap::new();
        let mut faulty = false;
        if let Some(url) = map.url.get() {
            services.insert(Name::from(WEB), url.0.service);
        }
        let mut named = Vec::new();
        for (name, service) in map.short() {
            faulty |= matches!(service, Given::Faulty);
            if let Given::Yes(key_at, service) = service {
                named.push((*key_at, Name::from(name), service.value.0));
            }
        }
        faulty |= matches!(map.services, Given::Faulty);
        if let Some(more) = map.services.get() {
            faulty |= !more.faulty.is_empty();
            named.extend(more.iter().map(|(key_at, name, service)| (key_at, name.clone(), service.value.0)));
        }
        for (key_at, name, service) in named {
            if services.insert(name.clone(), service).is_some() {
                let message = format!("{path} names its service {} twice", quote(&name));
                self.fault(key_at, message, "a URL is the service `web`; each service is named once");
            }
        }
        if services.is_empty() && !faulty {
            self.fault(at, format!("{path} has no service"), "name its port: `web: 80`");
        }
        services
    }

    /// Edges of several regions without a shared store choose apart for one new room.
    fn regions(&mut self, pools: &BTreeMap<Name, Arc<PoolSettings>>) {
        let StoreWord::Memory = self.file.store.value;
        let common = self.file.region.get().map(|region| &region.0);
        let mut regions =
            self.edge_files().map(|(_, _, edge)| edge.value.region.get().map(|r| &r.0).or(common));
        let Some(first) = regions.next() else { return };
        if regions.all(|region| region == first) {
            return;
        }
        for (at, name, _) in self.pool_files() {
            let Some(PoolNodes::Http { nodes, .. }) = pools.get(name).map(|pool| &pool.nodes) else {
                continue;
            };
            if nodes.values().any(|node| node.region.is_some()) {
                let message = format!(
                    "pools.{name}: edges of several regions each prefer their own nodes, and without a shared store \
                     they do not tell each other: a room that is entered through two regions is split"
                );
                self.faults.warn(
                    at,
                    message,
                    "let one room's people come through one region, or leave `region` of the nodes out",
                );
            }
        }
    }

    /// Reads what a pool trusts and what it shows of itself.
    fn node_tls(&mut self, pool: &Name, file: &PoolFile, nodes: &PoolNodes) -> NodeTlsSettings {
        let (Some((at, file)), PoolNodes::Http { nodes, .. }) = (file.tls.full(), nodes) else {
            return NodeTlsSettings::default();
        };
        let path = format!("pools.{pool}.tls");
        let NodeTlsFile { ca, sni, verify, cert, key } = &file.value;
        let ca = ca.full().and_then(|(_, ca)| {
            let file = secrets::resolve(self.base, &ca.value.0);
            let read = secrets::read_authorities(&file);
            let certificates = self.taken(ca.at, &format!("{path}.ca"), read)?;
            Some(Authorities { path: file, certificates: certificates.into() })
        });
        let client = match (cert, key) {
            (Given::Yes(..), Given::Yes(..)) => self.edge_certificate(&path, cert, key),
            (Given::Yes(key_at, _), Given::No) => {
                self.fault(*key_at, format!("{path} has `cert` and no `key`"), "add the certificate's `key`");
                None
            }
            (Given::No, Given::Yes(key_at, _)) => {
                self.fault(*key_at, format!("{path} has `key` and no `cert`"), "add the key's `cert`");
                None
            }
            (Given::No, Given::No) | (Given::Faulty, _) | (_, Given::Faulty) => None,
        };
        let mut services = nodes.values().flat_map(|node| node.services.values());
        if !nodes.is_empty() && !services.any(|service| service.tls) {
            let cure = "write nodes as \"https://...\", or services as \"https:443\"";
            self.faults.warn(at, format!("{path}: no node of the pool is reached over TLS"), cure);
        }
        if !verify.value.0 {
            let cure = "name who vouches for them as `ca`";
            let message =
                format!("{path}: whoever is between may pretend to be a node: they are not verified");
            self.faults.warn(verify.at, message, cure);
        }
        let sni = sni.get().map(|sni| sni.0.clone());
        NodeTlsSettings { ca, sni, verify: verify.value.0, client }
    }

    fn edge_certificate(
        &mut self,
        path: &str,
        cert: &Given<FilePath>,
        key: &Given<FilePath>,
    ) -> Option<ClientCertificate> {
        let (cert, key) = (cert.full()?.1, key.full()?.1);
        let files = CertificateFiles {
            cert: secrets::resolve(self.base, &cert.value.0),
            key: secrets::resolve(self.base, &key.value.0),
        };
        let chain = self.taken(cert.at, &format!("{path}.cert"), secrets::read_chain(&files.cert));
        let pem = self.taken(key.at, &format!("{path}.key"), secrets::read_key(&files.key));
        let (chain, pem) = (chain?, pem?);
        let pair = secrets::check_pair(chain.clone(), pem.clone_key());
        self.taken(key.at, &format!("{path}.key"), pair)?;
        Some(ClientCertificate { files, chain: chain.into(), key: Arc::new(pem) })
    }

    /// Takes the probes of a check, each of a service that every node has.
    fn probes(
        &mut self,
        at: Mark,
        pool: &Name,
        check: &CheckFile,
        nodes: &BTreeMap<Name, HttpNode>,
    ) -> Vec<Probe> {
        let mut probes = Vec::new();
        let listed = [check.http.is_missing(), check.bosh.is_missing(), check.jicofo.is_missing()];
        if let Some((at, _)) = check.tcp.full() {
            let message = format!("pools.{pool}.check: `tcp` is for pools of TCP nodes");
            self.fault(at, message, "remove it: every other check connects, too");
        } else if listed.iter().all(|missing| *missing) {
            let cure = "add `http: /path`, `bosh: SERVICE` or `jicofo: SERVICE`";
            self.fault(at, format!("pools.{pool}.check asks nothing"), cure);
        }
        let name = |value: &Given<ProbeHost>| value.get().map(|value| value.0.clone());
        if let Some((key_at, http)) = check.http.full() {
            let HttpProbe { path, service, status, body, host } = &http.value.0;
            let kind = ProbeKind::Http {
                status: status.get().and_then(|status| u16::try_from(status.0).ok()),
                body: body.get().map(|body| body.0.clone()),
            };
            let named = service.full().map(|(_, service)| (service.at, service.value.0.clone()));
            let (at, service) = named.unwrap_or_else(|| (key_at, Name::from(WEB)));
            if let Some(path) = path.get() {
                let host = name(host);
                probes.push((at, Probe { kind, service, path: path.0.clone(), host }));
            }
        }
        for (kind, given) in [(ProbeKind::Bosh, &check.bosh), (ProbeKind::Jicofo, &check.jicofo)] {
            let Some(ServiceProbe { service, path, host }) = given.get().map(|given| &given.0) else {
                continue;
            };
            let Some((_, service)) = service.full() else { continue };
            let path = path.get().map_or_else(|| Name::from(kind.default_path()), |path| path.0.clone());
            let probe = Probe { kind, service: service.value.0.clone(), path, host: name(host) };
            probes.push((service.at, probe));
        }
        for (at, Probe { kind, service, .. }) in &probes {
            let lacks = |node: &HttpNode| !node.services.is_empty() && !node.services.contains_key(service);
            if let Some((node, _)) = nodes.iter().find(|(_, node)| lacks(node)) {
                let message = format!(
                    "pools.{pool}.check.{}: node {node} has no service {}",
                    kind.as_str(),
                    quote(service)
                );
                self.fault(*at, message, format!("name its port there: `{service}: PORT`"));
            }
        }
        probes.into_iter().map(|(_, probe)| probe).collect()
    }

    fn node_check(&mut self, pool: &Name, check: &CheckFile, probes: Vec<Probe>) -> Option<CheckSettings> {
        self.check_times(pool, check);
        Some(CheckSettings {
            probes,
            every: check.every.value.0,
            timeout: check.timeout.value.0,
            rise: NonZeroU32::new(check.rise.value.0)?,
            fall: NonZeroU32::new(check.fall.value.0)?,
        })
    }

    pub(super) fn check_times(&mut self, pool: &Name, check: &CheckFile) {
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
    }
}
