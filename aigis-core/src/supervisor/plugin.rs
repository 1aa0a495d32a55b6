//! The plugin as its shim starts and hears it: program, pipes, output.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::confinement::Entry;
use super::linux::{self, Reaped};
use super::protocol::{Grant, LaunchFailure, LaunchSpec, MAX_GRANT_BYTES};
use super::record::OwnRecord;
use super::tree::Stop;
use crate::logging::{CUT_MARKER, Level, Line, LineEnd, LineSplitter, LogFile};

/// What is read at most from a pipe that has to be emptied without waiting for its end: a
/// pipe holds no more than this by itself.
const DRAIN_BYTES: usize = 1024 * 1024;

/// What fails when a control group is gone before anything enters it.
const CGROUP: &str = "open its control group";

/// A plugin that runs.
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) outputs: [Output; 2],
}

/// Launches the plugin and notes it in the record.
pub(super) fn start(spec: &LaunchSpec, record: &mut OwnRecord) -> Result<Started, LaunchFailure> {
    let cwd = spec.cwd.as_path();
    if !cwd.is_dir() {
        return Err(LaunchFailure::CwdMissing {
            cwd: cwd.display().to_string(),
        });
    }
    let path = find_program(spec)?;
    let session = spec.session.as_ref().map(session_pipe).transpose()?;
    let (stdout, stdout_end) = output_pipe().map_err(system("create a pipe"))?;
    let (stderr, stderr_end) = output_pipe().map_err(system("create a pipe"))?;
    let (confined, report) =
        Entry::new(&spec.confinement).map_err(|error| confinement_failure(CGROUP, &error))?;
    // What is on the child's side is closed on this one when `spawn` is over.
    let spawned = linux::spawn(spec, &path, stdout_end, stderr_end, session, confined);
    let pid = spawned.map_err(|error| match report.failed() {
        Some(what) => confinement_failure(what, &error),
        None => exec_failure(&path, &error),
    })?;
    // It cannot be missing: until it is collected even a dead child is shown.
    let start_time = linux::Process::read(pid as i32).map_or(0, |process| process.start_time);
    if let Err(error) = record.started(pid, start_time) {
        let mut stop = Stop::new(pid as i32, spec.confinement.group());
        stop.begin(Duration::ZERO);
        while linux::reap() != Reaped::NoChildren {
            stop.advance();
            std::thread::sleep(Duration::from_millis(1));
        }
        return Err(LaunchFailure::Record {
            record: spec.record.as_path().display().to_string(),
            message: error.to_string(),
        });
    }
    Ok(Started {
        pid: pid as i32,
        start_time,
        outputs: [
            Output::new(stdout, Level::Info),
            Output::new(stderr, Level::Stderr),
        ],
    })
}

/// One of the plugin's output streams.
pub(super) struct Output {
    /// None once it has ended.
    pipe: Option<OwnedFd>,
    level: Level,
    lines: LineSplitter,
}

