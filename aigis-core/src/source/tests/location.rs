//! What the text of a source means.

use super::super::location::{redact, resolve};
use super::*;

#[test]
fn neither_folder_nor_url_names_both_readings_and_the_path() {
    let place = Place::new();
    let path = place.root.path().join("nowhere");
    let parts = ["nowhere", "neither a folder", path.to_str().unwrap(), "URL"];
    check_error(place.fetch("nowhere"), &parts);
    check_error(place.fetch(""), &["neither a folder"]);
    check_error(place.fetch("ftp://host/x"), &["neither a folder"]);
    check_error(place.fresh("nowhere"), &parts);
    assert!(place.in_ext().is_empty());
}

#[test]
fn file_is_an_error() {
    let place = Place::new();
    write(place.upstream("file"), "x");
    check_error(place.fetch("upstream/file"), &["is not a folder"]);
}

#[test]
fn references_of_a_folder_are_errors() {
    let place = Place::new();
    write(place.upstream("plugin/file"), "x");
    for (reference, key) in [
        (branch("x"), "`branch`"),
        (tag("x"), "`tag`"),
        (rev("1234"), "`rev`"),
    ] {
        let result = place.fetch_reference("upstream/plugin", reference);
        check_error(result, &[key, "is a folder", "file://"]);
    }
}

#[test]
fn folder_comes_before_url() {
    let place = Place::new();
    write(place.root.path().join("user@host:path/file"), "local");
    check_done(&place.fetch("user@host:path").unwrap(), &Action::Copied);
}

#[test]
fn ssh_is_refused_in_each_spelling() {
    let place = Place::new();
    for url in [
        "git@example.invalid:a/b.git",
        "ssh://git@example.invalid/a/b.git",
        "git+ssh://example.invalid/a",
    ] {
        check_error(place.fetch(url), &["over ssh", "https://"]);
    }
}

#[test]
fn file_where_the_plugin_belongs_is_an_error() {
    let place = Place::new();
    write(place.upstream("plugin/file"), "x");
    write(place.dest(), "not a folder");
    check_error(place.fetch("upstream/plugin"), &["is not a folder"]);
    assert_eq!(fs::read_to_string(place.dest()).unwrap(), "not a folder");
}

#[test]
fn credentials_are_blotted_out() {
    let cases = [
        ("https://host/a", "https://host/a"),
        ("https://me:secret@host:1/a@b", "https://***@host:1/a@b"),
        ("https://token@host", "https://***@host"),
        ("https://a:b@c@host/x", "https://***@host/x"),
        (
            "failed http://a:b@h/x and https://c@h: no",
            "failed http://***@h/x and https://***@h: no",
        ),
    ];
    for (text, clean) in cases {
        assert_eq!(redact(text), clean);
    }
}

#[test]
fn relative_urls_of_submodules_are_resolved() {
    let cases = [
        ("https://host/a/b", "../c", "https://host/a/c"),
        ("https://host/a/b/", "./c", "https://host/a/b/c"),
        ("https://host/a/b", "../../c/d", "https://host/c/d"),
        ("https://host/a", "../../../c", "https://host/c"),
        ("file:///a/b", "../c", "file:///a/c"),
    ];
    for (base, relative, url) in cases {
        assert_eq!(resolve(base, relative), url, "{base} {relative}");
    }
}
