use super::super::literal::parse_options;
use super::super::raw::{Raw, RawFile, RawValue};
use super::super::source_text::SourceText;

fn parse(text: &str) -> RawFile {
    parse_options(&SourceText::new("AIGIS.config", text.to_owned()))
}

/// Shows a value in a form that is short to write.
fn shown(raw: &Raw) -> String {
    let all = |elements: &[Raw]| elements.iter().map(shown).collect::<Vec<_>>().join(" ");
    match &raw.value {
        RawValue::List(elements) => format!("[{}]", all(elements)),
        RawValue::Map(pairs) => {
            let pair = |(key, value): &(Raw, Raw)| format!("{}:{}", shown(key), shown(value));
            format!(
                "{{{}}}",
                pairs.iter().map(pair).collect::<Vec<_>>().join(" ")
            )
        }
        RawValue::Text(text) => format!("{text:?}"),
        RawValue::Integer(number) => number.to_string(),
        RawValue::Float(number) => format!("{number:?}"),
        other => format!("{other:?}"),
    }
}

fn check(value: &str, expected: &str) {
    let file = parse(&format!("A = {value}\n"));
    assert!(
        file.faults.errors.is_empty(),
        "{value}: {}",
        file.faults.errors[0]
    );
    assert_eq!(shown(&file.options[0].value), expected, "{value}");
}

/// Checks that one value is refused, with a message that contains `expected`.
fn check_refused(value: &str, expected: &str) {
    let file = parse(&format!("A = {value}\nB = 1\n"));
    let messages: Vec<_> = file.faults.errors.iter().map(|e| &e.message).collect();
    assert_eq!(messages.len(), 1, "{value}: {messages:?}");
    assert!(messages[0].contains(expected), "{value}: {}", messages[0]);
}

#[test]
fn numbers_and_constants() {
    for (value, expected) in [
        ("0", "0"),
        ("-12", "-12"),
        ("+ 1_000", "1000"),
        ("00", "0"),
        ("0x_fF", "255"),
        ("0o17", "15"),
        ("0B101", "5"),
        ("1.5", "1.5"),
        ("-.5", "-0.5"),
        ("5.", "5.0"),
        ("1e3", "1000.0"),
        ("1_0.2_5E-1", "1.025"),
        ("0.0", "0.0"),
        ("0e0", "0.0"),
        ("True", "Boolean(true)"),
        ("False", "Boolean(false)"),
        ("None", "None"),
        ("0x1e", "30"),
    ] {
        check(value, expected);
    }
    for value in [
        "1__0", "_", "0x", "0xg", "1.2.3", "1e", "1e+", "1j", "-", "0b2", "012", "1_", "5x",
    ] {
        let file = parse(&format!("A = {value}\n"));
        assert_eq!(file.faults.errors.len(), 1, "{value}");
    }
}

