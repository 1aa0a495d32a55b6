//! Lines of the REPL.

use aigis_plugin_api::Value;

use super::super::arguments::{Argument, Given};
use super::super::repl_line::{Line, parse};

fn call(name: &str, arguments: Vec<Argument>) -> Line {
    Line::Call {
        name: name.to_owned(),
        arguments,
    }
}

fn text(text: &str) -> Argument {
    Argument::Positional(Given::Text(text.to_owned()))
}

fn json(json: &str) -> Given {
    Given::Json(Value::from_json(json).expect("JSON"))
}

fn value(text: &str) -> Argument {
    Argument::Positional(json(text))
}

fn named(name: &str, text: &str) -> Argument {
    Argument::Named {
        name: name.to_owned(),
        given: json(text),
    }
}

fn either(whole: &str, name: &str, given: Given) -> Argument {
    Argument::Either {
        whole: whole.to_owned(),
        name: name.to_owned(),
        given,
    }
}

#[test]
fn commands_of_the_repl() {
    let skills = |prefix: &str| Line::Skills {
        prefix: prefix.to_owned(),
    };
    let cases = [
        ("", Line::Empty),
        ("  \t\r\n", Line::Empty),
        ("# a remark (with) more", Line::Empty),
        ("quit", Line::Quit),
        (" exit \n", Line::Quit),
        ("help", Line::Help),
        ("?", Line::Help),
        ("status\r\n", Line::Status),
        ("skills", skills("")),
        ("skills greeter.", skills("greeter.")),
        (
            "reload greeter",
            Line::Reload {
                name: "greeter".into(),
            },
        ),
        // With parentheses it is a call, whatever it is called.
        ("status()", call("status", vec![])),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line), Ok(expected), "{line:?}");
    }
}

#[test]
fn calls_like_commands() {
    let given = |text: &str| Given::Text(text.to_owned());
    let cases = [
        ("counter.next", call("counter.next", vec![])),
        (
            "greeter.greet zaltu",
            call("greeter.greet", vec![text("zaltu")]),
        ),
        ("  f  a   b\n", call("f", vec![text("a"), text("b")])),
        ("f \"zal tu\"", call("f", vec![value("\"zal tu\"")])),
        (
            "f \"a\\\"\\n\\u00e4\"",
            call("f", vec![value("\"a\\\"\\n\\u00e4\"")]),
        ),
        ("f 'zal \"tu'", call("f", vec![text("zal \"tu")])),
        ("f ''", call("f", vec![text("")])),
        (
            "f [1, 2] {\"a\": [\"]\"]}",
            call("f", vec![text("[1, 2]"), text("{\"a\": [\"]\"]}")]),
        ),
        ("f -1 1e3", call("f", vec![text("-1"), text("1e3")])),
        ("f it's", call("f", vec![text("it's")])),
        ("f (1)", call("f", vec![text("(1)")])),
        ("f n=3", call("f", vec![either("n=3", "n", given("3"))])),
        (
            "f n=\"a b\"",
            call("f", vec![either("n=\"a b\"", "n", json("\"a b\""))]),
        ),
        (
            "f n=[1, 2] b",
            call(
                "f",
                vec![either("n=[1, 2]", "n", given("[1, 2]")), text("b")],
            ),
        ),
        ("f n=", call("f", vec![either("n=", "n", given(""))])),
        ("f a==b", call("f", vec![text("a==b")])),
        ("f 1=2", call("f", vec![text("1=2")])),
        (
            "f größe=ü",
            call("f", vec![either("größe=ü", "größe", given("ü"))]),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line), Ok(expected), "{line:?}");
    }
}

#[test]
fn calls_like_source() {
    let cases = [
        ("f()", call("f", vec![])),
        ("f( )", call("f", vec![])),
        ("a.b.c(1);", call("a.b.c", vec![value("1")])),
        (
            "f(\"zaltu\", 3)",
            call("f", vec![value("\"zaltu\""), value("3")]),
        ),
        (
            "f(\"a, b) c\",[1,[2,\")\"]], {\"k\":\"}\"})",
            call(
                "f",
                vec![
                    value("\"a, b) c\""),
                    value("[1,[2,\")\"]]"),
                    value("{\"k\":\"}\"}"),
                ],
            ),
        ),
        ("f(1,)", call("f", vec![value("1")])),
        (
            "f(null, true, -1.5e3)",
            call("f", vec![value("null"), value("true"), value("-1.5e3")]),
        ),
        ("f(n=3)", call("f", vec![named("n", "3")])),
        (
            "f(1, n = \"x=y\")",
            call("f", vec![value("1"), named("n", "\"x=y\"")]),
        ),
        ("f(\"n=3\")", call("f", vec![value("\"n=3\"")])),
        (
            "f({\"$bytes\": \"AAEC\"})",
            call("f", vec![value("{\"$bytes\": \"AAEC\"}")]),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line), Ok(expected), "{line:?}");
    }
}

#[test]
fn mistakes_name_the_column() {
    let cases = [
        ("quit now", "expected `quit`"),
        ("status please", "expected `status`"),
        ("skills a b", "expected `skills [PREFIX]`"),
        ("reload", "expected `reload NAME`"),
        ("reload a b", "expected `reload NAME`"),
        ("(1)", "column 1: expected the name of a skill, found `(`"),
        (
            "f(",
            "column 3: expected an argument, found the end of the line",
        ),
        (
            "f(1",
            "column 4: expected `,` or `)`, found the end of the line",
        ),
        ("f(1,,2)", "column 5: expected an argument, found `,`"),
        ("f(n=)", "column 5: expected an argument, found `)`"),
        (
            "f(1) 2",
            "column 6: expected the end of the line, found `2`",
        ),
        (
            "f(zaltu)",
            "argument 1, at column 3, is given as JSON: expected a JSON value, found `z`",
        ),
        (
            "f(1, zaltu)",
            "argument 2, at column 6, is given as JSON: expected a JSON value, found `z`",
        ),
        (
            "f(\"a)",
            "column 6: expected `\"`, found the end of the line",
        ),
        (
            "f(\"a\\",
            "column 6: expected `\"`, found the end of the line",
        ),
        ("f([1)", "column 6: expected `]`, found the end of the line"),
        ("f [1}", "column 5: expected `]`, found `}`"),
        (
            "f {\"a\"",
            "column 7: expected `}`, found the end of the line",
        ),
        ("f 'a", "column 5: expected `'`, found the end of the line"),
        ("f \"a\"b", "column 6: expected a blank, found `b`"),
        (
            "f \"\\x\"",
            "argument 1, at column 5, is given as JSON: expected one of `\"\\/bfnrtu`, found `x`",
        ),
    ];
    for (line, message) in cases {
        assert_eq!(
            parse(line).map_err(|error| error.to_string()),
            Err(message.to_owned()),
            "{line:?}"
        );
    }
}

#[test]
fn no_line_makes_it_panic() {
    // Every line of up to five of these, cut at every character: the scanner steps over bytes.
    let pieces = [
        "f", "(", ")", "\"", "'", "\\", "[", "}", "=", ",", " ", "ä", "1",
    ];
    let mut lines = vec![String::new()];
    for _ in 0..4 {
        lines = lines
            .iter()
            .flat_map(|line| pieces.iter().map(move |piece| format!("{line}{piece}")))
            .collect();
        for line in &lines {
            let _ = parse(line);
            let _ = parse(&format!("f({line}"));
            let _ = parse(&format!("f {line}"));
        }
    }
}
