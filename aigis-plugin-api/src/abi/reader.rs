//! Reads the descriptor of a library that is not trusted yet.
//!
//! Nothing is followed before it is known where it leads: everything is read through a [`Memory`],
//! which knows what there is to read. So the checks need no library, and whatever a descriptor claims,
//! the worst that comes of it is a [`Flaw`].

use std::ffi::c_void;
use std::fmt;
use std::mem::{self, MaybeUninit, offset_of};

use super::descriptor::{LAYOUT, SIZES};
use super::layout::{Field, Told, compare};
use super::{
    ABI_MAJOR, ABI_MINOR, Buffer, Descriptor, Fields, Header, MAGIC, SYMBOL, Slice, Status, Text,
};
use crate::codec;
use crate::error::Failure;
use crate::library::Description;

mod own;
#[cfg(test)]
mod tests;

pub use own::OwnMemory;

/// Where a descriptor is read from.
pub trait Memory {
    /// Copies what stands at `address` into `out`; false when not all of that can be read.
    fn copy(&self, address: usize, out: &mut [u8]) -> bool;

    /// Tells whether code stands at `address`.
    fn is_code(&self, address: usize) -> bool;
}

/// The longest text in a descriptor, in bytes.
const LONGEST_TEXT: usize = 256;

/// The most types, and the most fields of a type, that a library may tell of.
const MOST_ENTRIES: usize = 128;

/// The longest encoded description, in bytes.
const LONGEST_DESCRIPTION: usize = 64 << 20;

/// What a library says of itself before any of its functions has been called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Magic, version and size.
    pub header: Header,
    /// The compiler that built it.
    pub rustc: String,
    /// The version of `aigis-plugin-api` in it.
    pub api_version: String,
}

/// Why a descriptor cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Flaw {
    /// There is nothing to read where the symbol points.
    Nowhere,
    /// It does not start as a descriptor does.
    Magic([u8; 8]),
    /// It is of a version that this host does not load.
    Version {
        /// The library's major version.
        major: u32,
        /// The library's minor version.
        minor: u32,
        /// The compiler that built it, if it can be read.
        rustc: Option<String>,
        /// The version of `aigis-plugin-api` in it, if it can be read.
        api_version: Option<String>,
    },
    /// Its size is not that of its version.
    Size {
        /// The library's minor version.
        minor: u32,
        /// What it says.
        found: usize,
        /// What that version has.
        expected: usize,
    },
    /// A part of it points to where nothing is.
    Pointer {
        /// The part.
        field: String,
        /// Where it points.
        start: usize,
        /// How many bytes or entries should be there.
        len: usize,
    },
    /// A part of it claims to be longer than any such part is.
    TooLong {
        /// The part.
        field: String,
        /// How many bytes or entries it claims.
        len: usize,
        /// How many are allowed.
        most: usize,
    },
    /// A part that should be text is not.
    NotText {
        /// The part.
        field: String,
    },
    /// One of its functions is missing or no code.
    Function {
        /// The function.
        name: String,
        /// Where it should be.
        address: usize,
    },
    /// Its types are laid out differently.
    Layout {
        /// What built it.
        built: Checked,
        /// A line for each difference.
        differences: Vec<String>,
    },
    /// Its `describe` failed.
    Describe(Failure),
    /// Its `describe` returned a number that is no [`Status`] of it.
    Answer(u8),
    /// What its `describe` wrote is no description.
    Description(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => write!(f, "its `{SYMBOL}` points to nothing that can be read"),
            Self::Magic(found) => write!(
                f,
                "its `{SYMBOL}` is not a descriptor: it starts with \"{}\", expected \"{}\"",
                found.escape_ascii(),
                MAGIC.escape_ascii()
            ),
            Self::Version {
                major,
                minor,
                rustc,
                api_version,
            } => {
                let unknown = "an unknown version";
                write!(
                    f,
                    "it has ABI version {major}.{minor} (built by {} with aigis-plugin-api {}), this \
                     core loads {ABI_MAJOR}.0 to {ABI_MAJOR}.{ABI_MINOR} (built by {} with \
                     aigis-plugin-api {})",
                    rustc.as_deref().unwrap_or("an unknown rustc"),
                    api_version.as_deref().unwrap_or(unknown),
                    env!("AIGIS_RUSTC"),
                    env!("CARGO_PKG_VERSION"),
                )
            }
            Self::Size {
                minor,
                found,
                expected,
            } => write!(
                f,
                "its descriptor of ABI version {ABI_MAJOR}.{minor} claims {found} bytes, expected \
                 {expected}"
            ),
            Self::Pointer { field, start, len } => write!(
                f,
                "`{field}` of its descriptor claims {len} bytes at {start:#x}, where they are not"
            ),
            Self::TooLong { field, len, most } => write!(
                f,
                "`{field}` of its descriptor claims a length of {len}, expected at most {most}"
            ),
            Self::NotText { field } => write!(f, "`{field}` of its descriptor is not UTF-8 text"),
            Self::Function { name, address } => write!(
                f,
                "`{name}` should be a function, but there is no code at {address:#x}"
            ),
            Self::Layout { built, differences } => {
                write!(
                    f,
                    "it was built by {} with aigis-plugin-api {}, whose types are laid out \
                     differently from those of {} with aigis-plugin-api {} in this core:",
                    built.rustc,
                    built.api_version,
                    env!("AIGIS_RUSTC"),
                    env!("CARGO_PKG_VERSION"),
                )?;
                for difference in differences {
                    write!(f, "\n  {difference}")?;
                }
                Ok(())
            }
            Self::Describe(failure) => write!(f, "it cannot describe itself: {failure}"),
            Self::Answer(number) => write!(
                f,
                "its `describe` returned {number}, expected 0 (a description) or 1 (an error)"
            ),
            Self::Description(error) => write!(f, "its description cannot be read: {error}"),
        }
    }
}

