//! Where secrets are while a plugin runs, and that they are gone after every kind of end.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use aigis_core::{PluginStatus, State};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{eventually, is_alive, plugins};

/// Says what it is told of its secrets, and runs on.
const HOLDER: &str = "\
echo \"dir $AIGIS_SECRETS_DIR $CREDENTIALS_DIRECTORY\"
echo \"read $(tr a-z A-Z < keys/key) as $(id -u)\"
env > environment; tr '\\0' ' ' < /proc/$$/cmdline >> environment
exec sleep 600";

const SECRET: &str = "hush-hush";

struct Place {
    home: TestHome,
}

impl Place {
    /// A home with one plugin, which wants one secret.
    fn new(options: &str) -> Self {
        let home = TestHome::new();
        let options = format!("SECRETS = {{ key = \"{{root}}/keys\" }}\n{options}");
        plugins::external(&home, "holder", &options, HOLDER);
        home.config("[external]\nholder = \"{sources}/holder\"\n");
        home.write("secrets/holder/key", SECRET);
        Self { home }
    }

    fn link(&self) -> PathBuf {
        self.home.path().join("ext/holder/keys/key")
    }

    /// Returns the folder that the link leads to.
    fn folder(&self) -> PathBuf {
        let file = fs::read_link(self.link()).expect("a link");
        file.parent().expect("is in a folder").to_owned()
    }

    fn status(&self) -> PluginStatus {
        let session = aigis_plugin_api::connect(self.home.path()).expect("connects");
        let all: Vec<PluginStatus> = session.call("aigis.status", ()).expect("answers");
        all.into_iter().next().expect("there is one")
    }

    /// Waits until nothing of a delivery is there any more.
    fn is_gone(&self, folder: &Path) {
        eventually("the end of the secrets' folder", || {
            (!folder.exists()).then_some(())
        });
        eventually("the end of the record", || {
            self.records().is_empty().then_some(())
        });
        assert!(!self.link().is_symlink(), "the link is left");
    }

    fn records(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.path().join("run/secrets"));
        let paths = entries
            .expect("is there")
            .flatten()
            .map(|entry| entry.path());
        paths.filter(|path| path.is_file()).collect()
    }
}

