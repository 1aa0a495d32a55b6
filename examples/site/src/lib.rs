//! Makes pages out of what two other plugins can do.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod page;

use std::fmt;
use std::time::Duration;

use aigis_plugin_api::{CallError, import, skill_type, skills};

// What is expected, not whose it is: any plugin that offers such skills will do. They are looked up at the first call,
// so the plugins behind them may be loaded later than this one, and replaced while it runs.
import! {
    mod greeter {
        fn greet(name: &str) -> Result<String, GreetError>;
    }
    mod markdown {
        fn render(text: &str) -> Result<String, MarkdownError>;
        fn headings(text: &str) -> Result<Vec<Heading>, MarkdownError>;
    }
}

/// How long a text may take to render.
const RENDERING: Duration = Duration::from_secs(10);

/// What others can call.
#[skills]
pub mod site {
    use super::*;

    /// Makes an HTML page for `name` that shows the Markdown `text` under a greeting.
    pub fn page(name: &str, text: &str) -> Result<String, PageError> {
        // Started, not waited for: it runs while this function goes on.
        let mut rendering = markdown::start::render(text);
        // These two wait for their results, like functions of this crate.
        let greeting = greeter::greet(name).map_err(|error| failed(error, PageError::Greeting))?;
        let headings =
            markdown::headings(text).map_err(|error| failed(error, PageError::Markdown))?;
        let body = rendering
            .wait(RENDERING)
            .map_err(|error| failed(error, PageError::Markdown))?;
        Ok(page::compose(&greeting, &headings, &body))
    }
}

fn failed<E: fmt::Display>(error: CallError<E>, of_author: fn(E) -> PageError) -> PageError {
    match error {
        CallError::Skill(error) => of_author(error),
        other => PageError::Unavailable {
            message: other.to_string(),
        },
    }
}

/// Why there is no page; callers get it back as this type.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageError {
    /// Nobody of this name is greeted.
    Greeting(GreetError),
    /// The text is not rendered.
    Markdown(MarkdownError),
    /// A skill that is needed cannot be called, or does not answer.
    Unavailable {
        /// Which one, and why.
        message: String,
    },
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting(error) => error.fmt(f),
            Self::Markdown(error) => error.fmt(f),
            Self::Unavailable { message } => write!(f, "a page cannot be made now: {message}"),
        }
    }
}

impl std::error::Error for PageError {}

/// The error of `greeter.greet`, as far as it is known here.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the plugin that makes it describes it")]
pub enum GreetError {
    Empty,
    TooLong { limit: usize, found: usize },
    Settings { message: String },
}

impl fmt::Display for GreetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a page needs a name"),
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

/// The error of the `markdown` skills, as far as it is known here.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the plugin that makes it describes it")]
pub enum MarkdownError {
    TooLong { limit: usize, found: usize },
}

impl fmt::Display for MarkdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::TooLong { limit, found } = self;
        write!(f, "the text has {found} bytes, at most {limit} are allowed")
    }
}

/// What is used of a heading.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the plugin that makes it describes it")]
pub struct Heading {
    pub level: u8,
    pub text: String,
    pub anchor: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_other_plugins_there_is_an_error_not_a_page() {
        // No core runs around a test, so nobody answers.
        let error = site::page("zaltu", "text").expect_err("nobody greets");
        assert!(matches!(&error, PageError::Unavailable { .. }), "{error}");
        assert!(
            error.to_string().starts_with("a page cannot be made now: "),
            "{error}"
        );
    }

    #[test]
    fn the_authors_error_is_kept() {
        let error = CallError::Skill(GreetError::Empty);
        assert_eq!(
            failed(error, PageError::Greeting),
            PageError::Greeting(GreetError::Empty)
        );
    }
}
