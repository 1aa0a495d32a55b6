//! Signatures of skills: structural, comparable, readable.
//!
//! A plugin offers a [`Signature`] and a caller's `import!` expects one. Equal [ids](Signature::id)
//! mean the same names, types and fields; otherwise [`differences`] says whether, and why not, a
//! call made for the one can be served by the other.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The structure of a type, as far as it takes part in a signature.
///
/// ```
/// use aigis_plugin_api::signature::Shape;
///
/// let shape = Shape::List(Box::new(Shape::F64));
/// assert_eq!(shape.to_string(), "Vec<f64>");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the scalar variants say all there is to say")]
pub enum Shape {
    Unit,
    Bool,
    Char,
    I8,
    I16,
    I32,
    I64,
    I128,
    Isize,
    U8,
    U16,
    U32,
    U64,
    U128,
    Usize,
    F32,
    F64,
    /// Text, borrowed or owned.
    Text,
    /// A run of bytes, borrowed or owned.
    Bytes,
    /// A value that may be missing.
    Option(Box<Shape>),
    /// Any number of values of one type.
    List(Box<Shape>),
    /// A fixed number of values of one type.
    Array(Box<Shape>, usize),
    /// Values of several types.
    Tuple(Vec<Shape>),
    /// Keys and values.
    Map(Box<Shape>, Box<Shape>),
    /// A value or an error, as data.
    Result(Box<Shape>, Box<Shape>),
    /// A struct with `#[skill_type]`.
    Struct(StructShape),
    /// An enum with `#[skill_type]`.
    Enum(EnumShape),
    /// A type inside itself: the name of the struct or enum further out.
    Recursive(String),
    /// Any other serde type, known by its path alone.
    Opaque(String),
    /// Items that come one by one; only as a whole result or a whole parameter.
    Stream(Box<Shape>),
}

/// A struct's fields; a tuple struct names them `0`, `1`, ….
///
/// ```
/// use aigis_plugin_api::signature::{FieldShape, Shape, StructShape};
///
/// let point = StructShape {
///     name: "Point".into(),
///     fields: vec![FieldShape { name: "x".into(), shape: Shape::F64, optional: false }],
/// };
/// assert_eq!(Shape::Struct(point).to_string(), "Point");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StructShape {
    /// The type's own name, for people: it takes no part in comparisons.
    pub name: String,
    /// The fields in their order.
    pub fields: Vec<FieldShape>,
}

/// One field of a struct or of an enum's variant.
///
/// ```
/// use aigis_plugin_api::signature::{FieldShape, Shape};
///
/// let field = FieldShape { name: "x".into(), shape: Shape::F64, optional: false };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldShape {
    /// Its name in the encoded form.
    pub name: String,
    /// Its type.
    pub shape: Shape,
    /// Whether a sender may leave it out: an `Option`, or `#[serde(default)]`.
    pub optional: bool,
}

/// An enum's variants.
///
/// ```
/// use aigis_plugin_api::signature::{EnumShape, Shape, VariantShape};
///
/// let side = EnumShape {
///     name: "Side".into(),
///     variants: vec![VariantShape { name: "Left".into(), fields: vec![] }],
/// };
/// assert_eq!(Shape::Enum(side).to_string(), "Side");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumShape {
    /// The type's own name, for people: it takes no part in comparisons.
    pub name: String,
    /// The variants in their order.
    pub variants: Vec<VariantShape>,
}

/// One variant of an enum.
///
/// ```
/// use aigis_plugin_api::signature::VariantShape;
///
/// let left = VariantShape { name: "Left".into(), fields: vec![] };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantShape {
    /// Its name in the encoded form.
    pub name: String,
    /// What it holds.
    pub fields: Vec<FieldShape>,
}

/// One parameter of a skill.
///
/// ```
/// use aigis_plugin_api::signature::{Parameter, Shape};
///
/// let name = Parameter { name: "name".into(), shape: Shape::Text };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name in the source.
    pub name: String,
    /// Its type.
    pub shape: Shape,
}

/// The parameters and the result of a skill.
///
/// ```
/// use aigis_plugin_api::signature::{Parameter, Shape, Signature};
///
/// let signature = Signature {
///     parameters: vec![Parameter { name: "name".into(), shape: Shape::Text }],
///     result: Shape::Text,
///     error: None,
///     constant: false,
/// };
/// assert_eq!(signature.to_string(), "fn(name: &str) -> String");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The parameters in their order; injected ones are not among them.
    pub parameters: Vec<Parameter>,
    /// The result without the author's error.
    pub result: Shape,
    /// The name of the author's error type, for people: errors always travel encoded and name
    /// their type themselves, so it takes no part in comparisons.
    pub error: Option<String>,
    /// Whether it is a constant.
    pub constant: bool,
}

/// A stable hash of a signature.
///
/// ```
/// use aigis_plugin_api::signature::{Shape, Signature, SignatureId};
///
/// let signature = Signature { parameters: vec![], result: Shape::Unit, error: None, constant: false };
/// let id: SignatureId = signature.id();
/// ```
pub type SignatureId = [u8; 16];

