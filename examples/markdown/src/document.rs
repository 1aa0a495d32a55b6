//! What the Markdown library is asked for.

use std::collections::HashSet;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use crate::{Heading, Settings};

/// The schemes that a link may have in a text of somebody who is not trusted.
const SCHEMES: [&str; 3] = ["http", "https", "mailto"];

/// Which extensions are understood, and what is let through.
pub(crate) struct Dialect {
    options: Options,
    raw_html: bool,
}

impl Dialect {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut options = Options::empty();
        options.set(Options::ENABLE_TABLES, settings.tables);
        options.set(Options::ENABLE_FOOTNOTES, settings.footnotes);
        options.set(Options::ENABLE_STRIKETHROUGH, settings.strikethrough);
        options.set(Options::ENABLE_TASKLISTS, settings.task_lists);
        Self {
            options,
            raw_html: settings.raw_html,
        }
    }

    pub(crate) fn html(&self, text: &str) -> String {
        let mut events: Vec<Event<'_>> = Parser::new_ext(text, self.options).collect();
        let anchors: Vec<String> = headings_of(&events).map(|found| found.anchor).collect();
        let mut anchors = anchors.into_iter();
        for event in &mut events {
            if let Event::Start(Tag::Heading { id, .. }) = event {
                *id = anchors.next().map(CowStr::from);
            }
            if !self.raw_html {
                disarm(event);
            }
        }
        let mut out = String::with_capacity(text.len() * 3 / 2);
        html::push_html(&mut out, events.into_iter());
        out
    }

    pub(crate) fn headings(&self, text: &str) -> Vec<Heading> {
        let events: Vec<Event<'_>> = Parser::new_ext(text, self.options).collect();
        headings_of(&events).collect()
    }

    pub(crate) fn count_words(&self, text: &str) -> usize {
        let mut visible = String::with_capacity(text.len());
        for event in Parser::new_ext(text, self.options) {
            match event {
                Event::Text(part) | Event::Code(part) => visible.push_str(&part),
                Event::SoftBreak | Event::HardBreak => visible.push('\n'),
                // Markup inside a word does not divide it, the end of a block does.
                Event::End(end) if !is_inline(end) => visible.push('\n'),
                _ => {}
            }
        }
        visible
            .split_whitespace()
            .filter(|word| word.contains(char::is_alphanumeric))
            .count()
    }
}

fn is_inline(end: TagEnd) -> bool {
    matches!(
        end,
        TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image
    )
}

/// Makes HTML text, and takes the target from links that could run something.
fn disarm(event: &mut Event<'_>) {
    match event {
        Event::Html(markup) | Event::InlineHtml(markup) => {
            *event = Event::Text(std::mem::replace(markup, CowStr::Borrowed("")));
        }
        Event::Start(tag @ Tag::HtmlBlock) => *tag = Tag::Paragraph,
        Event::End(end @ TagEnd::HtmlBlock) => *end = TagEnd::Paragraph,
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. })
            if !is_harmless(dest_url) =>
        {
            *dest_url = CowStr::Borrowed("");
        }
        _ => {}
    }
}

fn is_harmless(address: &str) -> bool {
    // Browsers skip these before they look at the scheme.
    let mut seen = address
        .chars()
        .filter(|c| !c.is_control() && !c.is_whitespace());
    let mut scheme = String::new();
    loop {
        match seen.next() {
            Some(':') => {
                return SCHEMES
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(&scheme));
            }
            // Relative: a colon behind these belongs to no scheme.
            None | Some('/' | '?' | '#') => return true,
            Some(other) => scheme.push(other),
        }
    }
}

fn headings_of<'a>(events: &'a [Event<'_>]) -> impl Iterator<Item = Heading> + 'a {
    let mut taken = HashSet::new();
    events.iter().enumerate().filter_map(move |(start, event)| {
        let Event::Start(Tag::Heading { level, .. }) = event else {
            return None;
        };
        let mut text = String::new();
        for event in &events[start + 1..] {
            match event {
                Event::End(TagEnd::Heading(_)) => break,
                Event::Text(part) | Event::Code(part) => text.push_str(part),
                Event::SoftBreak | Event::HardBreak => text.push(' '),
                _ => {}
            }
        }
        let anchor = unused(slug(&text), &mut taken);
        Some(Heading {
            level: *level as u8,
            text,
            anchor,
        })
    })
}

/// Makes an id of a heading's text: letters and digits in lower case, anything else one hyphen.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() {
            slug.extend(c.to_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "section".to_owned()
    } else {
        slug.to_owned()
    }
}

