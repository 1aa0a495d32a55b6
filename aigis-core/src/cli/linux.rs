//! What only Linux has: waiting for the end of a process that is no child.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

/// A process, held by a descriptor that no later process of the same number can take over.
pub(super) struct WatchedProcess {
    descriptor: OwnedFd,
}

impl WatchedProcess {
    /// Watches the process `pid`.
    ///
    /// # Errors
    /// There is no such process, or the system has no such descriptors.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            descriptor: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
        })
    }

    /// Waits until the process has ended, at most `timeout`; says whether it has.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            // A time too long to be said is as good as none.
            let left = Timespec::try_from(left).ok();
            let mut watched = [PollFd::new(&self.descriptor, PollFlags::IN)];
            match rustix::event::poll(&mut watched, left.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
