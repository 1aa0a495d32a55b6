//! Bytes and numeric arrays in one piece.

use std::collections::{BTreeSet, VecDeque};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Items, Value, Whole};

/// Reads a value in both ways, which must come to the same.
fn both<T: DeserializeOwned + PartialEq + std::fmt::Debug + 'static>(bytes: &[u8]) -> T {
    let one_by_one: T = codec::from_slice(bytes).expect("is read");
    let Whole(whole) = codec::from_slice(bytes).expect("is read in one piece");
    assert_eq!(one_by_one, whole);
    whole
}

fn goes_and_comes<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static>(
    value: &T,
    starts: &[u8],
) {
    let bytes = codec::to_vec(value).expect("encodes");
    assert!(bytes.starts_with(starts), "{:x?}", &bytes[..8]);
    assert_eq!(&both::<T>(&bytes), value);
}

#[test]
fn bytes_are_written_as_bin_in_one_piece() {
    let items: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    goes_and_comes(&items, &[0xc6, 0, 1, 0x11, 0x70, 0, 1, 2]);
    goes_and_comes(&Some(items.clone()), &[0xc6, 0, 1]);
    goes_and_comes(&items.clone().into_boxed_slice(), &[0xc6, 0, 1]);
    goes_and_comes(&vec![200_u8], &[0xc4, 1, 200]);
    goes_and_comes(&Vec::<u8>::new(), &[0x90]);
    goes_and_comes(&None::<Vec<u8>>, &[0xc0]);
    let queue: VecDeque<u8> = items.iter().copied().collect();
    assert_eq!(codec::to_vec(&queue), codec::to_vec(&items));
}

#[test]
fn numbers_are_written_as_numeric_arrays_from_32_on() {
    macro_rules! check {
        ($($type:ident $kind:literal)*) => {$(
            let many: Vec<$type> = (0..1000_u16).map(|n| (n * 32) as $type).collect();
            let size = 1 + 1000 * size_of::<$type>();
            goes_and_comes(&many, &[0xc8, (size >> 8) as u8, size as u8, 4, $kind]);
            goes_and_comes(&Some(many.clone()), &[0xc8]);
            goes_and_comes(&many.clone().into_boxed_slice(), &[0xc8]);
            goes_and_comes(&many[..31].to_vec(), &[0xdc, 0, 31]);
            let header: &[u8] = if size_of::<$type>() < 8 { &[0xc7, (1 + 32 * size_of::<$type>()) as u8, 4] } else { &[0xc8, 1, 1, 4] };
            goes_and_comes(&many[..32].to_vec(), header);
        )*};
    }
    check! { i16 1 u16 2 i32 3 u32 4 u64 6 f32 7 }
    let floats: Vec<f64> = (0..1000).map(|n| f64::from(n) * -0.1).collect();
    goes_and_comes(&floats, &[0xc8, 0x1f, 0x41, 4, 8]);
    let signed: Vec<i64> = (-500..500).map(|n| n << 40).collect();
    goes_and_comes(&signed, &[0xc8, 0x1f, 0x41, 4, 5]);
    let set: BTreeSet<u32> = (0..100).collect();
    goes_and_comes(&set, &[0xc8, 1, 0x91, 4, 4]);
}

#[test]
fn every_bit_of_a_float_comes_back() {
    let odd = [
        f64::NAN,
        -0.0,
        f64::from_bits(0x7ff0_0000_0000_0001),
        f64::MIN_POSITIVE,
    ];
    let many: Vec<f64> = odd.iter().copied().cycle().take(64).collect();
    let bytes = codec::to_vec(&many).expect("encodes");
    let Whole(back) = codec::from_slice::<Whole<Vec<f64>>>(&bytes).expect("is read");
    let bits = |all: &[f64]| all.iter().map(|one| one.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(&many));
}