impl Signature {
    /// Returns the stable hash of the parameters and the result: names, types and fields.
    pub fn id(&self) -> SignatureId {
        let mut hash = Fnv128::new();
        for parameter in &self.parameters {
            hash.text(&parameter.name);
            hash_shape(&parameter.shape, &mut hash);
        }
        hash.byte(0xff);
        hash_shape(&self.result, &mut hash);
        hash.finish()
    }

    /// Tells whether the result or a parameter is a stream, so that calls are opened.
    pub fn has_streams(&self) -> bool {
        let is_stream = |shape: &Shape| matches!(shape, Shape::Stream(_));
        is_stream(&self.result) || self.streams() > 0
    }

    /// Returns how many of the parameters are streams.
    pub fn streams(&self) -> usize {
        let shapes = self.parameters.iter().map(|parameter| &parameter.shape);
        shapes
            .filter(|shape| matches!(shape, Shape::Stream(_)))
            .count()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.constant {
            return write!(f, "const {}", self.result);
        }
        f.write_str("fn(")?;
        for (index, parameter) in self.parameters.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}: {}", parameter.name, Borrowed(&parameter.shape))?;
        }
        f.write_str(")")?;
        match (&self.result, &self.error) {
            (Shape::Unit, None) => Ok(()),
            (result, None) => write!(f, " -> {result}"),
            (result, Some(error)) => write!(f, " -> Result<{result}, {error}>"),
        }
    }
}

/// A shape as it is usually written for a parameter.
struct Borrowed<'a>(&'a Shape);

impl fmt::Display for Borrowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Shape::Text => f.write_str("&str"),
            Shape::Bytes => f.write_str("&[u8]"),
            other => other.fmt(f),
        }
    }
}

impl Shape {
    /// Makes the shape of a list; bytes have a shape of their own.
    pub fn list(item: Self) -> Self {
        match item {
            Self::U8 => Self::Bytes,
            item => Self::List(Box::new(item)),
        }
    }

    pub(crate) fn scalar_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unit => "()",
            Self::Bool => "bool",
            Self::Char => "char",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::Isize => "isize",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::Usize => "usize",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Text => "String",
            Self::Bytes => "Vec<u8>",
            _ => return None,
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(inner) => write!(f, "Option<{inner}>"),
            Self::List(inner) => write!(f, "Vec<{inner}>"),
            Self::Stream(item) => write!(f, "Stream<{item}>"),
            Self::Array(inner, len) => write!(f, "[{inner}; {len}]"),
            Self::Map(key, value) => write!(f, "Map<{key}, {value}>"),
            Self::Result(ok, error) => write!(f, "Result<{ok}, {error}>"),
            Self::Tuple(items) => {
                f.write_str("(")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str(if items.len() == 1 { ",)" } else { ")" })
            }
            Self::Struct(shape) => f.write_str(&shape.name),
            Self::Enum(shape) => f.write_str(&shape.name),
            Self::Recursive(name) | Self::Opaque(name) => {
                f.write_str(name.rsplit("::").next().unwrap_or(name))
            }
            scalar => f.write_str(scalar.scalar_name().unwrap_or("?")),
        }
    }
}

/// Tells why a call made for `expected` cannot be served by `offered`: one line a difference, none
/// when it can.
///
/// Names of parameters and types do not count. Of arguments the skill is the receiver, of the
/// result the caller is; a receiver may know fields that the sender lacks if they are optional,
/// ignores fields it does not know, and must know every variant that can be sent.
///
/// ```
/// use aigis_plugin_api::signature::{Shape, Signature, differences};
///
/// let gives = |result| Signature { parameters: vec![], result, error: None, constant: false };
/// assert_eq!(
///     differences(&gives(Shape::U8), &gives(Shape::Text)),
///     ["result: `u8` -> `String`"],
/// );
/// ```
pub fn differences(expected: &Signature, offered: &Signature) -> Vec<String> {
    let mut found = Vec::new();
    if expected.parameters.len() != offered.parameters.len() {
        found.push(format!(
            "{} parameters expected, {} offered",
            expected.parameters.len(),
            offered.parameters.len()
        ));
    }
    for (index, (sent, received)) in expected
        .parameters
        .iter()
        .zip(&offered.parameters)
        .enumerate()
    {
        let place = format!("parameter {} `{}`", index + 1, received.name);
        receive(&received.shape, &sent.shape, &place, true, &mut found);
    }
    receive(
        &expected.result,
        &offered.result,
        "result",
        false,
        &mut found,
    );
    found
}

