//! TLS of one listener: who we say we are, who the client is, and how it comes back.
//!
//! Owns the `rustls` configurations: one for clients in general and one for each site that asks for certificates, built
//! when something changes and shared by every connection. A reload, or new files, swap all of it at once; handshakes
//! under way and open connections keep what they began with, and ticket keys outlive both.
//!
//! When a watched file cannot be used, what was loaded before stays in its place, is named in the log and in a metric,
//! and is tried again at the next change.

mod clients;
pub(super) mod failure;
mod load;
mod profile;
mod self_signed;
mod subject;
mod table;
mod tickets;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;

pub(crate) use clients::{ClientIdentity, ClientPolicy, PolicyId};
use load::Authorities;
use table::CertificateTable;
use tickets::{BoundTickets, Tickets};

use crate::clock;
use crate::config::settings::{
    CertificateFiles, Name, Settings, SiteSettings, SiteTable, TicketSettings, TlsProfile, TlsSettings,
    UnknownName,
};

/// The alert unrecognized_name, fatal, in a record of its own (RFC 6066 section 3).
pub(crate) const UNRECOGNIZED_NAME: &[u8] = &[0x15, 3, 3, 0, 2, 2, 112];
/// From so many days before its end on, a certificate is warned of.
const EXPIRY_WARNING_DAYS: u64 = 30;

/// What TLS is made of cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain's file cannot be read or holds no certificate.
    #[error("{path}: cannot read the certificate chain: {reason}")]
    Chain {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The key's file cannot be read or holds no key.
    #[error("{path}: cannot read the private key: {reason}")]
    Key {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The key does not belong to the certificate, or is of a kind that is not known.
    #[error("{key}: the private key does not fit the certificate in {cert}: {reason}")]
    Pair {
        /// The chain's file.
        cert: String,
        /// The key's file.
        key: String,
        /// Why.
        reason: String,
    },
    /// The authorities of clients cannot be read.
    #[error("{path}: cannot read the authorities of clients: {reason}")]
    Authorities {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Ticket keys cannot be read.
    #[error("{path}: cannot read the ticket keys: {reason}")]
    Tickets {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Authorities make no rule.
    #[error("cannot check client certificates: {0}")]
    Verifier(String),
    /// TLS itself refused.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// The system gave no random numbers.
    #[error("cannot draw a ticket key")]
    NoKey,
    /// `certificates` is empty.
    #[error("a TLS listener has no certificate")]
    Empty,
}

/// One certificate of a listener, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The listener.
    pub listener: Name,
    /// The chain's file, or `self-signed`.
    pub certificate: String,
    /// When the one in use expires, in seconds since the Unix epoch.
    pub not_after: Option<u64>,
    /// Why the files as they are now cannot be used; an older certificate is in use then.
    pub failure: Option<String>,
}

impl CertificateStatus {
    /// Returns what an operator should know at the time `now` (seconds since the Unix epoch) about its end, if anything.
    pub fn warning(&self, now: u64) -> Option<String> {
        let left = self.not_after?.saturating_sub(now);
        let Self { listener, certificate, .. } = self;
        if left == 0 {
            return Some(format!("listener {listener}: the certificate {certificate} has expired; renew it"));
        }
        let days = left / 86_400;
        (days < EXPIRY_WARNING_DAYS).then(|| {
            format!("listener {listener}: the certificate {certificate} expires in {days} days; renew it")
        })
    }
}

/// What came of looking at the files again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refreshed {
    /// Files or pairs whose new content is in use now.
    pub(crate) replaced: u64,
    /// Files or pairs whose new content cannot be used.
    pub(crate) failed: u64,
}

/// TLS of one listener.
#[derive(Debug)]
pub(crate) struct ListenerTls {
    listener: Name,
    tickets: Arc<Tickets>,
    state: ArcSwap<State>,
    /// What the state was made of. Held while files are read: never by a handshake.
    loaded: Mutex<Loaded>,
}

/// What handshakes need, changed as a whole.
#[derive(Debug)]
struct State {
    everybody: Arc<ServerConfig>,
    certificates: Arc<CertificateTable>,
    unknown_name: UnknownName,
    /// Sites that ask for certificates, by their name in the file.
    clients: HashMap<Name, (Arc<ClientPolicy>, Arc<ServerConfig>)>,
    sites: SiteTable,
}

/// What was read, and from where.
#[derive(Debug)]
struct Loaded {
    tls: TlsSettings,
    sites: SiteTable,
    /// In the order of the file.
    pairs: Vec<(CertificateFiles, Slot<Arc<CertifiedKey>>)>,
    authorities: BTreeMap<PathBuf, Slot<Arc<Authorities>>>,
    /// Of the ticket keys.
    ticket_failure: Option<Failure>,
}

/// Something that was read, and why its file cannot be read now.
#[derive(Debug)]
struct Slot<T> {
    value: T,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    message: String,
    /// Of the files' content: the same failure of the same content is told once.
    content: u64,
}

/// A configuration that has been read and is not in use yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    loaded: Loaded,
    state: State,
    tickets: TicketSettings,
}

