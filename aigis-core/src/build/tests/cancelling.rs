//! A build that is no longer wanted.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use super::*;
use crate::build::turn::{NoTurn, Turnstile};

/// A build script that tells its process id and then never ends.
const ENDLESS: &str = "fn main() {
    let path = std::path::Path::new(env!(\"CARGO_MANIFEST_DIR\"));
    std::fs::write(path.join(\"new\"), std::process::id().to_string()).unwrap();
    std::fs::rename(path.join(\"new\"), path.join(\"pid\")).unwrap();
    loop { std::thread::park(); }
}
";

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the process runs; one that nobody has waited for yet does not.
fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with(['Z', 'X'])))
        .is_some_and(|ended| !ended)
}

#[test]
fn a_cancelled_build_leaves_no_process_and_frees_the_turn() {
    let home = Home::new();
    let plugin = home.plugin(
        "endless",
        &[
            ("Cargo.toml", &manifest("endless", CDYLIB)),
            ("src/lib.rs", &library("marker-01")),
            ("build.rs", ENDLESS),
        ],
    );
    let waiting = home.plugin(
        "waiting",
        &[
            ("Cargo.toml", &manifest("waiting", CDYLIB)),
            ("src/lib.rs", &library("marker-02")),
        ],
    );
    thread::scope(|scope| {
        let build = scope.spawn(|| home.build(&plugin, Wants::Library));
        let script = wait_for("build script", || {
            fs::read_to_string(plugin.root.join("pid")).ok()
        });
        assert!(runs(&script));
        // While it runs, another one waits for its turn, and can be cancelled just so.
        waiting.cancel.store(true, Ordering::Relaxed);
        let error = home.build(&waiting, Wants::Library).expect_err("cancelled");
        assert!(matches!(error, BuildError::Cancelled { .. }), "{error}");

        plugin.cancel.store(true, Ordering::Relaxed);
        let error = build.join().expect("no panic").expect_err("cancelled");
        assert_eq!(
            error.to_string(),
            "the build of plugin `endless` was cancelled"
        );
        let calls = fs::read_to_string(home.path().join("cargo.calls")).expect("it is there");
        let cargos = calls.lines().filter_map(|call| call.split(' ').next());
        for pid in cargos.chain([script.as_str()]) {
            wait_for("end of the process", || (!runs(pid)).then_some(()));
        }
    });
    waiting.cancel.store(false, Ordering::Relaxed);
    assert!(contains(&home.built_library(&waiting), "marker-02"));
}

#[test]
fn a_process_left_behind_does_not_hold_up_the_build() {
    let home = Home::new();
    // Inherits cargo's standard error for as long as it lives.
    let script = "#!/bin/sh\ncase \"$1\" in build) sleep 600 & echo $! > \"$0.left\";; esac\n\
                  exec cargo \"$@\"\n";
    let cargo = home.path().join("leaving");
    let made = Command::new("/bin/sh")
        .args([
            "-c",
            "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"",
            "sh",
            script,
        ])
        .arg(&cargo)
        .status();
    assert!(made.expect("there is a shell").success());
    let mut toolchain = home.toolchain.clone();
    toolchain.cargo = cargo.clone();
    let builder = Builder::new(folders(&home.path()), home.sdk.clone(), toolchain);
    let plugin = home.plugin(
        "leaver",
        &[
            ("Cargo.toml", &manifest("leaver", CDYLIB)),
            ("src/lib.rs", &library("marker-01")),
        ],
    );
    let start = Instant::now();
    let built = builder.build(&plugin.request(Wants::Library), &mut |_| {});
    let left = fs::read_to_string(cargo.with_extension("left")).expect("it was left");
    let ended = Command::new("kill").arg(left.trim()).status();
    assert!(
        ended.expect("there is kill").success(),
        "it was still there"
    );
    built.expect("it builds");
    assert!(start.elapsed() < Duration::from_secs(300));
}

#[test]
fn builders_of_other_processes_wait_as_well() {
    let folder = TempDir::new().expect("a temporary folder");
    // What another process would have: the same file, no memory in common.
    let turnstile = || Turnstile::new(folder.path().join("deeper/.lock"));
    let (ours, theirs) = (turnstile(), turnstile());
    let (wanted, cancelled) = (AtomicBool::new(false), AtomicBool::new(true));
    let turn = ours.wait(&wanted).expect("it is free");
    let refused = theirs.wait(&cancelled);
    assert!(matches!(refused, Err(NoTurn::Cancelled)), "{refused:?}");
    drop(turn);
    theirs.wait(&wanted).expect("it is free again");
}

#[test]
fn homes_that_share_a_target_folder_take_turns() {
    let home = Home::new();
    let target = home.path().join("shared");
    let elsewhere = |name: &str| BuildFolders {
        target: target.clone(),
        ..folders(&home.path().join(name))
    };
    let [one, other] = ["one", "other"]
        .map(|name| Builder::new(elsewhere(name), home.sdk.clone(), home.toolchain.clone()));
    let plugin = home.plugin(
        "twin",
        &[
            ("Cargo.toml", &manifest("twin", CDYLIB)),
            ("src/lib.rs", &library("marker-01")),
        ],
    );
    let request = plugin.request(Wants::Library);
    let cancelled = AtomicBool::new(true);
    let mut events = 0;
    let built = one.build(&request, &mut |_| {
        events += 1;
        let refused = other.turnstile.wait(&cancelled);
        assert!(matches!(refused, Err(NoTurn::Cancelled)), "{refused:?}");
    });
    built.expect("it builds");
    assert!(events > 0);
    other.turnstile.wait(&cancelled).expect("it is free again");
}
