//! A core that only knows what a test tells it.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::session::frame::{self, Call, Kind, PROTOCOL, Target, Welcome};
use aigis_plugin_api::{Value, codec};

/// What a skill of the fake does: the result, a failure, or nothing and the connection ends.
pub(super) type Outcome = Option<Result<Value, Failure>>;
type Answer = dyn Fn(&str, Value) -> Outcome + Send + Sync;

pub(super) struct FakeCore {
    socket: PathBuf,
    ends: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl FakeCore {
    /// Listens in `home` and answers every call with `answer`.
    pub(super) fn start(
        home: &Path,
        pid: u32,
        answer: impl Fn(&str, Value) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        std::fs::create_dir_all(home.join("run")).expect("the home is writable");
        let socket = home.join("run").join("core.sock");
        let listener = UnixListener::bind(&socket).expect("the home is short");
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let answer: Arc<Answer> = Arc::new(answer);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                let stream = stream.expect("a connection");
                // It ends with the connection; a client that hangs up is no failure.
                thread::spawn(move || serve(stream, pid, &*answer));
            }
        });
        Self {
            socket,
            ends,
            acceptor: Some(acceptor),
        }
    }
}

impl Drop for FakeCore {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let woken = UnixStream::connect(&self.socket);
        if let (Ok(_), Some(acceptor)) = (woken, self.acceptor.take()) {
            let _ = acceptor.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(mut stream: UnixStream, pid: u32, answer: &Answer) -> io::Result<()> {
    while let Some((header, body)) = frame::read_frame(&mut stream)? {
        let reply = match header.kind {
            Kind::Hello => frame::encode_frame(
                Kind::Welcome,
                0,
                0,
                &Welcome {
                    protocol: PROTOCOL,
                    features: Vec::new(),
                    session: 1,
                    core_pid: pid,
                },
            ),
            Kind::Call => {
                let call = Call::read(&body).expect("a call");
                let Target::Name(name) = call.target else {
                    panic!("the command line imports nothing");
                };
                let arguments = codec::from_slice(call.arguments).expect("arguments");
                match answer(name, arguments) {
                    Some(Ok(value)) => frame::encode_frame(Kind::Reply, header.call, 0, &value),
                    Some(Err(failure)) => {
                        frame::encode_frame(Kind::Error, header.call, 0, &failure.of_skill(name))
                    }
                    None => return stream.shutdown(std::net::Shutdown::Both),
                }
            }
            Kind::Goodbye => return Ok(()),
            _ => continue,
        };
        frame::write_frame(&mut stream, &reply.expect("a small frame"))?;
    }
    Ok(())
}

/// The failure of a core that does not know a skill.
pub(super) fn not_found(name: &str) -> Outcome {
    Some(Err(Failure::new(
        FailureKind::NotFound,
        format!("no plugin offers `{name}`"),
    )))
}

/// A result.
pub(super) fn result<T: serde::Serialize>(value: &T) -> Outcome {
    Some(Ok(codec::to_value(value).expect("it can be encoded")))
}

/// An author's error.
pub(super) fn failure(type_name: &str, message: &str, chain: &[&str]) -> Outcome {
    Some(Err(Failure {
        type_name: Some(type_name.to_owned()),
        chain: chain.iter().map(|cause| (*cause).to_owned()).collect(),
        ..Failure::new(FailureKind::Skill, message)
    }))
}
