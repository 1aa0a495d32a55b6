//! The plugin as its shim starts it: program and pipes.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use super::confinement::Entry;
use super::linux::{self, Reaped};
use super::output::Output;
use super::protocol::{Grant, LaunchFailure, LaunchSpec, MAX_GRANT_BYTES};
use super::readiness::Readiness;
use super::record::OwnRecord;
use super::tree::Stop;
use crate::logging::Stream;
use crate::logging::redact::Redactor;

/// What fails when a control group is gone before anything enters it.
const CGROUP: &str = "open its control group";

/// A plugin that runs.
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) outputs: [Output; 2],
    pub(super) readiness: Readiness,
}

/// Launches the plugin and notes it in the record.
pub(super) fn start(
    spec: &LaunchSpec,
    record: &mut OwnRecord,
    redactor: Option<Arc<Redactor>>,
) -> Result<Started, LaunchFailure> {
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
    let (readiness, invitation) = Readiness::invite(spec)?;
    if let Some(identity) = &spec.confinement.identity {
        // Programs open anew what they have been given, as `/dev/stdout` or in `/proc/self/fd`, and may do so only with
        // what is theirs.
        let given = [Some(&stdout_end), Some(&stderr_end), session.as_ref()];
        for end in given
            .into_iter()
            .flatten()
            .chain(invitation.descriptor.as_ref())
        {
            identity.own(end).map_err(system("hand over the pipes"))?;
        }
    }
    let (confined, report) =
        Entry::new(&spec.confinement).map_err(|error| confinement_failure(CGROUP, &error))?;
    // What is on the child's side is closed on this one when `spawn` is over.
    let spawned = linux::spawn(
        spec, &path, stdout_end, stderr_end, session, invitation, confined,
    );
    let pid = spawned.map_err(|error| match report.failed() {
        Some(what) => confinement_failure(what, &error),
        None => exec_failure(&path, &error),
    })?;
    // It cannot be missing: until it is collected even a dead child is shown.
    let start_time = linux::Process::read(pid as i32).map_or(0, |process| process.start_time);
    if let Err(error) = record.started(pid, start_time) {
        let mut stop = Stop::new(pid as i32, spec.confinement.group(), Signal::TERM);
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
            Output::new(stdout, Stream::Stdout, redactor.clone()),
            Output::new(stderr, Stream::Stderr, redactor),
        ],
        readiness,
    })
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
