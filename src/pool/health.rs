//! Decides when a node is up: counts passes and failures in a row.
//!
//! Pure: outcomes are passed in, transitions come out. It owns no clock and sends no check; what a check is, and how
//! often one is made, is the business of `probe` and `checker`.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

/// Whether a node can serve.
///
/// ```text
///            pass                fall failures in a row
/// Starting ---------> Up <---------------------------------+
///     |                |                                    |
///     | fall failures  | fall failures in a row             | rise passes in a row
///     +--------------> Down --------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Not checked yet: it gets no room. The first pass brings it up at once.
    Starting,
    /// It can serve.
    Up,
    /// It cannot serve; its rooms are placed anew.
    Down,
}

impl NodeState {
    /// Returns the word for metrics, logs and the admin API. Stable.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeState::Starting => "starting",
            NodeState::Up => "up",
            NodeState::Down => "down",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one check, or one connect of a request, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The node answered as it should.
    Pass,
    /// It did not.
    Fail(FailReason),
}

/// Why a check failed, in the words that an operator reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    /// Nobody listens on the node's port.
    #[error("connect refused")]
    ConnectRefused,
    /// The connection could not be made for another reason.
    #[error("connect: {0}")]
    Connect(String),
    /// The node's name has no address.
    #[error("resolve: {0}")]
    Resolve(String),
    /// The check's deadline passed.
    #[error("timeout after {}", Brief(*.0))]
    Timeout(Duration),
    /// The answer's status was not 2xx.
    #[error("status {0}")]
    Status(u16),
    /// What came back was not an HTTP answer, or it was cut short.
    #[error("bad answer: {0}")]
    Answer(String),
    /// An embedded worker is unwell, in its own words.
    #[error("{0}")]
    Worker(String),
}

impl FailReason {
    /// Names what a failed TCP connect says about the node.
    pub fn connect(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            FailReason::ConnectRefused
        } else {
            FailReason::Connect(error.to_string())
        }
    }
}

/// Passes and failures in a row that change a node's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Passes in a row that bring a node up.
    pub rise: NonZeroU32,
    /// Failures in a row that take it down.
    pub fall: NonZeroU32,
}

impl Limits {
    /// One outcome decides.
    pub const ONE: Self = Self { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN };
}

/// A change of state.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What the node was.
    pub from: NodeState,
    /// What it is now.
    pub to: NodeState,
}

/// The state of one node and the streak towards the next.
#[derive(Clone, Debug)]
pub struct Health {
    state: NodeState,
    limits: Limits,
    /// Outcomes in a row that speak against `state`.
    streak: u32,
}

impl Health {
    /// Starts in `state` with an empty streak.
    pub fn new(state: NodeState, limits: Limits) -> Self {
        Self { state, limits, streak: 0 }
    }

    /// Returns the state.
    pub fn state(&self) -> NodeState {
        self.state
    }

    /// Returns the failures in a row of a node that is not down yet, and how many take it down.
    pub fn failing(&self) -> Option<(u32, u32)> {
        (self.streak > 0 && self.state != NodeState::Down).then_some((self.streak, self.limits.fall.get()))
    }

    /// Takes new limits; the streak stands and is judged by them at the next outcome.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes one outcome.
    pub fn handle(&mut self, outcome: &CheckOutcome) -> Option<Transition> {
        match (self.state, outcome) {
            // Starting -> Up: an operator who starts everything at once should not wait for `rise`.
            (NodeState::Starting, CheckOutcome::Pass) => self.become_(NodeState::Up),
            // Starting -> Down, Up -> Down, after `fall` in a row.
            (NodeState::Starting | NodeState::Up, CheckOutcome::Fail(_)) => {
                self.count(self.limits.fall, NodeState::Down)
            }
            // Down -> Up, after `rise` in a row.
            (NodeState::Down, CheckOutcome::Pass) => self.count(self.limits.rise, NodeState::Up),
            // Nothing new: what spoke against the state is forgotten.
            (NodeState::Up, CheckOutcome::Pass) | (NodeState::Down, CheckOutcome::Fail(_)) => {
                self.streak = 0;
                None
            }
        }
    }

    fn count(&mut self, limit: NonZeroU32, to: NodeState) -> Option<Transition> {
        self.streak = self.streak.saturating_add(1);
        if self.streak >= limit.get() { self.become_(to) } else { None }
    }

    fn become_(&mut self, to: NodeState) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        self.streak = 0;
        Some(Transition { from, to })
    }
}

/// A duration as people write it: `1s`, `500ms`.
struct Brief(Duration);

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() == 0 {
            write!(f, "{}s", self.0.as_secs())
        } else {
            write!(f, "{}ms", self.0.as_millis())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NodeState::{Down, Starting, Up};

    fn limits(rise: u32, fall: u32) -> Limits {
        Limits { rise: NonZeroU32::new(rise).unwrap(), fall: NonZeroU32::new(fall).unwrap() }
    }

    /// `+` is a pass, `-` a failure; returns the state after each.
    fn run(from: NodeState, limits: Limits, outcomes: &str) -> Vec<NodeState> {
        let mut health = Health::new(from, limits);
        outcomes
            .chars()
            .map(|c| {
                let before = health.state();
                let outcome = match c {
                    '+' => CheckOutcome::Pass,
                    _ => CheckOutcome::Fail(FailReason::ConnectRefused),
                };
                let transition = health.handle(&outcome);
                match transition {
                    Some(t) => assert_eq!((t.from, t.to), (before, health.state())),
                    None => assert_eq!(before, health.state()),
                }
                health.state()
            })
            .collect()
    }

    #[test]
    fn outcomes_in_a_row_change_the_state() {
        for (from, rise, fall, outcomes, expected) in [
            (Starting, 2, 2, "+", vec![Up]),
            (Starting, 2, 2, "-+", vec![Starting, Up]),
            (Starting, 2, 2, "--+", vec![Starting, Down, Down]),
            (Up, 2, 2, "-", vec![Up]),
            (Up, 2, 2, "--", vec![Up, Down]),
            (Up, 2, 2, "-+-", vec![Up, Up, Up]),
            (Up, 2, 1, "-", vec![Down]),
            (Down, 2, 2, "+-+", vec![Down, Down, Down]),
            (Down, 2, 2, "++", vec![Down, Up]),
            (Down, 3, 2, "+++", vec![Down, Down, Up]),
            (Down, 1, 1, "+-+", vec![Up, Down, Up]),
        ] {
            assert_eq!(run(from, limits(rise, fall), outcomes), expected, "{from} {outcomes}");
        }
    }

    #[test]
    fn lower_limits_of_a_reload_count_at_the_next_failure() {
        let mut health = Health::new(Up, limits(2, 5));
        assert_eq!(health.handle(&CheckOutcome::Fail(FailReason::ConnectRefused)), None);
        health.set_limits(limits(2, 2));
        let transition = health.handle(&CheckOutcome::Fail(FailReason::ConnectRefused));
        assert_eq!(transition, Some(Transition { from: Up, to: Down }));
    }

    #[test]
    fn reasons_read_as_an_operator_says_them() {
        for (reason, text) in [
            (FailReason::ConnectRefused, "connect refused"),
            (FailReason::Timeout(Duration::from_secs(1)), "timeout after 1s"),
            (FailReason::Timeout(Duration::from_millis(1500)), "timeout after 1500ms"),
            (FailReason::Status(503), "status 503"),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
