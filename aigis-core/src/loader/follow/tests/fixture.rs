//! Builds the libraries of the tests and opens copies of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Opened, Outcome, open};

/// Everything that is waited for comes within this.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// The built libraries, by what they were built from.
static BUILT: Mutex<BTreeMap<Vec<String>, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// Held by the one test that runs: the keys that another makes would count against its libraries.
static TURN: Mutex<()> = Mutex::new(());

/// A folder of libraries that are removed with it.
pub(super) struct Folder {
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Folder {
    pub(super) fn new() -> Folder {
        Folder {
            folder: tempfile::tempdir().expect("a folder"),
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Opens a fresh copy of the Rust library.
    pub(super) fn rust(&self) -> Opened {
        self.open(&rust())
    }

    /// Opens a fresh copy of the C library.
    pub(super) fn c(&self, flags: &[&str]) -> Opened {
        self.open(&c(flags))
    }

    /// Opens a library as a file of its own. It is tried again when other code of this process
    /// has made a key in the same moment, which counts against the library.
    pub(super) fn open(&self, library: &[u8]) -> Opened {
        let mut tries = 0;
        loop {
            let opened = self.open_once(library);
            tries += 1;
            match opened.followed().gap() {
                Some(gap) if tries < 4 && gap.contains("thread-specific keys") => {}
                _ => return opened,
            }
        }
    }

    pub(super) fn open_once(&self, library: &[u8]) -> Opened {
        let path = self.place(library);
        // SAFETY: the libraries of these tests do no harm when they are loaded.
        unsafe { open(&path) }.expect("opens")
    }

    /// Writes a library under a name that was never used.
    pub(super) fn place(&self, library: &[u8]) -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.path().join(format!("library {number}.so"));
        fs::write(&path, library).expect("a copy");
        path
    }
}

pub(super) fn rust() -> Vec<u8> {
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/loader/follow/tests/library.rs"
    );
    let options = [
        "--edition=2024",
        "--crate-type=cdylib",
        "-Cstrip=symbols",
        "-O",
    ];
    build("rustc", &[&options[..], &[source]].concat())
}

pub(super) fn c(flags: &[&str]) -> Vec<u8> {
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/loader/follow/tests/keys.c"
    );
    let options = ["-shared", "-fPIC", "-O1", "-pthread", source];
    build("cc", &[&options[..], flags].concat())
}

pub(super) fn build(compiler: &str, arguments: &[&str]) -> Vec<u8> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let words = [&[compiler], arguments].concat();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let library = built.entry(words).or_insert_with(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("library.so");
        let output = Command::new(compiler)
            .args(arguments)
            .arg("-o")
            .arg(&path)
            // What the tests are built with is no concern of the library.
            .env_remove("RUSTFLAGS")
            .output()
            .expect("a compiler");
        assert!(output.status.success(), "{output:?}");
        fs::read(path).expect("a library")
    });
    library.clone()
}

/// Functions of a library.
pub(super) trait Calls {
    /// Calls a function that takes nothing.
    fn call(&self, name: &str);
    /// Calls a function that takes one word and returns a number.
    fn ask(&self, name: &str, argument: usize) -> i32;
}

impl Calls for Opened {
    fn call(&self, name: &str) {
        let function = self.symbol(name.as_bytes()).expect("is there");
        // SAFETY: both libraries define such functions without parameters under these names; one
        // that returns something returns it in a register.
        let function: extern "C" fn() = unsafe { std::mem::transmute(function) };
        function();
    }

    fn ask(&self, name: &str, argument: usize) -> i32 {
        let function = self.symbol(name.as_bytes()).expect("is there");
        // SAFETY: as above; a parameter that is not taken is harmless in this calling convention.
        let function: extern "C" fn(usize) -> i32 = unsafe { std::mem::transmute(function) };
        function(argument)
    }
}

/// Tells the library where to count.
pub(super) fn counter(library: &Opened, tell: &str) -> Arc<AtomicUsize> {
    /// A library may count when its test is long over.
    static COUNTERS: Mutex<Vec<Arc<AtomicUsize>>> = Mutex::new(Vec::new());
    let counter = Arc::new(AtomicUsize::new(0));
    library.ask(tell, Arc::as_ptr(&counter).addr());
    let mut counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    counters.push(Arc::clone(&counter));
    counter
}

/// Closes a library of which nothing is used any more.
pub(super) fn close(library: &Opened) -> Outcome {
    // SAFETY: the tests call this when their calls have returned, and call nothing afterwards
    // unless it was retained.
    unsafe { library.close() }
}

#[track_caller]
pub(super) fn gone(library: &Opened) {
    assert_eq!(library.followed().gap(), None);
    let bytes = library.followed().bytes();
    assert!(bytes > 0);
    assert_eq!(close(library), Outcome::Unmapped { bytes });
    assert!(!library.followed().is_mapped());
}

/// Returns why a library was retained.
#[track_caller]
pub(super) fn retained(library: &Opened) -> String {
    match close(library) {
        Outcome::Retained { bytes, reason } => {
            assert!(bytes > 0);
            assert!(library.followed().is_mapped());
            reason
        }
        outcome => panic!("it should have stayed: {outcome:?}"),
    }
}
