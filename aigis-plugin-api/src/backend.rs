//! Who answers a call: the core around this library, a session, or a host in this process.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abi::{OnOutcome, Producer};
use crate::codec;
use crate::error::{CallError, Failure, FailureKind, SkillFailure};
use crate::launch;
use crate::library;
use crate::logger::Logger;
use crate::session::{self, Session};
use crate::signature::{Signature, SignatureId, differences};
use crate::stream::items::failed;
use crate::stream::{BoxItems, Flow, Inflow, Stream};

/// One call by name, with encoded arguments.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The full name of the skill.
    pub name: &'a str,
    /// What the caller was compiled with; none without types.
    pub expected: Option<&'a Expected>,
    /// The caller wants the skill's code, where it is portable.
    pub portable: bool,
    /// Encoded arguments: an array by position or a map by name.
    pub arguments: &'a [u8],
    /// What follows them: the bytes that are the last argument, where they lay already.
    pub tail: &'a [u8],
    /// How long the caller waits; none for the backend's default.
    pub timeout: Option<Duration>,
}

impl Request<'_> {
    /// Returns the arguments with what follows them.
    pub fn whole_arguments(&self) -> Cow<'_, [u8]> {
        match self.tail {
            [] => self.arguments.into(),
            tail => [self.arguments, tail].concat().into(),
        }
    }
}

/// What an import expects of a skill.
#[derive(Debug)]
pub struct Expected {
    /// Its signature.
    pub signature: Signature,
    /// The id of the signature.
    pub id: SignatureId,
    /// Half the id of the signature that was last found to serve this one; at first its own.
    served_by: AtomicU64,
}

impl Expected {
    /// Makes the expectation of a skill with this signature.
    pub fn new(signature: Signature) -> Self {
        let id = signature.id();
        Self {
            signature,
            served_by: AtomicU64::new(half(&id)),
            id,
        }
    }

    /// Tells why a skill with the signature `offered`, whose id is `id`, cannot serve: one line a
    /// difference, none when it can. A skill that can is compared once, and not at every call.
    pub fn differences(&self, offered: &Signature, id: &SignatureId) -> Vec<String> {
        // Half an id will do: if two had the same half, values that do not fit would be refused a
        // little later, by whoever reads them.
        let id = half(id);
        if self.served_by.load(Ordering::Relaxed) == id {
            return Vec::new();
        }
        let found = differences(&self.signature, offered);
        if found.is_empty() {
            self.served_by.store(id, Ordering::Relaxed);
        }
        found
    }
}

impl Clone for Expected {
    fn clone(&self) -> Self {
        Self {
            signature: self.signature.clone(),
            id: self.id,
            served_by: AtomicU64::new(self.served_by.load(Ordering::Relaxed)),
        }
    }
}

/// Returns as much of an id as one word holds.
fn half(id: &SignatureId) -> u64 {
    u128::from_ne_bytes(*id) as u64
}

