//! The checks against descriptors that lie, without a library.

#[path = "image.rs"]
mod image;

use std::cell::Cell;

use image::{BASE, CODE, GAP, Image};

use super::*;
use crate::abi::descriptor;

const WORD: usize = size_of::<usize>();

fn checked(image: &[u8]) -> Result<Checked, Flaw> {
    check(&Image(image), BASE)
}

/// Writes a word into an image.
fn put(image: &mut [u8], at: usize, value: usize) {
    image[at..at + WORD].copy_from_slice(&value.to_ne_bytes());
}

fn get(image: &[u8], at: usize) -> usize {
    let bytes = image[at..at + WORD].try_into().expect("a word");
    usize::from_ne_bytes(bytes)
}

/// Checks an image after `change`.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Checked, Flaw> {
    let mut image = image::own();
    change(&mut image);
    checked(&image)
}

#[test]
fn our_own_descriptor_passes() {
    let own = checked(&image::own()).expect("passes");
    assert_eq!(own.header, descriptor().header);
    assert_eq!(own.rustc, env!("AIGIS_RUSTC"));
    assert_eq!(own.api_version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn nothing_and_the_wrong_magic_are_told_apart() {
    assert_eq!(checked(&[]), Err(Flaw::Nowhere));
    assert_eq!(check(&Image(&image::own()), usize::MAX), Err(Flaw::Nowhere));
    let error = changed(|image| image[..8].copy_from_slice(b"NOTAPLUG"));
    assert_eq!(error, Err(Flaw::Magic(*b"NOTAPLUG")));
}

#[test]
fn other_versions_are_refused_with_what_built_them() {
    for (at, major, minor) in [
        (8, ABI_MAJOR + 1, ABI_MINOR),
        (12, ABI_MAJOR, ABI_MINOR + 1),
    ] {
        let found = if at == 8 { major } else { minor };
        let flaw = changed(|image| image[at..at + 4].copy_from_slice(&found.to_ne_bytes()))
            .expect_err("is refused");
        assert_eq!(
            flaw,
            Flaw::Version {
                major,
                minor,
                rustc: Some(env!("AIGIS_RUSTC").to_owned()),
                api_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            }
        );
        let text = flaw.to_string();
        assert!(
            text.contains(&format!("ABI version {major}.{minor}")),
            "{text}"
        );
        assert_eq!(text.matches(env!("AIGIS_RUSTC")).count(), 2, "{text}");
    }
    // Whose texts cannot be read is refused for its version all the same.
    let flaw = changed(|image| {
        image[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        put(image, 24, 0);
        put(image, 48, usize::MAX);
    });
    assert!(
        matches!(
            flaw,
            Err(Flaw::Version {
                major: 7,
                rustc: None,
                api_version: None,
                ..
            })
        ),
        "{flaw:?}"
    );
}

#[test]
fn a_size_is_that_of_the_version() {
    for size in [0, 24, SIZES[0] - 1, size_of::<Descriptor>() + 1, usize::MAX] {
        let flaw = changed(|image| put(image, 16, size));
        assert!(
            matches!(flaw, Err(Flaw::Size { found, .. }) if found == size),
            "{flaw:?}"
        );
    }
}

#[test]
fn lies_in_lengths_and_places_are_found() {
    let rustc = offset_of!(Descriptor, rustc);
    let layout = offset_of!(Descriptor, layout);
    for (at, value) in [
        (rustc, 0x10),
        (rustc, usize::MAX - 3),
        (rustc + WORD, LONGEST_TEXT + 1),
        (rustc + WORD, usize::MAX),
        (layout, 1),
        (layout, usize::MAX),
        (layout + WORD, MOST_ENTRIES),
        (layout + WORD, MOST_ENTRIES + 1),
        (layout + WORD, usize::MAX / 2),
    ] {
        let flaw = changed(|image| put(image, at, value));
        assert!(
            matches!(flaw, Err(Flaw::Pointer { .. } | Flaw::TooLong { .. })),
            "{at}: {value:#x}: {flaw:?}"
        );
    }
    let flaw = changed(|image| {
        let start = get(image, rustc) - BASE;
        image[start] = 0xff;
    });
    assert_eq!(
        flaw,
        Err(Flaw::NotText {
            field: "rustc".to_owned()
        })
    );
}

#[test]
fn functions_must_be_code() {
    for address in [0, BASE, CODE.end] {
        let call = offset_of!(Descriptor, call);
        let flaw = changed(|image| put(image, call, address));
        let name = "Descriptor.call".to_owned();
        assert_eq!(flaw, Err(Flaw::Function { name, address }));
    }
}

#[test]
fn a_layout_that_differs_is_named_field_by_field() {
    let flaw = changed(|image| {
        // The first field of the first type: `Header.magic`.
        let types = get(image, offset_of!(Descriptor, layout)) - BASE;
        let fields = get(image, types) - BASE;
        put(image, fields + 2 * WORD, 4);
    });
    let text = flaw.expect_err("differs").to_string();
    assert!(
        text.contains("`Header.magic` has 8 bytes at offset 4, expected 8 at 0"),
        "{text}"
    );
    let flaw = changed(|image| put(image, offset_of!(Descriptor, layout) + WORD, 0));
    let text = flaw.expect_err("differs").to_string();
    assert!(text.contains("the type `Descriptor` is missing"), "{text}");
}

/// A host of the next minor version, whose descriptor has one more function.
fn next_minor(check: impl FnOnce(&Known<'_>)) {
    let size = size_of::<Descriptor>();
    let field = |name: &'static str, offset, size| Field {
        name: Text::new(name),
        offset,
        size,
    };
    let mut layout = LAYOUT.to_vec();
    let of_descriptor = layout
        .iter_mut()
        .find(|fields| {
            fields.as_slice()[0]
                .name
                .as_str()
                .starts_with("Descriptor.")
        })
        .expect("is listed");
    let mut longer = of_descriptor.as_slice().to_vec();
    longer.push(field("Descriptor.added", size, WORD));
    *of_descriptor = Slice::of(longer.leak());
    layout.push(Slice::of(vec![field("Added.only", 0, WORD)].leak()));
    let mut sizes = SIZES.to_vec();
    sizes.push(size + WORD);
    check(&Known {
        minor: ABI_MINOR + 1,
        sizes: &sizes,
        layout: &layout,
    });
}

/// An image that notices when somebody reads where nobody may.
struct Watched<'a> {
    image: Image<'a>,
    forbidden: std::ops::Range<usize>,
    touched: Cell<bool>,
}

impl Memory for Watched<'_> {
    fn copy(&self, address: usize, out: &mut [u8]) -> bool {
        let end = address.saturating_add(out.len());
        if address < self.forbidden.end && end > self.forbidden.start {
            self.touched.set(true);
        }
        self.image.copy(address, out)
    }

    fn is_code(&self, address: usize) -> bool {
        self.image.is_code(address)
    }
}

#[test]
fn an_older_descriptor_passes_and_nothing_is_read_beyond_its_end() {
    let own = image::own();
    let size = size_of::<Descriptor>();
    let watched = Watched {
        image: Image(&own),
        forbidden: BASE + size..BASE + size + GAP,
        touched: Cell::new(false),
    };
    next_minor(|newer| {
        let checked = check_as(newer, &watched, BASE).expect("is older, not wrong");
        assert_eq!(checked.header.minor, ABI_MINOR);
    });
    assert!(!watched.touched.get());
}

#[test]
fn of_a_library_of_1_0_nothing_is_read_beyond_its_end_and_it_has_no_begin() {
    let end = SIZES[0];
    let mut image = image::own();
    image[12..16].copy_from_slice(&0_u32.to_ne_bytes());
    put(&mut image, 16, end);
    let watched = Watched {
        image: Image(&image),
        forbidden: BASE + end..BASE + size_of::<Descriptor>() + GAP,
        touched: Cell::new(false),
    };
    let checked = check(&watched, BASE).expect("is older, not wrong");
    assert!(!watched.touched.get());

    // Memory that ends where the descriptor does.
    let mut short = vec![MaybeUninit::<u8>::uninit(); end];
    let own = std::ptr::from_ref(descriptor()).cast();
    // SAFETY: our own descriptor is longer than that of 1.0, and `short` is as long as that.
    unsafe { std::ptr::copy_nonoverlapping(own, short.as_mut_ptr(), end) };
    // SAFETY: as many bytes as `checked` says are there, with the functions of this very program.
    let copy = unsafe { copy(short.as_ptr().cast(), &checked) };
    assert!(copy.begin.is_none());
    assert_eq!(copy.call as usize, descriptor().call as usize);
}

#[test]
fn a_descriptor_of_the_same_version_lacks_nothing() {
    let mut own = image::own();
    own[12..16].copy_from_slice(&(ABI_MINOR + 1).to_ne_bytes());
    let size = size_of::<Descriptor>();
    next_minor(|newer| {
        let flaw = check_as(newer, &Image(&own), BASE).expect_err("is too short");
        assert!(matches!(flaw, Flaw::Size { found, .. } if found == size));
        // Longer, but its table does not tell of what was added.
        put(&mut own, 16, size + WORD);
        let flaw = check_as(newer, &Image(&own), BASE).expect_err("lacks something");
        let text = flaw.to_string();
        assert!(
            text.contains("the field `Descriptor.added` is missing"),
            "{text}"
        );
        assert!(text.contains("the type `Added` is missing"), "{text}");
    });
}

#[test]
fn a_function_that_was_added_later_may_be_null_but_not_nonsense() {
    let size = size_of::<Descriptor>();
    next_minor(|newer| {
        for (address, fits) in [(0, true), (CODE.start, true), (BASE, false)] {
            let mut own = image::own();
            put(&mut own, size, address);
            let outcome = functions(newer, &Image(&own), BASE, size + WORD);
            assert_eq!(outcome.is_ok(), fits, "{address:#x}: {outcome:?}");
        }
    });
}

#[test]
fn what_a_shorter_struct_lacks_is_none() {
    #[repr(C)]
    struct Longer {
        number: usize,
        first: Option<extern "C" fn()>,
        added: Option<extern "C" fn()>,
    }
    extern "C" fn nothing() {}
    let whole = Longer {
        number: 7,
        first: Some(nothing),
        added: Some(nothing),
    };
    let from = std::ptr::from_ref(&whole).cast();
    // SAFETY: `whole` is longer than what is asked for; zeros are `None`.
    let copy = unsafe { copy_start::<Longer>(from, offset_of!(Longer, added)).assume_init() };
    assert_eq!(copy.number, 7);
    assert!(copy.first.is_some() && copy.added.is_none());
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("is below a usize")
    }
}

