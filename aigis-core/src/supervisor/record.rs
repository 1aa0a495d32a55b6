//! The record that a shim keeps of itself, so that a later core can find it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cgroup::Cgroup;
use super::protocol::{LaunchFailure, LaunchSpec, OsText, PROTOCOL_VERSION};
use super::{Exit, ProcessName, linux};
use crate::config::PluginName;

/// The largest record that is read; memos are small.
const MAX_RECORD_BYTES: u64 = 1 << 20;

/// What `run/shims/<plugin>.json` holds. While its shim lives the file is locked (`flock`).
///
/// It is replaced as a whole, so a reader finds one state of it or another, never half of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// The version of the shim protocol.
    pub version: u32,
    /// The plugin.
    pub plugin: PluginName,
    /// This launch.
    pub invocation: String,
    /// The shim's process id.
    pub shim_pid: u32,
    /// When the shim started, in clock ticks since the machine did.
    #[serde(default)]
    pub shim_start_time: u64,
    /// The plugin's process id; none until it is launched.
    pub pid: Option<u32>,
    /// When the plugin's process started, in clock ticks since the machine did.
    pub start_time: Option<u64>,
    /// The machine's boot that the ids above belong to.
    pub boot_id: String,
    /// When the plugin was launched, RFC 3339.
    pub started_at: String,
    /// The folder of its control group.
    #[serde(default)]
    pub cgroup: Option<OsText>,
    /// What the core that launched it has left for the next one.
    #[serde(default)]
    pub memo: Value,
    /// How it has ended by itself; none while it runs, or if its shim was killed.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// How a plugin has ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How its leader ended.
    pub exit: Exit,
    /// When nothing of its tree was left, RFC 3339.
    pub at: String,
    /// For how long the leader has run, in milliseconds.
    pub ran_ms: u64,
    /// The processes that had to be killed.
    pub killed: Vec<ProcessName>,
}

impl ShimRecord {
    /// Reads a record; none if there is no file or no whole record in it.
    ///
    /// # Errors
    ///
    /// Fails if the file exists and cannot be read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Option<ShimRecord>> {
        use io::Read as _;
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(MAX_RECORD_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Returns its control group.
    pub(super) fn group(&self) -> Option<Cgroup> {
        let folder = self.cgroup.as_ref()?;
        Some(Cgroup::at(folder.as_path()))
    }

    /// Tells whether its ids belong to this run of the machine.
    pub(super) fn is_of_this_boot(&self) -> bool {
        linux::boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// Kills what still runs of this launch and waits for its end. The shim must be dead.
    ///
    /// Returns what is still there after a few seconds of trying, which nothing but the
    /// kernel can hold.
    pub(super) fn kill_leftovers(&self) -> Vec<linux::Process> {
        // A shim writes how it ended when nothing is left.
        if self.ended.is_none() && self.is_of_this_boot() {
            let leader = self.pid.zip(self.start_time);
            linux::kill_leftovers(leader, &self.invocation, self.group().as_ref())
        } else {
            Vec::new()
        }
    }
}

/// Returns where the shim with this record listens for a core.
pub(super) fn socket_of(record: &Path) -> PathBuf {
    record.with_extension("sock")
}

/// A shim's own record: locked from its creation to the shim's end.
#[derive(Debug)]
pub(super) struct OwnRecord {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    content: ShimRecord,
}

impl OwnRecord {
    /// Locks and writes the record of a launch that is about to happen.
    ///
    /// A record that another shim left behind is taken over once nothing is left of its tree.
    pub(super) fn create(spec: &LaunchSpec) -> Result<OwnRecord, LaunchFailure> {
        let path = spec.record.as_path().to_owned();
        let failure = |error: io::Error| LaunchFailure::Record {
            record: spec.record.as_path().display().to_string(),
            message: error.to_string(),
        };
        let file = lock(&path).map_err(failure)?;
        let Some(file) = file else {
            return Err(LaunchFailure::AlreadyRunning {
                record: path.display().to_string(),
            });
        };
        if let Some(old) = ShimRecord::read(&path).map_err(failure)? {
            let survivors = old.kill_leftovers();
            if !survivors.is_empty() {
                return Err(LaunchFailure::AlreadyRunning {
                    record: path.display().to_string(),
                });
            }
        }
        let own = std::process::id();
        let mut record = OwnRecord {
            path,
            file,
            content: ShimRecord {
                version: PROTOCOL_VERSION,
                plugin: spec.plugin.clone(),
                invocation: spec.invocation.clone(),
                shim_pid: own,
                shim_start_time: linux::Process::read(own as i32).map_or(0, |it| it.start_time),
                pid: None,
                start_time: None,
                boot_id: linux::boot_id().map_err(failure)?,
                started_at: jiff::Timestamp::now().to_string(),
                cgroup: spec.confinement.cgroup.clone(),
                memo: spec.memo.clone(),
                ended: None,
            },
        };
        record.write().map_err(failure)?;
        Ok(record)
    }

    pub(super) fn content(&self) -> &ShimRecord {
        &self.content
    }

    /// Adds the process that was launched.
    pub(super) fn started(&mut self, pid: u32, start_time: u64) -> io::Result<()> {
        self.content.pid = Some(pid);
        self.content.start_time = Some(start_time);
        self.write()
    }

    /// Keeps a new memo.
    pub(super) fn remember(&mut self, memo: Value) -> io::Result<()> {
        self.content.memo = memo;
        self.write()
    }

    /// Adds how the plugin ended; the record stays for a core to read.
    pub(super) fn ended(&mut self, exit: Exit, ran_ms: u64, killed: &[ProcessName]) {
        self.content.ended = Some(Ended {
            exit,
            at: jiff::Timestamp::now().to_string(),
            ran_ms,
            killed: killed.to_vec(),
        });
        // Without it the next core takes the plugin for one whose shim was killed, and launches it.
        let _ = self.write();
    }

    /// Removes the record.
    pub(super) fn remove(&self) {
        // The lock goes with the process in any case, and an unlocked record of a tree
        // that is gone does no harm.
        let _ = fs::remove_file(&self.path);
    }

    /// Puts a new file in the place of the old one, locked before anybody can find it.
    fn write(&mut self) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self.content)?;
        let next = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        // Whoever holds the lock of the record is the only one to write beside it.
        let written = file
            .try_lock()
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(&bytes))
            .and_then(|()| fs::rename(&next, &self.path));
        if let Err(error) = written {
            let _ = fs::remove_file(&next);
            return Err(error);
        }
        self.file = file;
        Ok(())
    }
}

