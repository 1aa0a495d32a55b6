//! The options of a manifest: their names, and the values that a manifest or a config entry gives them.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostics, quoted};
use super::raw::{Raw, RawOption, RawValue};
use super::source_text::SourceText;
use super::suggest::nearest;
use super::toml_text;

/// An option of a manifest, whichever way its name was spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OptionName {
    PluginType,
    Entrypoint,
    SystemRequirements,
    RequirementsCommand,
    RequirementsFile,
    Secrets,
    Restart,
    Instances,
    Isolate,
    CallTimeout,
    DrainTimeout,
    MaxMessage,
    Host,
    Launch,
    Package,
    Features,
    Ready,
    Health,
    After,
    StopSignal,
    StopTimeout,
    OnCoreDeath,
    Env,
    EnvFile,
    User,
    Group,
    Umask,
    Nice,
    Limits,
    MemoryMax,
    Cpu,
    Log,
    ReadableSecrets,
}

/// The names that options have in a manifest. The original documents one spelling and uses the other.
const SPELLINGS: [(&str, OptionName); 35] = [
    ("PLUGIN_TYPE", OptionName::PluginType),
    ("ENTRYPOINT", OptionName::Entrypoint),
    ("SYSTEM_REQUIREMENTS", OptionName::SystemRequirements),
    ("REQUIREMENTS_COMMAND", OptionName::RequirementsCommand),
    ("REQUIREMENT_COMMAND", OptionName::RequirementsCommand),
    ("REQUIREMENTS_FILE", OptionName::RequirementsFile),
    ("REQUIREMENT_FILE", OptionName::RequirementsFile),
    ("SECRETS", OptionName::Secrets),
    ("RESTART", OptionName::Restart),
    ("INSTANCES", OptionName::Instances),
    ("ISOLATE", OptionName::Isolate),
    ("CALL_TIMEOUT", OptionName::CallTimeout),
    ("DRAIN_TIMEOUT", OptionName::DrainTimeout),
    ("MAX_MESSAGE", OptionName::MaxMessage),
    ("HOST", OptionName::Host),
    ("LAUNCH", OptionName::Launch),
    ("PACKAGE", OptionName::Package),
    ("FEATURES", OptionName::Features),
    ("READY", OptionName::Ready),
    ("HEALTH", OptionName::Health),
    ("AFTER", OptionName::After),
    ("STOP_SIGNAL", OptionName::StopSignal),
    ("STOP_TIMEOUT", OptionName::StopTimeout),
    ("ON_CORE_DEATH", OptionName::OnCoreDeath),
    ("ENV", OptionName::Env),
    ("ENV_FILE", OptionName::EnvFile),
    ("USER", OptionName::User),
    ("GROUP", OptionName::Group),
    ("UMASK", OptionName::Umask),
    ("NICE", OptionName::Nice),
    ("LIMITS", OptionName::Limits),
    ("MEMORY_MAX", OptionName::MemoryMax),
    ("CPU", OptionName::Cpu),
    ("LOG", OptionName::Log),
    ("READABLE_SECRETS", OptionName::ReadableSecrets),
];

impl OptionName {
    /// Finds the option that a manifest calls `name`.
    pub(super) fn in_manifest(name: &str) -> Option<Self> {
        SPELLINGS
            .iter()
            .find(|(spelling, _)| *spelling == name)
            .map(|&(_, option)| option)
    }

    /// Finds the option that a config entry calls `name`.
    pub(super) fn in_entry(name: &str) -> Option<Self> {
        SPELLINGS
            .iter()
            .find(|(spelling, _)| is_lower_case_of(name, spelling))
            .map(|&(_, option)| option)
    }

    /// Returns the name of the option in a manifest.
    pub(super) fn as_str(self) -> &'static str {
        SPELLINGS
            .iter()
            .find(|&&(_, option)| option == self)
            .map_or("", |(spelling, _)| spelling)
    }

    /// Returns the names that a config entry may use for the options that it may override.
    pub(super) fn entry_names() -> impl Iterator<Item = String> {
        SPELLINGS
            .iter()
            .filter(|(_, option)| *option != Self::PluginType)
            .map(|(spelling, _)| spelling.to_ascii_lowercase())
    }
}

fn is_lower_case_of(name: &str, spelling: &str) -> bool {
    name.eq_ignore_ascii_case(spelling) && !name.contains(|c: char| c.is_ascii_uppercase())
}

/// One option with its value, and where both were written.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) option: OptionName,
    pub(super) name: String,
    pub(super) name_span: Range<usize>,
    pub(super) value: Raw,
    pub(super) source: Arc<SourceText>,
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.option == other.option && self.value == other.value
    }
}

/// Manifest options as they were written, with their places.
///
/// Two of them are equal when they set the same options to the same values, wherever these were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManifestOptions {
    settings: Vec<Setting>,
}

