//! Where plugins come from: git over HTTP, HTTPS and from a file, and folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use aigis_core::{Host, PluginStatus, State};

use crate::support::core::Core;
use crate::support::git_server::{GitServer, Repo};
use crate::support::home::TestHome;
use crate::support::{eventually, plugins, reaches};

/// An external plugin that prints its version, then waits.
fn versioned(version: u32) -> [(&'static str, String); 2] {
    [
        (
            "AIGIS/AIGIS.config",
            "PLUGIN_TYPE = \"external\"\nENTRYPOINT = \"{root}\"\nLAUNCH = [\"./run.sh\"]\n"
                .to_owned(),
        ),
        (
            "run.sh",
            format!("#!/bin/sh\necho version {version}\nexec sleep 600\n"),
        ),
    ]
}

fn write_version(folder: &Path, version: u32) {
    let files = versioned(version);
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (*path, text.as_str()))
        .collect();
    plugins::write_into(folder, &files);
}

fn only(host: &Host) -> PluginStatus {
    let mut status = host.status();
    assert_eq!(status.len(), 1, "{status:?}");
    status.remove(0)
}

/// The names in `ext`, hidden ones included.
fn fetched(home: &TestHome) -> Vec<String> {
    let entries = fs::read_dir(home.path().join("ext")).expect("is there");
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn warnings(home: &TestHome, plugin: &str) -> Vec<String> {
    let log = home.plugin_log(plugin);
    let warnings = log.lines().filter(|line| line.contains(" : WARNING : "));
    warnings.map(str::to_owned).collect()
}

/// S-02 with a plugin whose skill tells its version.
fn follows_master(repo: &Repo, home: &TestHome) {
    let library = |value: u32| {
        format!(
            "#[aigis_plugin_api::skills]\npub mod version {{ pub const VALUE: u32 = {value}; }}\n"
        )
    };
    let value = || {
        let host = home.host();
        let value = host.call::<u32>("version.VALUE", ());
        value.unwrap_or_else(|error| panic!("{error}\n{:#?}", host.status()))
    };
    let cargo = plugins::cargo_toml("version", "[lib]\ncrate-type = [\"cdylib\"]\n");
    let files = [
        ("Cargo.toml", &*cargo),
        ("AIGIS/AIGIS.config", plugins::CORE),
    ];
    plugins::write_into(repo.path(), &files);
    repo.commit("src/lib.rs", &library(1));
    repo.branch("main");
    repo.commit("src/lib.rs", &library(2));
    assert_eq!(value(), 1);
    repo.checkout("master");
    repo.commit("src/lib.rs", &library(3));
    repo.checkout("main");
    assert_eq!(value(), 3);
    assert_eq!(warnings(home, "plugin"), [""; 0]);
    fs::rename(repo.path(), repo.path().with_extension("gone")).expect("it is ours");
    assert_eq!(value(), 3);
    let warnings = warnings(home, "plugin");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(fetched(home), ["plugin"]);
}

#[test]
fn a_repository_is_followed_over_http() {
    let home = TestHome::new();
    let repo = Repo::init(home.source("repo"), "master");
    let server = GitServer::http(home.source(""));
    home.config(&format!("[core]\nplugin = \"{}\"\n", server.url("repo")));
    follows_master(&repo, &home);
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.contains("git-upload-pack"))
    );
}

#[test]
fn a_repository_is_followed_in_a_folder() {
    let home = TestHome::new();
    let repo = Repo::init(home.source("repo"), "master");
    home.config(&format!("[core]\nplugin = \"{}\"\n", repo.file_url()));
    follows_master(&repo, &home);
}

#[test]
fn https_needs_a_certificate_that_is_trusted() {
    let home = TestHome::new();
    let repo = Repo::init(home.source("repo"), "trunk");
    write_version(repo.path(), 1);
    repo.commit_all("version 1");
    let server = GitServer::https(home.source(""));
    home.config(&format!(
        "[external]\nplugin = \"{}\"\n",
        server.url("repo")
    ));
    let ran = home.aigis(&["build-and-run", "--detach"]).exited(3);
    assert!(ran.stdout.contains("is not trusted"), "{ran:?}");
    home.aigis(&["shutdown"]).exited(0);
    assert_eq!(fetched(&home), [""; 0]);
    let ran = home
        .command(&["build-and-run", "--detach"])
        .env("SSL_CERT_FILE", server.ca_file())
        .status()
        .expect("aigis runs");
    home.wait_for_log("plugin", "version 1");
    home.aigis(&["shutdown"]).exited(0);
    assert_eq!(ran.code(), Some(0));
    // It has no `master`: its own default is used, and the log says so.
    let log = home.plugin_log("plugin");
    assert!(
        log.contains("has no branch `master`") && log.contains("trunk"),
        "{log}"
    );
}

