//! What serves one skill.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{
    BoxItems, Expected, Failure, FailureKind, begun, failed, single, timed_out,
};
use aigis_plugin_api::abi::{Buffer, Bytes, Descriptor, Status};
use aigis_plugin_api::session::Underway;
use aigis_plugin_api::signature::SignatureId;

use super::host_api::HostContext;
use super::runner::Done;
use super::task::{Frame, Pending};
use super::{Code, Services};
use crate::logging::spans::Boundary;
use crate::registry::Offer;

/// What serves one skill: where calls lead. Callers find its address in a slot.
pub(crate) struct Serving {
    /// The typed entry, or null.
    pub(super) entry: *const std::ffi::c_void,
    /// The id of the signature that the entry's type follows from.
    pub(super) id: Key,
    pub(super) offer: Arc<Offer>,
    pub(super) body: Body,
}

/// The id of a signature, as two words that are compared without further ado.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(u64, u64);

impl Key {
    pub(super) fn of(id: &SignatureId) -> Self {
        let number = u128::from_ne_bytes(*id);
        // The two halves.
        Self((number >> 64) as u64, number as u64)
    }

    #[inline]
    pub(super) fn is(self, other: Self) -> bool {
        (self.0 ^ other.0) | (self.1 ^ other.1) == 0
    }
}

/// What an async skill is begun with.
pub(super) struct Begin {
    pub(super) descriptor: Arc<Descriptor>,
    pub(super) services: Weak<dyn Services>,
}

/// What a skill with streams is opened with.
pub(super) struct Open {
    pub(super) descriptor: Arc<Descriptor>,
    /// Lives longer than any serving of its generation.
    pub(super) context: &'static HostContext,
}

pub(super) enum Body {
    /// A function of a loaded library.
    Library {
        /// The library's function for encoded calls.
        call: extern "C" fn(u32, Bytes<'_>, &mut Buffer) -> Status,
        /// The skill's place in the library's description.
        index: u32,
        /// The library, where it may be brought to the skill's callers.
        code: Option<Arc<Code>>,
        /// For an async skill: what makes its futures and polls them.
        begin: Option<Begin>,
        /// For a skill with streams: what opens it.
        open: Option<Open>,
    },
    /// A function of the core itself.
    Core(CoreSkill),
    /// A function of another process.
    Process(Arc<dyn Remote>),
    /// No skill: a frame with it names the generation as a whole.
    Home,
}

/// Runs skills elsewhere. Every method may be called from any thread.
pub(crate) trait Remote: Send + Sync {
    /// Counts a caller that is still inside of what it has found, and is about to call.
    fn comes(&self);

    /// That caller has called, or started its call.
    fn is_in(&self);

