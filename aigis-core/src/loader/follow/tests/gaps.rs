//! Libraries that cannot be followed, or not be closed: they stay, and it is said why.

use std::ffi::CString;
use std::fs;

use libloading::os::unix::Library;

use super::super::{Outcome, open, process};
use super::fixture::{Calls as _, Folder, build, c, close, counter, gone, retained, rust};
use super::on_thread;

#[test]
fn a_key_made_by_a_constructor_is_noticed() {
    let folder = Folder::new();
    let library = folder.open_once(&c(&["-DKEY_IN_CONSTRUCTOR"]));
    let reason = retained(&library);
    assert!(
        reason.contains("its constructors may have made thread-specific keys"),
        "{reason}"
    );
}

#[test]
fn a_thread_started_by_a_constructor_is_noticed() {
    let folder = Folder::new();
    let library = folder.c(&["-DTHREAD_IN_CONSTRUCTOR"]);
    let reason = retained(&library);
    assert!(
        reason.contains("its constructors have started the thread `at-load`"),
        "{reason}"
    );
    library.call("release");
}

#[test]
fn a_use_that_cannot_be_followed_is_named() {
    let folder = Folder::new();
    let library = folder.c(&["-DTIMER"]);
    let gap = library.followed().gap().expect("is not followed");
    assert_eq!(gap, "it uses `timer_create`, which cannot be followed");
    assert!(retained(&library).contains(gap));
}

#[test]
fn a_library_that_was_linked_to_stay_stays() {
    let folder = Folder::new();
    let library = folder.c(&["-Wl,-z,nodelete"]);
    assert_eq!(retained(&library), "it was linked to stay (`-z nodelete`)");
    // There is nothing left to close.
    assert!(matches!(close(&library), Outcome::Retained { .. }));
}

#[test]
fn slots_that_are_bound_late_are_found() {
    on_thread("caller", || {
        let folder = Folder::new();
        for binding in ["-Wl,-z,lazy,-z,norelro", "-Wl,-z,now,-z,relro", "-fno-plt"] {
            let library = folder.c(&[binding]);
            counter(&library, "make_keys");
            assert_eq!(library.followed().keys().len(), 3, "{binding}");
            gone(&library);
        }
    });
}

#[test]
fn a_name_that_is_open_is_not_followed_twice() {
    let folder = Folder::new();
    let first = folder.c(&[]);
    // SAFETY: the library does no harm when it is loaded.
    let second = unsafe { open(first.followed().path()) }.expect("opens");
    assert_eq!(
        second.followed().gap(),
        Some("it is open already, by the same name")
    );
    let reason = retained(&first);
    assert!(reason.contains("another library needs it"), "{reason}");
}

#[test]
fn what_came_with_a_library_stays() {
    let folder = Folder::new();
    let companion = folder.path().join("libcompanion.so");
    let source = folder.path().join("companion.c");
    fs::write(&source, "int companion(void) { return 42; }").expect("a source");
    let shared = ["-shared", "-fPIC", source.to_str().expect("plain")];
    fs::write(&companion, build("cc", &shared)).expect("a library");
    let place = format!("-L{}", folder.path().display());
    let search = format!("-Wl,-rpath,{}", folder.path().display());
    let library = folder.c(&["-DWITH_COMPANION", &place, &search, "-lcompanion"]);
    assert_eq!(library.ask("ask", 0), 42);
    gone(&library);
    let companion = fs::canonicalize(companion).expect("is there");
    assert!(process::mapped_bytes(&companion).expect("readable") > 0);
}

#[test]
fn a_file_that_is_removed_is_still_known() {
    let folder = Folder::new();
    let library = folder.rust();
    fs::remove_file(library.followed().path()).expect("is there");
    assert!(library.followed().is_mapped());
    gone(&library);
}

#[test]
fn a_file_that_is_no_library_is_an_error() {
    let folder = Folder::new();
    let path = folder.place(b"no library");
    // SAFETY: there is nothing in it that could run.
    let error = unsafe { open(&path) }.err().expect("is refused");
    assert!(matches!(error, libloading::Error::DlOpen { .. }), "{error}");
}

#[test]
fn slots_are_sealed_again() {
    let folder = Folder::new();
    let library = folder.rust();
    let name = CString::new(library.followed().path().to_str().expect("plain")).expect("plain");
    let before = protections(name.to_str().expect("plain"));
    // The same file without being followed.
    let path = folder.place(&rust());
    // SAFETY: the library does no harm when it is loaded.
    let plain = unsafe { Library::open(Some(&path), super::super::RTLD_NOW) }.expect("opens");
    let path = fs::canonicalize(path).expect("is there");
    assert_eq!(before, protections(path.to_str().expect("plain")));
    drop(plain);
    gone(&library);
}

/// Returns the protections of a file's mappings, equal neighbours as one.
fn protections(path: &str) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let lines = maps.lines().filter(|line| line.ends_with(path));
    let mut protections: Vec<String> = lines
        .map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned())
        .collect();
    protections.dedup();
    protections
}
