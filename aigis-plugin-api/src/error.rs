//! What can go wrong with a call, on both sides of every boundary.
//!
//! A [`Failure`] is the form in which an error travels; a caller sees a [`CallError`].

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::de::value::{self, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};

use crate::codec;

/// What kind of failure ended a call.
///
/// ```
/// use aigis_plugin_api::{CallError, FailureKind};
///
/// fn is_refused(error: &CallError) -> bool {
///     matches!(error, CallError::Other(failure) if failure.kind == FailureKind::Refused)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The skill returned an error of its own.
    Skill,
    /// The skill panicked.
    Panicked,
    /// No plugin offers a skill of this name.
    NotFound,
    /// The skill's signature cannot serve what the caller expects.
    Mismatch,
    /// The arguments do not fit the parameters.
    Arguments,
    /// A value cannot be encoded.
    Unserializable,
    /// The caller's time was over before the result was there.
    TimedOut,
    /// The caller gave up.
    Cancelled,
    /// Waiting here would block a thread that must not block.
    WouldBlock,
    /// There is no host to ask.
    NotConnected,
    /// The connection to the core ended; whether the skill ran is unknown.
    CoreGone,
    /// The process that serves the skill ended during the call; whether the skill ran is unknown.
    Disconnected,
    /// The process that serves the skill is not running; the skill was not called.
    Unavailable,
    /// Too many calls are waiting already.
    Overloaded,
    /// A value is larger than the limit.
    TooLarge,
    /// The host refuses to do it, and says why.
    Refused,
    /// The version that makes a stream was replaced, and the stream has outlived its time after that.
    Superseded,
    /// A part of the host failed.
    Internal,
}

impl FailureKind {
    /// All there are.
    #[doc(hidden)]
    pub const ALL: [Self; 18] = [
        Self::Skill,
        Self::Panicked,
        Self::NotFound,
        Self::Mismatch,
        Self::Arguments,
        Self::Unserializable,
        Self::TimedOut,
        Self::Cancelled,
        Self::WouldBlock,
        Self::NotConnected,
        Self::CoreGone,
        Self::Disconnected,
        Self::Unavailable,
        Self::Overloaded,
        Self::TooLarge,
        Self::Refused,
        Self::Superseded,
        Self::Internal,
    ];
}

/// The place of each kind in [`FailureKind::ALL`]: a new one does not compile before it is there, and
/// then the tests that go through all of them ask for theirs.
const fn place(kind: FailureKind) -> usize {
    match kind {
        FailureKind::Skill => 0,
        FailureKind::Panicked => 1,
        FailureKind::NotFound => 2,
        FailureKind::Mismatch => 3,
        FailureKind::Arguments => 4,
        FailureKind::Unserializable => 5,
        FailureKind::TimedOut => 6,
        FailureKind::Cancelled => 7,
        FailureKind::WouldBlock => 8,
        FailureKind::NotConnected => 9,
        FailureKind::CoreGone => 10,
        FailureKind::Disconnected => 11,
        FailureKind::Unavailable => 12,
        FailureKind::Overloaded => 13,
        FailureKind::TooLarge => 14,
        FailureKind::Refused => 15,
        FailureKind::Superseded => 16,
        FailureKind::Internal => 17,
    }
}

const _: () = {
    let mut at = 0;
    while at < FailureKind::ALL.len() {
        assert!(place(FailureKind::ALL[at]) == at);
        at += 1;
    }
};