#[test]
fn a_clone_that_was_killed_does_not_count() {
    let home = TestHome::new();
    let repo = Repo::init(home.source("repo"), "master");
    write_version(repo.path(), 1);
    // Enough that it takes more than one piece, and nothing that can be compressed away.
    let mut number = 1_u32;
    let noise: String = std::iter::repeat_with(|| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (number >> 16) as u8 % 90)
    })
    .take(400_000)
    .collect();
    repo.commit("noise", &noise);
    let server = GitServer::http(home.source(""));
    home.config(&format!(
        "[external]\nplugin = \"{}\"\n",
        server.url("repo")
    ));
    server.stall_after(100_000);
    let core = Core::begin(&home);
    // The list of references, then the objects.
    server.wait_for_requests(2);
    let partial = eventually("a part of the objects", || {
        let name = fetched(&home).pop()?;
        let pack = home
            .path()
            .join("ext")
            .join(&name)
            .join(".git/objects/pack");
        let sizes = fs::read_dir(pack).ok()?.flatten();
        let sizes = sizes.filter_map(|entry| entry.metadata().ok());
        sizes
            .map(|file| file.len())
            .find(|size| *size > 0)
            .map(|_| name)
    });
    assert_ne!(partial, "plugin", "what is half made has another name");
    core.signal("KILL");
    core.wait();
    assert_eq!(fetched(&home), [partial], "the clone was killed on its way");
    server.serve();
    let host = home.host();
    assert_eq!(only(&host).state, State::Ready, "{:?}", host.status());
    home.wait_for_log("plugin", "version 1");
    assert_eq!(fetched(&home), ["plugin"]);
    assert_eq!(
        fs::read_to_string(home.path().join("ext/plugin/noise"))
            .expect("is there")
            .len(),
        noise.len()
    );
}

#[test]
fn a_clone_that_fails_leaves_nothing_and_can_be_tried_again() {
    let home = TestHome::new();
    let repo = Repo::init(home.source("repo"), "master");
    write_version(repo.path(), 1);
    repo.commit_all("version 1");
    let server = GitServer::http(home.source(""));
    home.config(&format!(
        "[external]\nplugin = \"{}\"\n",
        server.url("repo")
    ));
    server.fail_with(500);
    let host = home.host();
    assert_eq!(only(&host).state, State::Failed);
    let error = only(&host).error.expect("says why");
    assert!(
        error.contains(&server.url("repo")) && error.contains("500"),
        "{error}"
    );
    assert_eq!(fetched(&home), [""; 0]);
    server.cut_after(60);
    host.start_plugin("plugin")
        .expect_err("the server cuts the connection");
    assert_eq!(fetched(&home), [""; 0]);
    server.require_auth();
    let error = host
        .start_plugin("plugin")
        .expect_err("the server wants a password");
    assert!(error.to_string().contains("credentials"), "{error}");
    server.serve();
    host.start_plugin("plugin").expect("the server serves");
    assert_eq!(reaches(&host, "plugin", State::Ready).error, None);
    home.wait_for_log("plugin", "version 1");
    assert_eq!(fetched(&home), ["plugin"]);
}

#[test]
fn a_shutdown_does_not_wait_for_a_server_that_hangs() {
    let home = TestHome::new();
    let repo = Repo::init(home.source("repo"), "master");
    write_version(repo.path(), 1);
    repo.commit_all("version 1");
    let server = GitServer::http(home.source(""));
    server.hang();
    plugins::external(&home, "other", "", "exec sleep 600");
    home.config(&format!(
        "[external]\nslow = \"{}\"\nother = \"{{sources}}/other\"\n",
        server.url("repo")
    ));
    let core = Core::begin(&home);
    server.wait_for_requests(1);
    core.signal("TERM");
    core.wait().exited(0);
    assert!(!home.path().join("ext/slow").exists());
}

