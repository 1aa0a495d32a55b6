//! The only place that opens libraries and touches what came out of them.
//!
//! A library is first opened in a process of its own, the [`probe`]; only one that passes is opened
//! here, as a [`Generation`]. Callers find what it offers in [slots](guard), and a switch puts the
//! next version in its place. What has been taken out of its slots is [retired](retire): when the last
//! call has left, its `cleanup` runs, and then the library goes.

pub(crate) mod crash;
mod entries;
mod follow;
mod generation;
pub(crate) mod guard;
mod host_api;
mod life;
mod link;
mod portable;
mod probe;
mod produced;
mod pulling;
mod retire;
mod runner;
mod serving;
mod slow;
mod spans;
mod task;
mod tasks;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aigis_plugin_api::__private::{BoxItems, Failure};
use aigis_plugin_api::session::Underway;
use tokio::task::AbortHandle;

use crate::config::PluginName;
use crate::logging::Level;
use crate::logging::spans::Around;
use crate::logging::twin::Record;
use crash::CrashFile;
use guard::{Slot, Visit};

pub(crate) use generation::{
    DRAIN_TIMEOUT, Generation, artifact, is_constructing, load, load_alone,
};
pub(crate) use life::Life;
pub use life::{GenerationState, GenerationStatus, SlowCall};
pub(crate) use link::{Link, Pins};
pub(crate) use portable::Code;
pub(crate) use probe::{PROBE_ARGUMENT, Probed, probe, probe_main};
pub(crate) use produced::superseded;
pub(crate) use retire::retire;
pub(crate) use runner::{Done, begin};
pub(crate) use serving::{CoreSkill, Entering, Remote, Serving};
pub(crate) use slow::{look as look_for_slow_calls, watch};

/// Where a call of a library goes.
pub(crate) enum Route<'a> {
    /// To what the slot of an import leads to.
    Link(&'a Link),
    /// To what is offered under a name, without types.
    Name(&'a str),
    /// Into this.
    Pinned(Visit),
}

/// Takes a lock of the loader's. What each holder changes is whole at any time, so one that panicked
/// leaves nothing half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends what this thread has of libraries that are retired and that it is not inside of.
pub(crate) fn end_here() {
    if follow::holds_here() {
        follow::run_here(retire::may_end_here);
    }
}

/// What a loaded library can ask of its host.
pub(crate) trait Services: Send + Sync + 'static {
    /// Calls a skill and waits.
    fn call(&self, route: Route<'_>, arguments: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Runs a call on this thread, or begins it; `done` hears its outcome once, here or, when what is
    /// underway is returned, later on another thread.
    fn start(&self, route: Route<'_>, arguments: &[u8], done: Done) -> Option<Arc<dyn Underway>>;

    /// Opens a skill, and begins it when the first item is asked for, unless it is known before that
    /// it cannot be. `streams` are the arguments that are streams. May block.
    fn open(&self, route: Route<'_>, arguments: &[u8], streams: Vec<BoxItems>) -> BoxItems;

    /// Runs `then` after `time`, unless it is aborted. It must not block, nor run a plugin's code.
    fn after(&self, time: Duration, then: Box<dyn FnOnce() + Send>) -> AbortHandle;

    /// Runs a job on a thread that may block.
    fn run(&self, job: Box<dyn FnOnce() + Send>);

    /// Returns the place of a skill, whether or not it is offered yet.
    fn slot(&self, name: &str) -> Arc<Slot>;

    /// Tells whether events of this level are kept.
    fn keeps(&self, level: Level) -> bool;

    /// Wakes the host's threads that wait for work, to [end what they have](end_here).
    fn wake_idle(&self);

    /// Tells whether the host is shutting down.
    fn is_closing(&self) -> bool;

    /// Writes into a plugin's log.
    fn log(&self, plugin: &PluginName, level: Level, message: &str);

    /// Returns where it is recorded that a library has ended the process; `None` for nowhere.
    fn crash_file(&self) -> Option<Arc<CrashFile>>;

    /// Writes what the plugin itself says into its log; `around` are the spans around it.
    fn record(&self, plugin: &PluginName, around: &Around, record: &Record<'_>);
}

/// Why a library cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The probe could not be made.
    #[error("the process that tries a library out cannot be started")]
    Probe(#[source] std::io::Error),
    /// The library killed or stalled the process that tried it out.
    #[error(
        "the library {what} when it was {asked} in a process of its own, so the core does not open \
         it; look at what its constructors and statics do"
    )]
    Crashed {
        /// What happened: the signal, the exit code or the deadline.
        what: String,
        /// What the library was asked for then, as in "when it was opened".
        asked: &'static str,
    },
    /// The library is not what a core can load; the probe's words.
    #[error("{0}")]
    Unfit(String),
    /// The system's loader does not open it, though it passed the probe.
    #[error("the library cannot be opened")]
    Library(#[source] libloading::Error),
    /// The core cannot read its own memory, which it does to check what a library says of itself.
    #[error("`/proc/self/mem` cannot be opened to check what the library says of itself")]
    Memory(#[source] std::io::Error),
    /// The copy that is opened could not be made.
    #[error("`{path}` cannot be copied to be opened")]
    Copy {
        /// The library.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No thread can be started for the plugin's constructor, or its `save`.
    #[error("no thread can be started for its `new` or `save`")]
    Thread(#[source] std::io::Error),
    /// A function of the plugin, such as its constructor, does not come back.
    #[error(
        "its `{0}` has not returned within {1:?}; its code stays loaded, but its result is not used"
    )]
    Stuck(&'static str, Duration),
    /// It is isolated, and its process ended before it served.
    #[error("its own process {0} before its library served")]
    Ended(String),
    /// It is isolated, and its process did not do what it was told.
    #[error("its own process has not {what} within {after:?}")]
    Silent {
        /// What it was to do, as in "loaded its library".
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The plugin's constructor or its `save` failed or panicked.
    #[error("{0}")]
    Open(Failure),
}

/// How long a library may take to be tried out.
pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(20);

/// How long a plugin's `new` may take.
pub(crate) const NEW_DEADLINE: Duration = Duration::from_secs(60);