/// An error as it crosses a boundary; a caller sees one in [`CallError::Other`].
///
/// ```
/// use aigis_plugin_api::{CallError, FailureKind};
///
/// fn reason(error: &CallError) -> Option<&str> {
///     match error {
///         CallError::Other(failure) if failure.kind == FailureKind::Refused => Some(&failure.message),
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    #[serde(deserialize_with = "known_kind")]
    pub kind: FailureKind,
    /// The full name of the skill, where known.
    #[serde(default)]
    pub skill: String,
    /// The message for people.
    pub message: String,
    /// The type name of the author's error.
    #[serde(default)]
    pub type_name: Option<String>,
    /// The author's error, encoded, when it can be serialised.
    #[serde(default)]
    pub payload: Option<Payload>,
    /// The messages of the error's causes, outermost first.
    #[serde(default)]
    pub chain: Vec<String>,
    /// What belongs to the kind: the nearest names, the differences of two signatures.
    #[serde(default)]
    pub details: Vec<String>,
    /// Where a panic started: file, line and column.
    #[serde(default)]
    pub location: Option<String>,
}

/// Reads a kind; one that came later than this build is an internal one to it.
fn known_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FailureKind, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = FailureKind::deserialize(StrDeserializer::<value::Error>::new(&name));
    Ok(known.unwrap_or(FailureKind::Internal))
}

/// An encoded value inside a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub Vec<u8>);

impl Failure {
    /// Makes a failure with a message and nothing else.
    #[doc(hidden)]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            skill: String::new(),
            message: message.into(),
            type_name: None,
            payload: None,
            chain: Vec::new(),
            details: Vec::new(),
            location: None,
        }
    }

    /// Says which skill it was, unless that is known already.
    #[doc(hidden)]
    #[must_use]
    pub fn of_skill(mut self, skill: &str) -> Self {
        if self.skill.is_empty() {
            skill.clone_into(&mut self.skill);
        }
        self
    }

    /// Adds what belongs to the kind.
    #[doc(hidden)]
    #[must_use]
    pub fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// Encodes it for the other side; never fails.
    #[doc(hidden)]
    pub fn encode(&self) -> Vec<u8> {
        codec::to_vec(self).unwrap_or_default()
    }

    /// Reads what the other side encoded; what cannot be read becomes an internal failure.
    #[doc(hidden)]
    pub fn decode(bytes: &[u8]) -> Self {
        codec::from_slice(bytes).unwrap_or_else(|error| {
            Self::new(
                FailureKind::Internal,
                format!("the other side sent an error that cannot be read: {error}"),
            )
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.skill.is_empty() {
            "the call"
        } else {
            &self.skill
        };
        match self.kind {
            FailureKind::Skill => {
                write!(f, "{name} failed: {}", self.message)?;
                if let Some(type_name) = &self.type_name {
                    write!(f, " ({type_name})")?;
                }
                for cause in &self.chain {
                    write!(f, "\n  caused by: {cause}")?;
                }
                Ok(())
            }
            FailureKind::Panicked => {
                write!(f, "{name} panicked: {}", self.message)?;
                match &self.location {
                    Some(location) => write!(f, " (at {location})"),
                    None => Ok(()),
                }
            }
            FailureKind::NotFound if !self.details.is_empty() => {
                let nearest: Vec<String> = self
                    .details
                    .iter()
                    .map(|near| format!("`{near}`"))
                    .collect();
                write!(
                    f,
                    "{}; did you mean {}?",
                    self.message,
                    nearest.join(" or ")
                )
            }
            _ => {
                if self.message.is_empty() {
                    // Whoever made it, in whatever language, has said nothing.
                    write!(f, "{name} failed ({:?}), without a message", self.kind)?;
                }
                f.write_str(&self.message)?;
                for detail in &self.details {
                    write!(f, "\n  {detail}")?;
                }
                Ok(())
            }
        }
    }
}

impl Error for Failure {}

/// An error that a skill's author returned, as another process or library sees it.
///
/// ```
/// use aigis_plugin_api::SkillFailure;
///
/// fn report(failure: &SkillFailure) -> String {
///     format!("{}: {}", failure.type_name, failure.message)
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SkillFailure {
    /// The full name of the skill.
    pub skill: String,
    /// The path of the author's error type.
    pub type_name: String,
    /// Its message.
    pub message: String,
    /// The messages of its causes, outermost first.
    pub chain: Vec<String>,
    payload: Option<Payload>,
}

impl SkillFailure {
    /// Returns the author's error as `E`, if it was sent along and has that form.
    ///
    /// ```
    /// # use aigis_plugin_api::SkillFailure;
    /// #[derive(serde::Deserialize)]
    /// struct TooLong { limit: usize }
    ///
    /// fn limit(failure: &SkillFailure) -> Option<usize> {
    ///     failure.downcast::<TooLong>().map(|error| error.limit)
    /// }
    /// ```
    pub fn downcast<E: DeserializeOwned>(&self) -> Option<E> {
        codec::from_slice(&self.payload.as_ref()?.0).ok()
    }

    /// Returns the author's error as a value without a type, if it was sent along.
    ///
    /// ```
    /// # use aigis_plugin_api::{SkillFailure, Value};
    /// fn show(failure: &SkillFailure) -> String {
    ///     failure.payload().map_or_else(String::new, |value| value.to_json())
    /// }
    /// ```
    pub fn payload(&self) -> Option<codec::Value> {
        self.downcast()
    }
}

impl fmt::Display for SkillFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} failed: {} ({})",
            self.skill, self.message, self.type_name
        )
    }
}

