//! Launches plugins as processes, watches them and stops them, whole trees at a time.
//!
//! Start at [`Supervised::launch`]. Each launched plugin has a process of its own between
//! itself and the core, the shim ([`shim_main`]): it is the plugin's parent, adopts what the
//! plugin leaves behind, holds its pipes and writes what they say into its log. The core
//! and a shim talk over the socket that is the shim's standard input, in the messages of
//! [`protocol`]. When to launch again is decided by [`RestartPolicy`], which does no I/O.
//!
//! What holds:
//! - A process counts as ended when its whole tree is gone, and its exit is what the system
//!   reported for the leader, never what its pipes say.
//! - Nothing is polled: core and shims sleep until the kernel has something to tell. Only
//!   while something is being killed do they look again.
//! - A shim that loses its core goes on alone or stops its tree, as its spec says; the next core finds it by
//!   its record ([`remains`], [`Supervised::adopt`]). With no core a plugin that ends stays ended, and the record says how.
//! - A core that loses a shim kills what is left of the tree and reports [`Exit::ShimLost`].

mod adoption;
pub(crate) mod cgroup;
mod confinement;
mod following;
mod holdup;
mod link;
mod linux;
mod output;
mod plugin;
mod policy;
mod process;
pub mod protocol;
mod readiness;
mod record;
mod remarks;
pub(crate) mod secrets;
mod shim;
mod starter;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod usage;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use adoption::{AdoptError, EndedRecord, Remains, remains};
pub use confinement::{Confinement, Identity};
pub use policy::{Decision, RestartPolicy};
pub(crate) use process::new_invocation;
pub use process::{LaunchError, StopReport, Supervised};
pub use protocol::{Grant, LaunchFailure, LaunchSpec, MAX_GRANT_BYTES, ReadySign, Standing};
pub use record::{Ended, ShimRecord};
pub use remarks::Remarks;
pub use shim::{SHIM_ARGUMENT, shim_main};

/// How a launched plugin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Its shim was killed, and it with the shim; its own status is unknown.
    ShimLost,
}

impl Exit {
    /// Returns whether this is how a plugin ends that has done its work: code 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl Exit {
    /// Says it in a word or two, for a table: `code 3`, `SIGKILL`.
    pub(crate) fn in_short(self) -> String {
        match self {
            Exit::Code(code) => format!("code {code}"),
            Exit::Signal(signal) => match linux::signal_name(signal) {
                Some(name) => name.to_string(),
                None => format!("signal {signal}"),
            },
            Exit::ShimLost => "shim lost".to_owned(),
        }
    }
}

impl fmt::Display for Exit {
    /// Writes `exited with code 3`; a signal is a negative code with its name behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(signal) => match linux::signal_name(signal) {
                Some(name) => write!(f, "exited with code -{signal} (killed by {name})"),
                None => write!(f, "exited with code -{signal} (killed by signal {signal})"),
            },
            Exit::ShimLost => write!(f, "was killed because its shim was"),
        }
    }
}

/// A process as people know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessName {
    /// Its process id.
    pub pid: u32,
    /// Its name as the system shows it, at most 15 characters.
    pub name: String,
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}
