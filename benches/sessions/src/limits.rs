//! What a process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use session_peers::Failed;

/// Allows as many open files as this process may allow itself: a thousand sessions need more than is usual.
pub(crate) fn raise_open_files() -> Result<(), Failed> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}
