//! The central config: which plugins there are.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_spanned::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, quoted};
use super::entry::{GitReference, PluginEntry, PluginKind, SourceSpec};
use super::manifest_options::{ManifestOptions, OptionName, accepted_in_entry, listed};
use super::name::PluginName;
use super::option_check::{self, Root};
use super::raw::{Raw, RawOption};
use super::read::{self, ReadError};
use super::source_text::SourceText;
use super::suggest::nearest;
use super::toml_text;

/// The largest config that is read.
const SIZE_LIMIT: u64 = 16 << 20;

/// The keys of an entry that are no manifest options.
const OWN_KEYS: [&str; 5] = ["source", "branch", "tag", "rev", "settings"];

type Key<'t> = Spanned<DeString<'t>>;
type Value<'t> = Spanned<DeValue<'t>>;

/// The central config, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The absolute path of the file.
    pub path: PathBuf,
    /// The plugins in the order in which they are loaded: the core, internal and external ones, and within a part as
    /// the file lists them.
    pub plugins: Vec<PluginEntry>,
}

impl Config {
    /// Reads and checks the config at `path`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, or why it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let bytes = read::read(path, SIZE_LIMIT, false).map_err(|error| {
            let message = format!("the config cannot be used: {error}");
            let diagnostic = Diagnostic::error(path, message);
            match error {
                ReadError::Missing | ReadError::Folder => diagnostic
                    .with_hint("name the config with `-c FILE`, or write this file")
                    .with_hint(
                        "a config has the tables `[core]`, `[internal]` and `[external]` with lines \
                         `name = \"source\"`, where a source is a git URL or a folder",
                    ),
                _ => diagnostic,
            }
        })?;
        Self::of_bytes(bytes, path)
    }

    /// Checks the text of a config; sources in it are relative to the folder of `path`, which is not read.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Diagnostics> {
        if bytes.len() as u64 > SIZE_LIMIT {
            let error = ReadError::TooLarge { limit: SIZE_LIMIT };
            let message = format!("the config cannot be used: {error}");
            return Err(Diagnostic::error(path, message).into());
        }
        Self::of_bytes(bytes.to_vec(), path)
    }

    /// Returns the plugin called `name`.
    pub fn get(&self, name: &str) -> Option<&PluginEntry> {
        self.plugins
            .iter()
            .find(|entry| entry.name.as_str() == name)
    }

    fn of_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self, Diagnostics> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let source = Arc::new(SourceText::from_bytes(path, bytes)?);
        let (table, faults) = toml_text::parse(&source);
        let mut reader = Reader {
            source: &source,
            base: &base,
            mistakes: Diagnostics::new(),
            names: Vec::new(),
            plugins: Vec::new(),
            judge_missing: !faults.incomplete,
        };
        reader.document(&table);
        let Reader {
            mut mistakes,
            plugins,
            ..
        } = reader;
        mistakes.retain(|mistake| faults.allow(mistake));
        mistakes.extend(faults.errors);
        mistakes.into_result(Some(Self {
            path: absolute,
            plugins,
        }))
    }
}

/// Turns the raw document into entries.
struct Reader<'s> {
    source: &'s Arc<SourceText>,
    base: &'s Path,
    mistakes: Diagnostics,
    /// The names in every part, right or wrong.
    names: Vec<(String, Range<usize>, PluginKind)>,
    plugins: Vec<PluginEntry>,
    /// Whether what is missing is really missing.
    judge_missing: bool,
}

