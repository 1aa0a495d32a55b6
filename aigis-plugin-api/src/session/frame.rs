//! Frames: what two processes say to each other on a session. `docs/protocol.md` is the specification.
//!
//! A frame is a header of 17 bytes (the length of the body as u32, the kind as u8, a number as u64, a
//! time in milliseconds as u32; little-endian) and a body in MessagePack.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::error::{Failure, FailureKind};
use crate::signature::Signature;

/// What a hello starts with.
pub const MAGIC: &str = "AIGIS";
/// The protocol's version: a different major number cannot be talked to.
pub const PROTOCOL: (u32, u32) = (1, 0);
/// The longest body of a frame, in bytes.
pub const MAX_BODY: usize = 1 << 30;
/// The longest item of a stream, in bytes.
pub const MAX_ITEM: usize = 16 << 20;
/// The size of a header, in bytes.
pub const HEADER: usize = 17;
/// Is added to a kind when the body lies in the memory whose descriptor comes with the header.
pub const ATTACHED: u8 = 0x80;

/// What the two sides of a session can do beyond calls; each uses what both have named.
pub mod feature {
    /// Frames in memory that both share.
    pub const RING: &str = "ring";
    /// Bodies in sealed memory, its descriptor sent along.
    pub const ATTACHED: &str = "attached";
    /// The client makes an offer as soon as it can; its plugin is not ready before that.
    pub const OFFERS: &str = "offers";
    /// Results and arguments that come item by item.
    pub const STREAMS: &str = "streams";
    /// Portable skills are brought to the client, named after the kind of libraries that both sides
    /// load; none where it is not known which those are.
    pub const PORTABLE: Option<&str> = if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        None
    } else if cfg!(target_arch = "x86_64") {
        Some("portable-x86_64-linux-gnu")
    } else if cfg!(target_arch = "aarch64") {
        Some("portable-aarch64-linux-gnu")
    } else {
        None
    };
    /// Those of every core.
    pub const ALWAYS: [&str; 4] = [ATTACHED, RING, OFFERS, STREAMS];
}

/// The body of a goodbye whose sender has answered every call that had begun.
pub const ALL_ANSWERED: u8 = 1;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The client's first frame: a [`Hello`].
    Hello = 1,
    /// The host's answer: a [`Welcome`].
    Welcome = 2,
    /// What the client expects of a skill: an [`Import`]. Its number stands for the skill from then on.
    Import = 3,
    /// What the host has for the import of that number, at first and whenever it changes: a [`Served`].
    Served = 4,
    /// A call: a [`Call`]. Whoever calls counts.
    Call = 5,
    /// The encoded result of the call, or of the offer, of the same number.
    Reply = 6,
    /// The [`Failure`] of the call, or of the offer, of the same number; number 0 speaks of the session.
    Error = 7,
    /// The caller no longer waits for the call of this number.
    Cancel = 8,
    /// The sender will send no more.
    Goodbye = 9,
    /// What the client's process serves from now on: an [`Offer`].
    Offer = 10,
    /// The memory for frames, its descriptor sent along; from the host, after [`feature::RING`].
    Ring = 11,
    /// There is something in the shared memory, whose reader may have gone to sleep.
    Look = 12,
    /// A call whose result or arguments are streams: an [`Open`]. It is over with a reply, of nil, or an error.
    Open = 14,
    /// An item of a stream of the call of this number, encoded; one without a body says that the call has begun.
    Item = 15,
    /// The consumer of a stream asks for items: a [`Credit`].
    More = 16,
    /// An argument of the call of this number has no more items; with a [`Failure`] if it has failed.
    End = 17,
    /// The page that says which version of each portable plugin serves, its descriptor sent along; from
    /// the host, after [`feature::PORTABLE`].
    Page = 18,
    /// A library with portable skills, its descriptor sent along: a [`Library`].
    Library = 19,
}

impl TryFrom<u8> for Kind {
    type Error = Failure;

