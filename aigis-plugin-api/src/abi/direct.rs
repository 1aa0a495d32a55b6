//! Typed entries: a call across the boundary without serialisation.
//!
//! A skill has a direct entry when every parameter is a [`DirectArg`] and its result is [`Direct`].
//! The form of each parameter follows from its shape alone, so equal signature ids mean equal
//! function types on both sides, whoever wrote `&str` and whoever `String`.

use std::ffi::c_void;
use std::mem::{self, MaybeUninit};

use super::{Buffer, List, Slice, Status, Text};
use crate::arguments::{Mode, Modes, Own, Ref};
use crate::error::Failure;
use crate::shape::{ShapeContext, SkillType};
use crate::signature::{Shape, Signature};
use crate::skill::SkillFn;

/// Plain values: their own ABI form, and copied as bytes in lists.
pub trait Scalar: SkillType + Copy + Send + 'static {}

macro_rules! scalars {
    ($($ty:ty),*) => {$(impl Scalar for $ty {})*};
}

scalars!(
    bool, char, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64
);

/// A result that can cross as it is.
pub trait Direct: SkillType + Sized {
    /// Its `repr(C)` form.
    type Abi;

    /// Hands the value over.
    fn into_abi(self) -> Self::Abi;

    /// Takes a value over; what the other side allocated is copied and freed by its maker.
    fn from_abi(abi: Self::Abi) -> Self;
}

macro_rules! direct_scalars {
    ($($ty:ty),*) => {$(
        impl Direct for $ty {
            type Abi = Self;

            fn into_abi(self) -> Self {
                self
            }

            fn from_abi(abi: Self) -> Self {
                abi
            }
        }
    )*};
}

direct_scalars!(
    bool, char, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64
);

impl Direct for () {
    type Abi = u8;

    fn into_abi(self) -> u8 {
        0
    }

    fn from_abi(_: u8) -> Self {}
}

impl Direct for String {
    type Abi = List<u8>;

    fn into_abi(self) -> List<u8> {
        self.into_bytes().into()
    }

    fn from_abi(abi: List<u8>) -> Self {
        // Checked, not assumed: the bytes came as bytes, and the check costs little next to the copy.
        match Self::from_utf8(abi.into_vec()) {
            Ok(text) => text,
            Err(error) => Self::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }
}

impl<T: Direct> Direct for Vec<T> {
    type Abi = List<T::Abi>;

    fn into_abi(self) -> Self::Abi {
        // For scalars this is the same allocation: std reuses it when the layouts agree.
        self.into_iter().map(T::into_abi).collect::<Vec<_>>().into()
    }

    fn from_abi(abi: Self::Abi) -> Self {
        abi.into_vec_with(T::from_abi)
    }
}

/// An `Option` with a fixed layout.
#[repr(C)]
pub struct Opt<T> {
    some: u8,
    value: MaybeUninit<T>,
}

impl<T> From<Option<T>> for Opt<T> {
    fn from(option: Option<T>) -> Self {
        match option {
            Some(value) => Self {
                some: 1,
                value: MaybeUninit::new(value),
            },
            None => Self {
                some: 0,
                value: MaybeUninit::uninit(),
            },
        }
    }
}

impl<T> From<Opt<T>> for Option<T> {
    fn from(opt: Opt<T>) -> Self {
        // SAFETY: the private fields are filled by `From<Option<T>>` alone, here or in a checked
        // library: the value is there when `some` is not zero, and `opt` is consumed.
        (opt.some != 0).then(|| unsafe { opt.value.assume_init() })
    }
}

impl<T: Direct> Direct for Option<T> {
    type Abi = Opt<T::Abi>;

    fn into_abi(self) -> Self::Abi {
        self.map(T::into_abi).into()
    }

    fn from_abi(abi: Self::Abi) -> Self {
        Option::from(abi).map(T::from_abi)
    }
}

/// Two values with a fixed layout.
#[repr(C)]
pub struct Both<A, B>(A, B);

impl<A: Direct, B: Direct> Direct for (A, B) {
    type Abi = Both<A::Abi, B::Abi>;

    fn into_abi(self) -> Self::Abi {
        Both(self.0.into_abi(), self.1.into_abi())
    }

    fn from_abi(abi: Self::Abi) -> Self {
        (A::from_abi(abi.0), B::from_abi(abi.1))
    }
}

impl<A: Direct, B: Direct, C: Direct> Direct for (A, B, C) {
    type Abi = Both<A::Abi, Both<B::Abi, C::Abi>>;

