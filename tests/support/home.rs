//! A home folder of a test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use aigis_core::config::Config;
use aigis_core::logging::Follow;
use aigis_core::supervisor::{SHIM_ARGUMENT, ShimRecord};
use aigis_core::{Host, HostBuilder};
use tempfile::TempDir;

use super::DEADLINE;

/// The program under test.
pub(crate) const AIGIS: &str = env!("CARGO_BIN_EXE_aigis");

/// Where all tests build their plugins: what they share is built once.
pub(crate) fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins")
}

/// A home, and next to it a folder for the sources of its plugins; gone at the end of the test.
pub(crate) struct TestHome {
    folder: TempDir,
}

impl TestHome {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder.path().join("home/config")).expect("a home");
        fs::create_dir_all(folder.path().join("sources")).expect("a folder for sources");
        Self { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Returns the folder of a plugin's source, whether or not it is there.
    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.folder.path().join("sources").join(name)
    }

    /// Writes `config/config.aigis`. `{sources}` stands for the folder of the sources.
    pub(crate) fn config(&self, text: &str) -> PathBuf {
        let sources = self.folder.path().join("sources");
        let text = text.replace("{sources}", &sources.to_string_lossy());
        let path = self.path().join("config/config.aigis");
        fs::write(&path, text).expect("writes the config");
        path
    }

    /// Writes a file below the home, with the folders on the way. A secret is nobody else's to read.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let file = self.path().join(path);
        fs::create_dir_all(file.parent().expect("is below the home")).expect("makes folders");
        fs::write(&file, content).expect("writes");
        if path.starts_with("secrets/") {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("ours");
        }
    }

    /// Reads a file below the home; empty if it is not there.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read(self.path().join(path))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn core_log(&self) -> String {
        self.read("log/core.log")
    }

    pub(crate) fn plugin_log(&self, name: &str) -> String {
        self.read(&format!("log/plugins/{name}.log"))
    }

    /// Waits for a record with `needle` in a plugin's log and returns it.
    pub(crate) fn wait_for_log(&self, plugin: &str, needle: &str) -> String {
        self.wait_in(&format!("log/plugins/{plugin}.log"), needle)
    }

    /// Waits for a record with `needle` in the core's log and returns it.
    pub(crate) fn wait_for_core_log(&self, needle: &str) -> String {
        self.wait_in("log/core.log", needle)
    }

    fn wait_in(&self, log: &str, needle: &str) -> String {
        let path = self.path().join(log);
        super::eventually(&format!("`{log}`"), || path.exists().then_some(()));
        let mut follow = Follow::new(&path, usize::MAX).expect("opens the log");
        let begun = Instant::now();
        super::eventually(&format!("`{needle}` in {log}:\n{}", self.read(log)), || {
            while let Some(record) = follow.poll().expect("reads the log") {
                if record.contains(needle) {
                    return Some(record);
                }
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "no `{needle}` in:\n{}",
                self.read(log)
            );
            None
        })
    }

    /// Makes a host in this process for the config that was written.
    pub(crate) fn builder(&self) -> HostBuilder {
        let path = self.path().join("config/config.aigis");
        let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        HostBuilder::new(self.path())
            .config(config)
            .program(AIGIS)
            .target_folder(target_folder())
    }

    /// Starts a host in this process and waits until its plugins have settled.
    pub(crate) fn host(&self) -> Host {
        let host = self.builder().start().expect("the host starts");
        host.settled(Some(DEADLINE));
        host
    }

    /// Makes a command of the program, with this home and a bare environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(AIGIS, arguments)
    }

    /// Makes a command of the program that a shell runs after `before`.
    pub(crate) fn command_after(&self, before: &str, arguments: &[&str]) -> Command {
        let script = format!("{before}; exec \"$0\" \"$@\"");
        let mut words = vec!["-c", &script, AIGIS];
        words.extend(arguments);
        self.command_of("sh", &words)
    }

    pub(crate) fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("AIGIS_HOME", self.path())
            .env("AIGIS_TARGET_DIR", target_folder())
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        // The last one is for `tests/sanitizers`.
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "TMPDIR",
            "PYTHONPATH",
            "ASAN_OPTIONS",
        ] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Runs the program to its end.
    pub(crate) fn aigis(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().expect("aigis runs");
        Ran::new(output)
    }
}

impl Drop for TestHome {
    /// Ends what a killed core has left: its shims stop their plugins and themselves.
    fn drop(&mut self) {
        let Ok(records) = fs::read_dir(self.path().join("run/shims")) else {
            return;
        };
        let shims: Vec<u32> = records
            .flatten()
            .filter_map(|entry| ShimRecord::read(entry.path()).ok()?)
            .map(|record| record.shim_pid)
            .filter(|&pid| is_shim(pid))
            .collect();
        let signal = |name: &str| {
            for pid in shims.iter().filter(|&&pid| is_shim(pid)) {
                // Should it fail, the next one may not.
                let _ = Command::new("kill")
                    .args(["-s", name, &pid.to_string()])
                    .status();
            }
        };
        for name in ["TERM", "KILL"] {
            signal(name);
            let begun = Instant::now();
            while shims.iter().any(|&pid| is_shim(pid)) && begun.elapsed() < SHIMS_END {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// How long the shims of a killed core may take to end their trees.
const SHIMS_END: Duration = Duration::from_secs(10);

/// Tells whether a process is a shim that has not ended: the number may be somebody else's by now.
fn is_shim(pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|&byte| byte == 0).nth(1) == Some(SHIM_ARGUMENT.as_bytes())
}

/// How a run of the program went.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code and returns what was printed as data.
    pub(crate) fn exited(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}
