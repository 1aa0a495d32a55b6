//! Where metrics are asked for: as much of HTTP/1.1 as that needs.
//!
//! A connection is one request and one answer. There are few of them, each is given little room and little time, and none
//! keeps another one waiting.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::text::CONTENT_TYPE;
use super::{Inner, MetricsAddress};
use crate::logging::Level;
use crate::rpc;

/// The only page.
const PATH: &str = "/metrics";
/// The most bytes of a request.
const MOST_BYTES: usize = 8 << 10;
/// How long a request and its answer may take.
const MOST_TIME: Duration = Duration::from_secs(10);
/// How many may ask at the same time; who comes then waits.
const MOST_CLIENTS: usize = 16;
/// How long to wait before accepting again when the system has refused.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// The open place; dropped, it is closed.
pub(crate) struct Endpoint {
    address: MetricsAddress,
    serving: AbortHandle,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
        if let MetricsAddress::Unix(path) = &self.address {
            // It is gone already, or cannot be removed: the next core replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}

enum Listener {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Endpoint {
    /// Opens it for a host.
    ///
    /// # Errors
    /// The system refuses the address.
    pub(crate) fn open(inner: &Arc<Inner>, address: &MetricsAddress) -> io::Result<Self> {
        let _entered = inner.runtime.enter();
        let (listener, address) = match address {
            MetricsAddress::Unix(path) => {
                let path: PathBuf = inner.home.root().join(path);
                let listener = rpc::listen(&path, rpc::own_uid()).map_err(io::Error::other)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                (Listener::Unix(listener), MetricsAddress::Unix(path))
            }
            MetricsAddress::Loopback(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                // With port 0 the system has chosen one.
                let address = MetricsAddress::Loopback(listener.local_addr()?);
                (
                    Listener::Tcp(tokio::net::TcpListener::from_std(listener)?),
                    address,
                )
            }
        };
        let serving = inner.runtime.spawn(serve(listener, Arc::downgrade(inner)));
        Ok(Self {
            address,
            serving: serving.abort_handle(),
        })
    }

    pub(crate) fn address(&self) -> &MetricsAddress {
        &self.address
    }
}

async fn serve(listener: Listener, inner: Weak<Inner>) {
    let room = Arc::new(Semaphore::new(MOST_CLIENTS));
    let mut refused = false;
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = match &listener {
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                let inner = Weak::clone(&inner);
                tokio::spawn(async move {
                    answer(stream, &inner, false).await;
                    drop(place);
                });
            }),
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                let inner = Weak::clone(&inner);
                tokio::spawn(async move {
                    answer(stream, &inner, true).await;
                    drop(place);
                });
            }),
        };
        match accepted {
            Ok(()) => refused = false,
            Err(error) => {
                // The client is gone again, or there is no descriptor to give: time may help.
                if !std::mem::replace(&mut refused, true)
                    && let Some(inner) = inner.upgrade()
                {
                    let message = format!("those who ask for metrics cannot come in: {error}");
                    inner.logs.core(Level::Warn, message);
                }
                tokio::time::sleep(AFTER_REFUSAL).await;
            }
        }
    }
}

/// Answers one request. Who is too slow is cut off.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    inner: &Weak<Inner>,
    is_network: bool,
) {
    let exchange = async {
        let answer = match read_head(&mut stream).await? {
            Head::Whole(head) => match judge(&head, is_network) {
                Ok(wants_body) => page(inner, wants_body).await,
                Err(refusal) => refusal.to_answer(),
            },
            Head::TooLong => Refusal::TooLong.to_answer(),
            Head::CutOff => return Ok(()),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // A client that is still sending would lose the answer with the connection.
        let mut rest = [0; 512];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    // Whoever has gone away needs no answer.
    let _ = tokio::time::timeout(MOST_TIME, exchange).await;
}

async fn page(inner: &Weak<Inner>, wants_body: bool) -> String {
    let Some(inner) = inner.upgrade() else {
        return Refusal::Gone.to_answer();
    };
    // It takes locks that others may hold.
    let written = tokio::task::spawn_blocking(move || inner.metrics_page()).await;
    match written {
        Ok(Some(page)) => response("200 OK", CONTENT_TYPE, "", &page, wants_body),
        Ok(None) | Err(_) => Refusal::Gone.to_answer(),
    }
}

enum Head {
    /// Without the empty line at its end.
    Whole(Vec<u8>),
    TooLong,
    CutOff,
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Head> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = stream.read(&mut part).await?;
        if length == 0 {
            return Ok(Head::CutOff);
        }
        // The end may stand across two parts.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&part[..length]);
        let end = head[from..].windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) if from + end <= MOST_BYTES => {
                head.truncate(from + end);
                return Ok(Head::Whole(head));
            }
            None if head.len() <= MOST_BYTES => {}
            _ => return Ok(Head::TooLong),
        }
    }
}

/// Why a request is not answered with the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed,
    TooLong,
    Version,
    Host,
    NotFound,
    Method,
    Gone,
}

impl Refusal {
    fn to_answer(self) -> String {
        let (status, why, more) = match self {
            Self::Malformed => ("400 Bad Request", "this is no request of HTTP/1.1", ""),
            Self::TooLong => (
                "431 Request Header Fields Too Large",
                "a request may have 8192 bytes",
                "",
            ),
            Self::Version => (
                "505 HTTP Version Not Supported",
                "HTTP/1.0 and HTTP/1.1 are spoken here",
                "",
            ),
            Self::Host => (
                "421 Misdirected Request",
                "this is asked for as localhost, or by a loopback address",
                "",
            ),
            Self::NotFound => ("404 Not Found", "the metrics are at /metrics", ""),
            Self::Method => (
                "405 Method Not Allowed",
                "metrics can be read with GET",
                "Allow: GET, HEAD\r\n",
            ),
            Self::Gone => ("503 Service Unavailable", "the core is shutting down", ""),
        };
        let text = format!("{why}\n");
        response(status, "text/plain; charset=utf-8", more, &text, true)
    }
}

fn response(status: &str, kind: &str, more: &str, body: &str, wants_body: bool) -> String {
    let length = body.len();
    let body = if wants_body { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{body}"
    )
}

/// Checks a request; returns whether its answer has a body.
pub(super) fn judge(head: &[u8], is_network: bool) -> Result<bool, Refusal> {
    let head = std::str::from_utf8(head).map_err(|_| Refusal::Malformed)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed);
    };
    match version.strip_prefix("HTTP/") {
        Some("1.0" | "1.1") => {}
        Some(_) => return Err(Refusal::Version),
        None => return Err(Refusal::Malformed),
    }
    let mut host = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::Malformed)?;
        let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(Refusal::Malformed);
        }
        if name.eq_ignore_ascii_case("host") && host.replace(value.trim()).is_some() {
            return Err(Refusal::Malformed);
        }
    }
    // A page in a browser can have a name of its own lead here, and would then be allowed to read the answer.
    match host {
        None if version == "HTTP/1.1" => return Err(Refusal::Malformed),
        Some(host) if is_network && !is_loopback(host) => return Err(Refusal::Host),
        _ => {}
    }
    let path = target.split('?').next().unwrap_or_default();
    match (path == PATH, method) {
        (true, "GET") => Ok(true),
        (true, "HEAD") => Ok(false),
        (true, _) => Err(Refusal::Method),
        (false, _) => Err(Refusal::NotFound),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // The colons of an address in brackets are none before a port.
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