impl Error for SkillFailure {}

/// Why a call of a skill has no result.
///
/// `E` is the author's error type, as the `import!` block states it.
///
/// ```
/// use aigis_plugin_api::CallError;
///
/// fn explain(error: &CallError) -> &'static str {
///     match error {
///         CallError::NotFound { .. } => "nobody offers it",
///         CallError::Panicked { .. } => "it panicked",
///         _ => "something else",
///     }
/// }
///
/// /// Tells whether the skill has certainly not run, and may be called again in a while.
/// fn may_be_called_again(error: &CallError) -> bool {
///     matches!(error, CallError::Unavailable { .. } | CallError::Overloaded { .. })
/// }
///
/// /// Tells whether nobody knows if the skill has run.
/// fn is_in_doubt(error: &CallError) -> bool {
///     matches!(error, CallError::CoreGone { .. } | CallError::Disconnected { .. })
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CallError<E = Infallible> {
    /// The skill returned the author's error.
    Skill(E),
    /// The skill returned an error that is not an `E`, or was not sent along as a value.
    Failed(SkillFailure),
    /// The skill panicked.
    Panicked {
        /// The full name of the skill.
        skill: String,
        /// The panic's message.
        message: String,
        /// File, line and column where it started.
        location: Option<String>,
    },
    /// No plugin offers a skill of this name.
    NotFound {
        /// The full name that was asked for.
        skill: String,
        /// The names most like it.
        nearest: Vec<String>,
    },
    /// The skill has another signature than the caller expects.
    Mismatch {
        /// The full name of the skill.
        skill: String,
        /// Both signatures and how they differ.
        message: String,
        /// One line a difference.
        differences: Vec<String>,
    },
    /// The arguments do not fit the parameters.
    Arguments {
        /// The full name of the skill.
        skill: String,
        /// Which argument, what was expected, what was found.
        message: String,
    },
    /// An argument or the result cannot be encoded or decoded.
    Unserializable {
        /// The full name of the skill.
        skill: String,
        /// Which value, and why.
        message: String,
    },
    /// The time was over before the result was there; the skill may still be running.
    TimedOut {
        /// The full name of the skill.
        skill: String,
        /// How long was waited.
        after: Duration,
    },
    /// The caller gave up.
    Cancelled {
        /// The full name of the skill.
        skill: String,
    },
    /// Waiting here would block a thread that must not block, such as the one that runs callbacks.
    WouldBlock {
        /// The full name of the skill.
        skill: String,
    },
    /// There is no host to ask on this thread.
    NotConnected {
        /// What was tried, and what to do.
        message: String,
    },
    /// The core is gone; whether the skill ran is unknown.
    CoreGone {
        /// The full name of the skill.
        skill: String,
        /// How the connection ended.
        message: String,
    },
    /// The process that serves the skill ended during the call; whether the skill ran is unknown.
    Disconnected {
        /// The full name of the skill.
        skill: String,
        /// Whose process it was, and how it ended.
        message: String,
    },
    /// The process that serves the skill is not running; the skill was not called, and can be when the
    /// process is back.
    Unavailable {
        /// The full name of the skill.
        skill: String,
        /// Whose process it is.
        message: String,
    },
    /// Too many calls wait or run already; the skill was not called, and can be later.
    Overloaded {
        /// The full name of the skill.
        skill: String,
        /// What has no room.
        message: String,
    },
    /// An argument or the result is larger than the limit.
    TooLarge {
        /// The full name of the skill.
        skill: String,
        /// How large it is, and how large it may be.
        message: String,
    },
    /// The version that makes the stream was replaced, and the stream has outlived its time after that;
    /// it can be asked for again.
    Superseded {
        /// The full name of the skill.
        skill: String,
        /// Whose version it was.
        message: String,
    },
    /// Any other failure: refused by the host, or a part of it failed.
    Other(Box<Failure>),
}

