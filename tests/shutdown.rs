//! The end of a core: whoever asks for it, and whatever it is in the middle of.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::core::Core;
use crate::support::home::{Ran, TestHome};
use crate::support::{eventually, is_alive, plugins};

/// A core plugin whose `cleanup` writes what it finds into the folder of its settings, and then
/// does `END`.
const WITH_CLEANUP: &str = r#"
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{Context, SettingsError, skills};

#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde")]
pub struct NAME {
    folder: PathBuf,
}

#[skills]
impl NAME {
    pub fn new(ctx: &Context) -> Result<Self, SettingsError> {
        ctx.settings()
    }

    pub fn ping(&self) -> bool {
        true
    }

    pub fn cleanup(self) -> Result<(), String> {
        let note = format!(
            "NAME internal={} external={}\n",
            is_there(&self.folder.join("internal")),
            is_there(&self.folder.join("external")),
        );
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("order"))
            .map_err(|error| error.to_string())?;
        file.write_all(note.as_bytes()).map_err(|error| error.to_string())?;
        END
    }
}

fn is_there(file: &Path) -> bool {
    let pid = fs::read_to_string(file).expect("the process has said who it is");
    Path::new("/proc").join(pid.trim()).exists()
}
"#;

const INTERNAL: &str = r#"
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{Context, launch};

#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde")]
struct Settings {
    folder: PathBuf,
}

#[launch]
fn launch(ctx: &Context) -> Result<(), Box<dyn Error>> {
    let settings: Settings = ctx.settings()?;
    fs::write(settings.folder.join("internal"), std::process::id().to_string())?;
    println!("noted");
    loop {
        std::thread::park();
    }
}
"#;

/// Makes a home with every kind of plugin, and the folder that they write into.
fn home_of_five() -> TestHome {
    let home = TestHome::new();
    for (name, end) in [
        ("good", "Ok(())"),
        ("wrong", "Err(\"the door is jammed\".to_owned())"),
        ("worse", "panic!(\"the floor is gone\")"),
    ] {
        let library = WITH_CLEANUP
            .replace("NAME", &type_of(name))
            .replace("END", end);
        plugins::core(&home, name, &library);
    }
    plugins::internal(&home, "daemon", INTERNAL);
    // Takes its time, so that there is a while to be interrupted again in.
    let script = "trap 'sleep 1; echo bye; exit 0' TERM\n\
        echo $$ > \"$1\"/external; echo noted; while :; do sleep 0.05; done";
    plugins::external(&home, "script", "", script);
    let folder = home.path().join("notes");
    fs::create_dir(&folder).expect("makes the folder");
    let folder = folder.display().to_string();
    home.config(&format!(
        "[core]\n\
         wrong = {{ source = \"{{sources}}/wrong\", settings = {{ folder = {folder:?} }} }}\n\
         worse = {{ source = \"{{sources}}/worse\", settings = {{ folder = {folder:?} }} }}\n\
         good = {{ source = \"{{sources}}/good\", settings = {{ folder = {folder:?} }} }}\n\
         [internal]\n\
         daemon = {{ source = \"{{sources}}/daemon\", settings = {{ folder = {folder:?} }} }}\n\
         [external]\n\
         script = {{ source = \"{{sources}}/script\", launch = [\"./run.sh\", {folder:?}] }}\n",
    ));
    home
}

