//! What a manifest says about the life of a plugin's processes: restarts, stops, the end of the core, the log.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When and how often a process that has ended is launched again: `RESTART`.
///
/// The default is that of a manifest without `RESTART`: never.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartOptions {
    /// How many restarts there are in a row; `None` for as many as it takes.
    pub count: Option<u32>,
    /// How long to wait before the first restart; each further wait in a row is twice as long.
    pub backoff: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How far a wait may be from its middle, as a part of it, from 0 to 1.
    pub jitter: f64,
    /// How long a run must have been to give every restart back.
    pub healthy: Duration,
    /// The exit codes of a process that has done its work; a negative one stands for a signal, as in the log.
    pub success: Vec<i32>,
    /// After which ends it is launched again.
    pub when: RestartWhen,
}

impl Default for RestartOptions {
    fn default() -> Self {
        Self {
            count: Some(0),
            backoff: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            jitter: 0.2,
            healthy: Duration::from_mins(1),
            success: vec![0],
            when: RestartWhen::OnFailure,
        }
    }
}

impl RestartOptions {
    /// Returns the options of `RESTART = count`.
    pub fn times(count: u32) -> Self {
        Self {
            count: Some(count),
            ..Self::default()
        }
    }
}

/// After which ends a process is launched again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// After every end.
    Always,
    /// After a failure: a code that is none of success, a signal, a lost shim.
    #[default]
    OnFailure,
    /// After none.
    Never,
}

impl RestartWhen {
    pub(super) const ALL: [(&'static str, Self); 3] = [
        ("always", Self::Always),
        ("on-failure", Self::OnFailure),
        ("never", Self::Never),
    ];
}

/// How a plugin's processes are told to end: `STOP_SIGNAL` and `STOP_TIMEOUT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopOptions {
    /// The number of the signal that is sent first.
    pub signal: i32,
    /// How long the tree may take before it is killed; `None` for the default of the place.
    pub timeout: Option<Duration>,
}

impl Default for StopOptions {
    fn default() -> Self {
        Self {
            signal: nix::libc::SIGTERM,
            timeout: None,
        }
    }
}

/// What becomes of a plugin's processes when the core dies: `ON_CORE_DEATH`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCoreDeath {
    /// They go on, and the next core takes them over.
    #[default]
    Keep,
    /// They are stopped.
    Stop,
}

impl OnCoreDeath {
    pub(super) const ALL: [(&'static str, Self); 2] = [("keep", Self::Keep), ("stop", Self::Stop)];
}

/// How a plugin's log is kept: `LOG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// Whether a new file is begun at midnight.
    pub daily: bool,
    /// The size in bytes from which a new file is begun; `None` for any size.
    pub max_size: Option<u64>,
    /// How many old files are kept.
    pub keep: u32,
    /// Whether old files are compressed.
    pub compress: bool,
    /// Whether records are written as JSON.
    pub json: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            daily: true,
            max_size: None,
            keep: 3,
            compress: true,
            json: false,
        }
    }
}
