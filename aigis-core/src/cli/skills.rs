//! `aigis skills`.

use aigis_plugin_api::Value;

use super::context::{self, Context};
use super::error::{CliError, Exit};
use super::table;
use crate::host::SkillInfo;

/// List the skills that are offered
#[derive(Debug, clap::Args)]
pub(super) struct SkillsArgs {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
    /// Show only this plugin's (can be repeated)
    #[arg(long, value_name = "NAME")]
    plugin: Vec<String>,
}

pub(super) fn run(args: &SkillsArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let session = ctx.session()?;
    let mut skills = context::skills(&session)?;
    // A plugin without skills is no mistake, one that does not exist is.
    if let Some(absent) = args
        .plugin
        .iter()
        .find(|name| skills.iter().all(|skill| skill.plugin != **name))
    {
        let all = context::statuses(&session)?;
        if all.iter().all(|status| status.name != *absent) {
            return Err(context::unknown_plugin(absent, &all));
        }
    }
    if !args.plugin.is_empty() {
        skills.retain(|skill| args.plugin.contains(&skill.plugin));
    }
    match args.json {
        true => ctx.write_value(&skills.iter().map(entry).collect())?,
        false => ctx.write(&table::skills(&skills))?,
    }
    Ok(Exit::Ok)
}

fn entry(skill: &SkillInfo) -> Value {
    Value::from_iter([
        ("name", skill.name.as_str()),
        ("plugin", &skill.plugin),
        ("signature", &skill.signature),
        ("doc", &skill.doc),
    ])
}
