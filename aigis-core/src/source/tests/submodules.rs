//! Repositories with submodules, and theirs.

use super::git_server::Repo;
use super::*;

/// `top` has `middle` as the submodule `deps/middle`, which has `leaf` as `leaf`.
struct Nest {
    top: Repo,
    middle: Repo,
    leaf: Repo,
}

fn nest(place: &Place) -> Nest {
    let leaf = Repo::init(place.upstream("leaf"), "master");
    leaf.commit("leaf.txt", "leaf 1");
    let middle = Repo::init(place.upstream("middle"), "master");
    middle.commit("middle.txt", "middle 1");
    middle.git(&["submodule", "--quiet", "add", "../leaf", "leaf"]);
    middle.commit_all("add leaf");
    let top = Repo::init(place.upstream("top"), "master");
    top.commit("top.txt", "top 1");
    top.git(&[
        "submodule",
        "--quiet",
        "add",
        &middle.file_url(),
        "deps/middle",
    ]);
    top.commit_all("add middle");
    Nest { top, middle, leaf }
}

/// Lets `top` name the newest commit of `middle`.
fn follow(nest: &Nest) -> String {
    nest.top.git(&[
        "-C",
        "deps/middle",
        "pull",
        "--quiet",
        &nest.middle.file_url(),
        "master",
    ]);
    nest.top.commit("top.txt", "top 2")
}

const MIDDLE: &str = "deps/middle/middle.txt";
const LEAF: &str = "deps/middle/leaf/leaf.txt";

#[test]
fn submodules_come_along_and_are_updated() {
    let place = Place::new();
    let nest = nest(&place);
    // A relative URL needs a remote of the submodule's own repository: that is how `leaf` is found.
    nest.middle
        .git(&["remote", "add", "origin", &nest.middle.file_url()]);
    let url = nest.top.file_url();
    check_done(&place.fetch(&url).unwrap(), &Action::Cloned);
    assert_eq!(place.text(MIDDLE).unwrap(), "middle 1");
    assert_eq!(place.text(LEAF).unwrap(), "leaf 1");

    nest.middle.commit("middle.txt", "middle 2");
    let old = nest.top.head();
    let new = follow(&nest);
    check_done(&place.fetch(&url).unwrap(), &updated(&old, &new));
    assert_eq!(place.text("top.txt").unwrap(), "top 2");
    assert_eq!(place.text(MIDDLE).unwrap(), "middle 2");
    let present = Repo::init(place.dest(), "master");
    assert_eq!(present.git(&["status", "--porcelain"]), "");
    check_done(&place.fetch(&url).unwrap(), &Action::Unchanged);
}

#[test]
fn submodule_that_cannot_be_fetched_fails_a_clone() {
    let place = Place::new();
    let nest = nest(&place);
    fs::remove_dir_all(nest.leaf.path()).unwrap();
    check_error(place.fetch(nest.top.file_url()), &["submodule", "leaf"]);
    assert!(place.in_ext().is_empty());
}

#[test]
fn submodule_that_cannot_be_fetched_keeps_the_whole_old_tree() {
    let place = Place::new();
    let nest = nest(&place);
    let url = nest.top.file_url();
    place.fetch(&url).unwrap();
    let old = nest.top.head();

    nest.middle.commit("middle.txt", "middle 2");
    let late = Repo::init(place.upstream("late"), "master");
    late.commit("late.txt", "late 1");
    let late_url = late.file_url();
    nest.top
        .git(&["submodule", "--quiet", "add", &late_url, "z/late"]);
    let new = follow(&nest);
    let away = place.upstream("away");
    fs::rename(late.path(), &away).unwrap();

    for _ in 0..2 {
        check_kept(&place.fetch(&url).unwrap(), &["submodule `z/late`"]);
        assert_eq!(place.text("top.txt").unwrap(), "top 1");
        assert_eq!(place.text(MIDDLE).unwrap(), "middle 1");
        assert!(!place.dest().join("z/late/.git").exists());
        let present = Repo::init(place.dest(), "master");
        assert_eq!(present.head(), old);
        assert_eq!(present.git(&["status", "--porcelain"]), "");
    }

    fs::rename(&away, late.path()).unwrap();
    check_done(&place.fetch(&url).unwrap(), &updated(&old, &new));
    assert_eq!(place.text(MIDDLE).unwrap(), "middle 2");
    assert_eq!(place.text("z/late/late.txt").unwrap(), "late 1");
}

#[test]
fn submodule_over_ssh_is_a_clear_error() {
    let place = Place::new();
    let nest = nest(&place);
    let modules = "[submodule \"deps/middle\"]\n\tpath = deps/middle\n\turl = git@host:middle\n";
    nest.top.commit(".gitmodules", modules);
    check_error(
        place.fetch(nest.top.file_url()),
        &["submodule `deps/middle`", "over ssh"],
    );
}
