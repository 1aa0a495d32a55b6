use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Place, assert_gone, is_alive, launch, run, wait_until};
use crate::supervisor::linux::Process;
use crate::supervisor::{Exit, StopReport};

const GRACE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(300);

/// Launches a script, waits until it says `ready`, stops it and checks that nothing is left.
async fn stop(place: &Place, script: &str, grace: Duration) -> (StopReport, Duration) {
    let spec = place.script(script);
    let invocation = spec.invocation.clone();
    let plugin = launch(spec).await.expect("it is launched");
    place.wait_for("INFO : ready").await;
    let since = Instant::now();
    let report = plugin.stop(grace).await;
    let took = since.elapsed();
    assert_gone(&invocation);
    assert!(!is_alive(plugin.shim_pid()));
    assert_eq!(report.survivors, []);
    assert_eq!(plugin.wait().await, report.exit.expect("it has ended"));
    (report, took)
}

/// Asserts that the log names exactly these as killed.
fn assert_killed(place: &Place, report: &StopReport, names: &[&str]) {
    let mut killed: Vec<&str> = report.killed.iter().map(|p| p.name.as_str()).collect();
    killed.sort_unstable();
    assert_eq!(killed, names);
    let warnings = place.logged("WARNING");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let rest = warnings[0]
        .strip_prefix("Plugin taking too long to terminate, killing it. Still running: ")
        .expect("the warning");
    for process in &report.killed {
        assert!(rest.contains(&process.to_string()), "{rest}");
    }
}

#[test]
fn a_polite_plugin_is_noticed_at_once() {
    let place = Place::new();
    run(async {
        let script =
            "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
        let (report, took) = stop(&place, script, GRACE).await;
        assert_eq!(report.exit, Some(Exit::Code(0)));
        assert_eq!(report.killed, []);
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(
            place.logged("INFO"),
            ["ready", "bye", "Process exited with code 0"]
        );
        assert_eq!(place.logged("WARNING"), [""; 0]);
    });
}

#[test]
fn a_slow_plugin_has_its_grace() {
    let place = Place::new();
    run(async {
        let script = "trap 'trap \"\" TERM; sleep 0.4; echo done; exit 4' TERM; echo ready; \
                      while :; do sleep 1000 & wait; done";
        let (report, took) = stop(&place, script, GRACE).await;
        assert_eq!(report.exit, Some(Exit::Code(4)));
        assert!(took >= Duration::from_millis(400), "{took:?}");
        assert!(took < GRACE, "{took:?}");
        assert!(place.logged("INFO").contains(&"done".to_owned()));
        assert_eq!(place.logged("ERROR"), [""; 0], "an exit that was asked for");
    });
}

#[test]
fn a_plugin_that_ignores_the_signal_is_killed_with_its_grandchild() {
    let place = Place::new();
    run(async {
        let script = "trap '' TERM; sleep 1000 & echo ready; wait";
        let (report, took) = stop(&place, script, SHORT).await;
        assert_eq!(report.exit, Some(Exit::Signal(9)));
        assert!(took >= SHORT, "{took:?}");
        assert!(took < GRACE, "{took:?}");
        assert_killed(&place, &report, &["sh", "sleep"]);
    });
}

#[test]
fn a_grandchild_that_left_session_and_parent_is_stopped() {
    let place = Place::new();
    run(async {
        // Forked twice, in a session of its own: neither group nor parent lead to it.
        let script = "setsid sh -c '(trap \"\" TERM HUP; echo ready; while :; do sleep 1000; done) & exit 0' & \
                      wait; exec sleep 1000";
        let (report, _) = stop(&place, script, SHORT).await;
        assert_eq!(report.exit, Some(Exit::Signal(15)));
        // The `sleep` of the loop may be killed before or after its shell starts another.
        assert!(report.killed.iter().any(|process| process.name == "sh"));
    });
}

#[test]
fn a_leader_that_ends_does_not_save_a_member_that_does_not() {
    let place = Place::new();
    run(async {
        let script = "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 1000 & wait; done' & exec sleep 1000";
        let (report, took) = stop(&place, script, SHORT).await;
        assert_eq!(report.exit, Some(Exit::Signal(15)));
        assert!(took >= SHORT, "{took:?}");
        assert!(report.killed.iter().any(|process| process.name == "sh"));
    });
}

#[test]
fn a_stopped_plugin_is_continued_to_end() {
    let place = Place::new();
    run(async {
        let script = "trap 'echo bye; exit 7' TERM; echo ready; kill -STOP $$; sleep 1000";
        let spec = place.script(script);
        let plugin = launch(spec).await.expect("it is launched");
        let pid = plugin.pid() as i32;
        wait_until("the plugin stops", || {
            Process::read(pid).is_some_and(|process| process.state == 'T')
        })
        .await;
        let report = plugin.stop(GRACE).await;
        assert_eq!(report.exit, Some(Exit::Code(7)));
        assert_eq!(report.killed, []);
    });
}

