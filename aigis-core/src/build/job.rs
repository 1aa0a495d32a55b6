//! One build, from the request to the kept files.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use cargo_metadata::cargo_platform::{Cfg, Platform};

use super::compile::{Built, Surroundings};
use super::environment::{compiler_flags, deadly_panic_strategy, for_toolchain};
use super::error::FileFault;
use super::lockfile::{self, LockFile};
use super::plain::Plain;
use super::selection;
use super::stamp::{Sources, Stamp};
use super::toolchain::{self, Compiler, UnknownCompiler};
use super::turn::NoTurn;
use super::{
    Artifacts, BuildError, BuildEvent, BuildRequest, Builder, artifact, config_files, freshness,
};

/// One request to one builder, its folders with links resolved, as cargo and the digest of
/// the sources name them.
pub(super) struct Job<'a> {
    pub(super) builder: &'a Builder,
    pub(super) request: &'a BuildRequest<'a>,
    pub(super) root: PathBuf,
    pub(super) entrypoint: PathBuf,
    pub(super) manifest: PathBuf,
}

/// What a build has made.
struct Made {
    built: Built,
    /// The name of the library.
    library: Option<String>,
    /// The name of the program.
    binary: Option<String>,
    sources: Sources,
    lock: LockFile,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        builder: &'a Builder,
        request: &'a BuildRequest<'a>,
    ) -> Result<Self, BuildError> {
        let root = fs::canonicalize(request.root)
            .map_err(FileFault::of("find", request.root))
            .map_err(|fault| fault.for_plugin(request.plugin))?;
        let no_manifest = || BuildError::NoManifest {
            plugin: request.plugin.clone(),
            path: request.entrypoint.join("Cargo.toml"),
        };
        let entrypoint = fs::canonicalize(request.entrypoint).map_err(|_| no_manifest())?;
        let manifest = entrypoint.join("Cargo.toml");
        if !manifest.is_file() {
            return Err(no_manifest());
        }
        Ok(Self {
            builder,
            request,
            root,
            entrypoint,
            manifest,
        })
    }

    /// Returns the kept files if nothing changed that they were built from.
    pub(super) fn fresh(&self) -> Option<Artifacts> {
        let folders = &self.builder.folders;
        let stamp = Stamp::load(&folders.stamps, self.request.plugin.as_str())?;
        if stamp.setting != self.setting() || !self.compiler_is(&stamp.compiler) {
            return None;
        }
        if !stamp.lock_states.contains(&lockfile::state(&stamp.lock)) {
            return None;
        }
        let skip = freshness::skipped(folders, self.request, &self.root, &stamp.lock);
        if freshness::tree(&self.root, &skip).ok()? != stamp.tree {
            return None;
        }
        let paths = stamp.outside.iter().map(|outside| outside.path.clone());
        if freshness::outside(paths, &self.root, &skip).ok()? != stamp.outside {
            return None;
        }
        let find = |kept: Option<artifact::Kept>| match kept {
            Some(kept) => kept.path_in(&folders.artifacts).map(Some),
            None => Some(None),
        };
        Some(Artifacts {
            library: find(stamp.library)?,
            binary: find(stamp.binary)?,
            fresh: true,
        })
    }

    /// Whether a build would use the compiler that describes itself so.
    ///
    /// On a machine without one, nothing could be built, so what there is must do.
    fn compiler_is(&self, description: &str) -> bool {
        let Builder {
            compilers,
            toolchain,
            ..
        } = self.builder;
        match compilers.get(toolchain, &self.entrypoint, self.request.cancel) {
            Ok(compiler) => compiler.description == description,
            Err(UnknownCompiler::Missing(_)) => true,
            Err(_) => false,
        }
    }

    /// Builds, unless nothing changed.
    pub(super) fn run(&self, output: &mut dyn FnMut(BuildEvent)) -> Result<Artifacts, BuildError> {
        let builder = self.builder;
        // Held until the artifacts are copied out.
        let _turn = builder
            .turnstile
            .wait(self.request.cancel)
            .map_err(|error| match error {
                NoTurn::Cancelled => self.cancelled(),
                NoTurn::File(path, error) => self.file(FileFault::of("lock", &path)(error)),
            })?;
        if let Some(artifacts) = self.fresh() {
            return Ok(artifacts);
        }
        let sdk = builder.sdk.write().map_err(|fault| self.file(fault))?;
        let made = self.with_compiler(|compiler| {
            self.refuse_deadly_panics(compiler)?;
            match self.at_once(sdk, compiler, output)? {
                Some(made) => Ok(made),
                None => self.step_by_step(sdk, compiler, output),
            }
        })?;
        let Made {
            built,
            library,
            binary,
            sources,
            lock,
        } = made;
        let keep = |target: Option<String>, file: Option<PathBuf>, kind| {
            let Some(target) = target else {
                return Ok(None);
            };
            let file = file.ok_or_else(|| BuildError::NoArtifact {
                plugin: self.request.plugin.clone(),
                target,
                kind,
            })?;
            artifact::keep(
                &builder.folders.artifacts,
                self.request.plugin.as_str(),
                &file,
            )
            .map(Some)
            .map_err(|fault| self.file(fault))
        };
        let library = keep(library, built.library, "dynamic library")?;
        let binary = keep(binary, built.binary, "program")?;
        let lock_path = lock.path().to_owned();
        let stamp = Stamp::new(sources, lock_path, lock.finish(), library, binary);
        stamp
            .save(&builder.folders.stamps, self.request.plugin.as_str())
            .map_err(|fault| self.file(fault))?;
        let find = |kept: &Option<artifact::Kept>| {
            kept.as_ref()
                .and_then(|kept| kept.path_in(&builder.folders.artifacts))
        };
        Ok(Artifacts {
            library: find(&stamp.library),
            binary: find(&stamp.binary),
            fresh: false,
        })
    }

    /// Runs `build` with the compiler that it will use.
    ///
    /// Asking takes a while, so if there is an answer already, it is asked again meanwhile. A build
    /// that has used a newer one by then is recorded with the old answer, and so done again next time.
    fn with_compiler<T>(
        &self,
        build: impl FnOnce(&Compiler) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let Builder {
            compilers,
            toolchain,
            ..
        } = self.builder;
        let refresh = || compilers.refresh(toolchain, &self.entrypoint, self.request.cancel);
        match compilers.known(toolchain, &self.entrypoint) {
            Some(known) => thread::scope(|scope| {
                let asked = thread::Builder::new()
                    .name("build-compiler".to_owned())
                    .spawn_scoped(scope, refresh);
                if asked.is_err() {
                    let compiler = refresh().map_err(|error| self.unknown_compiler(error))?;
                    return build(&compiler);
                }
                build(&known)
            }),
            None => build(&refresh().map_err(|error| self.unknown_compiler(error))?),
        }
    }

    /// Builds a plain package. None if that is not what it turns out to be.
    fn at_once(
        &self,
        sdk: &Path,
        compiler: &Compiler,
        output: &mut dyn FnMut(BuildEvent),
    ) -> Result<Option<Made>, BuildError> {
        let ours = &self.builder.sdk;
        let plain = Plain::recognise(&self.entrypoint, self.request.wants)
            .filter(|plain| ours.is_reached_by(&plain.needs) && self.root_holds(&plain.package));
        let Some(plain) = plain else {
            return Ok(None);
        };
        let lock = self.lock_file(&self.entrypoint)?;
        let sources = self.sources(BTreeSet::new(), lock.path(), compiler)?;
        let patches = self.all_patches(sdk)?;
        let around = Surroundings {
            sdk,
            patches: &patches,
            compiler,
            lock: &lock,
        };
        let built = self.compile_plain(&plain, &around, output)?;
        Ok(built.map(|built| Made {
            built,
            library: plain.library,
            binary: plain.binary,
            sources,
            lock,
        }))
    }

    /// Whether the entrypoint is the plugin's own, and `package` what is asked for.
    fn root_holds(&self, package: &str) -> bool {
        let asked = self.request.package.is_none_or(|asked| asked == package);
        asked && self.entrypoint.starts_with(&self.root)
    }

    /// Asks cargo what belongs to the plugin, makes it forget what it has of that, and builds.
    fn step_by_step(
        &self,
        sdk: &Path,
        compiler: &Compiler,
        output: &mut dyn FnMut(BuildEvent),
    ) -> Result<Made, BuildError> {
        let described = self.describe()?;
        let selection = selection::select(&described, &self.manifest, self.request)?;
        let lock = self.lock_file(described.workspace_root.as_std_path())?;
        let (resolved, patches) = self.resolve(sdk, compiler, &lock, output)?;
        let names: Vec<_> = self.builder.sdk.names().collect();
        let closure = selection::closure(&resolved, &selection.id, sdk, &names);
        for foreign in &closure.foreign {
            output(BuildEvent::Line(format!(
                "warning: this plugin builds against {foreign} instead of the crate of that \
                 name that comes with aigis"
            )));
        }
        let workspace = resolved.workspace_root.as_std_path().join("Cargo.toml");
        let local = closure.local.iter().map(|local| local.folder.clone());
        let outside = local
            .chain([workspace])
            .filter(|path| !path.starts_with(&self.root))
            .collect();
        // Before the build: what changes while it runs will be seen as changed.
        let sources = self.sources(outside, lock.path(), compiler)?;
        self.forget_local_packages(&closure, &patches)?;
        let built = self.compile(&selection, &closure, &patches, output)?;
        Ok(Made {
            built,
            library: selection.library,
            binary: selection.binary,
            sources,
            lock,
        })
    }

    fn lock_file(&self, workspace: &Path) -> Result<LockFile, BuildError> {
        let sdk = &self.builder.sdk;
        let seed = sdk.lock().map(|text| lockfile::seed(text, sdk.names()));
        LockFile::open(workspace.join("Cargo.lock"), seed).map_err(|fault| self.file(fault))
    }

    /// Refuses flags that would turn a plugin's panic into the end of the process it is in.
    ///
    /// Compiler flags come after all others on rustc's command line, so that no profile
    /// setting can override them.
    fn refuse_deadly_panics(&self, compiler: &Compiler) -> Result<(), BuildError> {
        let refuse = |strategy: &str, place: String| BuildError::PanicStrategy {
            plugin: self.request.plugin.clone(),
            strategy: strategy.to_owned(),
            place,
        };
        let environment = for_toolchain(&self.builder.toolchain.environment);
        for variable in compiler_flags(&environment) {
            if let Some(strategy) = deadly_panic_strategy(&variable.flags) {
                return Err(refuse(strategy, format!("the variable {}", variable.place)));
            }
            if variable.exclusive {
                return Ok(());
            }
        }
        for file in config_files::locate(&self.entrypoint, &environment) {
            for found in config_files::compiler_flags(&file) {
                let Some(strategy) = deadly_panic_strategy(&found.flags) else {
                    continue;
                };
                let applies = match &found.target {
                    Some(target) => self.is_host(target, compiler)?,
                    None => true,
                };
                if applies {
                    return Err(refuse(strategy, format!("`{}`", file.display())));
                }
            }
        }
        Ok(())
    }

    /// Whether `target`, a triple or a `cfg(…)`, means the platform that the compiler runs on.
    fn is_host(&self, target: &str, compiler: &Compiler) -> Result<bool, BuildError> {
        let Ok(platform) = target.parse::<Platform>() else {
            return Ok(false);
        };
        let toolchain = &self.builder.toolchain;
        let settings = toolchain::settings(toolchain, &self.entrypoint, self.request.cancel)
            .map_err(|error| self.unknown_compiler(error))?;
        let settings: Vec<Cfg> = settings
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        Ok(platform.matches(&compiler.host, &settings))
    }

    fn sources(
        &self,
        outside: BTreeSet<PathBuf>,
        lock: &Path,
        compiler: &Compiler,
    ) -> Result<Sources, BuildError> {
        let skip = freshness::skipped(&self.builder.folders, self.request, &self.root, lock);
        let read = || {
            Ok(Sources {
                setting: self.setting(),
                compiler: compiler.description.clone(),
                tree: freshness::tree(&self.root, &skip)?,
                outside: freshness::outside(outside, &self.root, &skip)?,
            })
        };
        read().map_err(|fault| self.file(fault))
    }

    fn setting(&self) -> String {
        freshness::setting(self.builder, self.request, &self.root, &self.entrypoint)
    }

    pub(super) fn cancelled(&self) -> BuildError {
        BuildError::Cancelled {
            plugin: self.request.plugin.clone(),
        }
    }

    pub(super) fn file(&self, fault: FileFault) -> BuildError {
        fault.for_plugin(self.request.plugin)
    }

    fn unknown_compiler(&self, error: UnknownCompiler) -> BuildError {
        let program = &self.builder.toolchain.rustc;
        match error {
            UnknownCompiler::Missing(error) => self.missing(program, error),
            UnknownCompiler::Cancelled => self.cancelled(),
            UnknownCompiler::Failed(status, output) => BuildError::Compiler {
                plugin: self.request.plugin.clone(),
                program: program.clone(),
                status,
                output: output.trim_end().to_owned(),
            },
        }
    }

    pub(super) fn missing(&self, program: &Path, source: io::Error) -> BuildError {
        BuildError::ToolMissing {
            plugin: self.request.plugin.clone(),
            program: program.to_owned(),
            path: self.builder.toolchain.path(),
            source,
        }
    }
}
