//! What a worker runs: the seam between the media path and the embedded SFU.
//!
//! Pure: the worker (a thin shell around sockets and rings) calls a [`Host`] with bytes and time; the host answers
//! through an [`Outbox`]. `media` knows nothing of rooms or RTP, the host nothing of sockets or other workers.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Names one session's ICE credentials on its worker: the nonce of the UF1 ufrag (40 bits). An ICE restart adds a
/// new key for the same session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// One received datagram, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it came from.
    pub source: SocketAddr,
    /// The local address it was sent to (PKTINFO); replies leave from it.
    pub asked: IpAddr,
    /// Its payload.
    pub bytes: &'a [u8],
}

/// Takes what a host wants sent. The worker refuses (and counts) what may not be sent: an address from which no
/// integrity-checked STUN request came within 15 s gets nothing.
pub trait Outbox {
    /// Queues one datagram of a session. An answer goes out under the key its request came with; everything else
    /// under the key that last came with a datagram from `to` (after an ICE restart the old one stays good for as
    /// long as its last check is younger than 15 s).
    fn transmit(&mut self, session: SessionKey, to: SocketAddr, bytes: &[u8]);
}

/// Runs on one worker's thread and owns everything there: no locks, no shared maps.
pub trait Host {
    /// What the control side asks of it.
    type Command: Send + 'static;
    /// Plain values that leave the worker once a second: replaced, never added up.
    type Report: Send + Sync + Default + 'static;

    /// Takes one datagram of a session that the worker has found by ufrag or flow. Returns whether the session lives.
    fn handle_datagram(
        &mut self,
        session: SessionKey,
        datagram: Datagram<'_>,
        now: Instant,
        out: &mut dyn Outbox,
    ) -> bool;

    /// Carries out one command.
    fn handle_command(&mut self, command: Self::Command, now: Instant, out: &mut dyn Outbox);

    /// Returns when [`Host::handle_timeout`] is wanted at the latest.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Does what has fallen due.
    fn handle_timeout(&mut self, now: Instant, out: &mut dyn Outbox);

    /// Ends all sessions and says goodbye to their clients: the worker stops. Called once, before its last flush.
    fn stop(&mut self, now: Instant, out: &mut dyn Outbox);

    /// Returns the values of this second.
    fn report(&mut self, now: Instant) -> Self::Report;
}
