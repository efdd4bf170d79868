//! The operator's endpoint: metrics, health, an API and the status page, on `admin.bind` only.
//!
//! [`guard`] decides who may ask (pure), [`api`] what is answered, [`server`] carries bytes: a bounded number of
//! connections, each with deadlines. Everything shown comes through [`AdminView`], which `app` implements: nothing
//! here knows another part of the process.

pub mod api;
mod bans;
mod cache;
pub mod guard;
pub mod rates;
pub mod server;
mod tunnels;
pub mod view;

pub use server::Admin;
pub use view::AdminView;

#[cfg(test)]
mod tests;
