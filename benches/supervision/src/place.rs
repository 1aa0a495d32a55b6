//! Folders, homes and cores to measure in, and what `/proc` says of their processes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aigis_core::supervisor::ShimRecord;
use aigis_core::{PluginStatus, State};
use aigis_plugin_api::Session;

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a folder in memory, if there is such a place; it is gone afterwards.
pub(crate) fn folder() -> io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    tempfile::Builder::new()
        .prefix("aigis-bench-")
        .tempdir_in(place)
}

/// Returns what else the machine was doing, for whoever reads the figures.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.trim_end().to_owned()
}

pub(crate) fn verdict(reached: bool) -> &'static str {
    match reached {
        true => "reached",
        false => "missed",
    }
}

/// Looks until there is something to be seen.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> io::Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(io::Error::other(format!("waited in vain for {what}")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A home with external plugins that are started one by one from its config.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    config: String,
}

impl Home {
    pub(crate) fn new() -> io::Result<Self> {
        let folder = folder()?;
        fs::create_dir(folder.path().join("config"))?;
        Ok(Self {
            folder,
            config: "[external]\n".to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a plugin: a program with its arguments, and further options of its manifest.
    pub(crate) fn plugin(&mut self, name: &str, words: &[&str], options: &str) -> io::Result<()> {
        let source = self.path().join("sources").join(name);
        fs::create_dir_all(source.join("AIGIS"))?;
        fs::write(
            source.join("AIGIS/AIGIS.config"),
            format!(
                "PLUGIN_TYPE = \"external\"\nENTRYPOINT = \"{{root}}\"\nLAUNCH = {words:?}\n{options}\n"
            ),
        )?;
        self.config += &format!("{name} = {:?}\n", source.display().to_string());
        fs::write(self.path().join("config/config.aigis"), &self.config)
    }

    /// Starts a core and waits for nothing.
    pub(crate) fn begin(&self) -> io::Result<Core> {
        let own = std::env::current_exe()?;
        let child = Command::new(&own)
            .args(["build-and-run", "--quiet"])
            .env("AIGIS_HOME", self.path())
            .env("AIGIS_PROGRAM", &own)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Core { child })
    }

    /// Returns a session with the core that runs, once its plugins have settled.
    pub(crate) fn settled(&self) -> io::Result<Session> {
        let session = eventually("the core's socket", || {
            aigis_plugin_api::connect(self.path()).ok()
        })?;
        let most = u64::try_from(PATIENCE.as_millis()).map_err(io::Error::other)?;
        let _: aigis_plugin_api::Value = session
            .call_within("aigis.settled", (most,), PATIENCE)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(session)
    }

    /// Returns what the shims have written down.
    pub(crate) fn records(&self) -> io::Result<Vec<ShimRecord>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path().join("run/shims"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "json") {
                found.extend(ShimRecord::read(path)?);
            }
        }
        Ok(found)
    }

    pub(crate) fn log(&self, plugin: &str) -> PathBuf {
        self.path().join(format!("log/plugins/{plugin}.log"))
    }
}

impl Drop for Home {
    /// Ends what a core that was killed has left behind: a shim that is asked to ends its tree.
    fn drop(&mut self) {
        for record in self.records().unwrap_or_default() {
            if is_shim(record.shim_pid) {
                signal(record.shim_pid, "TERM");
            }
        }
    }
}

/// A core that was started here; killed when it is dropped.
pub(crate) struct Core {
    child: Child,
}

impl Core {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to end and waits for that.
    pub(crate) fn end(mut self) -> io::Result<()> {
        signal(self.child.id(), "TERM");
        self.child.wait().map(drop)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // It has ended already if nothing went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the plugins, and the process of each of those that are ready.
pub(crate) fn ready(session: &Session) -> io::Result<BTreeMap<String, (u32, u32)>> {
    let all: Vec<PluginStatus> = session
        .call("aigis.status", ())
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(all
        .into_iter()
        .filter(|it| it.state == State::Ready)
        .filter_map(|it| Some((it.name, (it.pid?, it.restarts))))
        .collect())
}

/// Sends a signal to a process that this program has started, or a shim of its.
pub(crate) fn signal(pid: u32, name: &str) {
    // It may have ended by itself.
    let _ = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Tells whether a process is a shim: the number may be somebody else's by now.
pub(crate) fn is_shim(pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let shim = aigis_core::supervisor::SHIM_ARGUMENT.as_bytes();
    words.split(|&byte| byte == 0).nth(1) == Some(shim)
}

/// Returns the living processes whose environment has this entry, as `NAME=value`.
pub(crate) fn marked(mark: &str) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|it| it.to_str()?.parse().ok()) else {
            continue;
        };
        // The environment of what has ended is empty.
        let all = fs::read(path.join("environ")).unwrap_or_default();
        if all.split(|&byte| byte == 0).any(|it| it == mark.as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What a process has used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Nanoseconds on a processor and sleeps of each thread.
    threads: BTreeMap<String, (u64, u64)>,
    /// What the system counts for the whole process, in hundredths of a second; that has threads in it which are gone.
    ticks: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut threads = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                // It has just ended.
                continue;
            };
            let nanoseconds = text.split(' ').next().and_then(|it| it.parse().ok());
            let sleeps = number(&task.path().join("status"), "voluntary_ctxt_switches:");
            let name = task.file_name().to_string_lossy().into_owned();
            threads.insert(name, (nanoseconds.unwrap_or(0), sleeps.unwrap_or(0)));
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let times = rest.split(' ').skip(11).take(2);
        let ticks = times.flat_map(str::parse::<u64>).sum();
        Ok(Self { threads, ticks })
    }

    /// Returns the seconds on a processor since `before`, and how often a thread has gone to sleep, and so was woken.
    pub(crate) fn since(&self, before: &Self) -> (f64, u64) {
        let (mut nanoseconds, mut sleeps) = (0, 0);
        for (thread, now) in &self.threads {
            let then = before.threads.get(thread).copied().unwrap_or_default();
            nanoseconds += now.0.saturating_sub(then.0);
            sleeps += now.1.saturating_sub(then.1);
        }
        let counted = self.ticks.saturating_sub(before.ticks) as f64 / 100.0;
        (counted.max(nanoseconds as f64 / 1e9), sleeps)
    }
}

/// Returns the memory that a process shares with nobody, in MiB.
pub(crate) fn private_memory(pid: u32) -> io::Result<f64> {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let kib = number(&path, "Private_Clean:")? + number(&path, "Private_Dirty:")?;
    Ok(kib as f64 / 1024.0)
}

/// Reads the number behind a word at the beginning of a line.
fn number(path: &Path, word: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let found = text.lines().find_map(|line| {
        let rest = line.strip_prefix(word)?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    });
    found.ok_or_else(|| io::Error::other(format!("there is no {word} in {}", path.display())))
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Returns a number below `most`.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most.max(1)
    }
}