impl std::error::Error for Flaw {}

/// Reads one `T` of numbers alone.
///
/// # Safety
/// Every pattern of bits is a `T`.
unsafe fn read<T: Copy>(memory: &impl Memory, address: usize) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the bytes of `value` are its own and were just written.
    let bytes =
        unsafe { std::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
    if !memory.copy(address, bytes) {
        return None;
    }
    // SAFETY: by the caller's promise.
    Some(unsafe { value.assume_init() })
}

/// A pointer and a length, as [`Slice`] and [`Text`] have them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

/// A [`Field`] of which nothing is believed.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawField {
    name: Span,
    offset: usize,
    size: usize,
}

const _: () = {
    assert!(size_of::<Span>() == size_of::<Fields>() && size_of::<Span>() == size_of::<Text<'_>>());
    assert!(size_of::<RawField>() == size_of::<Field>());
};

fn span(memory: &impl Memory, address: usize) -> Option<Span> {
    // SAFETY: two numbers.
    unsafe { read(memory, address) }
}

fn text(memory: &impl Memory, field: &str, span: Span) -> Result<String, Flaw> {
    let bytes = bytes(memory, field, span, LONGEST_TEXT)?;
    String::from_utf8(bytes).map_err(|_| Flaw::NotText {
        field: field.to_owned(),
    })
}

/// Copies what a library points to, if it is not longer than `most`.
fn bytes(
    memory: &impl Memory,
    field: &str,
    Span { start, len }: Span,
    most: usize,
) -> Result<Vec<u8>, Flaw> {
    let field = || field.to_owned();
    if len > most {
        return Err(Flaw::TooLong {
            field: field(),
            len,
            most,
        });
    }
    let mut bytes = vec![0; len];
    // An empty slice may point anywhere.
    if len > 0 && !memory.copy(start, &mut bytes) {
        return Err(Flaw::Pointer {
            field: field(),
            start,
            len,
        });
    }
    Ok(bytes)
}

/// What a host knows of descriptors.
struct Known<'a> {
    minor: u32,
    /// The size of a descriptor, by minor version.
    sizes: &'a [usize],
    layout: &'a [Fields],
}

