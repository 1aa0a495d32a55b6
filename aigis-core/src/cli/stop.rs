//! `aigis stop`.

use super::context::Context;
use super::error::{CliError, Exit};

/// Stop a plugin
///
/// A plugin in the core that others have been compiled for is not stopped.
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// The plugin
    name: String,
    /// Stop it even if others have been compiled for its skills
    #[arg(long)]
    force: bool,
    /// Print the plugin's state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StopArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    ctx.step("aigis.stop", (&args.name, args.force), args.json)
}
