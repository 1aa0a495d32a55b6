//! `aigis reload`.

use super::context::Context;
use super::error::{CliError, Exit};

/// Build plugins again and swap them; if that fails, the old versions go on
///
/// Several plugins are switched together, in one instant: for those that changed what they expect of
/// one another.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    /// The plugins
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Copy or clone their sources anew
    #[arg(long)]
    fresh: bool,
    /// Swap even if others lose what they were compiled for
    #[arg(long)]
    force: bool,
    /// Print the plugins' state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReloadArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    match &args.names[..] {
        [name] => ctx.step("aigis.reload", (name, args.fresh, args.force), args.json),
        names => ctx.steps(
            "aigis.reload_set",
            (names, args.fresh, args.force),
            args.json,
        ),
    }
}
