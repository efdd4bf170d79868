//! Bounded rings between workers: a receive buffer moves to the worker that owns its datagrams, uncopied.
//!
//! Each worker has one inbox, which all others write to, and one way home for the buffers it has lent. Both are
//! arrays made at start; a push or pop is a few atomic operations. A full inbox refuses: the sender counts a drop.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use super::wake::Wake;

/// Makes one ring end per worker. `capacity` 0 makes rings that refuse everything.
pub(super) fn connect<M>(wakes: &[Arc<Wake>], capacity: usize, lent_max: usize) -> Vec<Ring<M>> {
    let mut peers = Vec::with_capacity(wakes.len());
    let mut ends = Vec::with_capacity(wakes.len());
    for wake in wakes {
        let (inbox, messages) = mpsc::sync_channel(capacity);
        let (home, returned) = mpsc::sync_channel(lent_max);
        peers.push(Peer { inbox, home, wake: Arc::clone(wake) });
        ends.push((messages, returned));
    }
    ends.into_iter().map(|(messages, returned)| Ring { peers: peers.clone(), messages, returned }).collect()
}

/// A receive buffer.
pub(super) type Buffer = Box<[u8]>;

/// One worker's end of the rings.
#[derive(Debug)]
pub(super) struct Ring<M> {
    peers: Vec<Peer<M>>,
    messages: Receiver<M>,
    returned: Receiver<(u8, Buffer)>,
}

impl<M> Ring<M> {
    /// Hands a message to another worker and wakes it. Gives it back when that worker's inbox is full or gone.
    pub(super) fn push(&self, to: u8, message: M) -> Result<(), M> {
        let Some(peer) = self.peers.get(usize::from(to)) else { return Err(message) };
        match peer.inbox.try_send(message) {
            Ok(()) => {
                peer.wake.ring();
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }

    /// Takes the next message from any worker.
    pub(super) fn pop(&self) -> Option<M> {
        self.messages.try_recv().ok()
    }

    /// Returns a buffer to the worker that has lent it to `me`. If that one has ended, the buffer is freed.
    pub(super) fn give_back(&self, me: u8, home: u8, buffer: Buffer) {
        if let Some(peer) = self.peers.get(usize::from(home)) {
            // Never full: a worker lends no more buffers than fit. It looks when it needs one: no wake-up.
            let _ = peer.home.try_send((me, buffer));
        }
    }

    /// Takes back a buffer that this worker had lent, and says to whom.
    pub(super) fn take_back(&self) -> Option<(u8, Buffer)> {
        self.returned.try_recv().ok()
    }
}

#[derive(Debug)]
struct Peer<M> {
    inbox: SyncSender<M>,
    home: SyncSender<(u8, Buffer)>,
    wake: Arc<Wake>,
}

impl<M> Clone for Peer<M> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone(), home: self.home.clone(), wake: Arc::clone(&self.wake) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(capacity: usize) -> Vec<Ring<u32>> {
        let wakes = [Arc::new(Wake::default()), Arc::new(Wake::default())];
        connect(&wakes, capacity, 1)
    }

    #[test]
    fn full_ring_gives_the_message_back() {
        let rings = rings(2);
        assert_eq!(rings[0].push(1, 7), Ok(()));
        assert_eq!(rings[0].push(1, 8), Ok(()));
        assert_eq!(rings[0].push(1, 9), Err(9));
        assert_eq!(rings[0].push(5, 9), Err(9));
        assert_eq!([rings[1].pop(), rings[1].pop(), rings[1].pop()], [Some(7), Some(8), None]);
        assert_eq!(rings[0].push(1, 9), Ok(()));
    }

    #[test]
    fn ring_without_capacity_refuses_everything() {
        let rings = rings(0);
        assert_eq!(rings[0].push(1, 7), Err(7));
        assert_eq!(rings[1].pop(), None);
    }

    #[test]
    fn ended_owner_refuses() {
        let mut rings = rings(2);
        rings.pop();
        // The peers' senders of the survivor do not keep the dead worker's inbox alive.
        assert_eq!(rings[0].push(1, 7), Err(7));
    }

    #[test]
    fn buffers_come_home() {
        let rings = rings(1);
        rings[1].give_back(1, 0, vec![1].into_boxed_slice());
        assert_eq!(rings[0].take_back(), Some((1, vec![1].into_boxed_slice())));
        assert_eq!(rings[0].take_back(), None);
    }
}
