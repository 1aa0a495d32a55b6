//! Names and ages of a log file's backups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::config::LogOptions;

/// What the name of a compressed backup ends with.
pub(super) const COMPRESSED: &str = ".gz";

/// When a log file is set aside and how long its backups are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// Whether a new file begins at local midnight.
    pub daily: bool,
    /// The size at which a new file begins within a day, in bytes.
    pub max_bytes: Option<u64>,
    /// How many days before today keep their backups.
    pub keep: u32,
    /// Whether backups are compressed, by the core in the background.
    pub compress: bool,
}

impl Default for Rotation {
    /// A new file each day, of any size, three days kept and compressed.
    fn default() -> Self {
        Rotation {
            daily: true,
            max_bytes: None,
            keep: 3,
            compress: true,
        }
    }
}

impl From<&LogOptions> for Rotation {
    fn from(options: &LogOptions) -> Self {
        Rotation {
            daily: options.daily,
            max_bytes: options.max_size,
            keep: options.keep,
            compress: options.compress,
        }
    }
}

/// A backup of a log file: `<file>.<date>` or, when a day was split, `<file>.<date>.<number>`; with
/// `.gz` once it is compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backup {
    pub(super) path: PathBuf,
    pub(super) date: Date,
    pub(super) number: u32,
    pub(super) compressed: bool,
}

impl Backup {
    /// Returns what sorts backups from the oldest to the newest: a day ends with the plain name.
    pub(super) fn age(&self) -> (Date, u32) {
        (self.date, self.number.wrapping_sub(1))
    }
}

/// Returns the name that `path`, which holds the records of `date`, is set aside under.
///
/// What a day ends with has the plain name, what was split off earlier is numbered from 1.
pub(super) fn backup_name(path: &Path, date: Date, within_day: bool) -> io::Result<PathBuf> {
    let mut numbers: Vec<u32> = backups(path)?
        .into_iter()
        .filter(|backup| backup.date == date)
        .map(|backup| backup.number)
        .collect();
    numbers.sort_unstable();
    if !within_day && numbers.first() != Some(&0) {
        return Ok(with_suffix(path, &date.to_string()));
    }
    let last = numbers.last().copied().unwrap_or(0);
    Ok(with_suffix(path, &format!("{date}.{}", last + 1)))
}

/// Removes the backups of all but the newest `keep` days before `today`.
pub(super) fn prune(path: &Path, today: Date, keep: u32) -> io::Result<()> {
    let old: Vec<Backup> = backups(path)?
        .into_iter()
        .filter(|backup| backup.date < today)
        .collect();
    let mut dates: Vec<Date> = old.iter().map(|backup| backup.date).collect();
    dates.sort_unstable();
    dates.dedup();
    let gone = dates.len().saturating_sub(keep as usize);
    let Some(last_gone) = gone.checked_sub(1).map(|at| dates[at]) else {
        return Ok(());
    };
    for backup in old.iter().filter(|backup| backup.date <= last_gone) {
        match fs::remove_file(&backup.path) {
            // It has just been compressed; its time comes with the next rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Finds the backups of a log file, in no order.
pub(super) fn backups(path: &Path) -> io::Result<Vec<Backup>> {
    let Some(name) = path.file_name() else {
        return Ok(Vec::new());
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let entry_name = entry.file_name();
        let suffix = entry_name
            .as_encoded_bytes()
            .strip_prefix(name.as_encoded_bytes())
            .and_then(|rest| rest.strip_prefix(b"."))
            .and_then(|rest| std::str::from_utf8(rest).ok());
        if let Some((date, number, compressed)) = suffix.and_then(parse_suffix) {
            found.push(Backup {
                path: entry.path(),
                date,
                number,
                compressed,
            });
        }
    }
    Ok(found)
}

/// Splits the name of a backup, `x.log.2026-11-21.1.gz`, into that of its log file and what tells it
/// from others.
pub(super) fn split_name(name: &str) -> Option<(&str, (Date, u32, bool))> {
    let dots = name.match_indices('.').map(|(at, _)| at);
    dots.into_iter()
        .find_map(|at| Some((&name[..at], parse_suffix(&name[at + 1..])?)))
}

fn parse_suffix(suffix: &str) -> Option<(Date, u32, bool)> {
    let (suffix, compressed) = match suffix.strip_suffix(COMPRESSED) {
        Some(suffix) => (suffix, true),
        None => (suffix, false),
    };
    let (date, number) = match suffix.split_once('.') {
        Some((date, number)) => (date, number.parse().ok()?),
        None => (suffix, 0),
    };
    // A date has other spellings; only ours names a backup.
    let parsed: Date = date.parse().ok()?;
    (parsed.to_string() == date).then_some((parsed, number, compressed))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}
