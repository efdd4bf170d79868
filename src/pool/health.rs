//! Decides when a node is up: counts passes and failures in a row.
//!
//! Pure: outcomes are passed in, transitions come out. It owns no clock and sends no check; what a check is, and how
//! often one is made, is the business of `probe` and `checker`.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use rustix::io::Errno;

use crate::config::settings::Name;

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
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The answer was one, and not the one of a node that is well.
    #[error("{0}")]
    Content(String),
    /// One of several probes failed.
    #[error("{probe}: {reason}")]
    Probe {
        /// Which, as the file names it.
        probe: &'static str,
        /// Why.
        reason: Box<FailReason>,
    },
    /// The node has no service of that name: a fault of the configuration, not of the node.
    #[error("the node has no service {0}")]
    NoService(Name),
    /// An embedded worker is unwell, in its own words.
    #[error("{0}")]
    Worker(String),
    /// This machine could not even ask: it says nothing about the node, and counts neither for nor against it.
    #[error("this machine is out of {0}")]
    Local(LocalFault),
}

/// What this process or its machine lacked when a node was to be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalFault {
    /// Descriptors: the process's limit (EMFILE) or the machine's (ENFILE).
    Descriptors,
    /// Memory for sockets (ENOBUFS, ENOMEM).
    Memory,
    /// Local ports towards that address (EADDRNOTAVAIL).
    Ports,
}

impl LocalFault {
    /// Returns the word for metrics. Stable.
    pub fn as_str(self) -> &'static str {
        match self {
            LocalFault::Descriptors => "descriptors",
            LocalFault::Memory => "memory",
            LocalFault::Ports => "ports",
        }
    }

    /// Tells which of our own resources an error is about; `None`: it is about the other side.
    pub fn of(error: &io::Error) -> Option<Self> {
        let errno = Errno::from_io_error(error)?;
        if errno == Errno::MFILE || errno == Errno::NFILE {
            Some(LocalFault::Descriptors)
        } else if errno == Errno::NOBUFS || errno == Errno::NOMEM {
            Some(LocalFault::Memory)
        } else if errno == Errno::ADDRNOTAVAIL {
            Some(LocalFault::Ports)
        } else {
            None
        }
    }
}

impl fmt::Display for LocalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LocalFault::Descriptors => "file descriptors",
            LocalFault::Memory => "memory for sockets",
            LocalFault::Ports => "local ports",
        })
    }
}

impl FailReason {
    /// Names what a failed TCP connect says about the node.
    pub fn connect(error: &io::Error) -> Self {
        if let Some(fault) = LocalFault::of(error) {
            FailReason::Local(fault)
        } else if error.kind() == io::ErrorKind::ConnectionRefused {
            FailReason::ConnectRefused
        } else {
            FailReason::Connect(error.to_string())
        }
    }

    /// Names what a failed lookup says about the node.
    pub fn resolve(error: &io::Error) -> Self {
        LocalFault::of(error).map_or_else(|| FailReason::Resolve(error.to_string()), FailReason::Local)
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

    /// How many outcomes in a row change the state.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes new limits; the streak stands and is judged by them at the next outcome.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes one outcome.
    pub fn handle(&mut self, outcome: &CheckOutcome) -> Option<Transition> {
        match (self.state, outcome) {
            // It was not the node that failed.
            (_, CheckOutcome::Fail(FailReason::Local(_))) => None,
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

    /// `+` is a pass, `-` a failure, `o` a lack of our own; returns the state after each.
    fn run(from: NodeState, limits: Limits, outcomes: &str) -> Vec<NodeState> {
        let mut health = Health::new(from, limits);
        outcomes
            .chars()
            .map(|c| {
                let before = health.state();
                let outcome = match c {
                    '+' => CheckOutcome::Pass,
                    'o' => CheckOutcome::Fail(FailReason::Local(LocalFault::Descriptors)),
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
            (Starting, 2, 1, "oo+", vec![Starting, Starting, Up]),
            (Up, 2, 1, "ooo-", vec![Up, Up, Up, Down]),
            (Up, 2, 2, "-o-", vec![Up, Up, Down]),
            (Down, 2, 2, "+o+", vec![Down, Down, Up]),
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
    fn what_we_lack_is_not_the_nodes_fault() {
        let of = |errno: Errno| FailReason::connect(&io::Error::from(errno));
        for (errno, expected) in [
            (Errno::MFILE, Some(LocalFault::Descriptors)),
            (Errno::NFILE, Some(LocalFault::Descriptors)),
            (Errno::NOBUFS, Some(LocalFault::Memory)),
            (Errno::NOMEM, Some(LocalFault::Memory)),
            (Errno::ADDRNOTAVAIL, Some(LocalFault::Ports)),
            (Errno::CONNREFUSED, None),
            (Errno::CONNRESET, None),
            (Errno::HOSTUNREACH, None),
            (Errno::NETUNREACH, None),
            (Errno::TIMEDOUT, None),
        ] {
            let reason = of(errno);
            let local = if let FailReason::Local(fault) = reason { Some(fault) } else { None };
            assert_eq!(local, expected, "{errno:?}");
            let resolved = FailReason::resolve(&io::Error::from(errno));
            assert_eq!(matches!(resolved, FailReason::Local(_)), expected.is_some(), "{errno:?}");
        }
        assert_eq!(of(Errno::CONNREFUSED), FailReason::ConnectRefused);
    }

    #[test]
    fn reasons_read_as_an_operator_says_them() {
        for (reason, text) in [
            (FailReason::ConnectRefused, "connect refused"),
            (FailReason::Timeout(Duration::from_secs(1)), "timeout after 1s"),
            (FailReason::Timeout(Duration::from_millis(1500)), "timeout after 1500ms"),
            (FailReason::Status(503), "status 503"),
            (FailReason::Local(LocalFault::Descriptors), "this machine is out of file descriptors"),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
