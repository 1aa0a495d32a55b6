//! What the central config says about one plugin.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::diagnostic::quoted;
use super::manifest_options::ManifestOptions;
use super::name::PluginName;

/// One plugin as the central config lists it.
///
/// Two entries are equal when they say the same, wherever they stand in the file.
#[derive(Clone, Debug)]
pub struct PluginEntry {
    /// The plugin's name, unique in the config.
    pub name: PluginName,
    /// The part of the config that lists the plugin.
    pub kind: PluginKind,
    /// Where the plugin comes from.
    pub source: SourceSpec,
    /// The entry's `settings`, in file order, handed to the plugin as they are.
    pub settings: Option<toml::Table>,
    /// Manifest options that the entry overrides.
    pub overrides: ManifestOptions,
    /// Where the plugin's name stands in the config, in bytes; `None` for an entry made in code.
    pub span: Option<Range<usize>>,
}

impl PluginEntry {
    /// Returns an entry without settings and overrides, for plugins that are given in code.
    pub fn new(name: PluginName, kind: PluginKind, source: SourceSpec) -> Self {
        Self {
            name,
            kind,
            source,
            settings: None,
            overrides: ManifestOptions::default(),
            span: None,
        }
    }
}

impl PluginEntry {
    /// Returns a short text that two entries share only if they are equal, also in different processes.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &dyn fmt::Debug| {
            // Texts are written in quotes, so that one part never looks like two.
            hasher.update(format!("{part:?};").as_bytes());
        };
        add(&self.name.as_str());
        add(&self.kind);
        add(&self.source);
        add(&self.settings);
        self.overrides.each(&mut add);
        hasher.finalize().to_hex().to_string()
    }
}

impl PartialEq for PluginEntry {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.kind == other.kind
            && self.source == other.source
            && self.settings == other.settings
            && self.overrides == other.overrides
    }
}

/// How a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// A library that is loaded into the core.
    Core,
    /// A Rust daemon that runs as a process and can call skills.
    Internal,
    /// Any other program.
    External,
}

impl PluginKind {
    /// The kinds in the order in which their parts are loaded.
    pub const ALL: [Self; 3] = [Self::Core, Self::Internal, Self::External];

    /// Returns the kind's name, which is also the name of its part of the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names none of the three kinds of plugins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of plugin {}, expected `core`, `internal` or `external`", quoted(.0))]
pub struct UnknownKind(pub String);

impl FromStr for PluginKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// A git URL or a folder, as it was written.
    pub location: String,
    /// The absolute folder that a relative location is relative to: the one that holds the config file.
    pub base: PathBuf,
    /// What to check out of a git repository.
    pub reference: GitReference,
}

/// What to check out of a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GitReference {
    /// Nothing was asked for.
    #[default]
    Unspecified,
    /// The tip of a branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit, or anything else that names one.
    Rev(String),
}
