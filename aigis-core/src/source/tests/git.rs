//! Repositories reached through `file://`: references, updates, and all that can stand in the way.

use super::super::Phase;
use super::git_server::Repo;
use super::*;

fn master(place: &Place) -> Repo {
    Repo::init(place.upstream("repo"), "master")
}

#[test]
fn readme_git_source() {
    let place = Place::new();
    let repo = master(&place);
    let one = repo.commit("answer", "1");
    repo.branch("main");
    repo.commit("answer", "2");
    let url = repo.file_url();

    let first = place.fetch(&url).unwrap();
    check_done(&first, &Action::Cloned);
    assert_eq!(reference_and_commit(&first), ("master", one.as_str()));
    assert_eq!(place.text("answer").unwrap(), "1");
    assert_eq!(place.in_ext(), ["plugin"]);
    check_done(&place.fetch(&url).unwrap(), &Action::Unchanged);

    repo.checkout("master");
    let three = repo.commit("answer", "3");
    check_done(&place.fetch(&url).unwrap(), &updated(&one, &three));
    assert_eq!(place.text("answer").unwrap(), "3");

    fs::remove_dir_all(repo.path()).unwrap();
    let kept = place.fetch(&url).unwrap();
    check_kept(&kept, &["plugin could not be updated"]);
    assert_eq!(reference_and_commit(&kept), ("master", three.as_str()));
    assert_eq!(place.text("answer").unwrap(), "3");
}

#[test]
fn without_master_the_default_branch_is_used_and_noted() {
    let place = Place::new();
    let repo = Repo::init(place.upstream("repo"), "trunk");
    repo.commit("answer", "trunk");
    repo.branch("other");
    repo.commit("answer", "other");
    repo.checkout("trunk");
    let fetched = place.fetch(repo.file_url()).unwrap();
    check_done(&fetched, &Action::Cloned);
    assert_eq!(place.text("answer").unwrap(), "trunk");
    assert_eq!(fetched.notes.len(), 1);
    assert!(fetched.notes[0].contains("default branch `trunk`"));
}

#[test]
fn without_master_and_default_branch_the_branches_are_named() {
    let place = Place::new();
    let repo = Repo::init(place.upstream("repo"), "trunk");
    repo.commit("answer", "1");
    repo.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    let result = place.fetch(repo.file_url());
    check_error(result, &["neither a branch `master`", "trunk"]);
    assert!(place.in_ext().is_empty());
}

#[test]
fn empty_repository_is_an_error() {
    let place = Place::new();
    let result = place.fetch(master(&place).file_url());
    assert!(matches!(result, Err(FetchError::EmptyRepository { .. })));
    assert!(place.in_ext().is_empty());
}

#[test]
fn branch_tag_and_commit_are_checked_out_when_asked_for() {
    let place = Place::new();
    let repo = master(&place);
    let one = repo.commit("answer", "one");
    repo.tag("plain");
    let two = repo.commit("answer", "two");
    repo.annotated_tag("annotated");
    repo.branch("feature/x");
    let three = repo.commit("answer", "three");
    repo.checkout("master");
    repo.commit("answer", "four");
    let cases = [
        (tag("plain"), "one", &one),
        (tag("annotated"), "two", &two),
        (branch("feature/x"), "three", &three),
        (rev(&one), "one", &one),
        (rev(&two[..8]), "two", &two),
    ];
    for (reference, text, commit) in cases {
        let place = Place::new();
        let fetched = place
            .fetch_reference(repo.file_url(), reference.clone())
            .unwrap();
        check_done(&fetched, &Action::Cloned);
        assert_eq!(place.text("answer").unwrap(), text, "{reference:?}");
        assert_eq!(reference_and_commit(&fetched).1, commit, "{reference:?}");
        let again = place
            .fetch_reference(repo.file_url(), reference.clone())
            .unwrap();
        check_done(&again, &Action::Unchanged);
    }
}

#[test]
fn commit_on_no_branch_is_found_through_its_tag() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    repo.branch("gone");
    let lost = repo.commit("answer", "2");
    repo.tag("keeps-it");
    repo.checkout("master");
    repo.git(&["branch", "-D", "gone"]);
    place.fetch(repo.file_url()).unwrap();
    place.fetch_reference(repo.file_url(), rev(&lost)).unwrap();
    assert_eq!(place.text("answer").unwrap(), "2");
}