/// Something that answers calls.
pub trait Backend: Send + Sync {
    /// Calls and waits. Called on the caller's thread.
    ///
    /// # Errors
    /// Whatever ended the call.
    fn call(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure>;

    /// Starts a call and returns its number; `done` runs once, on any thread.
    fn start(&self, request: &Request<'_>, done: OnOutcome) -> u64;

    /// Opens a skill, which begins when the first item is asked for; `streams` are the arguments that
    /// are streams, in the order of the parameters. Before the items comes [`BEGUN`](crate::stream::BEGUN).
    /// A skill without a stream brings one item, its result.
    fn open(&self, request: &Request<'_>, streams: Vec<BoxItems>) -> BoxItems {
        drop(streams);
        let message = "whoever answers calls here knows no streams";
        failed(Failure::new(FailureKind::Refused, message).of_skill(request.name))
    }

    /// Gives up on a call: `done` runs with a "cancelled" failure unless it has run already.
    fn cancel(&self, call: u64);

    /// Returns the number of the session that this is, counted from 1.
    fn session(&self) -> u64 {
        OTHER
    }

    /// Returns the code of a skill that an import expects, if it was brought here.
    #[cfg(feature = "portable")]
    fn brought(&self, name: &str, expected: &Expected) -> Option<crate::portable::Brought> {
        let _ = (name, expected);
        None
    }
}

/// The number of a backend that is no session.
const OTHER: u64 = u64::MAX;

thread_local! {
    /// The hosts of the scopes that this thread is in, innermost last.
    static SCOPES: RefCell<Vec<Arc<dyn Backend>>> = const { RefCell::new(Vec::new()) };
    /// The number of the innermost one's session; 0 outside of all scopes. Apart from them, and
    /// without a destructor: a portable call looks at it.
    static SCOPE: Cell<u64> = const { Cell::new(0) };
    static NO_BLOCKING: Cell<bool> = const { Cell::new(false) };
}

/// The session of this process, once it has one.
static PROCESS: Mutex<Option<Session>> = Mutex::new(None);

/// Runs `body` with `backend` as the one that answers this thread's calls.
pub fn scope<R>(backend: Arc<dyn Backend>, body: impl FnOnce() -> R) -> R {
    /// Leaves the scope for the one around it, after a panic as well.
    struct Leave(u64);

    impl Drop for Leave {
        fn drop(&mut self) {
            SCOPE.set(self.0);
            SCOPES.with_borrow_mut(Vec::pop);
        }
    }

    let _leave = Leave(SCOPE.replace(backend.session()));
    SCOPES.with_borrow_mut(|scopes| scopes.push(backend));
    body()
}

/// Names the scope that this thread is in: by the number of its session, or 0 outside of all, where the
/// session of the process answers.
#[cfg(feature = "portable")]
#[inline]
pub(crate) fn scope_number() -> u64 {
    SCOPE.get()
}

/// Runs what completes a call on a thread that is not this library's: it must not wait there.
pub(crate) fn without_blocking(body: impl FnOnce()) {
    let before = NO_BLOCKING.replace(true);
    body();
    NO_BLOCKING.set(before);
}

pub(crate) fn must_not_block() -> bool {
    NO_BLOCKING.get()
}

pub(crate) fn would_block(skill: &str) -> Failure {
    Failure::new(
        FailureKind::WouldBlock,
        format!("waiting for {skill} here would block the thread that completes calls"),
    )
    .of_skill(skill)
}

/// Makes `session` the one that answers this process's calls.
pub(crate) fn set_process(session: Session) {
    *PROCESS.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
}

/// Returns who answers this thread's calls, outside a library.
///
/// # Errors
/// [`FailureKind::NotConnected`] with what to do.
pub(crate) fn current() -> Result<Arc<dyn Backend>, Failure> {
    if let Some(backend) = SCOPES.with_borrow(|scopes| scopes.last().cloned()) {
        return Ok(backend);
    }
    let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = &*process {
        return Ok(session.backend());
    }
    // A launched program that calls before, or without, `#[launch]`.
    let Some(grant) = session::from_environment()? else {
        return Err(Failure::new(
            FailureKind::NotConnected,
            "this thread has no host to ask: call from a skill, from a plugin that a core has \
             launched, or inside `aigis_plugin_api::connect(home)?.scope(…)`",
        ));
    };
    let session = Session::open(grant.address())?;
    let backend = session.backend();
    *process = Some(session.clone());
    // What the skills' constructors call goes there already.
    drop(process);
    if let Err(failure) = launch::serve_unlaunched(&session, grant.plugin) {
        Logger::to_stderr().error(failure);
    }
    Ok(backend)
}

/// Encodes the arguments of a call without types: a tuple, a list, a struct or a map; `()` for none.
pub(crate) fn encode_arguments(arguments: impl Serialize) -> Result<Vec<u8>, Failure> {
    const EMPTY: u8 = 0x90;
    let bytes = codec::to_vec(&arguments).map_err(|error| {
        Failure::new(
            FailureKind::Unserializable,
            format!("an argument cannot be encoded: {error}"),
        )
    })?;
    match bytes.first() {
        // nil: no arguments.
        Some(0xc0) => Ok(vec![EMPTY]),
        // An array or a map, in its short, 16-bit and 32-bit forms; or an array of bytes alone.
        Some(0x80..=0x9f | 0xdc..=0xdf | 0xc4..=0xc6) => Ok(bytes),
        _ => Err(Failure::new(
            FailureKind::Arguments,
            "arguments are a tuple by position, or a struct or map by name; \
             write `(value,)` for a single one",
        )),
    }
}

pub(crate) fn decode_result<T: DeserializeOwned + 'static>(
    name: &str,
    bytes: Vec<u8>,
) -> Result<T, Failure> {
    codec::from_vec(bytes).map_err(|error| {
        Failure::new(
            FailureKind::Unserializable,
            format!("the result is not what the caller expects: {error}"),
        )
        .of_skill(name)
    })
}

/// Calls a skill without types through `backend` and waits.
///
/// # Errors
/// Whatever ended the call.
pub fn call_by_name<T: DeserializeOwned + 'static>(
    backend: &dyn Backend,
    name: &str,
    arguments: impl Serialize,
    timeout: Option<Duration>,
) -> Result<T, Failure> {
    let arguments = encode_arguments(arguments).map_err(|failure| failure.of_skill(name))?;
    let request = Request {
        name,
        expected: None,
        portable: false,
        arguments: &arguments,
        tail: &[],
        timeout,
    };
    let bytes = backend.call(&request).map_err(|f| f.of_skill(name))?;
    decode_result(name, bytes)
}

