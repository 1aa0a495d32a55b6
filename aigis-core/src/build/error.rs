//! Why a plugin could not be built.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::config::PluginName;

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A program of the Rust toolchain is not installed or cannot be started.
    #[error(
        "plugin `{plugin}` needs `{}` to be built, which could not be started with PATH={path}; \
         install Rust with rustup (https://rustup.rs) or add it to PATH",
        program.display()
    )]
    ToolMissing {
        /// The plugin.
        plugin: PluginName,
        /// The program as it was called.
        program: PathBuf,
        /// Where it was looked for.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The compiler is there but does not say which one it is.
    #[error("plugin `{plugin}`: `{} -vV` failed ({status}):\n{output}", program.display())]
    Compiler {
        /// The plugin.
        plugin: PluginName,
        /// The compiler as it was called.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },
    /// The folder to be built holds no `Cargo.toml`.
    #[error(
        "plugin `{plugin}` has no `{}`; ENTRYPOINT must name the folder of the package to build",
        path.display()
    )]
    NoManifest {
        /// The plugin.
        plugin: PluginName,
        /// The file that was expected.
        path: PathBuf,
    },
    /// The plugin lies in the folder of a cargo workspace that does not list it.
    #[error(
        "plugin `{plugin}` lies inside the cargo workspace `{}` and is no member of it; \
         add `exclude = [\"{exclude}\"]` to `[workspace]` there",
        workspace.display()
    )]
    ForeignWorkspace {
        /// The plugin.
        plugin: PluginName,
        /// The manifest of the workspace.
        workspace: PathBuf,
        /// The entry that keeps the plugin out of it.
        exclude: String,
    },
    /// Cargo could not read the manifest or find the dependencies.
    #[error("plugin `{plugin}`: cargo could not resolve the package ({status}):\n{output}")]
    Resolve {
        /// The plugin.
        plugin: PluginName,
        /// How cargo ended.
        status: ExitStatus,
        /// The last lines that cargo printed.
        output: String,
    },
    /// Cargo's description of the package could not be read.
    #[error("plugin `{plugin}`: the output of `cargo metadata` could not be read")]
    Metadata {
        /// The plugin.
        plugin: PluginName,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The plugin is a workspace without a package of its own, and none was chosen.
    #[error(
        "plugin `{plugin}` is a workspace of several packages; \
         choose one with PACKAGE: {}",
        list(found)
    )]
    ChoosePackage {
        /// The plugin.
        plugin: PluginName,
        /// The packages, each with the targets a plugin can use.
        found: Vec<String>,
    },
    /// The chosen package is not there.
    #[error("plugin `{plugin}` has no package `{package}`; it has {}", list(found))]
    NoPackage {
        /// The plugin.
        plugin: PluginName,
        /// The package that was asked for.
        package: String,
        /// The packages, each with the targets a plugin can use.
        found: Vec<String>,
    },
    /// The package makes no library that can be loaded.
    #[error(
        "plugin `{plugin}`: package `{package}` has no `cdylib`; add `crate-type = [\"cdylib\"]` \
         to `[lib]` in its Cargo.toml{}",
        elsewhere(found)
    )]
    NoLibrary {
        /// The plugin.
        plugin: PluginName,
        /// The package.
        package: String,
        /// The packages of the same workspace that do make one.
        found: Vec<String>,
    },
    /// The package makes no program.
    #[error(
        "plugin `{plugin}`: package `{package}` has no binary target; add `src/main.rs` or a \
         `[[bin]]` section to its Cargo.toml"
    )]
    NoBinary {
        /// The plugin.
        plugin: PluginName,
        /// The package.
        package: String,
    },
    /// The program that was asked for is not there.
    #[error(
        "plugin `{plugin}`: package `{package}` has no binary `{name}`; it has {}",
        list(found)
    )]
    UnknownBinary {
        /// The plugin.
        plugin: PluginName,
        /// The package.
        package: String,
        /// The binary that was asked for.
        name: String,
        /// The binaries that are there.
        found: Vec<String>,
    },
    /// The package makes several programs, and none was chosen.
    #[error(
        "plugin `{plugin}`: package `{package}` has several binaries; \
         choose one with LAUNCH: {}",
        list(found)
    )]
    ChooseBinary {
        /// The plugin.
        plugin: PluginName,
        /// The package.
        package: String,
        /// The binaries that are there.
        found: Vec<String>,
    },
    /// Compiler flags ask for a panic strategy that would end the process that loads the plugin.
    #[error(
        "plugin `{plugin}` would be built with `-C panic={strategy}` from {place}, and a panic \
         would then end its whole process; remove that flag"
    )]
    PanicStrategy {
        /// The plugin.
        plugin: PluginName,
        /// The strategy that was found.
        strategy: String,
        /// The variable or file that asks for it.
        place: String,
    },
    /// The plugin's code does not compile, or its build was ended from outside.
    #[error("plugin `{plugin}` does not build ({status}):\n{output}")]
    Failed {
        /// The plugin.
        plugin: PluginName,
        /// How cargo ended.
        status: ExitStatus,
        /// The last lines that the compiler printed.
        output: String,
    },
    /// Cargo reported success but named no file of the kind that was asked for.
    #[error(
        "plugin `{plugin}`: cargo built `{target}` but reported no {kind}; \
         the target platform may not support it"
    )]
    NoArtifact {
        /// The plugin.
        plugin: PluginName,
        /// The target that was built.
        target: String,
        /// What was expected of it.
        kind: &'static str,
    },
    /// The build was cancelled.
    #[error("the build of plugin `{plugin}` was cancelled")]
    Cancelled {
        /// The plugin.
        plugin: PluginName,
    },
    /// A file or folder could not be used.
    #[error("plugin `{plugin}`: failed to {action} `{}`", path.display())]
    File {
        /// The plugin.
        plugin: PluginName,
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A failed file operation, before it is known which plugin it was for.
#[derive(Debug)]
pub(super) struct FileFault {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileFault {
    /// Returns a function for `map_err`.
    pub(super) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }

    pub(super) fn for_plugin(self, plugin: &PluginName) -> BuildError {
        BuildError::File {
            plugin: plugin.clone(),
            action: self.action,
            path: self.path,
            source: self.source,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

fn elsewhere(packages: &[String]) -> String {
    if packages.is_empty() {
        return String::new();
    }
    format!(
        ", or choose with PACKAGE one that has: {}",
        packages.join(", ")
    )
}
