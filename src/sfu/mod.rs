//! The embedded SFU: rooms of participants on a worker, and how they join.

mod codec;
mod forward;
mod keyframes;
mod layers;
mod offer;
mod session;
pub mod signalling;
mod slots;
mod timers;

pub use offer::OfferFault;
pub use session::Engine;
