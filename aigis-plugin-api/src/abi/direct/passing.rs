//! Parameters: lent by the caller, and kept by the skill's side while the skill runs.

use super::{Crossing, Deepest, Direct, Form, Held, Run};
use crate::abi::Text;
use crate::arguments::{Mode, Own, Ref};

/// A parameter that can cross as it is.
pub trait DirectArg: Mode + Sized {
    /// Returns the way it is passed.
    fn passing() -> impl Passing<Self>;
}

/// The way in which a parameter of mode `M` is passed.
pub trait Passing<M: Mode>: 'static {
    /// The form in which it is lent, the same for owned and borrowed ones.
    type Abi<'a>: Form;
    /// What the skill's side keeps while the skill runs.
    type Kept<'a>;

    /// Lends the caller's value.
    fn lend<'a>(value: &'a M::Value<'_>) -> Self::Abi<'a>;

    /// Receives it.
    fn keep<'a>(abi: Self::Abi<'a>) -> Self::Kept<'a>;

    /// Turns what was kept into the parameter's value. Called once.
    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> M::Value<'s>;
}

/// By value, as `C` crosses.
struct ByValue<C>(C);

impl<T: 'static, C: Crossing<T>> Passing<Own<T>> for ByValue<C> {
    type Abi<'a> = C::Lent<'a>;
    type Kept<'a> = Option<T>;

    #[inline]
    fn lend<'a>(value: &'a T) -> C::Lent<'a> {
        C::lend(value)
    }

    #[inline]
    fn keep<'a>(abi: Self::Abi<'a>) -> Self::Kept<'a> {
        Some(C::take(abi))
    }

    #[inline]
    fn value(kept: &mut Option<T>) -> T {
        kept.take().expect("a value is asked for once")
    }
}

impl<T: Direct<Deepest>> DirectArg for Own<T> {
    #[inline]
    fn passing() -> impl Passing<Self> {
        ByValue(T::crossing())
    }
}

/// By reference, as `C` crosses.
struct ByReference<C>(C);

impl<T: 'static, C: Crossing<T>> Passing<Ref<T>> for ByReference<C> {
    type Abi<'a> = C::Lent<'a>;
    type Kept<'a> = T;

    #[inline]
    fn lend<'a>(value: &'a &T) -> C::Lent<'a> {
        C::lend(value)
    }

    #[inline]
    fn keep<'a>(abi: Self::Abi<'a>) -> Self::Kept<'a> {
        C::take(abi)
    }

    #[inline]
    fn value(kept: &mut T) -> &T {
        kept
    }
}

impl<T: Direct<Deepest>> DirectArg for Ref<T> {
    #[inline]
    fn passing() -> impl Passing<Self> {
        ByReference(T::crossing())
    }
}

/// Borrowed text, where the caller has it.
struct ByText;

impl Passing<Ref<str>> for ByText {
    type Abi<'a> = Text<'a>;
    type Kept<'a> = &'a str;

    #[inline]
    fn lend<'a>(value: &'a &str) -> Text<'a> {
        (*value).into()
    }

    #[inline]
    fn keep<'a>(abi: Self::Abi<'a>) -> Self::Kept<'a> {
        abi.as_str()
    }

    #[inline]
    fn value<'s>(kept: &'s mut &str) -> &'s str {
        kept
    }
}

impl DirectArg for Ref<str> {
    #[inline]
    fn passing() -> impl Passing<Self> {
        ByText
    }
}

/// Several of what crosses as `C`; scalars where the caller has them.
struct ByRun<C>(C);

impl<T: 'static, C: Crossing<T>> Passing<Ref<[T]>> for ByRun<C> {
    type Abi<'a> = Run<'a, C::Lent<'a>>;
    type Kept<'a> = Held<'a, T>;

    #[inline]
    fn lend<'a>(value: &'a &[T]) -> Self::Abi<'a> {
        C::lend_run(value)
    }

    #[inline]
    fn keep<'a>(abi: Self::Abi<'a>) -> Self::Kept<'a> {
        C::hold_run(abi)
    }

    #[inline]
    fn value<'s>(kept: &'s mut Held<'_, T>) -> &'s [T] {
        kept.as_slice()
    }
}

impl<T: Direct<Deepest>> DirectArg for Ref<[T]> {
    #[inline]
    fn passing() -> impl Passing<Self> {
        ByRun(T::crossing())
    }
}
