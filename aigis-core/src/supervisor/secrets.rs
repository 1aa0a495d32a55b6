//! The folders that hold the secrets of launches: who has one, and their removal.
//!
//! A folder lies on a file system in memory, and a record on the disk, below the home, says where, and which links in the
//! plugin's own folder lead there; never what is in it. Whoever needs the folder holds the record locked for sharing: the
//! core for as long as it may launch with it, and the shim of each launch until nothing is left of its tree. The last one
//! to let go removes it, and with it the links. Those of holders that were all killed are found by the next core: their
//! records are there, and nobody holds them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::protocol::OsText;

/// How the names of records end.
const EXTENSION: &str = "json";

/// What a record says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Content {
    folder: OsText,
    links: Vec<OsText>,
}

/// A share in a folder of secrets. When the last one goes, the folder does.
#[derive(Debug)]
pub(crate) struct SecretsHold {
    record: PathBuf,
    file: File,
}

impl SecretsHold {
    /// Writes the record of a `folder` that is about to be made, and of the links that are to lead there.
    pub(crate) fn create(record: &Path, folder: &Path, links: &[PathBuf]) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(record)?;
        // Before anybody can find it abandoned: a sweep is over before the first folder is made.
        flock(&file, FlockOperation::LockShared)?;
        let content = Content {
            folder: folder.into(),
            links: links.iter().map(OsText::from).collect(),
        };
        file.write_all(&serde_json::to_vec(&content)?)?;
        Ok(Self {
            record: record.to_owned(),
            file,
        })
    }

    /// Takes a share in the folder of a record that somebody else holds; returns the folder as well.
    pub(crate) fn share(record: &Path) -> io::Result<(Self, PathBuf)> {
        let file = File::open(record)?;
        flock(&file, FlockOperation::LockShared)?;
        let mut hold = Self {
            record: record.to_owned(),
            file,
        };
        // Whoever let go last has removed it, perhaps while we waited.
        if fs::metadata(record)?.ino() != hold.file.metadata()?.ino() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let content = hold.content()?;
        let folder = content.folder.as_path().to_owned();
        Ok((hold, folder))
    }

    fn content(&mut self) -> io::Result<Content> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Removes all that the record says, and the record.
    fn remove(&mut self) {
        // Failures: what was to be removed is gone, or the place cannot be written any more; there is nobody to tell.
        if let Ok(content) = self.content() {
            let folder = content.folder.as_path();
            let _placing = self.record.parent().map(Placing::begin);
            for link in &content.links {
                // A newer one may be there by now.
                if fs::read_link(link.as_path()).is_ok_and(|leads| leads.starts_with(folder)) {
                    let _ = fs::remove_file(link.as_path());
                }
            }
            let _ = fs::remove_dir_all(folder);
            if let Some(parent) = folder.parent() {
                // Only if it was the last one.
                let _ = fs::remove_dir(parent);
            }
        }
        let _ = fs::remove_file(&self.record);
    }
}

impl Drop for SecretsHold {
    fn drop(&mut self) {
        // What another one still holds, that one removes; our own share is given up by the attempt.
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            self.remove();
            // A process that is just being started has the file open, too, until it runs its program.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

/// Removes the folders whose holders were all killed. `records` is where the records are.
pub(crate) fn sweep(records: &Path) {
    for entry in fs::read_dir(records).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|found| found != EXTENSION) {
            continue;
        }
        // One that cannot be opened is gone by now; of one that is held, the drop takes nothing away.
        if let Ok(file) = File::open(&path) {
            drop(SecretsHold { record: path, file });
        }
    }
}

/// Returns the path of a record.
pub(crate) fn record_of(records: &Path, name: &str) -> PathBuf {
    records.join(format!("{name}.{EXTENSION}"))
}

/// Held while links to secrets are put to their places or taken away, by whichever process: between a look at what stands
/// there and what is done about it, no other one may come there.
#[derive(Debug)]
pub(crate) struct Placing(Option<File>);

impl Placing {
    /// Waits for others that use the same records.
    pub(crate) fn begin(records: &Path) -> Placing {
        let folder = File::open(records).ok();
        let locked = folder.filter(|folder| flock(folder, FlockOperation::LockExclusive).is_ok());
        Placing(locked)
    }
}

impl Drop for Placing {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            // Closing alone would not do while a process is being started that has it open as well.
            let _ = flock(folder, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Fixture {
        home: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                home: tempfile::tempdir().expect("a folder"),
            }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.home.path().join(path)
        }

        fn make(&self) -> SecretsHold {
            let record = record_of(self.home.path(), "one");
            let folder = self.at("top/one");
            let links = [self.at("link"), self.at("other")];
            let hold = SecretsHold::create(&record, &folder, &links).expect("is new");
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("key"), "s3cret").expect("is written");
            symlink(folder.join("key"), self.at("link")).expect("a link");
            symlink("elsewhere", self.at("other")).expect("a link");
            hold
        }

        fn is_there(&self) -> [bool; 4] {
            ["top/one/key", "top", "link", "one.json"]
                .map(|path| fs::symlink_metadata(self.at(path)).is_ok())
        }
    }

    #[test]
    fn the_last_one_removes_it() {
        let fixture = Fixture::new();
        let first = fixture.make();
        let (second, folder) = SecretsHold::share(&first.record).expect("is there");
        assert_eq!(folder, fixture.at("top/one"));
        drop(first);
        assert_eq!(fixture.is_there(), [true; 4]);
        // Held by nobody's process but still held: a sweep leaves it.
        sweep(fixture.home.path());
        assert_eq!(fixture.is_there(), [true; 4]);
        let record = second.record.clone();
        drop(second);
        assert_eq!(fixture.is_there(), [false; 4]);
        assert!(
            fs::symlink_metadata(fixture.at("other")).is_ok(),
            "leads elsewhere"
        );
        let error = SecretsHold::share(&record).expect_err("is gone");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_nobody_holds_is_swept() {
        let fixture = Fixture::new();
        let hold = fixture.make();
        // As when its process is killed.
        flock(&hold.file, FlockOperation::Unlock).expect("is unlocked");
        std::mem::forget(hold);
        sweep(fixture.home.path());
        assert_eq!(fixture.is_there(), [false; 4]);
        fs::write(fixture.at("two.json"), "{ half").expect("is written");
        sweep(fixture.home.path());
        assert!(!fixture.at("two.json").exists());
    }
}