#[test]
fn arrays_and_other_kinds_are_read_as_well() {
    let list: Vec<Value> = (0..100).map(Value::from).collect();
    let bytes = codec::to_vec(&list).expect("encodes");
    assert_eq!(bytes[0], 0xdc, "values keep the form of a list");
    let numbers: Vec<u8> = (0..100).collect();
    assert_eq!(both::<Vec<u8>>(&bytes), numbers);
    assert_eq!(both::<Vec<u64>>(&bytes)[99], 99);
    let narrow: Vec<u16> = (0..100).collect();
    let bytes = codec::to_vec(&narrow).expect("encodes");
    assert_eq!(both::<Vec<i64>>(&bytes)[99], 99);
    assert_eq!(both::<Vec<f32>>(&bytes)[99], 99.0);
    let bytes = codec::to_vec(&vec![300_u16; 40]).expect("encodes");
    let refused = codec::from_slice::<Whole<Vec<u8>>>(&bytes).map(|Whole(value)| value);
    assert!(refused.is_err(), "300 is no byte");
}

#[test]
fn a_value_without_a_type_sees_a_list() {
    let bytes = codec::to_vec(&vec![1.5_f64; 40]).expect("encodes");
    let value: Value = codec::from_slice(&bytes).expect("is read");
    assert_eq!(value.as_list().map(<[Value]>::len), Some(40));
    assert_eq!(value.at(39), Some(&Value::from(1.5)));
    assert!(
        codec::to_vec(&Value::Ext(4, vec![8])).is_err(),
        "it would be read as a list"
    );
}

#[test]
fn slices_of_bytes_are_borrowed() {
    let bytes = codec::to_vec(&vec![7_u8; 1000]).expect("encodes");
    let items: Items<'_, u8> = codec::from_slice(&bytes).expect("is read");
    assert!(bytes.as_ptr_range().contains(&items.as_slice().as_ptr()));
    assert_eq!(items.as_slice(), [7; 1000]);
    let of_list = codec::to_vec(&vec![Value::from(3), Value::from(4)]).expect("encodes");
    let items: Items<'_, u8> = codec::from_slice(&of_list).expect("is read");
    assert_eq!(items.as_slice(), [3, 4]);
    let bytes = codec::to_vec(&vec![0.5_f64; 1000]).expect("encodes");
    let items: Items<'_, f64> = codec::from_slice(&bytes).expect("is read");
    assert_eq!(items.as_slice(), [0.5; 1000]);
    let text = codec::to_vec("text").expect("encodes");
    assert!(codec::from_slice::<Items<'_, u8>>(&text).is_err());
}

#[test]
fn what_is_inside_something_else_has_the_same_form() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Picture {
        pixels: Vec<u8>,
        weights: Vec<f32>,
        rows: Vec<Vec<u8>>,
        some: Option<Option<Vec<u16>>>,
    }
    let picture = Picture {
        pixels: vec![1; 300],
        weights: vec![0.5; 300],
        rows: vec![vec![200; 40]; 3],
        some: Some(Some(vec![9; 40])),
    };
    goes_and_comes(&picture, &[0x84]);
    // Serde keeps the content of these in a form of its own.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Numbers(Vec<i32>),
        Bytes(Vec<u8>),
    }
    goes_and_comes(&Either::Numbers(vec![-1; 40]), &[0xc8 - 1]);
    goes_and_comes(&Either::Numbers(vec![-1; 400]), &[0xc8]);
}

/// An iterator that does not keep to what it says.
struct Liar(usize);

impl Iterator for Liar {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0 = self.0.checked_sub(1)?;
        Some(5)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (50, Some(50))
    }
}

#[test]
fn the_length_is_right_whatever_an_iterator_says() {
    use serde::Serializer;
    for count in [0, 1, 49, 50, 51, 1000] {
        let mut bytes = Vec::new();
        let mut encoder = codec::Encoder::new(&mut bytes);
        encoder.collect_seq(Liar(count)).expect("encodes");
        assert_eq!(both::<Vec<u32>>(&bytes), vec![5; count]);
    }
}
