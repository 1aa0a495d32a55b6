//! Typed entries: a call across the boundary without serialisation.
//!
//! Scalars, text, bytes, options, lists, arrays, tuples, results and boxes have a direct form, and so
//! have structs and enums with `#[skill_type]` of such parts, unless they contain themselves. A skill
//! has a typed entry when all its parameters and its result have one. Results cross *owned*;
//! parameters are *lent*, whether the skill takes them by value or by reference.
//!
//! Which form a value crosses in follows from its [`Shape`](crate::signature::Shape) alone, and
//! every entry and every import proves it (`form`): so equal signature ids mean equal function types
//! on both sides, whoever wrote `&str` and whoever `String`.
//!
//! - `form`: forms in words, from signatures and from Rust types
//! - `parts`: the `repr(C)` types
//! - `values`, `tuples`: the types of std
//! - `passing`: parameters, by value and by reference
//! - `entry`: the functions themselves, on both sides

mod entry;
mod form;
mod parts;
mod passing;
mod tuples;
mod values;

use std::marker::PhantomData;

use super::List;

pub use entry::{DirectIn, DirectOut};
pub use form::Form;
pub(super) use parts::LAYOUTS;
pub use parts::{Both, Choice, Either, Run};
use parts::{Opt, OwnText, Row};
pub use passing::DirectArg;
use passing::Passing;

/// Plain values: their own ABI form, and copied as bytes in lists.
pub trait Scalar: Form + Copy + Send + 'static {}

/// A type that can cross as it is, with at most `Depth` structs and enums inside each other.
///
/// The depth is what makes the question decidable: a type that contains itself, by whatever way, has
/// no depth, so it is simply not direct, where without the parameter the compiler would go round in
/// circles. And an `impl` with a parameter may ask of a field's type what it does not have.
pub trait Direct<Depth>: Sized + 'static {
    /// Returns the way it crosses.
    ///
    /// It is a function and no associated type, because that could not name a private type of a
    /// field.
    fn crossing() -> impl Crossing<Self>;
}

/// One level more than `Depth`.
pub struct Nested<Depth>(PhantomData<Depth>);

/// No structs and enums at all.
pub struct Flat;

type Four<Depth> = Nested<Nested<Nested<Nested<Depth>>>>;

/// The deepest types that still cross directly: sixteen structs and enums inside each other.
pub type Deepest = Four<Four<Four<Four<Flat>>>>;

/// The way in which values of type `T` cross.
///
/// What an implementation says is never trusted: its forms are compared with the signature.
pub trait Crossing<T: 'static>: Sized + 'static {
    /// The form in which it is handed over.
    type Abi: Form;
    /// The form in which it is lent.
    type Lent<'a>: Form;

    /// Hands a value over.
    fn into_abi(value: T) -> Self::Abi;

    /// Takes a value over.
    fn from_abi(abi: Self::Abi) -> T;

    /// Lends a value.
    fn lend(value: &T) -> Self::Lent<'_>;

    /// Makes a value of one's own from what is lent.
    fn take(lent: Self::Lent<'_>) -> T;

    /// Lends several.
    #[inline]
    fn lend_run(values: &[T]) -> Run<'_, Self::Lent<'_>> {
        Run::each::<T, Self>(values)
    }

    /// Makes a list of one's own from what is lent.
    fn take_run(run: Run<'_, Self::Lent<'_>>) -> Vec<T> {
        run.collect(Self::take)
    }

    /// Keeps several while a skill runs, where they are if that can be.
    fn hold_run<'a>(run: Run<'a, Self::Lent<'a>>) -> Held<'a, T> {
        Held::Own(Self::take_run(run))
    }

    /// Hands a list over.
    fn list_into_abi(values: Vec<T>) -> List<Self::Abi> {
        // The same allocation, wherever std can reuse it.
        values
            .into_iter()
            .map(Self::into_abi)
            .collect::<Vec<_>>()
            .into()
    }

    /// Takes a list over.
    fn list_from_abi(list: List<Self::Abi>) -> Vec<T> {
        list.into_vec().into_iter().map(Self::from_abi).collect()
    }
}

/// A list of the caller's, or a copy of it.
pub enum Held<'a, T> {
    /// Where the caller has it.
    Lent(&'a [T]),
    /// The copy.
    Own(Vec<T>),
}

impl<T> Held<'_, T> {
    #[inline]
    fn as_slice(&self) -> &[T] {
        match self {
            Self::Lent(items) => items,
            Self::Own(items) => items,
        }
    }
}
