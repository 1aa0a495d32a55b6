//! Calls the portable skills of `echo` in the core itself, for the sake of those who call them elsewhere.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use aigis_plugin_api::{CallError, import, skills};

import! {
    mod echo {
        fn add(a: i64, b: i64) -> i64;
        fn echo(data: &[u8]) -> Vec<u8>;
    }
}

/// What others can call.
#[skills]
pub mod neighbour {
    use super::*;

    /// Adds so often, and returns how many nanoseconds each call took.
    pub fn adds(calls: u32) -> Result<f64, String> {
        each(calls, |number| echo::add(black_box(number), 1).map(drop))
    }

    /// Has 64 bytes echoed so often, and returns how many nanoseconds each call took.
    pub fn echoes(calls: u32) -> Result<f64, String> {
        let body = [7; 64];
        each(calls, |_| echo::echo(black_box(&body)).map(drop))
    }
}

fn each(calls: u32, mut call: impl FnMut(i64) -> Result<(), CallError>) -> Result<f64, String> {
    let begun = Instant::now();
    for number in 0..calls {
        call(number.into()).map_err(|error| error.to_string())?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls))
}
