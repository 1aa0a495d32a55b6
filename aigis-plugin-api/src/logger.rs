//! The log of a plugin, as its code writes it.

use std::fmt::{self, Display};

use crate::abi::{CURRENT_SPAN, HostApi, LogRecord};

/// How much an event matters.
///
/// ```
/// use aigis_plugin_api::LogLevel;
///
/// assert!(LogLevel::Warn > LogLevel::Info);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For finding faults.
    Debug,
    /// What happens in the normal course of things.
    Info,
    /// Something is not as it should be, but work goes on.
    Warn,
    /// Something has failed.
    Error,
}

impl LogLevel {
    /// Returns the name in capitals.
    ///
    /// ```
    /// assert_eq!(aigis_plugin_api::LogLevel::Info.name(), "INFO");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// Writes into the plugin's own log. It can be cloned and moved to other threads.
///
/// A skill gets one through a parameter `logger: &Logger`; events of the crates `tracing` and
/// `log` reach the same file. Spans of `tracing` are around whatever is written in them, also by
/// other core plugins that are called in them: each line ends with `span=outer:inner` and the spans'
/// fields, and a span of another plugin is shown as `plugin/span`.
///
/// ```
/// use aigis_plugin_api::{Logger, skills};
///
/// #[skills]
/// pub mod kitchen {
///     use super::*;
///
///     /// Cooks `dish`.
///     pub fn cook(logger: &Logger, dish: &str) -> usize {
///         logger.info(format_args!("cooking {dish}"));
///         dish.len()
///     }
/// }
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Logger {
    sink: Sink,
}

#[derive(Clone, Copy)]
enum Sink {
    /// The core that this library is loaded into.
    Host(&'static HostApi),
    /// The standard error output, which the core captures for processes.
    Stderr,
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger").finish_non_exhaustive()
    }
}

impl Logger {
    pub(crate) fn to_host(host: &'static HostApi) -> Self {
        Self {
            sink: Sink::Host(host),
        }
    }

    pub(crate) fn to_stderr() -> Self {
        Self { sink: Sink::Stderr }
    }

    /// Writes an event.
    ///
    /// ```
    /// # use aigis_plugin_api::{LogLevel, Logger};
    /// fn note(logger: &Logger, level: LogLevel) {
    ///     logger.log(level, "noted");
    /// }
    /// ```
    pub fn log(&self, level: LogLevel, message: impl Display) {
        match self.sink {
            Sink::Host(host) if host.is_enabled(level as u8) => host.write_log(LogRecord {
                level: level as u8,
                target: "".into(),
                message: message.to_string().as_str().into(),
                fields: [].as_slice().into(),
                span: CURRENT_SPAN,
                file: "".into(),
                line: 0,
            }),
            Sink::Host(_) => {}
            Sink::Stderr => eprintln!("{} {message}", level.name()),
        }
    }

    /// Writes an event that only finds faults.
    ///
    /// ```
    /// # fn f(logger: &aigis_plugin_api::Logger) {
    /// logger.debug("the cache is empty");
    /// # }
    /// ```
    pub fn debug(&self, message: impl Display) {
        self.log(LogLevel::Debug, message);
    }

    /// Writes what happens in the normal course of things.
    ///
    /// ```
    /// # fn f(logger: &aigis_plugin_api::Logger) {
    /// logger.info("ready");
    /// # }
    /// ```
    pub fn info(&self, message: impl Display) {
        self.log(LogLevel::Info, message);
    }

    /// Writes that something is not as it should be.
    ///
    /// ```
    /// # fn f(logger: &aigis_plugin_api::Logger) {
    /// logger.warn("the disk is nearly full");
    /// # }
    /// ```
    pub fn warn(&self, message: impl Display) {
        self.log(LogLevel::Warn, message);
    }

    /// Writes that something has failed.
    ///
    /// ```
    /// # fn f(logger: &aigis_plugin_api::Logger) {
    /// logger.error("the disk is full");
    /// # }
    /// ```
    pub fn error(&self, message: impl Display) {
        self.log(LogLevel::Error, message);
    }
}