#[test]
fn no_change_of_a_descriptor_does_more_than_fail() {
    let own = image::own();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut passed, mut failed) = (0, 0);
    for _ in 0..100_000 {
        let mut image = own.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(image.len());
            match random.below(4) {
                0 => image[at] = random.next().to_ne_bytes()[0],
                1 => image[at] ^= 1 << random.below(8),
                2 => {
                    let at = random.below(image.len() / WORD - 1) * WORD;
                    let near = [0, 1, BASE, own.len(), BASE + own.len() - 1, usize::MAX];
                    let value = near[random.below(near.len())];
                    put(&mut image, at, value);
                }
                _ => image.truncate(at.max(WORD * 4)),
            }
        }
        match checked(&image) {
            Ok(_) => passed += 1,
            Err(flaw) => {
                assert!(flaw.to_string().len() < 64 << 10, "{flaw}");
                failed += 1;
            }
        }
    }
    // Changes of the texts alone do no harm, and others do.
    assert!(passed > 100 && failed > 10_000, "{passed} {failed}");
}

/// The memory of this process, as far as the own descriptor is concerned.
struct Here;

impl Memory for Here {
    fn copy(&self, address: usize, out: &mut [u8]) -> bool {
        let source: *const u8 = std::ptr::with_exposed_provenance(address);
        // SAFETY: the own descriptor and its own answers are all that these tests ask for.
        unsafe { std::ptr::copy_nonoverlapping(source, out.as_mut_ptr(), out.len()) };
        true
    }