fn unused(slug: String, taken: &mut HashSet<String>) -> String {
    let mut anchor = slug.clone();
    let mut number = 1_u32;
    while !taken.insert(anchor.clone()) {
        anchor = format!("{slug}-{number}");
        number += 1;
    }
    anchor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(change: impl FnOnce(&mut Settings)) -> Dialect {
        let mut settings = Settings::default();
        change(&mut settings);
        Dialect::new(&settings)
    }

    #[test]
    fn headings_and_their_ids_agree() {
        let dialect = dialect(|_| {});
        let text = "# One *more* time\n\n## Größe\n\nSetext `code`\n---\n\n## größe!\n\n# ?";
        let headings = dialect.headings(text);
        let short: Vec<_> = headings
            .iter()
            .map(|h| (h.level, &*h.text, &*h.anchor))
            .collect();
        assert_eq!(
            short,
            [
                (1, "One more time", "one-more-time"),
                (2, "Größe", "größe"),
                (2, "Setext code", "setext-code"),
                (2, "größe!", "größe-1"),
                (1, "?", "section"),
            ]
        );
        let html = dialect.html(text);
        for heading in headings {
            let start = format!("<h{} id=\"{}\">", heading.level, heading.anchor);
            assert!(html.contains(&start), "{start} in {html}");
        }
    }

    #[test]
    fn a_numbered_anchor_may_be_taken_already() {
        let anchors: Vec<_> = dialect(|_| {})
            .headings("# a\n# a 1\n# a")
            .into_iter()
            .map(|heading| heading.anchor)
            .collect();
        assert_eq!(anchors, ["a", "a-1", "a-2"]);
    }

    #[test]
    fn settings_choose_the_extensions() {
        let table = "| a |\n|---|\n| b |";
        assert!(dialect(|_| {}).html(table).starts_with("<table>"));
        assert!(dialect(|s| s.tables = false).html(table).starts_with("<p>"));
        let footnote = "a[^1]\n\n[^1]: b";
        assert!(
            dialect(|_| {})
                .html(footnote)
                .contains("footnote-definition")
        );
        assert!(
            !dialect(|s| s.footnotes = false)
                .html(footnote)
                .contains("footnote")
        );
        assert!(dialect(|_| {}).html("~~a~~").contains("<del>"));
        assert!(
            !dialect(|s| s.strikethrough = false)
                .html("~~a~~")
                .contains("<del>")
        );
        assert!(dialect(|_| {}).html("- [x] a").contains("checkbox"));
        assert!(
            !dialect(|s| s.task_lists = false)
                .html("- [x] a")
                .contains("checkbox")
        );
    }

    #[test]
    fn html_is_text_unless_it_is_trusted() {
        let text = "a <b onclick=\"x()\">b</b>\n\n<script>y()</script>\n";
        let html = dialect(|_| {}).html(text);
        assert!(!html.contains("<b") && !html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;y()&lt;/script&gt;"), "{html}");
        assert!(
            dialect(|s| s.raw_html = true)
                .html(text)
                .contains("<script>y()</script>")
        );
    }

    #[test]
    fn links_that_run_something_lose_their_target() {
        for address in [
            "javascript:x()",
            "JavaScript:x()",
            "java&#10;script:x()",
            "data:text/html,x",
        ] {
            let text = format!("[a](<{address}>) ![b](<{address}>)");
            let html = dialect(|_| {}).html(&text);
            assert!(html.contains("<a href=\"\">"), "{address}: {html}");
            assert!(html.contains("<img src=\"\""), "{address}: {html}");
        }
        for address in [
            "https://a.example/b:c",
            "mailto:a@b.example",
            "b/c:d",
            "#e:f",
            "?g=h:i",
        ] {
            let html = dialect(|_| {}).html(&format!("[a]({address})"));
            assert!(
                html.contains(&format!("href=\"{address}\"")),
                "{address}: {html}"
            );
        }
    }

    #[test]
    fn words_are_what_a_reader_sees() {
        let text =
            "# Two words\n\nbro**ken** [link](https://a.example) <i>\n- one\n- two - `three`";
        assert_eq!(dialect(|_| {}).count_words(text), 7);
        assert_eq!(dialect(|_| {}).count_words(""), 0);
    }
}