    fn try_from(number: u8) -> Result<Self, Failure> {
        Ok(match number {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Import,
            4 => Self::Served,
            5 => Self::Call,
            6 => Self::Reply,
            7 => Self::Error,
            8 => Self::Cancel,
            9 => Self::Goodbye,
            10 => Self::Offer,
            11 => Self::Ring,
            12 => Self::Look,
            14 => Self::Open,
            15 => Self::Item,
            16 => Self::More,
            17 => Self::End,
            18 => Self::Page,
            19 => Self::Library,
            other => {
                return Err(malformed(format_args!(
                    "a frame is of kind 1 to 12 or 14 to 19, this one of kind {other}"
                )));
            }
        })
    }
}

/// Who asks to be let in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: String,
    /// [`PROTOCOL`] of the client.
    pub protocol: (u32, u32),
    /// What the client can do, by the names of [`feature`].
    #[serde(default)]
    pub features: Vec<String>,
    /// The token of a launched plugin; without one the session is a tool's of the same user.
    #[serde(default)]
    pub token: Option<String>,
    /// A name for people, in logs and in `aigis status`.
    pub client: String,
    /// The client's process.
    pub pid: u32,
    /// What it imports, numbered from 0; more may follow.
    #[serde(default)]
    pub imports: Vec<Import>,
}

/// The host lets a client in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL`] of the host.
    pub protocol: (u32, u32),
    /// What the host can do, by the names of [`feature`].
    #[serde(default)]
    pub features: Vec<String>,
    /// The number of the session.
    pub session: u64,
    /// The host's process.
    pub core_pid: u32,
}

/// What a client expects of a skill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// The full name of the skill.
    pub name: String,
    /// What the caller was compiled with.
    pub signature: Signature,
    /// The skill's code is wanted, where it is portable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub portable: bool,
}

/// What the host has for an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The plugin that offers the skill; none when nobody does.
    #[serde(default)]
    pub plugin: Option<String>,
    /// Which version of the plugin it is, counted from 1.
    #[serde(default)]
    pub generation: u64,
    /// A call of it may be made again when nobody knows whether it ran.
    #[serde(default)]
    pub idempotent: bool,
    /// How many bytes the arguments, and likewise the result, may have, if that is less than
    /// [`MAX_BODY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message: Option<u64>,
    /// How it differs from what the client expects, a line each; such calls are refused.
    #[serde(default)]
    pub differences: Vec<String>,
    /// Where its code is, for an import that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portable: Option<Portable>,
}

/// Where the code of a portable skill is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portable {
    /// The name of the [`Library`], which was sent before.
    pub library: String,
    /// The skill's place in the library's description.
    pub index: u32,
    /// Where the page says which version of the plugin serves.
    pub cell: u32,
    /// What it says there while this one does.
    pub ticket: u64,
}

/// A library with portable skills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// Its name, which follows from its content: of two with one name, one is enough.
    pub name: String,
    /// The plugin that it belongs to.
    pub plugin: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What a client's process serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Its skills. A later offer takes the place of an earlier one.
    pub skills: Vec<OfferedSkill>,
}

/// A skill that a client's process serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferedSkill {
    /// Its full name.
    pub name: String,
    /// Its documentation.
    #[serde(default)]
    pub doc: String,
    /// Its signature.
    pub signature: Signature,
    /// A call of it may be made again when nobody knows whether it ran.
    #[serde(default)]
    pub idempotent: bool,
}

/// Which skill a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The import of this number, with its signature.
    Import(u32),
    /// A full name, without types.
    Name(&'a str),
}

impl Target<'_> {
    fn write(self, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        let written = match self {
            Self::Import(import) => codec::to_writer(bytes, &import),
            Self::Name(name) => codec::to_writer(bytes, name),
        };
        written.map_err(unwritable)
    }
}

/// A call of a skill: in its body an array of two, the target as a number or a text, then the
/// arguments, an array by position or a map by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Which skill.
    pub target: Target<'a>,
    /// The encoded arguments.
    pub arguments: &'a [u8],
}

