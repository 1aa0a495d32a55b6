//! The host's own copy of a library's descriptor.

use std::ffi::c_void;

use aigis_plugin_api::abi::Descriptor;
use aigis_plugin_api::abi::reader::{self, Checked, Flaw, OwnMemory};

/// Checks the descriptor at `address` and copies it.
///
/// The copy is as long as this host's own descriptor: the functions that the library's version lacks
/// are `None` in it. Nothing else in it points into the library. It may be used for as long as the
/// library stays loaded.
///
/// # Errors
/// What is wrong with the descriptor.
pub(super) fn copied(
    memory: &OwnMemory,
    address: *const c_void,
) -> Result<(Checked, Descriptor), Flaw> {
    let checked = reader::check(memory, address.expose_provenance())?;
    // SAFETY: it has just been checked, at this address. Whoever opened the library never closes it
    // while a function of the copy may be called.
    let descriptor = unsafe { reader::copy(address, &checked) };
    Ok((checked, descriptor))
}
