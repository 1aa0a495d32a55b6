//! Copying a folder as Python's `shutil.copytree` does.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

const SOURCE: &str = "upstream/plugin";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_times(path: &Path, seconds: u64, nanoseconds: u32) {
    let at = |seconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    let times = fs::FileTimes::new()
        .set_accessed(at(seconds + 1))
        .set_modified(at(seconds));
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

fn modified(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).unwrap().modified().unwrap()
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn readme_local_source() {
    let place = Place::new();
    let source = place.upstream("plugin");
    write(source.join("run.sh"), "#!/bin/sh\n");
    write(source.join("key"), "key");
    write(source.join("read-only/file"), "x");
    write(source.join(".hidden/file"), "hidden");
    write(source.join("target/built"), "built");
    write(place.upstream("elsewhere/file"), "linked");
    fs::create_dir(source.join("empty")).unwrap();
    symlink("key", source.join("file-link")).unwrap();
    symlink("../elsewhere", source.join("folder-link")).unwrap();
    set_mode(&source.join("run.sh"), 0o755);
    set_mode(&source.join("key"), 0o600);
    set_mode(&source.join("read-only/file"), 0o444);
    let kept = [
        "run.sh",
        "key",
        "read-only/file",
        "read-only",
        ".hidden/file",
        ".hidden",
        "target/built",
        "target",
        "empty",
    ];
    for (number, name) in kept.iter().enumerate() {
        set_times(
            &source.join(name),
            1_000_000_000 + number as u64,
            123_456_789,
        );
    }
    set_mode(&source.join("read-only"), 0o555);
    set_mode(&source, 0o750);
    set_times(&source, 900_000_000, 1);

    let fetched = place.fetch(SOURCE).unwrap();
    check_done(&fetched, &Action::Copied);
    let path = fs::canonicalize(&source).unwrap();
    assert_eq!(fetched.origin, Origin::Local { path });
    let dest = place.dest();
    for name in kept.iter().copied().chain([""]) {
        let (from, to) = (source.join(name), dest.join(name));
        let (from, to) = (fs::metadata(from).unwrap(), fs::metadata(to).unwrap());
        assert_eq!(to.mode(), from.mode(), "{name}");
        assert_eq!(to.modified().unwrap(), from.modified().unwrap(), "{name}");
    }
    // Not compared with the source: copying reads that, which may set its time of access anew.
    let accessed = fs::metadata(dest.join("run.sh")).unwrap().accessed();
    let set = UNIX_EPOCH + Duration::new(1_000_000_001, 123_456_789);
    assert_eq!(accessed.unwrap(), set);
    let link = fs::symlink_metadata(dest.join("file-link")).unwrap();
    assert!(link.is_file());
    assert_eq!(link.mode() & 0o777, 0o600);
    assert_eq!(
        modified(&dest.join("file-link")),
        modified(&source.join("key"))
    );
    let link = fs::symlink_metadata(dest.join("folder-link")).unwrap();
    assert!(link.is_dir());
    assert_eq!(place.text("folder-link/file").unwrap(), "linked");
    assert_eq!(place.text(".hidden/file").unwrap(), "hidden");
    assert_eq!(place.in_ext(), ["plugin"]);

    // A later change of the source does not arrive…
    write(source.join("key"), "changed");
    check_kept(
        &place.fetch(SOURCE).unwrap(),
        &["plugin exists, it will not get updated", "reload --fresh"],
    );
    assert_eq!(place.text("key").unwrap(), "key");
    // …nor is a change of the copy overwritten, until the copy is removed.
    write(dest.join("key"), "edited");
    place.fetch(SOURCE).unwrap();
    assert_eq!(place.text("key").unwrap(), "edited");
    fs::remove_dir_all(&dest).unwrap();
    check_done(&place.fetch(SOURCE).unwrap(), &Action::Copied);
    assert_eq!(place.text("key").unwrap(), "changed");
}

#[test]
fn copy_is_used_when_its_source_is_gone() {
    let place = Place::new();
    write(place.upstream("plugin/file"), "x");
    place.fetch(SOURCE).unwrap();
    fs::remove_dir_all(place.upstream("plugin")).unwrap();
    check_kept(&place.fetch(SOURCE).unwrap(), &["it will not get updated"]);
    assert_eq!(place.text("file").unwrap(), "x");
}

#[test]
fn fresh_copies_anew_and_keeps_the_old_copy_on_failure() {
    let place = Place::new();
    let source = place.upstream("plugin");
    write(source.join("file"), "1");
    place.fetch(SOURCE).unwrap();
    write(place.dest().join("extra"), "x");
    set_mode(&place.dest(), 0o555);
    write(source.join("file"), "2");
    check_done(&place.fresh(SOURCE).unwrap(), &Action::Copied);
    assert_eq!(place.text("file").unwrap(), "2");
    assert_eq!(place.text("extra"), None);

    write(source.join("file"), "3");
    symlink("nowhere", source.join("dangling")).unwrap();
    check_error(place.fresh(SOURCE), &["dangling"]);
    assert_eq!(place.text("file").unwrap(), "2");
    assert_eq!(place.in_ext(), ["plugin"]);
}

#[test]
fn all_that_cannot_be_copied_is_reported_at_once_and_nothing_is_left() {
    let place = Place::new();
    let source = place.upstream("plugin");
    write(source.join("a"), "1");
    write(source.join("z"), "1");
    fs::create_dir(source.join("sub")).unwrap();
    symlink("nowhere", source.join("dangling")).unwrap();
    make_fifo(&source.join("sub/pipe"));
    let _listener = UnixListener::bind(source.join("sub/socket")).unwrap();
    symlink("/dev/zero", source.join("zero")).unwrap();

    let cancel = AtomicBool::new(false);
    let recorder = Recorder::new(&cancel, |_| false);
    let spec = place.spec(SOURCE, GitReference::Unspecified);
    let result = fetch(&spec, &place.dest(), &recorder, &cancel);
    let Err(FetchError::Copy { failures, .. }) = &result else {
        panic!("{result:?}")
    };
    let failed: Vec<_> = failures
        .iter()
        .map(|f| {
            let name = f.source.strip_prefix(&source).unwrap();
            assert_eq!(f.destination, place.dest().join(name));
            (name.to_str().unwrap(), f.reason.as_str())
        })
        .collect();
    assert_eq!(failed.len(), 4, "{failed:?}");
    assert_eq!(failed[0].0, "dangling");
    assert!(failed[0].1.contains("link to `nowhere`"), "{failed:?}");
    assert_eq!(failed[1].0, "sub/pipe");
    assert!(failed[1].1.contains("named pipe"), "{failed:?}");
    assert_eq!(failed[2].0, "sub/socket");
    assert!(failed[2].1.contains("socket"), "{failed:?}");
    assert_eq!(failed[3].0, "zero");
    assert!(failed[3].1.contains("device"), "{failed:?}");
    // The rest was copied all the same, before it was removed.
    assert_eq!(recorder.seen.into_inner().unwrap().last().unwrap().done, 2);
    check_error(result, &["could not copy 4 of the files in", "zero"]);
    assert!(place.in_ext().is_empty());
}

#[test]
fn cycles_of_links_end_in_an_error() {
    let place = Place::new();
    let source = place.upstream("plugin");
    write(source.join("a/b/file"), "x");
    symlink("../..", source.join("a/b/up")).unwrap();
    symlink("self", source.join("self")).unwrap();
    check_error(place.fetch(SOURCE), &["copy 2 ", "a/b/up", "without end"]);
    assert!(place.in_ext().is_empty());
}

#[test]
fn one_folder_linked_twice_is_no_cycle() {
    let place = Place::new();
    let source = place.upstream("plugin");
    write(source.join("a/file"), "x");
    symlink("a", source.join("b")).unwrap();
    place.fetch(SOURCE).unwrap();
    assert_eq!(place.text("a/file").unwrap(), "x");
    assert_eq!(place.text("b/file").unwrap(), "x");
}

#[test]
fn source_that_holds_the_destination_leaves_the_plugins_out() {
    let place = Place::new();
    write(place.root.path().join("home/file"), "x");
    write(place.root.path().join("home/ext/other/file"), "other");
    for source in [".", "home", "home/../home"] {
        let fetched = place.fetch(source).unwrap();
        check_done(&fetched, &Action::Copied);
        assert_eq!(fetched.notes.len(), 1, "{fetched:?}");
        assert!(fetched.notes[0].contains("ext"), "{fetched:?}");
        let inside = if source == "." { "home/" } else { "" };
        assert_eq!(place.text(&format!("{inside}file")).unwrap(), "x");
        assert!(!place.dest().join(format!("{inside}ext")).exists());
        fs::remove_dir_all(place.dest()).unwrap();
    }
}

#[test]
fn folder_of_the_plugins_as_a_source_does_not_copy_itself() {
    let place = Place::new();
    write(place.root.path().join("home/ext/file"), "x");
    let fetched = place.fetch("home/ext").unwrap();
    check_done(&fetched, &Action::Copied);
    let mut names: Vec<_> = fs::read_dir(place.dest())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["file"]);
}

