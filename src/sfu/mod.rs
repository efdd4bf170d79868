//! The embedded SFU: rooms of participants on a worker, and how they join.

pub mod auth;
pub mod client;
mod codec;
mod command;
mod control;
mod engine;
mod forward;
mod host;
pub mod http;
mod keyframes;
mod layers;
mod offer;
mod room;
pub mod selftest;
mod session;
pub mod signalling;
mod slots;
mod timers;
mod whip;

pub use command::{
    Bye, Command, Join, JoinFault, Joined, Notice, Role, RoomReport, SessionId, SfuReport, SfuTotals,
};
pub use control::{JoinContext, Sfu};
pub use engine::Engine;
pub use host::{SfuHost, SfuLimits};
pub use offer::OfferFault;
pub use room::RoomRef;
pub use whip::{BODY_BYTES_MAX, Resource, SfuRequest, SfuResponse};
