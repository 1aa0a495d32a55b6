//! What `import!` makes of a declaration: the caller's side of a skill.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::abi::{self, DirectOut, Link, Producer};
use crate::arguments::{Encode, Modes};
use crate::backend::{self, Backend, Request, decode_result};
use crate::call::{Call, CallFuture};
use crate::error::{CallError, Failure};
use crate::library::{self, Pulled};
#[cfg(feature = "portable")]
use crate::portable::Place;
use crate::signature::Signature;
use crate::skill::refused;
use crate::stream::{BoxItems, Flow, Inflow, hear};

/// One imported function or constant; a static of the caller.
pub struct Import {
    link: Link,
    /// Where the skill's code is, for an import that asks for it.
    #[cfg(feature = "portable")]
    place: Option<Place>,
}

impl Import {
    /// Makes an import; it resolves at the first call.
    pub const fn new(name: &'static str, signature: fn() -> Signature) -> Self {
        Self {
            link: Link::new(name, signature),
            #[cfg(feature = "portable")]
            place: None,
        }
    }

    /// Makes an import that asks for the skill's code; without the feature `portable`, one like any
    /// other.
    pub const fn portable(name: &'static str, signature: fn() -> Signature) -> Self {
        Self {
            link: Link::new(name, signature),
            #[cfg(feature = "portable")]
            place: Some(Place::new()),
        }
    }

    /// Whether the skill's code is wanted.
    fn wants_code(&self) -> bool {
        #[cfg(feature = "portable")]
        return self.place.is_some();
        #[cfg(not(feature = "portable"))]
        false
    }

    /// Calls with encoded arguments, through whoever answers here.
    fn call_encoded(&self, arguments: &[u8], tail: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = Request {
            tail,
            ..self.request(arguments)
        };
        let outcome = match library::host() {
            Some(host) => host.call_skill(abi_request(&request, self.link.handle(host))),
            None => self.call_outside(&request),
        };
        outcome.map_err(|failure| failure.of_skill(self.link.name()))
    }

    /// Calls in a program.
    fn call_outside(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        #[cfg(feature = "portable")]
        if let Some(place) = &self.place
            && let Some(entrance) = place.entrance(&self.link)
        {
            return entrance.call(&request.whole_arguments());
        }
        backend::current()?.call(request)
    }

    /// Unpacks the failure of a direct call.
    #[cold]
    #[inline(never)]
    #[expect(
        clippy::boxed_local,
        reason = "out of line, so that the good way moves no failure"
    )]
    fn failed(&self, failure: Box<Failure>) -> Failure {
        failure.of_skill(self.link.name())
    }

    fn request<'a>(&'a self, arguments: &'a [u8]) -> Request<'a> {
        Request {
            name: self.link.name(),
            expected: Some(self.link.expected()),
            portable: self.wants_code(),
            arguments,
            tail: &[],
            timeout: None,
        }
    }

    fn start<A, R, E>(
        &self,
        values: &A::Values<'_>,
        error: fn(Failure) -> CallError<E>,
    ) -> Call<R, E>
    where
        A: Encode,
        R: DeserializeOwned + Send + 'static,
        E: Send + 'static,
    {
        let name = self.link.name();
        let (call, completer) = Call::pending(name);
        let done: abi::OnOutcome = Box::new(move |outcome| {
            let result = outcome.and_then(|bytes| decode_result(name, bytes));
            completer.complete(result.map_err(|failure| error(failure.of_skill(name))));
        });
        let arguments = match A::encode(values) {
            Ok(arguments) => arguments,
            Err(failure) => {
                done(Err(failure));
                return call;
            }
        };
        let request = self.request(&arguments);
        if let Some(host) = library::host() {
            let number = host.start_skill(abi_request(&request, self.link.handle(host)), done);
            call.cancel_with(Arc::new(move || host.cancel_call(number)));
            return call;
        }
        match backend::current() {
            Ok(backend) => {
                let number = backend.start(&request, done);
                // The call must not keep a session open that everybody else has left.
                let backend: std::sync::Weak<dyn Backend> = Arc::downgrade(&backend);
                call.cancel_with(Arc::new(move || {
                    if let Some(backend) = backend.upgrade() {
                        backend.cancel(number);
                    }
                }));
            }
            Err(failure) => done(Err(failure)),
        }
        call
    }
}

