//! `aigis apply`.

use std::path::PathBuf;

use super::context::{Context, STEP_TIMEOUT};
use super::error::{CliError, Exit};
use crate::host::ApplyReport;

/// Make what runs what the config says: add, remove and change plugins while the others go on
///
/// The plan is shown and then carried out. What is new is fetched and built before anything is changed; what fails leaves
/// its plugin as it was. Plugins that were added with `aigis add` stay. A config with mistakes changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// Apply this config instead of the one that the core was started with
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove and change plugins even if others lose what they were compiled for
    #[arg(long)]
    force: bool,
    /// Print what was done, or would be, as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ApplyArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    // A file is meant from here, not from the core's folder.
    let config = args
        .config
        .as_ref()
        .map(std::path::absolute)
        .transpose()
        .map_err(CliError::system("the config cannot be found"))?
        .map(|path| path.display().to_string());
    let session = ctx.session()?;
    let plan: ApplyReport =
        session.call_within("aigis.apply", (&config, true, args.force), STEP_TIMEOUT)?;
    if !args.json {
        let plan = plan.to_string();
        match args.dry_run {
            true => ctx.write(&plan)?,
            false => ctx.tell(plan.trim_end()),
        }
    }
    if args.dry_run || plan.is_empty() {
        if args.json {
            ctx.write_json(&plan)?;
        }
        return Ok(Exit::Ok);
    }
    let done: ApplyReport =
        session.call_within("aigis.apply", (&config, false, args.force), STEP_TIMEOUT)?;
    match args.json {
        true => ctx.write_json(&done)?,
        false => {
            for step in &done.steps {
                ctx.tell(&step.to_string());
            }
        }
    }
    match done.failed() {
        names if names.is_empty() => Ok(Exit::Ok),
        names => Err(CliError::NotApplied { names }),
    }
}