    fn into_abi(self) -> Self::Abi {
        Both(
            self.0.into_abi(),
            Both(self.1.into_abi(), self.2.into_abi()),
        )
    }

    fn from_abi(abi: Self::Abi) -> Self {
        let Both(a, Both(b, c)) = abi;
        (A::from_abi(a), B::from_abi(b), C::from_abi(c))
    }
}

/// A parameter that can cross as it is.
///
/// Text, bytes and lists of scalars are always lent, whether the skill takes them borrowed or owned.
pub trait DirectArg: Mode {
    /// Its `repr(C)` form.
    type Abi<'a>;
    /// What the skill's side keeps while the skill runs.
    type Kept<'a>;
    /// Has the parameter's shape; each shape has one `Abi`, which is what makes entries typed.
    type Type: SkillType + ?Sized;

    /// Lends the caller's value.
    fn lend<'a>(value: &'a Self::Value<'_>) -> Self::Abi<'a>;

    /// Receives it.
    fn keep(abi: Self::Abi<'_>) -> Self::Kept<'_>;

    /// Turns what was kept into the parameter's value. Called once.
    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> Self::Value<'s>;
}

impl<T: Scalar> DirectArg for Own<T> {
    type Abi<'a> = T;
    type Kept<'a> = T;
    type Type = T;

    fn lend<'a>(value: &'a Self::Value<'_>) -> Self::Abi<'a> {
        *value
    }

    fn keep(abi: Self::Abi<'_>) -> Self::Kept<'_> {
        abi
    }

    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> Self::Value<'s> {
        *kept
    }
}

impl<T: Scalar> DirectArg for Own<Option<T>> {
    type Abi<'a> = Opt<T>;
    type Kept<'a> = Option<T>;
    type Type = Option<T>;

    fn lend<'a>(value: &'a Self::Value<'_>) -> Self::Abi<'a> {
        (*value).into()
    }

    fn keep(abi: Self::Abi<'_>) -> Self::Kept<'_> {
        abi.into()
    }

    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> Self::Value<'s> {
        *kept
    }
}

impl DirectArg for Ref<str> {
    type Abi<'a> = Text<'a>;
    type Kept<'a> = &'a str;
    type Type = str;

    fn lend<'a>(value: &'a Self::Value<'_>) -> Self::Abi<'a> {
        (*value).into()
    }

    fn keep(abi: Self::Abi<'_>) -> Self::Kept<'_> {
        abi.as_str()
    }

    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> Self::Value<'s> {
        kept
    }
}

impl DirectArg for Own<String> {
    type Abi<'a> = Text<'a>;
    type Kept<'a> = String;
    type Type = str;

    fn lend<'a>(value: &'a Self::Value<'_>) -> Self::Abi<'a> {
        value.as_str().into()
    }

    fn keep(abi: Self::Abi<'_>) -> Self::Kept<'_> {
        abi.as_str().to_owned()
    }

    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> Self::Value<'s> {
        mem::take(kept)
    }
}

impl<T: Scalar> DirectArg for Ref<[T]> {
    type Abi<'a> = Slice<'a, T>;
    type Kept<'a> = &'a [T];
    type Type = [T];

    fn lend<'a>(value: &'a Self::Value<'_>) -> Self::Abi<'a> {
        (*value).into()
    }

    fn keep(abi: Self::Abi<'_>) -> Self::Kept<'_> {
        abi.as_slice()
    }

    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> Self::Value<'s> {
        kept
    }
}

impl<T: Scalar> DirectArg for Own<Vec<T>> {
    type Abi<'a> = Slice<'a, T>;
    type Kept<'a> = Vec<T>;
    type Type = [T];

    fn lend<'a>(value: &'a Self::Value<'_>) -> Self::Abi<'a> {
        value.as_slice().into()
    }

    fn keep(abi: Self::Abi<'_>) -> Self::Kept<'_> {
        abi.as_slice().to_vec()
    }

    fn value<'s>(kept: &'s mut Self::Kept<'_>) -> Self::Value<'s> {
        mem::take(kept)
    }
}

/// The skill's side: makes the typed entry of `S`.
pub trait DirectIn<S>: Modes {
    /// Returns the entry, a function of the type that [`DirectOut`] of the same modes calls; null
    /// unless `signature` says the same of the types as the types themselves.
    fn entry(signature: &Signature) -> *const c_void;
}

/// The caller's side: calls a typed entry.
pub trait DirectOut<R: Direct>: Modes {
    /// Tells whether `signature` says the same of the types as the types themselves.
    fn agrees(signature: &Signature) -> bool;

