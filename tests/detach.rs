//! A core in the background, and what people ask it and its logs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aigis_core::config::PluginKind;
use aigis_core::{PluginStatus, State};

use crate::support::core::Background;
use crate::support::home::TestHome;
use crate::support::{eventually, is_alive, plugins};

fn status(home: &TestHome) -> Vec<PluginStatus> {
    let printed = home.aigis(&["status", "--json"]).exited(0).stdout;
    serde_json::from_str(&printed).expect("is JSON")
}

fn states(home: &TestHome) -> Vec<(String, State)> {
    let found = status(home).into_iter();
    found.map(|status| (status.name, status.state)).collect()
}

fn core_pid(home: &TestHome) -> u32 {
    let session = aigis_plugin_api::connect(home.path()).expect("a core is there");
    session.core_pid()
}

/// Returns the parent and the session of a process.
fn family(pid: u32) -> (u32, u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let (_, fields) = stat.rsplit_once(')').expect("has a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields[index].parse().expect("is a number");
    (number(1), number(3))
}

#[test]
fn a_core_goes_on_in_the_background() {
    let home = TestHome::new();
    plugins::external(&home, "idle", "", "echo up $$; exec sleep 100000");
    plugins::external(&home, "done", "", "echo one; echo two; echo three; exit 0");
    home.config("[external]\nidle = \"{sources}/idle\"\ndone = \"{sources}/done\"\n");
    let ran = home.aigis(&["status"]).exited(5);
    assert!(
        ran.stdout.is_empty() && ran.stderr.contains("no core"),
        "{ran:#?}"
    );

    let _guard = Background(&home);
    // Its output is read to the end: the core holds none of it open.
    let ran = home.aigis(&["build-and-run", "--detach"]).exited(0);
    assert!(
        ran.stdout.contains("idle") && ran.stdout.contains("ready"),
        "{ran:#?}"
    );
    let pid = core_pid(&home);
    let (parent, session) = family(pid);
    let (_, own_session) = family(std::process::id());
    assert_eq!(session, pid, "leads a session of its own");
    assert_ne!(session, own_session);
    assert_ne!(parent, std::process::id());
    for number in 0..3 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("is open");
        let expected = match number {
            0 => "/dev/null".into(),
            _ => fs::canonicalize(home.path().join("log/aigis.out")).expect("is there"),
        };
        assert_eq!(target, expected, "descriptor {number}");
    }

    eventually("`done` to end", || {
        let expected = [
            ("idle".to_owned(), State::Ready),
            ("done".to_owned(), State::Finished),
        ];
        (states(&home) == expected).then_some(())
    });
    let found = status(&home);
    assert_eq!(
        (found[0].kind, found[0].restarts, found[0].generation),
        (PluginKind::External, 0, 1)
    );
    assert_eq!(found[0].source, home.source("idle").display().to_string());
    assert!(found[0].pid.is_some_and(is_alive) && found[1].pid.is_none());
    let table = home.aigis(&["status"]).exited(0).stdout;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let titles = "NAME KIND STATE PID RESTARTS GEN CPU MEM UPTIME LAST EXIT SOURCE";
    assert_eq!(rows[0].join(" "), titles);
    let idle_pid = found[0].pid.expect("runs").to_string();
    assert_eq!(
        rows[1][..6],
        ["idle", "external", "ready", &idle_pid, "0", "1"]
    );
    assert_eq!(rows[1].last(), Some(&found[0].source.as_str()));
    assert_eq!(
        rows[2][..6],
        ["done", "external", "finished", "-", "0", "1"]
    );

    // A second core has no place here, in the background or not.
    for arguments in [&["build-and-run"][..], &["build-and-run", "--detach"]] {
        let ran = home.aigis(arguments).exited(9);
        assert!(ran.stderr.contains(&format!("process {pid}")), "{ran:#?}");
    }
    assert_eq!(core_pid(&home), pid);

    let log = |arguments: &[&str]| home.aigis(arguments).exited(0).stdout;
    let last = log(&["logs", "done", "-n", "3"]);
    assert_eq!(last.lines().count(), 3, "{last}");
    assert!(last.ends_with("SHUTDOWN : Plugin shut down.\n"), "{last}");
    assert_eq!(log(&["logs", "done"]).lines().count(), 5);
    assert_eq!(
        log(&["logs", "done", "-n", "1000"]),
        home.plugin_log("done")
    );
    assert_eq!(log(&["logs", "-n", "1000"]), home.core_log());
    assert_eq!(log(&["logs", "done", "-n", "0"]), "");
    let ran = home.aigis(&["logs", "dome"]).exited(6);
    assert!(ran.stderr.contains("did you mean `done`"), "{ran:#?}");

    home.aigis(&["shutdown"]).exited(0);
    assert!(!is_alive(pid) && !is_alive(idle_pid.parse().expect("is a number")));
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["shutdown"],
        &["stop", "idle"],
    ] {
        let ran = home.aigis(arguments).exited(5);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:#?}");
    }
    // The logs are there without it.
    assert!(log(&["logs"]).ends_with(" : SHUTDOWN : shut down\n"));
}

