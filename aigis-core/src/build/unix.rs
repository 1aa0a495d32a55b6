//! What only Unix has: process groups, so that cargo ends together with the compilers it
//! started, and the executable bit.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};

/// Makes the process that `command` starts the leader of a new group.
pub(super) fn in_own_group(command: &mut Command) {
    command.process_group(0);
}

/// Kills the group that `leader` leads.
///
/// The leader must not have been waited for: until then its id cannot belong to anyone else.
pub(super) fn kill_group(leader: &Child) {
    // The only failure left is a group that is gone already.
    let _ = kill_process_group(Pid::from_child(leader), Signal::KILL);
}

/// Whether anybody may execute the file.
pub(super) fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}
