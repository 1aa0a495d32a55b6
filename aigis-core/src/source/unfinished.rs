//! A note in the repository that an update of its work tree has begun.
//!
//! A process that is killed in the middle of a checkout leaves files of two commits behind, the
//! last of them torn. The next one finds this note and completes the checkout before anything
//! else; all it needs is in the repository already. The note is written when the checkout has found
//! that nothing is in its way, so completing it by force loses nothing that was there before.

use std::fs;
use std::io;
use std::path::PathBuf;

use git2::{Oid, Repository};

use super::FetchError;
use super::remote::Head;

const FILE: &str = "aigis-update";

/// The commit that is being checked out, and where `HEAD` is to point then.
pub(super) struct Unfinished {
    pub(super) head: Head,
    pub(super) commit: Oid,
}

impl Unfinished {
    /// Finds the note of an update that was cut short.
    pub(super) fn find(repo: &Repository) -> Option<Self> {
        let text = fs::read_to_string(file(repo)).ok()?;
        let mut words = text.trim_end().splitn(3, ' ');
        let commit = Oid::from_str(words.next()?).ok()?;
        let head = match (words.next()?, words.next()) {
            ("branch", Some(name)) => Head::Branch(name.to_owned()),
            ("commit", None) => Head::Commit,
            (object, Some(name)) => Head::Tag {
                name: name.to_owned(),
                object: Oid::from_str(object).ok()?,
            },
            _ => return None,
        };
        let unfinished = Self { head, commit };
        unfinished.break_locks(repo);
        Some(unfinished)
    }

    /// Writes the note.
    pub(super) fn write(&self, repo: &Repository) -> io::Result<()> {
        let commit = self.commit;
        let text = match &self.head {
            Head::Branch(name) => format!("{commit} branch {name}\n"),
            Head::Tag { name, object } => format!("{commit} {object} {name}\n"),
            Head::Commit => format!("{commit} commit\n"),
        };
        fs::write(file(repo), text)
    }

    /// Removes the note: the update is complete, or has been undone.
    pub(super) fn remove(&self, repo: &Repository) -> Result<(), FetchError> {
        let path = file(repo);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FetchError::Io {
                step: "remove",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Removes the lock files that the killed process held while it wrote the index or `HEAD`.
    fn break_locks(&self, repo: &Repository) {
        let mut names = vec!["index.lock".to_owned(), "HEAD.lock".to_owned()];
        match &self.head {
            Head::Branch(name) => names.push(format!("refs/heads/{name}.lock")),
            Head::Tag { name, .. } => names.push(format!("refs/tags/{name}.lock")),
            Head::Commit => {}
        }
        for name in names {
            let _ = fs::remove_file(repo.path().join(name));
        }
    }
}

fn file(repo: &Repository) -> PathBuf {
    repo.path().join(FILE)
}
