//! Renders Markdown: a core plugin that puts a library behind skills, with a cache as its state.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod cache;
mod document;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{Context, Logger, SettingsError, skill_type, skills};

use cache::Cache;
use document::Dialect;

/// The state of the plugin: one for each loaded version, shared by all callers.
pub struct Markdown {
    dialect: Dialect,
    cache: Mutex<Cache>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[skills]
impl Markdown {
    /// The longest text that the skills take, in bytes.
    pub const MAX_TEXT_LENGTH: usize = 1024 * 1024;

    /// Reads the settings; the core calls it when it loads this version.
    pub fn new(ctx: &Context) -> Result<Self, SettingsError> {
        Ok(Self::with(ctx.settings()?))
    }

    /// Renders `text` as an HTML fragment. Headings get ids, which `headings` returns as anchors.
    ///
    /// HTML in the text is shown as text, and links to anything but `http`, `https`, `mailto` and relative addresses
    /// lose their target, unless the settings say `raw_html = true`.
    #[skill(idempotent)]
    pub fn render(&self, text: &str) -> Result<String, MarkdownError> {
        check_length(text)?;
        if let Some(html) = self.cache().get(text) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(html.to_string());
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        // The cache is not locked meanwhile: other texts are rendered at the same time.
        let html = self.dialect.html(text);
        self.cache().insert(text, Arc::from(html.as_str()));
        Ok(html)
    }

    /// Returns the headings of `text` in their order.
    #[skill(idempotent)]
    pub fn headings(&self, text: &str) -> Result<Vec<Heading>, MarkdownError> {
        check_length(text)?;
        Ok(self.dialect.headings(text))
    }

    /// Counts the words that a reader of `text` sees: no markup, no addresses of links, no HTML.
    #[skill(idempotent)]
    pub fn count_words(&self, text: &str) -> Result<usize, MarkdownError> {
        check_length(text)?;
        Ok(self.dialect.count_words(text))
    }

    /// Tells how `render` has been doing since this version was loaded.
    pub fn statistics(&self) -> Statistics {
        let cache = self.cache();
        Statistics {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            cached_texts: cache.len(),
            cached_bytes: cache.bytes(),
        }
    }

    /// Says what has been done; runs once, when this version is retired.
    pub fn cleanup(self, logger: &Logger) {
        let Statistics { hits, misses, .. } = self.statistics();
        logger.info(format_args!(
            "rendered {misses} texts, {hits} more came from the cache"
        ));
    }
}

impl Markdown {
    fn with(settings: Settings) -> Self {
        Self {
            dialect: Dialect::new(&settings),
            cache: Mutex::new(Cache::new(settings.cache_bytes)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing in the cache panics half-way, so it is whole even if a holder was ended.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_length(text: &str) -> Result<(), MarkdownError> {
    let (limit, found) = (Markdown::MAX_TEXT_LENGTH, text.len());
    if found > limit {
        return Err(MarkdownError::TooLong { limit, found });
    }
    Ok(())
}

/// What the plugin's entry in the config may say under `settings`.
#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde", default, deny_unknown_fields)]
struct Settings {
    tables: bool,
    footnotes: bool,
    strikethrough: bool,
    task_lists: bool,
    /// Lets HTML and every kind of link through: only for texts of people who are trusted.
    raw_html: bool,
    /// How much the cache holds, texts and results together; 0 for no cache.
    cache_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tables: true,
            footnotes: true,
            strikethrough: true,
            task_lists: true,
            raw_html: false,
            cache_bytes: 4 * 1024 * 1024,
        }
    }
}

/// A heading of a text.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// 1 for the highest, 6 for the lowest.
    pub level: u8,
    /// Its text without markup.
    pub text: String,
    /// The id that it has in what `render` returns.
    pub anchor: String,
}

/// How `render` has been doing.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Results that came from the cache.
    pub hits: u64,
    /// Results that had to be made.
    pub misses: u64,
    /// Texts in the cache.
    pub cached_texts: usize,
    /// The bytes that they and their results take.
    pub cached_bytes: usize,
}

/// Why a text is not taken; callers get it back as this type.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkdownError {
    /// The text has more bytes than `MAX_TEXT_LENGTH`.
    TooLong {
        /// The most bytes that are allowed.
        limit: usize,
        /// The bytes of the text.
        found: usize,
    },
}

impl fmt::Display for MarkdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::TooLong { limit, found } = self;
        write!(f, "the text has {found} bytes, at most {limit} are allowed")
    }
}

impl std::error::Error for MarkdownError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_time_comes_from_the_cache() {
        let markdown = Markdown::with(Settings::default());
        let first = markdown.render("*a*").expect("it is short");
        assert_eq!(first, "<p><em>a</em></p>\n");
        assert_eq!(markdown.render("*a*"), Ok(first.clone()));
        assert_eq!(
            markdown.statistics(),
            Statistics {
                hits: 1,
                misses: 1,
                cached_texts: 1,
                cached_bytes: "*a*".len() + first.len(),
            }
        );
    }

    #[test]
    fn long_texts_are_refused_by_every_skill() {
        let markdown = Markdown::with(Settings::default());
        let (limit, found) = (Markdown::MAX_TEXT_LENGTH, Markdown::MAX_TEXT_LENGTH + 1);
        let text = "a".repeat(found);
        let error = MarkdownError::TooLong { limit, found };
        assert_eq!(markdown.render(&text), Err(error.clone()));
        assert_eq!(markdown.headings(&text), Err(error.clone()));
        assert_eq!(markdown.count_words(&text), Err(error));
        assert_eq!(markdown.statistics().misses, 0);
    }
}
