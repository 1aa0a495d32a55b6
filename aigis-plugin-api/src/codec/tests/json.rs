use super::Random;
use crate::codec::{Value, to_vec};

/// Checks that JSON is read as this value and written again as the same text.
#[track_caller]
fn check(json: &str, value: Value) {
    assert_eq!(Value::from_json(json).expect("is JSON"), value);
    assert_eq!(value.to_json(), json);
    assert_eq!(value.to_string(), json);
}

/// Checks what is read from JSON that would be written otherwise.
#[track_caller]
fn reads(json: &str, value: impl Into<Value>) {
    assert_eq!(Value::from_json(json).expect("is JSON"), value.into());
}

/// Checks what is said about a text that is no JSON.
#[track_caller]
fn fails(json: &str, expected: &str) {
    assert_eq!(
        Value::from_json(json).expect_err("is no JSON").to_string(),
        expected
    );
}

#[test]
fn random_values_are_the_same_after_json() {
    let mut random = Random(6);
    for _ in 0..600 {
        let value = random.value(4);
        for json in [value.to_json(), value.to_json_pretty()] {
            let again = Value::from_json(&json).expect("is JSON");
            // The bytes are compared, since a NaN is not equal to itself.
            assert_eq!(
                to_vec(&again).expect("encodes"),
                to_vec(&value).expect("encodes"),
                "{json}"
            );
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
            serde_json::from_str::<serde::de::IgnoredAny>(&json).expect("is JSON for others too");
        }
    }
}

