//! The log file as its writers see it.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::lines::MAX_LINE_BYTES;
use super::record::{Stamp, date_at_start, is_plain_text};
use super::redact::Redactor;
use super::rotation::{backup_name, prune, with_suffix};
use super::{Format, Level, LogError, Rotation, Stream, zone};

/// Records are gathered up to this size before they are written in one piece: what comes of one read
/// of a chatty program, with its stamps.
const BUFFER_BYTES: usize = 512 * 1024;

/// A log file that is appended to and rotates.
///
/// Writing never fails: while the disk is full, or the folder is gone, records are
/// dropped and counted, and one record tells of the gap as soon as there is room again.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    /// At most so many bytes are written in one piece.
    limit: usize,
    stamp: Stamp,
    redactor: Option<Arc<Redactor>>,
    current: Option<Current>,
    buffer: Vec<u8>,
    buffered: u64,
    /// The day of the records in `buffer`.
    day: Date,
    gap: Dropped,
    reason: String,
    total: Dropped,
}

/// What was not written because there was no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many records.
    pub records: u64,
    /// How many bytes they would have taken.
    pub bytes: u64,
}

impl Dropped {
    fn add(&mut self, records: u64, bytes: usize) {
        self.records += records;
        self.bytes += bytes as u64;
    }
}

#[derive(Debug)]
struct Current {
    file: File,
    device: u64,
    inode: u64,
    size: u64,
    /// The day of the first record; none while the file is empty.
    day: Option<Date>,
    /// Whether the file ends within a line, because the disk became full there.
    torn: bool,
}

impl LogFile {
    /// Opens `path` for appending, creating it and its folder if they are missing.
    ///
    /// # Errors
    ///
    /// Fails if the path names no file, or if the file cannot be created or opened.
    pub fn open(path: impl Into<PathBuf>, rotation: Rotation) -> Result<LogFile, LogError> {
        LogFile::open_in(path.into(), rotation, zone::local())
    }

    /// Opens `path` as [`open`](Self::open) does, with the time zone that decides when midnight is.
    ///
    /// # Errors
    ///
    /// Fails as [`open`](Self::open) does.
    pub fn open_in(path: PathBuf, rotation: Rotation, zone: TimeZone) -> Result<LogFile, LogError> {
        if path.file_name().is_none() {
            return Err(LogError::NotAFile { path });
        }
        let stamp = Stamp::new(zone);
        let opened = open_current(&path, &stamp).and_then(|mut current| {
            current.torn = current.ends_in_half_a_record()?;
            Ok(current)
        });
        let current = match opened {
            Ok(current) => current,
            Err(source) => return Err(LogError::Open { path, source }),
        };
        let limit = rotation.max_bytes.map(usize::try_from);
        Ok(LogFile {
            path,
            rotation,
            limit: limit.map_or(BUFFER_BYTES, |limit| {
                limit.map_or(BUFFER_BYTES, |n| n.min(BUFFER_BYTES))
            }),
            stamp,
            redactor: None,
            current: Some(current),
            buffer: Vec::new(),
            buffered: 0,
            day: Date::default(),
            gap: Dropped::default(),
            reason: String::new(),
            total: Dropped::default(),
        })
    }

    /// Has every record of this writer start with `label`, so that several writers of one file can be
    /// told apart.
    #[must_use]
    pub fn labelled(mut self, label: &str) -> LogFile {
        self.stamp.label = label.to_owned();
        self
    }

    /// Sets how records are written down, those of this launch if it is of one.
    #[must_use]
    pub fn in_format(mut self, format: Format, invocation: &str) -> LogFile {
        self.stamp.format = format;
        self.stamp.invocation = invocation.to_owned();
        self
    }

