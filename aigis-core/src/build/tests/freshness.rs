//! When is a plugin built again, and when not.

use super::*;

fn simple(home: &Home, name: &str) -> Plugin {
    home.plugin(
        name,
        &[
            ("Cargo.toml", &manifest(name, CDYLIB)),
            ("src/lib.rs", &library("marker-01")),
        ],
    )
}

fn is_fresh(home: &Home, plugin: &Plugin) -> bool {
    let request = plugin.request(Wants::Library);
    home.restarted().fresh(&request).is_some()
}

#[test]
fn an_unchanged_start_calls_no_cargo_and_asks_rustc_once() {
    let home = Home::new();
    let plugins = [
        simple(&home, "one"),
        simple(&home, "two"),
        simple(&home, "three"),
    ];
    let built: Vec<_> = plugins
        .iter()
        .map(|plugin| home.build(plugin, Wants::Library).expect("it builds"))
        .collect();
    let (cargo, rustc) = (home.calls("cargo"), home.calls("rustc"));
    assert!(cargo > 0 && rustc > 0, "the calls are not counted");

    let restarted = home.restarted();
    for (plugin, built) in plugins.iter().zip(built) {
        let request = plugin.request(Wants::Library);
        let fresh = restarted.fresh(&request).expect("nothing changed");
        assert_eq!(
            fresh,
            Artifacts {
                fresh: true,
                ..built
            }
        );
        let again = restarted.build(&request, &mut |_| {}).expect("no need");
        assert_eq!(again, fresh);
    }
    assert_eq!(home.calls("cargo"), cargo);
    assert_eq!(home.calls("rustc"), rustc + 1);
}

#[test]
fn equally_long_content_with_an_older_time_is_built() {
    let home = Home::new();
    let plugin = simple(&home, "old");
    assert!(contains(&home.built_library(&plugin), "marker-01"));
    plugin.write_old("src/lib.rs", &library("marker-02"));
    assert!(contains(&home.built_library(&plugin), "marker-02"));
    // The time, which belongs to the user, is still the old one.
    let meta = fs::metadata(plugin.root.join("src/lib.rs")).expect("it is there");
    let age = meta
        .modified()
        .expect("a time")
        .duration_since(SystemTime::UNIX_EPOCH);
    assert_eq!(age.expect("later").as_secs(), 1_000_000_000);
}

#[test]
fn two_plugins_with_one_package_name_do_not_mix() {
    let home = Home::new();
    let files = |mark: &str| {
        [
            ("Cargo.toml", manifest("same", CDYLIB)),
            ("src/lib.rs", library(mark)),
        ]
    };
    let plugin = |name: &str, mark: &str| {
        let files = files(mark);
        let plugin = home.plugin(name, &[]);
        for (path, text) in &files {
            plugin.write_old(path, text);
        }
        plugin
    };
    let (a, b) = (plugin("a", "marker-0a"), plugin("b", "marker-0b"));
    assert!(contains(&home.built_library(&a), "marker-0a"));
    assert!(contains(&home.built_library(&b), "marker-0b"));
    let again = home.build(&a, Wants::Library).expect("it is kept");
    assert!(again.fresh);
    let library_of_a = fs::read(again.library.expect("a library")).expect("it is there");
    assert!(contains(&library_of_a, "marker-0a"));
    a.write_old("src/lib.rs", &library("marker-2a"));
    assert!(contains(&home.built_library(&a), "marker-2a"));
    assert!(is_fresh(&home, &b));
}

#[test]
fn plugins_built_at_once_do_not_mix_either() {
    let home = Home::new();
    let marks = ["marker-0a", "marker-0b", "marker-0c"];
    let plugins: Vec<_> = marks
        .iter()
        .map(|mark| {
            home.plugin(
                &mark[7..],
                &[
                    ("Cargo.toml", &manifest("same", CDYLIB)),
                    ("src/lib.rs", &library(mark)),
                ],
            )
        })
        .collect();
    std::thread::scope(|scope| {
        for (plugin, mark) in plugins.iter().zip(marks) {
            let home = &home;
            scope.spawn(move || assert!(contains(&home.built_library(plugin), mark)));
        }
    });
}

