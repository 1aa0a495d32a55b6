//! `aigis replace`.

use super::context::{self, Context};
use super::error::{CliError, Exit};

/// Put another plugin in the place of one, under the same names, in one instant
///
/// The new plugin is fetched, built and loaded while the old one serves. Whoever calls goes on calling.
/// The config file is not changed.
#[derive(Debug, clap::Args)]
pub(super) struct ReplaceArgs {
    /// The plugin that goes
    old: String,
    /// The plugin that comes: its name and its source, a git URL, a folder or a table as in the config
    #[arg(value_name = "NEW=SOURCE", value_parser = context::name_and_source)]
    new: (String, String),
    /// Replace it even if others lose what they were compiled for
    #[arg(long)]
    force: bool,
    /// Print the new plugin's state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReplaceArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let (name, source) = &args.new;
    let source = context::source_from_here(source)?;
    let arguments = (&args.old, name, source, args.force);
    ctx.step("aigis.replace", arguments, args.json)
}