impl<E> CallError<E> {
    /// Makes the caller's view of `failure`; `author` reads the author's own error.
    pub(crate) fn new(failure: Failure, author: impl FnOnce(&SkillFailure) -> Option<E>) -> Self {
        let skill = failure.skill.clone();
        match failure.kind {
            FailureKind::Skill => {
                let failure = SkillFailure {
                    skill,
                    type_name: failure.type_name.unwrap_or_default(),
                    message: failure.message,
                    chain: failure.chain,
                    payload: failure.payload,
                };
                match author(&failure) {
                    Some(error) => Self::Skill(error),
                    None => Self::Failed(failure),
                }
            }
            FailureKind::Panicked => Self::Panicked {
                skill,
                message: failure.message,
                location: failure.location,
            },
            FailureKind::NotFound => Self::NotFound {
                skill,
                nearest: failure.details,
            },
            FailureKind::Mismatch => Self::Mismatch {
                skill,
                message: failure.message,
                differences: failure.details,
            },
            FailureKind::Arguments => Self::Arguments {
                skill,
                message: failure.message,
            },
            FailureKind::Unserializable => Self::Unserializable {
                skill,
                message: failure.message,
            },
            FailureKind::TimedOut => Self::TimedOut {
                skill,
                after: failure
                    .details
                    .first()
                    .and_then(|ms| ms.parse().ok())
                    .map_or(Duration::ZERO, Duration::from_millis),
            },
            FailureKind::Cancelled => Self::Cancelled { skill },
            FailureKind::WouldBlock => Self::WouldBlock { skill },
            FailureKind::NotConnected => Self::NotConnected {
                message: failure.message,
            },
            FailureKind::CoreGone => Self::CoreGone {
                skill,
                message: failure.message,
            },
            FailureKind::Disconnected => Self::Disconnected {
                skill,
                message: failure.message,
            },
            FailureKind::Unavailable => Self::Unavailable {
                skill,
                message: failure.message,
            },
            FailureKind::Overloaded => Self::Overloaded {
                skill,
                message: failure.message,
            },
            FailureKind::TooLarge => Self::TooLarge {
                skill,
                message: failure.message,
            },
            FailureKind::Superseded => Self::Superseded {
                skill,
                message: failure.message,
            },
            _ => Self::Other(Box::new(failure)),
        }
    }
}

impl CallError<SkillFailure> {
    /// Makes the view of a caller without types: every author's error is a [`SkillFailure`].
    pub(crate) fn dynamic(failure: Failure) -> Self {
        Self::new(failure, |author| Some(author.clone()))
    }
}

impl CallError<Infallible> {
    /// Makes the view of a caller that expects no author's error.
    pub(crate) fn untyped(failure: Failure) -> Self {
        Self::new(failure, |_| None)
    }
}

impl<E: DeserializeOwned> CallError<E> {
    /// Makes the view of a caller that expects the author's error `E`.
    pub(crate) fn typed(failure: Failure) -> Self {
        Self::new(failure, SkillFailure::downcast)
    }
}

