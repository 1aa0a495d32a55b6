//! One plugin is added to a running core, or removed from it; the config file is written if that is asked
//! for, and never otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apply::Coming;
use super::{HostError, Inner, PluginStatus, full_message};
use crate::config::{
    self, Config, EditError, Manifest, PluginEntry, PluginKind, PluginName, Standing,
};
use crate::logging::Level;

/// A plugin that is to be added.
#[derive(Debug)]
pub(crate) struct Addition {
    name: PluginName,
    what: What,
    save: bool,
}

/// What is known of it.
#[derive(Debug)]
enum What {
    /// All of it.
    Entry(Box<PluginEntry>),
    /// What stands after `name =` in a config, but not in which part: its manifest says that.
    Text(String),
    /// What stands there, and in which part.
    TextOf(PluginKind, String),
}

/// What is asked for in words, as on a command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) name: &'a str,
    /// Where it comes from: a git URL or a folder, or a config entry's table.
    pub(crate) source: &'a str,
    pub(crate) kind: Option<&'a str>,
    /// Other keys of the entry, as `key=value`.
    pub(crate) options: &'a [String],
    /// It is written into the config as well.
    pub(crate) save: bool,
}

impl Addition {
    /// Adds this, for as long as the host lives.
    pub(crate) fn of(entry: PluginEntry) -> Self {
        Self {
            name: entry.name.clone(),
            what: What::Entry(Box::new(entry)),
            save: false,
        }
    }

    /// Reads what is asked for in words.
    pub(crate) fn read(wish: Wish<'_>) -> Result<Self, HostError> {
        let refused = |message: String| HostError::Refused(message);
        let name: PluginName = wish.name.parse().map_err(|error| {
            let rule = PluginName::RULE;
            refused(format!("{error}; {rule}"))
        })?;
        let text = entry_text(wish.source, wish.options)?;
        let what = match wish.kind.map(str::parse::<PluginKind>).transpose() {
            Ok(Some(kind)) => What::TextOf(kind, text),
            Ok(None) => What::Text(text),
            Err(error) => return Err(refused(error.to_string())),
        };
        Ok(Self {
            name,
            what,
            save: wish.save,
        })
    }
}

impl Inner {
    /// Brings a plugin up that is not there yet. What fails leaves nothing of it but its log.
    pub(crate) fn add(self: &Arc<Self>, addition: Addition) -> Result<PluginStatus, HostError> {
        let _turn = self.change_of_plugins()?;
        let Addition { name, what, save } = addition;
        if self.find(name.as_str()).is_ok() {
            let message = format!(
                "there is a plugin `{name}` already; `aigis replace` puts another one in its place"
            );
            return Err(HostError::Refused(message));
        }
        let (mut coming, text) = match what {
            What::Entry(entry) => (Coming::added(self, *entry), None),
            What::TextOf(kind, text) => {
                let entry = self.entry_of(&name, &text, kind)?;
                (Coming::added(self, entry), Some(text))
            }
            What::Text(text) => (self.coming_of_any_kind(&name, &text)?, Some(text)),
        };
        let kind = coming.plugin.entry.kind;
        let text = text.filter(|_| save);
        if let Some(text) = &text {
            // Better told before anything is done.
            self.edit(|config| config::add_plugin(config, kind, &name, text).map(Some))?;
        }
        coming.plugin.stands(Standing::Added);
        self.logs.core(Level::Info, format!("adding {name}"));
        coming.prepare(self)?;
        coming.load(self)?;
        let plugin = Arc::clone(&coming.plugin);
        coming.come(self)?.settle(self)?;
        let message = match save {
            true => format!("added {kind} plugin {name}"),
            false => format!("added {kind} plugin {name}, until the core shuts down"),
        };
        self.logs.core(Level::Info, message);
        if let Some(text) = &text {
            let saved = self.save(|config| config::add_plugin(config, kind, &name, text).map(Some));
            saved.map_err(|error| half_done(&format!("`{name}` runs"), &error))?;
            plugin.stands(Standing::Listed);
        }
        Ok(plugin.status())
    }

