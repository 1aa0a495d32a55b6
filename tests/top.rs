//! What plugins use, as `aigis status` and `aigis top` show it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use aigis_core::{PluginStatus, State};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

use crate::support::home::TestHome;
use crate::support::{DEADLINE, eventually, plugins, reaches};

/// One plugin that is busy in a child of a child, one that sleeps, and one that has ended.
fn home() -> TestHome {
    let home = TestHome::new();
    let busy = "sh -c 'sh -c \"while :; do :; done\"; true' &\nexec sleep 600";
    plugins::external(&home, "busy", "", busy);
    plugins::external(&home, "idle", "", "exec sleep 600");
    plugins::external(&home, "over", "", "exit 3");
    home.config(
        "[external]\nidle = \"{sources}/idle\"\nbusy = \"{sources}/busy\"\nover = \"{sources}/over\"\n",
    );
    home
}

fn of(all: &[PluginStatus], name: &str) -> PluginStatus {
    let found = all.iter().find(|status| status.name == name);
    found.cloned().expect("is there")
}

#[test]
fn status_tells_what_whole_trees_use() {
    let home = home();
    let host = home.host();
    reaches(&host, "over", State::Failed);
    let used = eventually("the busy grandchild", || {
        let status = of(&host.status(), "busy");
        (status.cpu_ms > Some(200)).then_some(status)
    });
    assert!(used.tree >= Some(3), "{used:?}");
    assert!(used.memory_bytes > Some(64 << 10), "{used:?}");
    assert!(used.cpu_percent > Some(0.0), "{used:?}");
    let process = &used.processes[0];
    assert_eq!(process.cpu_ms, used.cpu_ms);
    assert!(process.shim.is_some() && process.started.is_some());
    let idle = of(&host.status(), "idle");
    assert_eq!(idle.tree, Some(1), "{idle:?}");
    assert!(idle.cpu_ms < used.cpu_ms, "{idle:?}");
    let over = of(&host.status(), "over");
    assert_eq!((over.cpu_ms, over.tree, over.pid), (None, None, None));
    let last = over.last_exit.expect("it has ended");
    assert_eq!(last.exit, aigis_core::supervisor::Exit::Code(3));

    let table = home.aigis(&["status"]).exited(0).stdout;
    for part in [
        "CPU",
        "MEM",
        "UPTIME",
        "LAST EXIT",
        "code 3, ",
        "iB",
        "\naigis ",
    ] {
        assert!(table.contains(part), "no `{part}` in\n{table}");
    }
    let json: Value =
        serde_json::from_str(&home.aigis(&["status", "--json"]).exited(0).stdout).expect("is JSON");
    let busy = &json.as_array().expect("a list")[1];
    assert!(busy["cpu_ms"].as_u64() > Some(200), "{busy}");
    assert!(
        busy["memory_bytes"].is_u64() && busy["cpu_percent"].is_number(),
        "{busy}"
    );

    // Elsewhere than on a terminal the tables follow one another.
    let shown = home
        .aigis(&["top", "--interval", "300ms", "-n", "2"])
        .exited(0)
        .stdout;
    assert!(!shown.contains('\x1b'), "{shown:?}");
    assert_eq!(shown.matches("NAME").count(), 2, "{shown}");
    let first = shown
        .lines()
        .skip_while(|line| !line.starts_with("NAME"))
        .nth(1);
    assert!(
        first.is_some_and(|line| line.starts_with("busy")),
        "{shown}"
    );
}

/// Makes a terminal; the second is the end that programs have.
fn terminal(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("is ours");
    unlockpt(&master).expect("is ours");
    let name = ptsname(&master, Vec::new())
        .expect("has a name")
        .into_bytes();
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        // It is not to become the terminal of the tests.
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
        .open(std::ffi::OsString::from_vec(name))
        .expect("opens");
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).expect("is a terminal");
    (master, slave.into())
}

#[test]
fn top_takes_the_terminal_and_gives_it_back() {
    let home = home();
    let _host = home.host();
    for (keys, color) in [(Some("q"), true), (Some("\x03"), false), (None, true)] {
        let (master, slave) = terminal(50, 20);
        let before = tcgetattr(&slave).expect("is a terminal");
        let end = |slave: &OwnedFd| Stdio::from(slave.try_clone().expect("is copied"));
        let mut command = home.command(&["top", "--interval", "100ms"]);
        if !color {
            command.env("NO_COLOR", "1");
        }
        command
            .stdin(end(&slave))
            .stdout(end(&slave))
            .stderr(end(&slave));
        let mut child = command.spawn().expect("aigis starts");
        drop(command);
        let mut reader = File::from(master.try_clone().expect("is copied"));
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut text = Vec::new();
        let mut wait_for = |needle: &str| {
            while !String::from_utf8_lossy(&text).contains(needle) {
                let more = shown.recv_timeout(DEADLINE);
                let more = more.unwrap_or_else(|_| {
                    panic!("no {needle:?} in {:?}", String::from_utf8_lossy(&text))
                });
                text.extend(more);
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        wait_for("\x1b[?1049h");
        // A second look comes by itself.
        let first = wait_for("\x1b[J");
        assert!(first.contains("busy") && first.contains("CPU"), "{first:?}");
        assert!(
            !first.contains("SOURCE"),
            "there is no room for it: {first:?}"
        );
        assert_eq!(first.contains("\x1b[7m"), color, "{first:?}");
        match keys {
            Some(keys) => File::from(master.try_clone().expect("is copied"))
                .write_all(keys.as_bytes())
                .expect("is typed"),
            None => {
                let pid = child.id().to_string();
                let status = Command::new("kill").args(["-s", "TERM", &pid]).status();
                assert!(status.expect("kill runs").success());
            }
        }
        wait_for("\x1b[?1049l");
        let status = eventually("the end of top", || child.try_wait().expect("is ours"));
        assert!(status.success(), "{status}");
        let after = tcgetattr(&slave).expect("is a terminal");
        assert_eq!(before.local_modes, after.local_modes);
    }
}