/// Collects why a receiver of `receiver` cannot read what a sender of `sender` writes.
///
/// `arguments` only decides which side is printed as the expected one.
fn receive(receiver: &Shape, sender: &Shape, place: &str, arguments: bool, out: &mut Vec<String>) {
    use Shape::{Array, Enum, List, Map, Opaque, Option, Recursive, Result, Stream, Struct, Tuple};
    match (receiver, sender) {
        (Stream(r), Stream(s)) => receive(r, s, &format!("{place} items"), arguments, out),
        // How it comes is another matter than what it is.
        (Stream(_), _) | (_, Stream(_)) => differ(receiver, sender, place, arguments, out),
        // Nothing is known of an opaque type: the values decide, with an error of their own.
        (Opaque(_), _) | (_, Opaque(_)) | (Recursive(_), _) | (_, Recursive(_)) => {}
        (Option(r), Option(s)) => receive(r, s, &format!("{place}?"), arguments, out),
        (List(r), List(s)) => receive(r, s, &format!("{place}[]"), arguments, out),
        (Array(r, a), Array(s, b)) if a == b => {
            receive(r, s, &format!("{place}[]"), arguments, out);
        }
        (Map(rk, rv), Map(sk, sv)) => {
            receive(rk, sk, &format!("{place} keys"), arguments, out);
            receive(rv, sv, &format!("{place} values"), arguments, out);
        }
        (Result(ro, re), Result(so, se)) => {
            receive(ro, so, &format!("{place} Ok"), arguments, out);
            receive(re, se, &format!("{place} Err"), arguments, out);
        }
        (Tuple(r), Tuple(s)) if r.len() == s.len() => {
            for (index, (r, s)) in r.iter().zip(s).enumerate() {
                receive(r, s, &format!("{place}.{index}"), arguments, out);
            }
        }
        (Struct(r), Struct(s)) => fields(&r.fields, &s.fields, place, arguments, out),
        (Enum(r), Enum(s)) => {
            for variant in &s.variants {
                match r.variants.iter().find(|known| known.name == variant.name) {
                    Some(known) => fields(
                        &known.fields,
                        &variant.fields,
                        &format!("{place}::{}", variant.name),
                        arguments,
                        out,
                    ),
                    None => out.push(format!(
                        "{place}: variant `{}` can be sent, but its receiver does not know it",
                        variant.name
                    )),
                }
            }
        }
        (r, s) if r == s => {}
        (r, s) => differ(r, s, place, arguments, out),
    }
}

/// Notes that a receiver reads something else than what its sender writes.
fn differ(receiver: &Shape, sender: &Shape, place: &str, arguments: bool, out: &mut Vec<String>) {
    if arguments {
        let (expected, offered) = (Borrowed(sender), Borrowed(receiver));
        out.push(format!("{place}: `{expected}` -> `{offered}`"));
    } else {
        out.push(format!("{place}: `{receiver}` -> `{sender}`"));
    }
}

fn fields(
    receiver: &[FieldShape],
    sender: &[FieldShape],
    place: &str,
    arguments: bool,
    out: &mut Vec<String>,
) {
    for field in receiver {
        match sender.iter().find(|sent| sent.name == field.name) {
            Some(sent) => receive(
                &field.shape,
                &sent.shape,
                &format!("{place}.{}", field.name),
                arguments,
                out,
            ),
            None if field.optional => {}
            None => out.push(format!(
                "{place}.{}: needed (`{}`), but not sent",
                field.name, field.shape
            )),
        }
    }
}

fn hash_shape(shape: &Shape, hash: &mut Fnv128) {
    match shape {
        Shape::Option(inner) => {
            hash.text("option");
            hash_shape(inner, hash);
        }
        Shape::List(inner) => {
            hash.text("list");
            hash_shape(inner, hash);
        }
        Shape::Array(inner, len) => {
            hash.text("array");
            hash.number(*len);
            hash_shape(inner, hash);
        }
        Shape::Tuple(items) => {
            hash.text("tuple");
            hash.number(items.len());
            for item in items {
                hash_shape(item, hash);
            }
        }
        Shape::Map(key, value) => {
            hash.text("map");
            hash_shape(key, hash);
            hash_shape(value, hash);
        }
        Shape::Result(ok, error) => {
            hash.text("result");
            hash_shape(ok, hash);
            hash_shape(error, hash);
        }
        Shape::Struct(shape) => {
            hash.text("struct");
            hash_fields(&shape.fields, hash);
        }
        Shape::Enum(shape) => {
            hash.text("enum");
            hash.number(shape.variants.len());
            for variant in &shape.variants {
                hash.text(&variant.name);
                hash_fields(&variant.fields, hash);
            }
        }
        Shape::Recursive(_) => hash.text("recursive"),
        Shape::Opaque(path) => {
            hash.text("opaque");
            hash.text(path);
        }
        Shape::Stream(item) => {
            hash.text("stream");
            hash_shape(item, hash);
        }
        scalar => hash.text(scalar.scalar_name().unwrap_or("?")),
    }
}

fn hash_fields(fields: &[FieldShape], hash: &mut Fnv128) {
    hash.number(fields.len());
    for field in fields {
        hash.text(&field.name);
        hash.byte(u8::from(field.optional));
        hash_shape(&field.shape, hash);
    }
}

/// FNV-1a with 128 bits: stable for ever, and no dependency.
struct Fnv128(u128);

impl Fnv128 {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn byte(&mut self, byte: u8) {
        self.0 =
            (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }

    fn number(&mut self, number: usize) {
        for byte in (number as u64).to_le_bytes() {
            self.byte(byte);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        for byte in text.bytes() {
            self.byte(byte);
        }
    }

    fn finish(&self) -> SignatureId {
        self.0.to_le_bytes()
    }
}
