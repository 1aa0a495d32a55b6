//! Files that are no libraries, or no whole ones.

use super::*;

#[test]
fn what_is_no_library_is_named() {
    let place = Place::new();
    unfit(
        &place.path("missing.so"),
        &["cannot be read", "No such file"],
    );
    unfit(place.folder.path(), &["is a folder, expected a library"]);
    let file = place.path("a.so");
    for (content, said) in [
        (&b""[..], "the library is empty"),
        (b"#!/bin/sh\n", "no ELF file: it starts with \"#!/bin/s\""),
        (&[0x5a; 4096], "no ELF file"),
        (
            b"\x7fELF\x02\x01\x01",
            "cut off: it has 7 bytes, expected at least 64",
        ),
    ] {
        fs::write(&file, content).expect("writes");
        unfit(&file, &[said, "`aigis reload --fresh`"]);
    }
    let file = place.path("pipe.so");
    pipe(&file);
    unfit(&file, &["is a device or a pipe"]);
}

#[test]
fn libraries_of_other_machines_and_programs_are_told() {
    let place = Place::new();
    let whole = fs::read(place.frozen("")).expect("was built");
    let file = place.path("changed.so");
    let other: u16 = if cfg!(target_arch = "aarch64") {
        62
    } else {
        183
    };
    let name = if other == 62 {
        "for x86_64"
    } else {
        "for aarch64"
    };
    let number = other.to_ne_bytes();
    for (at, bytes, said) in [
        (18, &number[..], name),
        (4, &[1], "32 bits"),
        (5, &[2], "machines of another kind"),
        (16, &[2, 0], "expected a shared library"),
        (54, &[0, 0], "segments of 0 bytes"),
        (32, &[0xff; 8], "cut off"),
    ] {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&file, changed).expect("writes");
        unfit(&file, &[said]);
    }
}

#[test]
fn a_library_that_is_cut_off_is_told_wherever_it_ends() {
    let place = Place::new();
    let whole = fs::read(place.frozen("")).expect("was built");
    let file = place.path("cut.so");
    for percent in [1, 30, 60, 90] {
        fs::write(&file, &whole[..whole.len() * percent / 100]).expect("writes");
        unfit(&file, &["cut off: it has", "expected at least"]);
    }
}
