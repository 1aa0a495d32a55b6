//! `aigis remove`.

use super::context::{Context, STEP_TIMEOUT};
use super::error::{CliError, Exit};

/// Stop a plugin and forget it, until the config is applied or the core starts again
///
/// Its folders, data and log stay. A plugin in the core that others have been compiled for is not removed.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The plugin
    name: String,
    /// Remove it even if others have been compiled for its skills
    #[arg(long)]
    force: bool,
    /// Take it out of the config as well
    #[arg(long)]
    save: bool,
}

pub(super) fn run(args: &RemoveArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let arguments = (&args.name, args.force, args.save);
    let session = ctx.session()?;
    let () = session.call_within("aigis.remove", arguments, STEP_TIMEOUT)?;
    ctx.tell(&format!("{}: removed", args.name));
    Ok(Exit::Ok)
}
