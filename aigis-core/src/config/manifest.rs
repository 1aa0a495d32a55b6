//! The manifest of a plugin, `AIGIS/AIGIS.config` in its folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Diagnostics, quoted};
use super::entry::{PluginEntry, PluginKind};
use super::literal;
use super::manifest_options::{ManifestOptions, OptionName};
use super::name::PluginName;
use super::option_check::{self, Root, value_error};
use super::raw::{RawFile, RawValue};
use super::read::{self, ReadError};
use super::readiness::{Health, Readiness};
use super::resources::Resources;
use super::source_text::SourceText;
use super::suggest::nearest;
use super::supervision::{LogOptions, OnCoreDeath, RestartOptions, StopOptions};
use super::toml_text;

/// The largest manifest that is read.
const SIZE_LIMIT: u64 = 1 << 20;

/// Where a plugin's manifest stands in the plugin's folder.
const PLACE: &str = "AIGIS/AIGIS.config";

const SYNTAXES: &str = "a manifest is TOML (`SECRETS = { \"key\" = \"{root}/folder\" }`) or a list of Python-like \
                        literals (`SECRETS = {\"key\": \"{root}/folder\"}`)";

/// What a plugin says about itself, checked, with the config's overrides in place.
///
/// Paths are judged by their text alone: whoever copies a secret or enters a folder must still look where links lead.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// How the plugin runs: the same as the part of the config that lists it.
    pub kind: PluginKind,
    /// The absolute folder that everything of the plugin runs in.
    pub entrypoint: PathBuf,
    /// Programs that must be installed.
    pub system_requirements: Vec<String>,
    /// How to install what the plugin's language needs.
    pub requirements: Option<Requirements>,
    /// The secrets that the plugin needs.
    pub secrets: Vec<Secret>,
    /// Whether other users may be able to read the sources of the secrets.
    pub readable_secrets: bool,
    /// When and how often a process of the plugin is restarted.
    pub restart: RestartOptions,
    /// Whether the manifest or the config's entry says so, or nothing does.
    pub restart_given: bool,
    /// When a process of the plugin is ready; `None` for what is usual for its kind.
    pub ready: Option<Readiness>,
    /// How it is seen whether the plugin is still well; `None` does not look.
    pub health: Option<Health>,
    /// The plugins that must be ready before this one starts. That they exist is judged for a whole config, by
    /// [`order::check`](super::order::check).
    pub after: Vec<PluginName>,
    /// How the plugin's processes are told to end.
    pub stop: StopOptions,
    /// What becomes of the plugin's processes when the core dies.
    pub on_core_death: OnCoreDeath,
    /// What the plugin's processes are given and may use.
    pub resources: Resources,
    /// How the plugin's log is kept.
    pub log: LogOptions,
    /// How many processes of the plugin there are; `None` stands for one.
    pub instances: Option<u32>,
    /// Whether the plugin's library runs in a process of its own instead of in the core.
    pub isolate: bool,
    /// How long a call of one of its skills in the core may take before that is reported; `None` never reports it.
    pub call_timeout: Option<Duration>,
    /// How long a stream that one of its skills in the core makes may go on after the version that makes it was
    /// replaced or stopped; `None` for 30 seconds.
    pub drain_timeout: Option<Duration>,
    /// How many bytes the arguments, and likewise the result, of a call of its skills over a session may have; `None`
    /// leaves it at 1 GiB, which no call may exceed.
    pub max_message: Option<usize>,
    /// Where the plugin runs.
    pub host: Host,
    /// What is launched.
    pub launch: Launch,
    /// The package of the plugin's cargo workspace that is built.
    pub package: Option<String>,
    /// The cargo features that are switched on.
    pub features: Vec<String>,
    /// What was probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// How to install what a plugin's language needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// A command for the shell.
    pub command: String,
    /// The file that lists the requirements, given to the command as its last argument.
    pub file: Option<String>,
}

impl Requirements {
    /// Returns the line for the shell: the command, a space and the file, quoted only if it needs to be.
    pub fn shell_command(&self) -> String {
        match &self.file {
            None => self.command.clone(),
            Some(file) if is_plain_word(file) => format!("{} {file}", self.command),
            Some(file) => format!("{} '{}'", self.command, file.replace('\'', r"'\''")),
        }
    }
}

