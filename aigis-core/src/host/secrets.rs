//! Secret files: from `secrets/<plugin>/` into a folder in memory, with links where the plugin's manifest wants them, and
//! away again.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{
    MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink,
};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::secrets_place::Place;
use rustix::fs::{Mode, OFlags};

use crate::config::Secret;
use crate::home::Home;
use crate::logging::SecretValue;
use crate::supervisor::Identity;
use crate::supervisor::secrets::Placing;

/// The most of one secret that is looked for in logs, in bytes.
const MAX_VALUE: u64 = 256 * 1024;

/// The most of all secrets of a plugin together: they are sent to its shims.
const MAX_VALUES: u64 = 2 * 1024 * 1024;

/// The permissions of a source that give it to others than its owner.
const READABLE: u32 = 0o044;

/// Why a plugin's secrets cannot be delivered; none of them has been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// Some are not there.
    #[error("The following secret files are missing: {}; put them there, none was delivered", Paths(.0, ", "))]
    Missing(Vec<PathBuf>),
    /// Others than their owner can read some.
    #[error(
        "other users can read these secret files, none was delivered: {}; run `chmod 600 {}`, or write \
         READABLE_SECRETS = true if that is meant to be so",
        Paths(.0, ", "), Paths(.0, " ")
    )]
    Readable(Vec<PathBuf>),
    /// A link leads the way to a secret out of the plugin's folder.
    #[error("secret `{name}` would be put at `{target}`, outside the plugin's folder `{root}`")]
    Outside {
        /// The secret.
        name: String,
        /// Where links lead.
        target: PathBuf,
        /// The plugin's folder.
        root: PathBuf,
    },
    /// There is no folder for them.
    #[error("no folder can be made for the secrets; the last that was tried is `{folder}`")]
    Folder {
        /// The last one that was tried.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
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

/// Paths, with a text between each two, in quotes where a shell needs them.
struct Paths<'a>(&'a [PathBuf], &'static str);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            let text = path.display().to_string();
            let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
            match text.chars().all(plain) {
                true => f.write_str(&text)?,
                false => write!(f, "'{}'", text.replace('\'', r"'\''"))?,
            }
        }
        Ok(())
    }
}

/// What is delivered to whom.
pub(crate) struct Delivery<'a> {
    /// The secrets.
    pub(crate) secrets: &'a [Secret],
    /// The folder that they come from.
    pub(crate) store: &'a Path,
    /// The plugin's folder, which the links stay inside.
    pub(crate) root: &'a Path,
    /// Whom the files are to belong to, if not to the core's own user.
    pub(crate) owner: Option<&'a Identity>,
    /// Whether others may be able to read the sources.
    pub(crate) readable: bool,
}

/// The secrets of one invocation or generation.
///
/// When it is dropped their folder is removed and with it the links that lead there, unless a shim or another core still
/// holds it. Until it is [kept](Self::keep), what the links have replaced comes back in any case: a version that does not
/// get to run leaves the one before it as it was.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    links: Vec<DeliveredLink>,
    /// None if there are no secrets. Dropped last, after the links.
    place: Option<Place>,
}

#[derive(Debug)]
struct DeliveredLink {
    path: PathBuf,
    /// Which link it is, whatever else may come to stand at its path.
    device: u64,
    inode: u64,
    /// What stood there before, under another name.
    replaced: Option<TempPath>,
}

impl Delivered {
    /// Takes a share in what an earlier core has delivered.
    pub(crate) fn taken_over(home: &Home, record: &Path) -> io::Result<Self> {
        Ok(Self {
            links: Vec::new(),
            place: Some(Place::share(home, record)?),
        })
    }

    /// Gives up what has been replaced: the version that these secrets are for runs. From now on the links go with the
    /// folder: another core may take over what needs them.
    pub(crate) fn keep(mut self) -> Self {
        self.links.clear();
        self
    }

    /// Returns where they are; none if there are none.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Tells whether nobody has taken them away, as a system does with a user's folder when that logs out.
    pub(crate) fn is_there(&self) -> bool {
        self.place
            .as_ref()
            .is_none_or(|place| place.folder().is_dir())
    }
}

