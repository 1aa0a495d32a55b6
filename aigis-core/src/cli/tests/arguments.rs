//! Arguments by the types of the parameters.

use aigis_plugin_api::Value;
use aigis_plugin_api::signature::{
    EnumShape, FieldShape, Parameter, Shape, Signature, StructShape, VariantShape,
};

use super::super::arguments::{Argument, ArgumentError, Given, guess, read};

fn signature(parameters: &[(&str, Shape)]) -> Signature {
    Signature {
        parameters: parameters
            .iter()
            .map(|(name, shape)| Parameter {
                name: (*name).to_owned(),
                shape: shape.clone(),
            })
            .collect(),
        result: Shape::Unit,
        error: None,
        constant: false,
    }
}

fn typed(texts: &[&str]) -> Vec<Argument> {
    texts
        .iter()
        .map(|text| Argument::of_command_line(text))
        .collect()
}

/// Reads one argument for a parameter of this type.
fn one(shape: Shape, text: &str) -> Result<Value, ArgumentError> {
    read(&signature(&[("p", shape)]), &typed(&[text]), false).map(|mut values| values.remove(0))
}

fn option(inner: Shape) -> Shape {
    Shape::Option(Box::new(inner))
}

fn color() -> Shape {
    let variant = |name: &str, fields: &[Shape]| VariantShape {
        name: name.to_owned(),
        fields: fields
            .iter()
            .map(|shape| FieldShape {
                name: "0".to_owned(),
                shape: shape.clone(),
                optional: false,
            })
            .collect(),
    };
    Shape::Enum(EnumShape {
        name: "Color".to_owned(),
        variants: vec![variant("Red", &[]), variant("Gray", &[Shape::U8])],
    })
}

#[test]
fn each_type_reads_its_texts() {
    let map = |text: &str| Value::from_json(text).expect("JSON");
    let cases = [
        (Shape::Text, "zaltu", Value::from("zaltu")),
        (Shape::Text, "", Value::from("")),
        (Shape::Text, "\"quoted\"", Value::from("\"quoted\"")),
        (Shape::Text, "42", Value::from("42")),
        (Shape::Text, "null", Value::from("null")),
        (Shape::Text, "a=b", Value::from("a=b")),
        (
            Shape::Text,
            "{\"$bytes\": \"AAEC\"}",
            Value::from("{\"$bytes\": \"AAEC\"}"),
        ),
        (Shape::Bool, "true", Value::from(true)),
        (Shape::Bool, "false", Value::from(false)),
        (Shape::Char, "ß", Value::from("ß")),
        (Shape::Char, " ", Value::from(" ")),
        (Shape::Unit, "()", Value::Nil),
        (Shape::Unit, "null", Value::Nil),
        (Shape::I8, "-128", Value::from(-128)),
        (Shape::U8, "255", Value::from(255)),
        (Shape::I64, "-9223372036854775808", Value::from(i64::MIN)),
        (Shape::Usize, "18446744073709551615", Value::from(u64::MAX)),
        (
            Shape::U128,
            "340282366920938463463374607431768211455",
            Value::from(u128::MAX),
        ),
        (
            Shape::I128,
            "-170141183460469231731687303715884105728",
            Value::from(i128::MIN),
        ),
        (Shape::F64, "1.5", Value::from(1.5)),
        (Shape::F64, "3", Value::from(3.0)),
        (Shape::F64, "-1e3", Value::from(-1000.0)),
        (Shape::F64, "inf", Value::from(f64::INFINITY)),
        (Shape::F32, "0.1", Value::from(0.1_f32)),
        (Shape::Bytes, "zäh", Value::from("zäh".as_bytes())),
        (Shape::Bytes, "", Value::from(&[][..])),
        (
            Shape::Bytes,
            "{\"$bytes\": \"AAEC\"}",
            Value::from(&[0, 1, 2][..]),
        ),
        (Shape::Bytes, "[1, 2]", Value::from("[1, 2]".as_bytes())),
        (option(Shape::Text), "null", Value::Nil),
        (option(Shape::Text), "zaltu", Value::from("zaltu")),
        (option(Shape::U8), "null", Value::Nil),
        (option(Shape::U8), "7", Value::from(7)),
        (option(Shape::Bytes), "ab", Value::from("ab".as_bytes())),
        (option(option(Shape::U8)), "null", Value::Nil),
        (
            option(option(Shape::U8)),
            "{\"$some\": null}",
            Value::Some(Box::new(Value::Nil)),
        ),
        (
            option(Shape::Unit),
            "{\"$some\": null}",
            Value::Some(Box::new(Value::Nil)),
        ),
        (Shape::list(Shape::U16), "[1, 2]", map("[1,2]")),
        (
            Shape::Array(Box::new(Shape::Bool), 1),
            "[true]",
            map("[true]"),
        ),
        (
            Shape::Tuple(vec![Shape::U8, Shape::Text]),
            "[1, \"a\"]",
            map("[1,\"a\"]"),
        ),
        (
            Shape::Opaque("std::net::IpAddr".into()),
            "\"127.0.0.1\"",
            Value::from("127.0.0.1"),
        ),
        (
            Shape::Opaque("x::Y".into()),
            "{\"a\": {\"$bytes\": \"AA==\"}}",
            map("{\"a\": {\"$bytes\": \"AA==\"}}"),
        ),
        (color(), "Red", Value::from("Red")),
        (color(), "\"Red\"", Value::from("Red")),
        (color(), "{\"Gray\": 3}", map("{\"Gray\":3}")),
        (option(color()), "Red", Value::from("Red")),
    ];
    for (shape, text, value) in cases {
        assert_eq!(one(shape.clone(), text), Ok(value), "`{text}` as {shape:?}");
    }
    let nan = one(Shape::F64, "nan").expect("a float");
    assert!(matches!(nan, Value::Float(value) if value.is_nan()));
}

