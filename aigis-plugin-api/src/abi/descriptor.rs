//! What a loaded library says about itself.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::layout::{Fields, fields};
use super::{
    Buffer, Bytes, Completion, CurrentSpan, Entered, HostApi, LogRecord, Producer, Request, Seat,
    Slice, SpanRecord, Status, Task, Text,
};

/// The name of the one symbol that a plugin's library exports.
pub const SYMBOL: &str = "aigis_plugin_descriptor";

/// The first eight bytes of every descriptor.
pub const MAGIC: [u8; 8] = *b"AIGISPLG";

/// Changes when an old library can no longer be used.
pub const ABI_MAJOR: u32 = 1;

/// Grows when something is added that an old library lacks. A host loads its own minor and older ones.
pub const ABI_MINOR: u32 = 2;

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
/// What a later minor version adds stands at the end, as an `Option` of a function: the descriptor of
/// an older library ends before it, and the host's copy has `None` there.
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
    /// Writes the state for the next version, encoded. Called while no call is inside, after `open`
    /// has returned and before `close`, never next to another of these; the library goes on being
    /// called afterwards if the next version does not take over. [`Status::Absent`] when the author
    /// wrote no `save`.
    pub save: extern "C" fn(out: &mut Buffer) -> Status,
    /// Runs `cleanup` and drops the state. Called once, after the last call has left, and after
    /// every task and job has been dropped.
    pub close: extern "C" fn(error: &mut Buffer) -> Status,
    /// Makes the future of the async skill `index`; it runs when it is polled.
    /// [`Status::Absent`] when the skill is not async: then `call` runs it. Since 1.1.
    pub begin: Option<
        extern "C" fn(
            index: u32,
            arguments: Bytes<'_>,
            out: &mut MaybeUninit<Task>,
            error: &mut Buffer,
        ) -> Status,
    >,
    /// Opens skill `index`, whose result or parameters are streams; it begins when the first item is
    /// asked for. `streams` are the numbers of the arguments that are streams, in the order of the
    /// parameters, for [`HostApi::next`], `pull` and `close_stream`; the library has them from then on.
    /// [`Status::Absent`] when nothing of the skill is a stream: then `begin` or `call` runs it. Since
    /// 1.2.
    pub produce: Option<
        extern "C" fn(
            index: u32,
            arguments: Bytes<'_>,
            streams: Slice<'_, u64>,
            out: &mut MaybeUninit<Producer>,
            error: &mut Buffer,
        ) -> Status,
    >,
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
        // A library of version 1.0 has no async skills.
        let Some(begin) = self.begin else {
            return Ok(None);
        };
        let (mut task, mut error) = (MaybeUninit::uninit(), Buffer::default());
        match begin(index, arguments.into(), &mut task, &mut error) {
            // SAFETY: a library that returns `Ok` has written the task, see `export::begin`.
            Status::Ok => Ok(Some(unsafe { task.assume_init() })),
            Status::Absent => Ok(None),
            Status::Failed => Err(crate::error::Failure::decode(error.as_slice())),
        }
    }

    /// Opens skill `index`; none when nothing of it is a stream. `streams` are the library's from then on.
    ///
    /// # Errors
    /// The library's own.
    #[cfg(feature = "host")]
    pub fn open_skill(
        &self,
        index: u32,
        arguments: &[u8],
        streams: &[u64],
    ) -> Result<Option<Producer>, crate::error::Failure> {
        // A library of version 1.1 has no streams.
        let Some(produce) = self.produce else {
            return Ok(None);
        };
        let (mut producer, mut error) = (MaybeUninit::uninit(), Buffer::default());
        let streams = Slice::of(streams);
        match produce(index, arguments.into(), streams, &mut producer, &mut error) {
            // SAFETY: a library that returns `Ok` has written the producer, see `export::produce`.
            Status::Ok => Ok(Some(unsafe { producer.assume_init() })),
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
            begin,
            produce
        }
    ),
    fields!(
        "HostApi",
        HostApi {
            size,
            context,
            log,
            enabled,
            span_open,
            span_record,
            span_enter,
            span_exit,
            span_clone,
            span_close,
            current_span,
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
            run,
            open,
            next,
            pull,
            close_stream
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
    fields!(
        "LogRecord",
        LogRecord<'static> {
            level,
            target,
            message,
            fields,
            span,
            file,
            line
        }
    ),
    fields!(
        "SpanRecord",
        SpanRecord<'static> {
            level,
            target,
            name,
            parent,
            fields,
            mark
        }
    ),
    fields!("CurrentSpan", CurrentSpan { id, mark }),
    super::direct::LAYOUTS[0],
    super::direct::LAYOUTS[1],
    super::direct::LAYOUTS[2],
    super::direct::LAYOUTS[3],
    super::direct::LAYOUTS[4],
    super::direct::LAYOUTS[5],
    super::direct::LAYOUTS[6],
    super::task::TASK,
    super::task::TASK_WAKER,
    super::task::JOB,
    super::producer::PRODUCER,
];

/// The size of a descriptor in each minor version of this major one: a line for each that adds a
/// function.
#[cfg(any(feature = "host", feature = "portable", test))]
pub(super) const SIZES: [usize; ABI_MINOR as usize + 1] = [
    // 1.0
    std::mem::offset_of!(Descriptor, begin),
    // 1.1
    std::mem::offset_of!(Descriptor, produce),
    // 1.2
    size_of::<Descriptor>(),
];

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
        // Read also from libraries of other major versions, to say what built them.
        assert_eq!(std::mem::offset_of!(Descriptor, rustc), 24);
        assert_eq!(std::mem::offset_of!(Descriptor, api_version), 40);
    }

    #[test]
    fn sizes_only_grow_and_end_with_ours() {
        assert!(SIZES.is_sorted_by(|older, newer| older < newer));
        assert_eq!(SIZES.last(), Some(&size_of::<Descriptor>()));
        if cfg!(target_pointer_width = "64") {
            assert_eq!(SIZES[..2], [120, 128], "1.0 and 1.1 are frozen");
        }
    }
}