fn type_of(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

/// Starts the core of `home_of_five` and waits until its processes have said who they are.
fn start(home: &TestHome) -> Core {
    let core = Core::start(home);
    for note in ["notes/internal", "notes/external"] {
        eventually(note, || (!home.read(note).is_empty()).then_some(()));
    }
    core
}

fn remove_notes_and_logs(home: &TestHome) {
    for folder in ["notes", "log"] {
        fs::remove_dir_all(home.path().join(folder)).expect("is removed");
    }
    fs::create_dir(home.path().join("notes")).expect("is made again");
}

fn check_clean_end(home: &TestHome, ran: Ran) {
    let ran = ran.exited(0);
    assert_eq!(
        home.read("notes/order"),
        "Good internal=false external=false\n\
         Worse internal=false external=false\n\
         Wrong internal=false external=false\n",
        "{ran:#?}"
    );
    let problem = "PROBLEM CLEANING UP";
    let log = home.plugin_log("wrong");
    assert!(
        log.contains(problem) && log.contains("the door is jammed"),
        "{log}"
    );
    let log = home.plugin_log("worse");
    assert!(
        log.contains(problem) && log.contains("the floor is gone"),
        "{log}"
    );
    let log = home.plugin_log("good");
    assert!(!log.contains(problem), "{log}");
    for name in ["good", "wrong", "worse", "daemon", "script"] {
        let log = home.plugin_log(name);
        assert_eq!(
            log.matches(" : Plugin shut down.\n").count(),
            1,
            "{name}:\n{log}"
        );
    }
    let log = home.plugin_log("script");
    assert!(log.contains(" : bye\n"), "{log}");
    let log = home.core_log();
    assert!(log.ends_with(" : SHUTDOWN : shut down\n"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn every_way_to_end_a_core_is_clean() {
    let home = home_of_five();
    let core = start(&home);
    core.signal("TERM");
    check_clean_end(&home, core.wait());

    // More of the same changes nothing.
    remove_notes_and_logs(&home);
    let core = start(&home);
    core.signal("INT");
    home.wait_for_core_log("shutting down");
    core.signal("INT");
    core.signal("TERM");
    core.signal("INT");
    check_clean_end(&home, core.wait());

    remove_notes_and_logs(&home);
    let core = start(&home);
    home.aigis(&["shutdown"]).exited(0);
    assert!(!is_alive(core.pid()), "it returns when the core is gone");
    check_clean_end(&home, core.wait());

    // No cleanup, no grace for the core; its processes go on, and end with the next one.
    remove_notes_and_logs(&home);
    let core = start(&home);
    let pids = ["notes/internal", "notes/external"].map(|note| pid_in(&home, note));
    core.signal("QUIT");
    assert_eq!(core.wait().code, None);
    assert!(!home.core_log().contains("SHUTDOWN"));
    assert_eq!(home.read("notes/order"), "");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let core = Core::start(&home);
    core.signal("TERM");
    core.wait().exited(0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

/// The second signal comes in the middle of the shutdown that the first has begun, and calls until there is no core.
#[test]
fn two_interrupts_under_load_are_one_clean_shutdown() {
    let home = home_of_five();
    let core = start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("connects");
    let (called, calls) = std::sync::mpsc::channel();
    let load = std::thread::spawn(move || {
        while session.call::<bool>("good.ping", ()).is_ok() {
            // The test may have failed.
            let _ = called.send(());
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    calls
        .recv_timeout(Duration::from_secs(60))
        .expect("calls get through");
    let begun = Instant::now();
    core.signal("INT");
    // A finger that is not sure whether the first one was felt.
    std::thread::sleep(Duration::from_millis(50));
    core.signal("INT");
    check_clean_end(&home, core.wait());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    load.join().expect("its calls end with an error");
    let log = home.core_log();
    assert_eq!(
        log.matches(" : SHUTDOWN : shutting down\n").count(),
        1,
        "{log}"
    );
}

fn pid_in(home: &TestHome, note: &str) -> u32 {
    home.read(note).trim().parse().expect("is a pid")
}

/// Returns the processes that work below a folder, or were told of it.
fn working_for(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("is there").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let concerned = command.contains(&folder) || place.starts_with(&folder);
        if concerned && is_alive(pid) {
            found.push(format!("{pid} {command}"));
        }
    }
    found
}

#[test]
fn a_core_that_is_busy_starting_ends_as_well() {
    let home = TestHome::new();
    // One that builds for ever, with a compiler's worth of processes.
    let cargo = plugins::cargo_toml("builds", "[lib]\ncrate-type = [\"cdylib\"]\n");
    let script = "fn main() {\n    \
        let mut child = std::process::Command::new(\"sleep\").arg(\"100000\").spawn().expect(\"runs\");\n    \
        std::fs::write(\"building\", child.id().to_string()).expect(\"is written\");\n    \
        let _ = child.wait();\n}\n";
    plugins::write(
        &home,
        "builds",
        &[
            ("Cargo.toml", &cargo),
            ("AIGIS/AIGIS.config", plugins::CORE),
            ("build.rs", script),
            ("src/lib.rs", ""),
        ],
    );
    let requirements = "REQUIREMENTS_COMMAND = \"echo $$ > required; sleep 100000 & wait\"";
    plugins::external(&home, "requires", requirements, "exit 0");
    plugins::external(&home, "runs", "", "exec sleep 100000");
    // A server that takes the request and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = server.local_addr().expect("has an address");
    home.config(&format!(
        "[core]\nbuilds = \"{{sources}}/builds\"\n\
         [external]\nruns = \"{{sources}}/runs\"\nrequires = \"{{sources}}/requires\"\n\
         fetches = \"http://{address}/fetches.git\"\n",
    ));
    let core = Core::begin(&home);
    let connection = server.accept().expect("is asked");
    for note in ["ext/builds/building", "ext/requires/required"] {
        eventually(note, || (!home.read(note).is_empty()).then_some(()));
    }
    let built = pid_in(&home, "ext/builds/building");
    let begun = Instant::now();
    core.signal("TERM");
    let ran = core.wait().exited(0);
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(20),
        "took {took:?}: {}",
        ran.stderr
    );
    drop(connection);
    let left = working_for(&home.path());
    assert!(
        left.is_empty() && !is_alive(built),
        "left behind: {left:#?}"
    );
    assert!(home.core_log().ends_with(" : SHUTDOWN : shut down\n"));

    // Nothing half done is in the way of the next start.
    assert!(!home.path().join("ext/fetches").exists());
    home.config("[external]\nruns = \"{sources}/runs\"\n");
    let core = Core::start(&home);
    core.signal("TERM");
    core.wait().exited(0);
}