const OURS: Known<'static> = Known {
    minor: ABI_MINOR,
    sizes: &SIZES,
    layout: LAYOUT,
};

/// Checks the descriptor at `address`: magic, version, size, where its parts point, layout.
///
/// # Errors
/// The first flaw found. Nothing beyond what the descriptor's version has is read.
pub fn check(memory: &impl Memory, address: usize) -> Result<Checked, Flaw> {
    check_as(&OURS, memory, address)
}

fn check_as(ours: &Known<'_>, memory: &impl Memory, address: usize) -> Result<Checked, Flaw> {
    // SAFETY: numbers alone.
    let header: Header = unsafe { read(memory, address) }.ok_or(Flaw::Nowhere)?;
    if header.magic != MAGIC {
        return Err(Flaw::Magic(header.magic));
    }
    // These two stand in the same place in every version, and tell what to do about a wrong one.
    let (rustc, api_version) = (
        text_at(memory, address, offset_of!(Descriptor, rustc), "rustc"),
        text_at(
            memory,
            address,
            offset_of!(Descriptor, api_version),
            "api_version",
        ),
    );
    let (major, minor) = (header.major, header.minor);
    let size_of_minor = usize::try_from(minor)
        .ok()
        .and_then(|minor| ours.sizes.get(minor));
    let (ABI_MAJOR, Some(&expected)) = (major, size_of_minor) else {
        return Err(Flaw::Version {
            major,
            minor,
            rustc: rustc.ok(),
            api_version: api_version.ok(),
        });
    };
    if header.size != expected {
        return Err(Flaw::Size {
            minor,
            found: header.size,
            expected,
        });
    }
    let checked = Checked {
        header,
        rustc: rustc?,
        api_version: api_version?,
    };
    let told = layout(memory, address)?;
    let differences = compare(ours.layout, &told, minor < ours.minor);
    if !differences.is_empty() {
        return Err(Flaw::Layout {
            built: checked,
            differences,
        });
    }
    functions(ours, memory, address, header.size)?;
    Ok(checked)
}

fn text_at(
    memory: &impl Memory,
    descriptor: usize,
    offset: usize,
    name: &str,
) -> Result<String, Flaw> {
    let whole = descriptor
        .checked_add(offset)
        .and_then(|at| span(memory, at));
    text(memory, name, whole.ok_or(Flaw::Nowhere)?)
}

/// Reads what the library says of its types.
fn layout(memory: &impl Memory, descriptor: usize) -> Result<Vec<Vec<Told>>, Flaw> {
    let at = descriptor.checked_add(offset_of!(Descriptor, layout));
    let types = at.and_then(|at| span(memory, at)).ok_or(Flaw::Nowhere)?;
    let mut all = Vec::new();
    // SAFETY: two numbers each.
    for fields in unsafe { entries::<Span>(memory, "layout", types) }? {
        let mut told = Vec::new();
        // SAFETY: four numbers each.
        for field in unsafe { entries::<RawField>(memory, "layout", fields) }? {
            told.push(Told {
                name: text(memory, "layout", field.name)?,
                offset: field.offset,
                size: field.size,
            });
        }
        all.push(told);
    }
    Ok(all)
}

/// Reads the entries of a slice.
///
/// # Safety
/// Every pattern of bits is a `T`.
unsafe fn entries<T: Copy>(
    memory: &impl Memory,
    field: &str,
    Span { start, len }: Span,
) -> Result<Vec<T>, Flaw> {
    if len > MOST_ENTRIES {
        return Err(Flaw::TooLong {
            field: field.to_owned(),
            len,
            most: MOST_ENTRIES,
        });
    }
    let entry = |index: usize| {
        let at = start.checked_add(index * size_of::<T>());
        // SAFETY: by the caller's promise.
        at.and_then(|at| unsafe { read(memory, at) })
    };
    let all: Option<Vec<T>> = (0..len).map(entry).collect();
    all.ok_or_else(|| Flaw::Pointer {
        field: field.to_owned(),
        start,
        len,
    })
}

