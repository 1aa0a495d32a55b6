//! What must be done so that what runs is what a config says.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::entry::{GitReference, PluginEntry, PluginKind, SourceSpec};
use super::name::PluginName;

/// How a plugin that a core has stands to the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The config lists it.
    Listed,
    /// It was added while the core runs, and stays until that shuts down, whatever the config says.
    Added,
    /// The config does not list it, and it goes when the config is applied.
    Unlisted,
}

/// A plugin that a core has.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// What it was started by.
    pub entry: PluginEntry,
    /// How it stands to the config.
    pub standing: Standing,
}

/// What a changed entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// Its library is swapped while it is called.
    Swap,
    /// Its processes are stopped and launched again.
    Restart,
}

/// A plugin whose entry says something else now.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// What the config says now.
    pub entry: PluginEntry,
    /// What is not as it was: keys of the entry, and `settings.key` for each of its settings.
    pub keys: Vec<String>,
    /// What that asks for.
    pub needs: Needs,
}

impl Changed {
    /// Tells whether the source is another one, or must be: the manifest in it says which kind it is.
    pub fn fetches(&self) -> bool {
        let of_source = ["kind", "source", "branch", "tag", "rev"];
        self.keys
            .iter()
            .any(|key| of_source.contains(&key.as_str()))
    }
}

/// What must be done so that what runs is what a config says. Nothing is looked at but the entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Who goes, in the order in which they were loaded.
    pub removed: Vec<PluginName>,
    /// Who comes, in the order of the config.
    pub added: Vec<PluginEntry>,
    /// Whose entry has changed, in the order of the config.
    pub changed: Vec<Changed>,
    /// Whose entry says the same, in the order of the config.
    pub unchanged: Vec<PluginEntry>,
    /// Who stands elsewhere among the others than before. Nothing is done about it but to remember it: the
    /// order says who is loaded and stopped first.
    pub moved: Vec<PluginName>,
    /// Who stays although the config does not list it, in the order in which they were loaded.
    pub kept: Vec<PluginName>,
    /// Everybody who is there in the end, in order.
    pub order: Vec<PluginName>,
}

impl Difference {
    /// Compares what a core has with the plugins of a config. Both are in load order, and no name is in
    /// either of them twice.
    pub fn between(present: &[Present], wanted: &[PluginEntry]) -> Self {
        let listed: HashSet<&PluginName> = wanted.iter().map(|entry| &entry.name).collect();
        let places: HashMap<&PluginName, usize> = present
            .iter()
            .enumerate()
            .map(|(place, one)| (&one.entry.name, place))
            .collect();
        let mut difference = Self::default();
        let mut kept: Vec<&PluginEntry> = Vec::new();
        for Present { entry, standing } in present {
            if listed.contains(&entry.name) {
                continue;
            }
            match standing {
                Standing::Added => kept.push(entry),
                Standing::Listed | Standing::Unlisted => {
                    difference.removed.push(entry.name.clone());
                }
            }
        }
        let mut before = Vec::new();
        for entry in wanted {
            let Some(&place) = places.get(&entry.name) else {
                difference.added.push(entry.clone());
                continue;
            };
            before.push((place, &entry.name));
            let keys = changed_keys(&present[place].entry, entry);
            if keys.is_empty() {
                difference.unchanged.push(entry.clone());
                continue;
            }
            let old = present[place].entry.kind;
            difference.changed.push(Changed {
                entry: entry.clone(),
                keys,
                needs: match (old, entry.kind) {
                    (PluginKind::Core, PluginKind::Core) => Needs::Swap,
                    _ => Needs::Restart,
                },
            });
        }
        let staying = longest_rising(&before.iter().map(|(place, _)| *place).collect::<Vec<_>>());
        let moved = before.iter().filter(|(place, _)| !staying.contains(place));
        difference.moved = moved.map(|(_, name)| (*name).clone()).collect();
        difference.kept = kept.iter().map(|entry| entry.name.clone()).collect();
        // In each part those of the config come first; what was added comes after them.
        let mut order: Vec<&PluginEntry> = wanted.iter().chain(kept).collect();
        order.sort_by_key(|entry| entry.kind);
        difference.order = order.iter().map(|entry| entry.name.clone()).collect();
        difference
    }

    /// Tells whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.added.is_empty()
            && self.changed.is_empty()
            && self.moved.is_empty()
    }
}

/// Lists what two entries of one name say differently.
fn changed_keys(old: &PluginEntry, new: &PluginEntry) -> Vec<String> {
    let mut keys = Vec::new();
    if old.kind != new.kind {
        keys.push("kind".to_owned());
    }
    if !is_same_place(&old.source, &new.source) {
        keys.push("source".to_owned());
    }
    if old.source.reference != new.source.reference {
        let key = |reference: &GitReference| match reference {
            GitReference::Unspecified => None,
            GitReference::Branch(_) => Some("branch"),
            GitReference::Tag(_) => Some("tag"),
            GitReference::Rev(_) => Some("rev"),
        };
        let key = key(&new.source.reference).or_else(|| key(&old.source.reference));
        keys.extend(key.map(str::to_owned));
    }
    keys.extend(changed_settings(
        old.settings.as_ref(),
        new.settings.as_ref(),
    ));
    keys.extend(new.overrides.differing(&old.overrides));
    keys
}

/// Tells whether two sources name the same repository or folder, by their text.
fn is_same_place(old: &SourceSpec, new: &SourceSpec) -> bool {
    if old.location == new.location && (old.base == new.base || old.location.contains("://")) {
        return true;
    }
    old.base.join(&old.location) == new.base.join(&new.location)
}

fn changed_settings(old: Option<&toml::Table>, new: Option<&toml::Table>) -> Vec<String> {
    let (before, after) = (old.into_iter().flatten(), new.into_iter().flatten());
    let value = |table: Option<&toml::Table>, key: &str| table.and_then(|it| it.get(key).cloned());
    let mut keys: Vec<String> = Vec::new();
    for (key, _) in after.chain(before) {
        let name = format!("settings.{key}");
        if value(old, key) != value(new, key) && !keys.contains(&name) {
            keys.push(name);
        }
    }
    // An empty table is handed over, none is not.
    if keys.is_empty() && old.is_some() != new.is_some() {
        keys.push("settings".to_owned());
    }
    keys
}

/// Returns the members of one of the longest rising subsequences. No number is in it twice.
fn longest_rising(numbers: &[usize]) -> HashSet<usize> {
    // For each length, where the sequence of that length ends that has the smallest last number.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let last = ends.last().copied();
    std::iter::successors(last, |at| before[*at])
        .map(|at| numbers[at])
        .collect()
}
