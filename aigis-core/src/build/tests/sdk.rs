//! The crates that come with the program, and the lock file.

use super::*;
use crate::build::lockfile::{is_alone, seed, unused_patches};

const USES_API: &str =
    "[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\naigis-plugin-api = \"0.1\"";
const USER: &str = "#[unsafe(no_mangle)]\npub static MARK: [u8; 9] = aigis_plugin_api::MARK;\n";

fn user(home: &Home, name: &str) -> Plugin {
    home.plugin(
        name,
        &[
            ("Cargo.toml", &manifest(name, USES_API)),
            ("src/lib.rs", USER),
        ],
    )
}

fn lines_of_build(home: &Home, plugin: &Plugin) -> Vec<String> {
    let mut lines = Vec::new();
    home.builder
        .build(&plugin.request(Wants::Library), &mut |event| {
            if let BuildEvent::Line(line) = event {
                lines.push(line);
            }
        })
        .expect("it builds");
    lines
}

#[test]
fn the_api_comes_from_the_program_and_is_compiled_once() {
    let home = Home::new();
    let (first, second) = (user(&home, "first"), user(&home, "second"));
    let compiles = |lines: &[String]| {
        let compiled = |line: &&String| line.contains("Compiling aigis-plugin-api");
        lines.iter().filter(compiled).count()
    };
    assert_eq!(compiles(&lines_of_build(&home, &first)), 1);
    assert_eq!(compiles(&lines_of_build(&home, &second)), 0);
    let artifacts = home.build(&first, Wants::Library).expect("it is kept");
    let library = fs::read(artifacts.library.expect("a library")).expect("it is there");
    assert!(contains(&library, "sdk-mark!"));
}

#[test]
fn crates_that_a_plugin_has_no_use_for_are_not_mentioned() {
    let home = Home::new();
    let plugin = home.plugin(
        "partly",
        &[
            (
                "Cargo.toml",
                &manifest(
                    "partly",
                    "[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\naigis-macros = \"0.1\"",
                ),
            ),
            (
                "src/lib.rs",
                "#[unsafe(no_mangle)]\npub static MARK: [u8; 9] = aigis_macros::MARK;\n",
            ),
        ],
    );
    let lines = lines_of_build(&home, &plugin);
    assert!(
        !lines.iter().any(|line| line.contains("not used")),
        "{lines:#?}"
    );
    let lock = fs::read_to_string(plugin.root.join("Cargo.lock")).expect("it is there");
    assert!(
        lock.contains("aigis-macros") && !lock.contains("aigis-plugin-api"),
        "{lock}"
    );
}

#[test]
fn damaged_sources_of_the_api_are_written_again() {
    let home = Home::new();
    home.built_library(&user(&home, "first"));
    let folder = fs::read_dir(home.path().join("build/sdk"))
        .expect("it is there")
        .next()
        .expect("one")
        .expect("it can be read")
        .path();
    let nested = folder.join("aigis-plugin-api/src/nested.rs");
    fs::write(&nested, "this is not Rust").expect("it is there");
    let plugin = user(&home, "second");
    let request = plugin.request(Wants::Library);
    home.restarted()
        .build(&request, &mut |_| {})
        .expect("it builds");
    assert_eq!(fs::read(nested).expect("it is there"), b"");
    assert_eq!(
        fs::read_dir(home.path().join("build/sdk"))
            .expect("it is")
            .count(),
        1
    );
}

#[test]
fn our_crates_win_over_the_plugins_own_patch_but_not_over_its_path() {
    let home = Home::new();
    let own_api = [
        ("own/Cargo.toml", manifest("aigis-plugin-api", "")),
        (
            "own/src/lib.rs",
            "pub const MARK: [u8; 9] = *b\"own-mark!\";\n".to_owned(),
        ),
    ];
    let write_own = |plugin: &Plugin| {
        for (path, text) in &own_api {
            plugin.write(path, text);
        }
    };
    let patched = format!("{USES_API}\n[patch.crates-io]\naigis-plugin-api = {{ path = \"own\" }}");
    let plugin = user(&home, "patched");
    write_own(&plugin);
    plugin.write("Cargo.toml", &manifest("patched", &patched));
    assert!(contains(&home.built_library(&plugin), "sdk-mark!"));

    let plugin = user(&home, "pathed");
    write_own(&plugin);
    let pathed = USES_API.replace("\"0.1\"", "{ path = \"own\" }");
    plugin.write("Cargo.toml", &manifest("pathed", &pathed));
    let lines = lines_of_build(&home, &plugin);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("instead of the crate of that name")),
        "{lines:#?}"
    );
}

#[test]
fn a_version_we_do_not_carry_is_explained() {
    let home = Home::new();
    let plugin = user(&home, "newer");
    for dependency in ["\"0.9\"", "{ path = \"../../somewhere/api\" }"] {
        let rest = USES_API.replace("\"0.1\"", dependency);
        plugin.write("Cargo.toml", &manifest("newer", &rest));
        let error = home.build(&plugin, Wants::Library).expect_err("not there");
        assert!(matches!(error, BuildError::Resolve { .. }), "{error}");
        let expected = "hint: `aigis-plugin-api` 0.1.0 comes with aigis; \
                        depend on it as `aigis-plugin-api = \"0.1.0\"`";
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!plugin.root.join("Cargo.lock").exists());
    }
}

