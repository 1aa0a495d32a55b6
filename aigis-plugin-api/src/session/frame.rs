//! Frames: what two processes say to each other on a session.
//!
//! A frame is a header of 17 bytes (the length of the body as u32, the kind as u8, the number of
//! the call as u64, its deadline in milliseconds as u32; little-endian) and a body in MessagePack.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::error::{Failure, FailureKind};
use crate::signature::{Signature, SignatureId};

/// What a hello starts with.
pub const MAGIC: &str = "AIGIS";
/// The protocol's version: a different major number cannot be talked to.
pub const PROTOCOL: (u32, u32) = (0, 1);
/// The longest body of a frame, in bytes.
pub const MAX_BODY: usize = 1 << 30;
/// The size of a header, in bytes.
pub const HEADER: usize = 17;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The client's first frame: a [`Hello`].
    Hello = 1,
    /// The host's answer: a [`Welcome`].
    Welcome = 2,
    /// What a client's import expects of a skill: an [`Expectation`]. Has no answer.
    Expect = 3,
    /// A call: a [`Call`].
    Call = 4,
    /// The encoded result of the call of the same number.
    Reply = 5,
    /// The [`Failure`] of the call of the same number; number 0 speaks of the session.
    Error = 6,
    /// The client no longer waits for the call of this number.
    Cancel = 7,
    /// The sender will send no more.
    Goodbye = 8,
}

impl TryFrom<u8> for Kind {
    type Error = Failure;

    fn try_from(number: u8) -> Result<Self, Failure> {
        Ok(match number {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Expect,
            4 => Self::Call,
            5 => Self::Reply,
            6 => Self::Error,
            7 => Self::Cancel,
            8 => Self::Goodbye,
            other => {
                return Err(malformed(format!(
                    "a frame is of kind 1 to 8, this one of kind {other}"
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
    /// The token of a launched plugin; without one the session is a tool's of the same user.
    #[serde(default)]
    pub token: Option<String>,
    /// A name for people, in logs and in `aigis status`.
    pub client: String,
    /// The client's process.
    pub pid: u32,
}

/// The host lets a client in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL`] of the host.
    pub protocol: (u32, u32),
    /// The number of the session.
    pub session: u64,
    /// The host's process.
    pub core_pid: u32,
}

/// What an import expects of a skill.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expectation {
    /// The full name of the skill.
    pub name: String,
    /// What the caller was compiled with.
    pub signature: Signature,
}

/// A call of a skill.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call<'a> {
    /// The full name of the skill.
    pub name: &'a str,
    /// The id of what the caller expects, announced in an [`Expectation`]; none without types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<SignatureId>,
    /// The encoded arguments.
    #[serde(with = "serde_bytes_lite", borrow)]
    pub arguments: &'a [u8],
}

/// Byte slices as serde's bytes, so that they are borrowed from the frame.
mod serde_bytes_lite {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &&[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(d)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length of the body in bytes.
    pub len: usize,
    /// What the frame is for.
    pub kind: Kind,
    /// The number of the call; the client counts.
    pub call: u64,
    /// How long the caller waits, in milliseconds from when the frame was sent; 0 for no limit.
    pub timeout_ms: u32,
}

fn malformed(message: String) -> Failure {
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
        let kind = Kind::try_from(kind)?;
        if len > MAX_BODY {
            return Err(malformed(format!(
                "its body has {len} bytes, at most {MAX_BODY} are allowed"
            )));
        }
        Ok(Self {
            len,
            kind,
            call: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            timeout_ms: u32::from_le_bytes([t0, t1, t2, t3]),
        })
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        // `MAX_BODY` fits; `frame` has checked it.
        bytes[..4].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[4] = self.kind as u8;
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
    codec::to_writer(&mut bytes, body)
        .map_err(|error| Failure::new(FailureKind::Unserializable, error.to_string()))?;
    finish_frame(bytes)
}

fn start_frame(kind: Kind, call: u64, timeout_ms: u32, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + room);
    let header = Header {
        len: 0,
        kind,
        call,
        timeout_ms,
    };
    bytes.extend_from_slice(&header.bytes());
    bytes
}

fn finish_frame(mut bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let len = bytes.len() - HEADER;
    if len > MAX_BODY {
        return Err(Failure::new(
            FailureKind::TooLarge,
            format!("a value of {len} bytes cannot be sent, at most {MAX_BODY} can"),
        ));
    }
    // It fits: `MAX_BODY` is below 2^32.
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(bytes)
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
    codec::from_slice(body).map_err(|error| malformed(error.to_string()))
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
        bytes[4] = 5;
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_frame(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn a_call_borrows_its_arguments() {
        let bytes = encode_frame(
            Kind::Call,
            1,
            0,
            &Call {
                name: "a.b",
                expects: Some([7; 16]),
                arguments: &[1, 2, 3],
            },
        )
        .expect("encodes");
        let call: Call<'_> = decode_body(&bytes[HEADER..]).expect("decodes");
        assert_eq!((call.name, call.arguments), ("a.b", &[1, 2, 3][..]));
        assert_eq!(call.expects, Some([7; 16]));
    }
}