/// How one handshake goes on.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) config: Arc<ServerConfig>,
    /// The rule whose certificate the client is asked for.
    pub(crate) policy: Option<Arc<ClientPolicy>>,
}

impl ListenerTls {
    pub(crate) fn new(listener: Name, tls: &TlsSettings, settings: &Settings) -> Result<Self, TlsError> {
        let tickets = Arc::new(Tickets::new(&tickets_of(tls)).map_err(|_| TlsError::NoKey)?);
        let loaded = Loaded::read(tls, &settings.sites)?;
        let state = State::build(&loaded, &tickets)?;
        Ok(Self { listener, tickets, state: ArcSwap::from_pointee(state), loaded: Mutex::new(loaded) })
    }

    /// Reads and checks everything of a new configuration; changes nothing.
    pub(crate) fn prepare(&self, tls: &TlsSettings, settings: &Settings) -> Result<Prepared, TlsError> {
        let loaded = Loaded::read(tls, &settings.sites)?;
        let state = State::build(&loaded, &self.tickets)?;
        Ok(Prepared { loaded, state, tickets: tickets_of(tls) })
    }

    /// Puts it in place. Handshakes under way keep what they began with.
    pub(crate) fn put_in_place(&self, prepared: Prepared) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        *loaded = prepared.loaded;
        if self.tickets.configure(&prepared.tickets).is_err() {
            tracing::error!(listener = %self.listener, "{}; the ticket keys stay as they are", TlsError::NoKey);
        }
        self.state.store(Arc::new(prepared.state));
    }

    /// Reads the files again and takes over what has changed and can be used.
    pub(crate) fn refresh(&self) -> Refreshed {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Refreshed::default();
        for (files, slot) in &mut loaded.pairs {
            let same = |old: &Arc<CertifiedKey>, new: &Arc<CertifiedKey>| old.cert == new.cert;
            done.add(slot.renew(&self.listener, &[&files.cert, &files.key], || load::pair(files), same));
        }
        for (path, slot) in &mut loaded.authorities {
            let same = |old: &Arc<Authorities>, new: &Arc<Authorities>| old.certificates == new.certificates;
            done.add(slot.renew(&self.listener, &[path], || load::authorities(path), same));
        }
        if done.replaced > 0 {
            match State::build(&loaded, &self.tickets) {
                Ok(state) => self.state.store(Arc::new(state)),
                Err(error) => tracing::error!(listener = %self.listener, "{error}; what was in use stays"),
            }
        }
        done.add(self.refresh_tickets(&mut loaded));
        done
    }

    fn refresh_tickets(&self, loaded: &mut Loaded) -> Outcome {
        let TlsSettings::Certificates(tls) = &mut loaded.tls else { return Outcome::Same };
        let Some(keys) = &mut tls.tickets.keys else { return Outcome::Same };
        let Some(path) = keys.path.clone() else { return Outcome::Same };
        let mut slot = Slot { value: keys.clone(), failure: loaded.ticket_failure.take() };
        let known = slot.value.clone();
        let outcome =
            slot.renew(&self.listener, &[&path], || load::ticket_keys(&known, &path), |old, new| old == new);
        loaded.ticket_failure = slot.failure;
        if outcome == Outcome::Replaced {
            *keys = slot.value;
            if self.tickets.configure(&tls.tickets).is_err() {
                tracing::error!(listener = %self.listener, "{}; the ticket keys stay as they are", TlsError::NoKey);
            }
        }
        outcome
    }

    /// Chooses the configuration of one handshake by the name in its ClientHello. `None`: the name is refused.
    pub(crate) fn choose(&self, name: Option<&str>) -> Option<Choice> {
        let state = self.state.load();
        if state.unknown_name == UnknownName::Refuse
            && !name.is_some_and(|name| state.certificates.knows(name))
        {
            return None;
        }
        if !state.clients.is_empty()
            && let Some(name) = name
            && let Some(site) = state.sites.find(name.strip_suffix('.').unwrap_or(name))
            && let Some((policy, config)) = state.clients.get(&site.name)
        {
            return Some(Choice { config: config.clone(), policy: Some(policy.clone()) });
        }
        Some(Choice { config: state.everybody.clone(), policy: None })
    }

    /// The rule of a site as it is now.
    pub(crate) fn policy_of(&self, site: &SiteSettings) -> Option<PolicyId> {
        self.state.load().clients.get(&site.name).map(|(policy, _)| policy.id)
    }

    /// The certificates in use, in the order of the file.
    pub(crate) fn certificates(&self) -> Vec<CertificateStatus> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |certificate: String, key: &CertifiedKey, failure: Option<&Failure>| CertificateStatus {
            listener: self.listener.clone(),
            certificate,
            not_after: key.cert.first().and_then(|leaf| subject::not_after(leaf)),
            failure: failure.map(|failure| failure.message.clone()),
        };
        if matches!(loaded.tls, TlsSettings::SelfSigned) {
            let made = self_signed::self_signed();
            return made.iter().map(|made| status("self-signed".to_owned(), made, None)).collect();
        }
        let pairs = loaded.pairs.iter();
        pairs
            .map(|(files, slot)| status(load::shown(&files.cert), &slot.value, slot.failure.as_ref()))
            .collect()
    }
}