/// Opens and locks the file at `path`; none if somebody else holds the lock.
fn lock(path: &Path) -> io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match locked(path, file)? {
            Lock::Ours(file) => return Ok(Some(file)),
            Lock::Theirs => return Ok(None),
            Lock::Outdated => {}
        }
    }
}

/// What has become of the attempt to lock a file.
enum Lock {
    Ours(File),
    /// Somebody else holds it.
    Theirs,
    /// It is not the one at its path any more.
    Outdated,
}

/// Locks a file that was opened at `path`.
fn locked(path: &Path, file: File) -> io::Result<Lock> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Lock::Theirs),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // A shim that ended or wrote meanwhile has removed the file that we have just locked.
    match fs::metadata(path) {
        Ok(found) if found.ino() == file.metadata()?.ino() => Ok(Lock::Ours(file)),
        Ok(_) => Ok(Lock::Outdated),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lock::Outdated),
        Err(error) => Err(error),
    }
}

/// What a record stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing is there.
    Nothing,
    /// Its shim lives; what it has written may be of the launch before.
    Locked(Option<ShimRecord>),
    /// Its shim is gone, and nobody else takes the record while this is there.
    Free(Option<ShimRecord>, File),
}

/// Looks at a record, and keeps it if nobody else does.
pub(super) fn look(path: &Path) -> io::Result<Found> {
    loop {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        match locked(path, file)? {
            Lock::Ours(file) => return Ok(Found::Free(ShimRecord::read(path)?, file)),
            Lock::Theirs => return Ok(Found::Locked(ShimRecord::read(path)?)),
            Lock::Outdated => {}
        }
    }
}

/// Removes the record that a shim left behind, unless another one has it by now.
pub(super) fn remove_abandoned(path: &Path, invocation: &str) {
    if let Ok(Found::Free(Some(record), file)) = look(path)
        && record.invocation == invocation
    {
        remove(path);
        drop(file);
    }
}

/// Removes a record whose lock the caller holds, and what belongs to it.
pub(super) fn remove(path: &Path) {
    // What cannot be removed now is looked at again by the next core.
    let _ = fs::remove_file(socket_of(path));
    let _ = fs::remove_file(path.with_extension("new"));
    let _ = fs::remove_file(path);
}
