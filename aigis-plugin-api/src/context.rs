//! What a plugin's code knows of itself and of its host.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Value};
use crate::logger::Logger;

/// What a host gives to a plugin when it starts; crosses encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The plugin's name in the config.
    pub plugin: String,
    /// The number of this load or launch of the plugin, from 1.
    pub generation: u64,
    /// The folder that the core works in.
    pub home: PathBuf,
    /// A folder of the plugin's own that outlives reloads and fetches.
    pub data: PathBuf,
    /// The process id of the core.
    pub core_pid: u32,
    /// The `settings` of the plugin's config entry.
    #[serde(default)]
    pub settings: Option<Value>,
}

/// What a skill, a constructor or a `launch` function can ask for with a parameter `ctx: &Context`.
///
/// ```
/// use aigis_plugin_api::{Context, skills};
///
/// #[skills]
/// pub mod office {
///     use super::*;
///
///     /// Says who answers, and from which process.
///     pub fn who(ctx: &Context) -> String {
///         format!("{} in process {}", ctx.plugin(), ctx.core_pid())
///     }
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    grant: Grant,
    logger: Logger,
}

impl Context {
    pub(crate) fn new(grant: Grant, logger: Logger) -> Self {
        Self { grant, logger }
    }

    /// Returns the plugin's name in the config.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// println!("I am {}", ctx.plugin());
    /// # }
    /// ```
    pub fn plugin(&self) -> &str {
        &self.grant.plugin
    }

    /// Returns the number of this load or launch of the plugin, counted from 1.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// let first_time = ctx.generation() == 1;
    /// # }
    /// ```
    pub fn generation(&self) -> u64 {
        self.grant.generation
    }

    /// Returns the folder that the core works in.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// let config = ctx.home().join("config/config.aigis");
    /// # }
    /// ```
    pub fn home(&self) -> &Path {
        &self.grant.home
    }

    /// Returns a folder of the plugin's own, kept over reloads and fetches. It exists.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) -> std::io::Result<()> {
    /// std::fs::write(ctx.data().join("seen.txt"), "zaltu")
    /// # }
    /// ```
    pub fn data(&self) -> &Path {
        &self.grant.data
    }

    /// Returns the process id of the core. In a skill of a core plugin it is this process's own.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// let in_core = ctx.core_pid() == std::process::id();
    /// # }
    /// ```
    pub fn core_pid(&self) -> u32 {
        self.grant.core_pid
    }

    /// Returns the plugin's logger.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// ctx.logger().info("ready");
    /// # }
    /// ```
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    /// Reads the `settings` of the plugin's config entry; without any, an empty table.
    ///
    /// ```
    /// use aigis_plugin_api::{Context, SettingsError};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Settings { #[serde(default)] greeting: Option<String> }
    ///
    /// fn greeting(ctx: &Context) -> Result<String, SettingsError> {
    ///     let settings: Settings = ctx.settings()?;
    ///     Ok(settings.greeting.unwrap_or_else(|| "Hello".into()))
    /// }
    /// ```
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        let settings = self
            .grant
            .settings
            .clone()
            .unwrap_or_else(|| Value::Map(Vec::new()));
        codec::from_value(settings).map_err(|error| SettingsError {
            plugin: self.grant.plugin.clone(),
            message: error.to_string(),
        })
    }
}

/// The `settings` of a config entry do not have the form that the plugin asks for.
///
/// ```
/// fn show(error: &aigis_plugin_api::SettingsError) -> String {
///     error.to_string()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsError {
    plugin: String,
    message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the settings of `{}` do not fit: {}; change its entry in the config",
            self.plugin, self.message
        )
    }
}

impl std::error::Error for SettingsError {}