impl Loaded {
    fn read(tls: &TlsSettings, sites: &SiteTable) -> Result<Self, TlsError> {
        let mut pairs = Vec::new();
        if let TlsSettings::Certificates(tls) = tls {
            for files in &tls.files {
                pairs.push((files.clone(), Slot { value: load::pair(files)?, failure: None }));
            }
        }
        let mut authorities = BTreeMap::new();
        for site in sites.iter() {
            if let Some(client) = &site.client_certificate
                && !authorities.contains_key(&client.ca)
            {
                let value = load::authorities(&client.ca)?;
                authorities.insert(client.ca.clone(), Slot { value, failure: None });
            }
        }
        Ok(Self { tls: tls.clone(), sites: sites.clone(), pairs, authorities, ticket_failure: None })
    }
}

impl State {
    fn build(loaded: &Loaded, tickets: &Arc<Tickets>) -> Result<Self, TlsError> {
        let (keys, unknown_name, profile) = match &loaded.tls {
            TlsSettings::SelfSigned => {
                (vec![self_signed::self_signed()?], UnknownName::Default, TlsProfile::Intermediate)
            }
            TlsSettings::Certificates(tls) => {
                let keys = loaded.pairs.iter().map(|(_, slot)| slot.value.clone()).collect();
                (keys, tls.unknown_name, tls.profile)
            }
        };
        let certificates = Arc::new(CertificateTable::of(&keys)?);
        let config = |policy: Option<&ClientPolicy>| {
            let id = policy.map_or(PolicyId::NONE, |policy| policy.id);
            let verifier = policy.map(|policy| policy.verifier.clone());
            let tickets = Arc::new(BoundTickets { tickets: tickets.clone(), policy: id });
            profile::server_config(profile, certificates.clone(), verifier, tickets)
        };
        let mut clients = HashMap::new();
        for site in loaded.sites.iter() {
            let Some(client) = &site.client_certificate else { continue };
            let Some(authorities) = loaded.authorities.get(&client.ca) else { continue };
            let policy = ClientPolicy::new(client.mode, &authorities.value)?;
            let config = config(Some(&policy))?;
            clients.insert(site.name.clone(), (Arc::new(policy), config));
        }
        Ok(Self {
            everybody: config(None)?,
            certificates,
            unknown_name,
            clients,
            sites: loaded.sites.clone(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Same,
    Replaced,
    Failed,
}

impl Refreshed {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Same => {}
            Outcome::Replaced => self.replaced += 1,
            Outcome::Failed => self.failed += 1,
        }
    }
}

impl<T> Slot<T> {
    /// Takes over what the files hold now, or keeps what there is and says why, once for each content.
    fn renew(
        &mut self,
        listener: &Name,
        paths: &[&Path],
        read: impl FnOnce() -> Result<T, TlsError>,
        is_same: impl FnOnce(&T, &T) -> bool,
    ) -> Outcome {
        match read() {
            Ok(new) => {
                self.failure = None;
                if is_same(&self.value, &new) {
                    return Outcome::Same;
                }
                self.value = new;
                let file = paths.first().map(|path| load::shown(path)).unwrap_or_default();
                tracing::info!(%listener, file, "new content is in use");
                Outcome::Replaced
            }
            Err(error) => {
                let failure = Failure { message: error.to_string(), content: content(paths) };
                let is_known =
                    |known: &Failure| known.content == failure.content && known.message == failure.message;
                if self.failure.as_ref().is_some_and(is_known) {
                    return Outcome::Same;
                }
                tracing::error!(
                    %listener,
                    "{}; what was loaded before stays in use; write new files under other names and rename them \
                     over the old: they are tried again at the next change",
                    failure.message
                );
                self.failure = Some(failure);
                Outcome::Failed
            }
        }
    }
}

fn content(paths: &[&Path]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let about = std::fs::metadata(path).ok();
        about.as_ref().and_then(|about| about.modified().ok()).hash(&mut hasher);
        about.map(|about| about.len()).hash(&mut hasher);
    }
    hasher.finish()
}

fn tickets_of(tls: &TlsSettings) -> TicketSettings {
    match tls {
        TlsSettings::SelfSigned => TicketSettings::default(),
        TlsSettings::Certificates(tls) => tls.tickets.clone(),
    }
}

/// Warns of certificates that end soon.
pub(super) fn warn_of_ends<'a>(certificates: impl Iterator<Item = &'a CertificateStatus>) {
    let now = clock::wall().as_secs();
    certificates.filter_map(|certificate| certificate.warning(now)).for_each(|warning| {
        tracing::warn!("{warning}");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_in_its_last_thirty_days() {
        let day = 86_400;
        let status = |not_after| CertificateStatus {
            listener: "https".into(),
            certificate: "meet.pem".to_owned(),
            not_after: Some(not_after),
            failure: None,
        };
        assert_eq!(status(31 * day).warning(0), None);
        let warning = status(29 * day + 5).warning(0).unwrap();
        assert!(warning.contains("meet.pem expires in 29 days"), "{warning}");
        assert!(status(5).warning(5).unwrap().contains("has expired"));
    }
}
