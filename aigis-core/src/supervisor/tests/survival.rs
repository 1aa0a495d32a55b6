//! Plugins that go on without their core, and what the next core finds.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::json;

use super::loss::{record, signal, start_core};
use super::{KEEPING_CORE_ARGUMENT, Place, assert_gone, is_alive, run, wait_until};
use crate::config::OnCoreDeath;
use crate::supervisor::record::{Found, look, socket_of};
use crate::supervisor::{Exit, Remains, ShimRecord, Standing, Supervised, remains};

/// Prints numbered lines for as long as it is not told to stop.
const COUNTING: &str = "n=0; while :; do n=$((n+1)); echo \"line $n\"; [ -e stop ] && exit 7; \
                        [ $((n % 50)) = 0 ] && sleep 0.01; done";

impl Place {
    fn record_path(&self) -> PathBuf {
        self.path("run/p.json")
    }

    /// Starts a core that keeps its plugin, waits for what it prints, and kills the core.
    async fn lose_core(&self, script: &str, text: &str) -> ShimRecord {
        let mut core = start_core(self, KEEPING_CORE_ARGUMENT, "true", &["sh", "-c", script]);
        self.wait_for(text).await;
        wait_until("the launch is known", || self.path("known").exists()).await;
        core.kill().expect("it runs");
        core.wait().expect("it has ended");
        record(self)
    }

    async fn only_remains(&self) -> Remains {
        let mut all = remains(&self.path("run")).await.expect("it can be read");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    async fn adopted(&self) -> (Supervised, Standing) {
        match self.only_remains().await {
            Remains::Running(supervised, standing) => (*supervised, *standing),
            other => panic!("expected a plugin that runs, found {other:?}"),
        }
    }

    fn numbers(&self) -> Vec<u64> {
        let lines = self.logged("INFO");
        lines
            .iter()
            .filter_map(|line| line.strip_prefix("line ")?.parse().ok())
            .collect()
    }
}

#[test]
fn a_plugin_outlives_its_core_and_the_next_one_takes_it_over() {
    let place = Place::new();
    run(async {
        let before = place.lose_core(COUNTING, "INFO : line 100").await;
        place
            .wait_for("The core is gone, the plugin runs on.")
            .await;
        let count = place.numbers().len();
        wait_until("more lines", || place.numbers().len() > count + 100).await;
        assert!(is_alive(before.shim_pid));
        let mode = fs::metadata(socket_of(&place.record_path())).expect("a socket");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);

        let (plugin, standing) = place.adopted().await;
        assert_eq!(Some(plugin.pid()), before.pid);
        assert_eq!(Some(plugin.start_time()), before.start_time);
        assert_eq!(plugin.shim_pid(), before.shim_pid);
        assert_eq!(plugin.started_at(), before.started_at);
        assert_eq!(standing.memo, json!({ "of": "the first core" }));
        assert_eq!((standing.exit, standing.stopping), (None, false));
        assert!(plugin.log(crate::logging::Level::Info, "hello"));
        place.wait_for("INFO : hello").await;
        plugin.remember(json!({ "of": "the second core" }));
        wait_until("the memo is kept", || {
            record(&place).memo == json!({ "of": "the second core" })
        })
        .await;
        fs::write(place.path("stop"), "").expect("it is written");
        assert_eq!(plugin.wait().await, Exit::Code(7));
        assert!(place.record_path().exists(), "for a core that comes now");
        drop(plugin);
        assert!(!place.record_path().exists());
        assert!(!socket_of(&place.record_path()).exists());
        let numbers = place.numbers();
        assert!(
            numbers.iter().copied().eq(1..=numbers.len() as u64),
            "lost or doubled"
        );
        assert_gone(&before.invocation);
    });
}