impl CallError<Infallible> {
    /// Makes of what ended a stream the error of its call, for a caller without types.
    #[doc(hidden)]
    pub fn of_stream(self) -> CallError<SkillFailure> {
        match self {
            Self::Skill(never) => match never {},
            Self::Failed(failure) => CallError::Skill(failure),
            Self::Panicked {
                skill,
                message,
                location,
            } => CallError::Panicked {
                skill,
                message,
                location,
            },
            Self::NotFound { skill, nearest } => CallError::NotFound { skill, nearest },
            Self::Mismatch {
                skill,
                message,
                differences,
            } => CallError::Mismatch {
                skill,
                message,
                differences,
            },
            Self::Arguments { skill, message } => CallError::Arguments { skill, message },
            Self::Unserializable { skill, message } => CallError::Unserializable { skill, message },
            Self::TimedOut { skill, after } => CallError::TimedOut { skill, after },
            Self::Cancelled { skill } => CallError::Cancelled { skill },
            Self::WouldBlock { skill } => CallError::WouldBlock { skill },
            Self::NotConnected { message } => CallError::NotConnected { message },
            Self::CoreGone { skill, message } => CallError::CoreGone { skill, message },
            Self::Disconnected { skill, message } => CallError::Disconnected { skill, message },
            Self::Unavailable { skill, message } => CallError::Unavailable { skill, message },
            Self::Overloaded { skill, message } => CallError::Overloaded { skill, message },
            Self::TooLarge { skill, message } => CallError::TooLarge { skill, message },
            Self::Superseded { skill, message } => CallError::Superseded { skill, message },
            Self::Other(failure) => CallError::Other(failure),
        }
    }
}

/// Makes the view of a caller without types, for a host's own callers.
pub fn dynamic(failure: Failure) -> CallError<SkillFailure> {
    CallError::dynamic(failure)
}

/// Makes the failure of a call whose time was over after `after`.
pub fn timed_out(skill: &str, after: Duration) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!("{skill} has not answered within {after:?}"),
    )
    .of_skill(skill)
    .with_details(vec![after.as_millis().to_string()])
}

/// Makes the failure of a call that its caller has given up.
pub fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the call was cancelled")
}

/// Makes the failure of a call whose arguments or result have more than `limit` bytes.
pub fn too_large(skill: &str, what: &str, size: usize, limit: usize) -> Failure {
    Failure::new(
        FailureKind::TooLarge,
        format!(
            "the {what} of {skill}: {size} bytes, at most {limit} are allowed by the plugin that offers it; \
             send less at once, or raise `MAX_MESSAGE` in its manifest (`max_message` in its entry of the config)"
        ),
    )
    .of_skill(skill)
    .with_details(vec![limit.to_string(), size.to_string()])
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skill(error) => error.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
            Self::Panicked {
                skill,
                message,
                location,
            } => {
                write!(f, "{skill} panicked: {message}")?;
                match location {
                    Some(location) => write!(f, " (at {location})"),
                    None => Ok(()),
                }
            }
            Self::NotFound { skill, nearest } => {
                write!(f, "no plugin offers `{skill}`")?;
                match nearest.split_first() {
                    Some((first, rest)) => {
                        write!(f, "; did you mean `{first}`")?;
                        for name in rest {
                            write!(f, " or `{name}`")?;
                        }
                        f.write_str("?")
                    }
                    None => Ok(()),
                }
            }
            Self::Mismatch { message, .. } => f.write_str(message),
            Self::Arguments { skill, message } => {
                write!(f, "{skill} cannot be called so: {message}")
            }
            Self::Unserializable { skill, message } => {
                write!(f, "{skill}: a value cannot cross: {message}")
            }
            Self::TimedOut { skill, after } => {
                write!(f, "{skill} has not answered within {after:?}")
            }
            Self::Cancelled { skill } => write!(f, "the call of {skill} was cancelled"),
            Self::WouldBlock { skill } => write!(
                f,
                "waiting for {skill} here would block the thread that completes calls; \
                 use `start::` with `.then` or `.await`"
            ),
            Self::NotConnected { message }
            | Self::CoreGone { message, .. }
            | Self::Disconnected { message, .. }
            | Self::Unavailable { message, .. }
            | Self::Overloaded { message, .. }
            | Self::TooLarge { message, .. }
            | Self::Superseded { message, .. } => f.write_str(message),
            Self::Other(failure) => failure.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Skill(error) => error.source(),
            _ => None,
        }
    }
}

