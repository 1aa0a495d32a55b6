//! What is built, and how a package that cannot be built is answered.

use super::*;

#[test]
fn a_library_is_kept_under_the_hash_of_its_content() {
    let home = Home::new();
    let plugin = home.plugin(
        "greeter.rs",
        &[
            ("Cargo.toml", &manifest("greeter", CDYLIB)),
            ("src/lib.rs", &library("marker-01")),
        ],
    );
    let artifacts = home.build(&plugin, Wants::Library).expect("it builds");
    let library = artifacts.library.expect("a library");
    let content = fs::read(&library).expect("it is there");
    let hash = blake3::hash(&content).to_hex();
    let name = format!("greeter.rs-{}.so", &hash[..16]);
    assert_eq!(library, home.path().join("build/artifacts").join(name));
    assert!(contains(&content, "marker-01"));
    assert_eq!(artifacts.binary, None);
    // The plugin does not use the crates we carry, so its lock file does not mention them.
    let lock = fs::read_to_string(plugin.root.join("Cargo.lock")).expect("cargo wrote it");
    assert!(!lock.contains("aigis"), "{lock}");
}

#[test]
fn the_only_program_is_built_and_can_be_run() {
    let home = Home::new();
    let plugin = home.plugin(
        "daemon",
        &[
            ("Cargo.toml", &manifest("daemon", "")),
            ("src/main.rs", &program("it runs")),
        ],
    );
    let wants = Wants::Binary {
        name: None,
        library: true,
    };
    let artifacts = home.build(&plugin, wants).expect("it builds");
    let program = artifacts.binary.expect("a program");
    assert_eq!(printed_by(&program), "it runs\n");
    assert_eq!(
        mode(&program),
        mode(&home.path().join("build/target/release/daemon"))
    );
    assert_eq!(artifacts.library, None);
}

#[test]
fn a_hybrid_gives_both() {
    let home = Home::new();
    let plugin = home.plugin(
        "hybrid",
        &[
            (
                "Cargo.toml",
                &manifest("hybrid", "[lib]\ncrate-type = [\"cdylib\", \"rlib\"]"),
            ),
            ("src/lib.rs", &library("hybrid-01")),
            ("src/bin/serve.rs", &program("serving")),
            ("src/bin/other.rs", "this is not even Rust"),
        ],
    );
    let wants = Wants::Binary {
        name: Some("serve"),
        library: true,
    };
    let artifacts = home
        .build(&plugin, wants)
        .expect("only what is needed is built");
    assert_eq!(
        printed_by(&artifacts.binary.expect("a program")),
        "serving\n"
    );
    let library = fs::read(artifacts.library.expect("a library")).expect("it is there");
    assert!(contains(&library, "hybrid-01"));
}

#[test]
fn a_package_without_a_cdylib_is_told_what_to_add() {
    let home = Home::new();
    let plugin = home.plugin(
        "plain",
        &[("Cargo.toml", &manifest("plain", "")), ("src/lib.rs", "")],
    );
    let error = home.build(&plugin, Wants::Library).expect_err("no library");
    assert_eq!(
        error.to_string(),
        "plugin `plain`: package `plain` has no `cdylib`; \
         add `crate-type = [\"cdylib\"]` to `[lib]` in its Cargo.toml"
    );
    assert!(
        !plugin.root.join("Cargo.lock").exists(),
        "nothing half done stays"
    );
}

#[test]
fn one_of_two_programs_must_be_chosen() {
    let home = Home::new();
    let plugin = home.plugin(
        "two",
        &[
            ("Cargo.toml", &manifest("two", "")),
            ("src/bin/first.rs", &program("first")),
            ("src/bin/second.rs", &program("second")),
        ],
    );
    let wants = |name| Wants::Binary {
        name,
        library: false,
    };
    let error = home.build(&plugin, wants(None)).expect_err("two");
    assert_eq!(
        error.to_string(),
        "plugin `two`: package `two` has several binaries; choose one with LAUNCH: first, second"
    );
    let error = home.build(&plugin, wants(Some("third"))).expect_err("none");
    assert_eq!(
        error.to_string(),
        "plugin `two`: package `two` has no binary `third`; it has first, second"
    );
    let artifacts = home
        .build(&plugin, wants(Some("second")))
        .expect("it builds");
    assert_eq!(
        printed_by(&artifacts.binary.expect("a program")),
        "second\n"
    );
}

#[test]
fn a_library_package_has_no_program() {
    let home = Home::new();
    let plugin = home.plugin(
        "lib-only",
        &[
            ("Cargo.toml", &manifest("lib-only", CDYLIB)),
            ("src/lib.rs", &library("marker-01")),
        ],
    );
    let wants = Wants::Binary {
        name: None,
        library: false,
    };
    let error = home.build(&plugin, wants).expect_err("no program");
    assert!(matches!(error, BuildError::NoBinary { .. }), "{error}");
}

