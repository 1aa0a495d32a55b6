//! Records read back: of a log file and of its backups, in order.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::reader::{into_text, last_records, open_if_there, read_error};
use super::rotation::{Backup, COMPRESSED, backups, with_suffix};
use super::{CONTINUATION, Entry, LogError};

/// A search for a time ends when so little is left to read.
const NEAR: u64 = 256 * 1024;

/// The records of a log file and its backups, from the oldest on.
pub struct History {
    log: PathBuf,
    zone: TimeZone,
    since: Option<Timestamp>,
    /// The backups to come, and then the file itself.
    files: VecDeque<Source>,
    current: Option<Box<dyn BufRead + Send>>,
    next: Option<Entry>,
}

enum Source {
    Backup(Backup),
    /// The file itself, up to where it is read.
    Log(File, u64),
}

impl History {
    /// Starts with the records since `since`, or with the first there is.
    ///
    /// # Errors
    ///
    /// Fails with [`LogError::Missing`] if there is neither the file nor a backup, and if it cannot
    /// be read.
    pub fn new(log: impl AsRef<Path>, since: Option<Timestamp>) -> Result<History, LogError> {
        History::until(log.as_ref(), since, None)
    }

    /// Ends where a reader stands that goes on from there: in this file, at this position.
    pub(super) fn until(
        log: &Path,
        since: Option<Timestamp>,
        end: Option<(&Metadata, u64)>,
    ) -> Result<History, LogError> {
        let zone = TimeZone::system();
        let mut files = sources(log, end).map_err(read_error(log))?;
        if files.is_empty() {
            return Err(LogError::Missing { path: log.into() });
        }
        if let Some(since) = since {
            // Whoever wrote it may have lived in another time zone.
            let first = zone.to_datetime(since).date();
            let first = first.checked_sub(1.day()).unwrap_or(Date::MIN);
            files.retain(|file| match file {
                Source::Backup(backup) => backup.date >= first,
                Source::Log(..) => true,
            });
        }
        Ok(History {
            log: log.to_owned(),
            zone,
            since,
            files: files.into(),
            current: None,
            next: None,
        })
    }

    fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        loop {
            let Some(current) = &mut self.current else {
                let Some(source) = self.files.pop_front() else {
                    return Ok(None);
                };
                self.current = source.open(self.since, &self.zone)?;
                continue;
            };
            if current.read_until(b'\n', &mut line)? == 0 {
                self.current = None;
                continue;
            }
            if line.ends_with(b"\n") {
                line.pop();
            }
            return Ok(Some(into_text(line)));
        }
    }

    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let entry = loop {
                match (self.next_line()?, &mut self.next) {
                    (Some(line), Some(entry)) if line.starts_with(CONTINUATION) => {
                        entry.extend(&line)
                    }
                    (Some(line), next) => {
                        let found = Entry::read_in(line, &self.zone);
                        if let Some(entry) = next.replace(found) {
                            break entry;
                        }
                    }
                    (None, next) => match next.take() {
                        Some(entry) => break entry,
                        None => return Ok(None),
                    },
                }
            };
            match (entry.time(), self.since) {
                (Some(time), Some(since)) if time < since => {}
                // What is no record counts with what is around it.
                (None, Some(_))
                    if self
                        .next
                        .as_ref()
                        .is_some_and(|next| next.time() < self.since) => {}
                _ => return Ok(Some(entry)),
            }
        }
    }
}

impl Iterator for History {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().map_err(read_error(&self.log)).transpose()
    }
}

/// Returns the last `count` records of a log, its backups included, that are `wanted`; oldest first.
pub(super) fn last_wanted(
    log: &Path,
    count: usize,
    end: Option<(&Metadata, u64)>,
    wanted: Option<&dyn Fn(&Entry) -> bool>,
) -> Result<Vec<Entry>, LogError> {
    let zone = TimeZone::system();
    let mut files = sources(log, end).map_err(read_error(log))?;
    if files.is_empty() {
        return Err(LogError::Missing { path: log.into() });
    }
    let mut found: VecDeque<Entry> = VecDeque::new();
    while let Some(source) = files.pop()
        && found.len() < count
    {
        let left = count - found.len();
        let mut own = VecDeque::new();
        match source {
            Source::Log(mut file, length) if wanted.is_none() => {
                let records = last_records(&mut file, length, left).map_err(read_error(log))?;
                own.extend(records.into_iter().map(|text| Entry::read_in(text, &zone)));
            }
            source => {
                let history = History {
                    log: log.to_owned(),
                    zone: zone.clone(),
                    since: None,
                    files: VecDeque::from([source]),
                    current: None,
                    next: None,
                };
                for entry in history {
                    let entry = entry?;
                    if wanted.is_none_or(|wanted| wanted(&entry)) {
                        if own.len() == left {
                            own.pop_front();
                        }
                        own.push_back(entry);
                    }
                }
            }
        }
        for entry in own.into_iter().rev() {
            found.push_front(entry);
        }
    }
    Ok(found.into())
}

