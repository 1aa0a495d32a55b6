//! What a loaded library says about itself.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::layout::{Fields, fields};
use super::{
    Buffer, Bytes, Completion, Entered, HostApi, LogRecord, Request, Seat, Slice, Status, Task,
    Text,
};

/// The name of the one symbol that a plugin's library exports.
pub const SYMBOL: &str = "aigis_plugin_descriptor";

/// The first eight bytes of every descriptor.
pub const MAGIC: [u8; 8] = *b"AIGISPLG";

/// Changes when an old library can no longer be used.
pub const ABI_MAJOR: u32 = 1;

/// Grows when something is added that an old library lacks. A host loads its own minor and older ones.
pub const ABI_MINOR: u32 = 1;

/// The start of a descriptor, the same in every ABI version there will ever be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
pub struct Descriptor {
    /// Magic, version and size, read before anything else.
    pub header: Header,
    /// `rustc --version` of the compiler that built the library.
    pub rustc: Text<'static>,
    /// The version of `aigis-plugin-api` the library was built with.
    pub api_version: Text<'static>,
    /// Every type that crosses, as the library was built, for the probe.
    pub layout: Slice<'static, Fields>,
    /// Writes an encoded [`crate::library::Description`].
    pub describe: extern "C" fn(out: &mut Buffer) -> Status,
    /// Runs the constructors. Called once, before any `call`. `host` outlives the generation;
    /// `grant` is an encoded [`crate::context::Grant`]; `saved` is what `save` of the version before
    /// has written, or empty.
    pub open: extern "C" fn(
        host: &'static HostApi,
        grant: Bytes<'_>,
        saved: Bytes<'_>,
        error: &mut Buffer,
    ) -> Status,
    /// Runs skill `index` (its place in the description) with encoded arguments.
    pub call: extern "C" fn(index: u32, arguments: Bytes<'_>, out: &mut Buffer) -> Status,
    /// Returns the typed entry of skill `index`, or null where it has none.
    pub direct: extern "C" fn(index: u32) -> *const c_void,
    /// Writes the state for the next version, encoded. Called while no call is inside;
    /// [`Status::Absent`] when the author wrote no `save`.
    pub save: extern "C" fn(out: &mut Buffer) -> Status,
    /// Runs `cleanup` and drops the state. Called once, after the last call has left, and after
    /// every task and job has been dropped.
    pub close: extern "C" fn(error: &mut Buffer) -> Status,
    /// Makes the future of the async skill `index`; it runs when it is polled.
    /// [`Status::Absent`] when the skill is not async: then `call` runs it. Since 1.1.
    pub begin: extern "C" fn(
        index: u32,
        arguments: Bytes<'_>,
        out: &mut MaybeUninit<Task>,
        error: &mut Buffer,
    ) -> Status,
}

impl Descriptor {
    /// Makes the future of the async skill `index`; none when the skill is not async.
    ///
    /// # Errors
    /// The library's own.
    #[cfg(feature = "host")]
    pub fn begin_skill(
        &self,
        index: u32,
        arguments: &[u8],
    ) -> Result<Option<Task>, crate::error::Failure> {
        if self.header.size < std::mem::offset_of!(Self, begin) + size_of::<*const c_void>() {
            // Of a library of version 1.0, which has no async skills.
            return Ok(None);
        }
        let (mut task, mut error) = (MaybeUninit::uninit(), Buffer::default());
        match (self.begin)(index, arguments.into(), &mut task, &mut error) {
            // SAFETY: a library that returns `Ok` has written the task, see `export::begin`.
            Status::Ok => Ok(Some(unsafe { task.assume_init() })),
            Status::Absent => Ok(None),
            Status::Failed => Err(crate::error::Failure::decode(error.as_slice())),
        }
    }
}

/// Every type that crosses, as this build lays it out.
pub(super) static LAYOUT: &[Fields] = &[
    fields!(
        "Header",
        Header {
            magic,
            major,
            minor,
            size
        }
    ),
    fields!(
        "Descriptor",
        Descriptor {
            header,
            rustc,
            api_version,
            layout,
            describe,
            open,
            call,
            direct,
            save,
            close,
            begin
        }
    ),
    fields!(
        "HostApi",
        HostApi {
            size,
            context,
            log,
            enabled,
            call,
            start,
            cancel,
            link,
            enter,
            attend,
            inside,
            sleep,
            spawn,
            abort,
            run
        }
    ),
    super::list::SLICE,
    super::list::TEXT,
    super::list::LIST,
    fields!(
        "Seat",
        Seat {
            attention,
            depth,
            frames
        }
    ),
    fields!("Request", Request<'static> { name, link, arguments, timeout_ms }),
    fields!("Completion", Completion { data, complete }),
    fields!("Entered", Entered { entry, seat }),
    fields!("LogRecord", LogRecord<'static> { level, target, message, fields }),
    super::task::TASK,
    super::task::TASK_WAKER,
    super::task::JOB,
];

/// Compares the layouts that a library reports with this build's, field by field.
///
/// # Errors
/// Every field that differs, in words.
#[cfg(feature = "host")]
pub fn check_layout(descriptor: &Descriptor) -> Result<(), String> {
    super::layout::compare(LAYOUT, descriptor.layout.as_slice())
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
