//! The host's logs, and what it tells whoever watches it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use aigis_plugin_api::Value;
use jiff::Timestamp;

use super::{State, lock};
use crate::config::LogOptions;
use crate::home::Home;
use crate::logging::redact::Redactor;
use crate::logging::spans::Around;
use crate::logging::twin::{self, AsText, Record};
use crate::logging::{Compressor, Format, Level, LogError, LogFile, Rotation, SecretValue};
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
    /// Another core takes over; this one is about to end.
    HandOver {
        /// Its process id.
        pid: u32,
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
    kept: Mutex<HashMap<String, Kept>>,
    /// None in a process that is not the core's, or where there can be none: then backups stay as they are.
    compressor: Option<Compressor>,
}

/// How the log of a plugin is kept, and what is kept out of it.
#[derive(Default)]
struct Kept {
    options: LogOptions,
    /// All that has been its secret: an old version may still know the old ones.
    secrets: Vec<SecretValue>,
    redactor: Option<Arc<Redactor>>,
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
            kept: Mutex::default(),
            compressor: None,
        })
    }

    /// Compresses the backups of all logs, as the core does for everybody.
    pub(crate) fn compressing(mut self) -> Self {
        self.compressor = Compressor::start().ok();
        self.compress(&self.home.core_log(), true);
        self
    }

    fn compress(&self, log: &Path, compress: bool) {
        if let Some(compressor) = &self.compressor {
            compressor.set(log, compress);
        }
    }

    /// Keeps a plugin's log so from now on, and these values out of it.
    pub(crate) fn keep(&self, plugin: &str, options: &LogOptions, secrets: Vec<SecretValue>) {
        let mut all = lock(&self.kept);
        let kept = all.entry(plugin.to_owned()).or_default();
        let before = kept.secrets.len();
        for secret in secrets {
            if !kept.secrets.contains(&secret) {
                kept.secrets.push(secret);
            }
        }
        if kept.secrets.len() > before {
            kept.redactor = Redactor::new(&kept.secrets).map(Arc::new);
        }
        let changed = kept.options != *options;
        kept.options = options.clone();
        drop(all);
        if changed {
            // It is opened again, in the way that is wanted now.
            lock(&self.plugins).remove(plugin);
        }
        self.compress(&self.home.plugin_log(plugin), options.compress);
    }

    /// Returns what must not stand in a plugin's log.
    pub(crate) fn secrets(&self, plugin: &str) -> Vec<SecretValue> {
        let all = lock(&self.kept);
        all.get(plugin)
            .map_or_else(Vec::new, |kept| kept.secrets.clone())
    }

    fn redactor(&self, plugin: &str) -> Option<Arc<Redactor>> {
        lock(&self.kept).get(plugin)?.redactor.clone()
    }

    /// Returns a text without the values of a plugin's secrets.
    fn redacted<'a>(&self, plugin: Option<&str>, text: Cow<'a, str>) -> Cow<'a, str> {
        let Some(redactor) = plugin.and_then(|plugin| self.redactor(plugin)) else {
            return text;
        };
        match redactor.redact(text.as_bytes()) {
            Cow::Borrowed(_) => text,
            // A value need not be whole characters.
            Cow::Owned(redacted) => String::from_utf8_lossy(&redacted).into_owned().into(),
        }
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
        let message = &*self.redacted(plugin, text_of(plugin, around, record));
        let file = plugin.map(|plugin| (plugin, self.file_of(plugin)));
        match file {
            None => lock(&self.core).write(Timestamp::now(), level, message),
            Some((_, Ok(file))) => lock(&file).write(Timestamp::now(), level, message),
            // What a plugin says must not be lost for the want of its own file.
            Some((plugin, Err(error))) => {
                self.core(Level::Error, format!("{plugin}: {message} ({error})"));
            }
        }
        match self.redacted(plugin, record.message.into()) {
            Cow::Borrowed(_) => twin::write(plugin, around, record),
            Cow::Owned(message) => {
                let message = &*message;
                twin::write(plugin, around, &Record { message, ..*record });
            }
        }
        self.notify(&Event::Log {
            plugin,
            level,
            message,
        });
    }

    /// Writes what a preparing program printed into a plugin's log.
    pub(crate) fn output(&self, plugin: &str, line: &str) {
        let line = &*self.redacted(Some(plugin), line.into());
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
        let (rotation, format) = match lock(&self.kept).get(plugin) {
            Some(Kept { options, .. }) => (options.into(), Format::of(options)),
            None => (Rotation::default(), Format::default()),
        };
        let file = LogFile::open(self.home.plugin_log(plugin), rotation)?.in_format(format, "");
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn event(&self, event: &Event<'_>) {
            let text = match event {
                Event::Log { message, .. } => *message,
                Event::Output { line, .. } => line,
                _ => return,
            };
            lock(&self.0).push(text.to_owned());
        }
    }

    #[test]
    fn nothing_that_the_core_writes_for_a_plugin_gives_its_secrets_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::new(folder.path()).expect("a home");
        let heard = Arc::new(Heard::default());
        let logs = Logs::open(&home, Level::Debug, Some(heard.clone())).expect("logs");
        let options = LogOptions {
            json: true,
            ..LogOptions::default()
        };
        for value in ["hunter2hunter2", "correct horse"] {
            let secret = SecretValue {
                name: "key".to_owned(),
                value: value.as_bytes().to_vec(),
            };
            logs.keep("p", &options, vec![secret]);
        }
        // The older one as well.
        logs.plugin("p", Level::Info, "a hunter2hunter2 b");
        logs.output("p", "c correct horse");
        logs.plugin("q", Level::Info, "correct horse of another");
        let expected = [
            "a [secret key] b",
            "c [secret key]",
            "correct horse of another",
        ];
        assert_eq!(*lock(&heard.0), expected);
        let log = fs::read_to_string(home.plugin_log("p")).expect("a log");
        let messages: Vec<serde_json::Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object"))
            .collect();
        assert_eq!(messages[0]["message"], expected[0]);
        assert_eq!(messages[1]["message"], expected[1]);
    }
}
