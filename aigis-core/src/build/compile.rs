//! `cargo build`: how it is called, and what its messages say.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Artifact, Message, PackageId};

use super::cargo::{LastLines, is_resolving, is_status};
use super::job::Job;
use super::lockfile::{self, LockFile};
use super::plain::Plain;
use super::process::{self, Printed};
use super::selection::{Closure, Selection};
use super::toolchain::Compiler;
use super::{BuildError, BuildEvent};

/// The names of the targets that are built.
#[derive(Clone, Copy)]
pub(super) struct Targets<'a> {
    pub(super) library: Option<&'a str>,
    pub(super) binary: Option<&'a str>,
}

/// Where cargo says the results are: never a guess, since a configured target platform, for
/// one, moves them.
#[derive(Default)]
pub(super) struct Built {
    pub(super) library: Option<PathBuf>,
    pub(super) binary: Option<PathBuf>,
}

/// What a plain package is built with.
pub(super) struct Surroundings<'a> {
    pub(super) sdk: &'a Path,
    pub(super) patches: &'a [String],
    pub(super) compiler: &'a Compiler,
    pub(super) lock: &'a LockFile,
}

impl Job<'_> {
    /// Builds what was selected, whose local packages cargo has forgotten.
    pub(super) fn compile(
        &self,
        selection: &Selection,
        closure: &Closure,
        patches: &[String],
        output: &mut dyn FnMut(BuildEvent),
    ) -> Result<Built, BuildError> {
        let targets = selection.targets();
        let mut command = self.cargo_build(targets, patches);
        command.args(["--package", &selection.id.repr]);
        let mut built = Built::default();
        let mut errors = LastLines::default();
        let mut done = HashSet::new();
        let total = closure.packages.len();
        let status = process::run(command, self.request.cancel, &mut |line| match line {
            Printed::Err(line) => {
                errors.push(&line);
                output(BuildEvent::Line(line));
            }
            Printed::Out(line) => match serde_json::from_str(&line) {
                Ok(Message::CompilerArtifact(artifact)) => {
                    if artifact.package_id == selection.id {
                        built.note(&artifact, targets);
                    }
                    let id = artifact.package_id;
                    if closure.packages.contains(&id) && done.insert(id) {
                        let done = done.len();
                        output(BuildEvent::Progress { done, total });
                    }
                }
                Ok(_) => {}
                // Macros print to standard output as they like.
                Err(_) => output(BuildEvent::Line(line)),
            },
        });
        let status = status.map_err(|error| self.not_run(error))?;
        if !status.success() {
            return Err(self.failed(status, &errors.0));
        }
        if done.len() < total {
            // What no enabled feature or platform needed was never compiled.
            output(BuildEvent::Progress { done: total, total });
        }
        Ok(built)
    }

    /// Builds a plain package at once. None if the result is not to be trusted, or the package cannot
    /// be resolved without the network: then cargo has to be asked first.
    ///
    /// To be trusted, cargo must say that it has compiled the package itself, and not that it found
    /// it compiled (see [`Job::forget_local_packages`]), and that everything else is downloaded or
    /// ours.
    pub(super) fn compile_plain(
        &self,
        plain: &Plain,
        around: &Surroundings<'_>,
        output: &mut dyn FnMut(BuildEvent),
    ) -> Result<Option<Built>, BuildError> {
        let targets = plain.targets();
        let mut command = self.cargo_build(targets, around.patches);
        command.arg("--offline");
        let mut built = Built::default();
        let mut errors = LastLines::default();
        // What is printed about a build that does not count is nobody's business.
        let mut held = Vec::new();
        let mut trusted = true;
        let mut begun = false;
        let mut progress = Progress::default();
        let status = process::run(command, self.request.cancel, &mut |line| match line {
            Printed::Err(line) if is_status(&line) => {
                if !is_resolving(&line) {
                    output(BuildEvent::Line(line));
                }
            }
            Printed::Err(line) => {
                errors.push(&line);
                held.push(line);
            }
            Printed::Out(line) => match serde_json::from_str(&line) {
                Ok(Message::CompilerArtifact(artifact)) => {
                    let is_own = artifact.manifest_path == self.manifest;
                    if is_own {
                        built.note(&artifact, targets);
                        trusted &= !artifact.fresh;
                    } else if !artifact.fresh && progress.closure.is_none() {
                        // Compiling dependencies takes long enough to be told how many there are.
                        progress.closure = Some(self.packages(around));
                    }
                    let is_ours = artifact.manifest_path.starts_with(around.sdk);
                    trusted &= is_own || is_ours || !is_local(&artifact.package_id);
                    progress.has(artifact.package_id, output);
                }
                Ok(Message::BuildFinished(_)) => begun = true,
                Ok(_) => {}
                Err(_) => held.push(line),
            },
        });
        let status = status.map_err(|error| self.not_run(error))?;
        let names: Vec<_> = self.builder.sdk.names().collect();
        let is_whole = built.library.is_some() == targets.library.is_some()
            && built.binary.is_some() == targets.binary.is_some();
        trusted &= begun && lockfile::is_alone(&around.lock.text(), &plain.package, &names);
        if !trusted || (status.success() && !is_whole) {
            return Ok(None);
        }
        for line in held {
            output(BuildEvent::Line(line));
        }
        if !status.success() {
            return Err(self.failed(status, &errors.0));
        }
        progress.end(output);
        Ok(Some(built))
    }

    /// Returns the packages that the plugin may consist of; none if cargo does not tell.
    fn packages(&self, around: &Surroundings<'_>) -> HashSet<PackageId> {
        let closure = || {
            let resolved = self.resolved(around.patches, around.compiler).ok()?;
            let own = resolved
                .packages
                .iter()
                .find(|package| package.manifest_path == self.manifest)?;
            let closure = super::selection::closure(&resolved, &own.id, around.sdk, &[]);
            Some(closure.packages)
        };
        closure().unwrap_or_default()
    }

    fn cargo_build(&self, targets: Targets<'_>, patches: &[String]) -> Command {
        let mut command = self.cargo("build", patches);
        command
            .args([
                "--release",
                "--color=never",
                "--message-format=json-render-diagnostics",
            ])
            .args(["--config", "profile.release.panic=\"unwind\""])
            .arg("--target-dir")
            .arg(&self.builder.folders.target);
        if !self.request.features.is_empty() {
            command.arg(format!("--features={}", self.request.features.join(",")));
        }
        if targets.library.is_some() {
            command.arg("--lib");
        }
        if let Some(name) = targets.binary {
            command.arg(format!("--bin={name}"));
        }
        command
    }
}

