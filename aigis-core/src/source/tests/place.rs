//! What stands at the destination, and what attempts that died leave beside it.

use std::fs::File;

use super::super::staging::{Staging, recover};
use super::*;

#[test]
fn leftovers_of_dead_attempts_are_removed_and_those_of_living_ones_stay() {
    let place = Place::new();
    write(place.upstream("plugin/file"), "x");
    let ext = place.root.path().join("home/ext");
    write(ext.join(".plugin.partial-1-0/half"), "x");
    write(ext.join(".plugin.partial-1-0.partial-1-0/other"), "x");
    write(ext.join(".plugin.partial-2-0/half"), "x");
    write(ext.join(".other.partial-1-0/half"), "x");
    let alive = File::open(ext.join(".plugin.partial-2-0")).unwrap();
    alive.lock().unwrap();
    place.fetch("upstream/plugin").unwrap();
    assert_eq!(
        place.in_ext(),
        [
            ".other.partial-1-0",
            ".plugin.partial-1-0.partial-1-0",
            ".plugin.partial-2-0",
            "plugin"
        ]
    );
}

#[test]
fn tree_that_was_set_aside_is_put_back() {
    let place = Place::new();
    let old = place.root.path().join("home/ext/.plugin.replaced-1-0");
    write(old.join("file"), "old");
    recover(&place.dest()).unwrap();
    assert_eq!(place.text("file").unwrap(), "old");
    // With a tree in place it is only a leftover.
    write(old.join("file"), "older");
    recover(&place.dest()).unwrap();
    assert_eq!(place.text("file").unwrap(), "old");
    assert_eq!(place.in_ext(), ["plugin"]);
}

#[test]
fn publishing_never_replaces_a_tree() {
    let place = Place::new();
    let staging = Staging::create(&place.dest()).unwrap();
    write(staging.path().join("file"), "new");
    write(place.dest().join("file"), "old");
    staging.publish().unwrap_err();
    assert_eq!(place.text("file").unwrap(), "old");
    assert_eq!(place.in_ext(), ["plugin"]);
}
