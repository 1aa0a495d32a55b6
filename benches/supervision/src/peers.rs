//! What captures: a shim of AIGIS, supervisord, a plain copy, and nobody.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use aigis_core::logging::Rotation;
use aigis_core::supervisor::{LaunchSpec, Supervised};

use crate::generator::Signs;

/// The first argument that makes this program a copier of a generator's output.
pub(crate) const COPY: &str = "copy";

/// The size at which a log of AIGIS is set aside: several times in the run.
const ROTATE_AT: u64 = 256 << 20;

/// What captures a generator's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capturer {
    /// A shim: every line stamped and counted, the file rotated.
    Shim,
    /// supervisord, which stamps nothing; without rotation.
    Supervisord,
    /// Reads of 64 KiB and writes of the same.
    Copy,
    /// The generator writes the file itself.
    Nobody,
}

impl Capturer {
    pub(crate) const ALL: [Self; 4] = [Self::Shim, Self::Supervisord, Self::Copy, Self::Nobody];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shim => "AIGIS: shim, every line stamped, rotated",
            Self::Supervisord => "supervisord, neither",
            Self::Copy => "64 KiB read, written as they are",
            Self::Nobody => "generator > file",
        }
    }
}

/// A generator that is being captured.
pub(crate) enum Running {
    Shim(tokio::runtime::Runtime, Box<Supervised>, u32),
    Process(Child),
}

impl Running {
    /// Returns the process whose work is the capture.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Shim(_, _, shim) => *shim,
            Self::Process(child) => child.id(),
        }
    }

    /// Ends the capture; the generator has been told to end.
    pub(crate) fn end(self, capturer: Capturer) -> io::Result<()> {
        match self {
            Self::Shim(runtime, supervised, _) => {
                runtime.block_on(supervised.wait());
                Ok(())
            }
            Self::Process(mut child) => {
                if capturer == Capturer::Supervisord {
                    let pid = child.id().to_string();
                    Command::new("kill").arg(&pid).status()?;
                }
                child.wait().map(drop)
            }
        }
    }
}

/// Starts a generator whose output ends up in `log`.
pub(crate) fn start(
    capturer: Capturer,
    folder: &Path,
    log: &Path,
    lines: usize,
    supervisord: Option<&Path>,
) -> io::Result<Running> {
    let own = std::env::current_exe()?;
    let arguments = Signs::new(folder).arguments(lines);
    match capturer {
        Capturer::Shim => {
            let name = "chatty".parse().map_err(io::Error::other)?;
            let mut spec = LaunchSpec::new(name, &own, folder, log, folder.join("record.json"))
                .args(arguments);
            spec.rotation = Rotation {
                max_bytes: Some(ROTATE_AT),
                ..Rotation::default()
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let before = children()?;
            let launched = runtime.block_on(Supervised::launch(&own, spec));
            let supervised = launched.map_err(io::Error::other)?;
            let new = children()?.into_iter().find(|pid| !before.contains(pid));
            let shim = new.ok_or_else(|| io::Error::other("there is no shim"))?;
            Ok(Running::Shim(runtime, Box::new(supervised), shim))
        }
        Capturer::Supervisord => {
            let program = supervisord.ok_or_else(|| io::Error::other("no supervisord"))?;
            let config = folder.join("supervisord.conf");
            let words = arguments.join(" ");
            let (own, at, log) = (own.display(), folder.display(), log.display());
            fs::write(
                &config,
                format!(
                    "[supervisord]\nnodaemon=true\nlogfile={at}/own.log\npidfile={at}/own.pid\n\
                     [program:chatty]\ncommand={own} {words}\nautorestart=false\nstartsecs=0\n\
                     stdout_logfile={log}\nstdout_logfile_maxbytes=0\n"
                ),
            )?;
            let mut command = Command::new(program);
            command.arg("-c").arg(&config);
            quiet(&mut command).spawn().map(Running::Process)
        }
        Capturer::Copy => {
            let mut command = Command::new(own);
            command.arg(COPY).arg(log).args(arguments);
            quiet(&mut command).spawn().map(Running::Process)
        }
        Capturer::Nobody => {
            let mut command = Command::new(own);
            command.args(arguments);
            quiet(&mut command).stdout(File::create(log)?);
            command.spawn().map(Running::Process)
        }
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

fn children() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("children"))?;
        found.extend(text.split_ascii_whitespace().flat_map(str::parse::<u32>));
    }
    Ok(found)
}

/// Runs this program as the one that copies.
pub(crate) fn copy_main(arguments: &[String]) -> ExitCode {
    let copied = || -> io::Result<()> {
        let (log, rest) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(rest)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut pipe = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut file = File::create(log)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match pipe.read(&mut buffer)? {
                0 => break,
                count => file.write_all(&buffer[..count])?,
            }
        }
        child.wait().map(drop)
    };
    match copied() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Finds a supervisord, or installs one for this program alone.
pub(crate) fn find_supervisord() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SUPERVISORD") {
        return Some(PathBuf::from(named));
    }
    let answers = |program: &Path| {
        let mut command = Command::new(program);
        quiet(command.arg("--version"))
            .status()
            .is_ok_and(|status| status.success())
    };
    let installed = PathBuf::from("supervisord");
    if answers(&installed) {
        return Some(installed);
    }
    let folder = std::env::current_exe().ok()?.parent()?.join("supervisord");
    let own = folder.join("bin/supervisord");
    if !answers(&own) {
        let made = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&folder)
            .status();
        if made.is_ok_and(|status| status.success()) {
            let mut pip = Command::new(folder.join("bin/pip"));
            // That it failed shows below.
            let _ = pip.args(["install", "--quiet", "supervisor"]).status();
        }
    }
    answers(&own).then_some(own)
}

/// Gives the capturer the time to be as idle as it is when nothing happens.
pub(crate) fn settle() {
    thread::sleep(Duration::from_millis(300));
}
