//! The core as somebody's service: what the manager that has started it is told, and SIGHUP.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;

use super::console::Console;
use crate::host::{Event, Host, Observer, PluginStatus, State};
use crate::notify::Notifier;

/// How many words the manager hears in the time in which it wants to hear one.
const WORDS: u32 = 3;

/// Shows what happens on the console, and has the manager's line of it renewed.
pub(super) struct Watching {
    console: Arc<Console>,
    notifier: Arc<Notifier>,
    changed: SyncSender<()>,
}

impl Observer for Watching {
    fn event(&self, event: &Event<'_>) {
        self.console.event(event);
        if let Event::HandOver { pid } = event {
            self.notifier.main_pid(*pid);
        }
        if matches!(event, Event::State { .. }) {
            // One word is enough for everything that has changed before it is heard.
            match self.changed.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }
}

/// A core that a service manager has started.
pub(super) struct Service {
    notifier: Arc<Notifier>,
    changed: Receiver<()>,
}

impl Service {
    /// Returns what is to observe the host in place of the console.
    pub(super) fn new(notifier: Notifier, console: &Arc<Console>) -> (Self, Arc<Watching>) {
        let (sender, changed) = mpsc::sync_channel(1);
        let notifier = Arc::new(notifier);
        let watching = Watching {
            console: Arc::clone(console),
            notifier: Arc::clone(&notifier),
            changed: sender,
        };
        let service = Self { notifier, changed };
        (service, Arc::new(watching))
    }

    /// Tells the manager from now on how the core is, until the host has shut down.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(self, host: &Host) -> io::Result<Arc<Notifier>> {
        let Self { notifier, changed } = self;
        notifier.main_pid(std::process::id());
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map(drop)
        };
        let (of_end, ending) = (Arc::clone(&notifier), host.clone());
        spawn(
            "aigis-stopping",
            Box::new(move || {
                ending.wait_closing();
                of_end.stopping();
            }),
        )?;
        let (of_ready, coming_up) = (Arc::clone(&notifier), host.clone());
        spawn(
            "aigis-ready",
            Box::new(move || {
                coming_up.settled(None);
                // It returns as well when the host closes.
                if !coming_up.is_closing() {
                    of_ready.ready();
                }
            }),
        )?;
        let (of_words, host) = (Arc::clone(&notifier), host.clone());
        spawn(
            "aigis-watchdog",
            Box::new(move || tell(&of_words, &host, &changed)),
        )?;
        Ok(notifier)
    }
}

/// Says how the plugins are whenever that changes, and in time for the watchdog.
///
/// The core is asked as everybody asks it, by a call of a skill of its own that looks at every plugin. If it hangs, this
/// thread hangs with it, and the manager hears nothing.
fn tell(notifier: &Notifier, host: &Host, changed: &Receiver<()>) {
    let every = notifier.watchdog().map(|time| time / WORDS);
    let mut told = None;
    while !host.is_closed() {
        let statuses = host.call::<Vec<PluginStatus>>("aigis.status", ());
        if let Ok(statuses) = statuses {
            let line = summary(&statuses);
            if told.as_ref() != Some(&line) {
                notifier.status(&line);
            }
            if every.is_some() {
                notifier.alive();
            }
            told = Some(line);
        }
        let heard = match every {
            Some(every) => changed.recv_timeout(every),
            None => changed.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if heard == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Says in one line how the plugins are: `4 plugins: 3 ready, 1 failed (weather)`.
fn summary(statuses: &[PluginStatus]) -> String {
    const ORDER: [State; 10] = [
        State::Ready,
        State::Finished,
        State::Stopped,
        State::Fetching,
        State::Building,
        State::Starting,
        State::Stopping,
        State::Backoff,
        State::Failed,
        State::CrashLoop,
    ];
    let parts: Vec<String> = ORDER
        .into_iter()
        .filter_map(|state| {
            let mut names = Vec::new();
            for status in statuses.iter().filter(|status| status.state == state) {
                names.push(status.name.as_str());
            }
            match (names.len(), state.is_failure()) {
                (0, _) => None,
                (number, false) => Some(format!("{number} {state}")),
                (number, true) => Some(format!("{number} {state} ({})", names.join(", "))),
            }
        })
        .collect();
    match statuses.len() {
        0 => "no plugins".to_owned(),
        1 => format!("1 plugin: {}", parts.join(", ")),
        number => format!("{number} plugins: {}", parts.join(", ")),
    }
}

/// Tells whether SIGHUP asks for the config to be applied: with a terminal it says that the terminal is gone.
pub(super) fn hangup_applies() -> bool {
    File::open("/dev/tty").is_err()
}

/// Applies the config anew, and has the manager know meanwhile.
pub(super) fn apply(host: &Host, notifier: Option<&Notifier>) {
    if let Some(notifier) = notifier {
        notifier.reloading();
    }
    host.hang_up();
    if let Some(notifier) = notifier {
        notifier.reloaded();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PluginKind;

    fn status(name: &str, state: State) -> PluginStatus {
        PluginStatus {
            in_config: true,
            waits_for: Vec::new(),
            name: name.to_owned(),
            kind: PluginKind::External,
            state,
            pid: None,
            restarts: 0,
            generation: 1,
            source: String::new(),
            error: None,
            generations: Vec::new(),
            crash: None,
            slow_calls: Vec::new(),
            overdue_calls: Vec::new(),
            serving: Vec::new(),
            isolated: None,
            processes: Vec::new(),
            cpu_ms: None,
            cpu_percent: None,
            memory_bytes: None,
            tree: None,
            started: None,
            last_exit: None,
        }
    }

    #[test]
    fn one_line_says_how_the_plugins_are() {
        assert_eq!(summary(&[]), "no plugins");
        assert_eq!(summary(&[status("one", State::Ready)]), "1 plugin: 1 ready");
        let all = [
            status("one", State::Failed),
            status("two", State::Ready),
            status("three", State::Building),
            status("four", State::Ready),
            status("five", State::Failed),
        ];
        let line = "5 plugins: 2 ready, 1 building, 2 failed (one, five)";
        assert_eq!(summary(&all), line);
    }
}
