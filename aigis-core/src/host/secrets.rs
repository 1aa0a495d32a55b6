//! Secret files: from `secrets/<plugin>/` to where the plugin's manifest wants them, and away again.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

use crate::config::Secret;
use crate::logging::SecretValue;

/// The most of one secret that is looked for in logs, in bytes.
const MAX_VALUE: u64 = 256 * 1024;

/// The most of all secrets of a plugin together: they are sent to its shims.
const MAX_VALUES: u64 = 2 * 1024 * 1024;

/// Held while a secret is put to its place or taken away: between a look at what stands there and what
/// is done about it, no other one may come there.
static PLACING: Mutex<()> = Mutex::new(());

/// Why a plugin's secrets cannot be delivered; none of them has been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// Some are not there.
    #[error("The following secret files are missing: {}; put them there, none was copied", Paths(.0))]
    Missing(Vec<PathBuf>),
    /// A link leads the copy out of the plugin's folder.
    #[error("secret `{name}` would be written to `{target}`, outside the plugin's folder `{root}`")]
    Outside {
        /// The secret.
        name: String,
        /// Where links lead.
        target: PathBuf,
        /// The plugin's folder.
        root: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("secret `{name}` cannot be copied to `{target}`")]
    Copy {
        /// The secret.
        name: String,
        /// Where it was to go.
        target: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self
            .0
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        f.write_str(&paths.join(", "))
    }
}

/// The secrets of one invocation or generation.
///
/// When it is dropped they are removed, but only those that a newer one has not replaced. Until it
/// is [kept](Self::keep), what it has replaced comes back instead: a version that does not get to
/// run leaves the one before it as it was.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    files: Vec<DeliveredFile>,
}

/// One of them, where it was put.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeliveredFile {
    path: PathBuf,
    /// Which file it is, whatever else may come to stand at its path.
    device: u64,
    inode: u64,
    /// What stood there before, under another name.
    #[serde(skip)]
    replaced: Option<TempPath>,
}

impl Clone for DeliveredFile {
    /// Copies where it is and which, not what it has replaced.
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            device: self.device,
            inode: self.inode,
            replaced: None,
        }
    }
}

impl PartialEq for DeliveredFile {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.device, self.inode) == (&other.path, other.device, other.inode)
    }
}

impl Eq for DeliveredFile {}

impl Delivered {
    /// Takes over what an earlier core has delivered.
    pub(crate) fn taken_over(files: Vec<DeliveredFile>) -> Self {
        Self { files }
    }

    /// Returns which files there are.
    pub(crate) fn files(&self) -> &[DeliveredFile] {
        &self.files
    }

    /// Gives up what has been replaced: the version that these secrets are for runs.
    pub(crate) fn keep(mut self) -> Self {
        for file in &mut self.files {
            file.replaced = None;
        }
        self
    }
}

/// Returns where each secret ends up: in a folder, or in place of the file that is there.
pub(crate) fn destinations(secrets: &[Secret]) -> Vec<PathBuf> {
    secrets.iter().map(destination).collect()
}

fn destination(secret: &Secret) -> PathBuf {
    if secret.target.is_file() {
        return secret.target.clone();
    }
    match Path::new(&secret.name).file_name() {
        Some(name) => secret.target.join(name),
        None => secret.target.clone(),
    }
}

/// Reads what of a plugin's secrets must not stand in its log; of very large ones the begin.
pub(crate) fn values(secrets: &[Secret], store: &Path) -> Vec<SecretValue> {
    let mut values = Vec::new();
    let mut left = MAX_VALUES;
    for secret in secrets {
        let mut value = Vec::new();
        // One that cannot be read is delivered to nobody.
        let read = File::open(store.join(&secret.name))
            .and_then(|file| file.take(left.min(MAX_VALUE)).read_to_end(&mut value));
        if read.is_ok() {
            left -= value.len() as u64;
            let name = secret.name.clone();
            values.push(SecretValue { name, value });
        }
    }
    values
}

