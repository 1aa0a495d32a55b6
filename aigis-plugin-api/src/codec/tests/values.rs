use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Random;
use crate::codec::{Integer, Value, from_slice, from_value, to_value, to_vec};

#[test]
fn random_values_are_the_same_after_encoding() {
    let mut random = Random(5);
    for _ in 0..600 {
        let value = random.value(4);
        let bytes = to_vec(&value).expect("encodes");
        let again: Value = from_slice(&bytes).expect("decodes");
        // The bytes are compared, since a NaN is not equal to itself.
        assert_eq!(to_vec(&again).expect("encodes"), bytes, "{value:?}");
        assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }
}

#[test]
fn other_formats_can_carry_values() {
    let text = r#"{"a":[null,true,-1,18446744073709551615,0.5,"x"],"b":{}}"#;
    let value: Value = serde_json::from_str(text).expect("is JSON");
    assert_eq!(value.to_json(), text);
    assert_eq!(serde_json::to_string(&value).expect("is JSON"), text);

    let odd = Value::List(vec![
        Value::Bytes(vec![1]),
        Value::Some(Box::new(Value::Some(Box::new(Value::from(1))))),
        Value::Ext(9, vec![2]),
        Value::from(u64::MAX as u128 + 1),
    ]);
    assert_eq!(
        serde_json::to_string(&odd).expect("is JSON"),
        "[[1],1,[9,[2]],18446744073709551616]"
    );
}

#[test]
fn values_as_parts_of_types() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Typed {
        id: u8,
        one: Value,
        many: Vec<Value>,
        maybe: Option<Value>,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }
    let typed = Typed {
        id: 1,
        one: Value::from("x"),
        many: vec![
            Value::Some(Box::new(Value::Nil)),
            Value::List(vec![]),
            Value::from(-1),
        ],
        maybe: Some(Value::from(Some(()))),
        rest: BTreeMap::from([(
            "more".to_owned(),
            Value::from_iter([(Value::from(1), Value::from(0.5))]),
        )]),
    };
    let bytes = to_vec(&typed).expect("encodes");
    assert_eq!(from_slice::<Typed>(&bytes).expect("decodes"), typed);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Exact {
        bytes: Value,
        extension: Value,
        wide: Value,
    }
    let exact = Exact {
        bytes: Value::Bytes(vec![1, 2]),
        extension: Value::Ext(-1, vec![0]),
        wide: Value::from(u128::MAX),
    };
    let value = to_value(&exact).expect("encodes");
    assert_eq!(value.get("extension"), Some(&exact.extension));
    assert_eq!(from_value::<Exact>(value).expect("fits"), exact);
}

#[test]
fn accessors() {
    let value = Value::from_iter([
        ("flag", Value::from(true)),
        ("count", Value::from(3_u8)),
        ("ratio", Value::from(0.5)),
        ("name", Value::from("zaltu")),
        ("data", Value::from(vec![1_u8])),
        ("list", [1, 2].into_iter().map(Value::from).collect()),
        ("none", Value::from(None::<u8>)),
        ("some", Value::from(Some(Some(None::<u8>)))),
    ]);
    let get = |key| value.get(key).expect("is there");
    assert_eq!(get("flag").as_bool(), Some(true));
    assert_eq!(
        (
            get("count").as_i64(),
            get("count").as_u64(),
            get("count").as_f64()
        ),
        (Some(3), Some(3), Some(3.0))
    );
    assert_eq!(
        (get("ratio").as_f64(), get("ratio").as_i64()),
        (Some(0.5), None)
    );
    assert_eq!(get("name").as_str(), Some("zaltu"));
    assert_eq!(get("data").as_bytes(), Some(&[1][..]));
    assert_eq!(get("list").at(1), Some(&Value::from(2)));
    assert_eq!(get("list").at(2), None);
    assert!(get("none").is_nil());
    assert_eq!(
        *get("some"),
        to_value(&Some(Some(None::<u8>))).expect("encodes")
    );
    assert_eq!(value.get("other"), None);
    assert_eq!(value.as_map().map(<[_]>::len), Some(8));
}

#[test]
fn integers() {
    let ordered = [
        i128::MIN,
        i128::from(i64::MIN),
        -1,
        0,
        1,
        i128::from(u64::MAX),
        i128::MAX,
    ]
    .map(Integer::from)
    .into_iter()
    .chain([
        Integer::from(i128::MAX as u128 + 1),
        Integer::from(u128::MAX),
    ])
    .collect::<Vec<_>>();
    assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
    assert_eq!(Integer::from(5_u8), Integer::from(5_i128));
    assert_eq!(Integer::from(-5_i8), Integer::from(-5_i128));
    assert_eq!(Integer::from(u128::MAX).as_i128(), None);
    assert_eq!(Integer::from(-1).as_u128(), None);
    assert_eq!(Integer::from(i128::MIN).to_string(), i128::MIN.to_string());
    assert_eq!(Integer::from(u128::MAX).to_string(), u128::MAX.to_string());
    assert_eq!(Value::from(i128::MIN).as_f64(), Some(-(2_f64.powi(127))));
    assert_eq!(Value::from(u128::MAX).as_f64(), None);
}
