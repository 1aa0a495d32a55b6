//! What is built when, in a home where little or nothing has changed.

use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime};

use aigis_core::PluginStatus;
use aigis_core::State;

use crate::support::core::Background;
use crate::support::home::TestHome;
use crate::support::plugins;

/// How many plugins there are; two of them share a package name.
const PLUGINS: usize = 10;

fn library(number: usize, version: u32) -> String {
    format!(
        "#[aigis_plugin_api::skills]\npub mod p{number} {{\n    \
         pub fn version() -> u32 {{\n        {version}\n    }}\n}}\n"
    )
}

fn package(number: usize) -> String {
    match number {
        0 | 1 => "twin".to_owned(),
        number => format!("single{number}"),
    }
}

fn version(home: &TestHome, number: usize) -> String {
    home.aigis(&["call", &format!("p{number}.version")])
        .exited(0)
        .stdout
}

#[test]
fn a_start_where_nothing_changed_calls_no_cargo() {
    let home = TestHome::new();
    let mut config = "[core]\n".to_owned();
    for number in 0..PLUGINS {
        let cargo = plugins::cargo_toml(&package(number), "[lib]\ncrate-type = [\"cdylib\"]\n");
        let name = format!("p{number}");
        let library = library(number, 100 + number as u32);
        plugins::write(
            &home,
            &name,
            &[
                ("Cargo.toml", &cargo),
                ("AIGIS/AIGIS.config", plugins::CORE),
                ("src/lib.rs", &library),
            ],
        );
        config += &format!("{name} = \"{{sources}}/{name}\"\n");
    }
    home.config(&config);
    let _guard = Background(&home);
    home.aigis(&["build-and-run", "--detach"]).exited(0);
    for number in 0..PLUGINS {
        assert_eq!(version(&home, number), format!("{}\n", 100 + number));
    }

    // Cargo goes by times, and these are older than what was built from the first version.
    let file = home.source("p0").join("src/lib.rs");
    fs::write(&file, library(0, 7)).expect("is written");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let opened = File::options().write(true).open(&file).expect("opens");
    opened.set_modified(long_ago).expect("is set");
    drop(opened);
    home.aigis(&["reload", "p0"]).exited(0);
    assert_eq!(version(&home, 0), "100\n", "a folder is copied once");
    home.aigis(&["reload", "--fresh", "p0"]).exited(0);
    assert_eq!(version(&home, 0), "7\n");
    assert_eq!(version(&home, 1), "101\n", "has the same package name");
    home.aigis(&["shutdown"]).exited(0);

    // A cargo that tells of every call and does nothing.
    let calls = home.path().join("calls");
    let programs = home.path().join("programs");
    let cargo = format!("#!/bin/sh\necho \"$@\" >> '{}'\nexit 1\n", calls.display());
    plugins::write_into(&programs, &[("cargo", &cargo)]);
    let path = std::env::var("PATH").expect("is set");
    let mut command = home.command(&["build-and-run", "--detach"]);
    command.env("PATH", format!("{}:{path}", programs.display()));
    let begun = Instant::now();
    let output = command.output().expect("aigis runs");
    let took = begun.elapsed();
    assert!(!calls.exists(), "cargo was called: {}", home.read("calls"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Not asserted: how fast a test's machine is, nobody knows.
    println!("{PLUGINS} unchanged plugins were up after {took:?}");
    let statuses = home.aigis(&["status", "--json"]).exited(0).stdout;
    let statuses: Vec<PluginStatus> = serde_json::from_str(&statuses).expect("is JSON");
    assert_eq!(statuses.len(), PLUGINS);
    assert!(statuses.iter().all(|status| status.state == State::Ready));
    assert_eq!(version(&home, 0), "7\n");
    for number in 1..PLUGINS {
        assert_eq!(version(&home, number), format!("{}\n", 100 + number));
    }

    // It is the cargo that this core would call.
    fs::write(home.path().join("ext/p3/src/lib.rs"), library(3, 8)).expect("is written");
    home.aigis(&["reload", "p3"]).exited(3);
    assert!(
        home.read("calls").contains("metadata"),
        "{}",
        home.read("calls")
    );
    assert_eq!(version(&home, 3), "103\n", "what ran before runs on");
    home.aigis(&["shutdown"]).exited(0);
}