#[test]
fn a_path_dependency_outside_the_plugin_counts() {
    let home = Home::new();
    let part = home.path().join("part");
    fs::create_dir_all(part.join("src")).expect("a folder");
    fs::write(part.join("Cargo.toml"), manifest("part", "")).expect("a file");
    let write = |mark: &str| {
        let text = format!("pub const MARK: [u8; 9] = *b\"{mark}\";\n");
        fs::write(part.join("src/lib.rs"), text).expect("a file");
    };
    write("part-mk-1");
    let plugin = home.plugin(
        "whole",
        &[
            (
                "Cargo.toml",
                &manifest(
                    "whole",
                    "[lib]\ncrate-type = [\"cdylib\"]\n\
                     [dependencies]\npart = { path = \"../../part\" }",
                ),
            ),
            (
                "src/lib.rs",
                "#[unsafe(no_mangle)]\npub static MARK: [u8; 9] = part::MARK;\n",
            ),
        ],
    );
    assert!(contains(&home.built_library(&plugin), "part-mk-1"));
    assert!(is_fresh(&home, &plugin));
    write("part-mk-2");
    assert!(contains(&home.built_library(&plugin), "part-mk-2"));
    assert!(is_fresh(&home, &plugin));
}

#[test]
fn what_is_no_source_does_not_count() {
    let home = Home::new();
    let mut plugin = simple(&home, "quiet");
    plugin.excluded = vec!["keys/token".into()];
    home.built_library(&plugin);
    assert!(is_fresh(&home, &plugin));
    plugin.write(".git/HEAD", "ref: refs/heads/other\n");
    plugin.write("keys/token", "secret");
    plugin.write(
        "target/CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55\n# by cargo\n",
    );
    plugin.write("target/release/big", "0000");
    plugin.write("crates/x/target/.rustc_info.json", "{}");
    fs::create_dir(plugin.root.join("empty")).expect("a folder");
    let made = Command::new("mkfifo")
        .arg(plugin.root.join("pipe"))
        .status();
    assert!(made.expect("there is mkfifo").success());
    assert!(is_fresh(&home, &plugin));
    // These do count.
    plugin.write("target-practice/notes", "text");
    assert!(!is_fresh(&home, &plugin));
    fs::remove_dir_all(plugin.root.join("target-practice")).expect("it is there");
    assert!(is_fresh(&home, &plugin));
    plugin.excluded.clear();
    assert!(!is_fresh(&home, &plugin));
}

#[test]
fn every_part_of_the_sources_counts() {
    let home = Home::new();
    let plugin = simple(&home, "parts");
    plugin.write("notes/a", "text");
    std::os::unix::fs::symlink("notes/a", plugin.root.join("link")).expect("a link");
    home.built_library(&plugin);
    assert!(is_fresh(&home, &plugin));
    let note = plugin.root.join("notes/a");

    fs::set_permissions(&note, fs::Permissions::from_mode(0o755)).expect("a mode");
    assert!(!is_fresh(&home, &plugin), "the executable bit");
    fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).expect("a mode");
    assert!(is_fresh(&home, &plugin), "other bits do not count");

    fs::rename(&note, plugin.root.join("notes/b")).expect("it is there");
    assert!(!is_fresh(&home, &plugin), "a name");
    fs::rename(plugin.root.join("notes/b"), &note).expect("it is there");
    assert!(is_fresh(&home, &plugin));

    fs::remove_file(plugin.root.join("link")).expect("it is there");
    std::os::unix::fs::symlink("notes/b", plugin.root.join("link")).expect("a link");
    assert!(!is_fresh(&home, &plugin), "where a link points");
}

#[test]
fn a_plugin_that_is_fetched_anew_needs_no_building() {
    let home = Home::new();
    let plugin = simple(&home, "anew");
    home.built_library(&plugin);
    assert!(plugin.root.join("Cargo.lock").exists());
    fs::remove_dir_all(&plugin.root).expect("it is there");
    let plugin = simple(&home, "anew");
    assert!(is_fresh(&home, &plugin), "the lock file was not its own");
    plugin.write("Cargo.lock", "version = 4\n# of the author\n");
    assert!(!is_fresh(&home, &plugin), "this one is");
}

#[test]
fn a_lost_or_damaged_artifact_is_built_again() {
    let home = Home::new();
    let plugin = simple(&home, "lost");
    let build = || home.build(&plugin, Wants::Library).expect("it builds");
    let first = build();
    let file = first.library.clone().expect("a library");
    fs::remove_file(&file).expect("it is there");
    let second = build();
    assert!(!second.fresh);
    assert_eq!(second.library, first.library);

    let mut damaged = fs::read(&file).expect("it is there");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&file, damaged).expect("it is there");
    let third = build();
    assert!(!third.fresh);
    let content = fs::read(&file).expect("it is there");
    assert!(
        file.to_str()
            .expect("text")
            .contains(&blake3::hash(&content).to_hex()[..16])
    );
    assert!(is_fresh(&home, &plugin));
}