impl<'a> Call<'a> {
    /// An array of two.
    const PAIR: u8 = 0x92;

    /// Reads the body of a call. The arguments are read by whoever serves them.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] saying what is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Failure> {
        let Some((&Self::PAIR, rest)) = body.split_first() else {
            return Err(malformed(
                "a call is an array of two: a target and the arguments",
            ));
        };
        Self::read_parts(rest)
    }

    /// Reads the target and the arguments.
    fn read_parts(rest: &'a [u8]) -> Result<Self, Failure> {
        let mut decoder = codec::Decoder::new(rest);
        let target = match rest.first() {
            Some(0xa0..=0xbf | 0xd9..=0xdb) => <&str>::deserialize(&mut decoder).map(Target::Name),
            _ => u32::deserialize(&mut decoder).map(Target::Import),
        };
        let target = target.map_err(|error| {
            malformed(format_args!(
                "the target of a call is the number of an import or the name of a skill: {error}"
            ))
        })?;
        let arguments = rest.get(decoder.position()..).unwrap_or_default();
        if arguments.is_empty() {
            return Err(malformed("the arguments of a call are missing"));
        }
        Ok(Self { target, arguments })
    }

    /// Makes the bytes of a frame.
    ///
    /// # Errors
    /// [`FailureKind::TooLarge`] over [`MAX_BODY`].
    pub fn frame(&self, number: u64, timeout_ms: u32) -> Result<Vec<u8>, Failure> {
        let len = self.arguments.len();
        let mut bytes = self.head(number, timeout_ms, len, len)?;
        bytes.extend_from_slice(self.arguments);
        Ok(bytes)
    }

    /// Makes the bytes of a frame without the arguments: `len` bytes of them follow. There is room for
    /// `room` bytes more.
    ///
    /// # Errors
    /// [`FailureKind::TooLarge`] over [`MAX_BODY`].
    pub fn head(
        &self,
        number: u64,
        timeout_ms: u32,
        room: usize,
        len: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut bytes = start_frame(Kind::Call, number, timeout_ms, 16 + room);
        bytes.push(Self::PAIR);
        self.target.write(&mut bytes)?;
        let len = (bytes.len() - HEADER).saturating_add(len);
        set_len(&mut bytes, len)?;
        Ok(bytes)
    }
}

/// A call that is opened: in its body an array of three, how many of the arguments are streams, then what
/// is in that of a [`Call`]. In the place of each such argument stands nil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// Which skill, and the other arguments.
    pub call: Call<'a>,
    /// How many of the arguments are streams.
    pub streams: u32,
}

impl<'a> Open<'a> {
    /// An array of three.
    const TRIPLE: u8 = 0x93;

    /// Reads the body of a call that is opened.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] saying what is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Failure> {
        let Some((&Self::TRIPLE, rest)) = body.split_first() else {
            return Err(malformed(
                "a call that is opened is an array of three: how many streams, a target and the arguments",
            ));
        };
        let mut decoder = codec::Decoder::new(rest);
        let streams = u32::deserialize(&mut decoder).map_err(|error| {
            malformed(format_args!(
                "a call that is opened begins with how many streams it has: {error}"
            ))
        })?;
        let call = Call::read_parts(rest.get(decoder.position()..).unwrap_or_default())?;
        Ok(Self { call, streams })
    }

    /// Makes the bytes of a frame; `tail` bytes of arguments follow it.
    ///
    /// # Errors
    /// [`FailureKind::TooLarge`] over [`MAX_BODY`].
    pub fn head(
        &self,
        number: u64,
        timeout: Option<Duration>,
        tail: usize,
    ) -> Result<Vec<u8>, Failure> {
        let timeout_ms = timeout.map_or(0, milliseconds);
        let arguments = self.call.arguments;
        let mut bytes = start_frame(Kind::Open, number, timeout_ms, 24 + arguments.len());
        bytes.push(Self::TRIPLE);
        codec::to_writer(&mut bytes, &self.streams).map_err(unwritable)?;
        self.call.target.write(&mut bytes)?;
        bytes.extend_from_slice(arguments);
        let len = (bytes.len() - HEADER).saturating_add(tail);
        set_len(&mut bytes, len)?;
        Ok(bytes)
    }
}

