//! From Rust types to [`Shape`]s.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::marker::PhantomData;

use crate::signature::Shape;
use crate::stream::Stream;

/// A type whose structure is part of the signatures it appears in.
///
/// Implemented for scalars, text, bytes, options, sequences, maps, tuples and results of such
/// types; `#[skill_type]` implements it for structs and enums. Any other serde type can be used in
/// a skill too: it is known by its path alone.
///
/// ```
/// use aigis_plugin_api::{SkillType, ShapeContext, skill_type};
///
/// #[skill_type]
/// struct Point { x: f64, y: f64 }
///
/// let shape = <Vec<Point>>::shape(&mut ShapeContext::default());
/// assert_eq!(shape.to_string(), "Vec<Point>");
/// ```
pub trait SkillType {
    /// Returns the structure of the type.
    fn shape(context: &mut ShapeContext) -> Shape;
}

/// The types on the way from the outermost to the one being described: a type that comes up again
/// inside itself is named, not described for ever.
///
/// ```
/// use aigis_plugin_api::{ShapeContext, SkillType};
///
/// let mut context = ShapeContext::default();
/// assert_eq!(u8::shape(&mut context).to_string(), "u8");
/// ```
#[derive(Debug, Default)]
pub struct ShapeContext {
    open: Vec<&'static str>,
}

impl ShapeContext {
    /// Describes the named type `path` through `describe`, unless it is being described already.
    ///
    /// ```
    /// use aigis_plugin_api::{ShapeContext, signature::Shape};
    ///
    /// let shape = ShapeContext::default()
    ///     .named("a::Tree", |context| context.named("a::Tree", |_| unreachable!()));
    /// assert_eq!(shape, Shape::Recursive("a::Tree".into()));
    /// ```
    pub fn named(
        &mut self,
        path: &'static str,
        describe: impl FnOnce(&mut Self) -> Shape,
    ) -> Shape {
        if self.open.contains(&path) {
            return Shape::Recursive(path.to_owned());
        }
        self.open.push(path);
        let shape = describe(self);
        self.open.pop();
        shape
    }
}

macro_rules! scalars {
    ($($ty:ty => $shape:ident),* $(,)?) => {$(
        impl SkillType for $ty {
            fn shape(_: &mut ShapeContext) -> Shape {
                Shape::$shape
            }
        }
    )*};
}

scalars! {
    () => Unit, bool => Bool, char => Char,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64, i128 => I128, isize => Isize,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, u128 => U128, usize => Usize,
    f32 => F32, f64 => F64, str => Text, String => Text,
}

macro_rules! transparent {
    ($($ty:ty),* $(,)?) => {$(
        impl<T: SkillType + ?Sized> SkillType for $ty {
            fn shape(context: &mut ShapeContext) -> Shape {
                T::shape(context)
            }
        }
    )*};
}

transparent!(&T, &mut T, Box<T>);

macro_rules! lists {
    ($($ty:ty),* $(,)?) => {$(
        impl<T: SkillType> SkillType for $ty {
            fn shape(context: &mut ShapeContext) -> Shape {
                Shape::list(T::shape(context))
            }
        }
    )*};
}

lists!([T], Vec<T>, VecDeque<T>, BTreeSet<T>);

impl<T: SkillType, S> SkillType for HashSet<T, S> {
    fn shape(context: &mut ShapeContext) -> Shape {
        Shape::list(T::shape(context))
    }
}

impl<T: SkillType> SkillType for Stream<T> {
    fn shape(context: &mut ShapeContext) -> Shape {
        Shape::Stream(Box::new(T::shape(context)))
    }
}

impl<T: SkillType> SkillType for Option<T> {
    fn shape(context: &mut ShapeContext) -> Shape {
        Shape::Option(Box::new(T::shape(context)))
    }
}

impl<T: SkillType, const N: usize> SkillType for [T; N] {
    fn shape(context: &mut ShapeContext) -> Shape {
        Shape::Array(Box::new(T::shape(context)), N)
    }
}

impl<K: SkillType, V: SkillType> SkillType for BTreeMap<K, V> {
    fn shape(context: &mut ShapeContext) -> Shape {
        Shape::Map(Box::new(K::shape(context)), Box::new(V::shape(context)))
    }
}

impl<K: SkillType, V: SkillType, S> SkillType for HashMap<K, V, S> {
    fn shape(context: &mut ShapeContext) -> Shape {
        Shape::Map(Box::new(K::shape(context)), Box::new(V::shape(context)))
    }
}

impl<T: SkillType, E: SkillType> SkillType for Result<T, E> {
    fn shape(context: &mut ShapeContext) -> Shape {
        Shape::Result(Box::new(T::shape(context)), Box::new(E::shape(context)))
    }
}

macro_rules! tuples {
    ($(($($t:ident),+))*) => {$(
        impl<$($t: SkillType),+> SkillType for ($($t,)+) {
            fn shape(context: &mut ShapeContext) -> Shape {
                Shape::Tuple(vec![$($t::shape(context)),+])
            }
        }
    )*};
}

tuples! {
    (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F)
    (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H)
}

/// Finds the shape of any type: its structure where it has one, else its path.
///
/// The macros call `(&ShapeOf::<T>::NEW).shape(context)`: method resolution prefers
/// [`Structural`], which needs no borrow of the receiver, and falls back to [`Opaque`].
pub struct ShapeOf<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> ShapeOf<T> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`ShapeOf`] for types with a structure.
pub trait Structural {
    /// Returns the structure.
    fn shape(&self, context: &mut ShapeContext) -> Shape;
}

impl<T: SkillType + ?Sized> Structural for ShapeOf<T> {
    fn shape(&self, context: &mut ShapeContext) -> Shape {
        T::shape(context)
    }
}

/// Serves [`ShapeOf`] for all other types.
pub trait Opaque {
    /// Returns the path as a shape.
    fn shape(&self, context: &mut ShapeContext) -> Shape;
}

impl<T: ?Sized> Opaque for &ShapeOf<T> {
    fn shape(&self, _: &mut ShapeContext) -> Shape {
        Shape::Opaque(std::any::type_name::<T>().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    macro_rules! shape_of {
        ($ty:ty) => {
            (&ShapeOf::<$ty>::NEW).shape(&mut ShapeContext::default())
        };
    }

    #[test]
    fn structure_is_preferred_to_the_path() {
        assert_eq!(shape_of!(Vec<u8>), Shape::Bytes);
        assert_eq!(shape_of!(&str), Shape::Text);
        assert!(matches!(shape_of!(Plain), Shape::Opaque(path) if path.ends_with("::Plain")));
    }
}