/// The core around this library, as a backend.
struct Around;

impl Backend for Around {
    fn call(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        match library::host() {
            Some(host) => host.call_skill(crate::import::abi_request(request, std::ptr::null())),
            None => current()?.call(request),
        }
    }

    fn start(&self, request: &Request<'_>, done: OnOutcome) -> u64 {
        match library::host() {
            Some(host) => {
                host.start_skill(crate::import::abi_request(request, std::ptr::null()), done)
            }
            None => match current() {
                Ok(backend) => backend.start(request, done),
                Err(failure) => {
                    done(Err(failure));
                    0
                }
            },
        }
    }

    fn open(&self, request: &Request<'_>, streams: Vec<BoxItems>) -> BoxItems {
        let Some(host) = library::host() else {
            return match current() {
                Ok(backend) => backend.open(request, streams),
                Err(failure) => failed(failure),
            };
        };
        let flows = streams.into_iter().map(|items| Flow::of("a stream", items));
        let producers: Vec<Producer> = flows.map(Producer::new).collect();
        let request = crate::import::abi_request(request, std::ptr::null());
        Box::new(library::Pulled::new(
            host,
            host.open_skill(request, &producers),
        ))
    }

    fn cancel(&self, call: u64) {
        if let Some(host) = library::host() {
            host.cancel_call(call);
        }
    }
}

/// Calls a skill by name, without types, and waits. Arguments are a tuple by position, or a struct
/// or map by name; `()` for none.
///
/// ```no_run
/// use aigis_plugin_api as aigis;
///
/// let text: String = aigis::call("greeter.greet", ("zaltu",))?;
/// let limit: usize = aigis::call("greeter.MAX_NAME_LENGTH", ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Every [`CallError`]; the author's own error is a [`SkillFailure`].
pub fn call<T: DeserializeOwned + 'static>(
    name: &str,
    arguments: impl Serialize,
) -> Result<T, CallError<SkillFailure>> {
    call_by_name(&Around, name, arguments, None).map_err(CallError::dynamic)
}

/// Opens a skill by name through `backend`, and waits until it has begun.
///
/// # Errors
/// Whatever ended the call.
pub fn open_by_name<T: DeserializeOwned + Send + 'static>(
    backend: &dyn Backend,
    name: &str,
    arguments: impl Serialize,
    timeout: Option<Duration>,
) -> Result<Stream<T>, Failure> {
    if must_not_block() {
        return Err(would_block(name));
    }
    let arguments = encode_arguments(arguments).map_err(|failure| failure.of_skill(name))?;
    let request = Request {
        name,
        expected: None,
        arguments: &arguments,
        tail: &[],
        portable: false,
        timeout,
    };
    Stream::wait(name, backend.open(&request, Vec::new()))
}

/// Calls a skill whose result is a stream by name, without types, and waits until it has begun. Arguments
/// are given as to [`call`]; for a parameter that is a stream, a list of items. Of a skill whose result
/// is no stream, that is the only item.
///
/// ```no_run
/// use aigis_plugin_api as aigis;
///
/// for number in aigis::stream::<u64>("numbers.count", ())?.take(3) {
///     println!("{}", number?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Every [`CallError`]; the author's own error is a [`SkillFailure`].
pub fn stream<T: DeserializeOwned + Send + 'static>(
    name: &str,
    arguments: impl Serialize,
) -> Result<Stream<T>, CallError<SkillFailure>> {
    open_by_name(&Around, name, arguments, None).map_err(CallError::dynamic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Shape;

    fn gives(result: Shape) -> Signature {
        Signature {
            parameters: Vec::new(),
            result,
            error: None,
            constant: false,
        }
    }

    #[test]
    fn a_signature_that_serves_is_remembered_and_no_other() {
        let expected = Expected::new(gives(Shape::Opaque("caller::Record".into())));
        let compare = |offered: &Signature| expected.differences(offered, &offered.id());
        assert!(compare(&expected.signature.clone()).is_empty());

        let other = gives(Shape::Opaque("callee::Record".into()));
        assert_ne!(other.id(), expected.id);
        assert!(compare(&other).is_empty());
        assert_eq!(
            expected.served_by.load(Ordering::Relaxed),
            half(&other.id())
        );

        let wrong = Signature {
            parameters: vec![crate::signature::Parameter {
                name: "more".into(),
                shape: Shape::U8,
            }],
            ..other.clone()
        };
        for _ in 0..2 {
            assert_eq!(compare(&wrong), ["0 parameters expected, 1 offered"]);
        }
        assert!(compare(&other).is_empty());
        assert!(compare(&expected.signature.clone()).is_empty());
    }
}
