//! The program `aigis`: one thin file per command.
//!
//! Start at [`main`]. A command reads its arguments, asks the library or a running core, and writes data to standard
//! output and everything else to standard error. Errors are printed in one place, `CliError::report`, which also
//! decides the exit code. What holds: no command but `build-and-run` starts anything, and nothing here panics because
//! of what a user typed or because nobody reads the output.

mod add;
mod apply;
mod arguments;
mod build_and_run;
mod call;
mod console;
mod context;
mod detach;
mod error;
mod linux;
mod logs;
mod reload;
mod remove;
mod repl;
mod repl_line;
mod replace;
mod restart;
mod service;
mod shutdown;
mod skills;
mod start;
mod status;
mod stop;
mod table;
#[cfg(test)]
mod tests;
mod top;
mod units;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use context::Context;
use error::{CliError, Exit};

use crate::host::{self, ISOLATE_ARGUMENT};
use crate::loader::{self, PROBE_ARGUMENT};
use crate::supervisor::{self, SHIM_ARGUMENT};

/// One brain for many independent programs
///
/// One config file names plugins; AIGIS fetches, builds, loads, launches, watches, logs and connects them.
///
/// Exit codes: 0 ok, 1 internal error, 2 usage or config, 3 some plugins failed, 4 a skill's error or panic, 5 no core is
/// running, 6 unknown name, 7 refused, 8 timed out, 9 the home is in use.
#[derive(Debug, Parser)]
#[command(name = "aigis", version)]
struct Cli {
    /// Work in this folder, which holds `config/`, `ext/`, `secrets/`, `log/` and `run/`
    #[arg(
        long,
        global = true,
        env = "AIGIS_HOME",
        default_value = ".",
        value_name = "DIR"
    )]
    home: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    BuildAndRun(build_and_run::BuildAndRunArgs),
    Status(status::StatusArgs),
    Top(top::TopArgs),
    Skills(skills::SkillsArgs),
    Call(call::CallArgs),
    Logs(logs::LogsArgs),
    Reload(reload::ReloadArgs),
    Apply(apply::ApplyArgs),
    Add(add::AddArgs),
    Remove(remove::RemoveArgs),
    Replace(replace::ReplaceArgs),
    Stop(stop::StopArgs),
    Start(start::StartArgs),
    Restart(restart::RestartArgs),
    Shutdown(shutdown::ShutdownArgs),
    Repl(repl::ReplArgs),
}

/// Runs the program with the arguments of this process.
///
/// Hidden first arguments make it one of the core's own processes, a shim, a probe or that of an isolated library, instead.
pub fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(first) if first == SHIM_ARGUMENT => supervisor::shim_main(),
        Some(first) if first == PROBE_ARGUMENT => loader::probe_main(),
        Some(first) if first == ISOLATE_ARGUMENT => return host::isolate_main(),
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when the message itself cannot be written.
            let _ = error.print();
            return match error.exit_code() {
                0 => Exit::Ok,
                _ => Exit::Usage,
            }
            .into();
        }
    };
    let mut ctx = Context::of_process(cli.home);
    let exit = run(&cli.command, &mut ctx).unwrap_or_else(|error| error.report(ctx.stderr()));
    exit.into()
}

fn run(command: &Command, ctx: &mut Context) -> Result<Exit, CliError> {
    match command {
        Command::BuildAndRun(args) => build_and_run::run(args, ctx),
        Command::Status(args) => status::run(args, ctx),
        Command::Top(args) => top::run(args, ctx),
        Command::Skills(args) => skills::run(args, ctx),
        Command::Call(args) => call::run(args, ctx),
        Command::Logs(args) => logs::run(args, ctx),
        Command::Reload(args) => reload::run(args, ctx),
        Command::Apply(args) => apply::run(args, ctx),
        Command::Add(args) => add::run(args, ctx),
        Command::Remove(args) => remove::run(args, ctx),
        Command::Replace(args) => replace::run(args, ctx),
        Command::Stop(args) => stop::run(args, ctx),
        Command::Start(args) => start::run(args, ctx),
        Command::Restart(args) => restart::run(args, ctx),
        Command::Shutdown(args) => shutdown::run(args, ctx),
        Command::Repl(args) => repl::run(args, ctx),
    }
}

/// Reads a number of seconds, which may have a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected a number of seconds, such as `30` or `0.5`".to_owned())
}
