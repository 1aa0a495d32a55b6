//! The calls of cargo but for `cargo build`: how it is asked and how its answer is read.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use cargo_metadata::{Metadata, MetadataCommand};

use super::error::FileFault;
use super::job::Job;
use super::lockfile::{self, LockFile};
use super::process::{self, Printed, RunError};
use super::selection::Closure;
use super::toolchain::Compiler;
use super::{BuildError, BuildEvent};

/// How many of the last lines an error shows.
const SHOWN_LINES: usize = 30;

impl Job<'_> {
    /// Asks cargo for the workspace's packages and targets, which needs no dependencies.
    pub(super) fn describe(&self) -> Result<Metadata, BuildError> {
        let mut command = self.cargo("metadata", &[]);
        command.args(["--format-version=1", "--no-deps", "--offline"]);
        let finished = self.collect(command, &mut |_| {})?;
        if let Some(error) = self.foreign_workspace(&finished.errors) {
            return Err(error);
        }
        self.parse(&finished)
    }

    /// Lets cargo choose and fetch all dependencies; returns them and the patches in use.
    ///
    /// First without the network: where everything is there already, nobody wants to wait for
    /// it, and where there is no network, cargo takes long to give up.
    pub(super) fn resolve(
        &self,
        sdk: &Path,
        compiler: &Compiler,
        lock: &LockFile,
        output: &mut dyn FnMut(BuildEvent),
    ) -> Result<(Metadata, Vec<String>), BuildError> {
        let all = self.all_patches(sdk)?;
        let attempt = |patches: &[String],
                       offline: bool,
                       output: &mut dyn FnMut(BuildEvent)|
         -> Result<Finished, BuildError> {
            let command = self.cargo_metadata(patches, compiler, offline);
            self.collect(command, &mut |line| {
                // Warnings come again with the build, errors in the error.
                if !offline && (is_status(line) || is_retry(line)) {
                    output(BuildEvent::Line(line.to_owned()));
                }
            })
        };
        let mut offline = true;
        let mut finished = attempt(&all, offline, output)?;
        if !finished.status.success() && finished.errors.iter().any(|line| mentions_offline(line)) {
            offline = false;
            finished = attempt(&all, offline, output)?;
        }
        let text = lock.text();
        let unused: HashSet<_> = lockfile::unused_patches(&text).into_iter().collect();
        if !finished.status.success() || !self.builder.sdk.names().any(|name| unused.contains(name))
        {
            return Ok((self.parse(&finished)?, all));
        }
        // Cargo warns of patches that a plugin has no use for, and records them in its lock
        // file; what is in use is known only after all were offered.
        let used = self.patches(sdk, &unused)?;
        let finished = attempt(&used, offline, output)?;
        Ok((self.parse(&finished)?, used))
    }

    /// Returns all dependencies of a package whose lock file is there, without the network.
    pub(super) fn resolved(
        &self,
        patches: &[String],
        compiler: &Compiler,
    ) -> Result<Metadata, BuildError> {
        let command = self.cargo_metadata(patches, compiler, true);
        self.parse(&self.collect(command, &mut |_| {})?)
    }

    fn cargo_metadata(&self, patches: &[String], compiler: &Compiler, offline: bool) -> Command {
        let mut command = self.cargo("metadata", patches);
        command.arg("--format-version=1");
        if !compiler.host.is_empty() {
            command.args(["--filter-platform", &compiler.host]);
        }
        if offline {
            command.arg("--offline");
        }
        command
    }

    /// Returns the options that put all of our crates in the place of the registry's.
    pub(super) fn all_patches(&self, sdk: &Path) -> Result<Vec<String>, BuildError> {
        self.patches(sdk, &HashSet::new())
    }

    fn patches(&self, sdk: &Path, except: &HashSet<&str>) -> Result<Vec<String>, BuildError> {
        let mut patches = Vec::new();
        for part in self.builder.sdk.crates() {
            if except.contains(part.name) {
                continue;
            }
            let folder = sdk.join(part.name);
            let path = folder.to_str().ok_or_else(|| {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8");
                self.file(FileFault::of("name in cargo's configuration", &folder)(
                    error,
                ))
            })?;
            // A value of TOML prints itself with quotes and escapes.
            let path = toml::Value::from(path);
            patches.push(format!("patch.crates-io.{}.path={path}", part.name));
        }
        Ok(patches)
    }

    /// Makes cargo compile the plugin's own packages again.
    ///
    /// Cargo would compare modification times, which say nothing here: copies keep the times
    /// of their sources, which may be older than the last build. Worse, in a shared target
    /// folder it takes two packages of equal name, version and place in their workspaces for
    /// one and the same, whatever they contain, and serves the first for the second. Comparing
    /// checksums instead is for nightly toolchains only, setting times would disturb what git
    /// and users rely on, and the names of cargo's files in the target folder change between
    /// its versions; `cargo clean` knows them. It spares downloaded dependencies and our own
    /// crates, which lie in a folder named after their content.
    pub(super) fn forget_local_packages(
        &self,
        closure: &Closure,
        patches: &[String],
    ) -> Result<(), BuildError> {
        if closure.local.is_empty() {
            return Ok(());
        }
        let mut command = self.cargo("clean", patches);
        command
            .args(["--quiet", "--release", "--offline", "--target-dir"])
            .arg(&self.builder.folders.target);
        for local in &closure.local {
            command.args(["--package", &local.id.repr]);
        }
        let finished = self.collect(command, &mut |_| {})?;
        if finished.status.success() {
            return Ok(());
        }
        Err(self.failed(finished.status, &finished.errors))
    }

    /// Returns the command that runs cargo's `subcommand` on the plugin's manifest.
    ///
    /// It runs in the entrypoint, so that the plugin's `rust-toolchain.toml` and
    /// `.cargo/config.toml` count.
    pub(super) fn cargo(&self, subcommand: &str, patches: &[String]) -> Command {
        let toolchain = &self.builder.toolchain;
        let mut command = toolchain.command(&toolchain.cargo, &self.entrypoint);
        command
            .arg(subcommand)
            .arg("--manifest-path")
            .arg(&self.manifest);
        for patch in patches {
            command.args(["--config", patch]);
        }
        command
    }

    /// Runs cargo for what it prints to standard output; `on_line` gets the other lines.
    fn collect(
        &self,
        command: Command,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Finished, BuildError> {
        let mut text = String::new();
        let mut errors = LastLines::default();
        let status = process::run(command, self.request.cancel, &mut |line| match line {
            Printed::Out(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Printed::Err(line) => {
                on_line(&line);
                errors.push(&line);
            }
        })
        .map_err(|error| self.not_run(error))?;
        Ok(Finished {
            status,
            text,
            errors: errors.0,
        })
    }

    fn parse(&self, finished: &Finished) -> Result<Metadata, BuildError> {
        let plugin = self.request.plugin.clone();
        if !finished.status.success() {
            let mut output = joined(&finished.errors);
            if let Some(hint) = self.sdk_hint(&output) {
                output = format!("{output}\n{hint}");
            }
            return Err(BuildError::Resolve {
                plugin,
                status: finished.status,
                output,
            });
        }
        MetadataCommand::parse(&finished.text).map_err(|error| BuildError::Metadata {
            plugin,
            source: Box::new(error),
        })
    }

    /// Returns what to do about a dependency on one of our crates that cargo does not find: a
    /// version that we do not carry, or a path that was left behind with the plugin's source.
    fn sdk_hint(&self, errors: &str) -> Option<String> {
        let causes = [
            "failed to select a version",
            "no matching package",
            "failed to read",
        ];
        if !causes.iter().any(|cause| errors.contains(cause)) {
            return None; // the network, for example
        }
        let mut crates = self.builder.sdk.crates().iter();
        let part = crates.find(|part| errors.contains(&format!("`{}", part.name)))?;
        let (name, version) = (part.name, part.version);
        Some(format!(
            "hint: `{name}` {version} comes with aigis; depend on it as `{name} = \"{version}\"`"
        ))
    }

    /// Recognises cargo's complaint about a workspace further up that does not list the plugin.
    fn foreign_workspace(&self, errors: &VecDeque<String>) -> Option<BuildError> {
        let complains = |line: &String| line.contains("believes it's in a workspace when it's not");
        if !errors.iter().any(complains) {
            return None;
        }
        let workspace = errors
            .iter()
            .find_map(|line| line.strip_prefix("workspace:"))?;
        let workspace = PathBuf::from(workspace.trim());
        let folder = workspace.parent()?;
        // All plugins lie side by side, so the folder they share keeps the others out as well.
        let shared = self.root.parent();
        let excluded = shared
            .into_iter()
            .chain([self.root.as_path(), self.entrypoint.as_path()])
            .filter_map(|path| path.strip_prefix(folder).ok())
            .find(|path| !path.as_os_str().is_empty())?;
        Some(BuildError::ForeignWorkspace {
            plugin: self.request.plugin.clone(),
            exclude: excluded.display().to_string(),
            workspace,
        })
    }

    pub(super) fn failed(&self, status: ExitStatus, errors: &VecDeque<String>) -> BuildError {
        BuildError::Failed {
            plugin: self.request.plugin.clone(),
            status,
            output: joined(errors),
        }
    }

    pub(super) fn not_run(&self, error: RunError) -> BuildError {
        match error {
            RunError::Start(error) => self.missing(&self.builder.toolchain.cargo, error),
            RunError::Cancelled => self.cancelled(),
        }
    }
}

/// What a finished cargo printed.
struct Finished {
    status: ExitStatus,
    text: String,
    errors: VecDeque<String>,
}

/// The end of what cargo and rustc printed, without what only says how far they are.
#[derive(Default)]
pub(super) struct LastLines(pub(super) VecDeque<String>);

impl LastLines {
    pub(super) fn push(&mut self, line: &str) {
        if is_status(line) || is_retry(line) {
            return;
        }
        if self.0.len() == SHOWN_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }
}

fn joined(lines: &VecDeque<String>) -> String {
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    lines.join("\n").trim().to_owned()
}

/// Whether this is one of cargo's own progress lines: a verb that ends in the twelfth column.
pub(super) fn is_status(line: &str) -> bool {
    let Some((verb, rest)) = line.split_at_checked(12) else {
        return false;
    };
    let word = verb.trim_start();
    word.len() < verb.len()
        && rest.starts_with(' ')
        && word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.chars().all(|letter| letter.is_ascii_alphabetic())
}

/// Whether this progress line is about choosing versions.
pub(super) fn is_resolving(line: &str) -> bool {
    let verbs = ["Adding", "Downgrading", "Locking", "Removing", "Updating"];
    let verb = line.split_whitespace().next();
    verb.is_some_and(|verb| verbs.contains(&verb))
}

/// Whether cargo says that it will try the network again.
fn is_retry(line: &str) -> bool {
    line.starts_with("warning: spurious network error")
}

/// Whether cargo says that it failed for want of the network we denied it.
fn mentions_offline(line: &str) -> bool {
    line.contains("--offline") || line.contains("offline mode")
}
