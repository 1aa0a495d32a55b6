//! `aigis status`.

use super::context::{self, Context};
use super::error::{CliError, Exit};
use super::table;

/// Show every plugin's state, and what it uses
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let session = ctx.session()?;
    let statuses = context::statuses(&session)?;
    if args.json {
        ctx.write_json(&statuses)?;
        return Ok(Exit::Ok);
    }
    let mut text = table::plugins(&statuses, ctx.width());
    if let Some(core) = context::core(&session) {
        text = format!("{text}\n{}\n", table::core(&core));
    }
    ctx.write(&text)?;
    Ok(Exit::Ok)
}