#[test]
fn a_damaged_stamp_counts_for_nothing() {
    let home = Home::new();
    let plugin = simple(&home, "stamped");
    home.built_library(&plugin);
    let stamp = home.path().join("build/stamps/stamped.json");
    let text = fs::read_to_string(&stamp).expect("it is there");
    let damaged = [
        String::new(),
        text[..text.len() / 2].to_owned(),
        "[]".to_owned(),
        text.replace("\"format\": 1", "\"format\": 0"),
        text.replace("\"stamped-", "\"../stamped-"),
    ];
    for damaged in damaged {
        assert_ne!(damaged, text);
        fs::write(&stamp, &damaged).expect("a file");
        assert!(!is_fresh(&home, &plugin), "{damaged}");
    }
    fs::write(&stamp, text).expect("a file");
    assert!(is_fresh(&home, &plugin));
}

#[test]
fn flags_requests_and_our_own_version_count() {
    let home = Home::new();
    let mut plugin = simple(&home, "flags");
    home.built_library(&plugin);
    assert!(is_fresh(&home, &plugin));
    let fresh_with = |sdk: Sdk, toolchain: Toolchain| {
        let builder = Builder::new(folders(&home.path()), sdk, toolchain);
        builder.fresh(&plugin.request(Wants::Library)).is_some()
    };

    let mut toolchain = home.toolchain.clone();
    set(&mut toolchain, "CARGO_TARGET_DIR", OsStr::new("/elsewhere"));
    assert!(fresh_with(home.sdk.clone(), toolchain), "is not used");
    let mut toolchain = home.toolchain.clone();
    set(&mut toolchain, "RUSTFLAGS", OsStr::new("-Cdebuginfo=1"));
    assert!(!fresh_with(home.sdk.clone(), toolchain), "flags");

    let mut sdk = home.sdk.clone();
    sdk.crates[1].version = "0.1.1";
    assert!(
        !fresh_with(sdk, home.toolchain.clone()),
        "the crates we carry"
    );

    let config = home.path().join("ext/.cargo/config.toml");
    fs::create_dir_all(config.parent().expect("it has one")).expect("a folder");
    fs::write(&config, "[build]\nrustflags = [\"-Cdebuginfo=1\"]\n").expect("a file");
    assert!(!is_fresh(&home, &plugin), "a configuration further up");
    fs::remove_file(config).expect("it is there");
    assert!(is_fresh(&home, &plugin));

    plugin.features = vec!["more".to_owned()];
    assert!(!is_fresh(&home, &plugin), "features");
}

#[test]
fn another_compiler_counts_and_none_at_all_does_not() {
    let home = Home::new();
    let plugin = simple(&home, "compiled");
    home.built_library(&plugin);
    let fresh_with = |rustc: &str| {
        let mut toolchain = home.toolchain.clone();
        toolchain.rustc = rustc.into();
        let builder = Builder::new(folders(&home.path()), home.sdk.clone(), toolchain);
        builder.fresh(&plugin.request(Wants::Library)).is_some()
    };
    // Prints something else, fails, is not there.
    assert!(!fresh_with("/bin/echo"));
    assert!(!fresh_with("/bin/false"));
    assert!(fresh_with("/no/such/rustc"));
}

#[test]
fn a_toolchain_file_gets_an_answer_of_its_own() {
    let home = Home::new();
    let (plain, pinned) = (simple(&home, "plain"), simple(&home, "pinned"));
    home.built_library(&plain);
    let version = Command::new("rustc").arg("-vV").output().expect("it runs");
    let version = String::from_utf8(version.stdout).expect("text");
    let release = version
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .expect("a release");
    // Asking rustc is all that counts here, so nothing is built with that toolchain.
    pinned.write(
        "rust-toolchain.toml",
        &format!("[toolchain]\nchannel = \"{release}\"\n"),
    );
    let restarted = home.restarted();
    let before = home.calls("rustc");
    let compiler = |plugin: &Plugin| {
        let found = restarted
            .compilers
            .get(&restarted.toolchain, &plugin.root, &plugin.cancel);
        let _ = found; // a release that is not installed under its number is an error
        home.calls("rustc") - before
    };
    assert_eq!(compiler(&plain), 1);
    assert_eq!(compiler(&plain), 1);
    assert_eq!(compiler(&pinned), 2);
    assert_eq!(compiler(&plain), 2);
}

#[test]
fn pruning_deletes_only_what_is_not_kept() {
    let home = Home::new();
    let (plugin, other) = (simple(&home, "a"), simple(&home, "a-b"));
    let library_of = |plugin: &Plugin| {
        let artifacts = home.build(plugin, Wants::Library).expect("it builds");
        artifacts.library.expect("a library")
    };
    let (old, others) = (library_of(&plugin), library_of(&other));
    plugin.write("src/lib.rs", &library("marker-02"));
    let new = library_of(&plugin);
    assert!(
        old.exists() && new.exists(),
        "a loaded library keeps its file"
    );
    home.builder.prune(&plugin.name, &[&new]);
    assert!(!old.exists());
    assert!(new.exists() && others.exists());
}
