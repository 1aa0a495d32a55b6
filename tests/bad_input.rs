//! What bad input gets: one clear error each, and the others run.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use aigis_core::{Host, PluginStatus, State};

use crate::support::core::Core;
use crate::support::git_server::Repo;
use crate::support::home::TestHome;
use crate::support::{plugins, reaches};

fn status_of(host: &Host, name: &str) -> PluginStatus {
    let status = host.status();
    let found = status.iter().find(|plugin| plugin.name == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {status:#?}"))
        .clone()
}

/// Checks that a plugin has failed with one error, that it has all of `parts`, and that both logs
/// say it with the plugin's name.
fn assert_failed(home: &TestHome, status: &PluginStatus, parts: &[&str]) {
    let name = &status.name;
    assert_eq!(status.state, State::Failed, "{status:#?}");
    let error = status.error.as_deref().unwrap_or_default();
    for part in parts {
        assert!(error.contains(part), "{name}: no {part:?} in {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
    let report = format!("Could not load plugin {name}!");
    for log in [home.core_log(), home.plugin_log(name)] {
        assert_eq!(log.matches(&report).count(), 1, "{name}:\n{log}");
    }
}

/// Checks that every plugin's folder is whole or absent, and that nothing unfinished lies about.
fn assert_nothing_half_written(home: &TestHome, fetched: &[&str]) {
    let names = |folder: &str| {
        let entries = fs::read_dir(home.path().join(folder))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let mut expected = fetched.to_vec();
    expected.sort_unstable();
    assert_eq!(names("ext"), expected);
    for folder in [
        "run",
        "run/artifacts",
        "run/stamps",
        "run/settings",
        "data",
        "secrets",
    ] {
        let found = names(folder);
        let unfinished = |name: &String| name.starts_with(".new-") || name.starts_with(".tmp");
        assert!(!found.iter().any(unfinished), "{folder}: {found:?}");
    }
}

/// Runs `build-and-run` with a config that must be refused, and checks that nothing was started.
fn refused(home: &TestHome) -> String {
    let begun = Instant::now();
    let ran = home.aigis(&["build-and-run"]).exited(2);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "a refusal takes no time"
    );
    assert!(!home.path().join("ext").exists(), "nothing was started");
    assert!(!home.path().join("run").exists(), "nothing was started");
    assert_eq!(ran.stdout, "");
    ran.stderr
}

#[test]
fn a_config_that_is_no_text_is_refused() {
    let home = TestHome::new();
    home.write(
        "config/config.aigis",
        b"[core]\ngood = \"x\"\nbad = \"\xff\xfe\"\n",
    );
    let error = refused(&home);
    assert!(
        error.contains("UTF-8") && error.contains("config.aigis:3:"),
        "{error}"
    );
    home.write("config/config.aigis", b"\x7fELF\x02\x01\x01\x00\x00");
    refused(&home);
}

#[test]
fn a_config_of_100_megabytes_is_refused() {
    let home = TestHome::new();
    home.write("config/config.aigis", "");
    let path = home.path().join("config/config.aigis");
    let mut file = File::create(&path).expect("ours");
    file.set_len(100 << 20).expect("there is room for a hole");
    assert!(refused(&home).contains("config.aigis"));
    // Also one that would be right.
    file.seek(SeekFrom::Start(0)).expect("a file");
    let line = [b"#".repeat(1023), b"\n".to_vec()].concat().repeat(1024);
    for _ in 0..100 {
        file.write_all(&line).expect("there is room");
    }
    let error = refused(&home);
    assert!(error.contains("MiB") || error.contains("bytes"), "{error}");
    assert!(error.len() < 1000, "{error}");
}

#[test]
fn a_config_that_is_a_folder_is_refused() {
    let home = TestHome::new();
    fs::create_dir(home.path().join("config/config.aigis")).expect("ours");
    assert!(refused(&home).contains("config.aigis"));
}

#[test]
fn every_mistake_of_a_config_is_shown_at_once_with_its_place() {
    let home = TestHome::new();
    home.config(
        "[core]\n\
         \"../x\" = \"here\"\n\
         twice = \"here\"\n\
         empty = \"\"\n\
         number = 7\n\
         [external]\n\
         twice = \"there\"\n\
         settings = { source = \"here\", settings = 3, restart = \"often\", bogus = 1 }\n\
         [other]\n\
         name = \"x\"\n",
    );
    let error = refused(&home);
    for part in [
        "`../x`",
        "config.aigis:2:1",
        "twice",
        "config.aigis:7:1",
        "config.aigis:4:9",
        "config.aigis:5:10",
        "`settings` must be a table",
        "`restart` must be an integer",
        "`bogus`",
        "`other`",
        "hint: ",
        "^^^^",
    ] {
        assert!(error.contains(part), "no {part:?} in:\n{error}");
    }
    assert!(error.matches("error: ").count() >= 8, "{error}");
}

/// Every option with a value of a type that it cannot have.
const WRONG_TYPES: &str = "PLUGIN_TYPE = \"external\"\nENTRYPOINT = 1\nSYSTEM_REQUIREMENTS = \"sh\"\n\
    REQUIREMENTS_COMMAND = []\nREQUIREMENTS_FILE = 2.5\nSECRETS = \"key\"\nRESTART = \"3\"\n\
    HOST = true\nLAUNCH = \"./run.sh\"\nPACKAGE = {}\nFEATURES = 1\n";

#[test]
fn ten_plugins_of_which_most_are_broken_do_not_disturb_each_other() {
    let home = TestHome::new();
    let source = |name: &str| home.source(name);
    for good in ["good1", "good2", "good3", "good4", "good5"] {
        plugins::external(&home, good, "", "exec sleep 600");
    }
    plugins::external(&home, "wrong_types", "", "exec sleep 600");
    fs::write(
        source("wrong_types").join("AIGIS/AIGIS.config"),
        WRONG_TYPES,
    )
    .expect("ours");
    plugins::external(&home, "not_executable", "", "exec sleep 600");
    let no_mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(source("not_executable").join("run.sh"), no_mode).expect("ours");
    plugins::external(&home, "no_program", "", "exec sleep 600");
    fs::remove_file(source("no_program").join("run.sh")).expect("ours");
    plugins::external(&home, "no_format", "", "exec sleep 600");
    let noise: Vec<u8> = (0..=255).rev().collect();
    fs::write(source("no_format").join("run.sh"), noise).expect("ours");
    let leaving = "SECRETS = { key = \"{root}/../../secrets\" }";
    plugins::external(&home, "leaving", leaving, "exec sleep 600");
    let linked =
        "REQUIREMENTS_COMMAND = \"ln -s ../.. way\"\nSECRETS = { key = \"{root}/way/out\" }";
    plugins::external(&home, "linked", linked, "exec sleep 600");
    for name in ["leaving", "linked"] {
        home.write(&format!("secrets/{name}/key"), "hush-hush");
    }
    plugins::write(
        &home,
        "no_manifest",
        &[("run.sh", "#!/bin/sh\nexec sleep 600\n")],
    );
    plugins::external(&home, "no_entrypoint", "", "exec sleep 600");
    let manifest = source("no_entrypoint").join("AIGIS/AIGIS.config");
    let text = fs::read_to_string(&manifest).expect("was written");
    fs::write(
        &manifest,
        text.replace("\"{root}\"", "\"{root}/not/there\""),
    )
    .expect("ours");
    plugins::external(&home, "other_kind", "", "exec sleep 600");
    plugins::external(&home, "remote", "HOST = \"far.example\"", "exec sleep 600");
    let dangling = plugins::external(&home, "dangling", "", "exec sleep 600");
    std::os::unix::fs::symlink("/not/there", dangling.join("link")).expect("a link");
    let empty = Repo::init(source("empty"), "master");
    let no_branch = Repo::init(source("no_branch"), "master");
    no_branch.commit("file", "");
    let (empty, no_branch) = (empty.file_url(), no_branch.file_url());
    let config = format!(
        r#"
        [internal]
        other_kind = "{{sources}}/other_kind"
        [external]
        good1 = "{{sources}}/good1"
        wrong_types = "{{sources}}/wrong_types"
        not_executable = "{{sources}}/not_executable"
        good2 = "{{sources}}/good2"
        no_program = "{{sources}}/no_program"
        no_format = "{{sources}}/no_format"
        leaving = "{{sources}}/leaving"
        linked = "{{sources}}/linked"
        good3 = "{{sources}}/good3"
        no_manifest = "{{sources}}/no_manifest"
        no_entrypoint = "{{sources}}/no_entrypoint"
        remote = "{{sources}}/remote"
        good4 = "{{sources}}/good4"
        dangling = "{{sources}}/dangling"
        empty = "{empty}"
        no_branch = {{ source = "{no_branch}", branch = "nope" }}
        no_source = "{{sources}}/nowhere"
        no_server = "http://127.0.0.1:1/repo"
        no_folder = "{{sources}}/good1/run.sh"
        good5 = "{{sources}}/good5"
        "#
    );
    home.config(&config);
    let host = home.host();
    let expected: &[(&str, &[&str])] = &[
        (
            "wrong_types",
            &[
                "ENTRYPOINT",
                "SYSTEM_REQUIREMENTS",
                "REQUIREMENTS_COMMAND",
                "REQUIREMENTS_FILE",
                "SECRETS",
                "RESTART",
                "HOST",
                "LAUNCH",
                "PACKAGE",
                "FEATURES",
                "AIGIS.config:2:14",
            ],
        ),
        (
            "not_executable",
            &["./run.sh", "is not an executable file", "chmod +x"],
        ),
        ("no_program", &["./run.sh", "not found"]),
        ("leaving", &["must be inside the plugin's own folder"]),
        ("linked", &["outside the plugin's folder"]),
        ("no_manifest", &["AIGIS/AIGIS.config"]),
        ("no_entrypoint", &["not/there"]),
        ("other_kind", &["internal", "external"]),
        (
            "remote",
            &["far.example", "remote hosts are not supported yet"],
        ),
        ("dangling", &["link", "could not copy"]),
        ("empty", &["is empty"]),
        ("no_branch", &["no branch `nope`", "master"]),
        ("no_source", &["neither a folder", "nowhere"]),
        ("no_server", &["http://127.0.0.1:1/repo"]),
        ("no_folder", &["is not a folder"]),
    ];
    // What is no program at all is left to the shell, as everywhere, and fails there.
    let no_format = reaches(&host, "no_format", State::Failed);
    assert!(
        no_format
            .error
            .is_some_and(|error| error.contains("Process exited"))
    );
    let status = host.status();
    for (name, parts) in expected {
        assert_failed(&home, &status_of(&host, name), parts);
    }
    for plugin in &status {
        let is_good = plugin.name.starts_with("good");
        assert_eq!(plugin.state == State::Ready, is_good, "{plugin:#?}");
    }
    assert_eq!(status.len(), expected.len() + 6);
    // What was fetched is whole, what was not is not there.
    let absent = [
        "dangling",
        "empty",
        "no_branch",
        "no_source",
        "no_server",
        "no_folder",
    ];
    let names = status.iter().map(|plugin| plugin.name.as_str());
    let fetched: Vec<&str> = names.filter(|name| !absent.contains(name)).collect();
    assert_nothing_half_written(&home, &fetched);
    for outside in ["secrets/out", "out", "secrets/key", "ext/key"] {
        assert!(!home.path().join(outside).exists(), "{outside}");
    }
    assert!(!home.path().join("ext/leaving/key").exists());
    for log in [home.core_log(), home.plugin_log("linked")] {
        assert!(!log.contains("hush-hush"), "{log}");
    }
}

/// Writes a core plugin that needs no crate of ours, so that it builds in no time.
fn bare(home: &TestHome, name: &str, more: &[(&str, &str)]) {
    let cargo = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n"
    );
    let files = [
        ("Cargo.toml", cargo.as_str()),
        ("AIGIS/AIGIS.config", plugins::CORE),
        ("src/lib.rs", "pub fn nobody_knows() {}\n"),
    ];
    plugins::write(home, name, &files);
    plugins::write_into(&home.source(name), more);
}

/// A library whose constructor does `what`.
fn constructor(what: &str) -> String {
    format!(
        "#[used]\n#[unsafe(link_section = \".init_array\")]\n\
         static CONSTRUCTOR: extern \"C\" fn() = construct;\n\
         extern \"C\" fn construct() {{ {what} }}\n"
    )
}

#[test]
fn libraries_that_are_none_never_reach_the_core() {
    let home = TestHome::new();
    plugins::core(
        &home,
        "good",
        "#[aigis_plugin_api::skills]\npub mod good { pub const ANSWER: u32 = 42; }\n",
    );
    plugins::core(&home, "skill_less", "pub use aigis_plugin_api::call;\n");
    bare(&home, "undescribed", &[]);
    let impostor = "#[allow(non_upper_case_globals)]\n#[unsafe(no_mangle)]\npub static aigis_plugin_descriptor: [u64; 64] = [7; 64];\n";
    bare(&home, "impostor", &[("src/lib.rs", impostor)]);
    bare(
        &home,
        "aborts",
        &[("src/lib.rs", &constructor("std::process::abort()"))],
    );
    bare(
        &home,
        "exits",
        &[("src/lib.rs", &constructor("std::process::exit(0)"))],
    );
    let crash = "unsafe { std::ptr::null_mut::<u8>().write_volatile(1) }";
    bare(&home, "crashes", &[("src/lib.rs", &constructor(crash))]);
    // A linker of its own, which leaves a file that is no library.
    let linker = "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\n\
                  head -c 20000 /dev/urandom > \"$2\"\n";
    let cargo_config = "[target.'cfg(all())']\nlinker = \"tools/link.sh\"\n";
    let random = [
        ("tools/link.sh", linker),
        (".cargo/config.toml", cargo_config),
    ];
    bare(&home, "random", &random);
    let library = "[package]\nname = \"no_library\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    bare(&home, "no_library", &[("Cargo.toml", library)]);
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"one\", \"two\"]\n";
    bare(&home, "two_libraries", &[("Cargo.toml", members)]);
    for member in ["one", "two"] {
        let cargo = fs::read_to_string(home.source("undescribed").join("Cargo.toml"));
        let cargo = cargo.expect("was written").replace("undescribed", member);
        let folder = home.source("two_libraries").join(member);
        plugins::write_into(&folder, &[("Cargo.toml", &cargo), ("src/lib.rs", "")]);
    }
    bare(
        &home,
        "no_code",
        &[("src/lib.rs", "pub fn half() -> u32 { \"text\" }\n")],
    );
    bare(&home, "no_cargo", &[("Cargo.toml", "[package\n")]);
    let expected: &[(&str, &[&str])] = &[
        ("skill_less", &["exposes nothing", "#[skills]"]),
        ("undescribed", &["exports no", "#[skills]"]),
        ("impostor", &["not a descriptor"]),
        ("aborts", &["SIGABRT"]),
        ("exits", &["exit code 0"]),
        ("crashes", &["SIGSEGV"]),
        ("random", &["no ELF file"]),
        ("no_library", &["no `cdylib`", "crate-type"]),
        ("two_libraries", &["PACKAGE", "one", "two"]),
        ("no_code", &["mismatched types", "src/lib.rs:1:"]),
        ("no_cargo", &["Cargo.toml"]),
    ];
    let mut config = "[core]\n".to_owned();
    for (name, _) in expected {
        config.push_str(&format!("{name} = \"{{sources}}/{name}\"\n"));
    }
    home.config(&format!("{config}good = \"{{sources}}/good\"\n"));
    // In a core of its own: whatever reached it, would end it.
    let core = Core::start(&home);
    let status = home.aigis(&["status", "--json"]).exited(0).stdout;
    let status: Vec<PluginStatus> = serde_json::from_str(&status).expect("is a list");
    for (plugin, (name, parts)) in status.iter().zip(expected) {
        assert_eq!(plugin.name, *name);
        assert_failed(&home, plugin, parts);
    }
    let good = status.last().expect("is the last");
    assert_eq!(
        (good.name.as_str(), good.state),
        ("good", State::Ready),
        "{good:#?}"
    );
    let answer = home.aigis(&["call", "good.ANSWER"]).exited(0);
    assert_eq!(answer.stdout.trim(), "42");
    let fetched: Vec<&str> = status.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_nothing_half_written(&home, &fetched);
    // The compiler's words are in the plugin's log and in the terminal, as it prints them.
    for text in [home.plugin_log("no_code"), core.printed()] {
        assert!(text.contains("error[E0308]: mismatched types"), "{text}");
    }
    core.signal("TERM");
    core.wait().exited(0);
}

#[test]
fn an_artifact_or_stamp_that_was_damaged_is_made_again() {
    let home = TestHome::new();
    plugins::core(
        &home,
        "sound",
        "#[aigis_plugin_api::skills]\npub mod sound { pub const ANSWER: u32 = 42; }\n",
    );
    home.config("[core]\nsound = \"{sources}/sound\"\n");
    let builds = || home.plugin_log("sound").matches("Compiling sound").count();
    let only_file = |folder: &str| {
        let entries = fs::read_dir(home.path().join(folder))
            .expect("is there")
            .flatten();
        let mut visible = entries.map(|entry| entry.path()).filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'))
        });
        let file = visible.next().expect("one file");
        assert_eq!(visible.next(), None);
        file
    };
    let serves = || {
        let host = home.host();
        let answer = host.call::<u32>("sound.ANSWER", ());
        assert_eq!(
            answer.unwrap_or_else(|e| panic!("{e}\n{:#?}", host.status())),
            42
        );
    };
    serves();
    serves();
    assert_eq!(builds(), 1, "what has not changed is not built again");
    let garbage = |path: &Path| {
        let size = fs::metadata(path).expect("is there").len();
        let size = usize::try_from(size).expect("is small");
        fs::write(path, vec![0x5a; size]).expect("ours");
    };
    garbage(&only_file("run/artifacts"));
    serves();
    assert_eq!(builds(), 2);
    garbage(&only_file("run/stamps"));
    serves();
    assert_eq!(builds(), 3);
    fs::remove_dir_all(home.path().join("run")).expect("ours");
    serves();
    assert_eq!(builds(), 4);
}
