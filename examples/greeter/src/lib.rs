//! Greets people: a small plugin with a constant, a skill, an error of its own, settings and a cleanup.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{Context, Logger, skill_type, skills};

/// How many people have been greeted by this version.
static GREETED: AtomicU64 = AtomicU64::new(0);

/// What others can call: each `pub` constant and function, by the name of this module and its own.
#[skills]
pub mod greeter {
    use super::*;

    /// The longest name that `greet` takes, in characters.
    pub const MAX_NAME_LENGTH: usize = 64;

    /// Greets `name` with the word that the settings give, by default "Hello".
    pub fn greet(ctx: &Context, name: &str) -> Result<String, GreetError> {
        let settings: Settings = ctx.settings().map_err(|error| GreetError::Settings {
            message: error.to_string(),
        })?;
        let text = compose(settings.greeting.as_deref().unwrap_or("Hello"), name)?;
        GREETED.fetch_add(1, Ordering::Relaxed);
        Ok(text)
    }

    /// Says what has been done; runs once, when this version is retired.
    pub fn cleanup(logger: &Logger) {
        logger.info(format_args!(
            "greeted {} times",
            GREETED.load(Ordering::Relaxed)
        ));
    }
}

/// What the plugin's entry in the config may say under `settings`.
#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde", deny_unknown_fields)]
struct Settings {
    greeting: Option<String>,
}

/// Why somebody is not greeted; callers get it back as this type.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GreetError {
    /// There is no name.
    Empty,
    /// The name has more characters than `MAX_NAME_LENGTH`.
    TooLong {
        /// The most characters that are allowed.
        limit: usize,
        /// The characters of the name.
        found: usize,
    },
    /// The plugin's entry in the config is wrong.
    Settings {
        /// What is wrong with it.
        message: String,
    },
}

impl fmt::Display for GreetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty"),
            Self::TooLong { limit, found } => {
                write!(
                    f,
                    "the name has {found} characters, at most {limit} are allowed"
                )
            }
            Self::Settings { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for GreetError {}

fn compose(greeting: &str, name: &str) -> Result<String, GreetError> {
    let (limit, found) = (greeter::MAX_NAME_LENGTH, name.chars().count());
    match found {
        0 => Err(GreetError::Empty),
        found if found > limit => Err(GreetError::TooLong { limit, found }),
        _ => Ok(format!("{greeting}, {name}!")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_with_the_given_word() {
        assert_eq!(compose("Hello", "zaltu").as_deref(), Ok("Hello, zaltu!"));
        assert_eq!(compose("Salut", "zoé").as_deref(), Ok("Salut, zoé!"));
    }

    #[test]
    fn counts_characters_not_bytes() {
        let longest = "é".repeat(greeter::MAX_NAME_LENGTH);
        assert!(compose("Hello", &longest).is_ok());
        let (limit, found) = (greeter::MAX_NAME_LENGTH, greeter::MAX_NAME_LENGTH + 1);
        assert_eq!(
            compose("Hello", &format!("{longest}é")),
            Err(GreetError::TooLong { limit, found })
        );
        assert_eq!(compose("Hello", ""), Err(GreetError::Empty));
    }
}
