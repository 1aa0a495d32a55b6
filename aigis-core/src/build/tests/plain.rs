//! Packages that are built without asking cargo about them first.

use super::*;

const USES_API: &str =
    "[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\naigis-plugin-api = \"0.1\"";

/// The source of a library that contains `mark` and what the API contains.
fn source(mark: &str) -> String {
    format!(
        "#[unsafe(no_mangle)]\npub static API: [u8; 9] = aigis_plugin_api::MARK;\n{}",
        library(mark)
    )
}

fn plain(home: &Home, name: &str, mark: &str) -> Plugin {
    let plugin = home.plugin(name, &[("Cargo.toml", &manifest(name, USES_API))]);
    plugin.write_old("src/lib.rs", &source(mark));
    plugin
}

/// Builds, and returns the events and how often cargo was called.
fn watched(
    home: &Home,
    plugin: &Plugin,
) -> (Result<Artifacts, BuildError>, Vec<BuildEvent>, usize) {
    let before = home.calls("cargo");
    let mut events = Vec::new();
    let request = plugin.request(Wants::Library);
    let result = home
        .builder
        .build(&request, &mut |event| events.push(event));
    (result, events, home.calls("cargo") - before)
}

fn progress(events: &[BuildEvent]) -> Vec<(usize, usize)> {
    let counted = events.iter().filter_map(|event| match event {
        BuildEvent::Progress { done, total } => Some((*done, *total)),
        BuildEvent::Line(_) => None,
    });
    counted.collect()
}

fn lines_with(events: &[BuildEvent], text: &str) -> usize {
    let lines = events.iter().filter(|event| match event {
        BuildEvent::Line(line) => line.contains(text),
        BuildEvent::Progress { .. } => false,
    });
    lines.count()
}

fn content(result: Result<Artifacts, BuildError>) -> Vec<u8> {
    let library = result.expect("it builds").library.expect("a library");
    fs::read(library).expect("it is there")
}

#[test]
fn cargo_is_called_once_where_only_the_plugin_is_compiled() {
    let home = Home::new();
    let (first, second) = (
        plain(&home, "first", "marker-01"),
        plain(&home, "second", "marker-02"),
    );
    let (result, events, calls) = watched(&home, &first);
    assert!(contains(&content(result), "marker-01"));
    // While dependencies are compiled, it is counted how many there are.
    assert_eq!(
        (progress(&events), calls),
        (vec![(1, 3), (2, 3), (3, 3), (3, 3)], 2)
    );

    let (result, events, calls) = watched(&home, &second);
    assert!(contains(&content(result), "marker-02"));
    assert_eq!((progress(&events), calls), (vec![(3, 3)], 1));
    assert_eq!(lines_with(&events, "Compiling second"), 1, "{events:?}");
    assert_eq!(lines_with(&events, "Adding"), 0, "{events:?}");
    let lock = fs::read_to_string(second.root.join("Cargo.lock")).expect("it stays");
    assert!(lock.contains("aigis-plugin-api"), "{lock}");
    let request = second.request(Wants::Library);
    assert!(home.restarted().fresh(&request).is_some());

    second.write("src/lib.rs", &source("marker-2b"));
    let (result, _, calls) = watched(&home, &second);
    assert!(contains(&content(result), "marker-2b"));
    assert_eq!(calls, 1);
}

#[test]
fn what_cargo_takes_for_compiled_is_compiled_again() {
    let home = Home::new();
    let plugin = plain(&home, "old", "marker-01");
    assert!(contains(&home.built_library(&plugin), "marker-01"));
    let warns = format!("fn unused() {{}}\n{}", source("marker-02"));
    plugin.write_old("src/lib.rs", &warns);
    let (result, events, calls) = watched(&home, &plugin);
    assert!(contains(&content(result), "marker-02"));
    assert!(calls > 1, "cargo saw that it was changed");
    assert_eq!(lines_with(&events, "function `unused` is never used"), 1);

    // As if it were another plugin's: of the same name and version, and as old.
    let other = plain(&home, "other", "marker-03");
    other.write_old("Cargo.toml", &manifest("old", USES_API));
    let (result, events, calls) = watched(&home, &other);
    assert!(calls > 1, "cargo saw that it was another one");
    assert!(contains(&content(result), "marker-03"));
    assert_eq!(lines_with(&events, "is never used"), 0, "{events:?}");
    assert!(contains(
        &content(home.build(&plugin, Wants::Library)),
        "marker-02"
    ));
}

#[test]
fn a_compile_error_is_told_at_once() {
    let home = Home::new();
    home.built_library(&plain(&home, "good", "marker-01"));
    let plugin = plain(&home, "broken", "marker-02");
    plugin.write("src/lib.rs", "pub fn f() -> u32 { \"text\" }\n");
    let (result, events, calls) = watched(&home, &plugin);
    let error = result.expect_err("it does not compile");
    assert!(matches!(error, BuildError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("mismatched types"), "{error}");
    assert_eq!(lines_with(&events, "mismatched types"), 1, "{events:?}");
    assert_eq!(calls, 1);
    assert!(!plugin.root.join("Cargo.lock").exists());
}

#[test]
fn code_that_only_cargo_knows_of_counts() {
    let home = Home::new();
    let part = home.path().join("part");
    fs::create_dir_all(part.join("src")).expect("a folder");
    fs::write(part.join("Cargo.toml"), manifest("part", "")).expect("a file");
    let write = |mark: &str| {
        let text = format!("pub const MARK: [u8; 9] = *b\"{mark}\";\n");
        fs::write(part.join("src/lib.rs"), text).expect("a file");
    };
    write("part-mk-1");
    let plugin = plain(&home, "patched", "marker-01");
    let rest = format!("{USES_API}\npart = \"0.1\"");
    plugin.write("Cargo.toml", &manifest("patched", &rest));
    let source = format!(
        "{}#[unsafe(no_mangle)]\npub static PART: [u8; 9] = part::MARK;\n",
        source("marker-01")
    );
    plugin.write("src/lib.rs", &source);
    let patch = format!(
        "[patch.crates-io]\npart = {{ path = '{}' }}\n",
        part.display()
    );
    plugin.write(".cargo/config.toml", &patch);
    assert!(contains(&home.built_library(&plugin), "part-mk-1"));
    let request = plugin.request(Wants::Library);
    assert!(home.restarted().fresh(&request).is_some());
    write("part-mk-2");
    assert!(home.restarted().fresh(&request).is_none());
    assert!(contains(&home.built_library(&plugin), "part-mk-2"));
}

#[test]
fn a_compiler_that_changes_meanwhile_is_noticed() {
    let mut home = Home::new();
    // Cargo uses its own: all that counts is what this one says.
    let says = home.path().join("says");
    fs::write(&says, "rustc 1\nhost: \n").expect("a file");
    let told = recording(
        &home.path().join("teller"),
        &format!("cat '{}' #", says.display()),
    );
    home.toolchain.rustc = told;
    home.builder = home.restarted();
    let (first, second) = (
        plain(&home, "first", "marker-01"),
        plain(&home, "second", "marker-02"),
    );
    home.built_library(&first);
    fs::write(&says, "rustc 2\nhost: \n").expect("a file");
    home.built_library(&second);
    // It is not known which of the two it was built with.
    let request = second.request(Wants::Library);
    assert!(home.builder.fresh(&request).is_none());
    home.built_library(&second);
    assert!(home.builder.fresh(&request).is_some());
}
