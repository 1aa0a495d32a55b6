//! Where delivered secrets lie: folders that only their user can look into, in memory where the system has such a place.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::secrets::SecretsError;
use crate::config::PluginName;
use crate::home::{Home, at};
use crate::supervisor::secrets::{Placing, SecretsHold, record_of, sweep};
use crate::supervisor::{Identity, new_invocation};

/// File systems that never write to a disk by themselves.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6]; // tmpfs, ramfs

/// The folder of one delivery. It goes with the last share in it.
#[derive(Debug)]
pub(crate) struct Place {
    paths: SecretsPaths,
    records: PathBuf,
    tag: String,
    in_memory: bool,
    _hold: SecretsHold,
}

/// What a launch is told of the secrets of its plugin.
#[derive(Clone, Debug)]
pub(crate) struct SecretsPaths {
    /// The folder they are in.
    pub(crate) folder: PathBuf,
    /// The record of it, which a shim holds.
    pub(crate) record: PathBuf,
}

impl Place {
    /// Makes the folder for secrets of a plugin, in the first place that will do.
    pub(crate) fn make(
        home: &Home,
        plugin: &PluginName,
        owner: Option<&Identity>,
        links: &[PathBuf],
    ) -> Result<Self, SecretsError> {
        let records = home.delivered();
        let tag = tag(home);
        let own = rustix::process::geteuid().as_raw();
        let uid = owner.map_or(own, |owner| owner.uid);
        let name = format!("{plugin}-{}", new_invocation());
        let mut failure = (records.clone(), io::Error::from(io::ErrorKind::NotFound));
        for (base, in_memory) in bases(home, uid, own) {
            if in_memory && !is_in_memory(&base) {
                continue;
            }
            let shared = base.join(format!("aigis-{uid}-{tag}"));
            let folder = shared.join(&name);
            // With the last folder in it the shared one goes, too.
            let placing = Placing::begin(&records);
            let made = make_shared(&shared, uid == own)
                .and_then(|()| DirBuilder::new().mode(0o700).create(&folder));
            drop(placing);
            let record = record_of(&records, &name);
            let held = made.and_then(|()| {
                let held = SecretsHold::create(&record, &folder, links);
                if held.is_err() {
                    // It is empty, so nothing is left behind.
                    let _ = fs::remove_dir(&folder);
                }
                held
            });
            match held {
                Ok(hold) => {
                    return Ok(Self {
                        paths: SecretsPaths { folder, record },
                        records,
                        tag,
                        in_memory,
                        _hold: hold,
                    });
                }
                Err(error) => failure = (folder, error),
            }
        }
        let (folder, source) = failure;
        Err(SecretsError::Folder { folder, source })
    }

    /// Takes a share in a folder that an earlier core has made.
    pub(crate) fn share(home: &Home, record: &Path) -> io::Result<Self> {
        let (hold, folder) = SecretsHold::share(record)?;
        Ok(Self {
            in_memory: is_in_memory(&folder),
            paths: SecretsPaths {
                folder,
                record: record.to_owned(),
            },
            records: home.delivered(),
            tag: tag(home),
            _hold: hold,
        })
    }

    /// Returns the folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.paths.folder
    }

    /// Returns what a launch is told of it.
    pub(crate) fn paths(&self) -> &SecretsPaths {
        &self.paths
    }

    /// Returns where all records are.
    pub(super) fn records(&self) -> &Path {
        &self.records
    }

    /// Tells whether it is never written to a disk, but for swap space.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// Tells whether a path is a link to secrets of this home.
    pub(super) fn is_of_home(&self, path: &Path) -> bool {
        let leads = fs::read_link(path).unwrap_or_default();
        leads.components().any(|part| {
            let part = part.as_os_str().to_string_lossy();
            part.starts_with("aigis-") && part.ends_with(&self.tag)
        })
    }

    /// Gives the folder, which is complete, to whom it is for.
    pub(super) fn hand_over(&self, owner: Option<&Identity>) -> io::Result<()> {
        match owner {
            Some(owner) => chown(self.folder(), Some(owner.uid), Some(owner.gid)),
            None => Ok(()),
        }
    }
}

/// Makes a folder inside of one, unless it is there.
pub(super) fn make_private(folder: &Path, owner: Option<&Identity>) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => match owner {
            Some(owner) => chown(folder, Some(owner.uid), Some(owner.gid)),
            None => Ok(()),
        },
    }
}

/// Removes what cores of this home have left whose processes were all killed.
pub(crate) fn clear_up(home: &Home) {
    let records = home.delivered();
    sweep(&records);
    // Without its record a folder is nobody's: the home was emptied, for example.
    let own = rustix::process::geteuid().as_raw();
    let tag = tag(home);
    for (base, _) in bases(home, own, own)
        .into_iter()
        .chain(bases(home, own + 1, own))
    {
        for shared in entries(&base) {
            let name = shared
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let is_ours = fs::symlink_metadata(&shared)
                .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
            if !(is_ours && name.starts_with("aigis-") && name.ends_with(&tag)) {
                continue;
            }
            for folder in entries(&shared) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                if !record_of(&records, &name).exists() {
                    // What cannot be removed is not ours after all.
                    let _ = fs::remove_dir_all(&folder);
                }
            }
            // Only if nothing is in it any more.
            let _ = fs::remove_dir(&shared);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

/// Returns what tells the folders of this home from those of others.
fn tag(home: &Home) -> String {
    let root = home.root().canonicalize();
    let root = root.as_deref().unwrap_or(home.root());
    let hash = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
    hash[..16].to_owned()
}

/// Returns the folders to try, in this order, and which of them only if they are in memory: for `uid`, by a core of the
/// user `own`.
fn bases(home: &Home, uid: u32, own: u32) -> Vec<(PathBuf, bool)> {
    let mut all = Vec::new();
    if uid == own {
        // Nobody else comes into these.
        let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        all.extend(named.filter(|folder| folder.is_absolute()));
        all.push(format!("/run/user/{own}").into());
    }
    if own == 0 {
        all.push("/run".into());
    }
    all.push("/dev/shm".into());
    let last = match uid == own {
        true => home.delivered(),
        false => home.users(),
    };
    let in_memory = all.into_iter().map(|folder| (folder, true));
    in_memory.chain([(last, false)]).collect()
}

fn is_in_memory(folder: &Path) -> bool {
    // The width of the field differs from system to system.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    rustix::fs::statfs(folder).is_ok_and(|found| IN_MEMORY.contains(&(found.f_type as i64)))
}

/// Makes the folder that the folders of all deliveries to one user are in, and sees to it that nobody else has made it:
/// its name can be known, and some places are everybody's.
fn make_shared(folder: &Path, private: bool) -> io::Result<()> {
    if let Some(base) = folder.parent() {
        // Only the last of the places may have to be made.
        fs::create_dir_all(base)?;
    }
    make_private(folder, None)?;
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        let error = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is there already and belongs to somebody else",
        );
        return Err(at(folder, error));
    }
    // Another user has to come through; what is in it is closed to all but one.
    let mode = if private { 0o700 } else { 0o711 };
    fs::set_permissions(folder, Permissions::from_mode(mode))
}