    /// Calls `entry` with the values.
    ///
    /// # Errors
    /// What the skill returned or how it panicked.
    ///
    /// # Safety
    /// `entry` came from [`DirectIn::entry`] of a skill whose signature id equals that of a signature
    /// that [agrees](Self::agrees), and its library stays loaded during the call.
    unsafe fn invoke(entry: *const c_void, values: Self::Values<'_>) -> Result<R, Failure>;
}

/// Runs the body of a direct entry and fills the caller's place.
fn run<R: Direct>(
    name: &'static str,
    out: &mut MaybeUninit<R::Abi>,
    error: &mut Buffer,
    body: impl FnOnce() -> Result<R, Failure>,
) -> Status {
    match crate::library::contain_entry(name, body) {
        Ok(value) => {
            out.write(value.into_abi());
            Status::Ok
        }
        Err(failure) => {
            *error = failure.encode().into();
            Status::Failed
        }
    }
}

/// Compares a signature, which a macro wrote down, with the types it was written for.
fn same_shapes(signature: &Signature, parameters: &[Shape], result: &Shape) -> bool {
    signature.result == *result
        && signature.parameters.len() == parameters.len()
        && signature
            .parameters
            .iter()
            .zip(parameters)
            .all(|(written, real)| written.shape == *real)
}

/// The type of a direct entry, as the caller sees it.
macro_rules! entry_type {
    ($result:ty; $($mode:ident $life:lifetime),*) => {
        for<$($life),*> extern "C" fn(
            $($mode::Abi<$life>,)*
            &mut MaybeUninit<<$result as Direct>::Abi>,
            &mut Buffer,
        ) -> Status
    };
}

macro_rules! direct_lists {
    ($(($($mode:ident $life:lifetime $name:ident $index:tt),*))*) => {$(
        impl<S, $($mode: DirectArg),*> DirectIn<S> for ($($mode,)*)
        where
            S: SkillFn<Args = Self>,
            S::Output: Direct,
        {
            fn entry(signature: &Signature) -> *const c_void {
                if !<Self as DirectOut<S::Output>>::agrees(signature) {
                    return std::ptr::null();
                }

                extern "C" fn enter<S, $($mode: DirectArg),*>(
                    $($name: $mode::Abi<'_>,)*
                    out: &mut MaybeUninit<<S::Output as Direct>::Abi>,
                    error: &mut Buffer,
                ) -> Status
                where
                    S: SkillFn<Args = ($($mode,)*)>,
                    S::Output: Direct,
                {
                    run::<S::Output>(S::NAME, out, error, || {
                        $(let mut $name = $mode::keep($name);)*
                        S::run(($($mode::value(&mut $name),)*))
                    })
                }

                let entry: entry_type!(S::Output; $($mode $life),*) = enter::<S, $($mode),*>;
                entry as *const c_void
            }
        }

        impl<R: Direct, $($mode: DirectArg),*> DirectOut<R> for ($($mode,)*) {
            fn agrees(signature: &Signature) -> bool {
                let mut _context = ShapeContext::default();
                same_shapes(
                    signature,
                    &[$($mode::Type::shape(&mut _context)),*],
                    &R::shape(&mut ShapeContext::default()),
                )
            }

            unsafe fn invoke(
                entry: *const c_void,
                values: Self::Values<'_>,
            ) -> Result<R, Failure> {
                let mut out = MaybeUninit::uninit();
                let mut error = Buffer::default();
                let ($($name,)*) = &values;
                // SAFETY: the caller promises that `entry` was made by `DirectIn::entry` for the
                // same signature id. The id fixes every parameter's and the result's `Abi`, so this
                // is the type the pointer was cast from.
                let call = unsafe {
                    mem::transmute::<*const c_void, entry_type!(R; $($mode $life),*)>(entry)
                };
                let status = call($($mode::lend($name),)* &mut out, &mut error);
                match status {
                    // SAFETY: an entry that returns `Ok` has written `out`; see `run`.
                    Status::Ok => Ok(R::from_abi(unsafe { out.assume_init() })),
                    Status::Failed | Status::Absent => Err(Failure::decode(error.as_slice())),
                }
            }
        }
    )*};
}

direct_lists! {
    ()
    (A 'a a 0)
    (A 'a a 0, B 'b b 1)
    (A 'a a 0, B 'b b 1, C 'c c 2)
    (A 'a a 0, B 'b b 1, C 'c c 2, D 'd d 3)
    (A 'a a 0, B 'b b 1, C 'c c 2, D 'd d 3, E 'e e 4)
    (A 'a a 0, B 'b b 1, C 'c c 2, D 'd d 3, E 'e e 4, F 'f f 5)
}
