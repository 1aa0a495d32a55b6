//! Is called from other processes: bytes come back, and a value is shared.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::sync::{Mutex, PoisonError};

use aigis_plugin_api::skills;

static VALUE: Mutex<f64> = Mutex::new(0.0);

/// What others can call.
#[skills]
pub mod echo {
    use super::*;

    /// Gives the bytes back.
    #[skill(portable)]
    pub fn echo(data: &[u8]) -> Vec<u8> {
        data.to_vec()
    }

    /// Adds two numbers.
    #[skill(portable)]
    pub fn add(a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    /// The process that this runs in.
    #[skill(portable)]
    pub fn pid() -> u32 {
        std::process::id()
    }

    /// Sleeps, and keeps its thread.
    pub fn nap(milliseconds: u64) {
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    }

    /// Keeps a value for all.
    pub fn set(value: f64) {
        *VALUE.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    /// Returns the value that was set last.
    pub fn get() -> f64 {
        *VALUE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
