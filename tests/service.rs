//! The core as a service: what it says to the manager that has started it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, plugins};

/// A service manager, as far as it listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(home: &TestHome) -> Self {
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the socket is free");
        socket
            .set_read_timeout(Some(DEADLINE))
            .expect("is not zero");
        Self { socket, path }
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a word comes in time");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Hears everything up to a word that begins so, which is the last one.
    fn hear(&self, until: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let word = self.next();
            let is_last = word.starts_with(until);
            heard.push(word);
            if is_last {
                return heard;
            }
        }
    }

    /// Starts a core without a terminal, as a service manager does.
    fn start(&self, home: &TestHome, more: &[(&str, &str)]) -> Core {
        let mut command = home.command_of("setsid", &["--wait", env!("CARGO_BIN_EXE_aigis")]);
        command
            .arg("build-and-run")
            .env("NOTIFY_SOCKET", &self.path);
        for (name, value) in more {
            command.env(name, value);
        }
        Core::start_by(home, command)
    }
}

/// Writes its environment where the test finds it, and stays.
const SHOWS: &str = "#!/bin/sh\nenv > \"$AIGIS_DATA/env\"\nexec sleep 1000\n";

fn pid_of(heard: &[String]) -> u32 {
    let pid = heard.iter().find_map(|word| word.strip_prefix("MAINPID="));
    pid.expect("the core says who it is")
        .parse()
        .expect("a number")
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn a_service_manager_hears_of_the_whole_life() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::external(&home, "shows", "", SHOWS);
    home.config("[external]\nshows = \"{sources}/shows\"\nmissing = \"{sources}/missing\"\n");
    let manager = Manager::new(&home);
    let core = manager.start(&home, &[("WATCHDOG_USEC", "300000")]);
    let heard = manager.hear("READY=1");
    let pid = pid_of(&heard);
    // It goes on saying so for as long as it answers.
    manager.hear("WATCHDOG=1");
    manager.hear("WATCHDOG=1");
    signal(pid, "STOP");
    // What is on its way is no word of a core that stands still: then there is silence.
    let silence = Duration::from_millis(900);
    manager
        .socket
        .set_read_timeout(Some(silence))
        .expect("is not zero");
    let mut bytes = [0; 4096];
    let mut words = 0;
    while manager.socket.recv(&mut bytes).is_ok() {
        words += 1;
        assert!(words < 100, "a stopped core goes on speaking");
    }
    manager
        .socket
        .set_read_timeout(Some(DEADLINE))
        .expect("is not zero");
    signal(pid, "CONT");
    manager.hear("WATCHDOG=1");
    signal(pid, "HUP");
    let heard = manager.hear("READY=1");
    assert!(
        heard
            .iter()
            .any(|word| word.starts_with("RELOADING=1\nMONOTONIC_USEC=")),
        "{heard:?}"
    );
    home.wait_for_core_log("SIGHUP: reading the config again");
    home.wait_for_core_log("applied ");
    // Each plugin that comes or goes is told.
    std::thread::scope(|scope| {
        // Heard meanwhile: the manager's socket takes only a few words that nobody reads.
        let stop = scope.spawn(|| home.aigis(&["stop", "shows"]));
        manager.hear("STATUS=2 plugins: 1 stopped, 1 failed (missing)");
        stop.join().expect("no panic").exited(0);
        let shutdown = scope.spawn(|| home.aigis(&["shutdown"]));
        manager.hear("STOPPING=1");
        shutdown.join().expect("no panic").exited(0);
    });
    core.wait().exited(0);
}

#[test]
fn plugins_do_not_hear_what_is_meant_for_the_core() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::external(&home, "shows", "", SHOWS);
    home.config("[external]\nshows = \"{sources}/shows\"\n");
    let manager = Manager::new(&home);
    let more = [
        ("WATCHDOG_USEC", "5000000"),
        ("WATCHDOG_PID", "1"),
        ("OTHER", "kept"),
    ];
    let core = manager.start(&home, &more);
    let heard = manager.hear("READY=1");
    // The watchdog is asked for by somebody else.
    assert!(
        !heard.iter().any(|word| word.starts_with("WATCHDOG")),
        "{heard:?}"
    );
    let environment = crate::support::eventually("the environment of the plugin", || {
        let text = std::fs::read_to_string(home.path().join("data/shows/env")).ok()?;
        text.contains("AIGIS_PLUGIN").then_some(text)
    });
    assert!(environment.contains("OTHER=kept"), "{environment}");
    for own in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        assert!(!environment.contains(own), "{environment}");
    }
    signal(pid_of(&heard), "TERM");
    manager.hear("STOPPING=1");
    core.wait().exited(0);
}

#[test]
fn an_address_that_is_none_is_refused() {
    let home = TestHome::new();
    home.config("[core]\n");
    let mut command = home.command(&["build-and-run"]);
    command.env("NOTIFY_SOCKET", "run/notify");
    let ran = crate::support::home::Ran::new(command.output().expect("aigis runs"));
    assert!(
        ran.stderr.contains("NOTIFY_SOCKET is `run/notify`"),
        "{ran:?}"
    );
    ran.exited(1);
}

#[test]
fn the_unit_names_commands_that_there_are() {
    let unit = include_str!("../config/aigis.service");
    let home = TestHome::new();
    let mut commands = 0;
    for line in unit.lines().filter(|line| line.starts_with("Exec")) {
        let Some((_, command)) = line.split_once("/usr/local/bin/aigis ") else {
            continue;
        };
        let name = command.split(' ').next().expect("a command");
        home.aigis(&[name, "--help"]).exited(0);
        commands += 1;
    }
    assert!(commands >= 2, "{unit}");
    for line in [
        "Type=notify",
        "NotifyAccess=all",
        "KillMode=process",
        "Delegate=yes",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
