use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Place, assert_gone, launch, read_log, run};
use crate::config::RestartOptions;
use crate::supervisor::linux::Process;
use crate::supervisor::{
    Decision, Exit, Grant, LaunchError, LaunchFailure, LaunchSpec, RestartPolicy, ShimRecord,
};

/// Launches what must fail and returns why it did.
async fn failure(place: &Place, spec: LaunchSpec) -> LaunchFailure {
    let invocation = spec.invocation.clone();
    let error = launch(spec).await.expect_err("it cannot be launched");
    assert_gone(&invocation);
    assert!(!place.path("run/p.json").exists(), "the record is left");
    match error {
        LaunchError::Plugin { source, .. } => {
            let logged = place.logged("ERROR");
            assert_eq!(logged.len(), 1, "{logged:?}");
            assert!(logged[0].contains(&source.to_string()), "{logged:?}");
            source
        }
        other => panic!("expected a failure of the plugin, found {other:?}"),
    }
}

#[test]
fn the_first_line_opens_the_launch_and_the_last_tells_the_exit() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("echo 'two  words'; exit 3").await;
        let pid = plugin.pid();
        assert_eq!(plugin.wait().await, Exit::Code(3));
        assert_eq!(plugin.wait().await, Exit::Code(3), "it can be asked again");
        assert_eq!(
            place.logged("BOOT"),
            [format!(
                "started pid {pid}: /bin/sh -c \"echo 'two  words'; exit 3\""
            )]
        );
        assert_eq!(place.logged("INFO"), ["two  words"]);
        assert_eq!(place.logged("ERROR"), ["Process exited with code 3"]);
        let log = place.log();
        let levels: Vec<_> = log.lines().filter_map(|l| l.split(" : ").nth(1)).collect();
        assert_eq!(levels, ["BOOT", "INFO", "ERROR"]);
    });
}

#[test]
fn a_signal_is_told_by_number_and_name() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("kill -SEGV $$").await;
        assert_eq!(plugin.wait().await, Exit::Signal(11));
        assert_eq!(
            place.logged("ERROR"),
            ["Process exited with code -11 (killed by SIGSEGV)"]
        );
    });
}

/// Runs a script as often as its policy says and returns how it ended.
async fn run_with_restarts(place: &Place, restarts: u32, script: &str) -> Decision {
    let options = RestartOptions {
        backoff: Duration::from_millis(1),
        ..RestartOptions::times(restarts)
    };
    let mut policy = RestartPolicy::new(&options, 1);
    loop {
        let since = Instant::now();
        let plugin = place.launch(script).await;
        let exit = plugin.wait().await;
        match policy.on_exit(&exit, since.elapsed()) {
            Decision::Restart { after, .. } => sleep(after).await,
            end => return end,
        }
    }
}

#[test]
fn failures_are_restarted_as_often_as_asked_for() {
    let cases = [
        (2, "echo run; exit 1", 3, Decision::CrashLoop),
        (2, "echo run; exit 0", 1, Decision::Finished),
        (2, "echo run; kill -SEGV $$", 3, Decision::CrashLoop),
        (0, "echo run; exit 1", 1, Decision::Failed),
    ];
    run(async {
        for (restarts, script, runs, end) in cases {
            let place = Place::new();
            assert_eq!(run_with_restarts(&place, restarts, script).await, end);
            assert_eq!(
                place.logged("INFO").iter().filter(|l| *l == "run").count(),
                runs
            );
            assert_eq!(place.logged("BOOT").len(), runs);
        }
    });
}

#[test]
fn folder_arguments_and_environment_are_as_given() {
    let place = Place::new();
    fs::create_dir(place.path("sub")).expect("a folder");
    run(async {
        let mut spec = place
            .script("pwd; printf '%s|' \"$@\"; echo; env")
            .env("NAME", "a value")
            .env("ODD", "line\nbreak");
        let more = ["zero", "one two", "", "*", "$HOME", "\"'"];
        spec.args.extend(more.map(Into::into));
        spec.cwd = place.path("sub").into();
        let plugin = launch(spec.clone()).await.expect("it is launched");
        assert_eq!(plugin.wait().await, Exit::Code(0));
        let mut lines = place.logged("INFO");
        lines.pop();
        let folder = place.path("sub").canonicalize().expect("the folder");
        assert_eq!(lines.remove(0), folder.display().to_string());
        assert_eq!(lines.remove(0), "one two||*|$HOME|\"'|");
        // The shell adds PWD by itself.
        lines.retain(|line| !line.starts_with("PWD="));
        lines.sort();
        let mut expected = vec![
            "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
            "NAME=a value".to_owned(),
            "ODD=line".to_owned(),
            "break".to_owned(),
            format!("AIGIS_INVOCATION={}", spec.invocation),
        ];
        expected.sort();
        assert_eq!(lines, expected);
    });
}