#[test]
fn what_is_not_of_the_type_names_the_parameter_the_type_and_what_was_expected() {
    let cases = [
        (
            Shape::U8,
            "256",
            "`p` has the type `u8`: expected a whole number from 0 to 255, found `256`",
        ),
        (
            Shape::U8,
            "-1",
            "`p` has the type `u8`: expected a whole number from 0 to 255, found `-1`",
        ),
        (
            Shape::I16,
            "1.0",
            "`p` has the type `i16`: expected a whole number from -32768 to 32767, found `1.0`",
        ),
        (
            Shape::U32,
            " 1",
            "`p` has the type `u32`: expected a whole number from 0 to 4294967295, found ` 1`",
        ),
        (
            Shape::Bool,
            "yes",
            "`p` has the type `bool`: expected `true` or `false`, found `yes`",
        ),
        (
            Shape::Bool,
            "True",
            "`p` has the type `bool`: expected `true` or `false`, found `True`",
        ),
        (
            Shape::Char,
            "ab",
            "`p` has the type `char`: expected one character, found `ab`",
        ),
        (
            Shape::Char,
            "",
            "`p` has the type `char`: expected one character, found ``",
        ),
        (
            Shape::F64,
            "1e999",
            "`p` has the type `f64`: expected a number that fits into f64, found `1e999`",
        ),
        (
            Shape::F32,
            "1e39",
            "`p` has the type `f32`: expected a number that fits into f32, found `1e39`",
        ),
        (
            Shape::F64,
            "fast",
            "`p` has the type `f64`: expected a number that fits into f64, found `fast`",
        ),
        (
            option(Shape::U8),
            "x",
            "`p` has the type `Option<u8>`: expected a whole number from 0 to 255, found `x`",
        ),
        (
            Shape::Unit,
            "",
            "`p` has the type `()`: expected `()`, found ``",
        ),
        (
            Shape::U8,
            "\u{1b}[2J",
            "`p` has the type `u8`: expected a whole number from 0 to 255, found `\\u{1b}[2J`",
        ),
        (
            Shape::list(Shape::U16),
            "1,2",
            "`p` has the type `Vec<u16>` and is given as JSON: line 1, column 2: expected the end, found `,`",
        ),
        (
            Shape::Bytes,
            "{\"$bytes\": 3}",
            "`p` has the type `Vec<u8>` and is given as JSON: line 1, column 12: expected a string in base64, found something else",
        ),
        (
            color(),
            "Blue",
            "`p` has the type `Color` and is given as JSON: line 1, column 1: expected a JSON value, found `B`",
        ),
    ];
    for (shape, text, message) in cases {
        let error = one(shape, text).expect_err(text);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_long_text_is_cut_in_the_message() {
    let message = one(Shape::U8, &"9".repeat(10_000))
        .expect_err("no u8")
        .to_string();
    assert!(message.len() < 200, "{message}");
}

fn greet() -> Signature {
    signature(&[
        ("name", Shape::Text),
        ("times", Shape::U8),
        ("mood", option(Shape::Text)),
    ])
}

fn greet_with(texts: &[&str]) -> Result<Vec<Value>, String> {
    read(&greet(), &typed(texts), false).map_err(|error| error.to_string())
}

#[test]
fn arguments_go_by_position_and_by_name() {
    let expected = |mood: Value| Ok(vec![Value::from("zaltu"), Value::from(3), mood]);
    assert_eq!(greet_with(&["zaltu", "3"]), expected(Value::Nil));
    assert_eq!(greet_with(&["zaltu", "3", "null"]), expected(Value::Nil));
    assert_eq!(greet_with(&["zaltu", "3", "glad"]), expected("glad".into()));
    assert_eq!(greet_with(&["zaltu", "times=3"]), expected(Value::Nil));
    assert_eq!(
        greet_with(&["mood=a=b", "times=3", "name=zaltu"]),
        expected("a=b".into())
    );
    // No parameter is called so: the text as it is.
    assert_eq!(
        greet_with(&["who=zaltu", "3"]),
        Ok(vec![Value::from("who=zaltu"), Value::from(3), Value::Nil])
    );
    // The way to give such a text when a parameter is called so.
    assert_eq!(
        greet_with(&["name=name=zaltu", "times=3"]),
        Ok(vec![Value::from("name=zaltu"), Value::from(3), Value::Nil])
    );
}

#[test]
fn lists_of_arguments_that_do_not_fit() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "`name`, `times` are missing"),
        (&["zaltu"], "`times` is missing"),
        (&["times=3"], "`name` is missing"),
        (&["a", "1", "b", "c"], "it takes 3 arguments, found 4"),
        (&["zaltu", "name=b", "times=1"], "`name` is given twice"),
        (&["times=1", "times=2", "name=b"], "`times` is given twice"),
        (
            &["times=3", "zaltu"],
            "argument 2 must be given by name too, since one before it is",
        ),
        (&["times=3", "nmae=zaltu"], "there is no parameter `nmae`"),
    ];
    for (texts, message) in cases {
        assert_eq!(greet_with(texts), Err((*message).to_owned()), "{texts:?}");
    }
    let constant = read(&signature(&[]), &typed(&["1"]), false).expect_err("too many");
    assert_eq!(constant.to_string(), "it takes no arguments, found 1");
}

