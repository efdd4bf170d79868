//! Asks nodes how they are, one connection for each question.

pub mod http;
pub mod tcp;