#[test]
fn plain_json() {
    check("null", Value::Nil);
    check("[true,false]", Value::List(vec![true.into(), false.into()]));
    check("{}", Value::Map(vec![]));
    check("[]", Value::List(vec![]));
    check(r#"{"b":1,"a":{"b":[2]}}"#, {
        let inner = Value::from_iter([("b", Value::List(vec![2.into()]))]);
        Value::from_iter([("b", Value::from(1)), ("a", inner)])
    });
    check(r#"{"a":1,"a":2}"#, Value::from_iter([("a", 1), ("a", 2)]));
    check(r#"{"$ref":"x"}"#, Value::from_iter([("$ref", "x")]));
    reads(" \t\r\n[ 1 , 2 ] ", Value::List(vec![1.into(), 2.into()]));
    reads("{ \"a\" : 1 }", Value::from_iter([("a", 1)]));
}

#[test]
fn numbers() {
    check("-1", Value::from(-1));
    check(&i128::MIN.to_string(), Value::from(i128::MIN));
    check(&u128::MAX.to_string(), Value::from(u128::MAX));
    check("1.0", Value::from(1.0));
    check("-0.0", Value::from(-0.0));
    check("1e300", Value::from(1e300));
    check("5e-324", Value::from(5e-324));
    check("0.1", Value::from(0.1));
    reads("-0", 0);
    reads("1E2", 100.0);
    reads("1.5e+2", 150.0);
    reads("340282366920938463463374607431768211456", 2_f64.powi(128));
    fails("01", "line 1, column 2: expected the end, found `1`");
    fails("-", "line 1, column 2: expected a digit, found the end");
    fails("1.", "line 1, column 3: expected a digit, found the end");
    fails(".5", "line 1, column 1: expected a JSON value, found `.`");
    fails("1e", "line 1, column 3: expected a digit, found the end");
    fails("+1", "line 1, column 1: expected a JSON value, found `+`");
    fails(
        "1e999",
        "line 1, column 1: expected a number that fits into 64-bit floating point, found a larger one",
    );
    fails("NaN", "line 1, column 1: expected a JSON value, found `N`");
}

#[test]
fn strings() {
    check(
        r#""\"\\/\n\r\t\u0000\u001f""#,
        Value::from("\"\\/\n\r\t\0\u{1f}"),
    );
    check("\"ä€𝄞\u{7f}\u{2028}\"", Value::from("ä€𝄞\u{7f}\u{2028}"));
    reads(r#""\/\b\f\u00e4\u20AC\ud834\udd1e""#, "/\u{8}\u{c}ä€𝄞");
    fails(
        r#""\ud834""#,
        "line 1, column 2: expected a character or a surrogate pair, found half a pair",
    );
    fails(
        r#""\ud834\u0041""#,
        "line 1, column 2: expected a character or a surrogate pair, found half a pair",
    );
    fails(
        r#""\udd1e""#,
        "line 1, column 2: expected a character or a surrogate pair, found half a pair",
    );
    fails(
        r#""\u12""#,
        "line 1, column 6: expected a hexadecimal digit, found `\"`",
    );
    fails(
        r#""\x""#,
        "line 1, column 3: expected one of `\"\\/bfnrtu`, found `x`",
    );
    fails(
        "\"a\nb\"",
        "line 1, column 3: expected `\"`, or a control character written as an escape, found U+000A",
    );
    fails("\"ab", "line 1, column 4: expected `\"`, found the end");
    fails("'a'", "line 1, column 1: expected a JSON value, found `'`");
}

#[test]
fn what_json_has_no_form_for() {
    check(r#"{"$bytes":""}"#, Value::Bytes(vec![]));
    check(r#"{"$bytes":"AA=="}"#, Value::Bytes(vec![0]));
    check(r#"{"$bytes":"AP8="}"#, Value::Bytes(vec![0, 255]));
    check(r#"{"$bytes":"+/v7"}"#, Value::Bytes(vec![0xfb, 0xfb, 0xfb]));
    check(r#"{"$map":[[1,"a"],["b",null]]}"#, {
        Value::Map(vec![(1.into(), "a".into()), ("b".into(), Value::Nil)])
    });
    check(
        r#"{"$map":[["$bytes","AA=="]]}"#,
        Value::from_iter([("$bytes", "AA==")]),
    );
    check(r#"{"$map":[["$map",{"$map":[["$map",[]]]}]]}"#, {
        Value::from_iter([("$map", Value::from_iter([("$map", Value::List(vec![]))]))])
    });
    check(r#"{"$float":"inf"}"#, Value::from(f64::INFINITY));
    check(r#"{"$float":"-inf"}"#, Value::from(f64::NEG_INFINITY));
    check(r#"{"$some":null}"#, Value::Some(Box::new(Value::Nil)));
    check(
        r#"{"$some":{"$some":1}}"#,
        Value::Some(Box::new(Value::Some(Box::new(1.into())))),
    );
    check(r#"{"$ext":[-1,"AA=="]}"#, Value::Ext(-1, vec![0]));
    assert_eq!(Value::from(f64::NAN).to_json(), r#"{"$float":"nan"}"#);
    assert_eq!(
        Value::from(-f64::NAN).to_json(),
        r#"{"$float":"nan:fff8000000000000"}"#
    );
    reads(
        r#"{"$bytes":"AA==","b":1}"#,
        Value::from_iter([("$bytes", "AA==".into()), ("b", Value::from(1))]),
    );
    reads(r#"{"$map":[]}"#, Value::Map(vec![]));

    for bytes in [
        "1",
        r#""A""#,
        r#""AA""#,
        r#""AA=""#,
        r#""A===""#,
        r#""AB==""#,
        r#""AAF=""#,
        r#""AA==AA==""#,
        r#""A A=""#,
    ] {
        fails(
            &format!(r#"{{"$bytes":{bytes}}}"#),
            "line 1, column 11: expected a string in base64, found something else",
        );
    }
    fails(
        r#"{"$map": [[1]]}"#,
        "line 1, column 10: expected a list of pairs, found something else",
    );
    fails(
        r#"{"$map": {}}"#,
        "line 1, column 10: expected a list of pairs, found something else",
    );
    fails(
        r#"{"$float": "nan:0000000000000000"}"#,
        "line 1, column 12: expected \"nan\", \"inf\" or \"-inf\", found something else",
    );
    fails(
        r#"{"$ext": [128, ""]}"#,
        "line 1, column 10: expected a list of an extension type, -128 to 127, and a string in base64, found something else",
    );
}

#[test]
fn mistakes_have_a_line_and_a_column() {
    fails("", "line 1, column 1: expected a JSON value, found the end");
    fails(
        "[1\n  2]",
        "line 2, column 3: expected `,` or `]`, found `2`",
    );
    fails("[1,]", "line 1, column 4: expected a JSON value, found `]`");
    fails(
        "{\"ä\": 1,\n \"b\" 2}",
        "line 2, column 6: expected `:`, found `2`",
    );
    fails("{\"ä\" 1}", "line 1, column 6: expected `:`, found `1`");
    fails(
        "{\"a\": 1 \"b\"}",
        "line 1, column 9: expected `,` or `}`, found `\"`",
    );
    fails(
        "{\"a\": 1,}",
        "line 1, column 9: expected a key in double quotes, found `}`",
    );
    fails(
        "{a: 1}",
        "line 1, column 2: expected a key in double quotes, found `a`",
    );
    fails("nul", "line 1, column 1: expected a JSON value, found `n`");
    fails("nullx", "line 1, column 5: expected the end, found `x`");
    fails("1 2", "line 1, column 3: expected the end, found `2`");
    fails(
        "[",
        "line 1, column 2: expected a JSON value, found the end",
    );
    fails(
        "\u{feff}1",
        "line 1, column 1: expected a JSON value, found `\u{feff}`",
    );
    fails(
        "// x\n1",
        "line 1, column 1: expected a JSON value, found `/`",
    );
    let deep = "[".repeat(100_000);
    assert_eq!(
        Value::from_json(&deep).expect_err("is too deep").expected,
        "less nesting"
    );
    let deep = "{\"a\":".repeat(100_000);
    assert_eq!(
        Value::from_json(&deep).expect_err("is too deep").expected,
        "less nesting"
    );
}

#[test]
fn damaged_json_never_panics() {
    let mut random = Random(8);
    for _ in 0..60 {
        let json = random.value(3).to_json();
        let ends: Vec<usize> = json
            .char_indices()
            .map(|(index, _)| index)
            .take(300)
            .collect();
        for end in ends {
            let _ = Value::from_json(&json[..end]);
            let mut damaged = json.clone();
            damaged.insert(end, ['"', '{', '\\', '0', '\u{1}', '€'][random.below(6)]);
            let _ = Value::from_json(&damaged);
        }
    }
}

#[test]
fn pretty_json() {
    let value = Value::from_iter([
        ("a", Value::List(vec![1.into(), Value::List(vec![])])),
        ("b", Value::Map(vec![])),
        ("c", Value::Bytes(vec![0])),
        ("d", Value::Map(vec![(1.into(), Value::Nil)])),
        ("e", Value::Ext(5, vec![])),
    ]);
    let expected = r#"{
  "a": [
    1,
    []
  ],
  "b": {},
  "c": {"$bytes": "AA=="},
  "d": {"$map": [
    [
      1,
      null
    ]
  ]},
  "e": {"$ext": [5, ""]}
}"#;
    assert_eq!(value.to_json_pretty(), expected);
}

#[test]
fn agrees_with_another_reader() {
    for json in [
        "[1,2.5,\"x\",null,true,{\"a\":[]}]",
        "1e5",
        "[-0.0]",
        "\"\\ud834\\udd1e\"",
        "[1,]",
        "{\"a\"}",
        "tru",
        "[1 2]",
        "\"\u{1}\"",
        "00",
        "1.e5",
        "\"\\u00\"",
        "[]]",
        "{,}",
        "-",
        "\"\\uDC00\"",
    ] {
        let other = serde_json::from_str::<serde_json::Value>(json);
        let ours = Value::from_json(json);
        assert_eq!(ours.is_ok(), other.is_ok(), "{json}: {ours:?}");
        if let (Ok(ours), Ok(other)) = (ours, other) {
            assert_eq!(serde_json::to_value(&ours).expect("is JSON"), other);
        }
    }
}