#[test]
fn what_went_wrong_is_told_by_the_exit_code() {
    let home = TestHome::new();
    plugins::external(&home, "idle", "", "exec sleep 100000");
    plugins::external(
        &home,
        "slow",
        "REQUIREMENTS_COMMAND = \"sleep 100000\"",
        "exit 0",
    );
    let _guard = Background(&home);

    let ran = home.aigis(&["build-and-run", "--detach"]).exited(2);
    assert!(
        ran.stderr.contains("[external]"),
        "says what to write: {ran:#?}"
    );
    home.config("[external]\nidle = 3\n[extrenal]\n");
    let ran = home.aigis(&["build-and-run", "--detach"]).exited(2);
    assert!(ran.stderr.contains("config.aigis:2:8"), "{ran:#?}");
    assert!(
        ran.stderr.contains("extrenal"),
        "every mistake at once: {ran:#?}"
    );
    home.aigis(&["status"]).exited(5);

    home.config("[external]\nidle = \"{sources}/idle\"\nmissing = \"{sources}/missing\"\n");
    let ran = home.aigis(&["build-and-run", "--detach"]).exited(3);
    assert!(ran.stderr.contains("`missing` has failed"), "{ran:#?}");
    assert!(
        ran.stdout.contains("idle") && ran.stdout.contains("failed"),
        "{ran:#?}"
    );
    let expected = [
        ("idle".to_owned(), State::Ready),
        ("missing".to_owned(), State::Failed),
    ];
    assert_eq!(states(&home), expected);
    home.aigis(&["shutdown"]).exited(0);

    home.config("[external]\nidle = \"{sources}/idle\"\nslow = \"{sources}/slow\"\n");
    let begun = Instant::now();
    let ran = home
        .aigis(&["build-and-run", "--detach", "--timeout", "1"])
        .exited(8);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(ran.stderr.contains("slow (fetching)"), "{ran:#?}");
    let expected = [
        ("idle".to_owned(), State::Ready),
        ("slow".to_owned(), State::Fetching),
    ];
    assert_eq!(states(&home), expected, "the core goes on");
    home.aigis(&["shutdown"]).exited(0);
}

#[test]
fn logs_are_followed() {
    let home = TestHome::new();
    // Prints what is written into a pipe.
    let script =
        "mkfifo \"$AIGIS_DATA/pipe\"; echo listening; exec cat 3<> \"$AIGIS_DATA/pipe\" <&3";
    plugins::external(&home, "echo", "", script);
    home.config("[external]\necho = \"{sources}/echo\"\n");
    let host = home.host();
    home.wait_for_log("echo", "listening");
    let pipe = home.path().join("data/echo/pipe");
    let mut pipe = fs::File::options().write(true).open(pipe).expect("opens");
    pipe.write_all(b"line 1\nline 2\n").expect("writes");
    home.wait_for_log("echo", "line 2");

    let mut command: Command = home.command(&["logs", "echo", "-n", "1", "-f"]);
    let mut following = command.stdout(Stdio::piped()).spawn().expect("aigis runs");
    let printed = following.stdout.take().expect("is piped");
    let mut lines = BufReader::new(printed)
        .lines()
        .map(|line| line.expect("is text"));
    let mut next = || lines.next().expect("goes on");
    assert!(next().ends_with(" : INFO : line 2"));
    for number in 3..=20 {
        pipe.write_all(format!("line {number}\n").as_bytes())
            .expect("writes");
        if number % 5 == 0 {
            for earlier in number.max(7) - 4..=number {
                let line = next();
                assert!(
                    line.ends_with(&format!(" : INFO : line {earlier}")),
                    "{line}"
                );
            }
        }
    }
    host.stop("echo").expect("stops");
    eventually("the end in the log", || {
        next().contains("Plugin shut down.").then_some(())
    });
    following.kill().expect("is there");
    following.wait().expect("ends");
    host.shutdown();
}
