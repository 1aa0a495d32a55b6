//! What happens when a core or a shim is lost.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{
    CORE_ARGUMENT, Place, assert_gone, is_alive, launch, own_program, read_log, run, spec_in,
    wait_until,
};
use crate::config::OnCoreDeath;
use crate::logging::Level;
use crate::supervisor::linux::{self, Process};
use crate::supervisor::{Exit, LaunchSpec, ShimRecord};
use rustix::process::Signal;

/// A script that leaves one process in its group and one outside of it.
const TREE: &str = "setsid sleep 1000 & sleep 1000 & echo ready; wait";

/// What the test program does as a core: launches a command ten times if it ends, and says
/// how many threads and descriptors that has left behind.
pub(super) fn core_main(folder: &Path, program: &str, args: &[String]) {
    let count = |what: &str| {
        fs::read_dir(format!("/proc/self/{what}"))
            .expect("our own folder")
            .count()
    };
    run(async {
        let mut counts = Vec::new();
        for _ in 0..10 {
            let spec = spec_in(folder, program).args(args.iter().cloned());
            let plugin = launch(spec).await.expect("it is launched");
            plugin.wait().await;
            drop(plugin);
            // The watching tasks end with the next turn of the runtime.
            tokio::task::yield_now().await;
            counts.push(format!("{} {}", count("task"), count("fd")));
        }
        fs::write(folder.join("counts"), counts.join("\n")).expect("it is written");
    });
}

/// What the test program does as a core that lets its plugin outlive it: launches a command and stays.
pub(super) fn keeping_core_main(folder: &Path, program: &str, args: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut spec = spec_in(folder, program).args(args.iter().cloned());
        spec.on_core_death = OnCoreDeath::Keep;
        spec.memo = serde_json::json!({ "of": "the first core" });
        let plugin = launch(spec).await.expect("it is launched");
        // What is logged comes behind what has been said before.
        assert!(plugin.log(Level::Info, "known"));
        loop {
            if read_log(&folder.join("p.log")).contains("INFO : known") {
                fs::write(folder.join("known"), "").expect("it is written");
                break;
            }
            tokio::task::yield_now().await;
        }
        plugin.wait().await;
    });
}

/// Starts the test program as a core, from a shell that prepares it.
pub(super) fn start_core(place: &Place, kind: &str, prepare: &str, command: &[&str]) -> Child {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{prepare}; exec \"$0\" \"$@\""))
        .arg(own_program())
        .arg(kind)
        .arg(place.folder.path())
        .args(command)
        .stdin(Stdio::null())
        .spawn()
        .expect("a shell")
}

pub(super) fn record(place: &Place) -> ShimRecord {
    ShimRecord::read(place.path("run/p.json"))
        .expect("it can be read")
        .expect("it is there")
}

pub(super) fn signal(pid: u32, signal: Signal) {
    Process::read(pid as i32).expect("it runs").signal(signal);
}

#[test]
fn a_killed_core_takes_its_trees_along() {
    let place = Place::new();
    run(async {
        let mut core = start_core(&place, CORE_ARGUMENT, "true", &["sh", "-c", TREE]);
        place.wait_for("INFO : ready").await;
        let record = record(&place);
        assert!(is_alive(record.shim_pid));
        core.kill().expect("it runs");
        core.wait().expect("it has ended");
        wait_until("the shim ends", || !is_alive(record.shim_pid)).await;
        assert_gone(&record.invocation);
        assert!(!place.path("run/p.json").exists());
        assert_eq!(
            place.logged("WARNING"),
            ["The core is gone, stopping the plugin."]
        );
    });
}

#[test]
fn nothing_of_the_cores_surroundings_reaches_the_plugin() {
    let place = Place::new();
    run(async {
        let prepare = "trap '' HUP INT TERM PIPE USR1 CHLD; exec 7</dev/null; umask 022";
        // Not through a shell: some of them reset what they are given.
        let command = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"];
        let mut core = start_core(&place, CORE_ARGUMENT, prepare, &command);
        assert!(core.wait().expect("it has ended").success());
        let expected = ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"];
        assert_eq!(place.logged("INFO")[..2], expected);

        let mut core = start_core(
            &place,
            CORE_ARGUMENT,
            prepare,
            &["ls", "-l", "/proc/self/fd"],
        );
        assert!(core.wait().expect("it has ended").success());
        let log = place.log();
        let open: Vec<&str> = log
            .lines()
            .filter_map(|l| l.split_once(" -> "))
            .map(|l| l.1)
            .collect();
        // The fourth is the folder that `ls` reads.
        assert!(open.len() >= 4 && open.len().is_multiple_of(4), "{log}");
        for open in open.chunks(4) {
            assert_eq!(open[0], "/dev/null");
            assert!(
                open[1].starts_with("pipe:") && open[2].starts_with("pipe:"),
                "{open:?}"
            );
            assert!(open[3].starts_with("/proc/"), "{open:?}");
        }
    });
}

#[test]
fn launches_leave_no_thread_and_no_descriptor() {
    let place = Place::new();
    run(async {
        let mut core = start_core(&place, CORE_ARGUMENT, "true", &["sh", "-c", "exit 1"]);
        assert!(core.wait().expect("it has ended").success());
        let counts = fs::read_to_string(place.path("counts")).expect("the counts");
        let counts: Vec<&str> = counts.lines().collect();
        assert_eq!(counts.len(), 10);
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    });
}

