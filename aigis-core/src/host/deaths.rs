//! What the last core died of, and in which plugin how often.
//!
//! `run/crash` is what a dying core has written; it is read once, by the next start. `run/deaths.json`
//! keeps what is known of each plugin, over all starts, until another version of it is loaded. Neither
//! is believed blindly: what cannot be read is told and forgotten.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::Timestamp;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::events::Logs;
use super::lock;
use crate::config::{PluginEntry, PluginName};
use crate::home::{Home, at};
use crate::loader::crash::{self, Cause, Culprit, Death};
use crate::logging::Level;

/// The most that is read of each file.
const MOST: u64 = 1 << 20;

/// How the core has died while a plugin's code was running, as `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// How often this version of the plugin has been named so.
    pub count: u32,
    /// The name of the last signal, such as `SIGSEGV`.
    pub signal: String,
    /// Whether the stack of the thread was used up.
    #[serde(default)]
    pub stack_overflow: bool,
    /// When that was, by the clock of the system.
    pub at: String,
    /// The number of the load, in the core that died.
    pub generation: u64,
    /// The skill that was running, by its full name; none outside of skills.
    pub skill: Option<String>,
    /// The name of the thread.
    pub thread: String,
}

impl Crash {
    /// Says in one line what happened.
    pub(crate) fn told(&self, plugin: &str) -> String {
        let Self {
            signal,
            at,
            generation,
            thread,
            ..
        } = self;
        let overflow = if self.stack_overflow {
            " (stack overflow)"
        } else {
            ""
        };
        let running = match &self.skill {
            Some(skill) => format!("`{skill}` of generation {generation} was running"),
            None => format!("code of `{plugin}`, generation {generation}, was running"),
        };
        format!("the core died of {signal}{overflow} at {at} while {running} on thread `{thread}`")
    }
}

/// What is kept of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    /// The name of the file that was loaded, which follows from its content.
    artifact: String,
    #[serde(flatten)]
    crash: Crash,
}

/// The deaths of a home's cores, by plugin.
#[derive(Debug)]
pub(super) struct Deaths {
    path: PathBuf,
    known: Mutex<BTreeMap<PluginName, Known>>,
}

impl Deaths {
    /// Reads what the last core has left, tells it, and remembers it.
    pub(super) fn recall(
        home: &Home,
        entries: &[PluginEntry],
        logs: &Logs,
        is_alive: bool,
    ) -> Self {
        let warn = |message: String| logs.core(Level::Warn, message);
        let path = home.run().join("deaths.json");
        let known = match read(&path) {
            Ok(bytes) if bytes.is_empty() => BTreeMap::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn(format!(
                    "what is known of crashes is lost: `{}` is none of ours: {error}",
                    path.display()
                ));
                BTreeMap::new()
            }),
            Err(error) => {
                warn(format!("what is known of crashes is lost: {error}"));
                BTreeMap::new()
            }
        };
        let deaths = Self {
            path,
            known: Mutex::new(known),
        };
        if is_alive {
            // The other core may still write the record.
            return deaths;
        }
        let record = home.crash_file();
        let death = read(&record)
            .map_err(|error| error.to_string())
            .and_then(|bytes| crash::parse(&bytes));
        match death {
            Ok(None) => {}
            Ok(Some(death)) => {
                if let Err(error) = deaths.note(&death, entries, logs) {
                    warn(format!("a crash will be forgotten: {error}"));
                }
            }
            Err(why) => warn(format!(
                "the record of a crash, `{}`, is ignored: {why}",
                record.display()
            )),
        }
        match fs::remove_file(&record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn(format!("{}, and would be read again", at(&record, error)));
            }
            _ => {}
        }
        deaths
    }

    fn note(&self, death: &Death, entries: &[PluginEntry], logs: &Logs) -> io::Result<()> {
        let at = Timestamp::from_second(death.at)
            .map_or_else(|_| format!("second {}", death.at), |at| at.to_string());
        let Some(culprit) = &death.culprit else {
            let Death { signal, thread, .. } = death;
            let message = match death.cause {
                Cause::Sent(pid) => {
                    format!("the core was ended at {at} by {signal}, which process {pid} has sent")
                }
                _ => format!(
                    "the core died of {signal} at {at}; no plugin's code was running on thread \
                     `{thread}`"
                ),
            };
            logs.core(Level::Error, message);
            return Ok(());
        };
        let crash = self.count(culprit, death, at);
        let plugin = culprit.plugin.as_str();
        let message = crash.told(plugin);
        // What no plugin of this home has written makes no log.
        if entries.iter().any(|entry| entry.name == culprit.plugin) {
            logs.plugin(plugin, Level::Error, &message);
        }
        logs.core(Level::Error, format!("{plugin}: {message}"));
        self.save()
    }

    /// Adds a death to those of the same version.
    fn count(&self, culprit: &Culprit, death: &Death, at: String) -> Crash {
        let mut known = lock(&self.known);
        let before = known
            .get(&culprit.plugin)
            .filter(|before| before.artifact == culprit.artifact)
            .map_or(0, |before| before.crash.count);
        let crash = Crash {
            count: before.saturating_add(1),
            signal: death.signal.clone(),
            stack_overflow: death.cause == Cause::StackOverflow,
            at,
            generation: culprit.generation,
            skill: culprit.skill.clone(),
            thread: death.thread.clone(),
        };
        let remembered = Known {
            artifact: culprit.artifact.clone(),
            crash: crash.clone(),
        };
        known.insert(culprit.plugin.clone(), remembered);
        crash
    }

    /// Returns what is known of a plugin.
    pub(super) fn of(&self, plugin: &PluginName) -> Option<Crash> {
        let known = lock(&self.known);
        known.get(plugin).map(|known| known.crash.clone())
    }

    /// Notes that this file of a plugin is loaded, and returns what is known of it: what another
    /// version has done is forgotten.
    pub(super) fn loads(&self, plugin: &PluginName, artifact: &str) -> io::Result<Option<Crash>> {
        {
            let mut known = lock(&self.known);
            match known.get(plugin) {
                None => return Ok(None),
                Some(before) if before.artifact == artifact => {
                    return Ok(Some(before.crash.clone()));
                }
                Some(_) => known.remove(plugin),
            };
        }
        self.save().map(|()| None)
    }

    fn save(&self) -> io::Result<()> {
        // Held while it is written: two that are written at once could end up in the wrong order.
        let known = lock(&self.known);
        let text = serde_json::to_vec_pretty(&*known)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|file| {
            fs::write(file.path(), text)?;
            file.persist(&self.path).map_err(|error| error.error)
        });
        written.map(drop).map_err(|error| at(&self.path, error))
    }
}