/// How far the build of a plain package is.
#[derive(Default)]
struct Progress {
    /// What may have to be compiled, once it is known.
    closure: Option<HashSet<PackageId>>,
    done: HashSet<PackageId>,
}

impl Progress {
    fn has(&mut self, id: PackageId, output: &mut dyn FnMut(BuildEvent)) {
        if self.done.insert(id)
            && let Some(closure) = &self.closure
            && !closure.is_empty()
        {
            let done = closure.intersection(&self.done).count();
            let total = closure.len();
            output(BuildEvent::Progress { done, total });
        }
    }

    fn end(&self, output: &mut dyn FnMut(BuildEvent)) {
        let known = self.closure.as_ref().map_or(0, HashSet::len);
        let total = known.max(self.done.len());
        output(BuildEvent::Progress { done: total, total });
    }
}

/// Whether the package lies in a folder of this machine that nobody has downloaded.
fn is_local(id: &PackageId) -> bool {
    id.repr.starts_with("path+") || id.repr.contains("(path+")
}

impl Built {
    fn note(&mut self, artifact: &Artifact, targets: Targets<'_>) {
        let name = Some(artifact.target.name.as_str());
        if artifact.target.is_cdylib() && name == targets.library {
            let library = artifact
                .filenames
                .iter()
                .find(|file| matches!(file.extension(), Some("so" | "dylib" | "dll")));
            self.library = library.map(|file| file.as_std_path().to_owned());
        } else if artifact.target.is_bin() && name == targets.binary {
            let program = artifact.executable.as_ref();
            self.binary = program.map(|file| file.as_std_path().to_owned());
        }
    }
}