#[test]
fn strings() {
    for (value, expected) in [
        ("''", r#""""#),
        (r#"'it\'s'"#, r#""it's""#),
        (r#""a" 'b' """c""""#, r#""abc""#),
        ("'a' \\\n 'b'", r#""ab""#),
        ("('a'\n 'b' # comment\n)", r#""ab""#),
        (r"r'C:\new'", r#""C:\\new""#),
        (r"R'a\'b'", r#""a\\'b""#),
        (r"u'x'", r#""x""#),
        (r"'\x41\u00e9\101\0\t'", r#""AéA\0\t""#),
        (r"'\d'", r#""\\d""#),
        ("'''a\r\nb\rc'''", r#""a\nb\nc""#),
        ("'''a\\\n'b''c'''", r#""a'b''c""#),
        ("\"\"\"\"quoted\" text\"\"\"", r#""\"quoted\" text""#),
        ("'# no comment' # a comment", r##""# no comment""##),
        ("'日本'", r#""日本""#),
    ] {
        check(value, expected);
    }
    let file = parse(r"A = '\d'");
    assert_eq!(file.warnings.len(), 1);
    assert_eq!(file.warnings[0].column, Some(6));
}

#[test]
fn collections() {
    for (value, expected) in [
        ("[]", "[]"),
        ("()", "[]"),
        ("{}", "{}"),
        ("(1)", "1"),
        ("(1,)", "[1]"),
        ("1,", "[1]"),
        ("1, 'a'", "[1 \"a\"]"),
        ("[1, 2,\n # comment\n 3,]", "[1 2 3]"),
        ("[[1], (2, 3), {}]", "[[1] [2 3] {}]"),
        (
            "{\n 'b': 1,\r\n 'a': [2], 3: None,\n}",
            "{\"b\":1 \"a\":[2] 3:None}",
        ),
    ] {
        check(value, expected);
    }
    for (value, expected) in [
        ("[1 2]", "expected `,` or `]`, found `2`"),
        ("[,]", "expected a value, found `,`"),
        ("(1, 2]", "expected `,` or `)`, found `]`"),
        ("{'a' 1}", "expected `:`, found `1`"),
        ("{1}", "a set is not accepted"),
        ("{'a': 1, 'b'}", "expected `:`, found `}`"),
        ("{**a}", "expected a value, found `*`"),
        ("[x for x in y]", "found a name: `x`"),
        ("", "expected a value, found the end of the line"),
        ("# nothing", "expected a value, found `#`"),
        ("os.getenv('X')", "found a name: `os`"),
        ("eval('1')", "found a call: `eval`"),
        ("lambda: 1", "found a name: `lambda`"),
        ("1 + 1", "expected the end of the line, found `+`"),
        ("'a'.upper()", "expected the end of the line, found `.`"),
        (
            "'a' if x else 'b'",
            "expected the end of the line, found `if`",
        ),
        ("1; C = 2", "expected the end of the line, found `;`"),
        ("B = 1", "found a name: `B`"),
        ("not True", "found a name: `not`"),
    ] {
        check_refused(value, expected);
    }
}

#[test]
fn statements() {
    let file = parse("'''doc'''\n\n# comment\nA = 1\n\"\"\"more\"\"\" # text\nB=2");
    let names: Vec<_> = file.options.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["A", "B"]);
    assert_eq!(file.options[1].name_span.len(), 1);
    for (text, expected) in [
        ("import os", "a statement with `import`"),
        (
            "def f():\n    A = 1\n    return A",
            "a statement with `def`",
        ),
        ("A: int = 1", "expected `=` after `A`, found `:`"),
        ("A += 1", "expected `=` after `A`, found `+`"),
        ("A == 1", "expected `=` after `A`, found `=`"),
        ("A.b = 1", "expected `=` after `A`, found `.`"),
        ("A, B = 1, 2", "expected `=` after `A`, found `,`"),
        ("print('x')", "a statement with `print`"),
        ("  A = 1", "unexpected indentation"),
        ("@decorated", "expected an assignment, found `@`"),
        ("[SECRETS]", "expected an assignment, found `[`"),
        ("1", "expected an assignment, found `1`"),
    ] {
        let file = parse(&format!("{text}\nZ = 1\n"));
        assert_eq!(file.faults.errors.len(), 1, "{text}");
        let message = &file.faults.errors[0].message;
        assert!(message.contains(expected), "{text}: {message}");
        let last = file.options.last().map(|option| option.name.as_str());
        assert_eq!(last, Some("Z"), "reading goes on after {text}");
    }
}

#[test]
fn nesting_is_bounded() {
    check(
        &format!("{}1{}", "[".repeat(64), "]".repeat(64)),
        &format!("{}1{}", "[".repeat(64), "]".repeat(64)),
    );
    for open in ["[", "(", "{1:", "[{1:("] {
        check_refused(&open.repeat(100_000), "nested too deeply");
    }
}

#[test]
fn an_unclosed_bracket_does_not_swallow_the_next_option() {
    let file = parse("A = [\n  1,\nB = 2\n");
    assert_eq!(file.faults.errors.len(), 1);
    assert_eq!(file.faults.errors[0].message, "`[` is never closed");
    assert_eq!(file.faults.errors[0].line, Some(1));
    assert_eq!(file.options.len(), 1);
    assert_eq!(file.options[0].name, "B");
}
