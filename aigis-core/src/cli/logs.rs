//! `aigis logs`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use super::context::Context;
use super::error::{CliError, Exit};
use crate::config::{Config, PluginName};
use crate::home::Home;
use crate::logging::{CONTINUATION, Entry, Follow, History, Level, LogError, last};
use crate::registry::nearest;

/// How many entries are shown unless somebody says otherwise.
const COUNT: usize = 5;

/// How often a followed log is looked at; it serves people's eyes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// At most so many lines of one log are taken before the others have their turn.
const TURN: usize = 10_000;

/// What is gathered before it is written.
const WRITE_BYTES: usize = 64 * 1024;

/// The colours of names, of those that are readable on dark and on light.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Show the last entries of logs, merged by time; works without a running core
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    /// The plugins, `core` for the core's own log; without any, the core's
    names: Vec<String>,
    /// Show this many entries; 5, or all with `--since`
    #[arg(short = 'n', long = "lines", value_name = "N")]
    count: Option<usize>,
    /// Go on with what is logged from now on
    #[arg(short, long)]
    follow: bool,
    /// Begin at a time, also in backups: `10m` ago, `08:30`, `2026-11-21`, `2026-11-21 08:30` or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Show only entries that a regular expression is found in
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    grep: Option<Regex>,
    /// Show only entries of this level and above: trace, debug, info, warning, error
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    level: Option<Level>,
    /// Show each entry as a JSON object, one a line
    #[arg(long)]
    json: bool,
}

/// One log that is shown.
struct Log {
    name: String,
    path: PathBuf,
}

pub(super) fn run(args: &LogsArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let home = ctx.places()?;
    let mut logs: Vec<Log> = Vec::new();
    for name in &args.names {
        if !logs.iter().any(|log| log.name == *name) {
            logs.push(log_of(&home, name)?);
        }
    }
    if logs.is_empty() {
        logs.push(log_of(&home, "core")?);
    }
    let mut view = View::new(args, &logs, ctx);
    match args.follow {
        true => follow(args, &logs, &mut view, ctx),
        false => show(args, &logs, &mut view, ctx),
    }
}

fn log_of(home: &Home, name: &str) -> Result<Log, CliError> {
    let path = match name {
        // `core` is no plugin's name.
        "core" => home.core_log(),
        name => plugin_log(home, name)?,
    };
    Ok(Log {
        name: name.to_owned(),
        path,
    })
}

fn plugin_log(home: &Home, name: &str) -> Result<PathBuf, CliError> {
    let mut known = configured(home);
    // Only a checked name becomes part of a path.
    if name.parse::<PluginName>().is_ok() {
        let path = home.plugin_log(name);
        if path.exists() || known.iter().any(|known| known == name) {
            return Ok(path);
        }
    }
    known.extend(logged(&home.plugin_logs()));
    known.push("core".to_owned());
    known.sort();
    known.dedup();
    Err(CliError::UnknownPlugin {
        name: name.to_owned(),
        nearest: nearest(name, known.iter().map(String::as_str)),
    })
}

/// Shows what is there.
fn show(
    args: &LogsArgs,
    logs: &[Log],
    view: &mut View<'_>,
    ctx: &mut Context,
) -> Result<Exit, CliError> {
    let mut parts = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        let part = match args.since {
            Some(since) => History::new(&log.path, Some(since)).map(Part::of_history),
            None => view
                .last(|count, wanted| last(&log.path, count, wanted))
                .map(Part::of_entries),
        };
        match part {
            Ok(part) => parts.push((number, part)),
            // A plugin that has not logged yet is no mistake.
            Err(error @ LogError::Missing { .. }) => ctx.tell(&format!("warning: {error}")),
            Err(error) => return Err(CliError::Log(error)),
        }
    }
    view.merge(parts, ctx)?;
    view.flush(ctx)?;
    Ok(Exit::Ok)
}

