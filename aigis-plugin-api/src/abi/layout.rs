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

/// One field as a library tells of it, copied out of the library.
#[cfg(any(feature = "host", feature = "portable", test))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) offset: usize,
    pub(super) size: usize,
}

/// Compares what a library says of its types with what this build says of its own; one line for each
/// difference.
///
/// Types are matched by their names, fields by their places: the order of fields is the layout.
/// What an older minor version cannot know of, whole types and the last fields of others, may be
/// missing where `older` says so.
#[cfg(any(feature = "host", feature = "portable", test))]
pub(super) fn compare(ours: &[Fields], theirs: &[Vec<Told>], older: bool) -> Vec<String> {
    let mut differences = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for fields in theirs {
        let Some(first) = fields.first() else {
            differences.push("a type has no fields".to_owned());
            continue;
        };
        let name = type_of(&first.name);
        match ours.iter().find(|own| own_name(own) == name) {
            Some(own) if !known.contains(&name) => {
                known.push(name);
                compare_type(own.as_slice(), fields, older, &mut differences);
            }
            Some(_) => differences.push(format!("`{name}` is described twice")),
            None => differences.push(format!("the type `{name}` is not known here")),
        }
    }
    if !older {
        let missing = ours
            .iter()
            .map(own_name)
            .filter(|name| !known.contains(name));
        differences.extend(missing.map(|name| format!("the type `{name}` is missing")));
    }
    differences
}

#[cfg(any(feature = "host", feature = "portable", test))]
fn type_of(field: &str) -> &str {
    field.split_once('.').map_or(field, |(name, _)| name)
}

#[cfg(any(feature = "host", feature = "portable", test))]
fn own_name(fields: &Fields) -> &'static str {
    let first = fields.as_slice().first();
    first.map_or("", |field| type_of(field.name.as_str()))
}

#[cfg(any(feature = "host", feature = "portable", test))]
fn compare_type(ours: &[Field], theirs: &[Told], older: bool, differences: &mut Vec<String>) {
    for (place, field) in theirs.iter().enumerate() {
        let name = &field.name;
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
            None => differences.push(format!("the field `{name}` is not known here")),
        }
    }
    if !older {
        let missing = ours.iter().skip(theirs.len());
        differences
            .extend(missing.map(|own| format!("the field `{}` is missing", own.name.as_str())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Pair {
        first: u32,
        second: u64,
    }

    const PAIR: Fields = fields!("Pair", Pair { first, second });
    const ONE: Fields = fields!("One", One { only });

    #[repr(C)]
    struct One {
        only: u8,
    }

    fn told(fields: &[(&str, usize, usize)]) -> Vec<Told> {
        let told = fields.iter().map(|&(name, offset, size)| Told {
            name: name.to_owned(),
            offset,
            size,
        });
        told.collect()
    }

    fn pair() -> Vec<Told> {
        told(&[("Pair.first", 0, 4), ("Pair.second", 8, 8)])
    }

    fn one() -> Vec<Told> {
        told(&[("One.only", 0, 1)])
    }

    #[test]
    fn the_same_types_in_any_order_are_the_same() {
        assert!(compare(&[PAIR, ONE], &[pair(), one()], false).is_empty());
        assert!(compare(&[PAIR, ONE], &[one(), pair()], false).is_empty());
    }

    #[test]
    fn each_difference_is_a_line_of_its_own() {
        let moved = told(&[("Pair.first", 0, 8), ("Pair.second", 8, 4)]);
        let other = told(&[("Other.x", 0, 1)]);
        let found = compare(&[PAIR, ONE], &[moved, other], true);
        assert_eq!(
            found,
            [
                "`Pair.first` has 8 bytes at offset 0, expected 4 at 0",
                "`Pair.second` has 4 bytes at offset 8, expected 8 at 8",
                "the type `Other` is not known here",
            ]
        );
        let swapped = told(&[("Pair.second", 0, 8), ("Pair.first", 8, 4)]);
        let found = compare(&[PAIR], &[swapped], false);
        assert_eq!(
            found[0],
            "`Pair.second` stands where `Pair.first` is expected"
        );
        assert_eq!(found.len(), 2);
        assert_eq!(
            compare(&[ONE], &[one(), one(), Vec::new()], false),
            ["`One` is described twice", "a type has no fields"]
        );
    }

    #[test]
    fn an_older_minor_may_lack_what_came_later_and_the_same_may_not() {
        let short = vec![told(&[("Pair.first", 0, 4)])];
        assert!(compare(&[PAIR, ONE], &short, true).is_empty());
        assert_eq!(
            compare(&[PAIR, ONE], &short, false),
            [
                "the field `Pair.second` is missing",
                "the type `One` is missing"
            ]
        );
    }

    #[test]
    fn more_than_is_known_here_is_never_taken() {
        let long = told(&[("One.only", 0, 1), ("One.more", 1, 1)]);
        assert_eq!(
            compare(&[ONE], &[long], true),
            ["the field `One.more` is not known here"]
        );
    }
}
