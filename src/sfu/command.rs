//! What the control side asks of a worker's rooms, and what comes back. Plain values.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::offer::OfferFault;
use super::room::RoomRef;
use super::signalling::message::{Lines, Participant, ServerMessage, Source, Track};
use crate::rooms::RoomId;

/// Names one participant on its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    pub(super) place: u32,
    pub(super) serial: u64,
}

/// What a worker's rooms are asked.
#[derive(Debug)]
pub enum Command {
    /// Enters a room.
    Join {
        /// Who and where.
        join: Join,
        /// Gets the answer. If nobody waits for it any more, the participant leaves at once.
        reply: oneshot::Sender<Result<Joined, JoinFault>>,
    },
    /// Offers media.
    Offer {
        /// Who.
        session: SessionId,
        /// The session description.
        sdp: String,
        /// What the sending lines carry.
        tracks: Vec<Track>,
        /// Gets the answer.
        reply: oneshot::Sender<Result<String, OfferFault>>,
    },
    /// Says that a source is muted or not.
    Mute {
        /// Who.
        session: SessionId,
        /// Which source.
        source: Source,
        /// Whether it is muted now.
        muted: bool,
    },
    /// Leaves the room.
    Leave {
        /// Who.
        session: SessionId,
    },
}

impl Command {
    /// Returns its name, also its label in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Offer { .. } => "offer",
            Self::Mute { .. } => "mute",
            Self::Leave { .. } => "leave",
        }
    }
}

/// Who enters which room.
#[derive(Debug)]
pub struct Join {
    /// Where.
    pub room: RoomRef,
    /// Display name, cut by the caller.
    pub name: String,
    /// What they are there for.
    pub role: Role,
    /// Takes what they are to hear. When it is full or closed, the participant leaves.
    pub notices: mpsc::Sender<Notice>,
}

/// What a participant is in a room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Talks and hears, by WebSocket.
    Talker,
    /// Only sends, by WHIP. Others see them.
    Ingest,
    /// Only receives, by WHEP. Others do not see them.
    Viewer {
        /// Receives this participant alone.
        only: Option<String>,
    },
}

impl Role {
    /// Returns whether others are told about them.
    pub(super) fn is_listed(&self) -> bool {
        match self {
            Self::Talker | Self::Ingest => true,
            Self::Viewer { .. } => false,
        }
    }

    /// Returns whether they are sent messages.
    pub(super) fn hears(&self) -> bool {
        match self {
            Self::Talker => true,
            Self::Ingest | Self::Viewer { .. } => false,
        }
    }
}

/// What a participant finds when they enter.
#[derive(Debug)]
pub struct Joined {
    /// Names them in further commands.
    pub session: SessionId,
    /// Their participant id.
    pub you: String,
    /// Everybody else who is listed.
    pub participants: Vec<Participant>,
    /// Receive-only lines that their first offer should have at least.
    pub lines: Lines,
}

/// Why somebody may not enter.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum JoinFault {
    /// The worker has as many participants as it may.
    #[error("this server is full: try later")]
    WorkerFull,
    /// The room has as many participants as it may.
    #[error("this room is full")]
    RoomFull,
}

/// What a participant's own task is told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Send this.
    Message(Arc<ServerMessage>),
    /// The participant is out of the room.
    Bye(Bye),
}

/// Why a participant is out of the room without having asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bye {
    /// The client closed its media.
    Closed,
    /// The client's media path fell silent, or never came up.
    Silent,
    /// The client's media could not go on.
    Fault,
}

/// One worker's rooms as they are: plain values, once a second.
#[derive(Clone, Debug, Default)]
pub struct SfuReport {
    /// Rooms with people in them, in no particular order.
    pub rooms: Vec<RoomReport>,
    /// Participants of all of them.
    pub participants: u32,
    /// What has happened since the worker began.
    pub totals: SfuTotals,
}

/// One room as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomReport {
    /// Which.
    pub room: RoomId,
    /// Participants that others see.
    pub participants: u32,
    /// Participants that others do not see (WHEP).
    pub viewers: u32,
    /// RTP packets per second from participants.
    pub packets_in: f64,
    /// RTP payload bits per second from participants.
    pub bits_in: f64,
    /// RTP packets per second to participants.
    pub packets_out: f64,
    /// RTP payload bits per second to participants.
    pub bits_out: f64,
}

/// What has happened on a worker since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SfuTotals {
    /// Participants that joined.
    pub joined: u64,
    /// Participants that were refused because the worker or the room was full.
    pub refused: u64,
    /// Offers that were refused.
    pub offers_refused: u64,
    /// RTP packets from participants.
    pub packets_in: u64,
    /// RTP packets to participants.
    pub packets_out: u64,
    /// RTP packets whose payload was malformed.
    pub malformed: u64,
    /// Packets for a receiver that knows no payload type for their codec, or whose engine did not take them.
    pub unwritten: u64,
    /// Keyframe requests of receivers, and switches that wait for one.
    pub keyframes_wanted: u64,
    /// Keyframe requests sent to senders.
    pub keyframes_asked: u64,
    /// ICE restarts.
    pub ice_restarts: u64,
    /// Participants that ended because their engine panicked.
    pub ended_panic: u64,
    /// Participants that ended because their engine could not go on.
    pub ended_engine: u64,
    /// Participants whose client closed DTLS.
    pub ended_closed: u64,
    /// Participants whose media path fell silent or never came up.
    pub ended_silent: u64,
    /// Participants that did not take what they were to hear.
    pub ended_slow: u64,
    /// Participants whose task was gone without a word that arrived.
    pub ended_lost: u64,
}
