//! Which plugin waits for which: `AFTER`, over a whole config.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::name::PluginName;
use super::suggest::nearest;

/// The most unknown names that a near one is looked for.
const MAX_SUGGESTIONS: usize = 20;

/// What is wrong with the `AFTER` of the plugins of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderError {
    /// Names that no plugin has.
    pub unknown: Vec<UnknownName>,
    /// Plugins that wait for one another, each for the next and the last for the first. Cycles that share a plugin are
    /// told one at a time.
    pub cycles: Vec<Vec<PluginName>>,
}

/// A name in an `AFTER` that no plugin has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// The plugin that is to wait.
    pub plugin: PluginName,
    /// The name of what it is to wait for.
    pub name: PluginName,
    /// The plugin that was probably meant.
    pub meant: Option<PluginName>,
}

impl fmt::Display for OrderError {
    /// Writes a line for each mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for UnknownName {
            plugin,
            name,
            meant,
        } in &self.unknown
        {
            write!(
                f,
                "{between}plugin `{plugin}` is to start after `{name}`, but no plugin has this name"
            )?;
            if let Some(meant) = meant {
                write!(f, "; did you mean `{meant}`?")?;
            }
            between = "\n";
        }
        for cycle in &self.cycles {
            write!(f, "{between}plugins wait for one another: ")?;
            for plugin in cycle {
                write!(f, "{plugin} -> ")?;
            }
            if let Some(first) = cycle.first() {
                write!(f, "{first}")?;
            }
            write!(f, "; take one of them out of an `AFTER`")?;
            between = "\n";
        }
        Ok(())
    }
}

impl std::error::Error for OrderError {}

/// Checks that every plugin waits for plugins that there are, and none for itself by way of others.
///
/// `plugins` are all plugins of a config, each with its `AFTER`.
///
/// ```
/// use aigis_core::config::order;
///
/// let after = |plugin: &str, others: &[&str]| {
///     let others = others.iter().map(|other| other.parse().unwrap());
///     (plugin.parse().unwrap(), others.collect())
/// };
/// assert!(order::check(&[after("web", &["database"]), after("database", &[])]).is_ok());
/// let error = order::check(&[after("web", &["database"]), after("database", &["web"])]);
/// assert!(error.unwrap_err().to_string().contains("web -> database -> web"));
/// ```
///
/// # Errors
///
/// Every name that is unknown, and the cycles.
pub fn check(plugins: &[(PluginName, Vec<PluginName>)]) -> Result<(), OrderError> {
    let mut places: HashMap<&PluginName, usize> = HashMap::new();
    for (at, (name, _)) in plugins.iter().enumerate() {
        places.entry(name).or_insert(at);
    }
    let mut error = OrderError::default();
    let mut edges: Vec<Vec<usize>> = Vec::with_capacity(plugins.len());
    for (plugin, after) in plugins {
        let mut known = Vec::with_capacity(after.len());
        for name in after {
            match places.get(name) {
                Some(&at) => known.push(at),
                None => error.unknown.push(UnknownName {
                    plugin: plugin.clone(),
                    name: name.clone(),
                    meant: (error.unknown.len() < MAX_SUGGESTIONS)
                        .then(|| near(name, plugin, plugins))
                        .flatten(),
                }),
            }
        }
        edges.push(known);
    }
    let cycles = cycles(&edges).into_iter();
    error.cycles = cycles
        .map(|cycle| cycle.into_iter().map(|at| plugins[at].0.clone()).collect())
        .collect();
    if error.unknown.is_empty() && error.cycles.is_empty() {
        Ok(())
    } else {
        Err(error)
    }
}

/// Finds the plugin whose name is most like `name`, other than `plugin` itself.
fn near(
    name: &PluginName,
    plugin: &PluginName,
    plugins: &[(PluginName, Vec<PluginName>)],
) -> Option<PluginName> {
    let others = plugins
        .iter()
        .map(|(other, _)| other.as_str())
        .filter(|other| *other != plugin.as_str());
    nearest(name.as_str(), others)?.parse().ok()
}

/// Finds cycles, none of which share a plugin, going down each edge once.
fn cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Not,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::Not; edges.len()];
    let mut told = HashSet::new();
    let mut cycles = Vec::new();
    for start in 0..edges.len() {
        if seen[start] != Seen::Not {
            continue;
        }
        // Each plugin on the way with how many of its edges have been gone down. Not recursive: a config may be long.
        let mut path = vec![(start, 0)];
        seen[start] = Seen::OnPath;
        while let Some((at, next)) = path.last_mut() {
            let (from, edge) = (*at, *next);
            *next += 1;
            let Some(&to) = edges[from].get(edge) else {
                seen[from] = Seen::Done;
                path.pop();
                continue;
            };
            match seen[to] {
                Seen::Done => {}
                Seen::Not => {
                    seen[to] = Seen::OnPath;
                    path.push((to, 0));
                }
                Seen::OnPath => {
                    let from = path.iter().position(|&(at, _)| at == to).unwrap_or(0);
                    let cycle: Vec<usize> = path[from..].iter().map(|&(at, _)| at).collect();
                    if !cycle.iter().any(|at| told.contains(at)) {
                        told.extend(cycle.iter().copied());
                        cycles.push(cycle);
                    }
                }
            }
        }
    }
    cycles
}