fn kill(pid: u32) {
    let status = Command::new("kill")
        .args(["-s", "KILL", &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::symlink_metadata(path).expect("is there");
    metadata.permissions().mode() & 0o7777
}

/// Tells whether there is a place in memory that every core may use.
fn has_memory() -> bool {
    let mounts = fs::read_to_string("/proc/mounts").expect("reads");
    mounts.lines().any(|line| line.contains(" /dev/shm tmpfs "))
}

#[test]
fn secrets_are_in_memory_and_go_with_the_plugin() {
    let place = Place::new("");
    let core = Core::start(&place.home);
    place.home.wait_for_log("holder", "read HUSH-HUSH");
    let folder = place.folder();
    match has_memory() {
        true => {
            let kind = Command::new("stat")
                .args(["-f", "-c", "%T"])
                .arg(&folder)
                .output();
            let kind = String::from_utf8(kind.expect("stat runs").stdout).expect("is text");
            assert_eq!(kind.trim(), "tmpfs", "{}", folder.display());
        }
        false => eprintln!("there is no /dev/shm in memory here: where they are is not tested"),
    }
    let line = place.home.wait_for_log("holder", "dir ");
    let expected = format!("dir {0} {0}", folder.display());
    assert!(line.ends_with(&expected), "{line}");
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(folder.parent().expect("has one")), 0o700);
    assert_eq!(mode(&folder.join("key")), 0o400);
    let name = folder
        .file_name()
        .expect("has one")
        .to_string_lossy()
        .into_owned();
    assert!(name.starts_with("holder-"), "{name}");

    // A process of its own, restarted, has a folder of its own.
    let before = place.status();
    assert_eq!(before.state, State::Ready);
    place.home.aigis(&["reload", "holder"]).exited(0);
    let next = eventually("the next folder", || {
        Some(place.folder()).filter(|next| *next != folder && next.is_dir())
    });
    eventually("the end of the first folder", || {
        (!folder.exists()).then_some(())
    });

    place.home.aigis(&["stop", "holder"]).exited(0);
    assert!(!next.exists(), "a stop is over when they are gone");
    place.is_gone(&next);
    let stopped = place.status();
    let last = stopped.last_exit.expect("it has ended");
    assert_eq!(last.exit, aigis_core::supervisor::Exit::Signal(15));

    // Nothing that is written anywhere holds the value.
    let environment = place.home.read("ext/holder/environment");
    assert!(environment.contains("AIGIS_SECRETS_DIR="), "{environment}");
    assert!(!environment.contains(SECRET), "{environment}");
    for log in [place.home.core_log(), place.home.plugin_log("holder")] {
        assert!(!log.contains(SECRET), "{log}");
    }
    drop(core);
}

#[test]
fn secrets_are_gone_after_each_kind_of_death() {
    let options = "ON_CORE_DEATH = \"stop\"\nRESTART = { count = 3, backoff = \"50ms\" }";
    let place = Place::new(options);
    let core = Core::start(&place.home);
    // The plugin: the next process has others.
    let first = place.folder();
    let status = place.status();
    kill(status.pid.expect("runs"));
    eventually("the restart", || {
        let now = place.status();
        (now.state == State::Ready && now.restarts == 1).then_some(())
    });
    assert!(!first.exists(), "those of the killed process are left");
    let second = place.folder();
    assert!(second.is_dir());
    let last = place.status().last_exit.expect("it was killed");
    assert_eq!(last.exit, aigis_core::supervisor::Exit::Signal(9));

    // The shim: the core does its work.
    kill(place.status().processes[0].shim.expect("runs"));
    eventually("the restart", || {
        let now = place.status();
        (now.state == State::Ready && now.restarts == 2).then_some(())
    });
    assert!(!second.exists(), "those of the lost shim are left");
    let third = place.folder();
    assert!(third.is_dir());

    // The core: the shim stops the plugin and does the core's work.
    let shim = place.status().processes[0].shim.expect("runs");
    core.signal("KILL");
    assert_eq!(core.died(), 9);
    place.is_gone(&third);
    eventually("the end of the shim", || (!is_alive(shim)).then_some(()));
}

#[test]
fn secrets_stay_with_what_outlives_its_core() {
    let place = Place::new("RESTART = { count = 3, backoff = \"50ms\" }");
    let options =
        "SECRETS = { key = \"{root}/keys\" }\nRESTART = { count = 3, backoff = \"50ms\" }";
    let teller = "echo \"raw $(cat keys/key)\"; exec sleep 600";
    plugins::external(&place.home, "holder", options, teller);
    let core = Core::start(&place.home);
    let (folder, first) = (place.folder(), place.status());
    core.signal("KILL");
    assert_eq!(core.died(), 9);

    // The next core leaves them to the process, and another one as well that takes over from it.
    let core = Core::start(&place.home);
    let is_same = |now: PluginStatus| {
        assert_eq!((now.state, now.pid), (State::Ready, first.pid));
        assert_eq!(place.folder(), folder);
        let read = fs::read_to_string(place.link()).expect("is there");
        assert_eq!(read, SECRET);
        assert_eq!(place.records().len(), 1);
    };
    is_same(place.status());
    let next = Core::begin_by(place.home.command(&["build-and-run", "--takeover"]));
    core.wait().exited(0);
    let pid = next.pid();
    eventually("the next core", || {
        let session = aigis_plugin_api::connect(place.home.path()).ok()?;
        (session.core_pid() == pid).then_some(())
    });
    is_same(place.status());

    // A core that has taken them over may be the last to hold them, and those of the next process are others.
    kill(first.pid.expect("runs"));
    eventually("the restart", || {
        let now = place.status();
        (now.state == State::Ready && now.restarts == 1).then_some(())
    });
    assert!(!folder.exists(), "those of the killed process are left");
    let second = place.folder();
    assert!(second.is_dir());
    // What the first core has known of the plugin's log the next one knows as well.
    eventually("both lines", || {
        let log = place.home.plugin_log("holder");
        assert!(!log.contains(SECRET), "{log}");
        (log.matches("raw ").count() >= 2).then_some(())
    });

    // What ends without a core takes them along.
    let status = place.status();
    next.signal("KILL");
    assert_eq!(next.died(), 9);
    kill(status.pid.expect("runs"));
    place.is_gone(&second);
    let core = Core::start(&place.home);
    let third = eventually("the restart", || {
        let now = place.status();
        (now.state == State::Ready && now.restarts == 2).then(|| place.folder())
    });
    let last = place.status().last_exit.expect("it was killed");
    assert_eq!(last.exit, aigis_core::supervisor::Exit::Signal(9));
    core.signal("TERM");
    core.wait().exited(0);
    place.is_gone(&third);
}

#[test]
fn a_starting_core_clears_up_after_those_that_could_not() {
    for system_restarts in [false, true] {
        let place = Place::new("");
        let core = Core::start(&place.home);
        let (folder, status) = (place.folder(), place.status());
        let shim = status.processes[0].shim.expect("runs");
        // So that the shim cannot do it when the core is gone.
        let stopped = Command::new("kill")
            .args(["-s", "STOP", &shim.to_string()])
            .status();
        assert!(stopped.expect("kill runs").success());
        core.signal("KILL");
        assert_eq!(core.died(), 9);
        kill(shim);
        eventually("the end of the shim", || (!is_alive(shim)).then_some(()));
        kill(status.pid.expect("runs"));
        assert!(folder.is_dir(), "nobody was there to do it");
        let records = place.records();
        assert_eq!(records.len(), 1, "{records:?}");
        let record = fs::read_to_string(&records[0]).expect("reads");
        assert!(!record.contains(SECRET), "{record}");
        if system_restarts {
            // The memory is empty then, and the link leads nowhere.
            fs::remove_dir_all(folder.parent().expect("has one")).expect("ours");
        }

        place.home.config("");
        let core = Core::start(&place.home);
        place.is_gone(&folder);
        assert!(!folder.parent().expect("has one").exists());
        drop(core);
    }
}

#[test]
fn a_source_that_others_can_read_is_refused_unless_that_is_meant() {
    for (options, taken) in [("", false), ("READABLE_SECRETS = true", true)] {
        let place = Place::new(options);
        let source = place.home.path().join("secrets/holder/key");
        fs::set_permissions(&source, fs::Permissions::from_mode(0o644)).expect("ours");
        let host = place.home.host();
        let status = host.status().remove(0);
        if taken {
            assert_eq!(status.state, State::Ready, "{status:?}");
            assert_eq!(mode(&place.folder().join("key")), 0o400);
            continue;
        }
        assert_eq!(status.state, State::Failed);
        let error = status.error.expect("says why");
        let command = format!("chmod 600 {}", source.display());
        assert!(error.contains(&command), "{error}");
        assert!(!place.link().is_symlink());
        fs::set_permissions(&source, fs::Permissions::from_mode(0o600)).expect("ours");
        host.start_plugin("holder")
            .expect("nobody else can read it");
    }
}

#[test]
fn secrets_belong_to_the_user_of_the_plugin() {
    if !is_root() {
        eprintln!("only root starts processes of others: nothing is tested");
        return;
    }
    let place = Place::new("USER = \"65534\"\nGROUP = \"65534\"");
    // The user has to come to its own folder.
    let mut folder = place.home.path();
    while folder.starts_with(std::env::temp_dir()) && folder != std::env::temp_dir() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("ours");
        folder = folder.parent().expect("is below another").to_owned();
    }
    // It writes its environment into the folder that it runs in.
    let host = place.home.host();
    let line = place.home.wait_for_log("holder", "read ");
    assert!(line.ends_with("read HUSH-HUSH as 65534"), "{line}");
    let folder = place.folder();
    for path in [&folder, &folder.join("key")] {
        let metadata = fs::metadata(path).expect("is there");
        assert_eq!(
            (metadata.uid(), metadata.gid()),
            (65534, 65534),
            "{}",
            path.display()
        );
    }
    assert_eq!((mode(&folder), mode(&folder.join("key"))), (0o700, 0o400));
    let shared = folder.parent().expect("has one");
    assert_eq!(mode(shared), 0o711);
    assert_eq!(fs::metadata(shared).expect("is there").uid(), 0);
    host.stop("holder").expect("runs");
    place.is_gone(&folder);
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
