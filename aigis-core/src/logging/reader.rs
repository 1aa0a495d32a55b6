//! Reading a log file back: its last records, and what is appended.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use super::history::{History, last_wanted};
use super::rotation::{Backup, backups, split_name};
use super::{CONTINUATION, Entry, LogError};

/// How much is read at first when looking for the last records; each step back doubles it.
const BLOCK_BYTES: u64 = 64 * 1024;

/// How often [`Follow`] looks for more; it serves people's eyes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Returns the last `count` records of a log file, oldest first, reading only the end of it.
///
/// A record of several lines is returned as one string, its lines as they stand in the file.
///
/// # Errors
///
/// Fails with [`LogError::Missing`] if the file does not exist, and if it cannot be read.
pub fn tail(path: impl AsRef<Path>, count: usize) -> Result<Vec<String>, LogError> {
    let path = path.as_ref();
    let mut file = open(path)?;
    let end = file.metadata().map_err(read_error(path))?.len();
    last_records(&mut file, end, count).map_err(read_error(path))
}

/// Returns the last `count` records of a log that are `wanted`, also from its backups; oldest first.
/// Without `wanted` all are, and only the end of the log is read.
///
/// # Errors
///
/// Fails with [`LogError::Missing`] if there is neither the file nor a backup, and if they cannot be
/// read.
pub fn last(
    log: impl AsRef<Path>,
    count: usize,
    wanted: Option<&dyn Fn(&Entry) -> bool>,
) -> Result<Vec<Entry>, LogError> {
    last_wanted(log.as_ref(), count, None, wanted)
}

/// The lines appended to a log file, across rotations, one by one as they come.
///
/// As an iterator it waits for the next line and never ends.
pub struct Follow {
    path: PathBuf,
    file: File,
    reader: Box<dyn BufRead + Send>,
    /// Lines of the start that were read with the last records.
    ready: VecDeque<String>,
    partial: Vec<u8>,
    position: u64,
    /// The path names another file now; this one is read to its end once more.
    rotated: bool,
}

impl Follow {
    /// Starts with the last `count` records that are there and goes on with what is appended.
    ///
    /// # Errors
    ///
    /// Fails as [`tail`] does.
    pub fn new(path: impl Into<PathBuf>, count: usize) -> Result<Follow, LogError> {
        let path = path.into();
        let mut file = open(&path)?;
        let started = (|| {
            let end = file.metadata()?.len();
            let records = last_records(&mut file, end, count)?;
            let ready = records
                .iter()
                .flat_map(|record| record.split('\n').map(str::to_owned))
                .collect();
            Follow::at(path.clone(), file, end, ready)
        })();
        started.map_err(read_error(&path))
    }

    /// Starts with the first line of the file.
    ///
    /// # Errors
    ///
    /// Fails as [`tail`] does.
    pub fn from_start(path: impl Into<PathBuf>) -> Result<Follow, LogError> {
        let path = path.into();
        let file = open(&path)?;
        Follow::at(path.clone(), file, 0, VecDeque::new()).map_err(read_error(&path))
    }

    fn at(
        path: PathBuf,
        mut file: File,
        position: u64,
        ready: VecDeque<String>,
    ) -> io::Result<Follow> {
        file.seek(SeekFrom::Start(position))?;
        Ok(Follow {
            path,
            reader: Box::new(BufReader::new(file.try_clone()?)),
            file,
            ready,
            partial: Vec::new(),
            position,
            rotated: false,
        })
    }

    /// Returns the records since `since` that are before what it goes on with, or all of them.
    ///
    /// # Errors
    ///
    /// Fails if the log cannot be read.
    pub fn history(&self, since: Option<Timestamp>) -> Result<History, LogError> {
        let own = self.file.metadata().map_err(read_error(&self.path))?;
        History::until(&self.path, since, Some((&own, self.position)))
    }

    /// Returns the last `count` records before what it goes on with that are `wanted`, as [`last`]
    /// does.
    ///
    /// # Errors
    ///
    /// Fails if the log cannot be read.
    pub fn latest(
        &self,
        count: usize,
        wanted: Option<&dyn Fn(&Entry) -> bool>,
    ) -> Result<Vec<Entry>, LogError> {
        let own = self.file.metadata().map_err(read_error(&self.path))?;
        last_wanted(&self.path, count, Some((&own, self.position)), wanted)
    }