/// Reads what may have been delivered from `store`: all that is there.
pub(crate) fn stored(store: &Path) -> Vec<SecretValue> {
    let mut secrets = Vec::new();
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Some(name) = path.strip_prefix(store).ok().and_then(Path::to_str) {
                let name = name.to_owned();
                let target = PathBuf::new();
                secrets.push(Secret { name, target });
            }
        }
    }
    values(&secrets, store)
}

/// Copies all of a plugin's secrets from `store`, or none.
///
/// # Errors
/// Everything that is missing, at once; or the first file that cannot be copied.
pub(crate) fn deliver(
    secrets: &[Secret],
    store: &Path,
    root: &Path,
) -> Result<Delivered, SecretsError> {
    let missing: Vec<PathBuf> = secrets
        .iter()
        .map(|secret| store.join(&secret.name))
        .filter(|path| !path.is_file())
        .collect();
    if !missing.is_empty() {
        return Err(SecretsError::Missing(missing));
    }
    let mut delivered = Delivered::default();
    for secret in secrets {
        // What was delivered before a failure goes away with `delivered`.
        let file = copy(secret, &store.join(&secret.name), root)?;
        delivered.files.push(file);
    }
    Ok(delivered)
}

fn copy(secret: &Secret, from: &Path, root: &Path) -> Result<DeliveredFile, SecretsError> {
    let target = destination(secret);
    let failed = |source| SecretsError::Copy {
        name: secret.name.clone(),
        target: target.clone(),
        source,
    };
    let folder = target.parent().unwrap_or(root);
    let root = root.canonicalize().map_err(failed)?;
    // Before anything is made: of the path, the part that exists decides where it leads.
    let existing = folder.ancestors().find(|ancestor| ancestor.exists());
    let leads_to = existing.unwrap_or(&root).canonicalize().map_err(failed)?;
    if !leads_to.starts_with(&root) {
        return Err(SecretsError::Outside {
            name: secret.name.clone(),
            target: leads_to,
            root,
        });
    }
    fs::create_dir_all(folder).map_err(failed)?;
    // A temporary file has mode 0600 from the start, and replaces a link instead of following it.
    let mut copy = tempfile::Builder::new()
        .prefix(".aigis-secret-")
        .tempfile_in(folder)
        .map_err(failed)?;
    let mut source = File::open(from).map_err(failed)?;
    io::copy(&mut source, copy.as_file_mut()).map_err(failed)?;
    copy.as_file()
        .set_permissions(Permissions::from_mode(0o600))
        .map_err(failed)?;
    if let Ok(modified) = source.metadata().and_then(|metadata| metadata.modified()) {
        // The time is a courtesy to whoever looks for a change.
        let _ = copy.as_file().set_modified(modified);
    }
    let metadata = copy.as_file().metadata().map_err(failed)?;
    let _placing = PLACING.lock().unwrap_or_else(PoisonError::into_inner);
    // Usually there is none. Where links cannot be made, the old file is replaced for good.
    let replaced = tempfile::Builder::new()
        .prefix(".aigis-secret-")
        .make_in(folder, |path| fs::hard_link(&target, path))
        .ok()
        .map(NamedTempFile::into_temp_path);
    copy.persist(&target).map_err(|error| failed(error.error))?;
    Ok(DeliveredFile {
        path: target,
        device: metadata.dev(),
        inode: metadata.ino(),
        replaced,
    })
}

