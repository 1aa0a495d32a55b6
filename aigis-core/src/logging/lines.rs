//! From the bytes that a program prints to lines.

/// The longest line that is kept in one piece, in bytes.
pub const MAX_LINE_BYTES: usize = 48 * 1024;

/// What a reader of the log sees at the end of a piece whose line goes on in the next record.
pub const CUT_MARKER: &str = " [line continues]";

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// With a line break.
    Newline,
    /// It was longer than [`MAX_LINE_BYTES`] and goes on in the next piece.
    Cut,
    /// The output ended without a line break.
    Eof,
}

/// One line, or one piece of a line that was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The bytes without the line break.
    pub bytes: &'a [u8],
    /// How it ended.
    pub end: LineEnd,
}

/// Cuts a stream of bytes into lines and keeps the unfinished last one.
///
/// A line that lies within one chunk is handed on where it lies; only what spans chunks
/// is copied, into one buffer that is reused.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
}

impl LineSplitter {
    /// Creates a splitter at the start of a stream.
    pub fn new() -> LineSplitter {
        LineSplitter::default()
    }

    /// Tells whether no line is unfinished.
    pub fn is_at_start(&self) -> bool {
        self.partial.is_empty()
    }

    /// Takes the next bytes and calls `each` for every line that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            if self.partial.is_empty() {
                emit(line, LineEnd::Newline, &mut each);
            } else {
                self.extend(line, &mut each);
                emit(&self.partial, LineEnd::Newline, &mut each);
                self.partial.clear();
            }
            bytes = rest;
        }
        self.extend(bytes, &mut each);
    }

    /// Ends the stream: hands on what came after the last line break.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            emit(&self.partial, LineEnd::Eof, &mut each);
            self.partial.clear();
        }
    }

    /// Appends to the unfinished line; afterwards it is at most [`MAX_LINE_BYTES`] long.
    fn extend(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Line<'_>)) {
        loop {
            let room = MAX_LINE_BYTES - self.partial.len();
            if bytes.len() <= room {
                self.partial.extend_from_slice(bytes);
                return;
            }
            self.partial.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            let cut = cut_point(&self.partial);
            each(Line {
                bytes: &self.partial[..cut],
                end: LineEnd::Cut,
            });
            self.partial.drain(..cut);
        }
    }
}

fn emit(mut line: &[u8], end: LineEnd, each: &mut impl FnMut(Line<'_>)) {
    while line.len() > MAX_LINE_BYTES {
        let cut = cut_point(&line[..MAX_LINE_BYTES]);
        each(Line {
            bytes: &line[..cut],
            end: LineEnd::Cut,
        });
        line = &line[cut..];
    }
    each(Line { bytes: line, end });
}

/// Returns where to cut so that no character is split, as far as these are characters.
fn cut_point(bytes: &[u8]) -> usize {
    let end = bytes.len();
    for back in 1..=3.min(end) {
        let byte = bytes[end - back];
        let width = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => return end,
        };
        return if width > back { end - back } else { end };
    }
    end
}
