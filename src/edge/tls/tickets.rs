//! Session tickets: sealed session state that clients keep and bring back.
//!
//! A ticket is sealed with AES-256-GCM-SIV (random nonces may repeat without harm) under a key of the ring, together
//! with the time of its issue, and bound to the rule for client certificates under which it was given: another rule
//! cannot open it. It is accepted for the ring's lifetime by its own time, whatever keys are still there. Keys come
//! from a file that several edges share, or are drawn here and exchanged each lifetime; the ring outlives every reload.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use rustls::server::ProducesTickets;

use super::clients::PolicyId;
use crate::clock;
use crate::config::settings::{TICKET_KEY_BYTES, TicketSettings};

/// Length of a key's name, by which a ticket finds its key.
const NAME_LEN: usize = 16;
/// Length of the time of issue.
const TIME_LEN: usize = 8;
/// How far the clocks of two edges may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The system has no random numbers to give, or no such key.
#[derive(Debug)]
pub(super) struct NoKey;

/// One key.
struct Key {
    name: [u8; NAME_LEN],
    aead: RandomizedNonceKey,
}

impl Key {
    /// Makes the key of a secret: the same on every edge.
    fn of(secret: &[u8; TICKET_KEY_BYTES]) -> Result<Self, NoKey> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut name = [0; NAME_LEN];
        let named = hmac::sign(&secret, b"roomgate session ticket v1 name");
        name.copy_from_slice(named.as_ref().get(..NAME_LEN).ok_or(NoKey)?);
        let key = hmac::sign(&secret, b"roomgate session ticket v1 key");
        let aead = RandomizedNonceKey::new(&AES_256_GCM_SIV, key.as_ref()).map_err(|_| NoKey)?;
        Ok(Self { name, aead })
    }

    fn drawn() -> Result<Self, NoKey> {
        let mut secret = [0; TICKET_KEY_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| NoKey)?;
        Self::of(&secret)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Keys at one time: the first encrypts, all decrypt.
#[derive(Debug)]
struct Ring {
    keys: Vec<Arc<Key>>,
    lifetime: Duration,
    /// When keys that were drawn here are exchanged; `None` for those of a file.
    turns_at: Option<Instant>,
}

impl Ring {
    fn seal(&self, policy: &PolicyId, now: Duration, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut sealed = Vec::with_capacity(TIME_LEN + plain.len() + 16);
        sealed.extend_from_slice(&now.as_secs().to_be_bytes());
        sealed.extend_from_slice(plain);
        let nonce = key.aead.seal_in_place_append_tag(Aad::from(policy.as_bytes()), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn open(&self, policy: &PolicyId, now: Duration, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = self.keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let opened = key.aead.open_in_place(nonce, Aad::from(policy.as_bytes()), &mut opened).ok()?;
        let (time, plain) = opened.split_first_chunk::<TIME_LEN>()?;
        let issued = Duration::from_secs(u64::from_be_bytes(*time));
        let is_fresh = issued <= now.saturating_add(CLOCK_SKEW) && now.saturating_sub(issued) < self.lifetime;
        is_fresh.then(|| plain.to_vec())
    }

    /// The ring after this one, when its time has come. The last key goes on decrypting: tickets live as long as a key
    /// encrypts.
    fn turned(&self, now: Instant, fresh: Key) -> Self {
        let keys = std::iter::once(Arc::new(fresh)).chain(self.keys.first().cloned()).collect();
        Self { keys, lifetime: self.lifetime, turns_at: Some(now + self.lifetime) }
    }
}

/// Keys of one listener, for as long as the process runs.
#[derive(Debug)]
pub(super) struct Tickets {
    ring: ArcSwap<Ring>,
    /// Held by whoever changes the ring; a handshake never waits for it.
    changing: Mutex<()>,
}

impl Tickets {
    pub(super) fn new(settings: &TicketSettings) -> Result<Self, NoKey> {
        let empty = Ring { keys: Vec::new(), lifetime: settings.rotate, turns_at: None };
        let tickets = Self { ring: ArcSwap::from_pointee(empty), changing: Mutex::default() };
        tickets.configure(settings)?;
        Ok(tickets)
    }

    /// Takes other settings over. Keys that were drawn here stay, unless a file takes their place.
    pub(super) fn configure(&self, settings: &TicketSettings) -> Result<(), NoKey> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let lifetime = settings.rotate;
        let ring = match &settings.keys {
            Some(shared) => {
                let keys: Result<Vec<_>, _> =
                    shared.expose().iter().map(|s| Key::of(s).map(Arc::new)).collect();
                Ring { keys: keys?, lifetime, turns_at: None }
            }
            None => {
                let latest = clock::now() + lifetime;
                let before = self.ring.load();
                match before.turns_at {
                    Some(at) => Ring { keys: before.keys.clone(), lifetime, turns_at: Some(at.min(latest)) },
                    None => Ring { keys: vec![Arc::new(Key::drawn()?)], lifetime, turns_at: Some(latest) },
                }
            }
        };
        self.ring.store(Arc::new(ring));
        Ok(())
    }

    /// Exchanges the key when its time has come.
    fn turn(&self) {
        let now = clock::now();
        if self.ring.load().turns_at.is_none_or(|at| now < at) {
            return;
        }
        let Ok(_changing) = self.changing.try_lock() else { return };
        let ring = self.ring.load_full();
        if ring.turns_at.is_some_and(|at| now >= at)
            && let Ok(fresh) = Key::drawn()
        {
            self.ring.store(Arc::new(ring.turned(now, fresh)));
        }
    }
}

/// The tickets of one rule for client certificates.
#[derive(Debug)]
pub(super) struct BoundTickets {
    pub(super) tickets: Arc<Tickets>,
    pub(super) policy: PolicyId,
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.tickets.ring.load().lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.turn();
        self.tickets.ring.load().seal(&self.policy, clock::wall(), plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.ring.load().open(&self.policy, clock::wall(), cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::TicketKeys;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(2_000_000_000);
    const LIFE: Duration = Duration::from_secs(3600);

    fn ring(secrets: &[u8]) -> Ring {
        let keys = secrets.iter().map(|s| Arc::new(Key::of(&[*s; 32]).unwrap())).collect();
        Ring { keys, lifetime: LIFE, turns_at: None }
    }

    #[test]
    fn every_key_of_the_ring_opens_and_no_other() {
        let ticket = ring(&[1]).seal(&PolicyId::NONE, NOW, b"state").unwrap();
        assert_eq!(ring(&[1]).open(&PolicyId::NONE, NOW, &ticket).unwrap(), b"state");
        assert_eq!(ring(&[2, 1]).open(&PolicyId::NONE, NOW, &ticket).unwrap(), b"state", "another edge");
        assert_eq!(ring(&[2, 3]).open(&PolicyId::NONE, NOW, &ticket), None, "the key was dropped");
        assert_eq!(ring(&[1]).open(&PolicyId::of(b"other"), NOW, &ticket), None, "another rule");
        assert_ne!(ticket, ring(&[1]).seal(&PolicyId::NONE, NOW, b"state").unwrap(), "no two are alike");
    }

    #[test]
    fn a_ticket_lives_as_long_as_it_says() {
        let ring = ring(&[1]);
        let ticket = ring.seal(&PolicyId::NONE, NOW, b"state").unwrap();
        let second = Duration::from_secs(1);
        for (now, is_good) in [
            (NOW + LIFE - second, true),
            (NOW + LIFE, false),
            // An edge whose clock is behind.
            (NOW - CLOCK_SKEW, true),
            (NOW - CLOCK_SKEW - second, false),
        ] {
            assert_eq!(ring.open(&PolicyId::NONE, now, &ticket).is_some(), is_good, "{now:?}");
        }
    }

    #[test]
    fn a_key_decrypts_for_one_lifetime_after_it_encrypted() {
        let start = clock::now();
        let first = Ring { turns_at: Some(start), ..ring(&[1]) };
        let ticket = first.seal(&PolicyId::NONE, NOW, b"state").unwrap();
        let second = first.turned(start, Key::of(&[2; 32]).unwrap());
        assert_eq!(second.turns_at, Some(start + LIFE));
        assert!(second.open(&PolicyId::NONE, NOW, &ticket).is_some());
        let third = second.turned(start + LIFE, Key::of(&[3; 32]).unwrap());
        assert!(third.open(&PolicyId::NONE, NOW, &ticket).is_none());
        assert_eq!(third.keys.len(), 2);
    }

    #[test]
    fn keys_that_were_drawn_stay_when_settings_change_and_go_when_a_file_comes() {
        let mut settings = TicketSettings::default();
        let tickets = Arc::new(Tickets::new(&settings).unwrap());
        let bound = BoundTickets { tickets: tickets.clone(), policy: PolicyId::NONE };
        let ticket = bound.encrypt(b"state").unwrap();
        settings.rotate = Duration::from_secs(7200);
        tickets.configure(&settings).unwrap();
        assert_eq!((bound.decrypt(&ticket).as_deref(), bound.lifetime()), (Some(&b"state"[..]), 7200));
        let text = "ab".repeat(32);
        settings.keys = Some(TicketKeys::parse("file:t".into(), None, text.as_bytes()).unwrap());
        tickets.configure(&settings).unwrap();
        assert_eq!(bound.decrypt(&ticket), None);
        let ticket = bound.encrypt(b"state").unwrap();
        settings.keys = None;
        tickets.configure(&settings).unwrap();
        assert_eq!(bound.decrypt(&ticket), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_ticket(bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in 0usize..60) {
            let ring = ring(&[1]);
            prop_assert_eq!(ring.open(&PolicyId::NONE, NOW, &bytes), None);
            let mut ticket = ring.seal(&PolicyId::NONE, NOW, b"state").unwrap();
            let at = flip % ticket.len();
            ticket[at] ^= 1;
            prop_assert_eq!(ring.open(&PolicyId::NONE, NOW, &ticket), None);
        }
    }
}
