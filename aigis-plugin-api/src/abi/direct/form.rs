//! How a value is laid out where it crosses, in words: the one thing two libraries must agree on.
//!
//! Both say it twice: once from the signature, of which the host compares the ids, and once from the
//! Rust types that the entry was compiled with. Only where the two are equal is there an entry, so no
//! macro, and no hand-written implementation of a safe trait, can make a wrong call.

use super::{Both, Choice, Opt, OwnText, Row, Run};
use crate::abi::{List, Text};
use crate::signature::{FieldShape, Shape};

/// A type that crosses by value.
///
/// # Safety
/// Types that write equal forms have equal layouts, are passed alike by `extern "C"` functions, and
/// what is valid for one is valid for the other.
pub unsafe trait Form {
    /// Writes its form.
    fn write(out: &mut String);
}

/// Returns the form of `T`.
pub(super) fn form<T: Form>() -> String {
    let mut out = String::new();
    T::write(&mut out);
    out
}

macro_rules! scalar_forms {
    ($($ty:ident)*) => {$(
        // SAFETY: the name is that of this type alone, whose layout the language defines.
        unsafe impl Form for $ty {
            fn write(out: &mut String) {
                out.push_str(stringify!($ty));
            }
        }
    )*};
}

scalar_forms!(bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64);

macro_rules! forms {
    ($([$($generic:tt)*] $ty:ty = $($part:expr),+;)*) => {$(
        // SAFETY: `repr(C)` with these parts in an order that the other words of the form fix.
        unsafe impl<$($generic)*> Form for $ty {
            fn write(out: &mut String) {
                $(Part::write($part, out);)+
            }
        }
    )*};
}

/// A piece of a form: words, or the form of an inner type.
enum Part {
    Words(&'static str),
    Inner(fn(&mut String)),
    Count(usize),
}

impl Part {
    fn write(self, out: &mut String) {
        match self {
            Self::Words(words) => out.push_str(words),
            Self::Inner(inner) => inner(out),
            Self::Count(count) => out.push_str(&count.to_string()),
        }
    }
}

use Part::{Count, Inner, Words};

forms! {
    [] Text<'_> = Words("&text");
    [] OwnText = Words("text");
    [T: Form] List<T> = Words("["), Inner(T::write), Words("]");
    [L: Form] Run<'_, L> = Words("&["), Inner(L::write), Words("]");
    [T: Form] Opt<T> = Words("?"), Inner(T::write);
    [A: Form, B: Form] Both<A, B>
        = Words("("), Inner(A::write), Words(","), Inner(B::write), Words(")");
    [A: Form, B: Form] Choice<A, B>
        = Words("("), Inner(A::write), Words("|"), Inner(B::write), Words(")");
    [T: Form, const N: usize] Row<T, N> = Words("{"), Inner(T::write), Words(";"), Count(N), Words("}");
}

/// Whether a value is handed over or lent.
#[derive(Clone, Copy)]
enum Way {
    Owned,
    Lent,
}

/// Returns the form in which a result of this shape crosses, if it has one.
pub(super) fn of_result(shape: &Shape) -> Option<String> {
    let mut out = String::new();
    of_shape(shape, Way::Owned, &mut out).then_some(out)
}

/// Returns the form in which a parameter of this shape crosses, if it has one.
pub(super) fn of_parameter(shape: &Shape) -> Option<String> {
    let mut out = String::new();
    of_shape(shape, Way::Lent, &mut out).then_some(out)
}

fn of_shape(shape: &Shape, way: Way, out: &mut String) -> bool {
    let lent = matches!(way, Way::Lent);
    let known = match shape {
        // What holds nothing is one byte, so that everything has a size.
        Shape::Unit => "u8",
        Shape::Text if lent => "&text",
        Shape::Text => "text",
        Shape::Bytes if lent => "&[u8]",
        Shape::Bytes => "[u8]",
        Shape::Option(inner) => {
            out.push('?');
            return of_shape(inner, way, out);
        }
        Shape::List(inner) => {
            out.push_str(if lent { "&[" } else { "[" });
            let known = of_shape(inner, way, out);
            out.push(']');
            return known;
        }
        Shape::Array(inner, len) => {
            out.push('{');
            let known = of_shape(inner, way, out);
            out.push_str(&format!(";{len}}}"));
            return known;
        }
        Shape::Tuple(items) => {
            return tree(items, ',', out, &mut |item, out| of_shape(item, way, out));
        }
        Shape::Struct(shape) => return of_fields(&shape.fields, way, out),
        Shape::Enum(shape) => {
            let variants = &shape.variants;
            return !variants.is_empty()
                && tree(variants, '|', out, &mut |variant, out| {
                    of_fields(&variant.fields, way, out)
                });
        }
        Shape::Result(ok, error) => {
            return tree(&[ok, error], '|', out, &mut |shape, out| {
                of_shape(shape, way, out)
            });
        }
        Shape::Map(..) | Shape::Recursive(_) | Shape::Opaque(_) => return false,
        scalar => match scalar.scalar_name() {
            Some(name) => name,
            None => return false,
        },
    };
    out.push_str(known);
    true
}

fn of_fields(fields: &[FieldShape], way: Way, out: &mut String) -> bool {
    tree(fields, ',', out, &mut |field, out| {
        of_shape(&field.shape, way, out)
    })
}

/// Writes items as a balanced tree of pairs, as the macros nest them.
fn tree<T>(
    items: &[T],
    between: char,
    out: &mut String,
    each: &mut impl FnMut(&T, &mut String) -> bool,
) -> bool {
    match items {
        [] => {
            out.push_str("u8");
            true
        }
        [item] => each(item, out),
        items => {
            let (first, second) = items.split_at(items.len() / 2);
            out.push('(');
            let known = tree(first, between, out, each);
            out.push(between);
            let known = known && tree(second, between, out, each);
            out.push(')');
            known
        }
    }
}