#[test]
fn cores_come_and_go() {
    let place = Place::new();
    run(async {
        let before = place.lose_core(COUNTING, "INFO : line 10").await;
        for round in 0..5 {
            let (plugin, standing) = place.adopted().await;
            assert_eq!(Some(plugin.pid()), before.pid);
            if round > 0 {
                assert_eq!(standing.memo, json!(round - 1));
            }
            plugin.remember(json!(round));
            wait_until("the memo is kept", || record(&place).memo == json!(round)).await;
            plugin.release().await;
        }
        let (plugin, _) = place.adopted().await;
        let report = plugin.stop(std::time::Duration::from_secs(5)).await;
        assert_eq!(report.exit, Some(Exit::Signal(15)));
        assert!(!place.record_path().exists(), "nothing is left to tell");
        assert_gone(&before.invocation);
    });
}

#[test]
fn what_ends_without_a_core_is_told_to_the_next_one() {
    let place = Place::new();
    run(async {
        let script = "setsid sh -c \"trap '' TERM; echo ready; while :; do sleep 1000; done\" & \
                      while ! [ -e stop ]; do sleep 0.01; done; exit 3";
        let before = place.lose_core(script, "INFO : ready").await;
        fs::write(place.path("stop"), "").expect("it is written");
        wait_until("the shim ends", || !is_alive(before.shim_pid)).await;
        match place.only_remains().await {
            Remains::Ended(found) => {
                let ended = found.ended();
                assert_eq!(ended.exit, Exit::Code(3));
                assert!(ended.killed.iter().any(|it| it.name == "sh"), "{ended:?}");
                assert_eq!(found.record().memo, json!({ "of": "the first core" }));
                assert!(place.record_path().exists());
            }
            other => panic!("expected one that has ended, found {other:?}"),
        }
        assert!(!place.record_path().exists());
        assert!(place.log().contains("ERROR : Process exited with code 3"));
        assert_gone(&before.invocation);
    });
}

#[test]
fn a_core_that_comes_while_the_tree_ends_hears_the_end() {
    let place = Place::new();
    run(async {
        let script = "sh -c \"trap '' TERM; echo ready; while ! [ -e end ]; do sleep 0.01; done\" & \
                      while ! [ -e stop ]; do sleep 0.01; done; exit 3";
        place.lose_core(script, "INFO : ready").await;
        fs::write(place.path("stop"), "").expect("it is written");
        place.wait_for("Process exited with code 3").await;
        let (plugin, standing) = place.adopted().await;
        assert_eq!(standing.exit, Some(Exit::Code(3)));
        assert!(standing.stopping);
        assert_eq!(plugin.leader_exit(), Some(Exit::Code(3)));
        fs::write(place.path("end"), "").expect("it is written");
        assert_eq!(plugin.wait().await, Exit::Code(3));
    });
}

#[test]
fn a_shim_that_dies_without_a_core_leaves_nothing() {
    let place = Place::new();
    run(async {
        let script = "setsid sleep 1000 & sleep 1000 & echo ready; wait";
        let before = place.lose_core(script, "INFO : ready").await;
        signal(before.shim_pid, Signal::KILL);
        wait_until("the shim ends", || !is_alive(before.shim_pid)).await;
        match place.only_remains().await {
            Remains::Lost { record, survivors } => {
                assert_eq!(*record, before);
                assert!(survivors.is_empty(), "{survivors:?}");
            }
            other => panic!("expected a lost one, found {other:?}"),
        }
        assert_gone(&before.invocation);
        assert!(!place.record_path().exists());
    });
}

#[test]
fn a_stopped_shim_is_cleared_away() {
    let place = Place::new();
    run(async {
        let before = place.lose_core(COUNTING, "INFO : line 10").await;
        signal(before.shim_pid, Signal::STOP);
        let found = place.only_remains().await;
        assert!(matches!(found, Remains::Unreachable { .. }), "{found:?}");
        assert!(found.clear().await.is_empty());
        assert_gone(&before.invocation);
        assert!(!place.record_path().exists());
    });
}

