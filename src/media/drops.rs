//! Pure: why datagrams are dropped, and how many.

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// It is no well-formed STUN, DTLS, RTP or RTCP.
    Malformed,
    /// It belongs to a protocol that is not spoken here (RFC 7983).
    UnknownClass,
    /// Its ufrag was not made by this fleet.
    Forged,
    /// Its session lives on another edge.
    WrongEdge,
    /// Its session lived in a process that has ended.
    OldGeneration,
    /// Its session's worker does not exist.
    NoWorker,
    /// No validated flow of its 5-tuple.
    NoFlow,
    /// It was to be sent to an address without an integrity-checked request in the last 15 s.
    Unvalidated,
    /// The flow table is full.
    TableFull,
    /// The owner's ring is full, or the owner has ended.
    RingFull,
    /// It shares a receive buffer with datagrams of another owner.
    RingSplit,
    /// No free receive buffer was left to keep receiving with.
    NoBuffer,
    /// It was longer than a receive buffer, or too long to be sent.
    TooLong,
    /// The socket's send buffer is full.
    SendBlocked,
    /// The kernel refused to send it.
    SendFailed,
}

impl DropReason {
    /// All reasons, in the order of their indices.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::UnknownClass,
        Self::Forged,
        Self::WrongEdge,
        Self::OldGeneration,
        Self::NoWorker,
        Self::NoFlow,
        Self::Unvalidated,
        Self::TableFull,
        Self::RingFull,
        Self::RingSplit,
        Self::NoBuffer,
        Self::TooLong,
        Self::SendBlocked,
        Self::SendFailed,
    ];

    /// Label for metrics. Stable: dashboards depend on it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownClass => "unknown_class",
            Self::Forged => "forged",
            Self::WrongEdge => "wrong_edge",
            Self::OldGeneration => "old_generation",
            Self::NoWorker => "no_worker",
            Self::NoFlow => "no_flow",
            Self::Unvalidated => "unvalidated",
            Self::TableFull => "table_full",
            Self::RingFull => "ring_full",
            Self::RingSplit => "ring_split",
            Self::NoBuffer => "no_buffer",
            Self::TooLong => "too_long",
            Self::SendBlocked => "send_blocked",
            Self::SendFailed => "send_failed",
        }
    }
}

/// Dropped datagrams by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// Counts one.
    pub fn count(&mut self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts several.
    pub fn count_many(&mut self, reason: DropReason, datagrams: u64) {
        self.0[reason as usize] += datagrams;
    }

    /// Returns the number for one reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Returns the number for all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns all reasons with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().map(|reason| (reason, self.of(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_in_order_and_have_their_own_label() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let labels =
            DropReason::ALL.map(DropReason::as_str).into_iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }
}
