//! Tests of the supervisor, with real processes.
//!
//! The test program is its own shim: started with the shim's argument it becomes one before
//! its `main` runs, which is what the program `aigis` does in its `main`.

mod confine;
mod launch;
mod loss;
mod messages;
mod output;
mod policy;
mod ready;
mod stop;
mod survival;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::linux::{self, Process};
use super::protocol::LaunchSpec;
use super::{LaunchError, SHIM_ARGUMENT, Supervised, shim_main};

/// The argument that makes the test program a core that launches one plugin.
const CORE_ARGUMENT: &str = "__core";

/// The same, of a core that lets its plugin outlive it.
const KEEPING_CORE_ARGUMENT: &str = "__keeping-core";
/// The argument that makes the test program a plugin that says how it is.
const NOTIFY_ARGUMENT: &str = "__notify";

/// The argument that makes the test program a plugin that closes what it has inherited.
const CLOSE_ARGUMENT: &str = "__close";

/// The longest that a test may take.
const DEADLINE: Duration = Duration::from_secs(30);

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(SHIM_ARGUMENT) => shim_main(),
        Some(core @ (CORE_ARGUMENT | KEEPING_CORE_ARGUMENT)) => {
            let keeps = core == KEEPING_CORE_ARGUMENT;
            let folder = args.next().expect("a folder");
            let program = args.next().expect("a program");
            let (folder, args) = (Path::new(&folder), args.collect::<Vec<_>>());
            match keeps {
                true => loss::keeping_core_main(folder, &program, &args),
                false => loss::core_main(folder, &program, &args),
            }
            exit(0)
        }
        Some(NOTIFY_ARGUMENT) => ready::notify_main(&args.collect::<Vec<_>>()),
        Some(CLOSE_ARGUMENT) => ready::close_main(),
        _ => {}
    }
}

fn own_program() -> PathBuf {
    std::env::current_exe().expect("the path of the test program")
}

/// Runs a test on a runtime of its own, within the deadline.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        timeout(DEADLINE, test)
            .await
            .expect("the test ends within its deadline")
    })
}

/// The folder of one test.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spec(&self, program: impl AsRef<Path>) -> LaunchSpec {
        spec_in(self.folder.path(), program)
    }

    /// Returns the spec of a shell script.
    fn script(&self, script: &str) -> LaunchSpec {
        self.spec("/bin/sh").args(["-c", script])
    }

    async fn launch(&self, script: &str) -> Supervised {
        launch(self.script(script)).await.expect("it is launched")
    }

    fn log(&self) -> String {
        read_log(&self.path("p.log"))
    }

    /// Returns the messages of one level.
    fn logged(&self, level: &str) -> Vec<String> {
        let separator = format!(" : {level} : ");
        let log = self.log();
        log.lines()
            .filter_map(|line| Some(line.split_once(&separator)?.1.to_owned()))
            .collect()
    }

    /// Waits until the log holds a text.
    async fn wait_for(&self, text: &str) {
        wait_until(text, || self.log().contains(text)).await;
    }
}

fn spec_in(folder: &Path, program: impl AsRef<Path>) -> LaunchSpec {
    LaunchSpec::new(
        "p".parse().expect("a name"),
        program.as_ref(),
        folder,
        folder.join("p.log"),
        folder.join("run/p.json"),
    )
    .env("PATH", "/usr/local/bin:/usr/bin:/bin")
}

async fn launch(spec: LaunchSpec) -> Result<Supervised, LaunchError> {
    Supervised::launch(&own_program(), spec).await
}

fn read_log(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits for something that only shows when looked at.
async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(DEADLINE / 2, looking).await.is_err() {
        panic!("waited in vain for: {what}");
    }
}

/// Asserts that no process of a launch is left.
fn assert_gone(invocation: &str) {
    let left = linux::leftovers(None, invocation);
    assert!(left.is_empty(), "still there: {left:?}");
}

fn is_alive(pid: u32) -> bool {
    Process::read(pid as i32).is_some_and(|process| !process.is_dead())
}
