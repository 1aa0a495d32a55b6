//! `aigis stop`.

use super::context::Context;
use super::error::{CliError, Exit};

/// Stop a plugin
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// The plugin
    name: String,
    /// Print the plugin's state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StopArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    ctx.step("aigis.stop", (&args.name,), args.json)
}
