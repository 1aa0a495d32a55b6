//! `aigis reload`.

use super::context::Context;
use super::error::{CliError, Exit};

/// Build a plugin again and swap it; if that fails, the old version goes on
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    /// The plugin
    name: String,
    /// Copy or clone its source anew
    #[arg(long)]
    fresh: bool,
    /// Print the plugin's state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReloadArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let arguments = (&args.name, args.fresh);
    ctx.step("aigis.reload", arguments, args.json)
}
