//! Hosts as a library: several in one process, with plugins given in code, on all kinds of threads.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aigis_core::config::{GitReference, PluginKind, SourceSpec};
use aigis_core::host::{Event, Observer};
use aigis_core::{Host, HostBuilder, HostError, PluginEntry, StartError, State};
use aigis_plugin_api::{CallError, import};

use crate::support::home::{AIGIS, TestHome, target_folder};
use crate::support::{DEADLINE, plugins};

import! {
    mod teller {
        fn answer() -> u32;
        fn elsewhere(name: &str) -> Result<u32, String>;
    }
}

/// Answers with the number of its settings, and says at its end that it was there.
const TELLER: &str = r#"
use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{Context, call, skills};

#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde")]
struct Settings {
    answer: u32,
}

#[skills]
pub mod teller {
    use super::*;

    /// Gives the answer.
    pub fn answer(ctx: &Context) -> u32 {
        let settings: Settings = ctx.settings().expect("has settings");
        settings.answer
    }

    /// Asks whoever is called so for theirs.
    pub fn elsewhere(name: &str) -> Result<u32, String> {
        call(name, ()).map_err(|error| error.to_string())
    }

    pub fn cleanup(ctx: &Context) {
        std::fs::write(ctx.data().join("cleaned"), "up").expect("is written");
    }
}
"#;

fn entry(home: &TestHome, name: &str, answer: i64) -> PluginEntry {
    let source = SourceSpec {
        location: "sources/teller".to_owned(),
        base: home
            .path()
            .parent()
            .map(PathBuf::from)
            .expect("has a folder"),
        reference: GitReference::Unspecified,
    };
    let name = name.parse().expect("is a name");
    let mut entry = PluginEntry::new(name, PluginKind::Core, source);
    let mut settings = toml::Table::new();
    settings.insert("answer".to_owned(), toml::Value::Integer(answer));
    entry.settings = Some(settings);
    entry
}

fn builder(home: &TestHome) -> HostBuilder {
    HostBuilder::new(home.path())
        .program(AIGIS)
        .target_folder(target_folder())
}

fn start(builder: HostBuilder) -> Host {
    let host = builder.start().expect("starts");
    for status in host.settled(Some(DEADLINE)) {
        assert_eq!(status.state, State::Ready, "{status:?}");
    }
    host
}

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn with(&self, start: &str) -> Vec<String> {
        let notes = self.0.lock().expect("no panic while held");
        let found = notes.iter().filter_map(|note| note.strip_prefix(start));
        found.map(str::to_owned).collect()
    }
}

impl Observer for Notes {
    fn event(&self, event: &Event<'_>) {
        let note = match event {
            Event::Log {
                plugin,
                level,
                message,
            } => {
                format!("log {} {level} {message}", plugin.unwrap_or("-"))
            }
            Event::Output { plugin, line } => format!("output {plugin} {line}"),
            Event::Fetch { plugin, .. } => format!("fetch {plugin}"),
            Event::Build {
                plugin,
                done,
                total,
            } => format!("build {plugin} {done} {total:?}"),
            Event::State { plugin, state } => format!("state {plugin} {state}"),
            _ => return,
        };
        self.0.lock().expect("no panic while held").push(note);
    }
}

