//! The only place that opens libraries and touches what came out of them.
//!
//! A library is first opened in a process of its own, the [`probe`]; only one that passes is
//! opened here, as a [`Generation`]. A generation ends when the last call has left it: its
//! `cleanup` runs then, on a thread of its own. Its code stays mapped for good: what it left in
//! other threads (thread-locals and their destructors) may still point into it.

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "generations are not closed by it yet"
    )
)]
mod follow;
mod generation;
mod host_api;
mod link;
mod linux;
mod probe;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aigis_plugin_api::__private::Failure;

use crate::config::PluginName;
use crate::logging::Level;
use crate::registry::{Offer, Slot};

pub(crate) use generation::{Ending, Generation, Opened, is_constructing, open};
pub(crate) use link::Link;
pub(crate) use probe::{PROBE_ARGUMENT, probe, probe_main};

/// What serves a skill.
#[derive(Clone)]
pub(crate) enum Target {
    /// A function of a loaded library.
    Library {
        /// Keeps the library open.
        generation: Arc<Generation>,
        /// The function's place in the library's description.
        index: u32,
        /// The function's typed entry, if it has one.
        entry: Entry,
    },
    /// A function of the core itself.
    Core(CoreSkill),
}

/// A function of the core: encoded arguments in, encoded result out.
pub(crate) type CoreSkill = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, Failure> + Send + Sync>;

/// A typed entry of a library, or null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry(*const std::ffi::c_void);

// SAFETY: it is the address of a function, which any thread may call; who calls it holds the
// generation that it belongs to.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Library {
                generation, index, ..
            } => f
                .debug_struct("Library")
                .field("plugin", generation.plugin())
                .field("generation", &generation.number())
                .field("index", index)
                .finish(),
            Self::Core(_) => f.write_str("Core"),
        }
    }
}

/// What a loaded library can ask of its host.
pub(crate) trait Services: Send + Sync + 'static {
    /// Calls a skill and waits. `link` is what the calling import expects.
    fn call(&self, name: &str, link: Option<&Link>, arguments: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Runs a job on a thread that may block.
    fn run(&self, job: Box<dyn FnOnce() + Send>);

    /// Returns the place of a skill, whether or not it is offered yet.
    fn slot(&self, name: &str) -> Arc<Slot<Target>>;

    /// Tells whether events of this level are kept.
    fn keeps(&self, level: Level) -> bool;

    /// Tells whether the host is shutting down.
    fn is_closing(&self) -> bool;

    /// Writes into a plugin's log.
    fn log(&self, plugin: &PluginName, level: Level, message: &str);
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
        "the library {what} when it was opened in a process of its own, so the core does not open \
         it; look at what its constructors and statics do"
    )]
    Crashed {
        /// What happened: the signal, the exit code or the deadline.
        what: String,
    },
    /// The library is not what a core can load; the probe's words.
    #[error("{0}")]
    Unfit(String),
    /// The copy that is opened could not be made.
    #[error("`{path}` cannot be copied to be opened")]
    Copy {
        /// The library.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No thread can be started for the plugin's constructor.
    #[error("no thread can be started for its `new`")]
    Thread(#[source] std::io::Error),
    /// The plugin's constructor does not come back.
    #[error("its `new` has not returned within {0:?}; its code stays loaded, but is not used")]
    Stuck(Duration),
    /// The plugin's constructor failed or panicked.
    #[error("{0}")]
    Open(Failure),
}

/// How long a library may take to be tried out.
pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(20);

/// Makes the offers of a generation, in the order of its description.
pub(crate) fn offers(opened: &Opened) -> Vec<Offer<Target>> {
    let skills = opened.description.skills.iter().zip(0_u32..);
    skills
        .map(|(skill, index)| Offer {
            name: skill.name.clone(),
            doc: skill.doc.clone(),
            id: skill.signature.id(),
            signature: skill.signature.clone(),
            target: Target::Library {
                entry: opened.generation.entry(index),
                generation: Arc::clone(&opened.generation),
                index,
            },
        })
        .collect()
}
