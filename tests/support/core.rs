//! A core as a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use super::home::{Ran, TestHome};
use super::{DEADLINE, eventually};

/// `aigis build-and-run` in the foreground; killed at the end of the test if it is still there.
pub(crate) struct Core {
    child: Child,
    printed: Arc<Mutex<String>>,
}

impl Core {
    /// Starts a core for the home's config and waits until its plugins have settled.
    pub(crate) fn start(home: &TestHome) -> Self {
        Self::start_by(home, home.command(&["build-and-run"]))
    }

    /// Starts a core as `command` does, and waits until its plugins have settled.
    pub(crate) fn start_by(home: &TestHome, command: Command) -> Self {
        let core = Self::begin_by(command);
        let session = eventually("the core's socket", || {
            aigis_plugin_api::connect(home.path()).ok()
        });
        let most = u64::try_from(DEADLINE.as_millis()).expect("is small");
        let settled: aigis_plugin_api::Value = session
            .call_within("aigis.settled", (most,), DEADLINE)
            .expect("the plugins settle");
        assert!(settled.as_list().is_some());
        core
    }

    /// Starts a core and waits for nothing.
    pub(crate) fn begin(home: &TestHome) -> Self {
        Self::begin_by(home.command(&["build-and-run"]))
    }

    /// Starts a core as `command` does, and waits for nothing.
    pub(crate) fn begin_by(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("aigis starts");
        let printed = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().expect("is piped"), Arc::clone(&printed));
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let mut sink = sink.lock().expect("no panic while held");
                sink.push_str(&String::from_utf8_lossy(&line));
                sink.push('\n');
            }
        });
        Self { child, printed }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has printed for people so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.lock().expect("no panic while held").clone()
    }

    /// Sends a signal, by its name as `kill` knows it.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = std::process::Command::new("kill")
            .args(["-s", name, &pid])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until a signal has ended it, and returns which.
    pub(crate) fn died(mut self) -> i32 {
        let status = eventually("the death of the core", || {
            self.child.try_wait().expect("can be waited for")
        });
        let signal = status.signal();
        signal.unwrap_or_else(|| panic!("{status}, printed:\n{}", self.printed()))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ran {
        let status = eventually("the end of the core", || {
            self.child.try_wait().expect("can be waited for")
        });
        Ran {
            code: status.code(),
            stdout: String::new(),
            stderr: self.printed(),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // It has ended already, in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills the core that `--detach` has left in the background of a home, if a test fails before
/// it has ended it.
pub(crate) struct Background<'a>(pub &'a TestHome);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let Ok(session) = aigis_plugin_api::connect(self.0.path()) else {
            return;
        };
        let pid = session.core_pid();
        if pid != std::process::id() {
            // Should this fail too, the test has failed anyhow.
            let _ = std::process::Command::new("kill")
                .args(["-s", "KILL", &pid.to_string()])
                .status();
        }
    }
}