impl Import {
    /// Opens the skill: nothing is done before the first item is asked for.
    fn open<A: Encode>(&self, values: A::Values<'_>) -> Result<BoxItems, Failure> {
        let name = self.link.name();
        let arguments = A::encode(&values).map_err(|failure| failure.of_skill(name))?;
        let streams = A::streams(values);
        let flows = streams.into_iter().map(|items| Flow::of(name, items));
        let request = self.request(&arguments);
        if let Some(host) = library::host() {
            let producers: Vec<Producer> = flows.map(Producer::new).collect();
            let request = abi_request(&request, self.link.handle(host));
            let number = host.open_skill(request, &producers);
            return Ok(Box::new(Pulled::new(host, number)));
        }
        let streams = flows.map(|flow| Box::new(flow) as BoxItems).collect();
        Ok(backend::current()?.open(&request, streams))
    }
}

/// Opens an import with the modes `A` and the result `R`, one of which is a stream.
///
/// The macros call `(&OpenOf::<A, R>::NEW).call(&IMPORT, values)`; method resolution falls back to
/// [`Unheard`] where a type was refused by `crate::checks`.
pub struct OpenOf<A, R>(PhantomData<(A, R)>);

impl<A, R> OpenOf<A, R> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`OpenOf`].
pub trait ViaItems<A: Modes, R> {
    /// Opens the skill and waits until it has begun, or, where its result is no stream, for that.
    ///
    /// # Errors
    /// Whatever ended the call.
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure>;

    /// Opens the skill without waiting.
    fn start<E: Send + 'static>(
        &self,
        import: &Import,
        values: A::Values<'_>,
        error: fn(Failure) -> CallError<E>,
    ) -> Call<R, E>;
}

impl<A: Encode, R: Inflow> ViaItems<A, R> for OpenOf<A, R> {
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure> {
        let name = import.link.name();
        if backend::must_not_block() {
            return Err(backend::would_block(name));
        }
        R::wait(name, import.open::<A>(values)?)
    }

    fn start<E: Send + 'static>(
        &self,
        import: &Import,
        values: A::Values<'_>,
        error: fn(Failure) -> CallError<E>,
    ) -> Call<R, E> {
        let name = import.link.name();
        let (call, completer) = Call::pending(name);
        match import.open::<A>(values) {
            Ok(items) => {
                let done =
                    move |outcome: Result<R, Failure>| completer.complete(outcome.map_err(error));
                call.cancel_with(hear(name, items, done));
            }
            Err(failure) => completer.complete(Err(error(failure.of_skill(name)))),
        }
        call
    }
}

/// Serves [`OpenOf`] where a check has failed: such a crate is never built.
pub trait Unheard<A: Modes, R> {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure>;

    /// Refuses.
    ///
    /// # Panics
    /// Always.
    fn start<E>(
        &self,
        import: &Import,
        values: A::Values<'_>,
        error: fn(Failure) -> CallError<E>,
    ) -> Call<R, E>;
}

impl<A: Modes, R> Unheard<A, R> for &OpenOf<A, R> {
    fn call(&self, _: &Import, _: A::Values<'_>) -> Result<R, Failure> {
        Err(refused())
    }

    fn start<E>(&self, _: &Import, _: A::Values<'_>, _: fn(Failure) -> CallError<E>) -> Call<R, E> {
        unreachable!("{}", refused())
    }
}

/// Makes the ABI's form of a request.
pub(crate) fn abi_request<'a>(request: &Request<'a>, link: *const c_void) -> abi::Request<'a> {
    abi::Request {
        name: request.name.into(),
        link,
        arguments: request.arguments.into(),
        timeout_ms: request.timeout.map_or(0, |timeout| {
            u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
        }),
    }
}

/// Calls an import with the modes `A` and the result `R`.
///
/// The macros call `(&&&CallOf::<A, R>::NEW).call(&IMPORT, values)`; method resolution prefers
/// [`ViaEntry`], where every type has a direct form, to [`ViaBytes`], and falls back to [`Unserved`]
/// where a type was refused by `crate::checks`, so that the mistake is reported once.
pub struct CallOf<A, R>(PhantomData<(A, R)>);

impl<A, R> CallOf<A, R> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`CallOf`] where every type has a direct form.
pub trait ViaEntry<A: Modes, R> {
    /// Calls directly if the skill can be called so, else encoded.
    ///
    /// # Errors
    /// Whatever ended the call.
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure>;
}