    /// Stops a plugin and forgets it.
    pub(crate) fn remove(
        self: &Arc<Self>,
        name: &str,
        force: bool,
        save: bool,
    ) -> Result<(), HostError> {
        let _turn = self.change_of_plugins()?;
        let found = self.find(name);
        let checked: Option<PluginName> = match save {
            true => name.parse().ok(),
            false => None,
        };
        if let Some(name) = &checked {
            let listed = self.edit(|config| config::remove_plugin(config, name))?;
            if found.is_err() && listed.is_some() {
                // It has been removed before, but only from what runs.
                return self.save(|config| config::remove_plugin(config, name));
            }
        }
        let plugin = found?;
        if plugin.is_around_here() {
            let message = format!("a skill of `{name}` cannot ask for the removal of `{name}`");
            return Err(HostError::Refused(message));
        }
        self.drop_plugin(&plugin, force, |_| false)?;
        if let Some(name) = &checked {
            let saved = self.save(|config| config::remove_plugin(config, name));
            saved.map_err(|error| half_done(&format!("`{name}` is gone"), &error))?;
        }
        Ok(())
    }

    /// Fetches a plugin to find out what kind it is.
    fn coming_of_any_kind(
        self: &Arc<Self>,
        name: &PluginName,
        text: &str,
    ) -> Result<Coming, HostError> {
        let mut entries = PluginKind::ALL.map(|kind| self.entry_of(name, text, kind));
        // Not every kind has every option.
        let fits = entries.iter().position(Result::is_ok).unwrap_or(0);
        let [core, internal, external] = &mut entries;
        let first = std::mem::replace(
            [core, internal, external][fits],
            Err(HostError::Refused(String::new())),
        )?;
        let mut coming = Coming::added(self, first);
        coming.fetch(self)?;
        let folder = self.home.plugin(name);
        let Some(kind) = Manifest::kind_of(&folder) else {
            coming.put_back(self);
            let message = format!(
                "the manifest of `{name}` (`AIGIS/AIGIS.config` in its source) does not say which kind \
                 of plugin it is, with `PLUGIN_TYPE = \"core\"`, `\"internal\"` or `\"external\"`"
            );
            return Err(HostError::Refused(message));
        };
        match self.entry_of(name, text, kind) {
            Ok(entry) => {
                coming.is_to_be(self, entry);
                Ok(coming)
            }
            Err(error) => {
                coming.put_back(self);
                Err(error)
            }
        }
    }

    /// Reads what is to come as the config would.
    pub(super) fn entry_of(
        &self,
        name: &PluginName,
        text: &str,
        kind: PluginKind,
    ) -> Result<PluginEntry, HostError> {
        let quoted = toml::Value::from(name.as_str());
        let config = format!("[{kind}]\n{quoted} = {text}\n");
        // Relative folders start where those of the config do.
        let place = match &self.configs[..] {
            [path] => path.clone(),
            _ => self.home.config_file(),
        };
        let shown = place.with_file_name("added");
        let config = Config::parse(config.as_bytes(), &shown)
            .map_err(|mistakes| HostError::Refused(mistakes.to_string()))?;
        let first = config.plugins.into_iter().next();
        first.ok_or_else(|| HostError::Refused(format!("`{name} = {text}` names no plugin")))
    }

    /// Returns the config's new text, where it has one.
    fn edit(
        &self,
        edit: impl Fn(&str) -> Result<Option<String>, EditError>,
    ) -> Result<Option<(PathBuf, String)>, HostError> {
        let path = self.config_file()?;
        let refused = |why: String| HostError::Refused(why);
        let text = fs::read_to_string(&path)
            .map_err(|error| refused(format!("`{}` cannot be read: {error}", path.display())))?;
        let edited = edit(&text).map_err(|error| refused(full_message(&error)))?;
        let Some(edited) = edited else {
            return Ok(None);
        };
        // What is written can be read again.
        Config::parse(edited.as_bytes(), &path).map_err(HostError::Config)?;
        Ok(Some((path, edited)))
    }

