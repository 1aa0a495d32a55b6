//! `aigis add`.

use super::context::{self, Context};
use super::error::{CliError, Exit};
use crate::config::PluginKind;

/// Add a plugin to the running core, until that shuts down
///
/// Its source is fetched anew, built and brought up; what fails leaves nothing of it but its log.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// Its name and its source: a git URL, a folder or a table as in the config
    #[arg(value_name = "NAME=SOURCE", value_parser = context::name_and_source)]
    plugin: (String, String),
    /// The part of the config that it belongs to; without this its manifest says so
    #[arg(long, value_name = "core|internal|external")]
    kind: Option<PluginKind>,
    /// Other keys of its entry, such as `restart=5`, `branch=main` or `settings.port=8080`
    #[arg(value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Write it into the config as well
    #[arg(long)]
    save: bool,
    /// Print the plugin's state as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &AddArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let (name, source) = &args.plugin;
    let source = context::source_from_here(source)?;
    let kind = args.kind.map(PluginKind::as_str);
    let arguments = (name, source, kind, &args.options, args.save);
    ctx.step("aigis.add", arguments, args.json)
}
