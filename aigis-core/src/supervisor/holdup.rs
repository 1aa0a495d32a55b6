//! Which processes hold a stop up.

use std::time::{Duration, Instant};

use super::ProcessName;
use super::linux;
use super::tree::names;

/// How long after a stop began, and then how often, it is looked who still runs.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks every second who holds a stop up, from a second after it began.
#[derive(Debug, Default)]
pub(super) struct Holdup {
    next: Option<Instant>,
    told: Vec<ProcessName>,
}

impl Holdup {
    /// Returns when there is something to look at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Returns who still runs, if that is due and others than before.
    pub(super) fn look(&mut self, leader: i32, is_stopping: bool) -> Option<Vec<ProcessName>> {
        let now = Instant::now();
        let Some(next) = self.next else {
            self.next = is_stopping.then_some(now + INTERVAL);
            return None;
        };
        if now < next {
            return None;
        }
        self.next = Some(now + INTERVAL);
        let processes = names(linux::descendants(leader));
        if processes == self.told {
            return None;
        }
        self.told.clone_from(&processes);
        Some(processes)
    }
}
