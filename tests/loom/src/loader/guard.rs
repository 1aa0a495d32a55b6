//! The guard's own files, around what stands in for the rest of it.

#[path = "../../../../aigis-core/src/loader/guard/drain.rs"]
pub(crate) mod drain;
mod fences;
pub(crate) mod seats;
#[path = "../../../../aigis-core/src/loader/guard/slot.rs"]
pub(crate) mod slot;
#[path = "../../../../aigis-core/src/loader/guard/switch.rs"]
pub(crate) mod switch;
mod sync;
