//! The hot swap: the state goes along, sets are switched in one instant, old versions leave memory.

mod load;
mod sets;
mod state;
mod unload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aigis_core::host::{GenerationState, GenerationStatus};
use aigis_core::{Host, PluginStatus};
use aigis_plugin_api::{CallError, SkillFailure};

use crate::support::eventually;
use crate::support::home::TestHome;

/// Makes a pipe: whoever opens one end waits for the other.
fn pipe(home: &TestHome, name: &str) -> PathBuf {
    let path = home.path().join(name);
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo runs").success());
    path
}

/// Runs what it was made of when it goes, in a panic too: threads that a test waits for must hear
/// that it is over.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn status(host: &Host, plugin: &str) -> PluginStatus {
    let all = host.status();
    let found = all.into_iter().find(|status| status.name == plugin);
    found.expect("is a plugin")
}

fn reload_set(
    host: &Host,
    names: &[&str],
    fresh: bool,
    force: bool,
) -> Result<Vec<PluginStatus>, CallError<SkillFailure>> {
    host.call("aigis.reload_set", (names, fresh, force))
}

/// Waits until one generation has come to a state.
fn generation_is(
    host: &Host,
    plugin: &str,
    number: u64,
    state: GenerationState,
) -> GenerationStatus {
    let mut last = None;
    let what = format!("generation {number} of `{plugin}` to be {state:?}");
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(&what, || {
            let all = status(host, plugin).generations;
            last = all.iter().find(|one| one.number == number).cloned();
            last.clone().filter(|one| one.state == state)
        })
    }));
    found.unwrap_or_else(|_| panic!("waited in vain for {what}: {last:?}"))
}

/// Returns the lines of a process's memory map that are copies of a plugin's library; of one
/// generation, or of all.
fn mapped(process: &str, home: &Path, plugin: &str, generation: Option<u64>) -> Vec<String> {
    let home = fs::canonicalize(home).expect("is there");
    let number = generation.map_or(String::new(), |number| format!("{number}-"));
    let copy = format!("{}/run/libraries/{plugin}-{number}", home.display());
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("is Linux");
    let lines = maps.lines().filter(|line| line.contains(&copy));
    lines.map(str::to_owned).collect()
}

/// Waits until one generation is gone from memory, in its status and in the system's map.
fn is_unmapped(host: &Host, home: &TestHome, plugin: &str, number: u64) {
    let status = generation_is(host, plugin, number, GenerationState::Unmapped);
    assert_eq!((status.bytes, status.reason), (0, None));
    let lines = mapped("self", &home.path(), plugin, Some(number));
    assert_eq!(lines, Vec::<String>::new());
}
