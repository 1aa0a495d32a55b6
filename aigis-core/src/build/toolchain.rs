//! The programs of the Rust toolchain, and which compiler a folder gets.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use super::environment::{Variables, for_toolchain, value};
use super::process::{self, Printed, RunError};

/// The programs that builds call and the environment they are called in.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The program `cargo`: a path, or a name that is looked for in PATH.
    pub cargo: PathBuf,
    /// The program `rustc`: a path, or a name that is looked for in PATH.
    pub rustc: PathBuf,
    /// The variables the programs are given, except those that must not reach them.
    pub environment: Vec<(OsString, OsString)>,
}

impl Toolchain {
    /// Returns the toolchain that this process's environment names.
    ///
    /// The variable CARGO is ignored: a cargo that runs us sets it to one toolchain's own
    /// program, which would not heed a plugin's `rust-toolchain.toml`.
    pub fn from_environment() -> Self {
        let environment: Variables = std::env::vars_os().collect();
        let rustc = value(&environment, "RUSTC").map_or_else(|| "rustc".into(), PathBuf::from);
        Self {
            cargo: "cargo".into(),
            rustc,
            environment,
        }
    }

    /// Returns the command that runs `program` in `folder`, without arguments.
    pub(super) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(for_toolchain(&self.environment))
            .current_dir(folder);
        command
    }

    /// Returns the PATH in which programs are looked for.
    pub(super) fn path(&self) -> String {
        value(&self.environment, "PATH")
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

/// A compiler, by what it says about itself.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    /// What `rustc -vV` prints.
    pub(super) description: String,
    /// The platform it runs on.
    pub(super) host: String,
}

/// Why it is not known which compiler a folder gets.
#[derive(Debug)]
pub(super) enum UnknownCompiler {
    /// There is none.
    Missing(io::Error),
    /// It failed, for example because the toolchain that was asked for is not installed.
    Failed(ExitStatus, String),
    Cancelled,
}

/// What decides which toolchain a folder gets; none for the default one.
type Decision = Option<(PathBuf, String)>;

/// The compilers asked so far. One question costs tens of milliseconds, so folders that get
/// the same toolchain share the answer.
#[derive(Debug, Default)]
pub(super) struct Compilers {
    known: Mutex<HashMap<Decision, Compiler>>,
}

impl Compilers {
    /// Returns the compiler that a build in `folder` gets; asks it at most once.
    pub(super) fn get(
        &self,
        toolchain: &Toolchain,
        folder: &Path,
        cancel: &AtomicBool,
    ) -> Result<Compiler, UnknownCompiler> {
        let decision = decision(toolchain, folder);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiler) = known.get(&decision) {
            return Ok(compiler.clone());
        }
        // The lock is held while asking, so that ten plugins at once ask once.
        let compiler = ask(toolchain, folder, false, cancel)?;
        known.insert(decision, compiler.clone());
        Ok(compiler)
    }

    /// Returns the answer for `folder` if there was one before.
    pub(super) fn known(&self, toolchain: &Toolchain, folder: &Path) -> Option<Compiler> {
        let decision = decision(toolchain, folder);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&decision).cloned()
    }

    /// Asks again: the toolchain may have been updated since, and a build uses the new one.
    pub(super) fn refresh(
        &self,
        toolchain: &Toolchain,
        folder: &Path,
        cancel: &AtomicBool,
    ) -> Result<Compiler, UnknownCompiler> {
        let compiler = ask(toolchain, folder, true, cancel)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(decision(toolchain, folder), compiler.clone());
        Ok(compiler)
    }
}

/// Returns the conditional-compilation settings of the compiler that `folder` gets.
pub(super) fn settings(
    toolchain: &Toolchain,
    folder: &Path,
    cancel: &AtomicBool,
) -> Result<String, UnknownCompiler> {
    let mut command = toolchain.command(&toolchain.rustc, folder);
    command.args(["--print", "cfg"]);
    printed_by(command, cancel)
}

fn ask(
    toolchain: &Toolchain,
    folder: &Path,
    may_install: bool,
    cancel: &AtomicBool,
) -> Result<Compiler, UnknownCompiler> {
    let mut command = toolchain.command(&toolchain.rustc, folder);
    command.arg("-vV");
    if !may_install {
        // A question must not start the download of a whole toolchain.
        command.env("RUSTUP_AUTO_INSTALL", "0");
    }
    let description = printed_by(command, cancel)?;
    let host = description
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap_or_default()
        .to_owned();
    Ok(Compiler { description, host })
}

fn printed_by(command: Command, cancel: &AtomicBool) -> Result<String, UnknownCompiler> {
    let (mut out, mut err) = (String::new(), String::new());
    let status = process::run(command, cancel, &mut |line| {
        let (text, line) = match line {
            Printed::Out(line) => (&mut out, line),
            Printed::Err(line) => (&mut err, line),
        };
        text.push_str(&line);
        text.push('\n');
    });
    match status {
        Ok(status) if status.success() => Ok(out),
        Ok(status) => Err(UnknownCompiler::Failed(status, err)),
        Err(RunError::Start(error)) => Err(UnknownCompiler::Missing(error)),
        Err(RunError::Cancelled) => Err(UnknownCompiler::Cancelled),
    }
}

/// Returns what makes `folder` differ from the default: the nearest toolchain file, or an
/// entry of `rustup override`.
fn decision(toolchain: &Toolchain, folder: &Path) -> Decision {
    let overrides = overrides(toolchain);
    for above in folder.ancestors() {
        let named = above.to_str().and_then(|above| overrides.get(above));
        if let Some(name) = named.and_then(toml::Value::as_str) {
            return Some((above.to_owned(), name.to_owned()));
        }
        for name in ["rust-toolchain", "rust-toolchain.toml"] {
            if let Ok(text) = fs::read_to_string(above.join(name)) {
                return Some((above.to_owned(), text));
            }
        }
    }
    None
}

fn overrides(toolchain: &Toolchain) -> toml::Table {
    let environment = &toolchain.environment;
    let rustup_home = value(environment, "RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(value(environment, "HOME")?).join(".rustup")));
    rustup_home
        .and_then(|home| fs::read_to_string(home.join("settings.toml")).ok())
        .and_then(|text| text.parse::<toml::Table>().ok())
        .and_then(|mut settings| settings.remove("overrides"))
        .and_then(|overrides| match overrides {
            toml::Value::Table(table) => Some(table),
            _ => None,
        })
        .unwrap_or_default()
}