#[test]
fn missing_references_are_errors_that_name_the_present_ones() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    repo.tag("v1");
    let url = repo.file_url();
    let ask = |reference| place.fetch_reference(&url, reference);
    check_error(ask(branch("nope")), &["no branch `nope`", "master"]);
    check_error(ask(tag("v2")), &["no tag `v2`", "v1"]);
    check_error(ask(rev("0123456789")), &["no commit `0123456789`"]);
    check_error(ask(rev("master")), &["not a commit id"]);
    assert!(place.in_ext().is_empty());
}

#[test]
fn moved_tag_is_followed_forwards_only() {
    let place = Place::new();
    let repo = master(&place);
    let one = repo.commit("answer", "1");
    let two = repo.commit("answer", "2");
    repo.git(&["tag", "latest", &one]);
    let url = repo.file_url();
    place.fetch_reference(&url, tag("latest")).unwrap();
    repo.tag("latest");
    let forward = place.fetch_reference(&url, tag("latest")).unwrap();
    check_done(&forward, &updated(&one, &two));
    repo.git(&["tag", "--force", "latest", &one]);
    for _ in 0..2 {
        let kept = place.fetch_reference(&url, tag("latest")).unwrap();
        check_kept(&kept, &["diverged", "tag `latest`"]);
        assert_eq!(place.text("answer").unwrap(), "2");
    }
}

#[test]
fn another_reference_in_the_config_is_switched_to() {
    let place = Place::new();
    let repo = master(&place);
    let one = repo.commit("answer", "1");
    repo.tag("v1");
    let two = repo.commit("answer", "2");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    let back = place.fetch_reference(&url, tag("v1")).unwrap();
    check_done(&back, &updated(&two, &one));
    let forth = place.fetch_reference(&url, branch("master")).unwrap();
    check_done(&forth, &updated(&one, &two));
    assert_eq!(place.text("answer").unwrap(), "2");
}

#[test]
fn commit_that_is_present_needs_no_server() {
    let place = Place::new();
    let repo = master(&place);
    let one = repo.commit("answer", "1");
    let url = repo.file_url();
    place.fetch_reference(&url, rev(&one)).unwrap();
    fs::remove_dir_all(repo.path()).unwrap();
    let again = place.fetch_reference(&url, rev(&one)).unwrap();
    check_done(&again, &Action::Unchanged);
}

#[test]
fn diverged_history_keeps_the_old_tree() {
    let place = Place::new();
    let repo = master(&place);
    let one = repo.commit("answer", "1");
    repo.commit("answer", "2");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    repo.git(&["reset", "--quiet", "--hard", &one]);
    repo.commit("answer", "rewritten");
    for _ in 0..2 {
        check_kept(&place.fetch(&url).unwrap(), &["diverged"]);
        assert_eq!(place.text("answer").unwrap(), "2");
    }
}

#[test]
fn local_commits_are_not_left_behind() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    repo.tag("v1");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    let present = Repo::init(place.dest(), "master");
    let mine = present.commit("mine", "1");

    // Nothing new on the server: the local commit is simply ahead.
    let ahead = place.fetch(&url).unwrap();
    check_done(&ahead, &Action::Unchanged);
    assert_eq!(reference_and_commit(&ahead), ("master", mine.as_str()));
    let switch = place.fetch_reference(&url, tag("v1")).unwrap();
    check_kept(&switch, &["diverged"]);
    repo.commit("answer", "2");
    check_kept(&place.fetch(&url).unwrap(), &["diverged"]);
    assert_eq!(place.text("mine").unwrap(), "1");
    assert_eq!(present.head(), mine);
}

#[test]
fn local_changes_in_the_way_keep_the_whole_old_tree() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("a", "1");
    repo.commit("b", "1");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    write(place.dest().join("b"), "edited");
    repo.commit("a", "2");
    repo.commit("b", "2");
    repo.commit("c", "2");
    for _ in 0..2 {
        check_kept(&place.fetch(&url).unwrap(), &["local changes", "`b`"]);
        assert_eq!(place.text("a").unwrap(), "1");
        assert_eq!(place.text("b").unwrap(), "edited");
        assert_eq!(place.text("c"), None);
    }
    // Once the edit is taken back, the update goes through.
    write(place.dest().join("b"), "1");
    place.fetch(&url).unwrap();
    assert_eq!(place.text("b").unwrap(), "2");
}

#[test]
fn local_changes_elsewhere_stay() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("a", "1");
    let one = repo.commit("b", "1");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    write(place.dest().join("b"), "edited");
    write(place.dest().join("Cargo.lock"), "lock");
    write(place.dest().join("target/x"), "built");
    let two = repo.commit("a", "2");
    check_done(&place.fetch(&url).unwrap(), &updated(&one, &two));
    assert_eq!(place.text("a").unwrap(), "2");
    assert_eq!(place.text("b").unwrap(), "edited");
    assert_eq!(place.text("Cargo.lock").unwrap(), "lock");
    assert_eq!(place.text("target/x").unwrap(), "built");
}