#[test]
fn the_program_is_found_as_a_shell_would() {
    let place = Place::new();
    let write = |name: &str, text: &str, mode| {
        let path = place.path(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode is set");
    };
    for folder in ["first", "second"] {
        fs::create_dir(place.path(folder)).expect("a folder");
    }
    write("first/tool", "not executable", 0o644);
    write("second/tool", "#!/bin/sh\necho from PATH", 0o755);
    write("tool", "#!/bin/sh\necho from the folder", 0o755);
    run(async {
        for (program, expected) in [("tool", "from PATH"), ("./tool", "from the folder")] {
            let spec = place.spec(program).env("PATH", "first:second:/bin");
            let plugin = launch(spec).await.expect("it is launched");
            assert_eq!(plugin.wait().await, Exit::Code(0));
            assert!(place.logged("INFO").contains(&expected.to_owned()));
        }
    });
}

#[test]
fn what_cannot_be_run_is_a_clear_error() {
    let check = |name: &str, make: &dyn Fn(&Place) -> LaunchSpec| {
        let place = Place::new();
        let spec = make(&place);
        let failure = run(failure(&place, spec));
        let folder = place.folder.path().display().to_string();
        (failure.clone(), failure.to_string().replace(&folder, name))
    };
    let write = |place: &Place, text: &str, mode| {
        let path = place.path("x");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode is set");
    };

    let (found, text) = check("F", &|place| place.spec("./missing"));
    assert!(matches!(found, LaunchFailure::NotFound { .. }), "{found:?}");
    assert!(
        text.contains("`./missing` was not found in the working folder `F`"),
        "{text}"
    );

    let (found, text) = check("F", &|place| place.spec("no-such-program"));
    assert!(matches!(found, LaunchFailure::NotFound { .. }), "{found:?}");
    assert!(
        text.contains("not found in PATH (/usr/local/bin:"),
        "{text}"
    );

    let (found, text) = check("F", &|place| {
        write(place, "#!/bin/sh\n", 0o644);
        place.spec("./x")
    });
    assert!(
        matches!(found, LaunchFailure::NotExecutable { .. }),
        "{found:?}"
    );
    assert!(text.contains("F/./x` is not an executable file"), "{text}");

    let (found, _) = check("F", &|place| {
        fs::create_dir(place.path("x")).expect("a folder");
        place.spec("./x")
    });
    assert!(
        matches!(found, LaunchFailure::NotExecutable { .. }),
        "{found:?}"
    );

    let (found, _) = check("F", &|place| {
        write(place, "#!/no/such/interpreter\n", 0o755);
        place.spec("./x")
    });
    assert!(
        matches!(found, LaunchFailure::NoInterpreter { .. }),
        "{found:?}"
    );

    let (found, text) = check("F", &|place| {
        let mut spec = place.spec("/bin/true");
        spec.cwd = place.path("missing").into();
        spec
    });
    assert!(
        matches!(found, LaunchFailure::CwdMissing { .. }),
        "{found:?}"
    );
    assert!(text.contains("`F/missing` does not exist"), "{text}");

    let (found, _) = check("F", &|place| {
        let mut spec = place.spec("/bin/true");
        spec.session = Some(Grant(vec![0; 40_000]));
        spec
    });
    assert_eq!(found, LaunchFailure::GrantTooLong { bytes: 40_000 });

    let (found, _) = check("F", &|place| {
        place.script("true").env("TOO_LONG", "x".repeat(1_000_000))
    });
    assert!(matches!(found, LaunchFailure::Exec { .. }), "{found:?}");
}

#[test]
fn a_log_that_cannot_be_opened_is_a_clear_error() {
    let place = Place::new();
    let mut spec = place.script("true");
    spec.log = place.folder.path().into();
    let error = run(launch(spec)).expect_err("the log is a folder");
    match error {
        LaunchError::Plugin {
            source: LaunchFailure::Log { message },
            ..
        } => assert!(
            message.contains("is a directory") || message.contains("Is a directory"),
            "{message}"
        ),
        other => panic!("expected a failure of the log, found {other:?}"),
    }
}

#[test]
fn a_shim_that_is_none_is_a_clear_error() {
    let place = Place::new();
    run(async {
        let error =
            crate::supervisor::Supervised::launch("/no/such/aigis".as_ref(), place.script("true"))
                .await
                .expect_err("there is no such program");
        assert!(matches!(error, LaunchError::Shim { .. }), "{error:?}");
        let error =
            crate::supervisor::Supervised::launch("/bin/true".as_ref(), place.script("true"))
                .await
                .expect_err("that is no shim");
        assert!(matches!(error, LaunchError::ShimEnded { .. }), "{error:?}");
    });
}

#[test]
fn a_plugin_is_not_launched_twice() {
    let place = Place::new();
    run(async {
        let first = place.launch("echo ready; exec sleep 1000").await;
        let error = launch(place.script("true")).await.expect_err("it runs");
        assert!(
            matches!(
                error,
                LaunchError::Plugin {
                    source: LaunchFailure::AlreadyRunning { .. },
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(first.leader_exit().is_none());
        first.stop(Duration::from_secs(5)).await;
        let second = place.launch("exit 0").await;
        assert_eq!(second.wait().await, Exit::Code(0));
    });
}

#[test]
fn the_record_names_the_processes_and_goes_with_them() {
    let place = Place::new();
    run(async {
        let spec = place.script("exec sleep 1000");
        let invocation = spec.invocation.clone();
        let plugin = launch(spec).await.expect("it is launched");
        let path = place.path("run/p.json");
        let record = ShimRecord::read(&path)
            .expect("it can be read")
            .expect("it is there");
        assert_eq!(record.plugin.as_str(), "p");
        assert_eq!(record.invocation, invocation);
        assert_eq!(record.shim_pid, plugin.shim_pid());
        assert_eq!(record.pid, Some(plugin.pid()));
        assert_eq!(record.start_time, Some(plugin.start_time()));
        let process = Process::read(plugin.pid() as i32).expect("it runs");
        assert_eq!(process.start_time, plugin.start_time());
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
        assert_eq!(record.boot_id, boot_id.trim());
        record
            .started_at
            .parse::<jiff::Timestamp>()
            .expect("a time");
        let file = fs::File::open(&path).expect("it is there");
        assert!(file.try_lock().is_err(), "the record is not locked");
        plugin.stop(Duration::from_secs(5)).await;
        assert!(!path.exists());
        assert!(!super::is_alive(plugin.shim_pid()));
    });
}

#[test]
fn the_plugin_leads_a_session_of_its_own() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("exec sleep 1000").await;
        let pid = plugin.pid() as i32;
        let process = Process::read(pid).expect("it runs");
        assert_eq!((process.group, process.session), (pid, pid));
        let shim = Process::read(plugin.shim_pid() as i32).expect("it runs");
        assert_eq!(shim.session, shim.pid);
        assert_eq!(process.parent, shim.pid);
        plugin.kill().await;
    });
}

#[test]
fn the_session_is_the_only_other_descriptor() {
    let place = Place::new();
    run(async {
        let mut spec = place.script(
            "ls /proc/$$/fd; echo fd $AIGIS_SESSION_FD; eval cat \"<&$AIGIS_SESSION_FD\"; readlink /proc/$$/fd/0",
        );
        spec.session = Some(Grant(b"endpoint\ntoken\n".to_vec()));
        let plugin = launch(spec).await.expect("it is launched");
        assert_eq!(plugin.wait().await, Exit::Code(0), "{}", place.log());
        let lines = place.logged("INFO");
        let session = lines[4].strip_prefix("fd ").expect("the number").to_owned();
        assert_eq!(lines[..4], ["0", "1", "2", &session], "{lines:?}");
        assert_eq!(lines[5..8], ["endpoint", "token", "/dev/null"]);
    });
}

#[test]
fn without_a_session_there_is_no_other_descriptor() {
    let place = Place::new();
    run(async {
        let plugin = place
            .launch("ls /proc/$$/fd; echo [$AIGIS_SESSION_FD]")
            .await;
        plugin.wait().await;
        assert_eq!(place.logged("INFO")[..4], ["0", "1", "2", "[]"]);
    });
}

#[test]
fn lines_of_the_core_are_logged_in_order() {
    let place = Place::new();
    run(async {
        use crate::logging::Level;
        let plugin = place.launch("echo ready; exec sleep 1000").await;
        for number in 0..1000 {
            assert!(plugin.log(Level::Warn, format!("line {number}")));
        }
        plugin.log(Level::Error, "two\nlines");
        plugin.stop(Duration::from_secs(5)).await;
        assert!(!plugin.log(Level::Warn, "too late"));
        let expected: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
        assert_eq!(place.logged("WARNING"), expected);
        let log = read_log(&place.path("p.log"));
        assert!(log.contains(" : ERROR : two\n    | lines\n"), "{log}");
    });
}
