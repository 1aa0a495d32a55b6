//! `aigis stop`.

use super::context::Context;
use super::error::{CliError, Exit};

/// Stop plugins
///
/// Several are stopped side by side, those that start after others before these. A plugin in the core that others have
/// been compiled for is not stopped.
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// The plugins
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Stop them even if others have been compiled for their skills
    #[arg(long)]
    force: bool,
    /// Print the plugins' state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StopArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    match &args.names[..] {
        [name] => ctx.step("aigis.stop", (name, args.force), args.json),
        names => ctx.steps("aigis.stop_set", (names, args.force), args.json),
    }
}