    /// Returns the next line if there is one already.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn poll(&mut self) -> Result<Option<String>, LogError> {
        if let Some(line) = self.ready.pop_front() {
            return Ok(Some(line));
        }
        self.next_line()
            .map_err(|source| read_error(&self.path)(source))
    }

    fn next_line(&mut self) -> io::Result<Option<String>> {
        loop {
            let read = self.reader.read_until(b'\n', &mut self.partial)?;
            self.position += read as u64;
            if self.partial.ends_with(b"\n") {
                return Ok(Some(self.take_partial()));
            }
            if self.rotated {
                // Nothing is written to the old file any more, so this was its end.
                if !self.go_on()? {
                    return Ok(None);
                }
                if !self.partial.is_empty() {
                    return Ok(Some(self.take_partial()));
                }
                continue;
            }
            let own = self.file.metadata()?;
            match fs::metadata(&self.path) {
                Ok(found) if found.ino() == own.ino() && found.dev() == own.dev() => {
                    if found.len() >= self.position {
                        return Ok(None);
                    }
                    // Somebody emptied the file: start again from its beginning.
                    self.file.seek(SeekFrom::Start(0))?;
                    self.reader = Box::new(BufReader::new(self.file.try_clone()?));
                    self.position = 0;
                    self.partial.clear();
                }
                Ok(_) => self.rotated = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the file that was written after this one, which is not always the newest: a chatty
    /// program fills several between two looks. Returns false if there is none yet.
    fn go_on(&mut self) -> io::Result<bool> {
        if let Some(age) = self.age() {
            let mut later = backups(&self.path)?;
            later.retain(|backup| backup.age() > age);
            later.sort_by_key(Backup::age);
            for backup in later {
                // It may just be compressed or removed.
                if let Some((file, reader)) = backup.open()? {
                    (self.file, self.reader) = (file, reader);
                    self.position = 0;
                    // It is complete: what comes after it is looked for at its end.
                    return Ok(true);
                }
            }
        }
        let Some(file) = open_if_there(&self.path)? else {
            return Ok(false);
        };
        self.reader = Box::new(BufReader::new(file.try_clone()?));
        self.file = file;
        self.position = 0;
        self.rotated = false;
        Ok(true)
    }

    /// Returns where this file, by the name that it has by now, stands among the backups.
    fn age(&self) -> Option<(Date, u32)> {
        let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let path = fs::read_link(link).ok()?;
        let name = path.file_name()?.to_str()?;
        // So the system shows what has been removed.
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let (log, (date, number, _)) = split_name(name)?;
        (self.path.file_name()?.to_str()? == log).then_some((date, number.wrapping_sub(1)))
    }

    fn take_partial(&mut self) -> String {
        let mut line = std::mem::take(&mut self.partial);
        if line.ends_with(b"\n") {
            line.pop();
        }
        into_text(line)
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("path", &self.path)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Iterator for Follow {
    type Item = Result<String, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.poll() {
                Ok(Some(line)) => return Some(Ok(line)),
                Ok(None) => thread::sleep(LOOK_EVERY),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Returns the last `count` whole records before the position `end`.
///
/// A last line without a line break counts as whole: its writer may never finish it.
pub(super) fn last_records(file: &mut File, end: u64, count: usize) -> io::Result<Vec<String>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut start = end;
    // The blocks read so far, last one first: joined once, so that a long way back costs
    // no more than its length.
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut breaks = 0;
    let mut step = BLOCK_BYTES;
    let text = loop {
        let length = start.min(step);
        step *= 2;
        start -= length;
        let mut block = vec![0; length as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        breaks += memchr::memchr_iter(b'\n', &block).count();
        blocks.push(block);
        // A record takes a line at least, so there is no need to look before that many.
        if start > 0 && breaks <= count {
            continue;
        }
        let text: Vec<u8> = blocks.iter().rev().flatten().copied().collect();
        if let Some(at) = start_of_last(&text, count, start == 0) {
            break text[at..].to_vec();
        }
        if start == 0 {
            break text;
        }
        blocks = vec![text];
    };
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    if text.is_empty() && end == 0 {
        return Ok(Vec::new());
    }
    let mut records: Vec<Vec<u8>> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        match records.last_mut() {
            Some(record) if line.starts_with(CONTINUATION.as_bytes()) => {
                record.push(b'\n');
                record.extend_from_slice(line);
            }
            _ => records.push(line.to_vec()),
        }
    }
    Ok(records.into_iter().map(into_text).collect())
}

/// Returns where the last `count` records begin in `text`, if that many begin there.
fn start_of_last(text: &[u8], count: usize, from_start_of_file: bool) -> Option<usize> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut left = count;
    let starts = memchr::memrchr_iter(b'\n', body)
        .map(|at| at + 1)
        .chain(from_start_of_file.then_some(0));
    for at in starts {
        if !body[at..].starts_with(CONTINUATION.as_bytes()) {
            left -= 1;
            if left == 0 {
                return Some(at);
            }
        }
    }
    None
}

pub(super) fn open(path: &Path) -> Result<File, LogError> {
    match open_if_there(path) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(LogError::Missing { path: path.into() }),
        Err(source) => Err(read_error(path)(source)),
    }
}

pub(super) fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Read { path, source }
}

pub(super) fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