/// What the consumer of a stream asks for: an array of two. An item may be sent while there is some of
/// both; the last one may have more bytes than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Credit {
    /// So many items more.
    pub items: u64,
    /// So many bytes of encoded items more.
    pub bytes: u64,
}

impl From<(u64, u64)> for Credit {
    fn from((items, bytes): (u64, u64)) -> Self {
        Self { items, bytes }
    }
}

impl From<Credit> for (u64, u64) {
    fn from(credit: Credit) -> Self {
        (credit.items, credit.bytes)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length of the body in bytes.
    pub len: usize,
    /// What the frame is for.
    pub kind: Kind,
    /// The body lies in memory whose descriptor comes with the header.
    pub attached: bool,
    /// The number of the call, of the import or of the offer; each side counts its own.
    pub call: u64,
    /// How long the caller waits, in milliseconds from when the frame was sent; 0 for no limit. In frames
    /// that are about a stream, which one of its call it is: 0 what the call brings, from 1 its arguments.
    pub timeout_ms: u32,
}

fn unwritable(error: codec::Error) -> Failure {
    Failure::new(FailureKind::Unserializable, error.to_string())
}

/// How long a caller waits, as a frame says it. Rounded up: the caller's own clock is to end the call first,
/// and says how long it has waited.
pub fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// The failure of whoever has sent what breaks a rule.
pub fn malformed(message: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Refused, format!("malformed frame: {message}"))
}

impl Header {
    /// Reads a header; the length is checked before anything is allocated for it.
    ///
    /// # Errors
    /// An unknown kind, or a body over [`MAX_BODY`].
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, Failure> {
        let [
            l0,
            l1,
            l2,
            l3,
            kind,
            c0,
            c1,
            c2,
            c3,
            c4,
            c5,
            c6,
            c7,
            t0,
            t1,
            t2,
            t3,
        ] = *bytes;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let attached = kind & ATTACHED != 0;
        let kind = Kind::try_from(kind & !ATTACHED)?;
        if len > MAX_BODY {
            return Err(malformed(format_args!(
                "its body has {len} bytes, at most {MAX_BODY} are allowed"
            )));
        }
        Ok(Self {
            len,
            kind,
            attached,
            call: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            timeout_ms: u32::from_le_bytes([t0, t1, t2, t3]),
        })
    }

    /// Writes it down.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        // `MAX_BODY` fits; `frame` has checked it.
        bytes[..4].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[4] = self.kind as u8 | if self.attached { ATTACHED } else { 0 };
        bytes[5..13].copy_from_slice(&self.call.to_le_bytes());
        bytes[13..].copy_from_slice(&self.timeout_ms.to_le_bytes());
        bytes
    }
}

/// Makes the bytes of a frame with an encoded body.
///
/// # Errors
/// [`FailureKind::TooLarge`] over [`MAX_BODY`].
pub fn frame(kind: Kind, call: u64, timeout_ms: u32, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut bytes = start_frame(kind, call, timeout_ms, body.len());
    bytes.extend_from_slice(body);
    finish_frame(bytes)
}

/// Makes the bytes of a frame whose body, of `len` bytes, comes apart from it.
///
/// # Errors
/// [`FailureKind::TooLarge`] over [`MAX_BODY`].
pub fn head(kind: Kind, call: u64, timeout_ms: u32, len: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = start_frame(kind, call, timeout_ms, 0);
    set_len(&mut bytes, len)?;
    Ok(bytes)
}

/// Says in a header that the body, of `len` bytes, lies in memory whose descriptor comes along.
pub fn attach(header: &mut [u8], len: usize) {
    // It fits: the body was in a frame.
    header[..4].copy_from_slice(&(len as u32).to_le_bytes());
    header[4] |= ATTACHED;
}

