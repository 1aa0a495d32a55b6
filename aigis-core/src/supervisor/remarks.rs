//! What a plugin and its shim say of it while it runs.

use super::ProcessName;
use super::protocol::Event;

/// What a plugin and its shim have said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Whether it is ready by its own word, or why it cannot say so any more; `None` while nothing is known.
    pub ready: Option<Result<(), String>>,
    /// What it says of itself, with `STATUS=`.
    pub status: Option<String>,
    /// The processes that a stop waits for.
    pub waiting: Vec<ProcessName>,
}

impl Remarks {
    /// Takes in what a shim has told. What was said once about readiness stays.
    pub(super) fn note(&mut self, event: Event) {
        match event {
            Event::Ready => self.ready = Some(Ok(())),
            Event::NeverReady { reason } => {
                self.ready.get_or_insert(Err(reason));
            }
            Event::Status { text } => self.status = Some(text).filter(|text| !text.is_empty()),
            Event::Waiting { processes } => self.waiting = processes,
            _ => {}
        }
    }
}