/// Returns where each secret is found: in a folder, or in place of the file or the link that is there.
pub(crate) fn destinations(secrets: &[Secret]) -> Vec<PathBuf> {
    secrets.iter().map(destination).collect()
}

fn destination(secret: &Secret) -> PathBuf {
    let target = &secret.target;
    // What a core that was killed has left leads nowhere.
    let leads_nowhere = || target.is_symlink() && !target.exists();
    if target.is_file() || leads_nowhere() {
        return target.clone();
    }
    match Path::new(&secret.name).file_name() {
        Some(name) => target.join(name),
        None => target.clone(),
    }
}

/// Reads what of a plugin's secrets must not stand in its log, from where they come from or are; of very large ones the
/// begin.
pub(crate) fn values(secrets: &[Secret], folder: &Path) -> Vec<SecretValue> {
    let mut values = Vec::new();
    let mut left = MAX_VALUES;
    for secret in secrets {
        let mut value = Vec::new();
        // One that cannot be read is delivered to nobody.
        let read = regular(&folder.join(&secret.name))
            .and_then(|file| file.take(left.min(MAX_VALUE)).read_to_end(&mut value));
        if read.is_ok() {
            left -= value.len() as u64;
            let name = secret.name.clone();
            values.push(SecretValue { name, value });
        }
    }
    values
}

/// Opens a file, which may be a plugin's to change: neither a link nor what would keep its reader waiting.
fn regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Reads all secrets that are in a folder.
pub(crate) fn all_values(folder: &Path) -> Vec<SecretValue> {
    let mut secrets = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Some(name) = path.strip_prefix(folder).ok().and_then(Path::to_str) {
                let name = name.to_owned();
                let target = PathBuf::new();
                secrets.push(Secret { name, target });
            }
        }
    }
    values(&secrets, folder)
}

/// Delivers all of a plugin's secrets, or none. `place` makes the folder for them, and is told where links are to lead
/// there.
///
/// # Errors
/// Everything that is missing or readable by others, at once; or the first file that cannot be copied.
pub(crate) fn deliver(
    delivery: &Delivery<'_>,
    place: impl FnOnce(&[PathBuf]) -> Result<Place, SecretsError>,
) -> Result<Delivered, SecretsError> {
    let Delivery { secrets, store, .. } = delivery;
    if secrets.is_empty() {
        return Ok(Delivered::default());
    }
    let sources: Vec<PathBuf> = secrets.iter().map(|one| store.join(&one.name)).collect();
    let missing: Vec<PathBuf> = sources
        .iter()
        .filter(|path| !path.is_file())
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(SecretsError::Missing(missing));
    }
    let mut opened = Vec::new();
    let mut readable = Vec::new();
    for (secret, path) in secrets.iter().zip(&sources) {
        let failed = copy_failed(secret, path);
        let source = File::open(path).map_err(&failed)?;
        // Of the file that is read, whatever is put in its place meanwhile.
        if source.metadata().map_err(&failed)?.mode() & READABLE != 0 {
            readable.push(path.clone());
        }
        opened.push(source);
    }
    if !readable.is_empty() && !delivery.readable {
        return Err(SecretsError::Readable(readable));
    }
    let targets = destinations(secrets);
    for (secret, target) in secrets.iter().zip(&targets) {
        stays_inside(secret, target, delivery.root)?;
    }
    let mut delivered = Delivered {
        links: Vec::new(),
        // What was delivered before a failure goes away with it.
        place: Some(place(&targets)?),
    };
    let Some(place) = &delivered.place else {
        return Ok(delivered);
    };
    for ((secret, source), target) in secrets.iter().zip(opened).zip(&targets) {
        let copied = copy(source, place.folder(), &secret.name, delivery.owner);
        let file = copied.map_err(copy_failed(secret, target))?;
        let link = link(&file, target, place).map_err(copy_failed(secret, target))?;
        delivered.links.push(link);
    }
    place
        .hand_over(delivery.owner)
        .map_err(|source| SecretsError::Folder {
            folder: place.folder().to_owned(),
            source,
        })?;
    Ok(delivered)
}