/// Returns the backups of a log from the oldest on and then the log itself, all up to `end`.
fn sources(log: &Path, end: Option<(&Metadata, u64)>) -> io::Result<Vec<Source>> {
    // First the file, then the backups: what is set aside in between is met twice, but not missed.
    let file = open_if_there(log)?;
    let own = file.as_ref().map(File::metadata).transpose()?;
    let mut found = backups(log).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(error),
    })?;
    found.sort_by_key(Backup::age);
    let mut sources = Vec::new();
    for backup in found {
        let metadata = std::fs::metadata(&backup.path).ok();
        let is = |other: Option<&Metadata>| {
            metadata
                .as_ref()
                .zip(other)
                .is_some_and(|(one, other)| same(one, other))
        };
        if is(own.as_ref()) {
            continue;
        }
        if let Some((at, position)) = end
            && is(Some(at))
        {
            sources.push(Source::Log(File::open(&backup.path)?, position));
            return Ok(sources);
        }
        let is_twin = |other: &Source| match other {
            // It is being compressed: for a moment there are both.
            Source::Backup(other) => other.age() == backup.age(),
            Source::Log(..) => false,
        };
        if !sources.last().is_some_and(is_twin) {
            sources.push(Source::Backup(backup));
        }
    }
    if let Some((file, metadata)) = file.zip(own) {
        let length = match end {
            Some((at, position)) if same(at, &metadata) => position,
            _ => metadata.len(),
        };
        sources.push(Source::Log(file, length));
    }
    Ok(sources)
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    one.ino() == other.ino() && one.dev() == other.dev()
}

impl Source {
    /// Opens it where the records since `since` begin, or a bit before; none if it is gone.
    fn open(
        self,
        since: Option<Timestamp>,
        zone: &TimeZone,
    ) -> io::Result<Option<Box<dyn BufRead + Send>>> {
        let (mut file, length) = match self {
            Source::Log(file, length) => (file, length),
            Source::Backup(backup) => match backup.find()? {
                None => return Ok(None),
                Some((file, true)) => return Ok(Some(decompressed(file))),
                Some((file, false)) => {
                    let length = file.metadata()?.len();
                    (file, length)
                }
            },
        };
        let start = match since {
            Some(since) => start_of(&file, length, since, zone)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(start))?;
        Ok(Some(Box::new(BufReader::new(file.take(length - start)))))
    }
}

/// Returns a position before which all is older than `since`; what follows is to be looked at.
fn start_of(mut file: &File, length: u64, since: Timestamp, zone: &TimeZone) -> io::Result<u64> {
    let (mut start, mut end) = (0, length);
    while end - start > NEAR {
        let middle = start.midpoint(end);
        file.seek(SeekFrom::Start(middle))?;
        let mut reader = BufReader::new(file).take(end - middle);
        let mut line = Vec::new();
        let mut time = None;
        // The first is a line of which the begin is missing.
        reader.read_until(b'\n', &mut line)?;
        while time.is_none() {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            time = Entry::read_in(into_text(line.clone()), zone).time();
        }
        match time {
            Some(time) if time < since => start = middle,
            _ => end = middle,
        }
    }
    // Several writers are not that exact about the order.
    Ok(match start.saturating_sub(NEAR) {
        0 => 0,
        near => {
            file.seek(SeekFrom::Start(near))?;
            let mut rest = Vec::new();
            near + BufReader::new(file).read_until(b'\n', &mut rest)? as u64
        }
    })
}

fn decompressed(file: File) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))
}

impl Backup {
    /// Opens the file and what reads its text; none if it is gone.
    pub(super) fn open(&self) -> io::Result<Option<(File, Box<dyn BufRead + Send>)>> {
        Ok(match self.find()? {
            None => None,
            Some((file, true)) => Some((file.try_clone()?, decompressed(file))),
            Some((file, false)) => Some((file.try_clone()?, Box::new(BufReader::new(file)))),
        })
    }

    /// Opens the file, which may have been compressed since it was found, and tells whether it is.
    fn find(&self) -> io::Result<Option<(File, bool)>> {
        let file = open_if_there(&self.path)?;
        if let Some(file) = file {
            return Ok(Some((file, self.compressed)));
        }
        if self.compressed {
            return Ok(None);
        }
        let name = with_suffix(&self.path, COMPRESSED.trim_start_matches('.'));
        Ok(open_if_there(&name)?.map(|file| (file, true)))
    }
}
