//! The record that a shim keeps of itself, so that a later core can find it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::linux;
use super::protocol::{LaunchFailure, LaunchSpec, OsText, PROTOCOL_VERSION};
use crate::config::PluginName;

/// Records are padded with spaces to this size, so that the second writing of one covers
/// the first entirely and a reader never sees half of each.
const RECORD_BYTES: usize = 1024;

/// What `run/shims/<plugin>.json` holds. While its shim lives the file is locked (`flock`).
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
}

impl ShimRecord {
    /// Reads a record; none if there is no file or no whole record in it.
    ///
    /// # Errors
    ///
    /// Fails if the file exists and cannot be read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Option<ShimRecord>> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Kills what still runs of this launch and waits for its end. The shim must be dead.
    ///
    /// Returns what is still there after a few seconds of trying, which nothing but the
    /// kernel can hold.
    pub(super) fn kill_leftovers(&self) -> Vec<linux::Process> {
        if linux::boot_id().is_ok_and(|boot| boot == self.boot_id) {
            let group = self
                .cgroup
                .as_ref()
                .map(|folder| Cgroup::at(folder.as_path()));
            linux::kill_leftovers(
                self.pid.zip(self.start_time),
                &self.invocation,
                group.as_ref(),
            )
        } else {
            Vec::new()
        }
    }
}

/// A shim's own record: locked from its creation to its removal.
#[derive(Debug)]
pub(super) struct OwnRecord {
    path: PathBuf,
    file: File,
    content: ShimRecord,
}

impl OwnRecord {
    /// Locks and writes the record of a launch that is about to happen.
    ///
    /// A record that a killed shim left behind is taken over once nothing is left of its tree.
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
        let record = OwnRecord {
            path,
            file,
            content: ShimRecord {
                version: PROTOCOL_VERSION,
                plugin: spec.plugin.clone(),
                invocation: spec.invocation.clone(),
                shim_pid: std::process::id(),
                pid: None,
                start_time: None,
                boot_id: linux::boot_id().map_err(failure)?,
                started_at: jiff::Timestamp::now().to_string(),
                cgroup: spec.confinement.cgroup.clone(),
            },
        };
        record.file.set_len(0).map_err(failure)?;
        record.write().map_err(failure)?;
        Ok(record)
    }

    /// Adds the process that was launched.
    pub(super) fn started(&mut self, pid: u32, start_time: u64) -> io::Result<()> {
        self.content.pid = Some(pid);
        self.content.start_time = Some(start_time);
        self.write()
    }

    /// Removes the record.
    pub(super) fn remove(self) {
        // The lock goes with the process in any case, and an unlocked record of a tree
        // that is gone does no harm.
        let _ = fs::remove_file(&self.path);
    }

    fn write(&self) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&self.content)?;
        bytes.resize(bytes.len().max(RECORD_BYTES), b' ');
        bytes.push(b'\n');
        self.file.write_all_at(&bytes, 0)
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
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A shim that ended meanwhile has removed the file that we have just locked.
        match fs::metadata(path) {
            Ok(found) if found.ino() == file.metadata()?.ino() => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes the record that a killed shim left behind, unless another one has it by now.
pub(super) fn remove_abandoned(path: &Path, invocation: &str) {
    let Ok(Some(record)) = ShimRecord::read(path) else {
        return;
    };
    if record.invocation != invocation {
        return;
    }
    if let Ok(Some(file)) = lock(path) {
        let _ = fs::remove_file(path);
        drop(file);
    }
}