#[test]
fn an_authors_lock_file_is_left_as_it_was() {
    let home = Home::new();
    let plugin = user(&home, "locked");
    let lock =
        "# by its author\nversion = 4\n\n[[package]]\nname = \"locked\"\nversion = \"0.0.9\"\n";
    plugin.write_old("Cargo.lock", lock);
    let time = || {
        let meta = fs::metadata(plugin.root.join("Cargo.lock")).expect("it is there");
        meta.modified().expect("a time")
    };
    let before = time();
    home.built_library(&plugin);
    let found = fs::read_to_string(plugin.root.join("Cargo.lock")).expect("it is there");
    assert_eq!((found.as_str(), time()), (lock, before));
    let request = plugin.request(Wants::Library);
    assert!(home.restarted().fresh(&request).is_some());
}

const OURS: &str = "\
# This file is automatically @generated by Cargo.
version = 4

[[package]]
name = \"aigis-core\"
version = \"0.1.0\"
dependencies = [
 \"aigis-plugin-api\",
 \"left-pad\",
]

[[package]]
name = \"aigis-macros\"
version = \"0.1.0\"

[[package]]
name = \"aigis-plugin-api\"
version = \"0.1.0\"
dependencies = [
 \"aigis-core\",
 \"aigis-macros\",
]

[[package]]
name = \"left-pad\"
version = \"1.0.0\"
source = \"registry+https://registry.invalid/index\"
checksum = \"2c7b6d8c28d3a4c9cd9a5b2f9e8a9fb0e1b8ea2c8ecf6a6b0ec94d0a6a1d9f4e\"

[[patch.unused]]
name = \"spare\"
version = \"0.1.0\"
";

#[test]
fn a_lock_file_begins_with_what_a_plugin_can_share() {
    let names = ["aigis-plugin-api", "aigis-macros"];
    let text = seed(OURS, names.into_iter());
    assert!(text.starts_with("# This file"));
    for kept in ["left-pad", "checksum", "name = \"aigis-macros\""] {
        assert!(text.contains(kept), "{text}");
    }
    for dropped in ["name = \"aigis-core\"", "spare"] {
        assert!(!text.contains(dropped), "{text}");
    }
    assert_eq!(unused_patches(OURS), ["spare"]);
    assert_eq!(unused_patches(&text), Vec::<&str>::new());
}

#[test]
fn a_lock_file_tells_whether_a_package_is_alone() {
    let ours = ["aigis-plugin-api", "aigis-macros"];
    let with = |sections: &str| {
        let (text, _) = OURS.split_once("[[patch").expect("is there");
        is_alone(&format!("{text}{sections}"), "aigis-core", &ours)
    };
    assert!(with(""));
    assert!(!with("[[package]]\nname = \"part\"\nversion = \"0.1.0\"\n"));
    assert!(!with(
        "[[patch.unused]]\nname = \"spare\"\nversion = \"0.1.0\"\n"
    ));
    let foreign = "[[package]]\nname = \"aigis-macros\"\nversion = \"0.0.9\"\nsource = \"git+x\"\n";
    assert!(!with(foreign));
    assert!(!is_alone(OURS, "aigis-core", &ours[..1]));
}

#[test]
fn cargo_accepts_the_seed_and_prunes_it() {
    let mut home = Home::new();
    home.sdk.lock = Some(OURS);
    home.builder = home.restarted();
    let plugin = user(&home, "seeded");
    home.built_library(&plugin);
    let lock = fs::read_to_string(plugin.root.join("Cargo.lock")).expect("it stays");
    assert!(lock.contains("aigis-plugin-api"), "{lock}");
    assert!(
        !lock.contains("left-pad") && !lock.contains("aigis-core"),
        "{lock}"
    );
}

#[test]
fn a_dependency_out_of_reach_is_named_once_cargo_gave_up() {
    let home = Home::new();
    let mut toolchain = home.toolchain.clone();
    for (name, value) in [
        ("CARGO_NET_OFFLINE", "false"),
        ("CARGO_NET_RETRY", "0"),
        // Nobody listens there.
        ("CARGO_HTTP_PROXY", "http://127.0.0.1:1"),
    ] {
        set(&mut toolchain, name, OsStr::new(value));
    }
    let builder = Builder::new(folders(&home.path()), home.sdk.clone(), toolchain);
    let plugin = home.plugin(
        "far",
        &[
            (
                "Cargo.toml",
                &manifest("far", &format!("{USES_API}\nleft-pad = \"1\"")),
            ),
            ("src/lib.rs", USER),
        ],
    );
    let mut lines = Vec::new();
    let error = builder
        .build(&plugin.request(Wants::Library), &mut |event| {
            lines.push(event);
        })
        .expect_err("there is no network");
    let text = error.to_string();
    assert!(matches!(error, BuildError::Resolve { .. }), "{text}");
    assert!(text.contains("Could not connect"), "{text}");
    assert!(
        !text.contains("hint") && !text.contains("offline"),
        "{text}"
    );
    let online = |event: &BuildEvent| matches!(event, BuildEvent::Line(line) if line.starts_with("    Updating "));
    assert!(lines.iter().any(online), "{lines:?}");
    assert!(!plugin.root.join("Cargo.lock").exists());
}
