//! The embedded SFU: rooms of participants on a worker, and how they join.

pub mod client;
mod codec;
mod command;
mod forward;
mod host;
mod keyframes;
mod layers;
mod offer;
mod room;
mod session;
pub mod signalling;
mod slots;
mod timers;

pub use command::{
    Bye, Command, Join, JoinFault, Joined, Notice, Role, RoomReport, SessionId, SfuReport, SfuTotals,
};
pub use host::{SfuHost, SfuLimits};
pub use offer::OfferFault;
pub use room::RoomRef;
pub use session::Engine;
