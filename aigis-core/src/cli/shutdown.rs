//! `aigis shutdown`.

use std::time::Duration;

use aigis_plugin_api::CallError;

use super::context::Context;
use super::error::{CliError, Exit};
use super::linux::WatchedProcess;

/// Shut the core down and wait until its process has ended
#[derive(Debug, clap::Args)]
pub(super) struct ShutdownArgs {
    /// Wait at most this long; the core goes on shutting down
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = super::seconds)]
    timeout: Duration,
}

pub(super) fn run(args: &ShutdownArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let session = ctx.session()?;
    let pid = session.core_pid();
    // Watched before it is asked to end, while the number is certainly its own.
    let process = WatchedProcess::open(pid)
        .map_err(CliError::system("the core's process cannot be watched"))?;
    match session.call::<()>("aigis.shutdown", ()) {
        // It was on its way down already, or too fast to answer: what counts is its end.
        Ok(()) | Err(CallError::CoreGone { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match process.wait(args.timeout) {
        Ok(true) => Ok(Exit::Ok),
        Ok(false) => Err(CliError::StillRunning {
            pid,
            after: args.timeout,
        }),
        Err(error) => Err(CliError::system("the core's process cannot be watched")(
            error,
        )),
    }
}