#[test]
fn untracked_file_that_collides_keeps_the_old_tree() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("a", "1");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    write(place.dest().join("Cargo.lock"), "mine");
    repo.commit("a", "2");
    repo.commit("Cargo.lock", "theirs");
    check_kept(&place.fetch(&url).unwrap(), &["`Cargo.lock`"]);
    assert_eq!(place.text("a").unwrap(), "1");
    assert_eq!(place.text("Cargo.lock").unwrap(), "mine");
}

#[test]
fn another_origin_keeps_the_old_tree() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    let other = Repo::init(place.upstream("other"), "master");
    other.commit("answer", "2");
    place.fetch(repo.file_url()).unwrap();
    let kept = place.fetch(other.file_url()).unwrap();
    check_kept(&kept, &["was cloned from", "/repo`", "/other`"]);
    assert_eq!(place.text("answer").unwrap(), "1");
}

#[test]
fn folder_that_is_no_repository_is_kept() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    write(place.dest().join("answer"), "mine");
    let kept = place.fetch(repo.file_url()).unwrap();
    check_kept(&kept, &["not a git repository"]);
    assert_eq!(reference_and_commit(&kept), ("", ""));
    assert_eq!(place.text("answer").unwrap(), "mine");
}

#[test]
fn folder_inside_another_repository_is_not_taken_for_that_one() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    let home = Repo::init(place.root.path().join("home"), "master");
    home.git(&["remote", "add", "origin", &repo.file_url()]);
    home.commit("ext/plugin/answer", "mine");
    let kept = place.fetch(repo.file_url()).unwrap();
    check_kept(&kept, &["not a git repository"]);
    assert_eq!(place.text("answer").unwrap(), "mine");
}

#[test]
fn empty_folder_counts_as_nothing() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    fs::create_dir_all(place.dest()).unwrap();
    check_done(&place.fetch(repo.file_url()).unwrap(), &Action::Cloned);
}

#[test]
fn damaged_repositories_keep_the_old_tree() {
    let damages: [fn(&Path); 5] = [
        |git| fs::write(git.join("HEAD"), "").unwrap(),
        |git| fs::write(git.join("config"), "[remote \"orig").unwrap(),
        |git| fs::remove_dir_all(git.join("objects")).unwrap(),
        |git| fs::remove_dir_all(git.join("refs")).unwrap(),
        |git| fs::write(git.join("index.lock"), "").unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let place = Place::new();
        let repo = master(&place);
        repo.commit("answer", "1");
        place.fetch(repo.file_url()).unwrap();
        repo.commit("answer", "2");
        damage(&place.dest().join(".git"));
        let kept = place.fetch(repo.file_url()).unwrap();
        assert_eq!(kept.action, Action::Kept, "damage {number}: {kept:?}");
        check_kept(&kept, &["plugin could not be updated"]);
        assert_eq!(place.text("answer").unwrap(), "1");
    }
}

#[test]
fn update_that_was_cut_short_is_completed_without_the_server() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("a", "1");
    repo.commit("b", "1");
    let one = repo.commit("gone", "1");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    repo.commit("a", "2");
    repo.commit("torn", "2222222222");
    fs::remove_file(repo.path().join("gone")).unwrap();
    let two = repo.commit("b", "2");
    place.fetch(&url).unwrap();
    // The state of a process that was killed in the middle of the second checkout.
    let present = Repo::init(place.dest(), "master");
    present.git(&["reset", "--quiet", "--hard", &one]);
    write(place.dest().join("a"), "2");
    write(place.dest().join("torn"), "22");
    let git = place.dest().join(".git");
    write(git.join("aigis-update"), &format!("{two} branch master\n"));
    write(git.join("index.lock"), "");

    fs::remove_dir_all(repo.path()).unwrap();
    check_kept(&place.fetch(&url).unwrap(), &["could not be updated"]);
    assert_eq!(place.text("a").unwrap(), "2");
    assert_eq!(place.text("b").unwrap(), "2");
    assert_eq!(place.text("torn").unwrap(), "2222222222");
    assert_eq!(place.text("gone"), None);
    assert_eq!(present.head(), two);
    assert_eq!(present.git(&["status", "--porcelain"]), "");
    assert!(!git.join("aigis-update").exists());
}

