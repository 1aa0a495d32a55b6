//! Tests against real repositories, a real git server on loopback and real folders.

mod git;
#[path = "../../../tests/support/git_server.rs"]
mod git_server;
mod local;
mod location;
mod network;
mod place;
mod submodules;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Action, FetchError, FetchProgress, Fetched, Origin, Progress, fetch, fetch_anew, fetch_fresh,
};
use crate::config::{GitReference, SourceSpec};

/// The folders of one test: `upstream/` for sources, `home/ext/` for what is fetched.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("upstream")).unwrap();
        Self { root }
    }

    fn upstream(&self, name: &str) -> PathBuf {
        self.root.path().join("upstream").join(name)
    }

    fn dest(&self) -> PathBuf {
        self.root.path().join("home/ext/plugin")
    }

    /// Returns the text of a fetched file, or `None` if there is none.
    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.dest().join(file)).ok()
    }

    fn spec(&self, location: impl Into<String>, reference: GitReference) -> SourceSpec {
        SourceSpec {
            location: location.into(),
            base: self.root.path().to_owned(),
            reference,
        }
    }

    fn fetch(&self, location: impl Into<String>) -> Result<Fetched, FetchError> {
        self.fetch_reference(location, GitReference::Unspecified)
    }

    fn fetch_reference(
        &self,
        location: impl Into<String>,
        reference: GitReference,
    ) -> Result<Fetched, FetchError> {
        let spec = self.spec(location, reference);
        fetch(&spec, &self.dest(), &Silent, &AtomicBool::new(false))
    }

    fn fresh(&self, location: impl Into<String>) -> Result<Fetched, FetchError> {
        let spec = self.spec(location, GitReference::Unspecified);
        fetch_fresh(&spec, &self.dest(), &Silent, &AtomicBool::new(false))
    }

    /// Returns the names of everything in `ext/`, hidden leftovers included.
    fn in_ext(&self) -> Vec<String> {
        let mut names = match fs::read_dir(self.root.path().join("home/ext")) {
            Ok(entries) => entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect(),
            Err(_) => Vec::new(),
        };
        names.sort();
        names
    }
}

/// Nobody watches.
struct Silent;

impl FetchProgress for Silent {
    fn progress(&self, _: Progress) {}
}

/// Remembers everything it is told, and sets `cancel` when `stop` says so.
struct Recorder<'a> {
    seen: Mutex<Vec<Progress>>,
    cancel: &'a AtomicBool,
    stop: fn(&Progress) -> bool,
}

impl<'a> Recorder<'a> {
    fn new(cancel: &'a AtomicBool, stop: fn(&Progress) -> bool) -> Self {
        Self {
            seen: Mutex::new(Vec::new()),
            cancel,
            stop,
        }
    }
}

impl FetchProgress for Recorder<'_> {
    fn progress(&self, p: Progress) {
        self.seen.lock().unwrap().push(p);
        if (self.stop)(&p) {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }
}

fn branch(name: &str) -> GitReference {
    GitReference::Branch(name.to_owned())
}

fn tag(name: &str) -> GitReference {
    GitReference::Tag(name.to_owned())
}

fn rev(name: &str) -> GitReference {
    GitReference::Rev(name.to_owned())
}

fn write(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Checks that the old tree was kept with exactly one warning, which says each of `parts`.
#[track_caller]
fn check_kept(fetched: &Fetched, parts: &[&str]) {
    assert_eq!(fetched.action, Action::Kept, "{fetched:?}");
    assert_eq!(fetched.warnings.len(), 1, "{fetched:?}");
    for part in parts {
        assert!(fetched.warnings[0].contains(part), "{fetched:?}");
    }
    assert!(!fetched.warnings[0].contains('\n'), "{fetched:?}");
}

/// Checks that nothing went wrong.
#[track_caller]
fn check_done(fetched: &Fetched, action: &Action) {
    assert_eq!(&fetched.action, action, "{fetched:?}");
    assert!(fetched.warnings.is_empty(), "{fetched:?}");
}

/// Checks that an error with its causes says each of `parts`.
#[track_caller]
fn check_error(result: Result<Fetched, FetchError>, parts: &[&str]) {
    let text = result.expect_err("this cannot be fetched").chain();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn updated(from: &str, to: &str) -> Action {
    Action::Updated {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn reference_and_commit(fetched: &Fetched) -> (&str, &str) {
    match &fetched.origin {
        Origin::Git {
            reference, commit, ..
        } => (reference, commit),
        Origin::Local { path } => panic!("{} is no repository", path.display()),
    }
}
