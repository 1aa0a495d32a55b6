//! `aigis start`.

use super::context::Context;
use super::error::{CliError, Exit};

/// Start a plugin that was stopped or has failed
#[derive(Debug, clap::Args)]
pub(super) struct StartArgs {
    /// The plugin
    name: String,
    /// Print the plugin's state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StartArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    ctx.step("aigis.start", (&args.name,), args.json)
}
