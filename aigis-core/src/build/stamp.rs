//! The record of what a plugin's artifacts were built from.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::artifact::Kept;
use super::error::FileFault;

/// Changes whenever the meaning of a field does, which makes older records count for nothing.
const FORMAT: u32 = 1;

/// What a plugin's artifacts were built from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    format: u32,
    /// The hash of the request, the flags and this program.
    pub(super) setting: String,
    /// What the compiler said about itself.
    pub(super) compiler: String,
    /// The hash of the plugin's folder, without the lock file.
    pub(super) tree: String,
    /// What lies elsewhere: path dependencies, a workspace's manifest.
    pub(super) outside: Vec<Outside>,
    /// The lock file, and the states of it that lead to this build.
    pub(super) lock: PathBuf,
    pub(super) lock_states: Vec<String>,
    pub(super) library: Option<Kept>,
    pub(super) binary: Option<Kept>,
}

/// A file or folder outside the plugin's own that it was built from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outside {
    pub(super) path: PathBuf,
    pub(super) hash: String,
}

/// What the build depended on, before it ran.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) setting: String,
    pub(super) compiler: String,
    pub(super) tree: String,
    pub(super) outside: Vec<Outside>,
}

impl Stamp {
    pub(super) fn new(
        sources: Sources,
        lock: PathBuf,
        lock_states: Vec<String>,
        library: Option<Kept>,
        binary: Option<Kept>,
    ) -> Self {
        Self {
            format: FORMAT,
            setting: sources.setting,
            compiler: sources.compiler,
            tree: sources.tree,
            outside: sources.outside,
            lock,
            lock_states,
            library,
            binary,
        }
    }

    /// Reads the record of `plugin`; one that is damaged or of another format is none.
    pub(super) fn load(folder: &Path, plugin: &str) -> Option<Self> {
        let text = fs::read(path(folder, plugin)).ok()?;
        let stamp: Self = serde_json::from_slice(&text).ok()?;
        (stamp.format == FORMAT).then_some(stamp)
    }

    /// Replaces the record of `plugin` as a whole.
    pub(super) fn save(&self, folder: &Path, plugin: &str) -> Result<(), FileFault> {
        let path = path(folder, plugin);
        let write = || {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new()
                .prefix(".new-")
                .tempfile_in(folder)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(FileFault::of("write", &path))
    }
}

fn path(folder: &Path, plugin: &str) -> PathBuf {
    folder.join(format!("{plugin}.json"))
}
