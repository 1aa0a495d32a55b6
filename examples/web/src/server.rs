//! Takes connections and answers them on a fixed number of threads; further ones wait in the system's queue.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::Logger;

use crate::http::{self, ReadError};
use crate::routes;

/// How long a client may take to send a request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long, and how many bytes, are listened to behind the answer. A connection that is closed while the client still
/// sends looks broken to it, and the answer is lost.
const LEFTOVER: (Duration, u64) = (Duration::from_secs(1), 4 * 1024 * 1024);

/// How long to wait before the next attempt when no connection can be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests on `threads` threads, for ever.
pub(crate) fn serve(listener: &TcpListener, threads: usize, logger: &Logger) -> io::Result<()> {
    thread::scope(|scope| {
        for number in 1..=threads {
            thread::Builder::new()
                .name(format!("web-{number}"))
                .spawn_scoped(scope, || work(listener, logger))?;
        }
        Ok(())
    })
}

fn work(listener: &TcpListener, logger: &Logger) {
    loop {
        match listener.accept() {
            Ok((stream, client)) => {
                if let Err(error) = converse(stream) {
                    logger.debug(format_args!("{client}: {error}"));
                }
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Too many open files, most likely: some will be closed soon.
                logger.warn(format_args!("cannot take a connection: {error}"));
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Reads one request and answers it.
pub(crate) fn converse(stream: TcpStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = Patient::new(stream, PATIENCE);
    let (answer, head_only) = match http::read(&mut stream) {
        Ok(request) => (routes::answer(&request), request.method == "HEAD"),
        Err(ReadError::Request(answer)) => (*answer, false),
        Err(ReadError::Connection(error)) => return Err(error),
    };
    http::write(&mut stream, &answer, head_only)?;
    stream.stream.shutdown(Shutdown::Write)?;
    let (time, bytes) = LEFTOVER;
    let leftover = Patient::new(stream.stream, time);
    // Whatever happens here, the answer is out.
    let _ = io::copy(&mut leftover.take(bytes), &mut io::sink());
    Ok(())
}

/// A connection that is read from until a point in time, however slowly the other side sends.
struct Patient {
    stream: TcpStream,
    until: Instant,
}

impl Patient {
    fn new(stream: TcpStream, time: Duration) -> Self {
        Self {
            stream,
            until: Instant::now() + time,
        }
    }
}

impl Read for Patient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(bytes)
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `request` over a real connection and returns the whole response.
    fn response(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().expect("the test connects");
                converse(stream).expect("the test listens");
            });
            let mut stream = TcpStream::connect(address).expect("it is listened to");
            stream
                .write_all(request.as_bytes())
                .expect("the request is read");
            let mut response = String::new();
            stream
                .read_to_string(&mut response)
                .expect("there is a response");
            response
        })
    }

    #[test]
    fn a_request_is_answered() {
        let text = response("GET / HTTP/1.1\r\nHost: localhost:1\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        assert!(text.contains("\r\n\r\nGET  /greet/NAME"), "{text}");
    }

    #[test]
    fn head_has_no_body() {
        let text = response("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(
            text.ends_with("\r\n\r\n") && !text.contains("Content-Length: 0"),
            "{text}"
        );
    }

    #[test]
    fn without_a_core_calls_are_unavailable() {
        let text = response("GET /greet/zaltu HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(
            text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{text}"
        );
        assert!(text.contains("\"kind\":\"not_connected\""), "{text}");
    }

    #[test]
    fn a_body_that_is_too_long_is_refused_and_the_client_sees_it() {
        let body = "x".repeat(3 * 1024 * 1024);
        let len = body.len();
        let head = format!("POST /call/a.b HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}");
        let text = response(&format!("{head}\r\n\r\n{body}"));
        assert!(
            text.starts_with("HTTP/1.1 413 Content Too Large\r\n"),
            "{text}"
        );
    }
}