#[test]
fn hosts_in_one_process_are_told_apart() {
    let (first_home, second_home, empty_home) = (TestHome::new(), TestHome::new(), TestHome::new());
    plugins::core(&first_home, "teller", TELLER);
    plugins::core(&second_home, "teller", TELLER);
    let notes = Arc::new(Notes::default());
    let observed = builder(&first_home)
        .plugin(entry(&first_home, "one", 1))
        .observer(Arc::clone(&notes) as _);
    let first = start(observed);
    let second = start(builder(&second_home).plugin(entry(&second_home, "two", 2)));
    let empty = start(builder(&empty_home));

    // The same line asks whichever host the thread is in.
    let ask = || teller::answer().expect("answers");
    assert_eq!((first.scope(ask), second.scope(ask)), (1, 2));
    first.scope(|| {
        assert_eq!(second.scope(ask), 2);
        assert_eq!(ask(), 1);
        // A scope belongs to its thread.
        let other = std::thread::scope(|threads| threads.spawn(teller::answer).join());
        let error = other.expect("no panic").expect_err("has no host");
        assert!(matches!(error, CallError::NotConnected { .. }), "{error}");
    });
    let error = empty.scope(teller::answer).expect_err("nobody offers it");
    assert!(matches!(error, CallError::NotFound { .. }), "{error}");
    let error = teller::answer().expect_err("has no host");
    assert!(matches!(error, CallError::NotConnected { .. }), "{error}");
    // What a skill calls is answered by the host that it is in.
    let nested = || teller::elsewhere("teller.answer").expect("answers");
    assert_eq!((first.scope(nested), second.scope(nested)), (1, 2));
    let both = std::thread::scope(|threads| {
        let many = [&first, &second].map(|host| {
            threads.spawn(move || host.scope(|| (0..1000).map(|_| ask()).sum::<u32>()))
        });
        many.map(|sums| sums.join().expect("no panic"))
    });
    assert_eq!(both, [1000, 2000]);

    // By name, and what else there is to ask.
    assert_eq!(first.call::<u32>("teller.answer", ()).expect("answers"), 1);
    let error = first
        .call::<u32>("teller.anwser", ())
        .expect_err("there is none");
    assert!(
        error.to_string().contains("teller.answer"),
        "names the nearest: {error}"
    );
    let skills = second.skills();
    let names: Vec<&str> = skills.iter().map(|skill| skill.name.as_str()).collect();
    assert_eq!(names, ["teller.answer", "teller.elsewhere"]);
    assert_eq!(
        (skills[0].plugin.as_str(), skills[0].doc.trim()),
        ("two", "Gives the answer.")
    );
    let status = &first.status()[0];
    assert_eq!((status.name.as_str(), status.generation), ("one", 1));
    assert_eq!(
        (status.pid, &*status.source),
        (Some(std::process::id()), "sources/teller")
    );

    // Another version, in one of them.
    let changed = TELLER.replace("settings.answer\n", "settings.answer + 10\n");
    fs::write(first_home.source("teller").join("src/lib.rs"), changed).expect("is written");
    assert_eq!(first.reload("one", false).expect("reloads").generation, 2);
    assert_eq!(first.scope(ask), 1, "a folder is copied once");
    assert_eq!(first.reload("one", true).expect("reloads").generation, 3);
    assert_eq!((first.scope(ask), second.scope(ask)), (11, 2));
    let error = first
        .reload("two", false)
        .expect_err("is in the other host");
    assert!(matches!(error, HostError::UnknownPlugin { .. }), "{error}");
    let stopped = first.stop("one").expect("stops");
    assert_eq!(stopped.state, State::Stopped);
    assert!(matches!(
        first.scope(teller::answer),
        Err(CallError::NotFound { .. })
    ));
    first.start_plugin("one").expect("starts");
    assert_eq!(first.scope(ask), 11);

    // The end of one is not that of the other.
    first.shutdown();
    first.shutdown();
    first.wait_shutdown();
    assert!(first.scope(teller::answer).is_err());
    assert!(first.reload("one", false).is_err());
    assert_eq!(second.scope(ask), 2);

    assert_eq!(
        notes.with("state one "),
        [
            "building", "starting", "ready", "ready", "ready", "stopping", "stopped", "fetching",
            "starting", "ready", "stopping", "stopped"
        ]
    );
    assert!(!notes.with("fetch one").is_empty());
    let output = notes.with("output one ");
    assert!(
        output
            .iter()
            .any(|line| line.contains("Compiling teller v0.1.0")),
        "{output:?}"
    );
    let builds = notes.with("build one ");
    assert!(!builds.is_empty(), "tells how far the build is");
    let log = notes.with("log - ");
    assert!(log[0].starts_with("BOOT aigis "), "{log:?}");
    assert!(
        log.iter()
            .any(|message| message == "INFO loaded core plugin one"),
        "{log:?}"
    );
    assert_eq!(log.last().map(String::as_str), Some("SHUTDOWN shut down"));
    assert!(
        notes
            .with("log one ")
            .iter()
            .any(|message| message == "BOOT Skills acquired.")
    );
}

#[test]
fn a_host_lives_on_threads_that_run_futures() {
    let home = TestHome::new();
    plugins::core(&home, "teller", TELLER);
    plugins::external(&home, "idle", "", "exec sleep 100000");
    let idle = PluginEntry::new(
        "idle".parse().expect("is a name"),
        PluginKind::External,
        SourceSpec {
            location: home.source("idle").display().to_string(),
            base: home.path(),
            reference: GitReference::Unspecified,
        },
    );
    let build = || {
        builder(&home)
            .plugin(idle.clone())
            .plugin(entry(&home, "one", 1))
    };
    let live = async || {
        let host = start(build());
        assert_eq!(host.scope(teller::answer).expect("answers"), 1);
        let found = host.scope(teller::start::answer).await;
        assert_eq!(found.expect("answers"), 1);
        host.reload("idle", false).expect("reloads");
        host.reload("one", false).expect("reloads");
        assert_eq!(host.stop("idle").expect("stops").state, State::Stopped);
        host.start_plugin("idle").expect("starts");
        // Core plugins first, whatever order they were given in.
        let names: Vec<String> = host
            .status()
            .into_iter()
            .map(|status| status.name)
            .collect();
        assert_eq!(names, ["one", "idle"]);
        host
    };
    let one_thread = tokio::runtime::Builder::new_current_thread().build();
    one_thread.expect("is made").block_on(async {
        let host = live().await;
        let in_use = build().start().expect_err("the home is in use");
        let own = std::process::id();
        assert!(
            matches!(in_use, StartError::HomeInUse { pid: Some(pid), .. } if pid == own),
            "{in_use}"
        );
        host.shutdown();
    });
    let mark = home.path().join("data/one/cleaned");
    assert!(mark.exists());
    fs::remove_file(&mark).expect("is removed");

    // Not shut down, only let go of, on a thread of the runtime; and again in the same home.
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build();
    let threads = threads.expect("is made");
    let pid = threads.block_on(async {
        let host = live().await;
        let task = tokio::spawn(async move {
            let pid = host.status()[1].pid;
            drop(host);
            pid
        });
        task.await.expect("no panic")
    });
    assert!(mark.exists(), "the cleanup has run");
    assert!(
        !crate::support::is_alive(pid.expect("it ran")),
        "and the process is gone"
    );
    drop(start(build()));
}