    /// Calls the skill `name` and waits.
    fn call(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure>;

    /// Starts a call of the skill `name`; `done` hears its outcome once, on any thread.
    fn start(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>>;

    /// Opens the skill `name`; `streams` are the arguments that are streams.
    fn open(
        &self,
        name: &str,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems;
}

/// A caller on its way to another process: whoever takes the skill away waits for it.
pub(crate) struct Entering(Arc<dyn Remote>);

impl Entering {
    /// Only from inside of what serves the skill.
    pub(crate) fn new(remote: &Arc<dyn Remote>) -> Self {
        remote.comes();
        Self(Arc::clone(remote))
    }

    pub(crate) fn remote(&self) -> &Arc<dyn Remote> {
        &self.0
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.0.is_in();
    }
}

/// A function of the core: encoded arguments in, encoded result out.
pub(crate) type CoreSkill = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, Failure> + Send + Sync>;

// SAFETY: `entry` is the address of a function, which any thread may call; who calls it has a frame
// that keeps the library it belongs to. The rest can be shared between threads as it is.
unsafe impl Send for Serving {}
// SAFETY: as above; nothing of it is ever written.
unsafe impl Sync for Serving {}

impl Serving {
    /// Makes what serves one of the core's own skills.
    pub(crate) fn of_core(offer: Offer, body: CoreSkill) -> Self {
        Self {
            entry: std::ptr::null(),
            id: Key::of(&offer.id),
            offer: Arc::new(offer),
            body: Body::Core(body),
        }
    }

    /// Makes what serves a skill of another process.
    pub(crate) fn of_process(offer: Arc<Offer>, remote: &Arc<dyn Remote>) -> Self {
        Self {
            entry: std::ptr::null(),
            id: Key::of(&offer.id),
            offer,
            body: Body::Process(Arc::clone(remote)),
        }
    }

    /// Returns what runs the skill, if that is elsewhere: whoever calls it need not be inside.
    pub(crate) fn remote(&self) -> Option<&Arc<dyn Remote>> {
        match &self.body {
            Body::Process(remote) => Some(remote),
            _ => None,
        }
    }

    /// Returns what is offered.
    pub(crate) fn offer(&self) -> &Arc<Offer> {
        &self.offer
    }

    /// Refuses a call whose caller was compiled for another signature.
    pub(crate) fn admit(&self, expected: Option<&Expected>) -> Result<(), Failure> {
        let Some(expected) = expected else {
            return Ok(());
        };
        let offer = &self.offer;
        let differences = expected.differences(&offer.signature, &offer.id);
        if differences.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} has another signature than its caller expects\n  expected: {}\n  offered:  {}",
            offer.name, expected.signature, offer.signature
        );
        Err(Failure::new(FailureKind::Mismatch, message)
            .of_skill(&offer.name)
            .with_details(differences))
    }

    /// Runs the skill as [`call`](Self::call) does, unless its caller expects another one.
    pub(crate) fn serve(
        &self,
        expected: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        self.admit(expected)?;
        self.call(arguments, timeout)
            .map_err(|failure| failure.of_skill(&self.offer.name))
    }

    /// Returns the library that it is in, if it may be brought to callers, and its place there.
    pub(crate) fn code(&self) -> Option<(&Arc<Code>, u32)> {
        match &self.body {
            Body::Library {
                code: Some(code),
                index,
                ..
            } => Some((code, *index)),
            _ => None,
        }
    }

    fn is_async(&self) -> bool {
        matches!(self.body, Body::Library { begin: Some(_), .. })
    }

    /// Begins an async skill with encoded arguments; `None` for any other. Only from inside.
    pub(crate) fn begin(&self, arguments: &[u8]) -> Result<Option<Pending>, Failure> {
        let Body::Library {
            begin: Some(begin),
            index,
            ..
        } = &self.body
        else {
            return Ok(None);
        };
        let task = begin.descriptor.begin_skill(*index, arguments)?;
        let services = Weak::clone(&begin.services);
        Ok(task.map(|task| Pending::of_call(task, self, services)))
    }

    /// Opens the skill with encoded arguments and the streams among them; one without streams is run,
    /// on this thread. Only from inside.
    pub(crate) fn open(
        &self,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let name = &self.offer.name;
        if let Body::Library {
            open: Some(open),
            index,
            ..
        } = &self.body
        {
            let numbers = streams.into_iter();
            let numbers: Vec<u64> = numbers.map(|items| open.context.number(items)).collect();
            match open.descriptor.open_skill(*index, arguments, &numbers) {
                Ok(Some(producer)) => {
                    // A call until it has begun, then a stream.
                    let then = open.context.stream_frame();
                    return open.context.streams.take(producer, Frame::of(self), then);
                }
                Ok(None) => {}
                Err(failure) => return failed(failure.of_skill(name)),
            }
        } else if !streams.is_empty() {
            let message = format!(
                "{name} takes no streams, its caller gives {}: {name} is `{}`",
                streams.len(),
                self.offer.signature
            );
            return failed(Failure::new(FailureKind::Mismatch, message).of_skill(name));
        }
        match self.call(arguments, timeout) {
            Ok(result) => begun(single(result)),
            Err(failure) => failed(failure.of_skill(name)),
        }
    }

    /// Runs the skill with encoded arguments, on this thread. Only from inside. An async one is waited
    /// for no longer than `timeout`, then dropped.
    pub(crate) fn call(
        &self,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        if self.is_async()
            && let Some(pending) = self.begin(arguments)?
        {
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            let late = || timed_out(&self.offer.name, timeout.unwrap_or_default());
            return pending.wait(deadline).unwrap_or_else(|| Err(late()));
        }
        match &self.body {
            Body::Library { call, index, .. } => {
                // Whatever spans the skill leaves entered, its caller is not in them.
                let _boundary = Boundary::here();
                let mut out = Buffer::default();
                let status = call(*index, arguments.into(), &mut out);
                // Copied and freed here, while the library is certain to be there.
                read(status, out)
            }
            Body::Core(skill) => skill(arguments),
            Body::Process(remote) => remote.call(&self.offer.name, arguments, timeout),
            Body::Home => Err(Failure::new(
                FailureKind::Internal,
                "a generation is not a skill",
            )),
        }
    }
}

/// Reads what a function of a library has answered.
pub(super) fn read(status: Status, out: Buffer) -> Result<Vec<u8>, Failure> {
    match status {
        Status::Ok => Ok(out.into_vec()),
        Status::Failed | Status::Absent => Err(Failure::decode(out.as_slice())),
    }
}