/// Makes the bytes of a frame, encoding `body` in place.
///
/// # Errors
/// [`FailureKind::TooLarge`] over [`MAX_BODY`], [`FailureKind::Unserializable`].
pub fn encode_frame<T: Serialize>(
    kind: Kind,
    call: u64,
    timeout_ms: u32,
    body: &T,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = start_frame(kind, call, timeout_ms, 64);
    codec::to_writer(&mut bytes, body).map_err(unwritable)?;
    finish_frame(bytes)
}

fn start_frame(kind: Kind, call: u64, timeout_ms: u32, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + room);
    let header = Header {
        len: 0,
        kind,
        attached: false,
        call,
        timeout_ms,
    };
    bytes.extend_from_slice(&header.bytes());
    bytes
}

fn finish_frame(mut bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let len = bytes.len() - HEADER;
    set_len(&mut bytes, len)?;
    Ok(bytes)
}

fn set_len(bytes: &mut [u8], len: usize) -> Result<(), Failure> {
    if len > MAX_BODY {
        return Err(Failure::new(
            FailureKind::TooLarge,
            format!("a value of {len} bytes cannot be sent, at most {MAX_BODY} can"),
        ));
    }
    // It fits: `MAX_BODY` is below 2^32.
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Reads one frame from a blocking stream; `None` at its end.
///
/// # Errors
/// The stream's, or a malformed frame as [`io::ErrorKind::InvalidData`].
pub fn read_frame(stream: &mut impl Read) -> io::Result<Option<(Header, Vec<u8>)>> {
    let mut header = [0; HEADER];
    let mut filled = 0;
    while filled < HEADER {
        match stream.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let header =
        Header::parse(&header).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    // Grows as the bytes arrive: a header alone costs its sender nothing and must cost us nothing.
    let mut body = Vec::with_capacity(header.len.min(64 * 1024));
    let read = stream
        .by_ref()
        .take(header.len as u64)
        .read_to_end(&mut body)?;
    if read < header.len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((header, body)))
}

/// Writes a whole frame to a blocking stream.
///
/// # Errors
/// The stream's.
pub fn write_frame(stream: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame)?;
    stream.flush()
}

/// Decodes the body of a frame.
///
/// # Errors
/// [`FailureKind::Refused`] saying what is malformed.
pub fn decode_body<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Failure> {
    codec::from_slice(body).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let bytes = frame(Kind::Call, 7, 60_000, b"body").expect("a small frame");
        let (header, body) = read_frame(&mut bytes.as_slice())
            .expect("reads")
            .expect("is there");
        assert_eq!(
            (header.kind, header.call, header.timeout_ms),
            (Kind::Call, 7, 60_000)
        );
        assert_eq!(body, b"body");
        assert!(read_frame(&mut [].as_slice()).expect("the end").is_none());
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = frame(Kind::Reply, 1, 0, b"0123456789").expect("a small frame");
        for len in 1..bytes.len() {
            assert!(read_frame(&mut &bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn an_unknown_kind_and_a_giant_length_are_refused() {
        let mut bytes = frame(Kind::Reply, 1, 0, b"").expect("a small frame");
        bytes[4] = 99;
        assert!(read_frame(&mut bytes.as_slice()).is_err());
        bytes[4] = 6;
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_frame(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn a_call_borrows_its_arguments() {
        for target in [
            Target::Name("a.b"),
            Target::Import(0),
            Target::Import(70_000),
        ] {
            let call = Call {
                target,
                arguments: &[0x91, 7],
            };
            let bytes = call.frame(1, 0).expect("encodes");
            assert_eq!(Call::read(&bytes[HEADER..]), Ok(call));
        }
    }

    #[test]
    fn a_call_without_target_or_arguments_is_refused() {
        for body in [
            &b""[..],
            b"\x92",
            b"\x92\x07",
            b"\x92\xc0\x90",
            b"\x91\x07",
            b"\x92\xa5ab",
        ] {
            assert!(Call::read(body).is_err(), "{body:x?}");
        }
    }
}