#[test]
fn a_record_that_is_none_is_removed_and_hurts_nobody() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("exec sleep 1000").await;
        let good = fs::read_to_string(place.record_path()).expect("it is there");
        let value: serde_json::Value = serde_json::from_str(&good).expect("JSON");
        let with = |key: &str, new: serde_json::Value| {
            let mut value = value.clone();
            value[key] = new;
            value.to_string()
        };
        // Neither locked by anybody; the pids are those of the plugin that runs.
        let other_boot = with("boot_id", json!("00000000-0000-0000-0000-000000000000"));
        let mut reused = with("start_time", json!(plugin.start_time() - 1));
        reused = reused.replace(value["invocation"].as_str().expect("a text"), "another");
        for (name, content) in [
            ("half", &good[..good.len() / 2]),
            ("empty", ""),
            ("garbage", "\0\u{1}]]{"),
            ("boot", &other_boot),
            ("reused", &reused),
        ] {
            let folder = place.path(name);
            fs::create_dir(&folder).expect("a folder");
            fs::write(folder.join("p.json"), content).expect("it is written");
            let all = remains(&folder).await.expect("it can be read");
            let [found] = &all[..] else {
                panic!("{name}: {all:?}");
            };
            match name {
                "reused" => assert!(matches!(found, Remains::Lost { .. }), "{name}: {found:?}"),
                _ => assert!(matches!(found, Remains::Stale(_)), "{name}: {found:?}"),
            }
            assert_eq!(
                fs::read_dir(&folder).expect("a folder").count(),
                0,
                "{name}"
            );
            assert!(
                is_alive(plugin.pid()) && is_alive(plugin.shim_pid()),
                "{name}"
            );
        }
        // Locked, but the shim that it names is somebody else.
        let folder = place.path("stranger");
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("p.json"), &good).expect("it is written");
        let open = OpenOptions::new().read(true).open(folder.join("p.json"));
        let lock = open.expect("it opens");
        lock.lock().expect("it is locked");
        let all = remains(&folder).await.expect("it can be read");
        assert!(matches!(&all[..], [Remains::Unreachable { .. }]), "{all:?}");
        plugin.kill().await;
    });
}

#[test]
fn a_reader_never_finds_half_a_record() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("exec sleep 1000").await;
        let path = place.record_path();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            while !stops.load(Ordering::Relaxed) {
                match look(&path).expect("it can be read") {
                    Found::Locked(Some(record)) => assert_eq!(record.plugin.as_str(), "p"),
                    other => panic!("expected a whole record, found {other:?}"),
                }
                seen += 1;
            }
            seen
        });
        for round in 0..200 {
            plugin.remember(json!({ "round": round, "text": "x".repeat(round * 40) }));
            let kept = || record(&place).memo["round"] == json!(round);
            wait_until("the memo is kept", kept).await;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("no panic") > 0);
        plugin.kill().await;
    });
}

#[test]
fn a_shim_alone_is_small() {
    let place = Place::new();
    run(async {
        let before = place.lose_core(COUNTING, "INFO : line 1000").await;
        let path = format!("/proc/{}/smaps_rollup", before.shim_pid);
        let rollup = fs::read_to_string(path).expect("it is there");
        let private: u64 = rollup
            .lines()
            .filter(|line| line.starts_with("Private_Clean") || line.starts_with("Private_Dirty"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        println!("a shim has {private} kB of its own");
        let (plugin, _) = place.adopted().await;
        plugin.kill().await;
        // A test program is larger than the one that is shipped, and maps pages of its own for its tables.
        assert!(private > 0 && private < 16 * 1024, "{private} kB");
    });
}

#[test]
fn a_plugin_that_is_not_to_be_kept_goes_with_the_core() {
    let place = Place::new();
    let before = run(async {
        let before = place.lose_core("echo ready; exec sleep 1000", "INFO : ready");
        let before = before.await;
        let (plugin, _) = place.adopted().await;
        plugin.on_core_death(OnCoreDeath::Stop);
        assert!(plugin.log(crate::logging::Level::Info, "told"));
        place.wait_for("INFO : told").await;
        // The runtime ends with it, and nobody tells the shim anything more.
        std::mem::forget(plugin);
        before
    });
    run(wait_until("the shim ends", || !is_alive(before.shim_pid)));
    assert!(!place.record_path().exists());
    assert_gone(&before.invocation);
}