impl Reader<'_> {
    fn document(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let Ok(kind) = key.get_ref().parse::<PluginKind>() else {
                self.unknown_part(key, value);
                continue;
            };
            let DeValue::Table(part) = value.get_ref() else {
                let found = Raw::from_toml(value).value.described();
                let message = format!("`{kind}` must be a table of plugins, found {found}");
                self.error_with(value.span(), message, format!("write `[{kind}]`"));
                continue;
            };
            for (key, value) in part {
                self.plugin(kind, key, value);
            }
        }
        // The parser keeps the order of the file, but enters a table of dotted names where it is completed.
        self.plugins
            .sort_by_key(|entry| (entry.kind, entry.span.as_ref().map(|span| span.start)));
        self.duplicates();
    }

    fn unknown_part(&mut self, key: &Key<'_>, value: &Value<'_>) {
        let name = key.get_ref();
        let known = PluginKind::ALL.map(PluginKind::as_str);
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean `[{near}]`?"),
            None if matches!(value.get_ref(), DeValue::String(_)) => {
                "a plugin is listed under `[core]`, `[internal]` or `[external]`".to_owned()
            }
            None => "the tables are `[core]`, `[internal]` and `[external]`".to_owned(),
        };
        let what = match value.get_ref() {
            DeValue::Table(_) | DeValue::Array(_) => "unknown table",
            _ => "unknown key outside of a table:",
        };
        self.error_with(key.span(), format!("{what} {}", quoted(name)), hint);
    }

    fn duplicates(&mut self) {
        let mut names = std::mem::take(&mut self.names);
        names.sort_by_key(|(_, span, _)| span.start);
        let mut first: HashMap<&str, (usize, PluginKind)> = HashMap::new();
        for (name, span, kind) in &names {
            match first.get(name.as_str()) {
                Some((line, first_kind)) => {
                    let message = format!(
                        "plugin {} is listed under `[{first_kind}]` and again under `[{kind}]`",
                        quoted(name)
                    );
                    let hint = format!(
                        "it is first listed in line {line}; every plugin needs a name of its own"
                    );
                    self.error_with(span.clone(), message, hint);
                }
                None => {
                    first.insert(name, (self.source.line_of(span.start), *kind));
                }
            }
        }
    }

    fn plugin(&mut self, kind: PluginKind, key: &Key<'_>, value: &Value<'_>) {
        let written = key.get_ref();
        self.names.push((written.to_string(), key.span(), kind));
        let name = match PluginName::try_from(written.to_string()) {
            Ok(name) => Some(name),
            Err(error) => {
                self.error_with(key.span(), error.to_string(), PluginName::RULE.to_owned());
                None
            }
        };
        let mut content = Content::default();
        match value.get_ref() {
            DeValue::String(location) => content.location = self.location(location, value.span()),
            DeValue::Table(table) => self.table(kind, key, table, &mut content),
            _ => {
                let found = Raw::from_toml(value).value.described();
                let message = format!(
                    "plugin {} must be a source or a table with a `source`, found {found}",
                    quoted(written)
                );
                let line = quoted(&format!("{written} = \"…\""));
                let hint = format!("write {line} with a git URL or a folder");
                self.error_with(value.span(), message, hint);
            }
        }
        // Whatever is not there has been reported.
        let (Some(name), Some(location)) = (name, content.location) else {
            return;
        };
        self.plugins.push(PluginEntry {
            name,
            kind,
            source: SourceSpec {
                location,
                base: self.base.to_owned(),
                reference: content.reference,
            },
            settings: content.settings,
            overrides: content.overrides,
            span: Some(key.span()),
        });
    }

    /// Reads an entry that is a table.
    fn table(
        &mut self,
        kind: PluginKind,
        key: &Key<'_>,
        table: &DeTable<'_>,
        content: &mut Content,
    ) {
        let mut references: Vec<&str> = Vec::new();
        let mut explained = false;
        for (option_key, value) in table {
            let name = option_key.get_ref().as_ref();
            match name {
                "source" => {
                    content.location = self
                        .text(name, value)
                        .and_then(|text| self.location(&text, value.span()));
                }
                "branch" | "tag" | "rev" => {
                    let reference = self.reference(name, value);
                    if let Some(first) = references.first() {
                        let message = format!("`{name}` cannot be given together with `{first}`");
                        let hint = "keep one of `branch`, `tag` and `rev`";
                        self.error_with(option_key.span(), message, hint.to_owned());
                    } else if let Some(reference) = reference {
                        content.reference = reference;
                    }
                    references.push(name);
                }
                "settings" => content.settings = self.settings(value),
                _ => match OptionName::in_entry(name) {
                    Some(OptionName::PluginType) => {
                        let message = "`plugin_type` cannot be overridden";
                        let hint =
                            "the part that lists the plugin must be the type in its manifest";
                        self.error_with(option_key.span(), message.to_owned(), hint.to_owned());
                    }
                    Some(option) => {
                        let raw = RawOption {
                            name: name.to_owned(),
                            name_span: option_key.span(),
                            value: Raw::from_toml(value),
                        };
                        content.overrides.push(option, raw, self.source);
                    }
                    None => {
                        explained |= self.unknown_key(key, option_key);
                    }
                },
            }
        }
        content.overrides.check_spellings(&mut self.mistakes);
        // The values are checked now, so that a mistake here does not wait for the plugin to be fetched. Warnings
        // come with the manifest.
        option_check::check(
            key.get_ref(),
            &content.overrides,
            kind,
            Root::Unknown,
            &mut self.mistakes,
            &mut Vec::new(),
        );
        let has_source = table.iter().any(|(key, _)| key.get_ref() == "source");
        if !has_source && !explained && self.judge_missing {
            let message = format!("plugin {} has no `source`", quoted(key.get_ref()));
            let hint = "add `source = \"…\"` with a git URL or a folder";
            self.error_with(key.span(), message, hint.to_owned());
        }
    }

    /// Reports an unknown key of an entry; says whether that explains why the entry has no source.
    fn unknown_key(&mut self, entry: &Key<'_>, key: &Key<'_>) -> bool {
        let name = key.get_ref();
        let options: Vec<_> = OptionName::entry_names().collect();
        let known = OWN_KEYS
            .into_iter()
            .chain(options.iter().map(String::as_str));
        let near = nearest(name, known);
        let after_entry = self
            .source
            .text()
            .get(entry.span().end..)
            .unwrap_or_default();
        let is_dotted = near.is_none() && after_entry.trim_start().starts_with('.');
        let hint = match near {
            Some(near) if near.eq_ignore_ascii_case(name) => {
                format!("keys of the config are written in lower case: `{near}`")
            }
            Some(near) => format!("did you mean `{near}`?"),
            None if is_dotted => format!(
                "a plugin's name that contains a dot must be in quotes: {}",
                quoted(&format!("\"{}.{name}\"", entry.get_ref()))
            ),
            None => format!("the keys are {}; {}", listed(OWN_KEYS), accepted_in_entry()),
        };
        let message = format!(
            "unknown key {} in plugin {}",
            quoted(name),
            quoted(entry.get_ref())
        );
        let explains = is_dotted || near == Some("source");
        self.error_with(key.span(), message, hint);
        explains
    }

    fn location(&mut self, text: &str, span: Range<usize>) -> Option<String> {
        let what = if text.trim().is_empty() {
            "must not be empty"
        } else if text.contains(char::is_control) {
            "must not contain control characters"
        } else {
            return Some(text.to_owned());
        };
        let hint = "write a git URL or a folder";
        self.error_with(
            span,
            format!("the source of a plugin {what}"),
            hint.to_owned(),
        );
        None
    }

    fn reference(&mut self, key: &str, value: &Value<'_>) -> Option<GitReference> {
        let text = self.text(key, value)?;
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = format!("`{key}` must be a name that is not empty and has no spaces");
            self.mistakes.push(self.source.error(value.span(), message));
            return None;
        }
        Some(match key {
            "branch" => GitReference::Branch(text),
            "tag" => GitReference::Tag(text),
            _ => GitReference::Rev(text),
        })
    }

    fn settings(&mut self, value: &Value<'_>) -> Option<toml::Table> {
        let DeValue::Table(table) = value.get_ref() else {
            let found = Raw::from_toml(value).value.described();
            let message = format!("`settings` must be a table, found {found}");
            self.error_with(value.span(), message, "write `settings = { … }`".to_owned());
            return None;
        };
        Some(self.settings_table(table))
    }

    fn settings_table(&mut self, table: &DeTable<'_>) -> toml::Table {
        let pair = |(key, value): (&Key<'_>, &Value<'_>)| {
            Some((key.get_ref().to_string(), self.settings_value(value)?))
        };
        table.iter().filter_map(pair).collect()
    }

    /// Copies a value; a number that does not fit is reported and left out.
    fn settings_value(&mut self, value: &Value<'_>) -> Option<toml::Value> {
        Some(match value.get_ref() {
            DeValue::String(text) => toml::Value::String(text.to_string()),
            DeValue::Boolean(value) => toml::Value::Boolean(*value),
            DeValue::Datetime(date) => toml::Value::Datetime(*date),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => toml::Value::Integer(number),
                    Err(_) => {
                        self.error(value.span(), "the integer does not fit in 64 bits");
                        return None;
                    }
                }
            }
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(float) if float.is_finite() || number.as_str().contains(['i', 'n']) => {
                    toml::Value::Float(float)
                }
                _ => {
                    self.error(value.span(), "the number does not fit in a 64-bit float");
                    return None;
                }
            },
            DeValue::Array(elements) => {
                let copied = elements.iter().filter_map(|e| self.settings_value(e));
                toml::Value::Array(copied.collect())
            }
            DeValue::Table(table) => toml::Value::Table(self.settings_table(table)),
        })
    }

    fn text(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(text.to_string());
        }
        let found = Raw::from_toml(value).value.described();
        self.error(
            value.span(),
            &format!("`{key}` must be a string, found {found}"),
        );
        None
    }

    fn error(&mut self, span: Range<usize>, message: &str) {
        self.mistakes.push_with(|| self.source.error(span, message));
    }

    fn error_with(&mut self, span: Range<usize>, message: String, hint: String) {
        self.mistakes
            .push_with(|| self.source.error(span, message).with_hint(hint));
    }
}

/// What an entry says besides its name.
#[derive(Default)]
struct Content {
    location: Option<String>,
    reference: GitReference,
    settings: Option<toml::Table>,
    overrides: ManifestOptions,
}
