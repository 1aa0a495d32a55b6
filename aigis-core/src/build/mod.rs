//! The build: turns a plugin's sources into a library, a program, or both.
//!
//! Start at [`Builder`]. It finds what to build with `cargo metadata`, where the manifest alone does
//! not say it, runs `cargo build --release` in a target folder that all plugins share, and copies
//! what comes out to a file that is named after its content. Whether a plugin must be built is decided
//! by content alone, without calling cargo: modification times are never read.
//!
//! The parts, in reading order: `job` is one build from start to end, `compile` its calls of
//! `cargo build` and `cargo` those of other commands; `plain` recognises what can be built without
//! asking; `selection` chooses the package and its targets; `freshness` gathers what a build
//! depends on and `stamp` records it; `digest` hashes folders; `environment`, `toolchain` and
//! `config_files` decide which of the caller's surroundings count; `sdk` and `lockfile` let a
//! plugin build on a machine that has nothing but this program and a Rust toolchain; `process`
//! runs a program, `turn` lets one build through at a time; `artifact` keeps the results.

mod artifact;
mod cargo;
mod compile;
mod config_files;
mod digest;
mod environment;
mod error;
mod freshness;
mod job;
mod lockfile;
mod plain;
mod process;
mod sdk;
mod selection;
mod stamp;
mod toolchain;
mod turn;
mod unix;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::config::PluginName;

pub use error::BuildError;
pub use sdk::{Sdk, SdkCrate};
pub use toolchain::Toolchain;

use job::Job;
use sdk::WrittenSdk;
use toolchain::Compilers;
use turn::Turnstile;

/// The folders that builds write to; all are made when they are first needed.
#[derive(Clone, Debug)]
pub struct BuildFolders {
    /// The cargo target folder that all plugins share.
    pub target: PathBuf,
    /// Where finished libraries and programs are kept, each under the hash of its content.
    pub artifacts: PathBuf,
    /// Where one record per plugin says what its artifacts were built from.
    pub stamps: PathBuf,
    /// Where the sources of the crates that this program carries are written.
    pub sdk: PathBuf,
}

/// What is to be built, for which plugin.
#[derive(Clone, Copy, Debug)]
pub struct BuildRequest<'a> {
    /// The plugin.
    pub plugin: &'a PluginName,
    /// The plugin's own folder; everything below it counts as its source.
    pub root: &'a Path,
    /// The folder whose `Cargo.toml` is built, absolute.
    pub entrypoint: &'a Path,
    /// The kinds of target that are needed.
    pub wants: Wants<'a>,
    /// The package to build, where the folder holds a workspace.
    pub package: Option<&'a str>,
    /// The cargo features to switch on.
    pub features: &'a [String],
    /// Files and folders that are no source, such as secrets; relative ones are below `root`.
    pub excluded: &'a [PathBuf],
    /// Ends the build soon after it becomes true.
    pub cancel: &'a AtomicBool,
}

/// The kinds of target that a plugin needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants<'a> {
    /// A core plugin: the package's `cdylib`.
    Library,
    /// An internal plugin: one of the package's programs.
    Binary {
        /// The program's target name; without it the package must have exactly one.
        name: Option<&'a str>,
        /// Whether to build the package's `cdylib` as well, if it has one.
        library: bool,
    },
}

/// What a build says while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// A line as cargo or rustc printed it.
    Line(String),
    /// Another package is compiled, or was so already.
    Progress {
        /// The packages that are done.
        done: usize,
        /// The packages that the plugin may consist of, itself included.
        total: usize,
    },
}

/// The files that a plugin runs from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// The library, if one was asked for and the package has one.
    pub library: Option<PathBuf>,
    /// The program, if one was asked for.
    pub binary: Option<PathBuf>,
    /// Whether these files were there already, so that nothing was built.
    pub fresh: bool,
}

/// Builds plugins, one at a time, and knows which of them need no building.
#[derive(Debug)]
pub struct Builder {
    folders: BuildFolders,
    sdk: WrittenSdk,
    toolchain: Toolchain,
    compilers: Compilers,
    turnstile: Turnstile,
}

impl Builder {
    /// Returns a builder that writes to `folders` and calls `toolchain`; runs nothing yet.
    pub fn new(folders: BuildFolders, sdk: Sdk, toolchain: Toolchain) -> Self {
        let sdk = WrittenSdk::new(&folders.sdk, sdk);
        // In the target folder, which several homes may share: it is what has to be taken in turns.
        let turnstile = Turnstile::new(folders.target.join(".aigis-turn"));
        Self {
            folders,
            sdk,
            toolchain,
            compilers: Compilers::default(),
            turnstile,
        }
    }

    /// Builds what `request` asks for, unless the files of an earlier build are still right.
    ///
    /// Blocks; waits for other builds first, since cargo locks the shared target folder.
    /// `output` is called on the calling thread.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the package, the toolchain or the plugin's code, or that the
    /// build was cancelled. The artifacts of earlier builds are left as they were.
    pub fn build(
        &self,
        request: &BuildRequest<'_>,
        output: &mut dyn FnMut(BuildEvent),
    ) -> Result<Artifacts, BuildError> {
        Job::new(self, request)?.run(output)
    }

    /// Returns the files of an earlier build if building again would give the same ones.
    ///
    /// Never calls cargo; asks `rustc` for its version once per toolchain and process.
    /// Anything that cannot be read counts as changed.
    pub fn fresh(&self, request: &BuildRequest<'_>) -> Option<Artifacts> {
        Job::new(self, request).ok()?.fresh()
    }

    /// Deletes the artifacts of `plugin` except those in `keep`; failures are left for later.
    ///
    /// Builds only ever add artifacts, because a library that is loaded must keep its file.
    pub fn prune(&self, plugin: &PluginName, keep: &[&Path]) {
        artifact::prune(&self.folders.artifacts, plugin.as_str(), keep);
    }
}
