//! `aigis restart`.

use super::context::Context;
use super::error::{CliError, Exit};

/// Stop plugins and start them again
#[derive(Debug, clap::Args)]
pub(super) struct RestartArgs {
    /// The plugins
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Print the plugins' state as JSON, in a list
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RestartArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    ctx.steps("aigis.restart", (&args.names,), args.json)
}