#[test]
fn fresh_never_removes_its_own_source() {
    let place = Place::new();
    write(place.dest().join("sub/file"), "x");
    for source in ["home/ext/plugin", "home/ext/plugin/sub"] {
        check_error(place.fresh(source), &["is inside"]);
    }
    assert_eq!(place.text("sub/file").unwrap(), "x");
}

#[test]
fn cancelling_a_copy_leaves_nothing() {
    let place = Place::new();
    let source = place.upstream("plugin");
    write(source.join("a"), "1");
    write(source.join("b"), "1");
    let cancel = AtomicBool::new(false);
    let recorder = Recorder::new(&cancel, |p| p.done == 1);
    let spec = place.spec(SOURCE, GitReference::Unspecified);
    let result = fetch(&spec, &place.dest(), &recorder, &cancel);
    assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
    assert!(place.in_ext().is_empty());
}

#[test]
fn large_file_is_copied_whole() {
    let place = Place::new();
    let text = "0123456789abcdef".repeat((9 << 20) / 16);
    write(place.upstream("plugin/large"), &text);
    place.fetch(SOURCE).unwrap();
    assert!(place.text("large").unwrap() == text);
}

#[test]
fn what_was_there_before_can_be_put_back() {
    let place = Place::new();
    let source = place.upstream("plugin");
    write(source.join("file"), "1");
    let anew = || {
        let cancel = AtomicBool::new(false);
        let spec = place.spec(SOURCE, GitReference::Unspecified);
        let (fetched, before) = fetch_anew(&spec, &place.dest(), &Silent, &cancel).unwrap();
        check_done(&fetched, &Action::Copied);
        before
    };
    // Nothing was there.
    anew().put_back().unwrap();
    assert!(place.in_ext().is_empty());
    anew().let_go();
    write(place.dest().join("extra"), "x");
    write(source.join("file"), "2");
    let before = anew();
    assert_eq!(place.text("file").unwrap(), "2");
    // It is nobody's rest while it may come back.
    place.fetch(SOURCE).unwrap();
    before.put_back().unwrap();
    assert_eq!(place.text("file").unwrap(), "1");
    assert_eq!(place.text("extra").unwrap(), "x");
    // Whoever says nothing wants it back as well.
    drop(anew());
    assert_eq!(place.text("extra").unwrap(), "x");
    anew().let_go();
    assert_eq!(place.text("file").unwrap(), "2");
    assert_eq!(place.in_ext(), ["plugin"]);
}