#[test]
fn checkout_that_breaks_off_is_undone() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("a", "1");
    repo.commit("removed", "1");
    repo.commit("untouched", "1");
    let url = repo.file_url();
    place.fetch(&url).unwrap();
    write(place.dest().join("untouched"), "edited");
    repo.commit("a", "2");
    repo.commit("added", "2");
    fs::remove_file(repo.path().join("removed")).unwrap();
    // A blob that is gone from the object store fails the checkout when its turn comes.
    repo.commit("z", "content that only this file has");
    let blob = repo.git(&["rev-parse", "HEAD:z"]);
    place.fetch(&url).unwrap();
    let present = Repo::init(place.dest(), "master");
    present.git(&["reset", "--quiet", "--hard", "HEAD~3"]);
    write(place.dest().join("untouched"), "edited");
    let objects = place.dest().join(".git/objects");
    let packs = place.upstream("packs");
    fs::rename(objects.join("pack"), &packs).unwrap();
    fs::create_dir(objects.join("pack")).unwrap();
    for entry in fs::read_dir(&packs).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "pack")
        {
            present.unpack(&path);
        }
    }
    fs::remove_file(objects.join(&blob[..2]).join(&blob[2..])).unwrap();

    for _ in 0..2 {
        check_kept(&place.fetch(&url).unwrap(), &["failed to check out"]);
        assert_eq!(place.text("a").unwrap(), "1");
        assert_eq!(place.text("removed").unwrap(), "1");
        assert_eq!(place.text("added"), None);
        assert_eq!(place.text("untouched").unwrap(), "edited");
        assert_eq!(present.git(&["status", "--porcelain"]), "M untouched");
        assert!(!place.dest().join(".git/aigis-update").exists());
    }
}

#[test]
fn fresh_replaces_everything_and_keeps_the_old_tree_on_failure() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    let url = repo.file_url();
    check_done(&place.fresh(&url).unwrap(), &Action::Cloned);
    write(place.dest().join("answer"), "edited");
    write(place.dest().join("untracked"), "x");
    check_done(&place.fresh(&url).unwrap(), &Action::Cloned);
    assert_eq!(place.text("answer").unwrap(), "1");
    assert_eq!(place.text("untracked"), None);
    assert_eq!(place.in_ext(), ["plugin"]);

    fs::remove_dir_all(repo.path()).unwrap();
    assert!(place.fresh(&url).is_err());
    assert_eq!(place.text("answer").unwrap(), "1");
    assert_eq!(place.in_ext(), ["plugin"]);
}

#[test]
fn progress_is_told_and_cancelling_leaves_nothing() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    let spec = place.spec(repo.file_url(), GitReference::Unspecified);
    let cancel = AtomicBool::new(false);
    let stops: [fn(&Progress) -> bool; 3] = [
        |p| p.phase == Phase::Resolving,
        |p| p.phase == Phase::Receiving,
        |p| p.phase == Phase::CheckingOut,
    ];
    for stop in stops {
        cancel.store(false, Ordering::Relaxed);
        let recorder = Recorder::new(&cancel, stop);
        let result = fetch(&spec, &place.dest(), &recorder, &cancel);
        assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
        assert!(place.in_ext().is_empty());
    }
    cancel.store(false, Ordering::Relaxed);
    let recorder = Recorder::new(&cancel, |_| false);
    fetch(&spec, &place.dest(), &recorder, &cancel).unwrap();
    let seen = recorder.seen.into_inner().unwrap();
    let last = |phase| *seen.iter().rfind(|p| p.phase == phase).unwrap();
    let received = last(Phase::Receiving);
    assert_eq!((received.done, received.total), (3, Some(3)));
    assert!(received.bytes > 0);
    let written = last(Phase::CheckingOut);
    assert_eq!((written.done, written.total), (1, Some(1)));
}

#[test]
fn cancelled_update_is_no_warning_and_keeps_the_old_tree() {
    let place = Place::new();
    let repo = master(&place);
    repo.commit("answer", "1");
    place.fetch(repo.file_url()).unwrap();
    repo.commit("answer", "2");
    write(place.dest().join("answer"), "edited");
    let spec = place.spec(repo.file_url(), GitReference::Unspecified);
    let cancel = AtomicBool::new(false);
    let recorder = Recorder::new(&cancel, |p| p.phase == Phase::Receiving);
    let result = fetch(&spec, &place.dest(), &recorder, &cancel);
    assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
    assert_eq!(place.text("answer").unwrap(), "edited");
}
