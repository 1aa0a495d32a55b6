//! What a plugin is given: its secrets, its settings, and what it may know of itself and its host.

use std::fs;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use aigis_plugin_api::__private::Grant;
use aigis_plugin_api::codec::Value;

use super::Inner;
use super::confine::identity;
use super::plugin::Plugin;
use super::secrets::{self, Delivered, Delivery};
use super::secrets_place::Place;
use super::step::Step;
use crate::config::{Manifest, PluginEntry, PluginName};
use crate::home::at;
use crate::logging::Level;
use crate::supervisor::Identity;

impl Inner {
    /// Delivers a plugin's secrets.
    pub(crate) fn deliver(
        &self,
        name: &PluginName,
        manifest: &Manifest,
    ) -> Result<Delivered, Step> {
        let owner = match manifest.secrets.is_empty() {
            true => None,
            false => identity(&manifest.resources).map_err(Step::Confine)?,
        };
        let store = self.home.secrets(name);
        // Before anything of the plugin can have them.
        let values = secrets::values(&manifest.secrets, &store);
        self.logs.keep(name.as_str(), &manifest.log, values);
        let delivery = Delivery {
            secrets: &manifest.secrets,
            store: &store,
            root: &self.home.plugin(name),
            owner: owner.as_ref(),
            readable: manifest.readable_secrets,
        };
        let make = |links: &[PathBuf]| Place::make(&self.home, name, owner.as_ref(), links);
        let delivered = secrets::deliver(&delivery, make).map_err(Step::Secrets)?;
        if let Some(place) = delivered.place().filter(|place| !place.is_in_memory()) {
            let message = format!(
                "the secrets are on a disk, in {}: there is no file system in memory that they can be put on",
                place.folder().display()
            );
            self.logs.plugin(name.as_str(), Level::Warn, message);
        }
        Ok(delivered)
    }

    /// Makes what a plugin may know of itself and its host.
    pub(crate) fn grant(&self, plugin: &Plugin, generation: u64) -> Result<Grant, Step> {
        let data = self.home.data(plugin.name());
        fs::create_dir_all(&data).map_err(|error| Step::Prepare(at(&data, error)))?;
        Ok(Grant {
            plugin: plugin.name().to_string(),
            generation,
            home: self.home.root().to_owned(),
            data,
            core_pid: std::process::id(),
            instance: 0,
            settings: settings(&plugin.entry),
            brought: false,
        })
    }

    /// Writes the settings down for a process that reads files; in `place`, if the process is of another user than the
    /// core.
    pub(super) fn settings_file(
        &self,
        plugin: &Plugin,
        place: Option<&Path>,
        owner: Option<&Identity>,
    ) -> Result<Option<PathBuf>, Step> {
        let Some(settings) = settings(&plugin.entry) else {
            return Ok(None);
        };
        let folder = match place {
            Some(folder) => folder.to_owned(),
            None => self.home.run().join("settings"),
        };
        let path = folder.join(format!("{}.json", plugin.name()));
        let written = tempfile::NamedTempFile::new_in(&folder).and_then(|file| {
            fs::write(file.path(), settings.to_json_pretty())?;
            if let Some(owner) = owner {
                fchown(&file, Some(owner.uid), Some(owner.gid))?;
            }
            file.persist(&path).map_err(|error| error.error)
        });
        match written {
            Ok(_) => Ok(Some(path)),
            Err(error) => Err(Step::Prepare(at(&path, error))),
        }
    }
}

/// Returns an entry's settings, in the order of the file.
fn settings(entry: &PluginEntry) -> Option<Value> {
    let table = entry.settings.as_ref()?;
    Some(value_of(&toml::Value::Table(table.clone())))
}

/// Turns a TOML value into one that every format has; dates become texts.
fn value_of(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(value) => Value::from(*value),
        toml::Value::Datetime(time) => Value::from(time.to_string().as_str()),
        toml::Value::Array(items) => items.iter().map(value_of).collect(),
        toml::Value::Table(table) => table
            .iter()
            .map(|(key, value)| (key.as_str(), value_of(value)))
            .collect(),
    }
}
