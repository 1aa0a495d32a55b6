//! With the feature `tokio`, futures run in a tokio runtime of the library's own.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::fs;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use aigis_plugin_api::{Context, skills};
use tokio::net::{TcpListener, TcpStream};

use fake_host::FakeHost;

static EVENTS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        EVENTS.lock().unwrap().push(self.0);
    }
}

#[skills]
pub mod wire {
    use super::*;

    pub async fn sleeps() -> bool {
        tokio::time::sleep(Duration::from_millis(2)).await;
        true
    }

    /// Sends a line through a socket of this machine, and reads it at the other end.
    pub async fn echo(ctx: &Context, line: &str) -> Result<String, io::Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let line = line.to_owned();
        let client = ctx.spawn(async move {
            let stream = TcpStream::connect(address).await?;
            let mut sent = 0;
            while sent < line.len() {
                stream.writable().await?;
                match stream.try_write(&line.as_bytes()[sent..]) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        let (stream, _) = listener.accept().await?;
        let mut received = Vec::new();
        loop {
            stream.readable().await?;
            let mut buffer = [0; 64];
            match stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        client.await.map_err(io::Error::other)??;
        String::from_utf8(received).map_err(io::Error::other)
    }

    /// Leaves a task of tokio's own behind.
    pub async fn leaves_a_task() {
        let (begins, begun) = std::sync::mpsc::channel();
        drop(tokio::spawn(async move {
            let _guard = Guard("a task of tokio's is dropped");
            begins.send(()).expect("is awaited");
            std::future::pending::<()>().await;
        }));
        begun.recv().expect("begins");
    }

    pub fn cleanup() {
        EVENTS.lock().unwrap().push("cleanup");
    }
}

/// The names of this process's threads, and how many files it has open.
fn left() -> (usize, usize) {
    let drivers = fs::read_dir("/proc/self/task")
        .expect("is listed")
        .filter(|task| {
            let comm = task
                .as_ref()
                .map(|task| fs::read_to_string(task.path().join("comm")));
            matches!(comm, Ok(Ok(name)) if name.trim() == "plugin-tokio")
        });
    let files = fs::read_dir("/proc/self/fd").expect("is listed");
    (drivers.count(), files.count())
}

#[test]
fn a_library_has_a_runtime_until_it_is_closed() {
    let host = FakeHost::new();
    host.open(None).expect("opens");
    let before = left();
    assert_eq!(before.0, 0, "it is started when it is needed");
    assert_eq!(host.ask("wire.sleeps", ()), Ok(true));
    assert_eq!(left().0, 1);
    assert_eq!(
        host.ask("wire.echo", ("through a socket",)),
        Ok("through a socket".to_owned())
    );
    host.ask::<()>("wire.leaves_a_task", ()).expect("is left");
    host.close().expect("closes");
    assert_eq!(
        *EVENTS.lock().unwrap(),
        ["a task of tokio's is dropped", "cleanup"]
    );
    assert_eq!(left(), before, "neither a thread nor a file is left of it");
}
