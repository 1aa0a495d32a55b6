//! Why a plugin did not get through a step of its life.

use std::time::Duration;

use crate::build::BuildError;
use crate::config::order::OrderError;
use crate::config::{Diagnostics, PluginName};
use crate::loader::LoadError;
use crate::registry::Conflict;
use crate::source::FetchError;
use crate::supervisor::LaunchError;

use super::confine::ConfineError;
use super::requirements::RequirementsError;
use super::secrets::SecretsError;

/// A plugin did not get through a step of its life. The others are not concerned.
#[derive(Debug, thiserror::Error)]
#[error("Could not load plugin {plugin}! {step}")]
pub struct StepError {
    /// The plugin.
    pub plugin: PluginName,
    /// The step, with its cause.
    #[source]
    pub step: Step,
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Step {
    /// Its source could not be fetched.
    #[error("its source cannot be fetched")]
    Fetch(#[source] FetchError),
    /// Its manifest is not valid.
    #[error("Could not get configuration for plugin")]
    Manifest(#[source] Diagnostics),
    /// What it needs on this machine is not there.
    #[error("its requirements are not met")]
    Requirements(#[source] RequirementsError),
    /// Its secrets could not be delivered.
    #[error("its secrets cannot be delivered")]
    Secrets(#[source] SecretsError),
    /// It could not be built.
    #[error("it cannot be built")]
    Build(#[source] BuildError),
    /// Its library could not be loaded.
    #[error("its library cannot be loaded")]
    Load(#[source] LoadError),
    /// Its skills could not be registered.
    #[error("its skills cannot be registered: {}", all(.0))]
    Register(Vec<Conflict>),
    /// Those who have been compiled for its skills would lose them.
    #[error(
        "its new version does not offer what others have been compiled for; change it back, change \
         them, or reload with `--force`:\n  {}", .0.join("\n  ")
    )]
    Incompatible(Vec<String>),
    /// Its state was not written down.
    #[error("its `save` has failed; the old version serves on")]
    Save(#[source] LoadError),
    /// The calls inside did not end in time for its state to be handed over.
    #[error(
        "calls were still running in it after {0:?}, so its state could not be handed over; the old \
         version serves on"
    )]
    Handover(Duration),
    /// Its processes cannot be given or denied what its manifest says.
    #[error("its processes cannot be what its manifest says")]
    Confine(#[source] ConfineError),
    /// Its process could not be launched.
    #[error("its process cannot be launched")]
    Launch(#[source] LaunchError),
    /// Its process was launched, but was not ready in time, or cannot become ready.
    #[error("its process was not ready within {after:?}: {why}")]
    NotReady {
        /// How long it may take.
        after: Duration,
        /// What has not come, and what to do about that.
        why: String,
    },
    /// Its process was ready, and then probe after probe has failed.
    #[error("unhealthy: {why}")]
    Unhealthy {
        /// What was wrong the last time.
        why: String,
    },
    /// A plugin that it is to start after does not become ready.
    #[error("it waits for `{plugin}`, which {how}")]
    After {
        /// The plugin that it waits for.
        plugin: PluginName,
        /// How that plugin is.
        how: &'static str,
    },
    /// What it is to start after cannot be.
    #[error("it cannot be started in the order that AFTER says")]
    Order(#[source] OrderError),
    /// A file or folder of the core's own could not be made.
    #[error("the core cannot prepare it")]
    Prepare(#[source] std::io::Error),
    /// The core is shutting down.
    #[error("the core is shutting down")]
    Closing,
}

fn all(conflicts: &[Conflict]) -> String {
    let lines: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

impl Step {
    pub(crate) fn of(self, plugin: &PluginName) -> StepError {
        StepError {
            plugin: plugin.clone(),
            step: self,
        }
    }
}