fn copy_failed(secret: &Secret, target: &Path) -> impl Fn(io::Error) -> SecretsError {
    move |source| SecretsError::Copy {
        name: secret.name.clone(),
        target: target.to_owned(),
        source,
    }
}

/// Sees to it that no link leads the way to a target out of the plugin's folder. Nothing is made.
fn stays_inside(secret: &Secret, target: &Path, root: &Path) -> Result<(), SecretsError> {
    let failed = copy_failed(secret, target);
    let folder = target.parent().unwrap_or(root);
    let root = root.canonicalize().map_err(&failed)?;
    // Of the path, the part that exists decides where it leads.
    let existing = folder.ancestors().find(|ancestor| ancestor.exists());
    let leads_to = existing.unwrap_or(&root).canonicalize().map_err(&failed)?;
    match leads_to.starts_with(&root) {
        true => Ok(()),
        false => Err(SecretsError::Outside {
            name: secret.name.clone(),
            target: leads_to,
            root,
        }),
    }
}

/// Copies a file into the folder, which nobody but the core's user can look into yet. Returns where it is.
fn copy(
    mut source: File,
    folder: &Path,
    name: &str,
    owner: Option<&Identity>,
) -> io::Result<PathBuf> {
    let path = folder.join(name);
    let below = path.strip_prefix(folder).ok().and_then(Path::parent);
    let mut inner = folder.to_owned();
    for part in below.into_iter().flatten() {
        inner.push(part);
        super::secrets_place::make_private(&inner, owner)?;
    }
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path)?;
    io::copy(&mut source, &mut copy)?;
    if let Ok(modified) = source.metadata().and_then(|metadata| metadata.modified()) {
        // The time is a courtesy to whoever looks for a change.
        let _ = copy.set_modified(modified);
    }
    copy.set_permissions(fs::Permissions::from_mode(0o400))?;
    if let Some(owner) = owner {
        fchown(&copy, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(path)
}

/// Puts a link to `file` at `target`, in place of what is there.
fn link(file: &Path, target: &Path, place: &Place) -> io::Result<DeliveredLink> {
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder)?;
    let staged = |make: &dyn Fn(&Path) -> io::Result<()>| {
        let made = tempfile::Builder::new()
            .prefix(".aigis-secret-")
            .make_in(folder, make);
        made.map(NamedTempFile::into_temp_path)
    };
    let link = staged(&|path| symlink(file, path))?;
    let metadata = fs::symlink_metadata(&link)?;
    let _placing = Placing::begin(place.records());
    // Usually there is none. Where hard links cannot be made, the old file is replaced for good. The link of another
    // delivery that is gone is nothing to come back.
    let replaced = match place.is_of_home(target) && !target.exists() {
        true => None,
        false => staged(&|path| fs::hard_link(target, path)).ok(),
    };
    link.persist(target).map_err(|error| error.error)?;
    Ok(DeliveredLink {
        path: target.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
        replaced,
    })
}

