//! A descriptor and all it points to, in one run of bytes; for tests and for the fuzz target.

use super::{Field, Memory, descriptor};

/// Where an image says that it lies.
pub(crate) const BASE: usize = 0x10_0000;

/// The addresses that count as code.
pub(crate) const CODE: std::ops::Range<usize> = 0x20_0000..0x20_1000;

/// Bytes that say they lie at [`BASE`].
pub(crate) struct Image<'a>(pub(crate) &'a [u8]);

impl Memory for Image<'_> {
    fn copy(&self, address: usize, out: &mut [u8]) -> bool {
        let here = address
            .checked_sub(BASE)
            .and_then(|start| self.0.get(start..)?.get(..out.len()));
        here.is_some_and(|bytes| {
            out.copy_from_slice(bytes);
            true
        })
    }

    fn is_code(&self, address: usize) -> bool {
        CODE.contains(&address)
    }
}

/// How many bytes after the descriptor belong to nobody.
pub(crate) const GAP: usize = 64;

/// Lays out this build's own descriptor as an image: the descriptor first, after a gap what it points
/// to.
pub(crate) fn own() -> Vec<u8> {
    let descriptor = descriptor();
    let header = &descriptor.header;
    let types: Vec<&[Field]> = descriptor
        .layout
        .as_slice()
        .iter()
        .map(|fields| fields.as_slice())
        .collect();
    let fields: usize = types.iter().map(|fields| fields.len()).sum();
    // The texts come after the tables.
    let tables = header.size + GAP;
    let of_fields = tables + types.len() * 2 * WORD;
    let mut texts = Texts {
        start: of_fields + fields * 4 * WORD,
        bytes: Vec::new(),
    };
    let mut image = Vec::new();
    image.extend(header.magic);
    image.extend(header.major.to_ne_bytes());
    image.extend(header.minor.to_ne_bytes());
    image.extend(header.size.to_ne_bytes());
    texts.point(&mut image, descriptor.rustc.as_str());
    texts.point(&mut image, descriptor.api_version.as_str());
    word(&mut image, BASE + tables);
    word(&mut image, types.len());
    while image.len() < header.size {
        let function = CODE.start + image.len();
        word(&mut image, function);
    }
    image.resize(tables, 0xaa);
    let mut next = of_fields;
    for fields in &types {
        word(&mut image, BASE + next);
        word(&mut image, fields.len());
        next += fields.len() * 4 * WORD;
    }
    for field in types.iter().flat_map(|fields| fields.iter()) {
        texts.point(&mut image, field.name.as_str());
        word(&mut image, field.offset);
        word(&mut image, field.size);
    }
    assert_eq!(image.len(), texts.start);
    image.extend(texts.bytes);
    image
}

const WORD: usize = size_of::<usize>();

fn word(image: &mut Vec<u8>, value: usize) {
    image.extend(value.to_ne_bytes());
}

struct Texts {
    start: usize,
    bytes: Vec<u8>,
}

impl Texts {
    /// Keeps a text, and writes where it is and how long.
    fn point(&mut self, image: &mut Vec<u8>, text: &str) {
        word(image, BASE + self.start + self.bytes.len());
        word(image, text.len());
        self.bytes.extend(text.as_bytes());
    }
}
