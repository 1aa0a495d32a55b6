//! What the tests share: homes, plugins written on the spot, running cores.

pub(crate) mod core;
pub(crate) mod git_server;
pub(crate) mod home;
pub(crate) mod plugins;
pub(crate) mod python;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use aigis_core::host::ProcessStatus;
use aigis_core::{Host, PluginStatus, State};

/// How long anything may take before a test gives up: machines that run tests are slow and busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(240);

/// Waits until `look` finds something; for what no event tells of, such as a process that is gone.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the run if the test is not over in time: a call that never returns cannot be given up.
pub(crate) struct Deadline {
    _over: mpsc::Sender<()>,
}

impl Deadline {
    /// Begins to count for the test of this thread, which may take `more` than others.
    pub(crate) fn begin(more: Duration) -> Self {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let (over, ends) = mpsc::channel();
        std::thread::spawn(move || {
            let limit = DEADLINE * 2 + more;
            if ends.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{name} hangs: it is not over after {limit:?}");
                std::process::abort();
            }
        });
        Self { _over: over }
    }
}

/// Tells whether a process is there and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()))
        .is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Returns the processes of a plugin without what they use, which is never the same twice.
pub(crate) fn unmeasured(status: &PluginStatus) -> Vec<ProcessStatus> {
    let processes = status.processes.iter().cloned();
    let bare = processes.map(|process| ProcessStatus {
        cpu_ms: None,
        cpu_percent: None,
        memory_bytes: None,
        tree: None,
        ..process
    });
    bare.collect()
}

/// Waits until a plugin has come to a state; for those that come and go by themselves.
pub(crate) fn reaches(host: &Host, name: &str, state: State) -> PluginStatus {
    eventually(&format!("`{name}` to be {state}"), || {
        let found = host.status().into_iter().find(|status| status.name == name);
        found.filter(|status| status.state == state)
    })
}
