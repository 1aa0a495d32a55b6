//! The page itself.

use std::fmt::Write;

use crate::Heading;

/// Fewer headings than this make no table of contents.
const FEWEST_HEADINGS: usize = 2;

/// Makes a page; `greeting` and `headings` are plain text, `body` is HTML.
pub(crate) fn compose(greeting: &str, headings: &[Heading], body: &str) -> String {
    let title = escape(greeting);
    let contents = contents(headings);
    format!(
        "<!doctype html>\n\
         <html lang=\"en\">\n\
         <head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n\
         <header>{title}</header>\n\
         {contents}<main>\n{body}</main>\n\
         </body>\n\
         </html>\n"
    )
}

fn contents(headings: &[Heading]) -> String {
    if headings.len() < FEWEST_HEADINGS {
        return String::new();
    }
    let mut out = String::from("<nav><ul>\n");
    for Heading {
        level,
        text,
        anchor,
    } in headings
    {
        let (text, anchor) = (escape(text), escape(anchor));
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<li class=\"level-{level}\"><a href=\"#{anchor}\">{text}</a></li>"
        );
    }
    out.push_str("</ul></nav>\n");
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading(text: &str, anchor: &str) -> Heading {
        Heading {
            level: 2,
            text: text.to_owned(),
            anchor: anchor.to_owned(),
        }
    }

    #[test]
    fn text_is_escaped_and_html_is_not() {
        let page = compose("Hello, <b>!", &[], "<p>text</p>\n");
        assert!(page.contains("<title>Hello, &lt;b&gt;!</title>"), "{page}");
        assert!(page.contains("<main>\n<p>text</p>\n</main>"), "{page}");
        assert!(!page.contains("<nav>"), "{page}");
    }

    #[test]
    fn several_headings_make_a_table_of_contents() {
        let page = compose("Hello!", &[heading("A & b", "a-b"), heading("C", "c")], "");
        let line = "<li class=\"level-2\"><a href=\"#a-b\">A &amp; b</a></li>";
        assert!(page.contains(line), "{page}");
        assert!(!compose("Hello!", &[heading("A", "a")], "").contains("<nav>"));
    }
}