/// Checks that every function of the descriptor is code; one that came after 1.0 may be null.
fn functions(
    ours: &Known<'_>,
    memory: &impl Memory,
    descriptor: usize,
    size: usize,
) -> Result<(), Flaw> {
    let of_descriptor = ours
        .layout
        .iter()
        .flat_map(|fields| fields.as_slice())
        .filter(|field| field.name.as_str().starts_with("Descriptor."));
    let first = offset_of!(Descriptor, describe);
    for field in of_descriptor.filter(|field| (first..size).contains(&field.offset)) {
        let at = descriptor.checked_add(field.offset);
        // SAFETY: a number.
        let address = at.and_then(|at| unsafe { read::<usize>(memory, at) });
        let address = address.ok_or(Flaw::Nowhere)?;
        let absent = address == 0 && field.offset >= ours.sizes[0];
        if !absent && (address == 0 || !memory.is_code(address)) {
            return Err(Flaw::Function {
                name: field.name.as_str().to_owned(),
                address,
            });
        }
    }
    Ok(())
}

/// Copies a descriptor. Nothing in the copy points into the library but its functions; those that
/// its version does not have are `None`.
///
/// # Safety
/// `descriptor` is the address that [`check`] has found `checked` at, in this process, and the
/// library stays loaded for as long as a function of the copy may be called.
pub unsafe fn copy(descriptor: *const c_void, checked: &Checked) -> Descriptor {
    // SAFETY: `check` has read as many bytes there.
    let copy = unsafe { copy_start::<Descriptor>(descriptor, checked.header.size) };
    // SAFETY: `check` has found the functions of 1.0 in it, which are not null; later ones are
    // options, for which zeros are `None`; slices of any numbers are valid as long as nobody looks.
    let mut copy = unsafe { copy.assume_init() };
    copy.rustc = Text::new("");
    copy.api_version = Text::new("");
    copy.layout = Slice::of(&[]);
    copy
}

/// Copies the first `size` bytes of a `T`; the rest is zero.
///
/// # Safety
/// `size` bytes can be read at `from`.
unsafe fn copy_start<T>(from: *const c_void, size: usize) -> MaybeUninit<T> {
    let mut copy = MaybeUninit::<T>::zeroed();
    let to = copy.as_mut_ptr().cast::<u8>();
    // SAFETY: by the caller's promise; no more than fits into `copy`, which nobody else has.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to, size.min(size_of::<T>())) };
    copy
}

/// Asks a library that is not trusted for its description.
///
/// # Errors
/// It fails, or what it answers is none.
///
/// # Safety
/// `descriptor` came from [`copy`]. What the function does cannot be known: the process must be one
/// that may die of it.
pub unsafe fn describe(memory: &impl Memory, descriptor: &Descriptor) -> Result<Description, Flaw> {
    type Describe = extern "C" fn(out: &mut Buffer) -> u8;
    // SAFETY: a status is a `u8`; which numbers it has is what is checked here.
    let describe = unsafe {
        mem::transmute::<extern "C" fn(&mut Buffer) -> Status, Describe>(descriptor.describe)
    };
    let mut out = Buffer::default();
    let answer = describe(&mut out);
    let (start, len) = out.parts();
    // The maker's `drop` is not trusted either.
    mem::forget(out);
    let bytes = bytes(memory, "describe", Span { start, len }, LONGEST_DESCRIPTION)?;
    if answer == Status::Ok as u8 {
        codec::from_slice(&bytes).map_err(|error| Flaw::Description(error.to_string()))
    } else if answer == Status::Failed as u8 {
        Err(Flaw::Describe(Failure::decode(&bytes)))
    } else {
        Err(Flaw::Answer(answer))
    }
}