/// Says whether a shell takes `word` as it stands.
fn is_plain_word(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    !word.is_empty() && word.chars().all(is_plain)
}

/// A secret file and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The file's path below the plugin's folder in `secrets`: relative, without `..`.
    pub name: String,
    /// The absolute folder that it is copied to, or the existing file that it replaces; by its text, it is inside the
    /// plugin's folder.
    pub target: PathBuf,
}

/// Where a plugin runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// On this host.
    #[default]
    Local,
    /// On another host. No manifest has this yet: remote hosts are refused.
    Other(String),
}

impl Host {
    /// Reads a host's name; `localhost`, the loopback addresses and this machine's own name mean this host.
    pub fn parse(name: &str) -> Self {
        let machine = rustix::system::uname();
        let own = machine.nodename().to_string_lossy();
        let is_local = ["localhost", "127.0.0.1", "::1", own.as_ref()]
            .iter()
            .any(|local| local.eq_ignore_ascii_case(name));
        if is_local {
            Self::Local
        } else {
            Self::Other(name.to_owned())
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.pad("localhost"),
            Self::Other(name) => f.pad(name),
        }
    }
}

/// What is launched for a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// Nothing: a core plugin is loaded.
    None,
    /// An external plugin's program and its arguments; never empty.
    Command(Vec<String>),
    /// An internal plugin's binary target; `None` stands for the package's only one.
    Binary(Option<String>),
}

impl Manifest {
    /// Reads and checks the manifest of the plugin that is in the folder `root`.
    ///
    /// The file is TOML or the original's literal syntax. What `entry` overrides counts instead of what the manifest
    /// says.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, or why it cannot be read.
    pub fn load(root: &Path, entry: &PluginEntry) -> Result<Self, Diagnostics> {
        let file = root.join(PLACE);
        let bytes = read::read(&file, SIZE_LIMIT, true).map_err(|error| {
            let message = format!("the manifest of plugin `{}` cannot be used: {error}", entry.name);
            let hint = match error {
                ReadError::Missing => Some(format!(
                    "every plugin has a manifest `{PLACE}` with at least `PLUGIN_TYPE = \"{}\"` and \
                     `ENTRYPOINT = \"{{root}}\"`",
                    entry.kind
                )),
                _ => None,
            };
            Diagnostic::error(&file, message).with_hint_if(hint)
        })?;
        Self::parse(bytes, &file, root, entry)
    }

    /// Returns the kind that the manifest of the plugin in the folder `root` says; `None` if it cannot be read, or
    /// says none that there is. What else is wrong with it, [`load`](Self::load) tells.
    pub fn kind_of(root: &Path) -> Option<PluginKind> {
        let file = root.join(PLACE);
        let bytes = read::read(&file, SIZE_LIMIT, true).ok()?;
        let source = Arc::new(SourceText::from_bytes(&file, bytes).ok()?);
        let options = parse_either(&source).options;
        let said = options
            .iter()
            .find(|raw| OptionName::in_manifest(&raw.name) == Some(OptionName::PluginType))?;
        match &said.value.value {
            RawValue::Text(kind) => kind.parse().ok(),
            _ => None,
        }
    }

