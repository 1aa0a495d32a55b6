//! `aigis logs`.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::error::{CliError, Exit};
use crate::config::{Config, PluginName};
use crate::home::Home;
use crate::logging::{self, Follow, LogError};
use crate::registry::nearest;

/// Show the last entries of a log; works without a running core
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    /// The plugin; without it, the core's own log
    name: Option<String>,
    /// Show this many entries
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 5)]
    count: usize,
    /// Go on with what is logged from now on
    #[arg(short, long)]
    follow: bool,
}

pub(super) fn run(args: &LogsArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let home = ctx.places()?;
    let path = match args.name.as_deref() {
        // `core` is no plugin's name.
        None | Some("core") => home.core_log(),
        Some(name) => plugin_log(&home, name)?,
    };
    let shown = match args.follow {
        true => follow(&path, args.count, ctx),
        false => last(&path, args.count, ctx),
    };
    match shown {
        // A plugin that has not logged yet is no mistake.
        Err(CliError::Log(error @ LogError::Missing { .. })) => {
            ctx.tell(&format!("warning: {error}"));
            Ok(Exit::Ok)
        }
        shown => shown.map(|()| Exit::Ok),
    }
}

fn plugin_log(home: &Home, name: &str) -> Result<PathBuf, CliError> {
    let mut known = configured(home);
    // Only a checked name becomes part of a path.
    if name.parse::<PluginName>().is_ok() {
        let path = home.plugin_log(name);
        if path.exists() || known.iter().any(|known| known == name) {
            return Ok(path);
        }
    }
    known.extend(logged(&home.plugin_logs()));
    known.sort();
    known.dedup();
    Err(CliError::UnknownPlugin {
        name: name.to_owned(),
        nearest: nearest(name, known.iter().map(String::as_str)),
    })
}

fn last(path: &Path, count: usize, ctx: &mut Context) -> Result<(), CliError> {
    for record in logging::tail(path, count).map_err(CliError::Log)? {
        ctx.write(&format!("{record}\n"))?;
    }
    Ok(())
}

fn follow(path: &Path, count: usize, ctx: &mut Context) -> Result<(), CliError> {
    for line in Follow::new(path, count).map_err(CliError::Log)? {
        ctx.write(&format!("{}\n", line.map_err(CliError::Log)?))?;
    }
    Ok(())
}

/// Returns the plugins that the home's own config lists; none when it cannot be read.
fn configured(home: &Home) -> Vec<String> {
    match Config::load(&home.config_file()) {
        Ok(config) => config
            .plugins
            .iter()
            .map(|entry| entry.name.to_string())
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Returns the plugins that have a log.
fn logged(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".log").map(str::to_owned)
        })
        .collect()
}
