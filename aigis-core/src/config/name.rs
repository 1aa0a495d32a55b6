//! Names of plugins, checked before they become folder names.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::diagnostic::quoted;

/// The most characters a plugin name may have.
const MAX_LENGTH: usize = 64;

/// Names that mean the host itself in commands and logs.
const RESERVED: [&str; 2] = ["aigis", "core"];

/// A checked plugin name: safe as a folder name and as an argument of a command.
///
/// It has 1 to 64 of the characters `A`-`Z`, `a`-`z`, `0`-`9`, `_`, `-` and `.`, starts with a letter, a digit or
/// `_`, and is neither `aigis` nor `core`. It is never `.` or `..`, hidden, or mistaken for an option.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(String);

impl PluginName {
    /// The rule for names, in one line for people.
    pub const RULE: &'static str = "a name has 1 to 64 letters, digits, `_`, `-` or `.`, starts with a letter, \
                                    a digit or `_`, and is neither `aigis` nor `core`";

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text cannot be the name of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no characters.
    #[error("a plugin name must not be empty")]
    Empty,
    /// The name has too many characters.
    #[error(
        "plugin name {} has {length} characters, at most {MAX_LENGTH} are allowed",
        quoted(name)
    )]
    TooLong {
        /// The name as it was written.
        name: String,
        /// Its length in characters.
        length: usize,
    },
    /// The first character is allowed only further on.
    #[error(
        "plugin name {} must start with a letter, a digit or `_`",
        quoted(name)
    )]
    Start {
        /// The name as it was written.
        name: String,
    },
    /// A character is not allowed anywhere.
    #[error("plugin name {} must not contain {found:?}", quoted(name))]
    Character {
        /// The name as it was written.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// The name means the host itself.
    #[error("plugin name `{name}` is reserved for the host itself")]
    Reserved {
        /// The name as it was written.
        name: String,
    },
}

fn check(name: &str) -> Result<(), NameError> {
    let Some(first) = name.chars().next() else {
        return Err(NameError::Empty);
    };
    let name_of = || name.to_owned();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if let Some(found) = name.chars().find(|&c| !allowed(c)) {
        return Err(NameError::Character {
            name: name_of(),
            found,
        });
    }
    if !(first.is_ascii_alphanumeric() || first == '_') {
        return Err(NameError::Start { name: name_of() });
    }
    let length = name.chars().count();
    if length > MAX_LENGTH {
        return Err(NameError::TooLong {
            name: name_of(),
            length,
        });
    }
    if RESERVED.contains(&name) {
        return Err(NameError::Reserved { name: name_of() });
    }
    Ok(())
}

impl TryFrom<String> for PluginName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        check(&name)?;
        Ok(Self(name))
    }
}

impl FromStr for PluginName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::try_from(name.to_owned())
    }
}

impl From<PluginName> for String {
    fn from(name: PluginName) -> Self {
        name.0
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for PluginName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for PluginName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}