/// Turns an author's error into a [`Failure`], with as much as its type allows.
///
/// The macros call `(&&&&&AuthorError(&error)).failure()`; method resolution takes the first of
/// [`Payloaded`], [`Valued`], [`Chained`] and [`Shown`] that fits, and [`Unshown`] where
/// `crate::checks` has refused the type.
pub struct AuthorError<'a, E>(pub &'a E);

impl<E: fmt::Display> AuthorError<'_, E> {
    fn describe(&self, message: String, chain: Vec<String>) -> Failure {
        Failure {
            type_name: Some(std::any::type_name::<E>().to_owned()),
            chain,
            ..Failure::new(FailureKind::Skill, message)
        }
    }
}

fn chain_of(error: &dyn Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| (*cause).source())
        .map(ToString::to_string)
        .collect()
}

/// Errors with causes that can be sent along as a value.
pub trait Payloaded {
    /// Makes the failure.
    fn failure(&self) -> Failure;
}

impl<E: Error + Serialize> Payloaded for &&&&AuthorError<'_, E> {
    fn failure(&self) -> Failure {
        Failure {
            payload: codec::to_vec(self.0).ok().map(Payload),
            ..self.describe(self.0.to_string(), chain_of(self.0))
        }
    }
}

/// Values that can be shown, such as a text.
pub trait Valued {
    /// Makes the failure.
    fn failure(&self) -> Failure;
}

impl<E: fmt::Display + Serialize> Valued for &&&AuthorError<'_, E> {
    fn failure(&self) -> Failure {
        Failure {
            payload: codec::to_vec(self.0).ok().map(Payload),
            ..self.describe(self.0.to_string(), Vec::new())
        }
    }
}

/// Errors with causes.
pub trait Chained {
    /// Makes the failure.
    fn failure(&self) -> Failure;
}

impl<E: Error> Chained for &&AuthorError<'_, E> {
    fn failure(&self) -> Failure {
        self.describe(self.0.to_string(), chain_of(self.0))
    }
}

/// Everything else that can be shown: `anyhow::Error`, `Box<dyn Error>`.
pub trait Shown {
    /// Makes the failure.
    fn failure(&self) -> Failure;
}

impl<E: fmt::Display> Shown for &AuthorError<'_, E> {
    fn failure(&self) -> Failure {
        // `{:#}` is how error types without `Error` (anyhow's, eyre's) print their causes.
        self.describe(format!("{:#}", self.0), Vec::new())
    }
}

/// What has no message: such a crate is never built.
pub trait Unshown {
    /// Makes the failure.
    fn failure(&self) -> Failure;
}

impl<E> Unshown for AuthorError<'_, E> {
    fn failure(&self) -> Failure {
        crate::skill::refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Value;

    #[test]
    fn a_kind_that_came_later_is_an_internal_failure() {
        let sent = |kind: &str| {
            let failure = [("kind", kind), ("message", "no")]
                .map(|(key, value)| (Value::from(key), Value::from(value)));
            codec::to_vec(&Value::Map(failure.into())).expect("encodes")
        };
        assert_eq!(Failure::decode(&sent("refused")).kind, FailureKind::Refused);
        let later = Failure::decode(&sent("of_tomorrow"));
        assert_eq!(later.kind, FailureKind::Internal);
        assert_eq!(later.message, "no");
    }
}