    fn is_code(&self, _: usize) -> bool {
        true
    }
}

fn own_copy() -> Descriptor {
    let address = std::ptr::from_ref(descriptor()).cast::<c_void>();
    let checked = check(&Here, address.expose_provenance()).expect("passes");
    // SAFETY: checked above, at this address; it is never unloaded.
    unsafe { copy(address, &checked) }
}

#[test]
fn a_copy_keeps_the_functions_and_nothing_else() {
    let copy = own_copy();
    assert_eq!(copy.call as usize, descriptor().call as usize);
    assert_eq!(copy.close as usize, descriptor().close as usize);
    assert_eq!(copy.rustc.as_str(), "");
    assert!(copy.layout.as_slice().is_empty());
}

#[test]
fn answers_of_describe_are_checked() {
    extern "C" fn odd(_: &mut Buffer) -> u8 {
        77
    }
    extern "C" fn garbage(out: &mut Buffer) -> Status {
        *out = b"\xc1garbage".to_vec().into();
        Status::Ok
    }
    extern "C" fn failing(out: &mut Buffer) -> Status {
        let failure = Failure::new(crate::FailureKind::Panicked, "no");
        *out = failure.encode().into();
        Status::Failed
    }
    let with = |describe| Descriptor {
        describe,
        ..own_copy()
    };
    // SAFETY: the answer is read as a `u8`, which is what is tested.
    let odd = unsafe {
        mem::transmute::<extern "C" fn(&mut Buffer) -> u8, extern "C" fn(&mut Buffer) -> Status>(
            odd,
        )
    };
    // SAFETY: the functions are those above, or this crate's own.
    let answer = |descriptor: &Descriptor| unsafe { describe(&Here, descriptor) };
    assert_eq!(answer(&with(odd)), Err(Flaw::Answer(77)));
    assert!(matches!(answer(&with(garbage)), Err(Flaw::Description(_))));
    assert!(matches!(answer(&with(failing)), Err(Flaw::Describe(_))));
    assert!(answer(&own_copy()).is_ok());
}