/// Reads a file of ours; one that is not there is empty.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let opened = OpenOptions::new()
        .read(true)
        // Whatever may have been put there: nothing is followed, and nothing waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(|error| at(path, error))?,
    };
    let metadata = file.metadata().map_err(|error| at(path, error))?;
    if !metadata.is_file() || metadata.len() > MOST {
        let unfit = io::Error::other("expected a small file, found something else");
        return Err(at(path, unfit));
    }
    let mut bytes = Vec::new();
    file.take(MOST)
        .read_to_end(&mut bytes)
        .map_err(|error| at(path, error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "aigis-crash-1\tSIGSEGV\t1767225600\tgreeter\t2\tgreeter-1f.so\tgreeter.greet\t-\t\
                        4711\tworker\tend\n";

    struct Fixture {
        _folder: tempfile::TempDir,
        home: Home,
        logs: Logs,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let home = Home::new(folder.path()).expect("a home");
            home.make_folders().expect("folders");
            let logs = Logs::open(&home, Level::Debug, None).expect("a log");
            Self {
                _folder: folder,
                home,
                logs,
            }
        }

        /// Recalls what a core has left that died so.
        fn after(&self, record: &str) -> Deaths {
            fs::write(self.home.crash_file(), record).expect("writes");
            let deaths = Deaths::recall(&self.home, &[], &self.logs, false);
            assert!(!self.home.crash_file().exists(), "it is read once");
            deaths
        }

        fn log(&self) -> String {
            fs::read_to_string(self.home.core_log()).expect("is there")
        }
    }

    fn greeter() -> PluginName {
        "greeter".parse().expect("a name")
    }

    fn count(deaths: &Deaths) -> u32 {
        deaths.of(&greeter()).map_or(0, |crash| crash.count)
    }

    #[test]
    fn deaths_of_one_version_are_counted_over_starts() {
        let home = Fixture::new();
        assert_eq!(count(&home.after(LINE)), 1);
        let message = "greeter: the core died of SIGSEGV at 2026-01-01T00:00:00Z while \
                       `greeter.greet` of generation 2 was running on thread `worker`";
        assert!(home.log().contains(message), "{}", home.log());
        let deaths = home.after(LINE);
        assert_eq!(count(&deaths), 2);
        let same = deaths.loads(&greeter(), "greeter-1f.so").expect("is kept");
        assert_eq!(same.map(|crash| crash.count), Some(2));
        // A start after a clean end.
        assert_eq!(count(&home.after("")), 2);
        let other = LINE.replace("greeter-1f.so", "greeter-2f.so");
        assert_eq!(count(&home.after(&other)), 1, "another version");
    }

    #[test]
    fn another_version_is_not_blamed() {
        let home = Fixture::new();
        let deaths = home.after(LINE);
        assert_eq!(
            deaths.loads(&greeter(), "greeter-2f.so").expect("is kept"),
            None
        );
        assert_eq!(count(&deaths), 0);
        assert_eq!(count(&home.after("")), 0, "it stays forgotten");
    }

    #[test]
    fn what_cannot_be_read_is_told_and_forgotten() {
        let home = Fixture::new();
        for record in ["rubbish", &LINE[..40], "\0\0\0\0"] {
            assert_eq!(count(&home.after(record)), 0, "{record}");
            assert!(home.log().contains("is ignored: "), "{}", home.log());
        }
        fs::write(home.home.run().join("deaths.json"), "[1, 2").expect("writes");
        assert_eq!(count(&home.after(LINE)), 1);
        assert!(home.log().contains("is lost: "), "{}", home.log());
        // A link is not followed.
        std::os::unix::fs::symlink("/dev/zero", home.home.crash_file()).expect("a link");
        assert_eq!(
            count(&Deaths::recall(&home.home, &[], &home.logs, false)),
            1
        );
    }

    #[test]
    fn a_death_that_is_nobodys_is_told() {
        let home = Fixture::new();
        let nobody = "aigis-crash-1\tSIGABRT\t1767225600\t-\t0\t-\t-\tsent-by-17\t1\tmain\tend\n";
        assert_eq!(count(&home.after(nobody)), 0);
        let message = "by SIGABRT, which process 17 has sent";
        assert!(home.log().contains(message), "{}", home.log());
    }
}