impl Drop for Delivered {
    fn drop(&mut self) {
        let _placing = PLACING.lock().unwrap_or_else(PoisonError::into_inner);
        for file in self.files.drain(..) {
            let own = fs::symlink_metadata(&file.path).is_ok_and(|metadata| {
                metadata.dev() == file.device && metadata.ino() == file.inode
            });
            // Failures: it is gone already, or the folder cannot be written any more.
            if own {
                let _ = match file.replaced {
                    Some(old) => old.persist(&file.path).map_err(|error| error.error),
                    None => fs::remove_file(&file.path),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new(secrets: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            fs::create_dir_all(folder.path().join("store")).expect("a store");
            fs::create_dir_all(folder.path().join("plugin")).expect("a plugin");
            for (name, content) in secrets {
                let path = folder.path().join("store").join(name);
                fs::create_dir_all(path.parent().expect("has a parent")).expect("a folder");
                fs::write(path, content).expect("writes");
            }
            Self { folder }
        }

        fn secret(&self, name: &str, target: &str) -> Secret {
            Secret {
                name: name.to_owned(),
                target: self.plugin().join(target),
            }
        }

        fn plugin(&self) -> PathBuf {
            self.folder.path().join("plugin")
        }

        fn deliver(&self, secrets: &[Secret]) -> Result<Delivered, SecretsError> {
            deliver(secrets, &self.folder.path().join("store"), &self.plugin())
        }
    }

    #[test]
    fn they_land_in_their_folder_with_mode_0600_and_go_again() {
        let fixture = Fixture::new(&[("deep/key", "s3cret")]);
        let delivered = fixture
            .deliver(&[fixture.secret("deep/key", "a/b")])
            .expect("is there");
        let path = fixture.plugin().join("a/b/key");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "s3cret");
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(delivered);
        assert!(!path.exists());
    }

    #[test]
    fn a_target_that_is_a_file_is_replaced() {
        let fixture = Fixture::new(&[("key", "new")]);
        fs::write(fixture.plugin().join("conf"), "old").expect("writes");
        let _delivered = fixture
            .deliver(&[fixture.secret("key", "conf")])
            .expect("is there");
        let content = fs::read_to_string(fixture.plugin().join("conf")).expect("reads");
        assert_eq!(content, "new");
    }

    #[test]
    fn one_missing_means_none_is_copied_and_all_missing_are_named() {
        let fixture = Fixture::new(&[("there", "x")]);
        let secrets = ["there", "gone", "lost"].map(|name| fixture.secret(name, "s"));
        let error = fixture.deliver(&secrets).expect_err("two are missing");
        let message = error.to_string();
        assert!(
            message.contains("gone") && message.contains("lost"),
            "{message}"
        );
        assert!(!fixture.plugin().join("s").exists());
    }

    #[test]
    fn a_link_out_of_the_folder_is_refused() {
        let fixture = Fixture::new(&[("key", "x")]);
        let outside = fixture.folder.path().join("outside");
        fs::create_dir(&outside).expect("a folder");
        std::os::unix::fs::symlink(&outside, fixture.plugin().join("way")).expect("a link");
        let error = fixture.deliver(&[fixture.secret("key", "way/in")]);
        assert!(
            matches!(error, Err(SecretsError::Outside { .. })),
            "{error:?}"
        );
        assert_eq!(fs::read_dir(&outside).expect("reads").count(), 0);
    }

    #[test]
    fn the_old_ones_do_not_take_the_new_ones_away() {
        let fixture = Fixture::new(&[("key", "x")]);
        let secrets = [fixture.secret("key", "s")];
        let old = fixture.deliver(&secrets).expect("is there").keep();
        let new = fixture.deliver(&secrets).expect("is there").keep();
        drop(old);
        assert!(fixture.plugin().join("s/key").exists());
        drop(new);
        let left = fs::read_dir(fixture.plugin().join("s")).expect("reads");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn new_ones_that_come_to_nothing_give_the_old_ones_back() {
        let fixture = Fixture::new(&[("key", "old")]);
        let secrets = [fixture.secret("key", "s")];
        let old = fixture.deliver(&secrets).expect("is there").keep();
        fs::write(fixture.folder.path().join("store/key"), "new").expect("writes");
        let new = fixture.deliver(&secrets).expect("is there");
        let path = fixture.plugin().join("s/key");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "new");
        drop(new);
        assert_eq!(fs::read_to_string(&path).expect("reads"), "old");
        drop(old);
        let left = fs::read_dir(fixture.plugin().join("s")).expect("reads");
        assert_eq!(left.count(), 0);
    }
}
