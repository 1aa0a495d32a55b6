//! The functions themselves: made on the skill's side, called on the caller's.

use std::ffi::c_void;
use std::mem::{self, MaybeUninit};

use super::form::{self, form};
use super::parts::Returned;
use super::{Crossing, Deepest, Direct, DirectArg, Passing};
use crate::abi::{Buffer, Status};
use crate::arguments::{Mode, Modes};
use crate::error::Failure;
use crate::signature::Signature;
use crate::skill::SkillFn;

/// The skill's side: makes the typed entry of `S`.
pub trait DirectIn<S>: Modes {
    /// Returns the entry, a function of the type that [`DirectOut`] of the same modes calls; null
    /// unless the types have the forms that follow from `signature`.
    fn entry(signature: &Signature) -> *const c_void;
}

/// The caller's side: calls a typed entry.
pub trait DirectOut<R>: Modes {
    /// Tells whether the types have the forms that follow from `signature`.
    fn agrees(signature: &Signature) -> bool;

    /// Calls `entry` with the values.
    ///
    /// # Errors
    /// What the skill returned or how it panicked.
    ///
    /// # Safety
    /// `entry` came from [`DirectIn::entry`] of a skill whose signature id equals that of a signature
    /// that [agrees](Self::agrees), and its library stays loaded during the call.
    unsafe fn invoke(entry: *const c_void, values: Self::Values<'_>) -> Result<R, Box<Failure>>;
}

/// Writes a failure where the caller looks for it.
#[cold]
#[inline(never)]
fn fail(error: &mut MaybeUninit<Buffer>, failure: &Failure) {
    error.write(failure.encode().into());
}

/// Reads what `fail` has written.
#[cold]
#[inline(never)]
fn failed(error: Buffer) -> Box<Failure> {
    Box::new(Failure::decode(error.as_slice()))
}

/// Compares the forms of Rust types with those that follow from a signature.
fn agree(signature: &Signature, parameters: &[String], result: &String) -> bool {
    form::of_result(&signature.result).as_ref() == Some(result)
        && signature.parameters.len() == parameters.len()
        && (signature.parameters.iter().zip(parameters))
            .all(|(written, real)| form::of_parameter(&written.shape).as_ref() == Some(real))
}

/// The type of a direct entry, as the caller sees it.
macro_rules! entry_type {
    ($result:ty; $($passing:ident $life:lifetime),*) => {
        for<$($life),*> extern "C" fn(
            $($passing::Abi<$life>,)*
            &mut MaybeUninit<Buffer>,
        ) -> Returned<$result>
    };
}

macro_rules! direct_lists {
    ($(($($mode:ident $passing:ident $life:lifetime $name:ident),*))*) => {$(
        impl<S, $($mode: DirectArg),*> DirectIn<S> for ($($mode,)*)
        where
            S: SkillFn<Args = Self>,
            S::Output: Direct<Deepest>,
        {
            fn entry(signature: &Signature) -> *const c_void {
                #[allow(
                    clippy::too_many_arguments,
                    reason = "the parameters of a skill, of which there are up to eight"
                )]
                extern "C" fn enter<S, Out, $($mode, $passing),*>(
                    $($name: $passing::Abi<'_>,)*
                    error: &mut MaybeUninit<Buffer>,
                ) -> Returned<Out::Abi>
                where
                    $($mode: Mode, $passing: Passing<$mode>,)*
                    S: SkillFn<Args = ($($mode,)*)>,
                    S::Output: 'static,
                    Out: Crossing<S::Output>,
                {
                    let outcome = crate::library::contain_entry(S::NAME, || {
                        $(let mut $name = $passing::keep($name);)*
                        S::run(($($passing::value(&mut $name),)*)).map(Out::into_abi)
                    });
                    match outcome {
                        Ok(value) => Returned {
                            status: Status::Ok,
                            value: MaybeUninit::new(value),
                        },
                        Err(failure) => {
                            fail(error, &failure);
                            Returned {
                                status: Status::Failed,
                                value: MaybeUninit::uninit(),
                            }
                        }
                    }
                }

                fn of<S, Out, $($mode, $passing),*>(_: Out, _: ($($passing,)*)) -> *const c_void
                where
                    $($mode: Mode, $passing: Passing<$mode>,)*
                    S: SkillFn<Args = ($($mode,)*)>,
                    S::Output: 'static,
                    Out: Crossing<S::Output>,
                {
                    let entry: entry_type!(Out::Abi; $($passing $life),*)
                        = enter::<S, Out, $($mode, $passing),*>;
                    entry as *const c_void
                }

                if !<Self as DirectOut<S::Output>>::agrees(signature) {
                    return std::ptr::null();
                }
                of::<S, _, $($mode, _),*>(S::Output::crossing(), ($($mode::passing(),)*))
            }
        }

        impl<R: Direct<Deepest>, $($mode: DirectArg),*> DirectOut<R> for ($($mode,)*) {
            fn agrees(signature: &Signature) -> bool {
                fn of<R: 'static, Out: Crossing<R>, $($mode: Mode, $passing: Passing<$mode>),*>(
                    signature: &Signature,
                    _: Out,
                    _: ($($passing,)*),
                ) -> bool {
                    let parameters = [$(form::<$passing::Abi<'static>>()),*];
                    agree(signature, &parameters, &form::<Out::Abi>())
                }
                of::<R, _, $($mode, _),*>(signature, R::crossing(), ($($mode::passing(),)*))
            }

            #[inline]
            unsafe fn invoke(
                entry: *const c_void,
                values: Self::Values<'_>,
            ) -> Result<R, Box<Failure>> {
                #[inline(always)]
                unsafe fn of<R: 'static, Out: Crossing<R>, $($mode: Mode, $passing: Passing<$mode>),*>(
                    entry: *const c_void,
                    values: ($($mode::Value<'_>,)*),
                    _: Out,
                    _: ($($passing,)*),
                ) -> Result<R, Box<Failure>> {
                    let ($($name,)*) = &values;
                    let mut error = MaybeUninit::uninit();
                    // SAFETY: the caller promises that `entry` was made by `DirectIn::entry` for the
                    // same signature id. Equal ids mean equal shapes, which fix the forms of the
                    // result and of every parameter, and `agree` has found those forms in the types
                    // of that side and of this one: so this is the type the pointer was cast from.
                    let call = unsafe {
                        mem::transmute::<*const c_void, entry_type!(Out::Abi; $($passing $life),*)>(
                            entry,
                        )
                    };
                    let returned = call($($passing::lend($name),)* &mut error);
                    match returned.status {
                        // SAFETY: an entry that returns `Ok` has written the value; see `enter`.
                        Status::Ok => Ok(Out::from_abi(unsafe { returned.value.assume_init() })),
                        Status::Failed | Status::Absent => {
                            // SAFETY: an entry that does not has written the error; see `fail`.
                            let error = unsafe { error.assume_init() };
                            Err(failed(error))
                        }
                    }
                }
                // SAFETY: the caller's promise is passed on.
                unsafe {
                    of::<R, _, $($mode, _),*>(entry, values, R::crossing(), ($($mode::passing(),)*))
                }
            }
        }
    )*};
}

direct_lists! {
    ()
    (A PA 'a a)
    (A PA 'a a, B PB 'b b)
    (A PA 'a a, B PB 'b b, C PC 'c c)
    (A PA 'a a, B PB 'b b, C PC 'c c, D PD 'd d)
    (A PA 'a a, B PB 'b b, C PC 'c c, D PD 'd d, E PE 'e e)
    (A PA 'a a, B PB 'b b, C PC 'c c, D PD 'd d, E PE 'e e, F PF 'f f)
    (A PA 'a a, B PB 'b b, C PC 'c c, D PD 'd d, E PE 'e e, F PF 'f f, G PG 'g g)
    (A PA 'a a, B PB 'b b, C PC 'c c, D PD 'd d, E PE 'e e, F PF 'f f, G PG 'g g, H PH 'h h)
}