#[test]
fn the_polite_signal_comes_once() {
    let place = Place::new();
    run(async {
        let script = "trap 'echo asked' TERM; echo ready; \
                      while :; do sleep 0.05; test -e enough && exit 0; done";
        let spec = place.script(script);
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        let (report, ()) = tokio::join!(plugin.stop(GRACE), async {
            place.wait_for("INFO : asked").await;
            std::fs::write(place.path("enough"), "").expect("a file");
        });
        assert_eq!(report.exit, Some(Exit::Code(0)));
        let asked = place
            .logged("INFO")
            .iter()
            .filter(|line| *line == "asked")
            .count();
        assert_eq!(asked, 1);
    });
}

#[test]
fn what_a_leader_starts_on_its_way_out_is_asked_too() {
    let place = Place::new();
    run(async {
        let script = "trap 'sleep 1000 & exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let (report, took) = stop(&place, script, GRACE).await;
        assert_eq!(report.exit, Some(Exit::Code(0)));
        assert_eq!(report.killed, []);
        assert!(took < GRACE, "{took:?}");
    });
}

#[test]
fn a_kill_asks_nobody() {
    let place = Place::new();
    run(async {
        let plugin = place
            .launch("trap 'echo asked' TERM; echo ready; while :; do sleep 1000 & wait; done")
            .await;
        place.wait_for("INFO : ready").await;
        let report = plugin.kill().await;
        assert_eq!(report.exit, Some(Exit::Signal(9)));
        assert!(!place.logged("INFO").contains(&"asked".to_owned()));
        assert_eq!(place.logged("WARNING"), [""; 0]);
    });
}

#[test]
fn a_second_stop_can_shorten_the_first() {
    let place = Place::new();
    run(async {
        let plugin = place
            .launch("trap '' TERM; echo ready; while :; do sleep 1000; done")
            .await;
        place.wait_for("INFO : ready").await;
        let since = Instant::now();
        let (first, second) = tokio::join!(
            plugin.stop(Duration::from_secs(1000)),
            plugin.stop(Duration::from_millis(50))
        );
        assert_eq!(first, second);
        assert!(since.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_plugin_that_has_ended_is_stopped_already() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("exit 5").await;
        assert_eq!(plugin.wait().await, Exit::Code(5));
        let report = plugin.stop(GRACE).await;
        assert_eq!(report.exit, Some(Exit::Code(5)));
        assert_eq!(report.killed, []);
    });
}

#[test]
fn what_forks_all_the_time_is_ended() {
    let place = Place::new();
    run(async {
        // Each round leaves one that ignores the signal and one that leaves the group.
        let script = "trap '' TERM; echo ready; n=0; \
                      while test $n -lt 200; do n=$((n+1)); \
                      (trap '' TERM; sleep 1000) & setsid sleep 1000 & done; wait";
        let (report, _) = stop(&place, script, Duration::from_millis(100)).await;
        assert_eq!(report.exit, Some(Exit::Signal(9)));
    });
}

#[test]
fn what_only_forks_its_successor_is_ended() {
    let place = Place::new();
    run(async {
        // Four at a time, no more: each starts the next one and ends. They end by themselves with the file, and after
        // some thousand generations.
        std::fs::write(place.path("leash"), "").expect("a file");
        let script = "trap '' TERM; next() { [ -e leash ] && [ $1 -gt 0 ] && next $(($1 - 1)) & exit; }; \
                      for i in 1 2 3 4; do next 5000 & done; echo ready; while [ -e leash ]; do sleep 0.1; done";
        let (report, took) = stop(&place, script, Duration::from_millis(100)).await;
        assert_eq!(report.exit, Some(Exit::Signal(9)));
        assert!(took < GRACE, "{took:?}");
        std::fs::remove_file(place.path("leash")).expect("it is there");
    });
}

#[test]
fn fifty_plugins_stop_side_by_side() {
    run(async {
        let places: Vec<Place> = (0..50).map(|_| Place::new()).collect();
        let mut launching = JoinSet::new();
        for place in &places {
            let script = "trap '' TERM; echo ready; while :; do sleep 1000; done";
            launching.spawn(launch(place.script(script)));
        }
        let plugins: Vec<_> = launching
            .join_all()
            .await
            .into_iter()
            .map(|plugin| plugin.expect("it is launched"))
            .collect();
        for place in &places {
            place.wait_for("INFO : ready").await;
        }
        let grace = Duration::from_millis(500);
        let since = Instant::now();
        let mut stopping = JoinSet::new();
        for plugin in plugins {
            stopping.spawn(async move { (plugin.stop(grace).await, plugin) });
        }
        for (report, plugin) in stopping.join_all().await {
            assert_eq!(report.exit, Some(Exit::Signal(9)));
            assert!(!is_alive(plugin.pid()) && !is_alive(plugin.shim_pid()));
        }
        // One after the other would take 25 s.
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "{:?}",
            since.elapsed()
        );
    });
}
