//! One connection, from the greeting to the end.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Expected, Failure, FailureKind};
use aigis_plugin_api::session::frame::{
    self, Call, Expectation, HEADER, Header, Hello, Kind, MAGIC, MAX_BODY, PROTOCOL, Welcome,
};
use aigis_plugin_api::signature::SignatureId;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, UCred};
use tokio::sync::Notify;

use super::linux;
use super::outbox::{Outbox, WriteEnd};
use super::server::{Shared, Stop};
use super::session::{Job, Session, error_frame};
use super::{Limits, Peer, SessionInfo};

/// The longest frame that is neither a call nor an expectation, in bytes.
const SHORT: usize = 64 << 10;
/// The longest expectation, in bytes.
const EXPECTATION: usize = 1 << 20;
/// How much is allocated before the first byte of a body has come.
const FIRST_BYTES: usize = 64 << 10;
/// How long a client may take to read why its session ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// How a session ends.
enum End {
    /// The client said so, or closed the connection.
    Client,
    /// The client broke a rule.
    Fault(Failure),
    /// The client does not read.
    Stalled,
    /// The core goes down; calls that still run have until then to be answered.
    Stopped(tokio::time::Instant),
}

impl From<WriteEnd> for End {
    fn from(end: WriteEnd) -> Self {
        match end {
            WriteEnd::Closed => Self::Client,
            WriteEnd::Stalled => Self::Stalled,
        }
    }
}

fn fault(message: impl Into<String>) -> End {
    End::Fault(Failure::new(FailureKind::Refused, message))
}

fn malformed(message: impl std::fmt::Display) -> End {
    fault(format!("malformed frame: {message}"))
}

/// Tells the service that the session has ended, whatever else happens.
struct Admitted<'a> {
    shared: &'a Shared,
    info: Arc<SessionInfo>,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let told = catch_unwind(AssertUnwindSafe(|| self.shared.service.ended(&self.info)));
        if told.is_err() {
            tracing::error!(
                session = self.info.id,
                "the core panicked at the end of a session"
            );
        }
    }
}

/// Serves one connection until it ends. `crowded` refuses it for lack of room.
pub(super) async fn serve(stream: UnixStream, shared: Arc<Shared>, mut stop: Stop, crowded: bool) {
    let limits = shared.limits;
    let peer = stream.peer_cred();
    let (reader, writer) = stream.into_split();
    let mut frames = Frames {
        stream: BufReader::new(reader),
    };
    let room = Arc::new(Notify::new());
    let outbox = Arc::new(Outbox::new(
        writer,
        Arc::clone(&room),
        limits.bytes_of_session,
        limits.stall,
    ));
    let greeted = tokio::select! {
        greeted = greet(&mut frames, &shared, peer, crowded) => greeted,
        deadline = stop.requested() => Err(End::Stopped(deadline)),
    };
    match greeted {
        Ok(info) => {
            let admitted = Admitted {
                shared: &shared,
                info: Arc::clone(&info),
            };
            let session = Session::new(info, Arc::clone(&outbox), Arc::clone(&shared), room);
            converse(&Arc::new(session), admitted, frames, &mut stop).await;
        }
        Err(end) => say_farewell(&end, &outbox).await,
    }
    outbox.close();
}

