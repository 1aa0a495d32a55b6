//! A program is a library too: its `#[skills]` blocks are described, called and closed here as a
//! core does it with a plugin's.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

#[path = "../fake_host/mod.rs"]
mod fake_host;

mod asynchronous;
mod description;
mod direct;
mod direct_types;
mod dynamic;
mod encoded;
mod errors;
mod events;
mod imports;
mod injection;
mod launch;
mod panics;
mod start;
mod state;
mod streams;

use fake_host::FakeHost;
