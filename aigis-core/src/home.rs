//! The folder that a core works in, and where things are in it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::config::PluginName;

/// A core's folder: `config/`, `ext/`, `secrets/`, `log/`, `run/` and `data/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Names the folder `root`; nothing is made yet.
    ///
    /// # Errors
    /// The current folder, which a relative path starts from, cannot be found.
    pub fn new(root: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self {
            root: std::path::absolute(root)?,
        })
    }

    /// Returns the folder itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where the config is read from when nobody says otherwise.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config").join("config.aigis")
    }

    /// Returns where a plugin runs from.
    pub fn plugin(&self, name: &PluginName) -> PathBuf {
        self.root.join("ext").join(name)
    }

    /// Returns where a plugin's secrets are kept.
    pub fn secrets(&self, name: &PluginName) -> PathBuf {
        self.root.join("secrets").join(name)
    }

    /// Returns the folder of a plugin's own that outlives reloads and fetches.
    pub fn data(&self, name: &PluginName) -> PathBuf {
        self.root.join("data").join(name)
    }

    /// Returns the log of the core.
    pub fn core_log(&self) -> PathBuf {
        self.root.join("log").join("core.log")
    }

    /// Returns the folder of the plugins' logs.
    pub fn plugin_logs(&self) -> PathBuf {
        self.root.join("log").join("plugins")
    }

    /// Returns the log of a plugin.
    pub fn plugin_log(&self, name: &str) -> PathBuf {
        self.plugin_logs().join(format!("{name}.log"))
    }

    /// Returns the folder of what only a running core and its next start need.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Returns the folder of what is for other users.
    pub(crate) fn users(&self) -> PathBuf {
        self.root.join("users")
    }

    /// Returns the folder that belongs to another user, whose processes find their session there.
    pub(crate) fn user(&self, uid: u32) -> PathBuf {
        self.users().join(uid.to_string())
    }

    /// Returns where it is written down what secrets have been delivered to where.
    pub(crate) fn delivered(&self) -> PathBuf {
        self.run().join("secrets")
    }

    /// Returns the socket that sessions connect to.
    pub fn socket(&self) -> PathBuf {
        self.run().join("core.sock")
    }

    /// Returns where a dying core writes whose code was running.
    pub(crate) fn crash_file(&self) -> PathBuf {
        self.run().join("crash")
    }

    /// Makes the folders that are always there.
    ///
    /// # Errors
    /// The first folder that cannot be made.
    pub(crate) fn make_folders(&self) -> io::Result<()> {
        for name in ["ext", "data", "log/plugins"] {
            make(&self.root.join(name))?;
        }
        for name in [
            "secrets",
            "run",
            "run/shims",
            "run/libraries",
            "run/settings",
            "run/secrets",
        ] {
            let folder = self.root.join(name);
            make(&folder)?;
            // What is in these is nobody else's business.
            fs::set_permissions(&folder, Permissions::from_mode(0o700))
                .map_err(|error| at(&folder, error))?;
        }
        Ok(())
    }

    /// Takes the home for this process, for as long as the lock lives.
    ///
    /// # Errors
    /// [`LockError::InUse`] when another core has it.
    pub(crate) fn lock(&self) -> Result<HomeLock, LockError> {
        let path = self.run().join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| LockError::Open(at(&path, error)))?;
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    // Without the number the message is still right.
                    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
                    let pid: Option<u32> = text.trim().parse().ok();
                    if begun.elapsed() >= AFTERLIFE || pid.is_none_or(is_alive) {
                        return Err(LockError::InUse(pid));
                    }
                    // A process that the dead core was just starting has the file open for a moment.
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(LockError::Open(at(&path, error.into()))),
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| LockError::Open(at(&path, error)))?;
        Ok(HomeLock { file })
    }
}

/// For how long the lock of a dead core may be held by what it was starting, and how often that is looked at.
const AFTERLIFE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Tells whether there is a process of this number that has not ended.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    let state = stat.ok().and_then(|stat| {
        let (_, rest) = stat.rsplit_once(')')?;
        rest.trim_start().chars().next()
    });
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|error| at(folder, error))
}

/// Adds the path to an error of the system.
pub(crate) fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

/// Keeps the home for this process; the system lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct HomeLock {
    file: File,
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Closing alone would not do: a process that is just being started still has the file open.
        // Should it fail, the lock goes when that process is itself.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Why a home cannot be taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another core has it: its process, where known.
    InUse(Option<u32>),
    /// The lock cannot be opened.
    Open(io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_taken_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::new(folder.path()).expect("a home");
        home.make_folders().expect("folders");
        let lock = home.lock().expect("is free");
        // As a child has it between its fork and its exec.
        let _copy = lock.file.try_clone().expect("is copied");
        match home.lock() {
            Err(LockError::InUse(pid)) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("expected a home in use, found {other:?}"),
        }
        drop(lock);
        home.lock().expect("is free again");
    }
}