#[test]
fn a_folder_is_copied_as_it_is_and_kept() {
    let home = TestHome::new();
    let source = home.source("plugin");
    write_version(&source, 1);
    let outside = home.source("outside");
    plugins::write_into(&outside, &[("deep/file", "linked")]);
    plugins::write_into(&source, &[("private", "p"), (".hidden/file", "h")]);
    let mode = |path: &Path| {
        let metadata = fs::symlink_metadata(path).expect("is there");
        metadata.permissions().mode() & 0o7777
    };
    fs::set_permissions(source.join("private"), fs::Permissions::from_mode(0o600)).expect("ours");
    fs::set_permissions(source.join(".hidden"), fs::Permissions::from_mode(0o751)).expect("ours");
    symlink(outside.join("deep/file"), source.join("file_link")).expect("a link");
    symlink(&outside, source.join("folder_link")).expect("a link");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for path in ["run.sh", "private", ".hidden/file", ".hidden"] {
        let file = fs::File::open(source.join(path)).expect("is there");
        file.set_modified(long_ago).expect("its time can be set");
    }
    home.config("[external]\nplugin = \"{sources}/plugin\"\n");
    let kept = || {
        let all = warnings(&home, "plugin");
        all.iter()
            .filter(|line| line.contains("it will not get updated"))
            .count()
    };

    let host = home.host();
    home.wait_for_log("plugin", "version 1");
    host.shutdown();
    drop(host);
    let copy = home.path().join("ext/plugin");
    for path in ["run.sh", "private", ".hidden/file", ".hidden"] {
        let (original, copied) = (source.join(path), copy.join(path));
        assert_eq!(mode(&copied), mode(&original), "{path}");
        let modified = fs::metadata(&copied).and_then(|metadata| metadata.modified());
        assert_eq!(modified.expect("has a time"), long_ago, "{path}");
    }
    for path in ["file_link", "folder_link", "folder_link/deep/file"] {
        let kind = fs::symlink_metadata(copy.join(path))
            .expect("was copied")
            .file_type();
        assert!(!kind.is_symlink(), "{path}");
        assert_eq!(kind.is_dir(), path == "folder_link");
    }
    let linked = fs::read_to_string(copy.join("folder_link/deep/file"));
    assert_eq!(linked.expect("was copied"), "linked");
    assert_eq!(kept(), 0);

    write_version(&source, 2);
    drop(home.host());
    assert!(!home.plugin_log("plugin").contains("version 2"));
    assert_eq!(kept(), 1, "{}", home.plugin_log("plugin"));

    // The source may go: the copy runs.
    fs::rename(&source, home.source("moved")).expect("ours");
    let host = home.host();
    assert_eq!(only(&host).state, State::Ready);
    drop(host);
    fs::rename(home.source("moved"), &source).expect("ours");

    fs::remove_dir_all(&copy).expect("ours");
    let host = home.host();
    home.wait_for_log("plugin", "version 2");
    assert_eq!(only(&host).state, State::Ready);
    assert_eq!(kept(), 2);
}

#[test]
fn a_fresh_reload_copies_anew_and_only_as_a_whole() {
    let home = TestHome::new();
    let source = home.source("plugin");
    write_version(&source, 1);
    plugins::write_into(&source, &[("old", "")]);
    home.config("[external]\nplugin = \"{sources}/plugin\"\n");
    let core = Core::start(&home);
    home.wait_for_log("plugin", "version 1");
    let ready = || {
        let status = home.aigis(&["status", "--json"]).exited(0).stdout;
        let status: Vec<PluginStatus> = serde_json::from_str(&status).expect("is a list");
        // Just after a reload it may still be on its way.
        (status[0].state == State::Ready).then(|| status[0].pid.expect("runs"))
    };
    let pid = || eventually("the plugin to be ready", ready);
    let first = pid();

    // What cannot be copied changes nothing.
    symlink("/does/not/exist", source.join("dangling")).expect("a link");
    let ran = home.aigis(&["reload", "--fresh", "plugin"]).exited(3);
    assert!(ran.stderr.contains("dangling"), "{}", ran.stderr);
    fs::remove_file(source.join("dangling")).expect("ours");
    fs::rename(&source, home.source("moved")).expect("ours");
    home.aigis(&["reload", "--fresh", "plugin"]).exited(3);
    fs::rename(home.source("moved"), &source).expect("ours");
    assert_eq!(pid(), first, "the old one runs on");
    assert!(home.path().join("ext/plugin/old").exists());
    assert_eq!(fetched(&home), ["plugin"]);

    write_version(&source, 2);
    fs::remove_file(source.join("old")).expect("ours");
    home.aigis(&["reload", "plugin"]).exited(0);
    assert_ne!(pid(), first);
    assert!(!home.plugin_log("plugin").contains("version 2"));
    home.aigis(&["reload", "--fresh", "plugin"]).exited(0);
    home.wait_for_log("plugin", "version 2");
    assert!(!home.path().join("ext/plugin/old").exists());
    assert_eq!(fetched(&home), ["plugin"]);
    core.signal("TERM");
    core.wait().exited(0);
}
