//! The crates that this program carries, so that plugins build against exactly them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::FileFault;
use super::plain;

/// A crate whose source this program carries.
#[derive(Clone, Debug)]
pub struct SdkCrate {
    /// The package's name.
    pub name: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// Each file's path inside the package and its text.
    pub files: &'static [(&'static str, &'static str)],
}

/// The crates that plugins build against, and the dependency versions that fit them.
#[derive(Clone, Debug, Default)]
pub struct Sdk {
    /// The crates, which take the place of those of the same name in the public registry.
    pub crates: Vec<SdkCrate>,
    /// The text of this program's own `Cargo.lock`: plugins without one start from it.
    pub lock: Option<&'static str>,
}

/// The crates as files, written when they are first needed.
#[derive(Debug)]
pub(super) struct WrittenSdk {
    sdk: Sdk,
    /// The hash of all names, versions and files.
    identity: String,
    /// What each of the crates depends on in any case.
    needs: Vec<(&'static str, Vec<String>)>,
    folder: PathBuf,
}

impl WrittenSdk {
    pub(super) fn new(parent: &Path, sdk: Sdk) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for part in &sdk.crates {
            add(part.name);
            add(part.version);
            add(&part.files.len().to_string());
            for (path, text) in part.files {
                add(path);
                add(text);
            }
        }
        let identity = hasher.finalize().to_hex().to_string();
        let folder = parent.join(&identity[..16]);
        let needs = sdk.crates.iter().map(needs).collect();
        Self {
            sdk,
            identity,
            needs,
            folder,
        }
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    pub(super) fn crates(&self) -> &[SdkCrate] {
        &self.sdk.crates
    }

    pub(super) fn lock(&self) -> Option<&'static str> {
        self.sdk.lock
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.sdk.crates.iter().map(|part| part.name)
    }

    /// Tells whether what depends on `packages` depends on all of the crates.
    pub(super) fn is_reached_by(&self, packages: &[String]) -> bool {
        let mut open: Vec<&str> = packages.iter().map(String::as_str).collect();
        let mut reached = Vec::new();
        while let Some(name) = open.pop() {
            let known = self.needs.iter().find(|(part, _)| *part == name);
            if let Some((part, needs)) = known
                && !reached.contains(part)
            {
                reached.push(*part);
                open.extend(needs.iter().map(String::as_str));
            }
        }
        !reached.is_empty() && reached.len() == self.needs.len()
    }

    /// Returns the folder that holds one folder per crate, after it was written if need be: also
    /// while a core runs, somebody may clean the target folder up. Takes a turn to call.
    ///
    /// It is named after its content, so that a new version of this program leaves the files
    /// alone that an older one may be building against.
    pub(super) fn write(&self) -> Result<&Path, FileFault> {
        if !self.is_whole() {
            self.replace()?;
        }
        Ok(&self.folder)
    }

    fn is_whole(&self) -> bool {
        self.files().all(|(path, text)| {
            fs::read(self.folder.join(path)).is_ok_and(|found| found == text.as_bytes())
        })
    }

    fn replace(&self) -> Result<(), FileFault> {
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(FileFault::of("create", parent))?;
        let new = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(parent)
            .map_err(FileFault::of("create a folder in", parent))?;
        for (path, text) in self.files() {
            let file = new.path().join(path);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).map_err(FileFault::of("create", folder))?;
            }
            fs::write(&file, text).map_err(FileFault::of("write", &file))?;
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileFault::of("remove", &self.folder)(error));
            }
            _ => {}
        }
        fs::rename(new.path(), &self.folder).map_err(FileFault::of("create", &self.folder))?;
        let _ = new.keep(); // it has another name now, nothing is left to remove
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = (PathBuf, &'static str)> {
        self.sdk.crates.iter().flat_map(|part| {
            part.files
                .iter()
                .map(|(path, text)| (Path::new(part.name).join(path), *text))
        })
    }
}

fn needs(part: &SdkCrate) -> (&'static str, Vec<String>) {
    let manifest = part.files.iter().find(|(path, _)| *path == "Cargo.toml");
    let manifest = manifest.and_then(|(_, text)| text.parse().ok());
    let needs = manifest.map(|manifest| plain::needs(&manifest));
    (part.name, needs.unwrap_or_default())
}
