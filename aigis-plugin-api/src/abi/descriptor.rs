//! What a loaded library says about itself.

use std::ffi::c_void;

use abi_stable::StableAbi;
use abi_stable::type_layout::TypeLayout;

use super::{Buffer, Bytes, HostApi, Status, Text};

/// The name of the one symbol that a plugin's library exports.
pub const SYMBOL: &str = "aigis_plugin_descriptor";

/// The first eight bytes of every descriptor.
pub const MAGIC: [u8; 8] = *b"AIGISPLG";

/// Changes when an old library can no longer be used.
pub const ABI_MAJOR: u32 = 0;

/// Grows when something is added that an old library lacks. A host loads its own minor and older ones.
pub const ABI_MINOR: u32 = 1;

/// The start of a descriptor, the same in every ABI version there will ever be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`ABI_MAJOR`] of the library.
    pub major: u32,
    /// [`ABI_MINOR`] of the library.
    pub minor: u32,
    /// The size of the whole descriptor in bytes, as the library was built.
    pub size: usize,
}

/// What a library offers to its host; the order and meaning of the fields are the ABI.
///
/// Every function may be called from any thread. A function that fails returns
/// [`Status::Failed`] with an encoded [`crate::error::Failure`] in the buffer it was given.
#[repr(C)]
#[derive(StableAbi)]
pub struct Descriptor {
    /// Magic, version and size, read before anything else.
    pub header: Header,
    /// `rustc --version` of the compiler that built the library.
    pub rustc: Text<'static>,
    /// The version of `aigis-plugin-api` the library was built with.
    pub api_version: Text<'static>,
    /// Returns the `abi_stable` layout of this type as the library knows it, for the probe.
    pub layout: extern "C" fn() -> *const c_void,
    /// Writes an encoded [`crate::library::Description`].
    pub describe: extern "C" fn(out: &mut Buffer) -> Status,
    /// Runs the constructors. Called once, before any `call`. `host` outlives the generation;
    /// `grant` is an encoded [`crate::context::Grant`].
    pub open: extern "C" fn(host: &'static HostApi, grant: Bytes<'_>, error: &mut Buffer) -> Status,
    /// Runs skill `index` (its place in the description) with encoded arguments.
    pub call: extern "C" fn(index: u32, arguments: Bytes<'_>, out: &mut Buffer) -> Status,
    /// Returns the typed entry of skill `index`, or null where it has none.
    pub direct: extern "C" fn(index: u32) -> *const c_void,
    /// Runs `cleanup` and drops the state. Called once, after the last call has left.
    pub close: extern "C" fn(error: &mut Buffer) -> Status,
}

/// Returns the layout of [`Descriptor`] as this build knows it.
pub fn layout() -> &'static TypeLayout {
    Descriptor::LAYOUT
}

/// Compares the layout that a library reports with this build's, field by field.
///
/// # Errors
/// Where they differ, in words; nothing of the library is kept.
///
/// # Safety
/// `reported` came from [`Descriptor::layout`] of a loaded library whose header has this build's
/// magic and major version.
#[cfg(feature = "host")]
pub unsafe fn check_layout(reported: *const c_void) -> Result<(), String> {
    use abi_stable::abi_stability::abi_checking::check_layout_compatibility;

    if reported.is_null() {
        return Err("the library reports no layout".to_owned());
    }
    // SAFETY: by the caller's promise it is a `&'static TypeLayout` of that library; the major
    // version fixes the version of `abi_stable`, and with it the layout of the layout.
    let reported = unsafe { &*reported.cast::<TypeLayout>() };
    // Formatted at once: the error points into the library.
    check_layout_compatibility(layout(), reported).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_first_and_never_changes() {
        assert_eq!(std::mem::offset_of!(Descriptor, header), 0);
        assert_eq!(std::mem::offset_of!(Header, major), 8);
        assert_eq!(std::mem::offset_of!(Header, minor), 12);
        assert_eq!(std::mem::offset_of!(Header, size), 16);
        assert_eq!(std::mem::size_of::<Header>(), 24);
    }
}
