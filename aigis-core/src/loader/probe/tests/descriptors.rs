//! Libraries whose descriptors lie.

use aigis_plugin_api::abi::{ABI_MAJOR, ABI_MINOR};

use super::*;

/// Asserts what is said about the frozen plugin, wrong in one thing.
fn wrong(cfg: &str, parts: &[&str]) {
    let place = Place::new();
    unfit(&place.frozen(cfg), parts);
}

#[test]
fn other_versions_are_refused_with_both_sides_and_the_remedy() {
    let loads = format!("this core loads {ABI_MAJOR}.0 to {ABI_MAJOR}.{ABI_MINOR}");
    for (cfg, version) in [
        ("newer_minor", "ABI version 1.4000"),
        ("other_major", "ABI version 2.0"),
    ] {
        let built = "built by rustc 1.95.0 (a compiler of old) with aigis-plugin-api 0.1.0";
        wrong(cfg, &[version, built, &loads, "`aigis reload --fresh`"]);
    }
}

#[test]
fn what_is_no_descriptor_is_told_from_one() {
    wrong(
        "wrong_magic",
        &["starts with \"NOTAPLUG\", expected \"AIGISPLG\""],
    );
    let place = Place::new();
    let library = place.source("pub fn nothing() {}");
    unfit(
        &library,
        &["exports no `aigis_plugin_descriptor`", "#[skills]"],
    );
    // A symbol of this name that is something else.
    let library = place
        .source("#[unsafe(no_mangle)] pub static aigis_plugin_descriptor: [u8; 3] = [1, 2, 3];");
    unfit(&library, &["is not a descriptor"]);
}

#[test]
fn a_layout_that_differs_is_named_by_its_field() {
    let field = "`Header.magic` has 8 bytes at offset 4, expected 8 at 0";
    wrong(
        "wrong_layout",
        &[field, "a compiler of old", "`aigis reload --fresh`"],
    );
}

#[test]
fn lies_are_found_before_they_are_followed() {
    wrong("bad_size", &["claims 64 bytes, expected 120"]);
    wrong("long_text", &["`rustc`", "claims a length of", "at most"]);
    wrong("lost_text", &["`api_version`", "claims 5 bytes at 0x1000"]);
    wrong("lost_layout", &["`layout`", "at 0x1000"]);
    wrong(
        "no_call",
        &["`Descriptor.call` should be a function", "0x0"],
    );
    wrong("data_for_call", &["`Descriptor.call` should be a function"]);
}

#[test]
fn a_library_that_cannot_describe_itself_is_refused() {
    wrong(
        "describe_fails",
        &["it cannot describe itself", "there are no words for it"],
    );
    wrong("describe_garbage", &["its description cannot be read"]);
    wrong("describe_lies", &["at 0x1000, where they are not"]);
    wrong("describe_number", &["returned 77"]);
    wrong("nothing", &["exposes nothing", "#[skills]"]);
    let place = Place::new();
    let parts = ["killed the process with SIGABRT when it was asked for its description"];
    crashed(&place.frozen("describe_panics"), LONG, &parts);
}