    /// Checks the text of a manifest.
    pub(super) fn parse(
        bytes: Vec<u8>,
        file: &Path,
        root: &Path,
        entry: &PluginEntry,
    ) -> Result<Self, Diagnostics> {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let source = Arc::new(SourceText::from_bytes(file, bytes)?);
        let RawFile {
            options: raw_options,
            faults,
            mut warnings,
        } = parse_either(&source);

        let mut mistakes = Diagnostics::new();
        let (options, meant) =
            ManifestOptions::of_manifest(raw_options, &entry.overrides, &source, &mut mistakes);
        let kind = plugin_type(&options, entry, &mut mistakes);
        let checked = option_check::check(
            entry.name.as_str(),
            &options,
            kind,
            Root::At(&root),
            &mut mistakes,
            &mut warnings,
        );

        let mut require = |option: OptionName, hint: &str| {
            if options.get(option).is_none() && !meant.contains(&option) {
                let message = format!("`{}` is missing", option.as_str());
                mistakes.push(Diagnostic::error(file, message).with_hint(hint));
            }
        };
        require(
            OptionName::PluginType,
            &format!("add `PLUGIN_TYPE = \"{}\"`", entry.kind),
        );
        require(
            OptionName::Entrypoint,
            "add `ENTRYPOINT = \"{root}\"`: the folder that everything of the plugin runs in",
        );
        let launch = match kind {
            PluginKind::Core => Some(Launch::None),
            PluginKind::Internal => checked.launch.or(Some(Launch::Binary(None))),
            PluginKind::External => {
                require(
                    OptionName::Launch,
                    "add `LAUNCH = [\"program\", \"argument\"]`: what is run for the plugin",
                );
                checked.launch
            }
        };

        mistakes.retain(|mistake| mistake.file != file || faults.allow(mistake));
        mistakes.extend(faults.errors);
        // Without both of them a mistake has been reported.
        let required = checked.entrypoint.zip(launch);
        mistakes.into_result(required.map(|(entrypoint, launch)| Self {
            kind,
            entrypoint,
            system_requirements: checked.system_requirements,
            requirements: checked.requirements,
            secrets: checked.secrets,
            readable_secrets: checked.readable_secrets,
            restart_given: checked.restart.is_some(),
            restart: checked.restart.unwrap_or_default(),
            ready: checked.ready,
            health: checked.health,
            after: checked.after,
            stop: checked.stop,
            on_core_death: checked.on_core_death,
            resources: checked.resources,
            log: checked.log,
            instances: checked.instances,
            isolate: checked.isolate,
            call_timeout: checked.call_timeout,
            drain_timeout: checked.drain_timeout,
            max_message: checked.max_message,
            host: checked.host.unwrap_or_default(),
            launch,
            package: checked.package,
            features: checked.features,
            warnings,
        }))
    }
}

/// Parses a manifest in the syntax that it is written in, or in the one that gets farther if it is broken in both.
fn parse_either(source: &SourceText) -> RawFile {
    let toml = toml_text::parse_options(source);
    let Some(toml_reached) = toml.faults.reached else {
        return toml;
    };
    let literal = literal::parse_options(source);
    let mut best = match literal.faults.reached {
        None => return literal,
        Some(reached) if reached > toml_reached => literal,
        Some(reached) if reached < toml_reached => toml,
        Some(_) if literal.faults.errors.len() < toml.faults.errors.len() => literal,
        Some(_) => toml,
    };
    let errors = &mut best.faults.errors;
    errors.sort_by(Diagnostic::by_place);
    if let Some(last) = errors.pop() {
        errors.push(last.with_hint(SYNTAXES));
    }
    best
}

/// Returns the kind that the manifest says, and checks that it is the part that lists the plugin.
fn plugin_type(
    options: &ManifestOptions,
    entry: &PluginEntry,
    mistakes: &mut Diagnostics,
) -> PluginKind {
    let Some(setting) = options.get(OptionName::PluginType) else {
        return entry.kind;
    };
    let RawValue::Text(written) = &setting.value.value else {
        let found = setting.value.value.described();
        let message = format!("`{}` must be a string, found {found}", setting.name);
        let hint = format!("write `\"{}\"`", entry.kind);
        mistakes.push(value_error(setting, message).with_hint(hint));
        return entry.kind;
    };
    let Ok(kind) = written.parse::<PluginKind>() else {
        let message = format!(
            "`{}` must be `core`, `internal` or `external`, found {}",
            setting.name,
            quoted(written)
        );
        let near = nearest(written, PluginKind::ALL.map(PluginKind::as_str));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        mistakes.push(value_error(setting, message).with_hint_if(hint));
        return entry.kind;
    };
    if kind != entry.kind {
        let message = format!(
            "plugin `{}` is listed under `[{}]`, but its manifest says that it is `{kind}`",
            entry.name, entry.kind
        );
        let hint = format!("list it under `[{kind}]`, or correct the manifest");
        mistakes.push(value_error(setting, message).with_hint(hint));
    }
    kind
}
