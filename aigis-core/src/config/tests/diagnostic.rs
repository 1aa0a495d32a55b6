use std::path::{Path, PathBuf};

use super::super::source_text::SourceText;
use super::super::{Diagnostic, Diagnostics};

/// Shows a report about the part of `text` that stands between `«` and `»`.
fn report(text: &str) -> String {
    let start = text.find('«').unwrap();
    let end = text.find('»').unwrap() - '«'.len_utf8();
    let source = SourceText::new("f", text.replace(['«', '»'], ""));
    source.error(start..end, "wrong").to_string()
}

fn check(text: &str, place: &str, line: &str, carets: &str) {
    let lines: Vec<_> = report(text).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "error: wrong");
    assert_eq!(lines[1].trim_start(), format!("--> f:{place}"), "{text:?}");
    let after_bar = |line: &str| line.split_once('|').unwrap().1.to_owned();
    assert_eq!(
        after_bar(&lines[3]).trim_start_matches(' '),
        line,
        "{text:?}"
    );
    let caret_line = after_bar(&lines[4]);
    assert_eq!(caret_line.strip_prefix(' ').unwrap(), carets, "{text:?}");
}

#[test]
fn carets_stand_below_the_span() {
    check("restart = «-2»\n", "1:11", "restart = -2", "          ^^");
    check("a\r\nb = «x»\r\nc", "2:5", "b = x", "    ^");
    check("a = «»", "1:5", "a =", "    ^");
    check("a = 1«\n»b", "1:6", "a = 1", "     ^");
    check("a = 1«\r\n»b", "1:6", "a = 1", "     ^");
    check("a\n«»", "2:1", "", "^");
    check("«»", "1:1", "", "^");
    check("x = «\"\"\"a\nb\"\"\"»", "1:5", "x = \"\"\"a", "    ^^^^");
    check("\tk\t= «1»", "1:6", "k    = 1", "           ^");
    check("é = «ü»", "1:5", "é = ü", "    ^");
    check("漢字 = «漢»", "1:6", "漢字 = 漢", "       ^^");
    check("e\u{301} = «1»", "1:6", "e\u{301} = 1", "    ^");
    check("\u{feff}a = «1»", "1:5", "a = 1", "    ^");
}

#[test]
fn nothing_in_a_file_reaches_the_terminal_as_a_command() {
    let shown = report("a = \"\u{1b}[31m\u{202e}\0\u{7f}\" «b»");
    assert!(
        shown.chars().all(|c| c == '\n' || !c.is_control()),
        "{shown:?}"
    );
    assert!(!shown.contains('\u{202e}'));
    let shown = Diagnostic::error("a\u{1b}]0;x", "wrong").to_string();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn long_lines_are_cut_around_the_carets() {
    for before in [0, 49, 50, 51, 119, 120, 50_000] {
        for after in [0, 60, 119, 120, 50_000] {
            for fill in ["x", "漢", "\t", "\u{1b}"] {
                let shown = report(&format!("{}«!»{}", fill.repeat(before), fill.repeat(after)));
                let lines: Vec<_> = shown.lines().collect();
                let width: usize = lines[3]
                    .chars()
                    .map(|c| unicode_width::UnicodeWidthChar::width(c).unwrap_or(0))
                    .sum();
                assert!(width <= 4 + 122, "{before} {after} {fill:?}: {width}");
                // The caret is in the column of the mark.
                let mark = lines[3].split_once('!').unwrap().0;
                let column: usize = mark
                    .chars()
                    .map(|c| unicode_width::UnicodeWidthChar::width(c).unwrap_or(0))
                    .sum();
                assert_eq!(
                    lines[4].find('^'),
                    Some(column),
                    "{before} {after} {fill:?}"
                );
            }
        }
    }
}

#[test]
fn a_report_of_the_house_style() {
    let source = SourceText::new("aigis.toml", "\n\n\n\n\n\nrestart = -2\n".to_owned());
    let first = source
        .error(16..18, "`restart` must not be negative")
        .with_hint("leave `restart` out to never restart");
    let second = Diagnostic::error("other.toml", "`source` is missing").into_warning();
    let mut list = Diagnostics::from(first);
    list.push(second);
    let expected = "\
error: `restart` must not be negative
 --> aigis.toml:7:11
  |
7 | restart = -2
  |           ^^
hint: leave `restart` out to never restart

warning: `source` is missing
 --> other.toml";
    assert_eq!(list.to_string(), expected);
}

#[test]
fn json_has_every_field() {
    let source = SourceText::new("f", "a = ü".to_owned());
    let list = Diagnostics::from(source.error(4..6, "wrong").with_hint("do\u{20}this"));
    let expected = serde_json::json!([{
        "severity": "error", "message": "wrong", "file": "f",
        "span": { "start": 4, "end": 6 }, "line": 1, "column": 5, "hint": "do this",
    }]);
    assert_eq!(serde_json::to_value(&list).unwrap(), expected);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf_8_can_be_shown_and_serialised() {
    use std::os::unix::ffi::OsStringExt;
    let path = PathBuf::from(std::ffi::OsString::from_vec(b"a\xff".to_vec()));
    let diagnostic = Diagnostic::error(path, "wrong");
    assert!(diagnostic.to_string().contains("a\u{fffd}"));
    assert_eq!(
        serde_json::to_value(&diagnostic).unwrap()["file"],
        "a\u{fffd}"
    );
}

#[test]
fn a_flood_is_counted_but_not_kept() {
    let mut list = Diagnostics::new();
    for _ in 0..Diagnostics::LIMIT + 7 {
        list.push(Diagnostic::error(Path::new("f"), "wrong"));
    }
    assert_eq!((list.len(), list.omitted()), (Diagnostics::LIMIT, 7));
    assert!(
        list.to_string()
            .ends_with("error: 7 more mistakes are not shown")
    );
}