#[test]
fn with_json_a_text_needs_its_quotes() {
    let json = |texts: &[&str]| read(&greet(), &typed(texts), true);
    assert_eq!(
        json(&["\"null\"", "times=3", "mood=\"null\""]),
        Ok(vec!["null".into(), 3.into(), "null".into()])
    );
    assert!(matches!(
        json(&["zaltu", "3"]),
        Err(ArgumentError::NotJson { parameter, .. }) if parameter == "name"
    ));
}

#[test]
fn a_string_of_the_repl_stands_for_bytes() {
    let given = Argument::Positional(Given::Json(Value::from("ab")));
    assert_eq!(
        read(&signature(&[("p", option(Shape::Bytes))]), &[given], false),
        Ok(vec![Value::from("ab".as_bytes())])
    );
}

#[test]
fn a_struct_is_json() {
    let point = Shape::Struct(StructShape {
        name: "Point".into(),
        fields: vec![],
    });
    let value = one(point, "{\"x\": 1, \"y\": -2.5}").expect("JSON");
    assert_eq!(value.get("x").and_then(Value::as_i64), Some(1));
    assert_eq!(value.get("y").and_then(Value::as_f64), Some(-2.5));
}

#[test]
fn without_a_signature_json_is_json_and_anything_else_text() {
    assert_eq!(guess(&[]), Value::List(vec![]));
    assert_eq!(
        guess(&typed(&["web", "true", "7", "[1]", "a=b"])),
        Value::from_iter([
            Value::from("web"),
            true.into(),
            7.into(),
            Value::from_iter([Value::from(1)]),
            "a=b".into(),
        ])
    );
    assert_eq!(
        guess(&typed(&["name=web", "fresh=true"])),
        Value::from_iter([("name", Value::from("web")), ("fresh", true.into())])
    );
}