    fn save(
        &self,
        edit: impl Fn(&str) -> Result<Option<String>, EditError>,
    ) -> Result<(), HostError> {
        let Some((path, text)) = self.edit(edit)? else {
            return Ok(());
        };
        config::write_config(&path, &text)
            .map_err(|error| HostError::Refused(full_message(&error)))?;
        let message = format!("wrote {}", Path::display(&path));
        self.logs.core(Level::Info, message);
        Ok(())
    }
}

fn half_done(done: &str, error: &HostError) -> HostError {
    HostError::Refused(format!("{done}, but the config is as it was: {error}"))
}

/// Writes what stands after `name =` in a config: a source, or a table with it and other keys.
pub(super) fn entry_text(source: &str, options: &[String]) -> Result<String, HostError> {
    let source = source.trim();
    let refused = |message: String| Err(HostError::Refused(message));
    if source.starts_with('{') {
        return match options {
            [] => Ok(source.to_owned()),
            _ => refused("a source that is a table has every key in it".to_owned()),
        };
    }
    let mut text = toml::Value::from(source).to_string();
    if options.is_empty() {
        return Ok(text);
    }
    text.insert_str(0, "{ source = ");
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let key = key.trim();
        let is_part = |part: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            !part.is_empty() && part.chars().all(is_plain)
        };
        if !option.contains('=') || !key.split('.').all(is_part) {
            return refused(format!(
                "expected `key=value`, such as `restart=5` or `settings.port=8080`, found `{option}`"
            ));
        }
        text.push_str(&format!(", {key} = {}", toml_value(value.trim())));
    }
    text.push_str(" }");
    Ok(text)
}

/// Takes a value as TOML; what is none is a text.
fn toml_value(text: &str) -> String {
    let is_toml = !text.contains(['\n', '\r', '#'])
        && toml::from_str::<toml::Table>(&format!("value = {text}"))
            .is_ok_and(|table| table.len() == 1);
    match is_toml {
        true => text.to_owned(),
        false => toml::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_written_as_the_config_has_it() {
        let text = |source: &str, options: &[&str]| {
            let options: Vec<String> = options.iter().map(|one| (*one).to_owned()).collect();
            entry_text(source, &options).map_err(|error| error.to_string())
        };
        assert_eq!(text("../a b", &[]), Ok("\"../a b\"".to_owned()));
        assert_eq!(
            text(
                "x",
                &[
                    "restart=5",
                    "branch=main",
                    "settings.on=true",
                    "features=[\"a\"]"
                ]
            ),
            Ok(
                "{ source = \"x\", restart = 5, branch = \"main\", settings.on = true, \
                features = [\"a\"] }"
                    .to_owned()
            )
        );
        // No value ends the table.
        let hostile = ["branch=a\" }\nb = \"c", "tag=1 # }", "rev=1, x = 2"];
        let written = text("x", &hostile).expect("is text");
        let read: toml::Table = toml::from_str(&format!("p = {written}")).expect("is TOML");
        assert_eq!(read.len(), 1);
        let table = read["p"].as_table().expect("is a table");
        for (option, key) in hostile.iter().zip(["branch", "tag", "rev"]) {
            let value = option.split_once('=').map(|(_, value)| value);
            assert_eq!(table[key].as_str(), value);
        }
        assert_eq!(
            text("{ source = \"x\" }", &[]),
            Ok("{ source = \"x\" }".to_owned())
        );
        for wrong in ["restart", "=5", "a b=1", "settings.=1"] {
            assert!(text("x", &[wrong]).is_err(), "{wrong}");
        }
        assert!(text("{ source = \"x\" }", &["restart=1"]).is_err());
    }
}
