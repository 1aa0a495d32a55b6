//! Ids, differences and how signatures read.

use super::*;

fn signature(parameters: &[(&str, Shape)], result: Shape) -> Signature {
    Signature {
        parameters: parameters
            .iter()
            .map(|(name, shape)| Parameter {
                name: (*name).to_owned(),
                shape: shape.clone(),
            })
            .collect(),
        result,
        error: None,
        constant: false,
    }
}

fn structure(name: &str, fields: &[(&str, Shape, bool)]) -> Shape {
    Shape::Struct(StructShape {
        name: name.to_owned(),
        fields: fields
            .iter()
            .map(|(name, shape, optional)| FieldShape {
                name: (*name).to_owned(),
                shape: shape.clone(),
                optional: *optional,
            })
            .collect(),
    })
}

#[test]
fn the_id_is_stable() {
    // A changed value here means that every built plugin loses its direct entries.
    let greet = signature(&[("name", Shape::Text)], Shape::Text);
    let hex: String = greet.id().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "013b440abf3136104aa58025cff59ebf");
}

#[test]
fn type_names_do_not_count_but_fields_do() {
    let a = signature(
        &[("p", structure("A", &[("x", Shape::U8, false)]))],
        Shape::Unit,
    );
    let b = signature(
        &[("p", structure("B", &[("x", Shape::U8, false)]))],
        Shape::Unit,
    );
    let c = signature(
        &[("p", structure("A", &[("y", Shape::U8, false)]))],
        Shape::Unit,
    );
    assert_eq!(a.id(), b.id());
    assert_ne!(a.id(), c.id());
}

#[test]
fn a_changed_parameter_is_shown() {
    let expected = signature(&[("name", Shape::Text)], Shape::Text);
    let offered = signature(&[("name", Shape::U64)], Shape::Text);
    assert_eq!(
        differences(&expected, &offered),
        ["parameter 1 `name`: `&str` -> `u64`"]
    );
}

#[test]
fn names_of_parameters_do_not_count() {
    let expected = signature(&[("a", Shape::Text)], Shape::U8);
    let offered = signature(&[("b", Shape::Text)], Shape::U8);
    assert!(differences(&expected, &offered).is_empty());
    assert_ne!(expected.id(), offered.id());
}

#[test]
fn a_receiver_may_know_more_optional_fields() {
    let old = structure("P", &[("x", Shape::U8, false)]);
    let new = structure("P", &[("x", Shape::U8, false), ("y", Shape::U8, true)]);
    let strict = structure("P", &[("x", Shape::U8, false), ("y", Shape::U8, false)]);
    let call = |arg: &Shape| signature(&[("p", arg.clone())], Shape::Unit);
    assert!(differences(&call(&old), &call(&new)).is_empty());
    assert!(differences(&call(&new), &call(&old)).is_empty());
    assert_eq!(
        differences(&call(&old), &call(&strict)),
        ["parameter 1 `p`.y: needed (`u8`), but not sent"]
    );
    // In the result the roles are the other way round.
    let give = |result: &Shape| signature(&[], result.clone());
    assert!(differences(&give(&old), &give(&strict)).is_empty());
    assert_eq!(
        differences(&give(&strict), &give(&old)),
        ["result.y: needed (`u8`), but not sent"]
    );
}

#[test]
fn a_receiver_must_know_every_variant_that_can_be_sent() {
    let one = Shape::Enum(EnumShape {
        name: "E".into(),
        variants: vec![VariantShape {
            name: "A".into(),
            fields: vec![],
        }],
    });
    let two = Shape::Enum(EnumShape {
        name: "E".into(),
        variants: ["A", "B"]
            .map(|name| VariantShape {
                name: name.into(),
                fields: vec![],
            })
            .to_vec(),
    });
    let give = |result: &Shape| signature(&[], result.clone());
    assert!(differences(&give(&two), &give(&one)).is_empty());
    assert_eq!(differences(&give(&one), &give(&two)).len(), 1);
}

#[test]
fn arity_is_compared() {
    let one = signature(&[("a", Shape::U8)], Shape::Unit);
    let two = signature(&[("a", Shape::U8), ("b", Shape::U8)], Shape::Unit);
    assert_eq!(
        differences(&one, &two),
        ["1 parameters expected, 2 offered"]
    );
}

#[test]
fn signatures_read_like_source() {
    let mut s = signature(
        &[
            ("bytes", Shape::Bytes),
            ("n", Shape::Option(Box::new(Shape::U8))),
        ],
        Shape::Tuple(vec![Shape::Text, Shape::F64]),
    );
    assert_eq!(
        s.to_string(),
        "fn(bytes: &[u8], n: Option<u8>) -> (String, f64)"
    );
    s.error = Some("GreetError".into());
    assert_eq!(
        s.to_string(),
        "fn(bytes: &[u8], n: Option<u8>) -> Result<(String, f64), GreetError>"
    );
}