    /// Keeps these values out of what [`push`](Self::push) is given.
    pub(crate) fn redacting(mut self, redactor: Option<Arc<Redactor>>) -> LogFile {
        self.redactor = redactor;
        self
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what was dropped since the file was opened.
    pub fn dropped(&self) -> Dropped {
        self.total
    }

    /// Writes one record, with whatever [`push`](Self::push) gathered before it.
    pub fn write(&mut self, time: Timestamp, level: Level, message: impl AsRef<[u8]>) {
        self.push(time, level, message);
        self.flush();
    }

    /// Gathers one record; it is written by the next [`flush`](Self::flush) at the latest.
    pub fn push(&mut self, time: Timestamp, level: Level, message: impl AsRef<[u8]>) {
        let message = message.as_ref();
        match self.redactor.clone() {
            None => self.push_line(time, level, None, message),
            Some(redactor) => self.push_line(time, level, None, &redactor.redact(message)),
        }
    }

    /// Gathers one record of what a program has printed on a stream, in which nothing is secret.
    pub fn push_line(
        &mut self,
        time: Timestamp,
        level: Level,
        stream: Option<Stream>,
        message: &[u8],
    ) {
        let day = self.stamp.set(time);
        if day != self.day {
            self.flush();
            self.day = day;
        }
        let before = self.buffer.len();
        self.stamp.append(&mut self.buffer, level, stream, message);
        self.buffered += 1;
        if self.buffer.len() > self.limit && before > 0 {
            let last = self.buffer.split_off(before);
            self.buffered -= 1;
            self.flush();
            self.buffer.extend_from_slice(&last);
            self.buffered = 1;
        }
        if self.buffer.len() >= self.limit {
            self.flush();
        }
    }

    /// Gathers whole lines of a program's output at once, each a record of its own; of lines that are
    /// just printable text this is much faster than one by one. Returns how many bytes it took: the rest
    /// has to be looked at line by line.
    pub(crate) fn push_plain_lines(
        &mut self,
        time: Timestamp,
        level: Level,
        stream: Stream,
        lines: &[u8],
    ) -> usize {
        // Where so little is written at a time, each record decides about the rotation.
        let is_small = self.limit < BUFFER_BYTES;
        if is_small || self.stamp.format != Format::Text || !is_plain_text(lines) {
            return 0;
        }
        let day = self.stamp.set(time);
        if day != self.day {
            self.flush();
            self.day = day;
        }
        let mut taken = 0;
        loop {
            let (bytes, count) = self.stamp.append_plain_lines(
                &mut self.buffer,
                self.limit - MAX_LINE_BYTES,
                level,
                stream,
                &lines[taken..],
            );
            taken += bytes;
            self.buffered += count;
            if self.buffer.len() <= self.limit - MAX_LINE_BYTES {
                return taken;
            }
            self.flush();
        }
    }

    /// Writes what was gathered, in one piece.
    pub fn flush(&mut self) {
        if self.buffered == 0 {
            return;
        }
        match self.write_out() {
            Ok(()) => {
                self.gap = Dropped::default();
                if let Some(current) = &mut self.current {
                    current.day.get_or_insert(self.day);
                }
            }
            Err(error) => {
                self.gap.add(self.buffered, self.buffer.len());
                self.total.add(self.buffered, self.buffer.len());
                self.reason = error.to_string();
            }
        }
        self.buffer.clear();
        self.buffered = 0;
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.reopen_if_moved()?;
        if self.rotation_due() {
            // A file that cannot be set aside is better written to than not.
            let _ = self.rotate();
        }
        let Some(current) = &mut self.current else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if !current.torn && self.gap == Dropped::default() {
            return current.append(&self.buffer);
        }
        let mut bytes = Vec::with_capacity(self.buffer.len() + 200);
        if current.torn {
            bytes.push(b'\n');
        }
        if self.gap != Dropped::default() {
            let message = format!(
                "{} records ({} bytes) are missing here, they could not be written: {}",
                self.gap.records, self.gap.bytes, self.reason
            );
            self.stamp
                .append(&mut bytes, Level::Warn, None, message.as_bytes());
        }
        bytes.extend_from_slice(&self.buffer);
        current.append(&bytes)
    }

    /// Opens the path again if it is no longer the file that is open: the other writer
    /// has rotated it, or somebody has removed it.
    fn reopen_if_moved(&mut self) -> io::Result<()> {
        if let Some(current) = &mut self.current
            && let Ok(found) = fs::metadata(&self.path)
            && current.is(&found)
        {
            current.size = found.len();
            return Ok(());
        }
        self.current = None;
        self.current = Some(open_current(&self.path, &self.stamp)?);
        Ok(())
    }

    fn rotation_due(&self) -> bool {
        let Some(current) = &self.current else {
            return false;
        };
        current.size > 0 && (self.day_is_over(current) || self.is_full(current))
    }

    fn day_is_over(&self, current: &Current) -> bool {
        self.rotation.daily && current.day.is_some_and(|day| self.day > day)
    }

    fn is_full(&self, current: &Current) -> bool {
        self.rotation
            .max_bytes
            .is_some_and(|max| current.size + self.buffer.len() as u64 > max)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(with_suffix(&self.path, "lock"))?;
        if !lock_soon(&lock)? {
            return Ok(());
        }
        // The other writer may have come first.
        self.reopen_if_moved()?;
        if !self.rotation_due() {
            return Ok(());
        }
        let Some(current) = &self.current else {
            return Ok(());
        };
        if !current.file.metadata()?.is_file() {
            return Ok(());
        }
        let within_day = !self.day_is_over(current);
        let day = current.day.unwrap_or(self.day);
        fs::rename(&self.path, backup_name(&self.path, day, within_day)?)?;
        self.reopen_if_moved()?;
        prune(&self.path, self.day, self.rotation.keep)
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Current {
    fn is(&self, found: &Metadata) -> bool {
        found.ino() == self.inode && found.dev() == self.device
    }

    /// Returns whether a writer that is dead by now has left half a record at the end.
    fn ends_in_half_a_record(&mut self) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        if !metadata.is_file() || !self.ends_within_line(metadata.len())? {
            return Ok(false);
        }
        // Or is the other writer just writing? A long write becomes visible bit by bit.
        thread::sleep(Duration::from_millis(5));
        let size = self.file.metadata()?.len();
        Ok(size == metadata.len() && self.ends_within_line(size)?)
    }

    fn ends_within_line(&self, size: u64) -> io::Result<bool> {
        let Some(last) = size.checked_sub(1) else {
            return Ok(false);
        };
        let mut byte = [0];
        Ok(self.file.read_at(&mut byte, last)? == 1 && byte[0] != b'\n')
    }

    /// Appends `bytes` in one write. If only a part fits it is taken back, so that a
    /// file never ends in half a record.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        let error = loop {
            match self.file.write(&bytes[written..]) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
            if written == bytes.len() {
                self.torn = false;
                return Ok(());
            }
        };
        if written > 0 {
            self.torn = self.take_back(written as u64).is_err();
        }
        Err(error)
    }

