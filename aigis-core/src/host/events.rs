//! The host's logs, and what it tells whoever watches it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::{State, lock};
use crate::home::Home;
use crate::logging::{Level, LogError, LogFile, Rotation};
use crate::source::Progress;

/// What happens in a host, as it happens.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A record was written to the core's log, or to that of a plugin.
    Log {
        /// The plugin; none for the core's own log.
        plugin: Option<&'a str>,
        /// How much it matters.
        level: Level,
        /// What it says.
        message: &'a str,
    },
    /// A program that prepares a plugin (cargo, a requirements command) printed a line.
    Output {
        /// The plugin.
        plugin: &'a str,
        /// The line as it was printed.
        line: &'a str,
    },
    /// A source is being fetched.
    Fetch {
        /// The plugin.
        plugin: &'a str,
        /// How far it is.
        progress: Progress,
    },
    /// A plugin is being built.
    Build {
        /// The plugin.
        plugin: &'a str,
        /// The packages that are done.
        done: usize,
        /// The packages that there may be.
        total: Option<usize>,
    },
    /// A plugin has come to another state.
    State {
        /// The plugin.
        plugin: &'a str,
        /// The new state.
        state: State,
    },
}

/// Watches a host.
///
/// Called on whichever thread the event happens, often in the middle of an operation: it must not
/// block for long and must not call the host back, which may be waiting for it.
pub trait Observer: Send + Sync {
    /// Takes notice of an event.
    fn event(&self, event: &Event<'_>);
}

/// The log files of one host.
pub(crate) struct Logs {
    home: Home,
    threshold: Level,
    observer: Option<Arc<dyn Observer>>,
    core: Mutex<LogFile>,
    plugins: Mutex<HashMap<String, Arc<Mutex<LogFile>>>>,
}

impl Logs {
    pub(crate) fn open(
        home: &Home,
        threshold: Level,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, LogError> {
        Ok(Self {
            home: home.clone(),
            threshold,
            observer,
            core: Mutex::new(LogFile::open(home.core_log(), Rotation::default())?),
            plugins: Mutex::default(),
        })
    }

    /// Tells whether records of this level are kept.
    pub(crate) fn keeps(&self, level: Level) -> bool {
        level >= self.threshold
    }

    pub(crate) fn notify(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            // What an observer does wrong is no reason for a plugin not to be loaded.
            let _ = catch_unwind(AssertUnwindSafe(|| observer.event(event)));
        }
    }

    /// Writes into the core's log.
    pub(crate) fn core(&self, level: Level, message: impl AsRef<str>) {
        let message = message.as_ref();
        if !self.keeps(level) {
            return;
        }
        lock(&self.core).write(Timestamp::now(), level, message);
        trace(None, level, message);
        let plugin = None;
        self.notify(&Event::Log {
            plugin,
            level,
            message,
        });
    }

    /// Writes into a plugin's log.
    pub(crate) fn plugin(&self, plugin: &str, level: Level, message: impl AsRef<str>) {
        let message = message.as_ref();
        if !self.keeps(level) {
            return;
        }
        match self.file_of(plugin) {
            Ok(file) => lock(&file).write(Timestamp::now(), level, message),
            // What a plugin says must not be lost for the want of its own file.
            Err(error) => self.core(Level::Error, format!("{plugin}: {message} ({error})")),
        }
        trace(Some(plugin), level, message);
        self.notify(&Event::Log {
            plugin: Some(plugin),
            level,
            message,
        });
    }

    /// Writes what a preparing program printed into a plugin's log.
    pub(crate) fn output(&self, plugin: &str, line: &str) {
        if let Ok(file) = self.file_of(plugin) {
            lock(&file).write(Timestamp::now(), Level::Info, line);
        }
        self.notify(&Event::Output { plugin, line });
    }

    fn file_of(&self, plugin: &str) -> Result<Arc<Mutex<LogFile>>, LogError> {
        let mut files = lock(&self.plugins);
        if let Some(file) = files.get(plugin) {
            return Ok(Arc::clone(file));
        }
        let file = LogFile::open(self.home.plugin_log(plugin), Rotation::default())?;
        let file = Arc::new(Mutex::new(file));
        files.insert(plugin.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

/// Hands a record to the embedder's own `tracing` subscriber, if there is one.
fn trace(plugin: Option<&str>, level: Level, message: &str) {
    match level {
        Level::Trace => tracing::trace!(target: "aigis", plugin, "{message}"),
        Level::Debug => tracing::debug!(target: "aigis", plugin, "{message}"),
        Level::Warn => tracing::warn!(target: "aigis", plugin, "{message}"),
        Level::Error => tracing::error!(target: "aigis", plugin, "{message}"),
        _ => tracing::info!(target: "aigis", plugin, "{message}"),
    }
}
