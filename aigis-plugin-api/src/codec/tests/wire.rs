use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hex;
use crate::codec::{Decoder, Encoder, Value, from_slice, to_vec, to_writer};

/// Checks what a value is encoded as.
#[track_caller]
fn check<T: Serialize>(value: T, expected: &str) {
    assert_eq!(
        to_vec(&value).expect("encodes"),
        hex(expected),
        "expected {expected}"
    );
}

/// Checks what bytes are decoded as.
#[track_caller]
fn reads<'de, T: Deserialize<'de> + PartialEq + std::fmt::Debug>(bytes: &'de [u8], expected: T) {
    assert_eq!(
        from_slice::<T>(bytes).expect("decodes"),
        expected,
        "from {bytes:02x?}"
    );
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Point {
    x: u8,
    y: i32,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Pair(u8, u8);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Name(String);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum Shape {
    Empty,
    Circle(u8),
    Line(u8, u8),
    Box { x: u8 },
}

#[test]
fn scalars() {
    check((), "c0");
    check(false, "c2");
    check(true, "c3");
    check(0, "00");
    check(127_u64, "7f");
    check(128, "cc80");
    check(256_i64, "cd0100");
    check(65_536, "ce00010000");
    check(1_u64 << 32, "cf0000000100000000");
    check(-1, "ff");
    check(-32_i8, "e0");
    check(-33, "d0df");
    check(-129, "d1ff7f");
    check(-32_769, "d2ffff7fff");
    check(i64::MIN, "d38000000000000000");
    check(1.5_f32, "ca3fc00000");
    check(-0.0_f64, "cb8000000000000000");
    check('é', "a2c3a9");
    check("abc", "a3616263");
    check("x".repeat(32), &format!("d920{}", "78".repeat(32)));
    check("x".repeat(256), &format!("da0100{}", "78".repeat(256)));
    check(
        "x".repeat(65_536),
        &format!("db00010000{}", "78".repeat(65_536)),
    );
}

#[test]
fn wide_integers() {
    check(u64::MAX as u128, "cfffffffffffffffff");
    check(i64::MIN as i128, "d38000000000000000");
    check(u64::MAX as i128, "cfffffffffffffffff");
    check(1_u128 << 64, "d803 0000000000000000 0100000000000000");
    check(1_i128 << 64, "d802 0000000000000000 0100000000000000");
    check(
        i64::MIN as i128 - 1,
        "d802 ffffffffffffff7f ffffffffffffffff",
    );
    // Each is read as the other, and in more room than needed.
    reads(&hex("d802 0000000000000000 0100000000000000"), 1_u128 << 64);
    reads(&hex("d803 0000000000000000 0100000000000000"), 1_i128 << 64);
    reads(&hex("d802 0500000000000000 0000000000000000"), 5_u8);
    reads(&hex("d802 fbffffffffffffff ffffffffffffffff"), -5_i8);
    reads(&hex("c71003 05000000000000000000000000000000"), 5_u8);
}

#[test]
fn bytes() {
    check(vec![1_u8, 0xff], "c40201ff");
    check(&[1_u8, 2][..], "c4020102");
    check([7_u8], "c40107");
    check((1_u8, 2_u8), "c4020102");
    check(Vec::<u8>::new(), "90");
    check(vec![0_u8; 256], &format!("c50100{}", "00".repeat(256)));
    check(
        vec![0_u8; 65_536],
        &format!("c600010000{}", "00".repeat(65_536)),
    );
    check(vec![1_u16, 2], "920102");
    check(vec![1_i8, 2], "920102");
    check((200_u8, 1_u16), "92ccc801");
    check((200_u8, 100_u8, ()), "93ccc864c0");
    check(vec![Some(1_u8)], "9101");
    check(Pair(1, 2), "920102");
    check(Value::Bytes(vec![]), "c400");
    check(Value::Bytes(vec![9]), "c40109");
    check(Value::List(vec![Value::from(1_u8)]), "9101");
}

#[test]
fn containers() {
    check((1, "a"), "9201a161");
    check(vec![(); 16], &format!("dc0010{}", "c0".repeat(16)));
    check(
        vec![(); 65_536],
        &format!("dd00010000{}", "c0".repeat(65_536)),
    );
    check(Point { x: 1, y: -1 }, "82a17801a179ff");
    check(Name("a".into()), "a161");
    check(BTreeMap::from([((1, "a"), true)]), "819201a161c3");
    check(
        (0..16).map(|n| (n, ())).collect::<BTreeMap<_, _>>(),
        &format!(
            "de0010{}",
            (0..16).map(|n| format!("{n:02x}c0")).collect::<String>()
        ),
    );
    check(Shape::Empty, "a5456d707479");
    check(Shape::Circle(1), "81a6436972636c6501");
    check(Shape::Line(1, 2), "81a44c696e65920102");
    check(Shape::Box { x: 1 }, "81a3426f7881a17801");
}

#[test]
fn options() {
    check(None::<u8>, "c0");
    check(Some(1), "01");
    check(Some(Some(1)), "01");
    check(Some(None::<u8>), "d401c0");
    check(Some(()), "d401c0");
    check(Some(Some(None::<u8>)), "c70301d401c0");
    check(Some(Some(Some(()))), "c70601c70301d401c0");
    check(
        Some(Value::Some(Box::new(Value::from(5)))),
        "d501d40105".replace("d501", "c70301").as_str(),
    );
    check(Value::Some(Box::new(Value::from("a"))), "d501a161");
    check(Some(vec![None, Some(())]), "92c0d401c0");
    // A wrapper that would not be necessary is understood.
    reads(&hex("d40105"), Some(5));
    reads(&hex("d40105"), Some(Some(5)));
    reads(&hex("d401c0"), Some(None::<u8>));
}

#[test]
fn extensions() {
    for (len, header) in [
        (0, "c700"),
        (1, "d4"),
        (2, "d5"),
        (3, "c703"),
        (4, "d6"),
        (8, "d7"),
        (16, "d8"),
        (255, "c7ff"),
        (256, "c80100"),
        (65_536, "c900010000"),
    ] {
        for (kind, kind_hex) in [
            (-128_i8, "80"),
            (-1, "ff"),
            (0, "00"),
            (5, "05"),
            (127, "7f"),
        ] {
            let value = Value::Ext(kind, vec![0xaa; len]);
            check(&value, &format!("{header}{kind_hex}{}", "aa".repeat(len)));
            reads(&to_vec(&value).expect("encodes"), value);
        }
    }
    for kind in 1..=4 {
        let error =
            to_vec(&Value::Ext(kind, vec![0; 16])).expect_err("is written by the codec alone");
        assert!(
            error.to_string().contains("use the value it stands for"),
            "{error}"
        );
    }
}

#[test]
fn integers_of_any_width() {
    for bytes in [
        "05",
        "cc05",
        "cd0005",
        "ce00000005",
        "cf0000000000000005",
        "d005",
        "d10005",
        "d200000005",
    ] {
        reads(&hex(bytes), 5_u8);
        reads(&hex(bytes), 5_i64);
        reads(&hex(bytes), 5_i128);
        reads(&hex(bytes), 5.0_f32);
        reads(&hex(bytes), 5.0_f64);
        reads(&hex(bytes), Value::from(5));
    }
    reads(&hex("d3ffffffffffffffff"), -1_i8);
    reads(&hex("ff"), -1.0_f32);
    reads(&hex("cf8000000000000000"), 2_f64.powi(63));
    reads(&hex("cf8000000000000000"), 2_f32.powi(63));
    reads(&hex("ca3fc00000"), 1.5_f64);
    reads(&hex("cb3ff8000000000000"), 1.5_f32);
    from_slice::<f64>(&hex("cf8000000000000001")).expect_err("no float is exactly this");
    from_slice::<f32>(&hex("ce01000001")).expect_err("no float is exactly this");
    from_slice::<f32>(&hex("cb7fefffffffffffff")).expect_err("no f32 is that large");
    from_slice::<u8>(&hex("ca40a00000")).expect_err("a float is no integer");
}

#[test]
fn other_forms_that_are_read() {
    reads(&hex("9201ff"), Point { x: 1, y: -1 });
    reads(&hex("c4020102"), Point { x: 1, y: 2 });
    reads(&hex("83a17801a17a93c0a0c0a17902"), Point { x: 1, y: 2 });
    reads(&hex("c4020102"), Pair(1, 2));
    reads(&hex("c4020102"), vec![1_u32, 2]);
    reads(&hex("c4020102"), vec![Some(1.0), Some(2.0)]);
    reads(&hex("93010203"), vec![1_u8, 2, 3]);
    reads(&hex("90"), &b""[..]);
    reads(&hex("81a5456d707479c0"), Shape::Empty);
    reads(&hex("81a3426f789107"), Shape::Box { x: 7 });
    reads(&hex("81a44c696e65c4020102"), Shape::Line(1, 2));
}

#[test]
fn numeric_arrays() {
    reads(&hex("c70504 01 feff0100"), vec![-2_i16, 1]);
    reads(&hex("c70304 02 ffff"), vec![u16::MAX]);
    reads(&hex("c70504 03 feffffff"), vec![-2_i8]);
    reads(&hex("c70504 04 01000000"), vec![1_u8]);
    reads(&hex("c70904 05 ffffffffffffffff"), vec![-1_i64]);
    reads(&hex("c70904 06 ffffffffffffffff"), vec![u64::MAX]);
    reads(&hex("c70904 07 0000c03f 000000bf"), [1.5_f32, -0.5]);
    reads(&hex("c70904 08 000000000000f83f"), vec![1.5_f64]);
    reads(&hex("d404 08"), Vec::<f64>::new());
    for wrong in ["c70004", "d404 00", "d404 09", "d504 01 00"] {
        from_slice::<Vec<i16>>(&hex(wrong)).expect_err("malformed");
    }
    from_slice::<[i16; 1]>(&hex("c70504 01 feff0100")).expect_err("one too many");
}

#[test]
fn several_values_one_behind_the_other() {
    let mut bytes = vec![0xc0];
    to_writer(&mut bytes, "a").expect("encodes");
    "b".serialize(&mut Encoder::new(&mut bytes))
        .expect("encodes");
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    to_writer(&mut bytes, &("c", Refuses)).expect_err("refuses");
    assert_eq!(
        bytes,
        hex("c0 a161 a162"),
        "what a failed value wrote is still there"
    );

    let mut decoder = Decoder::new(&bytes);
    <()>::deserialize(&mut decoder).expect("decodes");
    assert_eq!(<&str>::deserialize(&mut decoder).expect("decodes"), "a");
    assert_eq!(decoder.position(), 3);
    assert_eq!(
        decoder.finish().expect_err("goes on").to_string(),
        "the value ends at byte 3, but 2 more bytes follow"
    );
    assert_eq!(<&str>::deserialize(&mut decoder).expect("decodes"), "b");
    decoder.finish().expect("is at the end");
}