/// Shows what is there, and goes on.
fn follow(
    args: &LogsArgs,
    logs: &[Log],
    view: &mut View<'_>,
    ctx: &mut Context,
) -> Result<Exit, CliError> {
    let mut followed: Vec<Option<Follow>> = Vec::new();
    let mut parts = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        let follow = match Follow::new(&log.path, 0) {
            Ok(follow) => follow,
            Err(error @ LogError::Missing { .. }) => {
                // It is taken from its first line when it comes.
                ctx.tell(&format!("warning: {error}"));
                followed.push(None);
                continue;
            }
            Err(error) => return Err(CliError::Log(error)),
        };
        let part = match args.since {
            Some(since) => follow.history(Some(since)).map(Part::of_history),
            None => view
                .last(|count, wanted| follow.latest(count, wanted))
                .map(Part::of_entries),
        };
        parts.push((number, part.map_err(CliError::Log)?));
        followed.push(Some(follow));
    }
    view.merge(parts, ctx)?;
    // Whether the entry was shown that lines of its own may follow.
    let mut shown = vec![true; logs.len()];
    loop {
        view.flush(ctx)?;
        let mut new = Vec::new();
        for (number, (log, followed)) in logs.iter().zip(&mut followed).enumerate() {
            if followed.is_none() {
                *followed = match Follow::from_start(&log.path) {
                    Ok(follow) => Some(follow),
                    Err(LogError::Missing { .. }) => None,
                    Err(error) => return Err(CliError::Log(error)),
                };
            }
            let Some(follow) = followed else { continue };
            let mut own: Vec<Entry> = Vec::new();
            for _ in 0..TURN {
                let Some(line) = follow.poll().map_err(CliError::Log)? else {
                    break;
                };
                match own.last_mut() {
                    Some(entry) if line.starts_with(CONTINUATION) => entry.extend(&line),
                    _ => own.push(Entry::read_in(line, &view.zone)),
                }
            }
            let mut time = None;
            for entry in own {
                // What has no time stays where it is.
                time = entry.time().or(time);
                new.push((time, number, entry));
            }
        }
        if new.is_empty() {
            thread::sleep(LOOK_EVERY);
            continue;
        }
        // What came in the same moment is in the order of its time.
        new.sort_by_key(|(time, ..)| *time);
        for (_, number, entry) in new {
            if !entry.as_str().starts_with(CONTINUATION) {
                shown[number] = view.wants(&entry);
            }
            if shown[number] {
                view.write(number, &entry, ctx)?;
            }
        }
    }
}

/// The entries of one log, with a look at the next one.
struct Part {
    entries: Box<dyn Iterator<Item = Result<Entry, LogError>>>,
    next: Option<Entry>,
    /// Where it belongs among those of other logs.
    time: Option<Timestamp>,
}

impl Part {
    fn of_history(history: History) -> Self {
        Self {
            entries: Box::new(history),
            next: None,
            time: None,
        }
    }

    fn of_entries(entries: Vec<Entry>) -> Self {
        Self {
            entries: Box::new(entries.into_iter().map(Ok)),
            next: None,
            time: None,
        }
    }

    fn advance(&mut self) -> Result<Option<Entry>, CliError> {
        let next = self.entries.next().transpose().map_err(CliError::Log)?;
        self.time = next.as_ref().and_then(Entry::time).or(self.time);
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// What is shown of entries, and how.
struct View<'a> {
    args: &'a LogsArgs,
    zone: TimeZone,
    /// What stands in front of each line of a log; nothing if it is the only one.
    fronts: Vec<String>,
    names: Vec<String>,
    text: String,
}

impl<'a> View<'a> {
    fn new(args: &'a LogsArgs, logs: &[Log], ctx: &Context) -> Self {
        let width = logs.iter().map(|log| log.name.len()).max().unwrap_or(0);
        let colourful =
            ctx.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        let front = |(number, log): (usize, &Log)| {
            let name = &log.name;
            match (logs.len(), colourful) {
                (1, _) => String::new(),
                (_, false) => format!("{name:width$} | "),
                (_, true) => {
                    let colour = COLOURS[number % COLOURS.len()];
                    format!("\x1b[{colour}m{name:width$} |\x1b[0m ")
                }
            }
        };
        Self {
            args,
            zone: TimeZone::system(),
            fronts: logs.iter().enumerate().map(front).collect(),
            names: logs.iter().map(|log| log.name.clone()).collect(),
            text: String::new(),
        }
    }

    /// Says whether an entry is to be shown.
    fn wants(&self, entry: &Entry) -> bool {
        let level = entry.level().unwrap_or(Level::Info);
        let is_level = self.args.level.is_none_or(|least| level >= least);
        is_level
            && self
                .args
                .grep
                .as_ref()
                .is_none_or(|grep| grep.is_match(&entry.to_text(&self.zone)))
    }

    /// Asks for the last entries that are to be shown.
    fn last(
        &self,
        ask: impl FnOnce(usize, Option<&dyn Fn(&Entry) -> bool>) -> Result<Vec<Entry>, LogError>,
    ) -> Result<Vec<Entry>, LogError> {
        let count = self.args.count.unwrap_or(COUNT);
        let wants = |entry: &Entry| self.wants(entry);
        let is_choosy = self.args.level.is_some() || self.args.grep.is_some();
        ask(
            count,
            is_choosy.then_some(&wants as &dyn Fn(&Entry) -> bool),
        )
    }

