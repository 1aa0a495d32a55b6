//! How the types of std cross.

use super::{Choice, Crossing, Direct, Either, Held, Opt, OwnText, Row, Run, Scalar};
use crate::abi::{List, Text};

/// Scalars: as they are.
struct AsItIs;

impl<T: Scalar> Crossing<T> for AsItIs {
    type Abi = T;
    type Lent<'a> = T;

    #[inline]
    fn into_abi(value: T) -> T {
        value
    }

    #[inline]
    fn from_abi(abi: T) -> T {
        abi
    }

    #[inline]
    fn lend(value: &T) -> T {
        *value
    }

    #[inline]
    fn take(lent: T) -> T {
        lent
    }

    #[inline]
    fn lend_run(values: &[T]) -> Run<'_, T> {
        Run::plain(values)
    }

    fn take_run(run: Run<'_, T>) -> Vec<T> {
        match run.as_plain() {
            Some(items) => items.to_vec(),
            None => run.collect(Self::take),
        }
    }

    #[inline]
    fn hold_run<'a>(run: Run<'a, T>) -> Held<'a, T> {
        match run.as_plain() {
            Some(items) => Held::Lent(items),
            None => Held::Own(run.collect(Self::take)),
        }
    }

    #[inline]
    fn list_into_abi(values: Vec<T>) -> List<T> {
        values.into()
    }

    #[inline]
    fn list_from_abi(list: List<T>) -> Vec<T> {
        list.into_vec()
    }
}

macro_rules! scalars {
    ($($ty:ty)*) => {$(
        impl Scalar for $ty {}

        impl<Depth> Direct<Depth> for $ty {
            #[inline]
            fn crossing() -> impl Crossing<Self> {
                AsItIs
            }
        }
    )*};
}

scalars!(bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64);

/// The unit: a byte that says nothing.
struct AsByte;

impl Crossing<()> for AsByte {
    type Abi = u8;
    type Lent<'a> = u8;

    #[inline]
    fn into_abi((): ()) -> u8 {
        0
    }

    #[inline]
    fn from_abi(_: u8) {}

    #[inline]
    fn lend((): &()) -> u8 {
        0
    }

    #[inline]
    fn take(_: u8) {}
}

impl<Depth> Direct<Depth> for () {
    #[inline]
    fn crossing() -> impl Crossing<Self> {
        AsByte
    }
}

/// Text.
struct AsText;

impl Crossing<String> for AsText {
    type Abi = OwnText;
    type Lent<'a> = Text<'a>;

    #[inline]
    fn into_abi(value: String) -> OwnText {
        value.into()
    }

    #[inline]
    fn from_abi(abi: OwnText) -> String {
        abi.into()
    }

    #[inline]
    fn lend(value: &String) -> Text<'_> {
        value.as_str().into()
    }

    #[inline]
    fn take(lent: Text<'_>) -> String {
        lent.as_str().to_owned()
    }
}

impl<Depth> Direct<Depth> for String {
    #[inline]
    fn crossing() -> impl Crossing<Self> {
        AsText
    }
}

/// A list of what crosses as `C`.
struct AsList<C>(C);

impl<T: 'static, C: Crossing<T>> Crossing<Vec<T>> for AsList<C> {
    type Abi = List<C::Abi>;
    type Lent<'a> = Run<'a, C::Lent<'a>>;

    #[inline]
    fn into_abi(value: Vec<T>) -> Self::Abi {
        C::list_into_abi(value)
    }

    #[inline]
    fn from_abi(abi: Self::Abi) -> Vec<T> {
        C::list_from_abi(abi)
    }

    #[inline]
    fn lend(value: &Vec<T>) -> Self::Lent<'_> {
        C::lend_run(value)
    }

    #[inline]
    fn take(lent: Self::Lent<'_>) -> Vec<T> {
        C::take_run(lent)
    }
}

/// What may be missing, else crosses as `C`.
struct AsOption<C>(C);

