//! What calls over sessions are measured against, and the loop that measures them.
//!
//! Start at [`Laps`], the loop of one caller. Each peer is a module: `serve` is its server and `call` its callers, each
//! in a process of its own, in which [`orders`] come in from the process that measures. They find each other at a place,
//! the path of a socket or what else the peer needs.

#![deny(unsafe_code)]

pub mod iceoryx;
pub mod laps;
pub mod memory;
pub mod orders;
pub mod polling;
pub mod raw;
pub mod tarpc;
pub mod tokio;
pub mod tonic;

pub use laps::{Laps, Order, Tally};

/// What ends a measurement.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;
