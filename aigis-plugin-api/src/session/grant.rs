//! What a launched process is told: where its core is, and what it may present there.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SESSION_FD;
use crate::codec::{self, Value};
use crate::context::Grant;
use crate::error::{Failure, FailureKind};

/// The content of the one inherited descriptor, as JSON so that any language can read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionGrant {
    /// The version of this form.
    pub version: u32,
    /// The core's socket.
    pub endpoint: PathBuf,
    /// What to present there.
    pub token: String,
    /// What the plugin may know of itself.
    pub plugin: Grant,
}

impl SessionGrant {
    /// Where the core is, and what this process presents there.
    pub(crate) fn address(&self) -> super::Address {
        super::Address {
            socket: self.endpoint.clone(),
            token: Some(self.token.clone()),
            client: self.plugin.plugin.clone(),
            reconnects: true,
            offers: true,
        }
    }

    /// Writes it down.
    pub fn to_json(&self) -> String {
        codec::to_value(self).map_or_else(|_| String::new(), |value| value.to_json())
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &str) -> Result<Self, Failure> {
        let broken = |error: String| {
            Failure::new(
                FailureKind::NotConnected,
                format!("the session that {SESSION_FD} names cannot be read: {error}"),
            )
        };
        let value = Value::from_json(text).map_err(|error| broken(error.to_string()))?;
        codec::from_value(value).map_err(|error| broken(error.to_string()))
    }
}

/// Reads the grant of this process, if it was launched by a core. The descriptor is read once.
///
/// # Errors
/// What is wrong with the descriptor.
pub fn from_environment() -> Result<Option<SessionGrant>, Failure> {
    let Some(number) = std::env::var_os(SESSION_FD) else {
        return Ok(None);
    };
    let number: i32 = number
        .to_str()
        .and_then(|text| text.parse().ok())
        .filter(|number| *number > 2)
        .ok_or_else(|| {
            Failure::new(
                FailureKind::NotConnected,
                format!("{SESSION_FD} is {number:?}, expected the number of a descriptor"),
            )
        })?;
    let mut text = String::new();
    // The descriptor stays open, but what it held has been read: a grandchild that inherits it
    // learns nothing.
    File::open(format!("/dev/fd/{number}"))
        .and_then(|mut file| file.read_to_string(&mut text))
        .map_err(|error| {
            Failure::new(
                FailureKind::NotConnected,
                format!("descriptor {number}, which {SESSION_FD} names, cannot be read: {error}"),
            )
        })?;
    SessionGrant::from_json(&text).map(Some)
}
