//! `aigis status`.

use super::context::{self, Context};
use super::error::{CliError, Exit};
use super::table;

/// Show every plugin's state
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let statuses = context::statuses(&ctx.session()?)?;
    match args.json {
        true => ctx.write_json(&statuses)?,
        false => ctx.write(&table::plugins(&statuses))?,
    }
    Ok(Exit::Ok)
}
