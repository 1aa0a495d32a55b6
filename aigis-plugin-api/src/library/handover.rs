//! `save` and `restore`: how one version's state reaches the next.
//!
//! What crosses is an encoded map from a block's namespace to what its `save` returned, encoded as
//! bytes: so each block reads its own, whatever became of the others.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use super::{blocks, contain};
use crate::codec;
use crate::error::{Failure, FailureKind};
use crate::skill::{Block, refused};

/// What the version before has saved, by namespace.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct SavedStates<'a>(#[serde(borrow)] BTreeMap<&'a str, &'a [u8]>);

impl<'a> SavedStates<'a> {
    /// Reads what the host was given by `save`; nothing at all on a first start.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Failure> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        codec::from_slice(bytes).map_err(|error| {
            Failure::new(
                FailureKind::Internal,
                format!(
                    "what the version before saved cannot be read: expected a map from namespaces \
                     to encoded states: {error}; load the plugin without it to begin anew"
                ),
            )
        })
    }

    /// Makes the state of a block: with `restore` if there is something for it, else with `open`.
    pub(super) fn restore(
        &self,
        block: &Block,
        open: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Self(states) = self;
        match (block.restore, states.get(block.namespace)) {
            (Some(restore), Some(saved)) => {
                contain(&hook_name(block, "restore"), || restore(saved))
            }
            _ => contain("new", open),
        }
    }
}

/// Returns the name under which a failure of `save` or `restore` is told: of which block it is.
fn hook_name(block: &Block, hook: &str) -> String {
    if block.namespace.is_empty() {
        hook.to_owned()
    } else {
        format!("{}.{hook}", block.namespace)
    }
}

/// Refuses blocks that would take each other's state.
pub(super) fn check(blocks: &[&Block]) -> Result<(), Failure> {
    let mut known = BTreeMap::new();
    for block in blocks.iter().filter(|block| block.restore.is_some()) {
        if let Some(first) = known.insert(block.namespace, *block) {
            return Err(Failure::new(
                FailureKind::Refused,
                format!(
                    "two blocks with `restore` have the namespace `{}`, by which the next version \
                     finds their states: in {} (line {}) and in {} (line {}); give one of them a \
                     namespace of its own with `#[skills(namespace = \"…\")]`",
                    block.namespace, first.module, first.line, block.module, block.line
                ),
            ));
        }
    }
    Ok(())
}

/// An encoded state, which is written as bytes at once and not as a list of them.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// Runs every `save`; `None` when there is none. The first that fails ends it: the host goes on
/// with this version then.
pub(crate) fn save() -> Result<Option<Vec<u8>>, Failure> {
    let mut states = BTreeMap::new();
    for block in blocks() {
        if let Some(save) = block.save {
            let state = contain(&hook_name(block, "save"), save)?;
            states.insert(block.namespace, Bytes(state));
        }
    }
    if states.is_empty() {
        return Ok(None);
    }
    let encoded = codec::to_vec(&states)
        .map_err(|error| Failure::new(FailureKind::Unserializable, error.to_string()))?;
    Ok(Some(encoded))
}

/// Encodes and decodes a state of type `T`.
///
/// The macros call `(&SavedOf::<T>::NEW).encode(…)` and `.decode(…)`; method resolution falls back to
/// [`Unsaved`] and [`Unrestored`] where `crate::checks` has refused the type, so that the mistake is
/// reported once.
pub struct SavedOf<T>(PhantomData<T>);

impl<T> SavedOf<T> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`SavedOf`] for `save`.
pub trait Saved {
    /// What is saved.
    type State;

    /// Encodes the state of the block `namespace`.
    ///
    /// # Errors
    /// A value that has no encoded form.
    fn encode(&self, namespace: &str, state: &Self::State) -> Result<Vec<u8>, Failure>;
}

impl<T: Serialize> Saved for SavedOf<T> {
    type State = T;

    fn encode(&self, namespace: &str, state: &T) -> Result<Vec<u8>, Failure> {
        codec::to_vec(state).map_err(|error| {
            Failure::new(
                FailureKind::Unserializable,
                format!(
                    "what `save` of the block `{namespace}` returned cannot be encoded: {error}; \
                     save it in another form"
                ),
            )
        })
    }
}

/// Serves [`SavedOf`] where a check has failed: such a crate is never built.
pub trait Unsaved {
    /// What is saved.
    type State;

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    fn encode(&self, namespace: &str, state: &Self::State) -> Result<Vec<u8>, Failure>;
}

impl<T> Unsaved for &SavedOf<T> {
    type State = T;

    fn encode(&self, _: &str, _: &T) -> Result<Vec<u8>, Failure> {
        Err(refused())
    }
}

/// Serves [`SavedOf`] for `restore`.
pub trait Restored {
    /// What was saved.
    type State;

    /// Decodes the state of the block `namespace`.
    ///
    /// # Errors
    /// What was saved has another form, naming the field.
    fn decode(&self, namespace: &str, bytes: &[u8]) -> Result<Self::State, Failure>;
}

impl<T: DeserializeOwned> Restored for SavedOf<T> {
    type State = T;

    fn decode(&self, namespace: &str, bytes: &[u8]) -> Result<T, Failure> {
        codec::from_slice(bytes).map_err(|error| {
            Failure::new(
                FailureKind::Arguments,
                format!(
                    "what the version before saved of the block `{namespace}` does not fit the \
                     `restore` of this one: {error}; give a new field `#[serde(default)]` and a \
                     changed one a type that reads both forms, or leave `restore` out of one \
                     version, which then begins with `new`"
                ),
            )
        })
    }
}

/// Serves [`SavedOf`] where a check has failed: such a crate is never built.
pub trait Unrestored {
    /// What was saved.
    type State;

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    fn decode(&self, namespace: &str, bytes: &[u8]) -> Result<Self::State, Failure>;
}

impl<T> Unrestored for &SavedOf<T> {
    type State = T;

    fn decode(&self, _: &str, _: &[u8]) -> Result<T, Failure> {
        Err(refused())
    }
}
