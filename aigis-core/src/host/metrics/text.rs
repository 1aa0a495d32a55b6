//! The text format of Prometheus, version 0.0.4.

use std::fmt::{self, Display, Write as _};

/// What a page of this format is called.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up alone, until the core is started anew.
    Counter,
    /// Counts by size.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// A page as it is written: metric by metric, each with all its samples.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    metric: &'static str,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    /// Begins a metric.
    pub(super) fn metric(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        self.metric = name;
        let help = Escaped {
            text: help,
            quoted: false,
        };
        self.write(format_args!("# HELP {name} {help}\n"));
        self.write(format_args!("# TYPE {name} {}\n", kind.as_str()));
        self
    }

    /// Adds a sample of the metric.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.part("", labels, value)
    }

    /// Adds a part of a histogram's sample.
    pub(super) fn part(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        value: impl Display,
    ) -> &mut Self {
        let metric = self.metric;
        self.write(format_args!("{metric}{suffix}"));
        for (place, (name, value)) in labels.iter().enumerate() {
            let opens = if place == 0 { '{' } else { ',' };
            let value = Escaped {
                text: value,
                quoted: true,
            };
            self.write(format_args!("{opens}{name}=\"{value}\""));
        }
        let closes = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{closes} {value}\n"));
        self
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn write(&mut self, what: fmt::Arguments<'_>) {
        // Writing into a text cannot fail.
        let _ = self.text.write_fmt(what);
    }
}

struct Escaped<'t> {
    text: &'t str,
    quoted: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.quoted => f.write_str("\\\"")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
