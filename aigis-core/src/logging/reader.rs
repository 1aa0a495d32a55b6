//! Reading a log file back: its last records, and what is appended.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{CONTINUATION, LogError};

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
    let (_, records) = last_records(&mut file, count).map_err(read_error(path))?;
    Ok(records)
}

/// The lines appended to a log file, across rotations, one by one as they come.
///
/// As an iterator it waits for the next line and never ends.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    reader: BufReader<File>,
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
        let (position, records) = last_records(&mut file, count).map_err(read_error(&path))?;
        let ready = records
            .iter()
            .flat_map(|record| record.split('\n').map(str::to_owned))
            .collect();
        file.seek(SeekFrom::Start(position))
            .map_err(read_error(&path))?;
        Ok(Follow {
            path,
            reader: BufReader::new(file),
            ready,
            partial: Vec::new(),
            position,
            rotated: false,
        })
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
                let Some(file) = open_if_there(&self.path)? else {
                    return Ok(None);
                };
                self.reader = BufReader::new(file);
                self.position = 0;
                self.rotated = false;
                if !self.partial.is_empty() {
                    return Ok(Some(self.take_partial()));
                }
                continue;
            }
            let own = self.reader.get_ref().metadata()?;
            match fs::metadata(&self.path) {
                Ok(found) if found.ino() == own.ino() && found.dev() == own.dev() => {
                    if found.len() >= self.position {
                        return Ok(None);
                    }
                    // Somebody emptied the file: start again from its beginning.
                    self.reader.seek(SeekFrom::Start(0))?;
                    self.position = 0;
                    self.partial.clear();
                }
                Ok(_) => self.rotated = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn take_partial(&mut self) -> String {
        let mut line = std::mem::take(&mut self.partial);
        if line.ends_with(b"\n") {
            line.pop();
        }
        into_text(line)
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

/// Returns the last `count` whole records and the position behind them.
///
/// A last line without a line break counts as whole: its writer may never finish it.
fn last_records(file: &mut File, count: usize) -> io::Result<(u64, Vec<String>)> {
    let end = file.seek(SeekFrom::End(0))?;
    if count == 0 {
        return Ok((end, Vec::new()));
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
        return Ok((end, Vec::new()));
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
    Ok((end, records.into_iter().map(into_text).collect()))
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

fn open(path: &Path) -> Result<File, LogError> {
    match open_if_there(path) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(LogError::Missing { path: path.into() }),
        Err(source) => Err(read_error(path)(source)),
    }
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Read { path, source }
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
