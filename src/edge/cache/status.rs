//! What became of a request in the cache, for `Cache-Status` (RFC 9211), the access log and the metrics.
//!
//! Pure.

use std::fmt::Write;

/// What became of a request of a route that keeps answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Outcome {
    /// A fresh answer was there.
    Hit,
    /// A stale one was; the node is asked behind that.
    Stale,
    /// A stale one was, and no node could serve.
    StaleIfError,
    /// Another request's fetch was waited for.
    Collapsed,
    /// The node said that what was there is still good.
    Revalidated,
    /// It was fetched, and kept.
    Miss,
    /// It came from a node and was not kept.
    Unstored,
    /// The cache had nothing to do with it.
    Bypass,
}

impl Outcome {
    pub(in crate::edge) const ALL: [Self; 8] = [
        Self::Hit,
        Self::Stale,
        Self::StaleIfError,
        Self::Collapsed,
        Self::Revalidated,
        Self::Miss,
        Self::Unstored,
        Self::Bypass,
    ];

    pub(in crate::edge) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::StaleIfError => "stale_if_error",
            Self::Collapsed => "collapsed",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Unstored => "unstored",
            Self::Bypass => "bypass",
        }
    }

    /// Whether no node was asked for it.
    pub(in crate::edge) fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::Stale | Self::StaleIfError | Self::Collapsed)
    }
}

/// An outcome with what a client is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) struct Told {
    pub(in crate::edge) outcome: Outcome,
    /// Why a node was asked, or would have been (RFC 9211 section 2.2).
    pub(super) why: &'static str,
    /// What it answered, if that is not the status that the client sees.
    pub(super) node_status: Option<u16>,
    /// Seconds for which the answer stays fresh.
    pub(super) left: Option<i64>,
}

impl Told {
    pub(super) fn new(outcome: Outcome, why: &'static str) -> Self {
        Self { outcome, why, node_status: None, left: None }
    }

    /// Writes this cache's member of `Cache-Status`.
    pub(in crate::edge) fn text(&self) -> String {
        let mut text = String::from("Roomgate");
        let hit = matches!(self.outcome, Outcome::Hit | Outcome::Stale);
        // A string takes everything.
        let _ = if hit { write!(text, "; hit") } else { write!(text, "; fwd={}", self.why) };
        if let Some(status) = self.node_status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if let Some(left) = self.left {
            let _ = write!(text, "; ttl={left}");
        }
        match self.outcome {
            Outcome::Miss => text.push_str("; stored"),
            Outcome::Collapsed => text.push_str("; collapsed"),
            Outcome::StaleIfError => text.push_str("; detail=stale-if-error"),
            Outcome::Hit | Outcome::Stale | Outcome::Revalidated | Outcome::Unstored | Outcome::Bypass => {}
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_in_the_words_of_the_rfc() {
        for (outcome, why, node_status, left, expected) in [
            (Outcome::Hit, "", None, Some(30), "Roomgate; hit; ttl=30"),
            (Outcome::Stale, "", None, Some(-5), "Roomgate; hit; ttl=-5"),
            (Outcome::Miss, "uri-miss", None, Some(60), "Roomgate; fwd=uri-miss; ttl=60; stored"),
            (Outcome::Unstored, "vary-miss", None, None, "Roomgate; fwd=vary-miss"),
            (Outcome::Collapsed, "uri-miss", None, None, "Roomgate; fwd=uri-miss; collapsed"),
            (Outcome::Revalidated, "stale", Some(304), Some(9), "Roomgate; fwd=stale; fwd-status=304; ttl=9"),
            (
                Outcome::StaleIfError,
                "stale",
                Some(503),
                Some(-9),
                "Roomgate; fwd=stale; fwd-status=503; ttl=-9; detail=stale-if-error",
            ),
            (Outcome::Bypass, "method", None, None, "Roomgate; fwd=method"),
        ] {
            assert_eq!(Told { outcome, why, node_status, left }.text(), expected);
        }
    }
}
