//! The one symbol that a plugin's library exports.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::descriptor::LAYOUT;
use super::{
    ABI_MAJOR, ABI_MINOR, Buffer, Bytes, Descriptor, Header, HostApi, MAGIC, Producer, Slice,
    Status, Task, Text,
};
use crate::error::{Failure, FailureKind};
use crate::library::{self, Pulled};
use crate::stream::BoxItems;

// SAFETY: the fields are numbers, static text and functions, none of which is ever written.
unsafe impl Sync for Descriptor {}

// SAFETY: the name is unlike any that a C library defines, and a library holds this crate once.
#[unsafe(export_name = "aigis_plugin_descriptor")]
static DESCRIPTOR: Descriptor = Descriptor {
    header: Header {
        magic: MAGIC,
        major: ABI_MAJOR,
        minor: ABI_MINOR,
        size: size_of::<Descriptor>(),
    },
    rustc: Text::new(env!("AIGIS_RUSTC")),
    api_version: Text::new(env!("CARGO_PKG_VERSION")),
    layout: Slice::of(LAYOUT),
    describe,
    open,
    call,
    direct,
    save,
    close,
    begin: Some(begin),
    produce: Some(produce),
};

/// Returns this library's own descriptor, the one that a host finds by its symbol.
pub fn descriptor() -> &'static Descriptor {
    &DESCRIPTOR
}

fn answer(out: &mut Buffer, outcome: Result<Vec<u8>, Failure>) -> Status {
    match outcome {
        Ok(bytes) => {
            *out = bytes.into();
            Status::Ok
        }
        Err(failure) => {
            *out = failure.encode().into();
            Status::Failed
        }
    }
}

extern "C" fn describe(out: &mut Buffer) -> Status {
    answer(out, library::contain("describe", library::describe))
}

extern "C" fn open(
    host: &'static HostApi,
    grant: Bytes<'_>,
    saved: Bytes<'_>,
    error: &mut Buffer,
) -> Status {
    let outcome = library::contain("new", || {
        library::open(host, grant.as_slice(), saved.as_slice())
    });
    answer(error, outcome.map(|()| Vec::new()))
}

extern "C" fn call(index: u32, arguments: Bytes<'_>, out: &mut Buffer) -> Status {
    answer(out, library::call(index, arguments.as_slice()))
}

extern "C" fn direct(index: u32) -> *const c_void {
    library::contain("direct", || Ok(library::direct(index))).unwrap_or(std::ptr::null())
}

extern "C" fn save(out: &mut Buffer) -> Status {
    match library::contain("save", library::save) {
        Ok(Some(saved)) => answer(out, Ok(saved)),
        Ok(None) => Status::Absent,
        Err(failure) => answer(out, Err(failure)),
    }
}

extern "C" fn close(error: &mut Buffer) -> Status {
    answer(error, library::close().map(|()| Vec::new()))
}

extern "C" fn begin(
    index: u32,
    arguments: Bytes<'_>,
    out: &mut MaybeUninit<Task>,
    error: &mut Buffer,
) -> Status {
    match library::contain("begin", || library::begin(index, arguments.as_slice())) {
        Ok(Some(running)) => {
            out.write(Task::new(running));
            Status::Ok
        }
        Ok(None) => Status::Absent,
        Err(failure) => answer(error, Err(failure)),
    }
}

extern "C" fn produce(
    index: u32,
    arguments: Bytes<'_>,
    streams: Slice<'_, u64>,
    out: &mut MaybeUninit<Producer>,
    error: &mut Buffer,
) -> Status {
    let opened = library::contain("open", || {
        let host = library::host().ok_or_else(not_open)?;
        let streams = streams.as_slice().iter();
        let streams = streams.map(|number| Box::new(Pulled::new(host, *number)) as BoxItems);
        library::produce(index, arguments.as_slice(), streams.collect())
    });
    match opened {
        Ok(Some(flow)) => {
            out.write(Producer::new(flow));
            Status::Ok
        }
        Ok(None) => Status::Absent,
        Err(failure) => answer(error, Err(failure)),
    }
}

fn not_open() -> Failure {
    Failure::new(
        FailureKind::Internal,
        "the library was not opened: it has no host to ask for items",
    )
}
