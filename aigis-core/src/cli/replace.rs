//! `aigis replace`.

use std::path::Path;

use super::context::Context;
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
    #[arg(value_name = "NEW=SOURCE", value_parser = name_and_source)]
    new: (String, String),
    /// Replace it even if others lose what they were compiled for
    #[arg(long)]
    force: bool,
    /// Print the new plugin's state as JSON
    #[arg(long)]
    json: bool,
}

fn name_and_source(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, source)) if !name.trim().is_empty() && !source.trim().is_empty() => {
            Ok((name.trim().to_owned(), source.trim().to_owned()))
        }
        _ => Err("expected a name and a source, such as `greeter2=../greeter2`".to_owned()),
    }
}

pub(super) fn run(args: &ReplaceArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let (name, source) = &args.new;
    // A folder is meant from here, not from the core's.
    let folder = Path::new(source);
    let source = match folder.is_dir() {
        true => std::path::absolute(folder)
            .map_err(CliError::system("the source's folder cannot be found"))?
            .display()
            .to_string(),
        false => source.clone(),
    };
    let arguments = (&args.old, name, source, args.force);
    ctx.step("aigis.replace", arguments, args.json)
}
