//! The process of an isolated library: loads it, serves its skills over a session, and ends with it.
//!
//! The process is this program again, `aigis __isolate LIBRARY LEVEL [CALL_TIMEOUT]`, launched and
//! supervised as the process of a plugin is. It opens the library through the loader, as the core does,
//! with [services] that go over the session to the core. The core does not call it for anything but the
//! library's skills: what is to be done next it is told in the answers to its own [reports](Report).

mod process;
mod services;

use serde::{Deserialize, Serialize};

use aigis_plugin_api::__private::{Failure, Grant};

pub(crate) use process::isolate_main;

/// The hidden first argument of the program `aigis` that makes it the process of a library.
pub(crate) const ISOLATE_ARGUMENT: &str = "__isolate";

/// The name under which the process reports to its core. It is no skill: the core hears it on the
/// sessions of such processes alone.
pub(super) const REPORT: &str = "aigis.isolated";

/// How far the process is. The answer is the next [`Order`], whenever that comes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The library is loaded, and its constructors have not run.
    Loaded,
    /// Its skills can be called.
    Serving,
    /// What its `save` has returned; nothing if its author wrote none.
    Saved(Option<Vec<u8>>),
    /// Its `save` has failed, or could not begin in time; it serves on.
    Unsaved(Failure),
    /// It cannot be loaded, or its constructors have failed: the process ends.
    Failed(Failure),
}

/// What the process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Run the constructors, with what the version before has saved, and offer the skills.
    Open {
        grant: Grant,
        saved: Option<Vec<u8>>,
        /// How long the constructors may take, in milliseconds.
        limit_ms: u64,
    },
    /// Write the state down for the next version, once no call is inside that its caller has given up;
    /// no other is underway.
    Save {
        /// How long that may take, in milliseconds.
        limit_ms: u64,
    },
    /// End.
    End,
}
