//! What a host says of its plugins and skills.

use std::fmt;

use aigis_plugin_api::signature::Signature;
use serde::{Deserialize, Serialize};

use super::deaths::Crash;
use crate::config::PluginKind;
use crate::loader::{GenerationStatus, SlowCall};
use crate::supervisor::{Exit, ProcessName};

/// Where a plugin is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its source is fetched and its requirements are seen to.
    Fetching,
    /// It is built.
    Building,
    /// It is being loaded or launched.
    Starting,
    /// It serves.
    Ready,
    /// It failed and waits to be launched again.
    Backoff,
    /// It is being stopped.
    Stopping,
    /// It was stopped on purpose.
    Stopped,
    /// Its process ended by itself, with code 0.
    Finished,
    /// A step failed, or its process did and is not to be restarted.
    Failed,
    /// Its process failed and every restart is used up.
    CrashLoop,
}

impl State {
    /// Tells whether nothing will change by itself soon.
    pub fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Stopped | Self::Finished | Self::Failed | Self::CrashLoop
        )
    }

    /// Tells whether it has failed for good.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::CrashLoop)
    }

    /// Returns the name, as it is in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Building => "building",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Backoff => "backoff",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::CrashLoop => "crash-loop",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One plugin, as `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Its name in the config.
    pub name: String,
    /// Its kind.
    pub kind: PluginKind,
    /// Where it is in its life.
    pub state: State,
    /// The process that its code runs in: the core's own for a core plugin that is not isolated, and the
    /// first one where there are several.
    pub pid: Option<u32>,
    /// How often it was launched again after a failure.
    pub restarts: u32,
    /// The number of the load or launch that runs, or ran last; 0 before the first.
    pub generation: u64,
    /// Where it comes from, as the config says.
    pub source: String,
    /// What went wrong last, if anything did since it was last well.
    pub error: Option<String>,
    /// The loaded versions of its library, the oldest first, with those that are gone from memory
    /// lately.
    #[serde(default)]
    pub generations: Vec<GenerationStatus>,
    /// How an earlier core has died while this version of it was running, if one has.
    #[serde(default)]
    pub crash: Option<Crash>,
    /// The calls that take longer than its `CALL_TIMEOUT` now.
    #[serde(default)]
    pub slow_calls: Vec<SlowCall>,
    /// The calls from sessions that run on although nobody waits for them any more.
    #[serde(default)]
    pub overdue_calls: Vec<OverdueCall>,
    /// The processes that serve skills of it.
    #[serde(default)]
    pub serving: Vec<ServingProcess>,
    /// Why its library runs in a process of its own; none for a library in the core.
    #[serde(default)]
    pub isolated: Option<Isolation>,
    /// The processes that were launched for it.
    #[serde(default)]
    pub processes: Vec<ProcessStatus>,
    /// Whether the config lists it: what was added to a running core lasts until that shuts down.
    #[serde(default = "yes")]
    pub in_config: bool,
    /// The plugins that its start waits for.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// The time of the CPU that its process trees have used since they were launched, of all cores, in milliseconds.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// How much of one core they are using: the average since somebody last asked, or since the launch.
    #[serde(default)]
    pub cpu_percent: Option<f64>,
    /// The memory that they hold, in bytes; what is shared is divided among those who share it where the system tells.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// How many processes there are, children and theirs included.
    #[serde(default)]
    pub tree: Option<usize>,
    /// Since when what runs of it has been running, RFC 3339: the first of its processes, or the library in the core.
    #[serde(default)]
    pub started: Option<String>,
    /// How one of its processes has ended last.
    #[serde(default)]
    pub last_exit: Option<LastExit>,
}

/// How a process has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// What the system said.
    pub exit: Exit,
    /// When, RFC 3339.
    pub at: String,
}

/// The core itself, as `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoreStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Since when its process has been running, RFC 3339.
    pub started: Option<String>,
    /// The time of the CPU that its process has used, of all cores, in milliseconds; plugins in the core included.
    pub cpu_ms: u64,
    /// How much of one core it is using: the average since somebody last asked, or since its start.
    pub cpu_percent: Option<f64>,
    /// The memory that its process holds, in bytes.
    pub memory_bytes: u64,
}

/// Why a plugin's library runs in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Its manifest or its config entry says so.
    Configured,
    /// This version of it has ended the core more than once.
    EndedCore,
}

impl Isolation {
    /// Says in a few words why.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Configured => "as its config says",
            Self::EndedCore => "because this version of it has ended the core",
        }
    }
}

/// A process that was launched for a plugin, as `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Which one it is, from 0; none for the process of an isolated library.
    pub instance: Option<u32>,
    /// Where it is in its life.
    pub state: State,
    /// The process, while it runs.
    pub pid: Option<u32>,
    /// How often it was launched again after a failure, since the plugin was started or reloaded.
    pub restarts: u32,
    /// What went wrong last, if anything did since it was last well.
    pub error: Option<String>,
    /// What it says of itself, as `sd_notify` does with `STATUS=`.
    #[serde(default)]
    pub says: Option<String>,
    /// The processes of its tree that its stop waits for.
    #[serde(default)]
    pub waiting_for: Vec<ProcessName>,
    /// The process that watches over it, its shim, while it runs.
    #[serde(default)]
    pub shim: Option<u32>,
    /// The time of the CPU that its tree has used since it was launched, of all cores, in milliseconds.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// How much of one core it is using: the average since somebody last asked, or since the launch.
    #[serde(default)]
    pub cpu_percent: Option<f64>,
    /// The memory that it holds, in bytes; what is shared is divided among those who share it where the system tells.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// How many processes there are, children and theirs included.
    #[serde(default)]
    pub tree: Option<usize>,
    /// When it was launched, RFC 3339, while it runs: by this core or by one before it.
    #[serde(default)]
    pub started: Option<String>,
    /// How the one before it, or it itself, has ended.
    #[serde(default)]
    pub last_exit: Option<LastExit>,
}

/// A call whose caller's time was over, that was given up or whose session has ended, and that runs on; as
/// `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverdueCall {
    /// The full name of the skill.
    pub skill: String,
    /// The number of the session that has called.
    pub session: u64,
    /// What the caller calls itself.
    pub client: String,
    /// For how long nobody has waited, in milliseconds.
    pub overdue_ms: u64,
}

/// A process that serves skills of its plugin, as `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingProcess {
    /// The process.
    pub pid: u32,
    /// The number of its session.
    pub session: u64,
    /// How many calls it has not answered.
    pub calls: usize,
}

/// One skill, as `aigis skills` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillInfo {
    /// Its full name.
    pub name: String,
    /// The plugin that offers it.
    pub plugin: String,
    /// Its signature, as it is written.
    pub signature: String,
    /// Its documentation.
    pub doc: String,
    /// Its signature, part by part.
    pub types: Signature,
    /// Whether it can be called now: the process that serves it, if one does, is running.
    #[serde(default = "yes")]
    pub available: bool,
}

fn yes() -> bool {
    true
}
