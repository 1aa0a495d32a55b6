use std::io::Cursor;

use super::*;

/// What a client sends, and what it gets meanwhile.
struct Client {
    sends: Cursor<Vec<u8>>,
    gets: Vec<u8>,
    /// The most bytes of one read: a network may cut anywhere.
    at_once: usize,
}

impl Read for Client {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = bytes.len().min(self.at_once);
        self.sends.read(&mut bytes[..most])
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gets.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn client(text: &str, at_once: usize) -> Client {
    Client {
        sends: Cursor::new(text.as_bytes().to_vec()),
        gets: Vec::new(),
        at_once,
    }
}

fn request(text: &str) -> Request {
    let whole = read(&mut client(text, usize::MAX)).expect("it is a request");
    let in_parts = read(&mut client(text, 1)).expect("it is the same in parts");
    assert_eq!(whole, in_parts);
    whole
}

fn refused(text: &str) -> u16 {
    match read(&mut client(text, usize::MAX)) {
        Err(ReadError::Request(answer)) => answer.status.0,
        Ok(request) => panic!("`{}` was taken for a request", request.path.join("/")),
        Err(ReadError::Connection(error)) => panic!("the connection ended: {error}"),
    }
}

#[test]
fn a_request_is_taken_apart() {
    let text = "POST /call/a%2Eb/?x=1+2&%C3%A9=%26&y HTTP/1.1\r\nHost: localhost\r\n\
                content-TYPE: application/json\r\nContent-Length: 5\r\n\r\n[1,2]and more";
    let request = request(text);
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, ["call", "a.b", ""]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        request.query,
        [pair("x", "1 2"), pair("é", "&"), pair("y", "")]
    );
    assert_eq!(request.host.as_deref(), Some("localhost"));
    assert_eq!(request.content_type.as_deref(), Some("application/json"));
    assert_eq!(request.body, b"[1,2]");
}

#[test]
fn a_plus_is_a_space_in_the_query_alone() {
    assert_eq!(request("GET /a+b HTTP/1.1\r\n\r\n").path, ["a+b"]);
}

#[test]
fn wrong_requests_have_their_statuses() {
    let long = "a/".repeat(MAX_HEAD / 2);
    for (status, text) in [
        (400, "no request\r\n\r\n"),
        (400, "GET http://localhost/ HTTP/1.1\r\n\r\n"),
        (400, "GET /%zz HTTP/1.1\r\n\r\n"),
        (400, "GET /%e HTTP/1.1\r\n\r\n"),
        (400, "GET /%ff HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n12345"),
        (
            400,
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        ),
        (413, "POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"),
        (501, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (431, &format!("GET /{long} HTTP/1.1\r\n\r\n")),
        (
            431,
            &format!(
                "GET / HTTP/1.1\r\n{}\r\n",
                "a: b\r\n".repeat(MAX_HEADERS + 1)
            ),
        ),
    ] {
        assert_eq!(refused(text), status, "{text}");
    }
}

#[test]
fn a_request_that_ends_early_is_no_request() {
    for text in [
        "",
        "GET / HT",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n123",
    ] {
        let outcome = read(&mut client(text, usize::MAX));
        assert!(
            matches!(outcome, Err(ReadError::Connection(_))),
            "{text}: {outcome:?}"
        );
    }
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let text = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n[]";
    let mut client = client(text, 1);
    assert_eq!(read(&mut client).expect("it is a request").body, b"[]");
    assert_eq!(client.gets, b"HTTP/1.1 100 Continue\r\n\r\n");
}