    fn take_back(&mut self, written: u64) -> io::Result<()> {
        let end = self.file.stream_position()?;
        if self.file.metadata()?.len() != end {
            // The other writer has written behind us.
            return Err(io::ErrorKind::Other.into());
        }
        self.file.set_len(end - written)
    }
}

fn open_current(path: &Path, stamp: &Stamp) -> io::Result<Current> {
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
    {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(path)?;
    let metadata = file.metadata()?;
    let day = match metadata.len() {
        0 => None,
        _ => first_day(&file, &metadata, stamp),
    };
    Ok(Current {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        torn: false,
        file,
        day,
    })
}

/// Returns the day that a file's first record is from or, if that cannot be told, the
/// day the file was last written to.
fn first_day(file: &File, metadata: &Metadata, stamp: &Stamp) -> Option<Date> {
    let mut start = [0; 32];
    if let Ok(count) = file.read_at(&mut start, 0)
        && let Some(date) = date_at_start(&start[..count])
    {
        return Some(date);
    }
    let modified = Timestamp::try_from(metadata.modified().ok()?).ok()?;
    Some(stamp.date_of(modified))
}

/// Takes the lock, waiting a moment at most: whoever holds it is only renaming a file,
/// unless it is stopped, and a log must not stop with it.
fn lock_soon(lock: &File) -> io::Result<bool> {
    for _ in 0..20 {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}