    /// Shows the entries of several logs in the order of their times.
    fn merge(&mut self, parts: Vec<(usize, Part)>, ctx: &mut Context) -> Result<(), CliError> {
        let mut parts = parts;
        for (_, part) in &mut parts {
            part.advance()?;
        }
        // With `--since` all are, unless there is a number.
        let limit = match (self.args.count, self.args.since) {
            (None, Some(_)) => usize::MAX,
            (count, _) => count.unwrap_or(COUNT),
        };
        let mut last = VecDeque::new();
        loop {
            let waiting = parts.iter_mut().filter(|(_, part)| part.next.is_some());
            let Some((number, first)) = waiting.min_by_key(|(_, part)| part.time) else {
                break;
            };
            let Some(entry) = first.advance()? else {
                break;
            };
            if !self.wants(&entry) {
                continue;
            }
            if limit == usize::MAX {
                self.write(*number, &entry, ctx)?;
                continue;
            }
            last.push_back((*number, entry));
            if last.len() > limit {
                last.pop_front();
            }
        }
        for (number, entry) in last {
            self.write(number, &entry, ctx)?;
        }
        Ok(())
    }

    fn write(&mut self, number: usize, entry: &Entry, ctx: &mut Context) -> Result<(), CliError> {
        if self.args.json {
            let object = entry.to_json(&self.names[number]);
            self.text.push_str(&object.to_string());
            self.text.push('\n');
        } else {
            for line in entry.to_text(&self.zone).split('\n') {
                self.text.push_str(&self.fronts[number]);
                self.text.push_str(line);
                self.text.push('\n');
            }
        }
        match self.text.len() > WRITE_BYTES {
            true => self.flush(ctx),
            false => Ok(()),
        }
    }

    fn flush(&mut self, ctx: &mut Context) -> Result<(), CliError> {
        if self.text.is_empty() {
            return Ok(());
        }
        ctx.write(&std::mem::take(&mut self.text))
    }
}

/// Returns the plugins that the home's own config lists; none when it cannot be read.
fn configured(home: &Home) -> Vec<String> {
    match Config::load(&home.config_file()) {
        Ok(config) => config
            .plugins
            .iter()
            .map(|entry| entry.name.to_string())
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Returns the plugins that have a log.
fn logged(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".log").map(str::to_owned)
        })
        .collect()
}

/// Reads a level, of which `warn` and `err` are other names as well.
fn level(text: &str) -> Result<Level, LogError> {
    match text {
        "err" => Ok(Level::Error),
        text => text.parse(),
    }
}

/// Reads a time: so long ago, or a time of this day or any other.
fn time(text: &str) -> Result<Timestamp, String> {
    time_from(text, Timestamp::now(), &TimeZone::system()).ok_or_else(|| {
        "expected how long ago (`90s`, `10m`, `2h`, `3d`) or a time (`08:30`, `2026-11-21`, `2026-11-21 08:30`, \
         `2026-11-21T08:30:00Z`)"
            .to_owned()
    })
}

fn time_from(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Some(seconds) = ago(text) {
        return now
            .checked_sub(SignedDuration::try_from_secs_f64(seconds).ok()?)
            .ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    // A number alone could be anything.
    let local = match text.contains('-') {
        true => text.parse::<DateTime>().ok()?,
        false if text.contains(':') => {
            let time = text.parse::<Time>().ok()?;
            zone.to_datetime(now).date().to_datetime(time)
        }
        false => return None,
    };
    zone.to_timestamp(local).ok()
}

fn ago(text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number = number.parse::<f64>().ok()?;
    (number >= 0.0).then_some(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let check = |text: &str, expected: Option<&str>| {
            let expected = expected.map(|time| time.parse::<Timestamp>().expect("a time"));
            assert_eq!(time_from(text, now, &TimeZone::UTC), expected, "{text}");
        };
        check("10m", Some("2026-11-21T11:50:00Z"));
        check("1.5h", Some("2026-11-21T10:30:00Z"));
        check("2d", Some("2026-11-19T12:00:00Z"));
        check("08:30", Some("2026-11-21T08:30:00Z"));
        check("2026-11-20", Some("2026-11-20T00:00:00Z"));
        check("2026-11-20 08:30", Some("2026-11-20T08:30:00Z"));
        check("2026-11-20T08:30:00+01:00", Some("2026-11-20T07:30:00Z"));
        for wrong in [
            "", "m", "-1m", "10", "10x", "soon", "1e300d", "nanm", "25:00",
        ] {
            check(wrong, None);
        }
    }
}
