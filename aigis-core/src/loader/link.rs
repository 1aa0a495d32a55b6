//! What one import of a plugin expects of a skill.

use std::sync::Arc;

use aigis_plugin_api::signature::{Signature, SignatureId};

use super::Target;
use crate::registry::Slot;

/// An expectation, and the place where the skill is offered, if it is.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) slot: Arc<Slot<Target>>,
    pub(crate) signature: Signature,
    pub(crate) id: SignatureId,
}