impl Drop for Delivered {
    fn drop(&mut self) {
        let Some(place) = &self.place else {
            return;
        };
        {
            let _placing = Placing::begin(place.records());
            for link in self.links.drain(..) {
                let own = fs::symlink_metadata(&link.path).is_ok_and(|metadata| {
                    metadata.dev() == link.device && metadata.ino() == link.inode
                });
                if !own {
                    continue;
                }
                // What it leads to may have ended meanwhile.
                let is_over = |old: &TempPath| place.is_of_home(old) && !old.exists();
                // Failures: it is gone already, or the folder cannot be written any more.
                let _ = match link.replaced.filter(|old| !is_over(old)) {
                    Some(old) => old.persist(&link.path).map_err(|error| error.error),
                    None => fs::remove_file(&link.path),
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
            fs::create_dir_all(folder.path().join("run/secrets")).expect("a place for records");
            fs::create_dir_all(folder.path().join("store")).expect("a store");
            fs::create_dir_all(folder.path().join("plugin")).expect("a plugin");
            for (name, content) in secrets {
                let path = folder.path().join("store").join(name);
                fs::create_dir_all(path.parent().expect("has a parent")).expect("a folder");
                fs::write(&path, content).expect("writes");
                set_mode(&path, 0o600);
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
            self.deliver_readable(secrets, false)
        }

        fn deliver_readable(
            &self,
            secrets: &[Secret],
            readable: bool,
        ) -> Result<Delivered, SecretsError> {
            let home = Home::new(self.folder.path()).expect("a home");
            let delivery = Delivery {
                secrets,
                store: &self.folder.path().join("store"),
                root: &self.plugin(),
                owner: None,
                readable,
            };
            let name = "plugin".parse().expect("a name");
            deliver(&delivery, |links| Place::make(&home, &name, None, links))
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    fn mode(path: &Path) -> u32 {
        let metadata = fs::metadata(path).expect("is there");
        metadata.permissions().mode() & 0o7777
    }

    #[test]
    fn they_are_linked_from_where_they_are_wanted_and_go_again() {
        let fixture = Fixture::new(&[("deep/key", "s3cret")]);
        let delivered = fixture
            .deliver(&[fixture.secret("deep/key", "a/b")])
            .expect("is there");
        let path = fixture.plugin().join("a/b/key");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "s3cret");
        let place = delivered.place().expect("there is a secret");
        let folder = place.folder().to_owned();
        assert_eq!(
            fs::read_link(&path).expect("a link"),
            folder.join("deep/key")
        );
        assert_eq!(mode(&path), 0o400);
        for folder in [&folder, &folder.join("deep")] {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
        let record = fs::read_to_string(&place.paths().record).expect("reads");
        assert!(!record.contains("s3cret"), "{record}");
        let shared = folder.parent().expect("has one").to_owned();
        drop(delivered);
        assert!(fs::symlink_metadata(&path).is_err());
        assert!(!shared.exists());
        let records = fs::read_dir(fixture.folder.path().join("run/secrets"));
        assert_eq!(records.expect("reads").count(), 0);
    }

    #[test]
    fn what_others_can_read_is_refused_unless_that_is_meant() {
        let fixture = Fixture::new(&[("a", "1"), ("b b", "2"), ("c", "3")]);
        let store = fixture.folder.path().join("store");
        set_mode(&store.join("a"), 0o640);
        set_mode(&store.join("b b"), 0o604);
        let secrets = ["a", "b b", "c"].map(|name| fixture.secret(name, "s"));
        let error = fixture.deliver(&secrets).expect_err("two are readable");
        let (a, b) = (store.join("a"), store.join("b b"));
        let command = format!("chmod 600 {} '{}'`", a.display(), b.display());
        assert!(error.to_string().contains(&command), "{error}");
        assert!(!fixture.plugin().join("s").exists());
        let delivered = fixture.deliver_readable(&secrets, true);
        drop(delivered.expect("is meant"));
    }

    #[test]
    fn what_a_killed_core_has_left_is_replaced_and_does_not_come_back() {
        let fixture = Fixture::new(&[("key", "new")]);
        let secrets = [fixture.secret("key", "s")];
        let delivered = fixture.deliver(&secrets).expect("is there");
        let folder = delivered.place().expect("is there").folder().to_owned();
        let path = fixture.plugin().join("s/key");
        let led_to = fs::read_link(&path).expect("a link");
        // As after a restart of the system.
        std::mem::forget(delivered);
        fs::remove_dir_all(folder).expect("ours");
        assert!(path.is_symlink() && !path.exists());
        let at_its_path = Secret {
            name: "key".to_owned(),
            target: path.clone(),
        };
        for secret in [&secrets[0], &at_its_path] {
            let delivered = fixture.deliver(std::slice::from_ref(secret));
            let delivered = delivered.expect("is there");
            assert_eq!(fs::read_to_string(&path).expect("reads"), "new");
            assert!(delivered.is_there());
            drop(delivered);
            assert!(!path.is_symlink());
            symlink(&led_to, &path).expect("a link");
        }
        // This process lives, so what it holds is left alone.
        let home = Home::new(fixture.folder.path()).expect("a home");
        crate::host::secrets_place::clear_up(&home);
        let records = fs::read_dir(fixture.folder.path().join("run/secrets"));
        assert_eq!(records.expect("reads").count(), 1);
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
