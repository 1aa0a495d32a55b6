//! What a core leaves with each shim for the core after it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TokenHash;
use super::launch::CommandLine;
use super::processes::Role;
use super::secrets::DeliveredFile;
use crate::config::PluginKind;
use crate::supervisor::protocol::OsText;

/// What the next core has to know of one launch. It is written by one version of the program and may be read
/// by another: what that does not find it leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memo {
    /// What the plugin's config entry was.
    pub(super) entry: String,
    pub(super) kind: PluginKind,
    /// Which one it is of the processes of the program; none for that of an isolated library.
    pub(super) instance: Option<u32>,
    /// How many processes run the same program.
    pub(super) of: u32,
    /// The number of the launch.
    pub(super) number: u64,
    /// Stands for the token that the process has: the token itself is written nowhere.
    pub(super) token: String,
    pub(super) program: OsText,
    pub(super) arguments: Vec<String>,
    /// The plugin has a library as well.
    pub(super) has_library: bool,
    /// It has been ready.
    pub(super) ready: bool,
    /// How many of its restarts are used up.
    pub(super) used: u32,
    /// How often the process was launched again, since the plugin was started or reloaded.
    pub(super) restarts: u32,
    /// How often any process of the plugin was, since its first start.
    pub(super) restarts_in_all: u32,
    /// The secrets that it was given.
    pub(super) secrets: Vec<DeliveredFile>,
}

impl Memo {
    pub(super) fn read(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }

    pub(super) fn to_value(&self) -> Value {
        // There is nothing in it that JSON does not know.
        serde_json::to_value(self).unwrap_or_default()
    }

    pub(super) fn role(&self) -> Role {
        self.instance.map_or(Role::Library, Role::Program)
    }

    pub(super) fn line(&self) -> CommandLine {
        CommandLine {
            program: self.program.as_path().to_owned(),
            arguments: self.arguments.clone(),
        }
    }

    pub(super) fn token(&self) -> Option<TokenHash> {
        TokenHash::from_hex(&self.token)
    }
}
