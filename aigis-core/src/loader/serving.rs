//! What serves one skill.

use std::sync::Arc;

use aigis_plugin_api::__private::Failure;
use aigis_plugin_api::abi::{Buffer, Bytes, Status};
use aigis_plugin_api::signature::SignatureId;

use super::generation::Label;
use crate::logging::spans::Boundary;
use crate::registry::Offer;

/// What serves one skill: where calls lead. Callers find its address in a slot.
pub(crate) struct Serving {
    /// The typed entry, or null.
    pub(super) entry: *const std::ffi::c_void,
    /// The id of the signature that the entry's type follows from.
    pub(super) id: SignatureId,
    pub(super) offer: Arc<Offer>,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// A function of a loaded library.
    Library {
        /// The library's function for encoded calls.
        call: extern "C" fn(u32, Bytes<'_>, &mut Buffer) -> Status,
        /// The skill's place in the library's description.
        index: u32,
        /// Whose it is.
        label: Arc<Label>,
    },
    /// A function of the core itself.
    Core(CoreSkill),
    /// No skill: a frame with it names the generation as a whole.
    Home(Arc<Label>),
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
            id: offer.id,
            offer: Arc::new(offer),
            body: Body::Core(body),
        }
    }

    /// Returns what is offered.
    pub(crate) fn offer(&self) -> &Arc<Offer> {
        &self.offer
    }

    /// Runs the skill with encoded arguments.
    pub(crate) fn call(&self, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
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
            Body::Home(_) => Err(Failure::new(
                aigis_plugin_api::FailureKind::Internal,
                "a generation is not a skill",
            )),
        }
    }

    /// Returns whose code runs when this is entered; `None` for the core's own.
    pub(crate) fn label(&self) -> Option<&Arc<Label>> {
        match &self.body {
            Body::Library { label, .. } | Body::Home(label) => Some(label),
            Body::Core(_) => None,
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