/// Whether a user may talk to the core of the user `own` at all.
pub(super) fn may_enter(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

/// Checks who is there and asks the service.
async fn greet(
    frames: &mut Frames,
    shared: &Shared,
    peer: io::Result<UCred>,
    crowded: bool,
) -> Result<Arc<SessionInfo>, End> {
    let limits = &shared.limits;
    // Nobody is refused before the hello is read: a client that is still writing it would see a
    // broken connection, and not the reason.
    let first = tokio::time::timeout(limits.greeting, frames.next(true)).await;
    let Ok(first) = first else {
        let most = limits.greeting;
        return Err(fault(format!(
            "expected a hello within {most:?}, found none"
        )));
    };
    let (header, body) = first?;
    if crowded {
        let most = limits.sessions;
        return Err(End::Fault(Failure::new(
            FailureKind::Overloaded,
            format!("the core has {most} sessions already; end some of them and try again"),
        )));
    }
    let peer =
        peer.map_err(|error| fault(format!("the core cannot find out who is calling: {error}")))?;
    let (uid, own) = (peer.uid(), shared.uid);
    if !may_enter(uid, own) {
        return Err(fault(format!(
            "this core serves the user with uid {own}, the client has uid {uid}"
        )));
    }
    let peer = Peer {
        uid,
        gid: peer.gid(),
        pid: peer.pid().and_then(|pid| u32::try_from(pid).ok()),
    };
    if header.kind != Kind::Hello {
        let kind = header.kind;
        return Err(fault(format!(
            "expected a hello as the first frame, found one of kind {kind:?}"
        )));
    }
    let hello: Hello = frame::decode_body(&body).map_err(End::Fault)?;
    if hello.magic != MAGIC {
        let found: String = hello.magic.chars().take(40).collect();
        return Err(fault(format!(
            "expected the magic {MAGIC:?} in the hello, found {found:?}"
        )));
    }
    if hello.protocol.0 != PROTOCOL.0 {
        let ((major, minor), (its_major, its_minor)) = (PROTOCOL, hello.protocol);
        return Err(fault(format!(
            "this core speaks protocol {major}.{minor}, the client speaks {its_major}.{its_minor}; \
             build both with the same major version of AIGIS"
        )));
    }
    shared.service.admit(&hello, peer).map_err(End::Fault)
}

/// Reads and writes until the session ends.
async fn converse(
    session: &Arc<Session>,
    admitted: Admitted<'_>,
    mut frames: Frames,
    stop: &mut Stop,
) {
    let outbox = &session.outbox;
    let welcome = Welcome {
        protocol: PROTOCOL,
        session: session.info.id,
        core_pid: admitted.shared.core_pid,
    };
    // Three numbers can be encoded.
    outbox.push(frame::encode_frame(Kind::Welcome, 0, 0, &welcome).unwrap_or_default());
    let end = tokio::select! {
        end = read(&mut frames, session, admitted.shared) => end,
        end = outbox.write() => end.into(),
        deadline = stop.requested() => End::Stopped(deadline),
    };
    if let End::Stopped(deadline) = end {
        let answered = async {
            tokio::select! {
                () = session.wait_for_answers() => {}
                _ = outbox.write() => {}
                () = linux::hung_up(frames.stream.get_ref()) => {}
            }
        };
        // When the time is over, the calls that are left learn it from the goodbye.
        let _ = tokio::time::timeout_at(deadline, answered).await;
    }
    session.cancel_all();
    let info = Arc::clone(&admitted.info);
    drop(admitted);
    match &end {
        End::Client | End::Stopped(_) => {}
        End::Fault(failure) => tracing::warn!(
            session = info.id,
            client = info.client,
            "a session was ended: {}",
            failure.message
        ),
        End::Stalled => tracing::warn!(
            session = info.id,
            client = info.client,
            "a session was ended: its client does not read its answers"
        ),
    }
    say_farewell(&end, outbox).await;
}

/// Tells the client why its session ends, if it listens.
async fn say_farewell(end: &End, outbox: &Outbox) {
    let frame = match end {
        End::Client | End::Stalled => return,
        End::Fault(failure) => error_frame(0, failure),
        End::Stopped(_) => frame::frame(Kind::Goodbye, 0, 0, &[]).unwrap_or_default(),
    };
    outbox.push(frame);
    let _ = tokio::time::timeout(FAREWELL, outbox.flush()).await;
}

/// Takes what the client says, until there is no more or it breaks a rule.
async fn read(frames: &mut Frames, session: &Arc<Session>, shared: &Shared) -> End {
    let mut expected = Expectations::default();
    loop {
        let (header, body) = match frames.next(false).await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        let received = Instant::now();
        match header.kind {
            Kind::Call => {
                tokio::select! {
                    biased;
                    () = session.wait_for_room() => {}
                    () = linux::hung_up(frames.stream.get_ref()) => return End::Client,
                }
                if let Err(end) = submit(session, &expected, header, body, received) {
                    return end;
                }
            }
            Kind::Expect => match expected.add(&body, &shared.limits) {
                Ok(Some(expectation)) => shared.service.expect(&session.info, expectation),
                Ok(None) => {}
                Err(end) => return end,
            },
            Kind::Cancel => session.cancel(header.call),
            Kind::Goodbye => return End::Client,
            Kind::Hello => return malformed("a second hello"),
            kind @ (Kind::Welcome | Kind::Reply | Kind::Error) => {
                return malformed(format_args!("only the core sends frames of kind {kind:?}"));
            }
        }
    }
}

fn submit(
    session: &Arc<Session>,
    expected: &Expectations,
    header: Header,
    body: Vec<u8>,
    received: Instant,
) -> Result<(), End> {
    if header.call == 0 {
        return Err(malformed("calls are numbered from 1, this one is 0"));
    }
    let call: Call<'_> = frame::decode_body(&body).map_err(End::Fault)?;
    let expected = match call.expects {
        None => None,
        Some(id) => match expected.known.get(&(call.name.to_owned(), id)) {
            Some(expected) => Some(Arc::clone(expected)),
            None => {
                let name = call.name;
                return Err(malformed(format_args!(
                    "the call of {name} expects a signature that was not announced before"
                )));
            }
        },
    };
    let timeout = match header.timeout_ms {
        0 => None,
        ms => Some(Duration::from_millis(ms.into())),
    };
    let job = Job {
        body,
        expected,
        received,
        timeout,
    };
    session.submit(header, job).map_err(End::Fault)
}

/// The signatures that a client has announced.
#[derive(Default)]
struct Expectations {
    known: HashMap<(String, SignatureId), Arc<Expected>>,
    bytes: usize,
}

impl Expectations {
    /// Keeps one; returns it unless it was known.
    fn add(&mut self, body: &[u8], limits: &Limits) -> Result<Option<Expectation>, End> {
        let expectation: Expectation = frame::decode_body(body).map_err(End::Fault)?;
        let id = expectation.signature.id();
        let key = (expectation.name.clone(), id);
        if self.known.contains_key(&key) {
            return Ok(None);
        }
        self.bytes += body.len();
        if self.known.len() >= limits.expectations || self.bytes > limits.expectation_bytes {
            let (most, bytes) = (limits.expectations, limits.expectation_bytes);
            return Err(fault(format!(
                "a session may announce {most} signatures of {bytes} bytes together, \
                 this one announces more"
            )));
        }
        let expected = Expected::new(expectation.signature.clone());
        self.known.insert(key, Arc::new(expected));
        Ok(Some(expectation))
    }
}

/// The frames that a client sends.
struct Frames {
    stream: BufReader<OwnedReadHalf>,
}

impl Frames {
    /// Reads the next one; before the greeting, nothing long is listened to.
    async fn next(&mut self, greeting: bool) -> Result<(Header, Vec<u8>), End> {
        let mut header = [0; HEADER];
        // A header that is cut off is as good as none: the client is gone.
        self.stream
            .read_exact(&mut header)
            .await
            .map_err(|_| End::Client)?;
        let header = Header::parse(&header).map_err(End::Fault)?;
        let most = match header.kind {
            _ if greeting => SHORT,
            Kind::Call => MAX_BODY,
            Kind::Expect => EXPECTATION,
            _ => SHORT,
        };
        let (len, kind) = (header.len, header.kind);
        if len > most {
            return Err(malformed(format_args!(
                "the body of a frame of kind {kind:?} has {len} bytes, at most {most} are allowed here"
            )));
        }
        // Grows as the bytes arrive: a header alone costs its sender nothing and must cost us nothing.
        let mut body = Vec::with_capacity(len.min(FIRST_BYTES));
        let read = (&mut self.stream)
            .take(len as u64)
            .read_to_end(&mut body)
            .await
            .map_err(|_| End::Client)?;
        if read < len {
            return Err(End::Client);
        }
        Ok((header, body))
    }
}