#[test]
fn package_and_features_choose_inside_a_workspace() {
    let home = Home::new();
    let featured = "[features]\nloud = []\n[lib]\ncrate-type = [\"cdylib\"]";
    let source = format!(
        "#[cfg(feature = \"loud\")]\n{}#[cfg(not(feature = \"loud\"))]\n{}",
        library("loud-mark"),
        library("calm-mark"),
    );
    let mut plugin = home.plugin(
        "many",
        &[
            (
                "Cargo.toml",
                "[workspace]\nmembers = [\"a\", \"b\", \"c\"]\nresolver = \"3\"\n",
            ),
            ("a/Cargo.toml", &manifest("a", "")),
            ("a/src/main.rs", &program("a")),
            ("b/Cargo.toml", &manifest("b", featured)),
            ("b/src/lib.rs", &source),
            ("c/Cargo.toml", &manifest("c", CDYLIB)),
            ("c/src/lib.rs", &library("marker-0c")),
        ],
    );
    let error = home.build(&plugin, Wants::Library).expect_err("which?");
    assert_eq!(
        error.to_string(),
        "plugin `many` is a workspace of several packages; choose one with PACKAGE: \
         `a` (bin a), `b` (cdylib), `c` (cdylib)"
    );
    plugin.package = Some("a");
    let error = home.build(&plugin, Wants::Library).expect_err("no library");
    assert!(
        error
            .to_string()
            .ends_with("choose with PACKAGE one that has: b, c"),
        "{error}"
    );
    plugin.package = Some("d");
    let error = home.build(&plugin, Wants::Library).expect_err("no package");
    assert!(error.to_string().contains("has no package `d`"), "{error}");

    plugin.package = Some("b");
    assert!(contains(&home.built_library(&plugin), "calm-mark"));
    plugin.features = vec!["loud".to_owned()];
    assert!(contains(&home.built_library(&plugin), "loud-mark"));
    plugin.features = vec!["quiet".to_owned()];
    let error = home.build(&plugin, Wants::Library).expect_err("no feature");
    assert!(error.to_string().contains("quiet"), "{error}");
}

#[test]
fn the_entrypoint_may_lie_deeper_than_the_plugin() {
    let home = Home::new();
    let mut plugin = home.plugin(
        "deep",
        &[
            ("rust/Cargo.toml", &manifest("deep", CDYLIB)),
            ("rust/src/lib.rs", &library("deep-mark")),
        ],
    );
    let error = home
        .build(&plugin, Wants::Library)
        .expect_err("no manifest");
    assert!(error.to_string().contains("deep/Cargo.toml"), "{error}");
    plugin.entrypoint = plugin.root.join("rust");
    assert!(contains(&home.built_library(&plugin), "deep-mark"));
}

#[test]
fn a_compile_error_appears_as_rustc_prints_it() {
    let home = Home::new();
    let plugin = home.plugin(
        "broken",
        &[
            ("Cargo.toml", &manifest("broken", CDYLIB)),
            ("src/lib.rs", "pub fn f() -> u32 { \"text\" }\n"),
        ],
    );
    let mut lines = Vec::new();
    let error = home
        .builder
        .build(&plugin.request(Wants::Library), &mut |event| {
            if let BuildEvent::Line(line) = event {
                lines.push(line);
            }
        })
        .expect_err("it does not compile");
    let BuildError::Failed { output, .. } = &error else {
        panic!("{error}");
    };
    for expected in [
        "error[E0308]: mismatched types",
        " --> src/lib.rs:1:21",
        "1 | pub fn f() -> u32 { \"text\" }",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
        assert!(output.lines().any(|line| line == expected), "{output}");
    }
    assert!(lines.iter().any(|line| line.contains("Compiling broken")));
    assert!(!output.contains("Compiling"), "{output}");
    assert!(
        home.builder
            .fresh(&plugin.request(Wants::Library))
            .is_none()
    );
}

#[test]
fn progress_counts_packages_up_to_all() {
    let home = Home::new();
    let plugin = home.plugin(
        "counted",
        &[
            (
                "Cargo.toml",
                &manifest(
                    "counted",
                    "[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\npart = { path = \"part\" }",
                ),
            ),
            ("src/lib.rs", &library("marker-01")),
            ("part/Cargo.toml", &manifest("part", "")),
            ("part/src/lib.rs", ""),
        ],
    );
    let mut progress = Vec::new();
    home.builder
        .build(&plugin.request(Wants::Library), &mut |event| {
            if let BuildEvent::Progress { done, total } = event {
                progress.push((done, total));
            }
        })
        .expect("it builds");
    assert_eq!(progress, [(1, 2), (2, 2)]);
}

#[test]
fn a_plugin_inside_a_foreign_workspace_gets_the_line_to_add() {
    let home = Home::new();
    let plugin = home.plugin(
        "lost",
        &[
            ("Cargo.toml", &manifest("lost", CDYLIB)),
            ("src/lib.rs", &library("marker-01")),
        ],
    );
    let workspace = home.path().join("Cargo.toml");
    fs::create_dir_all(home.path().join("own/src")).expect("a folder");
    fs::write(home.path().join("own/Cargo.toml"), manifest("own", "")).expect("a file");
    fs::write(home.path().join("own/src/lib.rs"), "").expect("a file");
    let sections = "[workspace]\nmembers = [\"own\"]\nresolver = \"3\"\n";
    fs::write(&workspace, sections).expect("a file");
    let error = home.build(&plugin, Wants::Library).expect_err("foreign");
    let text = error.to_string();
    let (_, line) = text.split_once("add `").expect("a hint");
    let (line, rest) = line.split_once("` to `[workspace]`").expect("a place");
    assert_eq!((line, rest), ("exclude = [\"ext\"]", " there"));
    assert!(text.contains(workspace.to_str().expect("text")), "{text}");
    // What it says helps.
    fs::write(&workspace, format!("{sections}{line}\n")).expect("a file");
    assert!(contains(&home.built_library(&plugin), "marker-01"));
}
