//! As much of HTTP/1.1 as is needed: one request and one response on each connection.

use std::io::{self, Read, Write};

use crate::answer::{Answer, Status};

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// A request, as far as anybody here looks at it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The parts of the path between slashes, decoded.
    pub(crate) path: Vec<String>,
    /// The parameters behind the question mark, decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) host: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The connection ended, or was silent for too long.
    Connection(io::Error),
    /// The request is wrong, and this is the answer to it.
    Request(Box<Answer>),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

fn refuse<T>(status: Status, message: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError::Request(Box::new(Answer::error(
        status, "request", message,
    ))))
}

struct Head {
    request: Request,
    /// Its length in bytes.
    len: usize,
    content_length: usize,
    expects_continue: bool,
}

/// Reads one request.
pub(crate) fn read(stream: &mut (impl Read + Write)) -> Result<Request, ReadError> {
    let mut bytes = Vec::new();
    let head = loop {
        let mut part = [0; 4096];
        let len = stream.read(&mut part)?;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        bytes.extend_from_slice(&part[..len]);
        let head = read_head(&bytes)?;
        if head.as_ref().map_or(bytes.len(), |head| head.len) > MAX_HEAD {
            return refuse(
                Status::HEAD_TOO_LARGE,
                format!("the head of a request has at most {MAX_HEAD} bytes"),
            );
        }
        if let Some(head) = head {
            break head;
        }
    };
    let mut request = head.request;
    request.body = bytes.split_off(head.len);
    request.body.truncate(head.content_length);
    if head.expects_continue && request.body.len() < head.content_length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let missing = head.content_length - request.body.len();
    let read = Read::by_ref(stream)
        .take(missing as u64)
        .read_to_end(&mut request.body)?;
    if read < missing {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(request)
}

/// Reads the head, if all of it is there.
fn read_head(bytes: &[u8]) -> Result<Option<Head>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let len = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return refuse(
                Status::HEAD_TOO_LARGE,
                format!("a request has at most {MAX_HEADERS} headers"),
            );
        }
        Err(error) => return refuse(Status::BAD_REQUEST, format!("this is no request: {error}")),
    };
    let (path, query) = target(parsed.path.unwrap_or("/"))?;
    let mut head = Head {
        request: Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            path,
            query,
            host: None,
            content_type: None,
            body: Vec::new(),
        },
        len,
        content_length: 0,
        expects_continue: false,
    };
    let mut given_length = None;
    for header in parsed.headers.iter() {
        let Ok(value) = str::from_utf8(header.value) else {
            continue;
        };
        let value = value.trim();
        match header.name.to_ascii_lowercase().as_str() {
            "host" if head.request.host.is_some() => {
                return refuse(Status::BAD_REQUEST, "there are two `Host` headers");
            }
            "host" => head.request.host = Some(value.to_owned()),
            "content-type" => head.request.content_type = Some(value.to_owned()),
            "expect" => head.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "transfer-encoding" => {
                return refuse(
                    Status::NOT_IMPLEMENTED,
                    "a body in chunks is not understood; send `Content-Length`",
                );
            }
            "content-length" => {
                // `parse` alone would take a sign.
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                let length = value.parse::<usize>().ok().filter(|_| digits);
                if length.is_none() || given_length.is_some_and(|given| Some(given) != length) {
                    return refuse(
                        Status::BAD_REQUEST,
                        format!("`Content-Length` is `{value}`, expected one number of bytes"),
                    );
                }
                given_length = length;
            }
            _ => {}
        }
    }
    head.content_length = given_length.unwrap_or(0);
    if head.content_length > MAX_BODY {
        return refuse(
            Status::TOO_LARGE,
            format!(
                "the body has {} bytes, at most {MAX_BODY} are taken",
                head.content_length
            ),
        );
    }
    Ok(Some(head))
}

type Target = (Vec<String>, Vec<(String, String)>);

fn target(target: &str) -> Result<Target, ReadError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(path) = path.strip_prefix('/') else {
        return refuse(
            Status::BAD_REQUEST,
            format!("the target is `{path}`, expected a path that starts with `/`"),
        );
    };
    let path = path
        .split('/')
        .map(|part| decoded(part, false))
        .collect::<Result<_, _>>()?;
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name, true)?, decoded(value, true)?))
        })
        .collect::<Result<_, ReadError>>()?;
    Ok((path, query))
}

/// Decodes `%` and two hexadecimal digits, and in forms `+` for a space.
fn decoded(text: &str, form: bool) -> Result<String, ReadError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' if form => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return refuse(
                        Status::BAD_REQUEST,
                        format!("in `{text}`, `%` is not followed by two hexadecimal digits"),
                    );
                };
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    match String::from_utf8(out) {
        Ok(text) => Ok(text),
        Err(_) => refuse(
            Status::BAD_REQUEST,
            format!("`{text}` does not stand for UTF-8"),
        ),
    }
}

/// Writes one response; `head_only` leaves the body out, as `HEAD` wants it.
pub(crate) fn write(stream: &mut impl Write, answer: &Answer, head_only: bool) -> io::Result<()> {
    let Status(code, reason) = answer.status;
    let mut bytes = format!(
        "HTTP/1.1 {code} {reason}\r\n\
         Content-Type: {}\r\n\
         Content-Length: {}\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Connection: close\r\n",
        answer.content_type,
        answer.body.len()
    );
    if let Some(methods) = answer.allow {
        bytes.push_str(&format!("Allow: {methods}\r\n"));
    }
    bytes.push_str("\r\n");
    if !head_only {
        bytes.push_str(&answer.body);
    }
    stream.write_all(bytes.as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests;
