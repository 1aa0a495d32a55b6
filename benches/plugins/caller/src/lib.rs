//! Calls skills of the plugin `callee` and what they are measured against, and measures how long that takes.
//!
//! The loops stand in this library, so that what is measured is one plugin calling another.

#![warn(missing_docs, clippy::undocumented_unsafe_blocks)]

mod peer;
mod record;
mod rows;
mod swapping;

use std::path::PathBuf;

use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{Context, import, skills};

use peer::Peer;
use record::Record;
use swapping::Swapping;

import! {
    mod callee {
        fn add(a: u64, b: u64) -> u64;
        fn greet(name: &str) -> String;
        fn count(record: Record) -> Record;
    }
}

/// What the benchmarks call.
pub struct Caller {
    peer: Peer,
    swapping: Swapping,
}

#[skills]
impl Caller {
    /// Opens the peer.
    pub fn new(ctx: &Context) -> Result<Self, String> {
        let settings: Settings = ctx.settings().map_err(|error| error.to_string())?;
        Ok(Self {
            peer: Peer::open(&settings.peer).map_err(|error| error.to_string())?,
            swapping: Swapping::default(),
        })
    }

    /// Asserts the result of every row once.
    pub fn check(&self) {
        rows::check(&self.peer);
    }

    /// Runs a row `iterations` times in each of `threads` threads; returns the nanoseconds that one took.
    pub fn run(&self, row: &str, threads: u32, iterations: u64) -> Result<f64, String> {
        rows::run(&self.peer, row, threads, iterations)
    }

    /// Lets `threads` threads call the plugin `swapped` without a pause.
    pub fn begin_swapping(&self, threads: u32) {
        self.swapping.begin(threads);
    }

    /// Returns how many calls have returned so far, how many of these have failed, and what the first of those said.
    pub fn tally(&self) -> (u64, u64, Option<String>) {
        self.swapping.tally()
    }

    /// Ends these threads.
    pub fn end_swapping(&self) {
        self.swapping.end();
    }
}

/// What the plugin's entry in the config says under `settings`.
#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde", deny_unknown_fields)]
struct Settings {
    peer: PathBuf,
}