impl Output {
    fn new(pipe: OwnedFd, level: Level) -> Output {
        Output {
            pipe: Some(pipe),
            level,
            lines: LineSplitter::new(),
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
        let level = self.level;
        match rustix::io::read(pipe, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // A pipe that cannot be read is closed: left open it would block its writer.
            Ok(0) | Err(_) => {
                self.end(log);
                0
            }
            Ok(count) => {
                self.lines
                    .push(&buffer[..count], |line| log_line(log, time, level, line));
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
        let (time, level) = (Timestamp::now(), self.level);
        self.lines.finish(|line| log_line(log, time, level, line));
    }
}

fn log_line(log: &mut LogFile, time: Timestamp, level: Level, line: Line<'_>) {
    let (level, bytes) = match level {
        Level::Stderr => own_level(line.bytes).unwrap_or((level, line.bytes)),
        level => (level, line.bytes),
    };
    match line.end {
        LineEnd::Cut => log.push(time, level, [bytes, CUT_MARKER.as_bytes()].concat()),
        LineEnd::Newline | LineEnd::Eof => log.push(time, level, bytes),
    }
}

/// Splits a line that starts with its level, as a plugin's `Logger` writes it: `WARNING text`.
fn own_level(line: &[u8]) -> Option<(Level, &[u8])> {
    let words = [
        ("TRACE ", Level::Trace),
        ("DEBUG ", Level::Debug),
        ("INFO ", Level::Info),
        ("WARN ", Level::Warn),
        ("WARNING ", Level::Warn),
        ("ERROR ", Level::Error),
    ];
    words
        .into_iter()
        .find_map(|(word, level)| Some((level, line.strip_prefix(word.as_bytes())?)))
}

/// Creates a pipe whose reading end, ours, never blocks.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Creates a pipe that holds the grant and returns its reading end.
fn session_pipe(grant: &Grant) -> Result<OwnedFd, LaunchFailure> {
    let Grant(bytes) = grant;
    if bytes.len() > MAX_GRANT_BYTES {
        return Err(LaunchFailure::GrantTooLong { bytes: bytes.len() });
    }
    let fill = || -> io::Result<OwnedFd> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        fs::File::from(writer).write_all(bytes)?;
        Ok(reader)
    };
    fill().map_err(system("hand over the session"))
}

/// Finds the program's file, the way a shell in `cwd` would.
fn find_program(spec: &LaunchSpec) -> Result<PathBuf, LaunchFailure> {
    let program = spec.program.as_path();
    let cwd = spec.cwd.as_path();
    let is_bare = program.components().count() == 1 && !has_slash(program);
    if !is_bare {
        let path = cwd.join(program);
        return match path.try_exists() {
            Ok(false) => Err(LaunchFailure::NotFound {
                program: program.display().to_string(),
                searched: format!("the working folder `{}`", cwd.display()),
            }),
            _ => check_executable(path),
        };
    }
    let search = spec
        .env
        .iter()
        .rev()
        .find(|(name, _)| name.0 == "PATH")
        .map_or("/usr/local/bin:/usr/bin:/bin".into(), |(_, value)| {
            value.0.clone()
        });
    let mut refused = None;
    for folder in std::env::split_paths(&search) {
        let path = cwd.join(folder).join(program);
        if !path.exists() {
            continue;
        }
        match check_executable(path) {
            Ok(path) => return Ok(path),
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    Err(refused.unwrap_or_else(|| LaunchFailure::NotFound {
        program: program.display().to_string(),
        searched: format!("PATH ({})", Path::new(&search).display()),
    }))
}

fn has_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'/')
}

fn check_executable(path: PathBuf) -> Result<PathBuf, LaunchFailure> {
    if path.is_file() && access(&path, Access::EXEC_OK).is_ok() {
        return Ok(path);
    }
    Err(LaunchFailure::NotExecutable {
        path: path.display().to_string(),
    })
}

fn exec_failure(path: &Path, error: &io::Error) -> LaunchFailure {
    let shown = path.display().to_string();
    match error.kind() {
        io::ErrorKind::NotFound if path.exists() => LaunchFailure::NoInterpreter { path: shown },
        io::ErrorKind::PermissionDenied => LaunchFailure::NotExecutable { path: shown },
        _ => LaunchFailure::Exec {
            path: shown,
            message: error.to_string(),
        },
    }
}

fn confinement_failure(what: &str, error: &io::Error) -> LaunchFailure {
    LaunchFailure::Confinement {
        what: what.to_owned(),
        message: error.to_string(),
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> LaunchFailure {
    move |error| LaunchFailure::System {
        what: what.to_owned(),
        message: error.to_string(),
    }
}

/// Writes the command for people: what holds blanks or quotes is quoted.
pub(super) fn command_line(spec: &LaunchSpec) -> String {
    let mut line = String::new();
    for word in std::iter::once(&spec.program).chain(&spec.args) {
        if !line.is_empty() {
            line.push(' ');
        }
        let text = word.0.to_string_lossy();
        let is_plain = |c: char| c.is_alphanumeric() || "-_=+./,:@%{}".contains(c);
        if !text.is_empty() && text.chars().all(is_plain) {
            line.push_str(&text);
        } else {
            line.push_str(&format!("{text:?}"));
        }
    }
    line
}

#[cfg(test)]
mod level_tests {
    use super::*;

    #[test]
    fn a_line_on_the_error_output_can_say_its_level() {
        assert_eq!(
            own_level(b"WARNING disk full"),
            Some((Level::Warn, b"disk full".as_slice()))
        );
        assert_eq!(own_level(b"INFORMATION"), None);
        assert_eq!(own_level(b"error: no"), None);
    }
}