impl<A, R> ViaEntry<A, R> for &&CallOf<A, R>
where
    A: DirectOut<R> + Encode,
    R: DeserializeOwned + Send + 'static,
{
    #[inline]
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure> {
        let Some(host) = library::host() else {
            #[cfg(feature = "portable")]
            if let Some(place) = &import.place {
                // The same as below, for code that was brought here.
                return match place.call_direct::<A, R>(&import.link, values) {
                    Ok(Ok(value)) => Ok(value),
                    Ok(Err(failure)) => Err(import.failed(failure)),
                    Err(values) => ViaBytes::<A, R>::call(*self, import, values),
                };
            }
            return ViaBytes::<A, R>::call(*self, import, values);
        };
        match import.link.call_direct::<A, R>(host, values) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => Err(import.failed(failure)),
            Err(values) => ViaBytes::<A, R>::call(*self, import, values),
        }
    }
}

/// Serves [`CallOf`] everywhere else, and started calls.
pub trait ViaBytes<A: Modes, R> {
    /// Calls with encoded arguments.
    ///
    /// # Errors
    /// Whatever ended the call.
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure>;

    /// Starts a call with encoded arguments.
    fn start<E: Send + 'static>(
        &self,
        import: &Import,
        values: &A::Values<'_>,
        error: fn(Failure) -> CallError<E>,
    ) -> Call<R, E>;
}

impl<A: Encode, R: DeserializeOwned + Send + 'static> ViaBytes<A, R> for &CallOf<A, R> {
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure> {
        // In a core they have to be in one piece.
        let encoded = if library::host().is_some() {
            A::encode(&values).map(|arguments| (arguments, &[][..]))
        } else {
            A::encode_apart(&values)
        };
        let (arguments, tail) = encoded.map_err(|failure| failure.of_skill(import.link.name()))?;
        let bytes = import.call_encoded(&arguments, tail)?;
        decode_result(import.link.name(), bytes)
    }

    fn start<E: Send + 'static>(
        &self,
        import: &Import,
        values: &A::Values<'_>,
        error: fn(Failure) -> CallError<E>,
    ) -> Call<R, E> {
        import.start::<A, R, E>(values, error)
    }
}

/// Serves [`CallOf`] where a check has failed: such a crate is never built.
pub trait Unserved<A: Modes, R> {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    fn call(&self, import: &Import, values: A::Values<'_>) -> Result<R, Failure>;

    /// Refuses.
    ///
    /// # Panics
    /// Always.
    fn start<E>(
        &self,
        import: &Import,
        values: &A::Values<'_>,
        error: fn(Failure) -> CallError<E>,
    ) -> Call<R, E>;
}

impl<A: Modes, R> Unserved<A, R> for CallOf<A, R> {
    fn call(&self, _: &Import, _: A::Values<'_>) -> Result<R, Failure> {
        Err(refused())
    }

    fn start<E>(
        &self,
        _: &Import,
        _: &A::Values<'_>,
        _: fn(Failure) -> CallError<E>,
    ) -> Call<R, E> {
        unreachable!("{}", refused())
    }
}

/// Makes the error of a call whose import states the author's error `E`.
///
/// The macros call `(&ErrorOf::<E>::NEW).read(failure)`; method resolution falls back to
/// [`Unreadable`] where `E` was refused by `crate::checks`.
pub struct ErrorOf<E>(PhantomData<E>);

impl<E> ErrorOf<E> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`ErrorOf`].
pub trait Readable<E> {
    /// Makes the error.
    fn read(&self, failure: Failure) -> CallError<E>;
}

impl<E: DeserializeOwned> Readable<E> for ErrorOf<E> {
    fn read(&self, failure: Failure) -> CallError<E> {
        CallError::typed(failure)
    }
}

/// Serves [`ErrorOf`] where a check has failed: such a crate is never built.
pub trait Unreadable<E> {
    /// Makes the error.
    fn read(&self, failure: Failure) -> CallError<E>;
}

impl<E> Unreadable<E> for &ErrorOf<E> {
    fn read(&self, failure: Failure) -> CallError<E> {
        CallError::new(failure, |_| None)
    }
}

/// Makes the error of a call whose import states no error; the macros use it.
pub fn untyped(failure: Failure) -> CallError {
    CallError::untyped(failure)
}

/// Makes the future of a call that was started; the macros use it.
pub fn future_of<T: Send + 'static, E: Send + 'static>(call: Call<T, E>) -> CallFuture<T, E> {
    CallFuture::new(call)
}
