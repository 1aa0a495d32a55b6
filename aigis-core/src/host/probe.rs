//! Probes: what is tried from outside to see whether a process is ready, and whether it is still well.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aigis_plugin_api::__private::{Backend as _, Failure, Request};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Inner;
use super::calls::Embedded;
use crate::config::{HttpTarget, Probe};

/// How much of an HTTP answer is read at most: more than any status line and what may come before it.
const ANSWER_BYTES: u64 = 64 * 1024;

/// An array without elements, encoded: no arguments.
const NO_ARGUMENTS: &[u8] = &[0x90];

/// Tries one probe, again and again. What does not end with a try is waited for at the next one, so that tries never pile up.
pub(super) struct Prober {
    inner: Arc<Inner>,
    probe: Probe,
    /// A look-up of the host's name that is under way.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    /// A call that has been given up and has not returned.
    call: Option<oneshot::Receiver<Result<Vec<u8>, Failure>>>,
}

impl Prober {
    pub(super) fn new(inner: &Arc<Inner>, probe: &Probe) -> Self {
        Self {
            inner: Arc::clone(inner),
            probe: probe.clone(),
            lookup: None,
            call: None,
        }
    }

    /// Tries once; says what is wrong if that fails. May be dropped at any point.
    pub(super) async fn attempt(&mut self, within: Duration) -> Result<(), String> {
        let what = told(&self.probe);
        let outcome = match self.probe.clone() {
            Probe::Tcp(address) => timeout(within, self.connect_to(&address)).await,
            Probe::Http(url) => timeout(within, self.get(&url)).await,
            Probe::Skill(name) => timeout(within, self.call(&name, within)).await,
        };
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{what}: {error}")),
            Err(_) => Err(format!("{what}: no answer within {within:?}")),
        }
    }

    async fn connect_to(&mut self, address: &str) -> Result<(), String> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port
            .parse()
            .map_err(|_| "the address has no port".to_owned())?;
        self.connect(host, port).await.map(drop)
    }

    async fn connect(&mut self, host: &str, port: u16) -> Result<TcpStream, String> {
        let addresses = self.addresses(host, port).await;
        let addresses = addresses.map_err(|error| format!("`{host}` is not found: {error}"))?;
        let stream = TcpStream::connect(&addresses[..]).await;
        stream.map_err(|error| error.to_string())
    }

    async fn addresses(&mut self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let lookup = self.lookup.get_or_insert_with(|| {
            let host = host.to_owned();
            tokio::spawn(async move { Ok(lookup_host((host, port)).await?.collect()) })
        });
        let found = lookup.await;
        self.lookup = None;
        found.map_err(io::Error::other)?
    }

    /// Asks for a page and reads no more of the answer than its status.
    async fn get(&mut self, url: &str) -> Result<(), String> {
        let HttpTarget {
            authority,
            host,
            port,
            path,
        } = HttpTarget::parse(url)?;
        let mut stream = self.connect(&host, port).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: aigis/{}\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        );
        let asked = stream.write_all(request.as_bytes()).await;
        asked.map_err(|error| error.to_string())?;
        let mut answer = BufReader::new(stream.take(ANSWER_BYTES));
        loop {
            let mut line = Vec::new();
            let read = answer.read_until(b'\n', &mut line).await;
            read.map_err(|error| error.to_string())?;
            match status_of(&line) {
                Some(200..=399) => return Ok(()),
                // The answer itself is still to come, after the rest of this head.
                Some(100..=199) => skip_head(&mut answer).await?,
                Some(status) => return Err(format!("it is answered with status {status}")),
                None => return Err("what listens there does not speak HTTP".to_owned()),
            }
        }
    }

    async fn call(&mut self, name: &str, within: Duration) -> Result<(), String> {
        if let Some(last) = &mut self.call {
            // However it went, it was not in time.
            let _ = last.await;
            self.call = None;
        }
        let backend = Embedded(Arc::clone(&self.inner));
        let request = Request {
            name,
            expected: None,
            portable: false,
            arguments: NO_ARGUMENTS,
            tail: &[],
            timeout: Some(within),
        };
        let (sender, answer) = oneshot::channel();
        let done = Box::new(move |outcome| {
            // Whoever asked may have gone.
            let _ = sender.send(outcome);
        });
        let number = backend.start(&request, done);
        let given_up = GiveUp { backend, number };
        let outcome = self.call.insert(answer).await;
        self.call = None;
        drop(given_up);
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(failure)) => Err(failure.message),
            Err(_) => Err("the core has no thread for the call".to_owned()),
        }
    }
}

/// Gives a call up that nobody waits for any more.
struct GiveUp {
    backend: Embedded,
    number: u64,
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.backend.cancel(self.number);
    }
}

/// Says what a probe does.
pub(super) fn told(probe: &Probe) -> String {
    match probe {
        Probe::Tcp(address) => format!("connecting to {address}"),
        Probe::Http(url) => format!("getting {url}"),
        Probe::Skill(name) => format!("calling `{name}`"),
    }
}

/// Reads the status line of an HTTP answer.
fn status_of(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace();
    let status = words.nth(1)?;
    (status.len() == 3).then(|| status.parse().ok())?
}

async fn skip_head(answer: &mut (impl AsyncBufRead + Unpin)) -> Result<(), String> {
    loop {
        let mut line = Vec::new();
        let read = answer.read_until(b'\n', &mut line).await;
        match read.map_err(|error| error.to_string())? {
            0 => return Err("the answer ends in the middle".to_owned()),
            _ if matches!(&line[..], b"\r\n" | b"\n") => return Ok(()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::status_of;

    #[test]
    fn only_a_status_line_is_one() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_of(b"HTTP/1.0 503\n"), Some(503));
        for none in [
            "",
            "HTTP/1.1\r\n",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 20 x",
            "HTTP/1.1 -20 x",
        ] {
            assert_eq!(status_of(none.as_bytes()), None, "{none}");
        }
    }
}
