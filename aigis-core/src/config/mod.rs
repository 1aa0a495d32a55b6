//! The central config (`config.aigis`) and the plugins' own manifests (`AIGIS/AIGIS.config`).
//!
//! Start at [`Config::load`] and [`Manifest::load`]. Both read a file into its raw form, which mirrors the text and
//! keeps every position, and turn that into a value that can only be valid. Nothing here executes anything, and
//! nothing but those two functions, and the one that writes an edited config, touches the disk. Mistakes are not reported one by one: the error of both
//! functions is [`Diagnostics`], a list in which each mistake points at its place in the text.

mod central;
mod diagnostic;
mod difference;
mod edit;
mod entry;
mod literal;
mod literal_scalar;
mod manifest;
mod manifest_options;
mod name;
mod option_check;
pub mod order;
mod raw;
mod read;
pub(crate) mod readiness;
mod resources;
mod source_text;
mod suggest;
mod supervision;
mod toml_text;

pub use central::Config;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use difference::{Changed, Difference, Needs, Present, Standing};
pub(crate) use edit::{EditError, add_plugin, remove_plugin, write_config};
pub use entry::{GitReference, PluginEntry, PluginKind, SourceSpec, UnknownKind};
pub use manifest::{Host, Launch, Manifest, Requirements, Secret};
pub use manifest_options::ManifestOptions;
pub use name::{NameError, PluginName};
pub use option_check::{DEFAULT_MAX_MESSAGE, MIN_MAX_MESSAGE};
pub use readiness::{Health, HttpTarget, Probe, Readiness, ReadyWhen};
pub use resources::{Limit, Resources};
pub use supervision::{LogOptions, OnCoreDeath, RestartOptions, RestartWhen, StopOptions};

#[cfg(test)]
mod tests;
