//! The messages of `/rooms/{room}/ws`: JSON text frames, one message a frame, told apart by `type`.
//!
//! Pure: values and their JSON. One page for client authors:
//!
//! ```text
//! client                                   server
//!   | -- join {name} ----------------------> |   first message, within 10 s
//!   | <- welcome {you, participants, lines}  |
//!   | -- offer {id, sdp, tracks} ----------> |   the client is the only one who offers: no glare
//!   | <- answer {id, sdp} ------------------ |
//!   | <- slots {slots} --------------------- |   which receive line carries whom; sent again when it changes
//!   | <- joined / left / sources ----------- |   batched: at most one of each every 100 ms
//!   | -- mute {source, muted} -------------> |
//!   | <- lines {audio, video} -------------- |   the room outgrew your receive lines: offer again with so many
//!   | -- leave ----------------------------> |
//! ```
//!
//! The offer holds the lines that send (`tracks` names what each carries) and receive-only lines, at least as many as
//! `lines` asks for. The server points receive lines at participants and re-points them when people come and go,
//! without a new offer. A participant's own media never comes back. The server's ICE is lite with one UDP port; the
//! client need not trickle. After a break, the client joins again (a new `you`); an offer with new ICE credentials
//! on a living connection is an ICE restart.
//!
//! `lines` asks for at most [`LINES_ASKED_MAX`]. Of more sources than a client has lines, those that came last have none
//! until one is freed: they are listed, but not received. That is no error, and nothing is asked for again. Name few
//! codecs on receive lines: an offer repeats them on every line.
//!
//! Limits: a message is at most [`MESSAGE_BYTES_MAX`] bytes; an SDP has at most [`LINES_MAX`] lines; names are cut at
//! [`NAME_CHARS_MAX`] characters. Close codes: 1001 the service stops, 1008 a message was not understood (an `error`
//! says why) or the token is not valid, 1012 join again: the room moved, or the media path broke (15 s without a check of
//! ICE, or the client did not keep up), 1013 full: try later.

use serde::{Deserialize, Serialize};

/// Largest message in either direction.
///
/// A browser's offer with [`LINES_ASKED_MAX`] fits in half of it. Memory is taken for a message as it comes, not before.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Largest number of m-lines of one participant.
pub const LINES_MAX: usize = 256;
/// Receive lines that a client is asked for at most; with its own they stay below [`LINES_MAX`].
pub const LINES_ASKED_MAX: Lines = Lines { audio: 120, video: 128 };
const _: () = assert!(LINES_ASKED_MAX.audio as usize + LINES_ASKED_MAX.video as usize + 3 <= LINES_MAX);
/// Longest display name.
pub const NAME_CHARS_MAX: usize = 64;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Enters the room. Must be the first message.
    Join {
        /// Display name; may be empty.
        #[serde(default)]
        name: String,
    },
    /// Offers media. Answered by [`ServerMessage::Answer`] with the same `id`.
    Offer {
        /// Chosen by the client; each offer has a larger one than the last.
        id: u32,
        /// The session description (RFC 8866).
        sdp: String,
        /// What the sending lines carry.
        #[serde(default)]
        tracks: Vec<Track>,
    },
    /// Says that a source is muted or not. The media itself is the client's to stop.
    Mute {
        /// Which source.
        source: Source,
        /// Whether it is muted now.
        muted: bool,
    },
    /// Leaves the room. The server closes the connection with 1000.
    Leave,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// Answers `join`.
    Welcome {
        /// The client's own participant id.
        you: String,
        /// The room's normalised key.
        room: String,
        /// Everybody else.
        participants: Vec<Participant>,
        /// Receive-only lines that the first offer should have at least.
        lines: Lines,
    },
    /// Answers `offer`.
    Answer {
        /// The offer's `id`.
        id: u32,
        /// The session description.
        sdp: String,
    },
    /// Participants came.
    Joined {
        /// In the order of their coming.
        participants: Vec<Participant>,
    },
    /// Participants left.
    Left {
        /// Their ids.
        participants: Vec<String>,
    },
    /// What participants send has changed.
    Sources {
        /// The participants, each with all their sources.
        participants: Vec<Participant>,
    },
    /// What the client's receive lines carry from now on. Lines that are not named stay as they were.
    Slots {
        /// One entry a line.
        slots: Vec<Slot>,
    },
    /// The room outgrew the client's receive lines: offer again with at least so many.
    Lines {
        /// How many are needed.
        #[serde(flatten)]
        lines: Lines,
    },
    /// A message was refused. The connection closes with 1008 when `fatal`.
    Error {
        /// One sentence that names the fault and the cure.
        message: String,
        /// Whether the connection closes now.
        fatal: bool,
    },
}

/// One other member of the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Unique in the room, new at every join.
    pub id: String,
    /// Display name; may be empty.
    pub name: String,
    /// What they send.
    pub sources: Vec<SourceState>,
}

/// One thing that a participant sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// Which.
    pub source: Source,
    /// Whether it is muted.
    pub muted: bool,
}

/// What a media line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Audio of a microphone.
    Microphone,
    /// Video of a camera.
    Camera,
    /// Video of a shared screen.
    Screen,
}

/// What a sending line of an offer carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Track {
    /// The line's `a=mid`.
    pub mid: String,
    /// What it carries.
    pub source: Source,
}

/// Numbers of receive-only lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Audio lines.
    pub audio: u16,
    /// Video lines.
    pub video: u16,
}

/// What one receive line carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The line's `a=mid`.
    pub mid: String,
    /// Whose media it is; `None`: nobody's.
    pub from: Option<SlotSource>,
}

/// Whose media a receive line carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSource {
    /// Participant id.
    pub participant: String,
    /// Which of their sources.
    pub source: Source,
}
