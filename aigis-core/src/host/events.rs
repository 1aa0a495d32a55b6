//! The host's logs, and what it tells whoever watches it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use aigis_plugin_api::Value;
use jiff::Timestamp;

use super::{State, lock};
use crate::home::Home;
use crate::logging::spans::Around;
use crate::logging::twin::{self, AsText, Record};
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

    /// Returns the least level that is kept.
    pub(crate) fn threshold(&self) -> Level {
        self.threshold
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
        let record = Record::plain(level, message.as_ref());
        self.write(None, &Around::Current, &record);
    }

    /// Writes into a plugin's log.
    pub(crate) fn plugin(&self, plugin: &str, level: Level, message: impl AsRef<str>) {
        let record = Record::plain(level, message.as_ref());
        self.write(Some(plugin), &Around::Current, &record);
    }

    /// Writes what a plugin says into its log.
    pub(crate) fn record(&self, plugin: &str, around: &Around, record: &Record<'_>) {
        self.write(Some(plugin), around, record);
    }

    fn write(&self, plugin: Option<&str>, around: &Around, record: &Record<'_>) {
        let level = record.level;
        if !self.keeps(level) {
            return;
        }
        let message = &*text_of(plugin, around, record);
        let file = plugin.map(|plugin| (plugin, self.file_of(plugin)));
        match file {
            None => lock(&self.core).write(Timestamp::now(), level, message),
            Some((_, Ok(file))) => lock(&file).write(Timestamp::now(), level, message),
            // What a plugin says must not be lost for the want of its own file.
            Some((plugin, Err(error))) => {
                self.core(Level::Error, format!("{plugin}: {message} ({error})"));
            }
        }
        twin::write(plugin, around, record);
        self.notify(&Event::Log {
            plugin,
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

/// Writes a record as people read it: target, message, fields with those of the spans around it, and
/// the names of these.
fn text_of<'a>(plugin: Option<&str>, around: &Around, record: &Record<'a>) -> Cow<'a, str> {
    let span = around.span();
    if span.is_none() && record.target.is_empty() && record.fields.is_empty() {
        return Cow::Borrowed(record.message);
    }
    let mut text = String::new();
    if !record.target.is_empty() {
        text.push_str(record.target);
        text.push_str(": ");
    }
    text.push_str(record.message);
    let mut fields = record.fields.to_vec();
    if let Some(span) = span {
        span.add_fields(&mut fields);
        let names = span.names(plugin);
        fields.push((Value::from("span"), Value::from(names.as_str())));
    }
    if !fields.is_empty() {
        // Writing into a `String` cannot fail.
        let _ = write!(text, " {}", AsText(&fields));
    }
    Cow::Owned(text)
}
