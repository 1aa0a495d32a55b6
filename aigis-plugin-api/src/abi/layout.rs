//! How the types of this module are laid out in one build, for another build to compare.

use super::{Slice, Text};

/// One field of a type that crosses.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The type and the field: `Descriptor.call`.
    pub name: Text<'static>,
    /// Where it starts, in bytes from the start of its type.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// The fields of one type, in their order.
pub type Fields = Slice<'static, Field>;

/// Makes the fields of a type: `fields!("Descriptor", Descriptor { header, call })`.
macro_rules! fields {
    ($name:literal, $whole:ty { $($field:ident),* $(,)? }) => {
        $crate::abi::Slice::of(&[$($crate::abi::layout::Field {
            name: $crate::abi::Text::new(concat!($name, ".", stringify!($field))),
            offset: ::std::mem::offset_of!($whole, $field),
            size: $crate::abi::layout::size_of_field(|whole: &$whole| &whole.$field),
        }),*])
    };
}
pub(super) use fields;

pub(super) const fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Compares what a library says of its types with what this build says of its own.
///
/// `theirs` may know fewer types or, at the end of a type, fewer fields: those of an older minor
/// version.
///
/// # Errors
/// Every field that differs, in words.
#[cfg(any(feature = "host", test))]
pub(super) fn compare(ours: &[Fields], theirs: &[Fields]) -> Result<(), String> {
    let mut differences = Vec::new();
    if theirs.len() > ours.len() {
        differences.push(format!(
            "{} types cross, {} are known here",
            theirs.len(),
            ours.len()
        ));
    }
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (ours, theirs) = (ours.as_slice(), theirs.as_slice());
        for (place, field) in theirs.iter().enumerate() {
            let name = field.name.as_str();
            match ours.get(place) {
                Some(own) if own.name.as_str() != name => differences.push(format!(
                    "`{name}` stands where `{}` is expected",
                    own.name.as_str()
                )),
                Some(own) if (own.offset, own.size) != (field.offset, field.size) => {
                    differences.push(format!(
                        "`{name}` has {} bytes at offset {}, expected {} at {}",
                        field.size, field.offset, own.size, own.offset
                    ));
                }
                Some(_) => {}
                None => differences.push(format!("`{name}` is not known here")),
            }
        }
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.join("\n"))
    }
}
