//! What a plugin is given and denied, and the control group that holds it.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::{Place, assert_gone, launch, run};
use crate::config::Limit;
use crate::supervisor::cgroup::{Cgroup, Limits, Parent};
use crate::supervisor::linux::Process;
use crate::supervisor::{
    Confinement, Exit, Identity, LaunchError, LaunchFailure, LaunchSpec, usage,
};

/// A place below which groups can be made; says so where there is none.
fn parent() -> Option<Parent> {
    let parent = Parent::find();
    if parent.is_none() {
        eprintln!("no control groups of version 2 can be made here: nothing is tested");
    }
    parent
}

/// Makes the group of a launch.
fn grouped(parent: &Parent, mut spec: LaunchSpec) -> (LaunchSpec, Cgroup) {
    let name = format!("aigis-test-{}", spec.invocation);
    let (group, _) = parent.make(&name, Limits::default()).expect("it is made");
    spec.confinement.cgroup = Some(group.folder().into());
    (spec, group)
}

#[test]
fn a_tree_in_a_group_is_ended_with_it() {
    let Some(parent) = parent() else { return };
    let place = Place::new();
    run(async {
        // Each starts its successor in a session of its own and ends, so that a list of them is old when it is read.
        let chain = place.path("chain.sh");
        fs::write(&chain, "trap '' TERM\nsetsid sh \"$0\" &\n").expect("is written");
        let script = format!(
            "trap '' TERM; for i in 1 2 3 4 5 6; do sh {} & done; echo ready; sleep 1000",
            chain.display()
        );
        let (spec, group) = grouped(&parent, place.script(&script));
        let invocation = spec.invocation.clone();
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        let report = plugin.stop(Duration::from_millis(50)).await;
        assert_eq!(report.survivors, []);
        assert_eq!(report.exit, Some(Exit::Signal(9)));
        assert!(!report.killed.is_empty());
        assert_gone(&invocation);
        assert!(!group.folder().exists(), "the group is left");
    });
}

#[test]
fn what_a_lost_shim_leaves_is_found_by_its_group() {
    let Some(parent) = parent() else { return };
    let place = Place::new();
    run(async {
        // Neither session, group, parent nor environment lead to it.
        let script = "setsid env -i sh -c '(trap \"\" TERM HUP; exec sleep 1000) & exit 0'; echo ready; exec sleep 1000";
        let (spec, group) = grouped(&parent, place.script(script));
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        let inside = group.processes();
        assert!(inside.len() >= 2, "{inside:?}");
        let shim = Process::read(plugin.shim_pid() as i32).expect("it runs");
        shim.signal(Signal::KILL);
        assert_eq!(plugin.wait().await, Exit::ShimLost);
        let left = inside.into_iter().filter_map(Process::read);
        let left: Vec<Process> = left.filter(|process| !process.is_dead()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!group.folder().exists(), "the group is left");
    });
}

#[test]
fn a_stopped_tree_in_a_group_is_ended() {
    let Some(parent) = parent() else { return };
    let place = Place::new();
    run(async {
        let script = "sh -c 'trap \"\" TERM; kill -STOP $$' & echo ready; wait; exec sleep 1000";
        let (spec, group) = grouped(&parent, place.script(script));
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        let report = plugin.stop(Duration::from_millis(100)).await;
        assert_eq!(report.survivors, []);
        assert!(!group.folder().exists(), "the group is left");
    });
}

#[test]
fn limits_priority_and_mask_are_the_plugins() {
    let place = Place::new();
    run(async {
        let mut spec =
            place.script("ulimit -n; ulimit -c; umask; nice; touch made; stat -c %a made");
        spec.confinement = Confinement {
            umask: Some(0o027),
            nice: Some(5),
            limits: vec![(Limit::Nofile, Some(64)), (Limit::Core, Some(0))],
            ..Confinement::default()
        };
        let plugin = launch(spec).await.expect("it is launched");
        assert_eq!(plugin.wait().await, Exit::Code(0));
        let said = place.logged("INFO");
        assert_eq!(said[..5], ["64", "0", "0027", "5", "640"]);
    });
}

#[test]
fn a_plugin_is_whom_its_spec_names() {
    let place = Place::new();
    let is_root = rustix::process::geteuid().is_root();
    run(async {
        let mut spec = place.script("id -u; id -g; id -G; touch denied || echo refused");
        spec.cwd = "/".into();
        spec.confinement.identity = Some(Identity {
            uid: 54321,
            gid: 54322,
            groups: vec![54322, 54323],
        });
        let launched = launch(spec).await;
        if !is_root {
            let Err(LaunchError::Plugin { source, .. }) = launched else {
                panic!("only root may do that: {launched:?}");
            };
            assert!(
                matches!(&source, LaunchFailure::Confinement { what, .. } if what.contains("USER")),
                "{source:?}"
            );
            return;
        }
        let plugin = launched.expect("it is launched");
        assert_eq!(plugin.wait().await, Exit::Code(0));
        let said = place.logged("INFO");
        assert_eq!(said[..4], ["54321", "54322", "54322 54323", "refused"]);
    });
}

#[test]
fn what_cannot_be_given_is_named() {
    let place = Place::new();
    run(async {
        let mut spec = place.script("exit 0");
        let beyond = fs::read_to_string("/proc/sys/fs/nr_open").expect("is there");
        let beyond: u64 = beyond.trim().parse().expect("a number");
        spec.confinement.limits = vec![(Limit::Nofile, Some(beyond + 1))];
        let error = launch(spec).await.expect_err("the kernel refuses it");
        assert!(error.to_string().contains("p"), "{error}");
        let LaunchError::Plugin { source, .. } = error else {
            panic!("expected a failure of the plugin, found {error:?}");
        };
        assert!(source.to_string().contains("LIMITS"), "{source}");
        let mut spec = place.script("exit 0");
        spec.confinement.cgroup = Some("/nowhere/at/all".into());
        let error = launch(spec).await.expect_err("there is no such group");
        let LaunchError::Plugin { source, .. } = error else {
            panic!("expected a failure of the plugin, found {error:?}");
        };
        assert!(source.to_string().contains("control group"), "{source}");
    });
}

#[test]
fn the_whole_tree_is_counted() {
    let place = Place::new();
    run(async {
        let script =
            "(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done); sleep 1000 & echo ready; wait";
        let plugin = place.launch(script).await;
        place.wait_for("INFO : ready").await;
        let used = usage::below(&[plugin.shim_pid()]);
        let usage = used[&plugin.shim_pid()];
        assert_eq!(usage.processes, 2);
        assert!(usage.memory > 0);
        plugin.kill().await;
    });
}