#[test]
fn a_killed_shim_is_a_failure_and_nothing_is_left() {
    let place = Place::new();
    run(async {
        let spec = place.script(TREE);
        let invocation = spec.invocation.clone();
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        assert!(linux::leftovers(None, &invocation).len() >= 3);
        signal(plugin.shim_pid(), Signal::KILL);
        assert_eq!(plugin.wait().await, Exit::ShimLost);
        assert_gone(&invocation);
        assert!(!is_alive(plugin.pid()));
        assert!(!place.path("run/p.json").exists());
        let again = place.launch("exit 0").await;
        assert_eq!(again.wait().await, Exit::Code(0));
    });
}

#[test]
fn a_plugin_that_cleared_its_mark_is_found_by_its_session() {
    let place = Place::new();
    run(async {
        let script = "env -i sh -c 'trap \"\" TERM HUP; echo member $$; while :; do sleep 1000; done' & \
                      while ! grep -q \"INFO : [m]ember\" p.log; do sleep 0.01; done; echo ready; wait";
        let plugin = place.launch(script).await;
        place.wait_for("INFO : ready").await;
        let member: u32 = place
            .logged("INFO")
            .iter()
            .find_map(|line| line.strip_prefix("member ")?.parse().ok())
            .expect("the member's pid");
        assert!(is_alive(member));
        signal(plugin.shim_pid(), Signal::KILL);
        assert_eq!(plugin.wait().await, Exit::ShimLost);
        assert!(!is_alive(member));
    });
}

#[test]
fn a_shim_that_is_asked_to_end_stops_its_tree() {
    let place = Place::new();
    run(async {
        let spec = place.script(TREE);
        let invocation = spec.invocation.clone();
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        for ignored in [
            Signal::INT,
            Signal::HUP,
            Signal::PIPE,
            Signal::USR1,
            Signal::QUIT,
        ] {
            signal(plugin.shim_pid(), ignored);
        }
        signal(plugin.shim_pid(), Signal::TERM);
        assert_eq!(plugin.wait().await, Exit::Signal(15));
        assert_gone(&invocation);
        assert_eq!(
            place.logged("WARNING"),
            ["The shim was asked to end, stopping the plugin."]
        );
    });
}

#[test]
fn a_stopped_shim_does_not_stop_a_stop() {
    let place = Place::new();
    run(async {
        let spec = place.script(TREE);
        let invocation = spec.invocation.clone();
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        signal(plugin.shim_pid(), Signal::STOP);
        let report = plugin.stop(Duration::from_millis(10)).await;
        assert_eq!(report.exit, Some(Exit::ShimLost));
        assert_gone(&invocation);
    });
}

#[test]
fn a_dropped_handle_stops_the_plugin() {
    let place = Place::new();
    run(async {
        let spec = place
            .script("trap 'echo bye; exit' TERM; echo ready; while :; do sleep 1000 & wait; done");
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        let shim = plugin.shim_pid();
        drop(plugin);
        wait_until("the shim ends", || !is_alive(shim)).await;
        assert!(place.logged("INFO").contains(&"bye".to_owned()));
    });
}

#[test]
fn a_runtime_that_ends_stops_the_plugin() {
    let place = Place::new();
    let shim = run(async {
        let plugin = place.launch("echo ready; exec sleep 1000").await;
        plugin.shim_pid()
    });
    run(wait_until("the shim is collected", || {
        Process::read(shim as i32).is_none()
    }));
}

#[test]
fn a_launch_that_is_given_up_leaves_nothing() {
    let place = Place::new();
    run(async {
        let specs: Vec<LaunchSpec> = (0..20)
            .map(|number| {
                let mut spec = place.script("exec sleep 1000");
                spec.record = place.path(&format!("run/{number}.json")).into();
                spec
            })
            .collect();
        for (number, spec) in specs.iter().enumerate() {
            let patience = Duration::from_millis(number as u64);
            let _ = tokio::time::timeout(patience, launch(spec.clone())).await;
        }
        for spec in &specs {
            wait_until("nothing is left", || {
                linux::leftovers(None, &spec.invocation).is_empty()
                    && !spec.record.as_path().exists()
            })
            .await;
        }
    });
}

#[test]
fn what_core_and_shim_left_behind_together_is_ended_by_the_next_launch() {
    let place = Place::new();
    run(async {
        let mut core = start_core(&place, CORE_ARGUMENT, "true", &["sh", "-c", TREE]);
        place.wait_for("INFO : ready").await;
        let old = record(&place);
        // The core must not see the shim's end.
        signal(core.id(), Signal::STOP);
        signal(old.shim_pid, Signal::KILL);
        core.kill().expect("it runs");
        core.wait().expect("it has ended");
        wait_until("the shim ends", || !is_alive(old.shim_pid)).await;
        assert!(
            !linux::leftovers(None, &old.invocation).is_empty(),
            "nothing was left, so this shows nothing"
        );
        let plugin = place.launch("echo next; exit 0").await;
        assert_gone(&old.invocation);
        assert_eq!(plugin.wait().await, Exit::Code(0));
    });
}

/// Signals that a parent's death brings come when the thread ends that has forked, not only with its process.
#[test]
fn a_plugin_does_not_end_with_the_thread_that_launched_it() {
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let script =
        "echo ready; while ! test -e go; do sleep 0.01; done; echo still here; exec sleep 1000";
    let spec = place.script(script);
    let handle = runtime.handle().clone();
    let launched = std::thread::spawn(move || handle.block_on(launch(spec)));
    let plugin = launched.join().expect("no panic").expect("it is launched");
    runtime.block_on(async {
        place.wait_for("INFO : ready").await;
        std::fs::write(place.path("go"), "").expect("writes");
        place.wait_for("INFO : still here").await;
        assert!(is_alive(plugin.pid()));
        plugin.kill().await;
    });
}