impl<T: 'static, C: Crossing<T>> Crossing<Option<T>> for AsOption<C> {
    type Abi = Opt<C::Abi>;
    type Lent<'a> = Opt<C::Lent<'a>>;

    #[inline]
    fn into_abi(value: Option<T>) -> Self::Abi {
        value.map(C::into_abi).into()
    }

    #[inline]
    fn from_abi(abi: Self::Abi) -> Option<T> {
        Option::from(abi).map(C::from_abi)
    }

    #[inline]
    fn lend(value: &Option<T>) -> Self::Lent<'_> {
        value.as_ref().map(C::lend).into()
    }

    #[inline]
    fn take(lent: Self::Lent<'_>) -> Option<T> {
        Option::from(lent).map(C::take)
    }
}

/// A box: as what is in it.
struct AsInner<C>(C);

impl<T: 'static, C: Crossing<T>> Crossing<Box<T>> for AsInner<C> {
    type Abi = C::Abi;
    type Lent<'a> = C::Lent<'a>;

    #[inline]
    fn into_abi(value: Box<T>) -> Self::Abi {
        C::into_abi(*value)
    }

    #[inline]
    fn from_abi(abi: Self::Abi) -> Box<T> {
        Box::new(C::from_abi(abi))
    }

    #[inline]
    fn lend(value: &Box<T>) -> Self::Lent<'_> {
        C::lend(value)
    }

    #[inline]
    fn take(lent: Self::Lent<'_>) -> Box<T> {
        Box::new(C::take(lent))
    }
}

macro_rules! containers {
    ($($ty:ty => $crossing:ident),* $(,)?) => {$(
        impl<Depth: 'static, T: Direct<Depth>> Direct<Depth> for $ty {
            #[inline]
            fn crossing() -> impl Crossing<Self> {
                $crossing(T::crossing())
            }
        }
    )*};
}

containers!(Vec<T> => AsList, Option<T> => AsOption, Box<T> => AsInner);

/// An array of what crosses as `C`.
struct AsRow<C>(C);

impl<T: 'static, C: Crossing<T>, const N: usize> Crossing<[T; N]> for AsRow<C> {
    type Abi = Row<C::Abi, N>;
    type Lent<'a> = Row<C::Lent<'a>, N>;

    #[inline]
    fn into_abi(value: [T; N]) -> Self::Abi {
        Row {
            items: value.map(C::into_abi),
        }
    }

    #[inline]
    fn from_abi(abi: Self::Abi) -> [T; N] {
        abi.items.map(C::from_abi)
    }

    #[inline]
    fn lend(value: &[T; N]) -> Self::Lent<'_> {
        Row {
            items: value.each_ref().map(C::lend),
        }
    }

    #[inline]
    fn take(lent: Self::Lent<'_>) -> [T; N] {
        lent.items.map(C::take)
    }
}

impl<Depth: 'static, T: Direct<Depth>, const N: usize> Direct<Depth> for [T; N] {
    #[inline]
    fn crossing() -> impl Crossing<Self> {
        AsRow(T::crossing())
    }
}

/// A result, as data: one of two.
struct AsResult<A, B>(A, B);

impl<T: 'static, E: 'static, A: Crossing<T>, B: Crossing<E>> Crossing<Result<T, E>>
    for AsResult<A, B>
{
    type Abi = Choice<A::Abi, B::Abi>;
    type Lent<'a> = Choice<A::Lent<'a>, B::Lent<'a>>;

    #[inline]
    fn into_abi(value: Result<T, E>) -> Self::Abi {
        match value {
            Ok(value) => Choice::left(A::into_abi(value)),
            Err(error) => Choice::right(B::into_abi(error)),
        }
    }

    #[inline]
    fn from_abi(abi: Self::Abi) -> Result<T, E> {
        match abi.either() {
            Either::Left(value) => Ok(A::from_abi(value)),
            Either::Right(error) => Err(B::from_abi(error)),
        }
    }

    #[inline]
    fn lend(value: &Result<T, E>) -> Self::Lent<'_> {
        match value {
            Ok(value) => Choice::left(A::lend(value)),
            Err(error) => Choice::right(B::lend(error)),
        }
    }

    #[inline]
    fn take(lent: Self::Lent<'_>) -> Result<T, E> {
        match lent.either() {
            Either::Left(value) => Ok(A::take(value)),
            Either::Right(error) => Err(B::take(error)),
        }
    }
}

impl<Depth: 'static, T: Direct<Depth>, E: Direct<Depth>> Direct<Depth> for Result<T, E> {
    #[inline]
    fn crossing() -> impl Crossing<Self> {
        AsResult(T::crossing(), E::crossing())
    }
}
