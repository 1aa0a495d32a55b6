//! What the plugin prints, from its pipes into its log.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::io::Errno;

use crate::logging::levels::stated;
use crate::logging::redact::{Redacted, Redactor};
use crate::logging::{CUT_MARKER, Level, Line, LineEnd, LineSplitter, LogFile, Stream};

/// What is read at most from a pipe that has to be emptied without waiting for its end: a
/// pipe holds no more than this by itself.
const DRAIN_BYTES: usize = 1024 * 1024;

/// Who reads so much at once reads from a pipe that is full: it holds 64 KiB, or somewhat less if its
/// writer's pieces are no whole pages.
const NEARLY_FULL: usize = 48 * 1024;

/// How much a pipe is made to hold once it was found full: its writer then waits less often.
///
/// Not from the start: the system allows each user so much in all pipes together.
const LARGE_PIPE_BYTES: usize = 512 * 1024;

/// One of the plugin's output streams.
pub(super) struct Output {
    /// None once it has ended.
    pipe: Option<OwnedFd>,
    is_large: bool,
    redactor: Option<Arc<Redactor>>,
    redacted: Redacted,
    lines: Lines,
}

impl Output {
    pub(super) fn new(pipe: OwnedFd, stream: Stream, redactor: Option<Arc<Redactor>>) -> Output {
        Output {
            pipe: Some(pipe),
            is_large: false,
            redactor,
            redacted: Redacted::default(),
            lines: Lines::new(stream),
        }
    }

    /// Returns what to wait on, until the stream has ended.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(|pipe| pipe.as_fd())
    }

    /// Reads once and logs what is complete. Returns how much there was.
    pub(super) fn read(&mut self, buffer: &mut [u8], log: &mut LogFile) -> usize {
        let Some(pipe) = &self.pipe else {
            return 0;
        };
        let time = Timestamp::now();
        match rustix::io::read(pipe, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // A pipe that cannot be read is closed: left open it would block its writer.
            Ok(0) | Err(_) => {
                self.end(log);
                0
            }
            Ok(count) => {
                if count >= NEARLY_FULL && !self.is_large {
                    self.is_large = true;
                    // Where it is not allowed, it is as fast as it is.
                    let _ = rustix::pipe::fcntl_setpipe_size(pipe, LARGE_PIPE_BYTES);
                }
                let Output {
                    lines, redacted, ..
                } = self;
                match &self.redactor {
                    None => lines.take(&buffer[..count], time, log),
                    Some(redactor) => redacted.push(redactor, &buffer[..count], |bytes| {
                        lines.take(bytes, time, log);
                    }),
                }
                count
            }
        }
    }

    /// Reads what is there now.
    pub(super) fn drain(&mut self, buffer: &mut [u8], log: &mut LogFile) {
        let mut total = 0;
        while total < DRAIN_BYTES {
            match self.read(buffer, log) {
                0 => break,
                count => total += count,
            }
        }
    }

    /// Closes the stream and logs an unfinished last line.
    pub(super) fn end(&mut self, log: &mut LogFile) {
        self.pipe = None;
        let time = Timestamp::now();
        let Output {
            lines, redacted, ..
        } = self;
        if let Some(redactor) = &self.redactor {
            redacted.finish(redactor, |bytes| lines.take(bytes, time, log));
        }
        lines.finish(time, log);
    }
}

/// The lines of one stream, on their way into the log.
struct Lines {
    stream: Stream,
    /// The level of a line that states none.
    usual: Level,
    splitter: LineSplitter,
    /// The level of the line whose next piece is still to come.
    continued: Option<Level>,
}

impl Lines {
    fn new(stream: Stream) -> Lines {
        Lines {
            stream,
            usual: match stream {
                Stream::Stdout => Level::Info,
                Stream::Stderr => Level::Stderr,
            },
            splitter: LineSplitter::new(),
            continued: None,
        }
    }

    fn take(&mut self, mut bytes: &[u8], time: Timestamp, log: &mut LogFile) {
        if !self.splitter.is_at_start() || self.continued.is_some() {
            let first = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let (first, rest) = bytes.split_at(first);
            self.split(first, time, log);
            bytes = rest;
        }
        let whole = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        let whole = &bytes[..whole];
        let taken = log.push_plain_lines(time, self.usual, self.stream, whole);
        self.split(&bytes[taken..], time, log);
    }

    fn split(&mut self, bytes: &[u8], time: Timestamp, log: &mut LogFile) {
        let Lines {
            splitter,
            stream,
            usual,
            continued,
        } = self;
        splitter.push(bytes, |line| {
            log_line(log, time, *stream, *usual, continued, line);
        });
    }

    fn finish(&mut self, time: Timestamp, log: &mut LogFile) {
        let Lines {
            splitter,
            stream,
            usual,
            continued,
        } = self;
        splitter.finish(|line| log_line(log, time, *stream, *usual, continued, line));
    }
}

fn log_line(
    log: &mut LogFile,
    time: Timestamp,
    stream: Stream,
    usual: Level,
    continued: &mut Option<Level>,
    line: Line<'_>,
) {
    let (level, said) = match *continued {
        Some(level) => (level, 0),
        None => stated(line.bytes).unwrap_or((usual, 0)),
    };
    let bytes = &line.bytes[said..];
    *continued = None;
    match line.end {
        LineEnd::Cut => {
            *continued = Some(level);
            let piece = [bytes, CUT_MARKER.as_bytes()].concat();
            log.push_line(time, level, Some(stream), &piece);
        }
        LineEnd::Newline | LineEnd::Eof => log.push_line(time, level, Some(stream), bytes),
    }
}