impl ManifestOptions {
    /// Takes options that are given in code, by their lower-case names, as a config entry would.
    ///
    /// # Errors
    ///
    /// A name is no option that an entry may override. Values are checked by [`Manifest::load`](super::Manifest::load).
    pub fn from_table(table: &toml::Table) -> Result<Self, Diagnostics> {
        // Written out, the options have places that later mistakes can point at.
        let source = Arc::new(SourceText::new("<options>", table.to_string()));
        let mut mistakes = Diagnostics::new();
        let mut options = Self::default();
        for raw in toml_text::parse_options(&source).options {
            match OptionName::in_entry(&raw.name) {
                Some(option) if option != OptionName::PluginType => {
                    options.push(option, raw, &source);
                }
                _ => mistakes.push(
                    source
                        .error(
                            raw.name_span,
                            format!("{} is no option that can be overridden", quoted(&raw.name)),
                        )
                        .with_hint(accepted_in_entry()),
                ),
            }
        }
        options.check_spellings(&mut mistakes);
        mistakes.into_result(Some(options))
    }

    /// Says whether no option is set.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Gives each option with its value to `add`, whatever the place that they were written in.
    pub(super) fn each(&self, add: &mut dyn FnMut(&dyn fmt::Debug)) {
        for setting in &self.settings {
            add(&setting.option);
            setting.value.each(add);
        }
    }

    /// Lists the options, in lower case, that `other` does not set to the same value; and those that only it
    /// sets.
    pub(super) fn differing(&self, other: &Self) -> Vec<String> {
        let mut options: Vec<OptionName> = Vec::new();
        for setting in self.settings.iter().chain(&other.settings) {
            if !options.contains(&setting.option) {
                options.push(setting.option);
            }
        }
        let value = |all: &Self, option| all.get(option).map(|setting| setting.value.clone());
        options.retain(|option| value(self, *option) != value(other, *option));
        let names = options
            .iter()
            .map(|option| option.as_str().to_ascii_lowercase());
        names.collect()
    }

    pub(super) fn push(&mut self, option: OptionName, raw: RawOption, source: &Arc<SourceText>) {
        self.settings.push(Setting {
            option,
            name: raw.name,
            name_span: raw.name_span,
            value: raw.value,
            source: Arc::clone(source),
        });
    }

    /// Takes what a manifest sets, except for the options in `overrides`, which count instead.
    ///
    /// Also returns the options that an unknown name was probably meant to be: these are not missing too.
    pub(super) fn of_manifest(
        raw_options: Vec<RawOption>,
        overrides: &Self,
        source: &Arc<SourceText>,
        mistakes: &mut Diagnostics,
    ) -> (Self, HashSet<OptionName>) {
        let mut own = Self::default();
        let mut meant = HashSet::new();
        for raw in raw_options {
            let Some(option) = OptionName::in_manifest(&raw.name) else {
                mistakes.push_with(|| {
                    let near = nearest(&raw.name, SPELLINGS.iter().map(|(name, _)| *name));
                    let hint = match near {
                        Some(near) if near.eq_ignore_ascii_case(&raw.name) => {
                            format!("options of a manifest are written in upper case: `{near}`")
                        }
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("the options are {}", listed(SPELLINGS.map(|(n, _)| n))),
                    };
                    meant.extend(near.and_then(OptionName::in_manifest));
                    let message = format!("unknown option {}", quoted(&raw.name));
                    source.error(raw.name_span, message).with_hint(hint)
                });
                continue;
            };
            if overrides.get(option).is_none() {
                own.push(option, raw, source);
            }
        }
        own.check_spellings(mistakes);
        own.settings.extend(overrides.settings.iter().cloned());
        (own, meant)
    }

    /// Returns what an option is set to; `None` in the original's syntax sets nothing.
    pub(super) fn get(&self, option: OptionName) -> Option<&Setting> {
        self.settings
            .iter()
            .find(|setting| setting.option == option && setting.value.value != RawValue::None)
    }

    /// Reports options that are given in both spellings with different values.
    pub(super) fn check_spellings(&self, mistakes: &mut Diagnostics) {
        for (at, setting) in self.settings.iter().enumerate() {
            let other = self.settings[..at]
                .iter()
                .find(|s| s.option == setting.option);
            if let Some(first) = other.filter(|first| first.value != setting.value) {
                let message = format!("`{}` contradicts `{}`", setting.name, first.name);
                let line = first.source.line_of(first.name_span.start);
                let error = setting.source.error(setting.name_span.clone(), message);
                mistakes.push(error.with_hint(format!(
                    "they are two spellings of one option; `{}` stands in line {line}: keep one of them",
                    first.name
                )));
            }
        }
    }
}

/// Says what a config entry accepts besides its own keys.
pub(super) fn accepted_in_entry() -> String {
    format!(
        "options that can be overridden are {}",
        listed(OptionName::entry_names())
    )
}

/// Lists names in backquotes.
pub(super) fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<_> = names
        .into_iter()
        .map(|n| format!("`{}`", n.as_ref()))
        .collect();
    names.join(", ")
}
