//! Homes that are gone afterwards, with hosts in them.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aigis_core::config::Config;
use aigis_core::host::Observer;
use aigis_core::{Host, HostBuilder, State};
use tempfile::TempDir;

/// A home, and next to it a folder for sources.
pub(crate) struct BenchHome {
    folder: TempDir,
    /// Lines of the part `[core]` of the config.
    entries: String,
}

impl BenchHome {
    pub(crate) fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir_all(folder.path().join("home/config"))?;
        Ok(Self {
            folder,
            entries: String::new(),
        })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Returns the folder of the source of a plugin that is written by a benchmark.
    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.folder.path().join("sources").join(name)
    }

    /// Adds a plugin to the config.
    pub(crate) fn add(&mut self, name: &str, source: &Path) {
        self.add_with(name, source, "{}");
    }

    /// Adds a plugin with settings to the config.
    pub(crate) fn add_with(&mut self, name: &str, source: &Path, settings: &str) {
        let source = source.display();
        // Writing into a text cannot fail.
        let _ = writeln!(
            self.entries,
            "{name} = {{ source = '{source}', settings = {settings} }}"
        );
    }

    /// Starts a host and waits until all of its plugins are ready.
    pub(crate) fn start(
        &self,
        target: &Path,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Host, Box<dyn Error>> {
        let path = self.path().join("config/config.aigis");
        fs::write(&path, format!("[core]\n{}", self.entries))?;
        let config = Config::load(&path).map_err(|errors| errors.to_string())?;
        let mut builder = HostBuilder::new(self.path())
            .config(config)
            .program(env::current_exe()?)
            .target_folder(target);
        if let Some(observer) = observer {
            builder = builder.observer(observer);
        }
        let host = builder.start()?;
        for status in host.settled(None) {
            if status.state != State::Ready {
                let log = fs::read_to_string(host.home().plugin_log(&status.name));
                let log = log.unwrap_or_default();
                return Err(format!("`{}` is {}:\n{log}", status.name, status.state).into());
            }
        }
        Ok(host)
    }
}

/// Returns the source of one of the plugins next to this program's source.
pub(crate) fn plugin(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("plugins")
        .join(name)
}

/// Returns the folder that plugins are built in, where it does not matter whether something is there already.
pub(crate) fn plugin_target() -> io::Result<PathBuf> {
    match env::var_os("AIGIS_TARGET_DIR") {
        Some(folder) => Ok(folder.into()),
        None => Ok(target()?.join("plugins")),
    }
}

/// Builds the library without AIGIS and returns where it is.
pub(crate) fn peer() -> Result<PathBuf, Box<dyn Error>> {
    let target = target()?;
    let built = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--package", "peer"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !built.success() {
        return Err("the peer cannot be built".into());
    }
    Ok(target.join("release/libpeer.so"))
}

/// Adds the plugins `callee` and `caller`.
pub(crate) fn add_caller(home: &mut BenchHome) -> Result<(), Box<dyn Error>> {
    let settings = format!("{{ peer = '{}' }}", peer()?.display());
    home.add_with("caller", &plugin("caller"), &settings);
    Ok(())
}

/// Returns the folder in which cargo has built this program.
fn target() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.ancestors().nth(2);
    let folder = folder.ok_or_else(|| io::Error::other("this program is in no target folder"))?;
    Ok(folder.to_owned())
}
