//! Clients that are a burden to the others: whoever else calls the same core is to have its share.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use aigis_plugin_api::session::frame::{
    self, Call, Hello, Kind, MAGIC, PROTOCOL, Target, read_frame,
};
use aigis_plugin_api::session::socket;
use aigis_plugin_api::{Session, codec};
use session_peers::{Failed, orders};

aigis_plugin_api::import! {
    mod echo {
        fn echo(data: &[u8]) -> Vec<u8>;
        fn nap(milliseconds: u64);
    }
}

/// What a client does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burden {
    /// It calls from many threads without a pause.
    Floods,
    /// It calls without a pause, and reads no answer.
    ReadsNothing,
    /// It calls from many threads a skill that sleeps.
    Sleeps,
}

/// How many threads a flood, or a sleep, has.
const THREADS: usize = 64;
/// How long the skill sleeps, in milliseconds.
const NAP: u64 = 20;

impl Burden {
    pub(crate) const ALL: [Self; 3] = [Self::Floods, Self::ReadsNothing, Self::Sleeps];

    /// Returns the name, for people and for the processes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floods => "one that floods",
            Self::ReadsNothing => "one that reads nothing",
            Self::Sleeps => "one that calls what sleeps",
        }
    }

    /// Is that client, until its input ends.
    pub(crate) fn be(name: &str, home: &Path) -> Result<(), Failed> {
        let burden = Self::ALL.into_iter().find(|it| it.name() == name);
        let burden = burden.ok_or_else(|| format!("there is no client `{name}`"))?;
        match burden {
            Self::Floods => {
                let session = aigis_plugin_api::connect(home)?;
                many(&session, || echo::echo(&[7; 64]).map(drop))
            }
            Self::Sleeps => {
                let session = aigis_plugin_api::connect(home)?;
                many(&session, || echo::nap(NAP))
            }
            Self::ReadsNothing => read_nothing(home),
        }
    }
}

/// Calls from many threads until this process is told to end.
fn many<E: Send>(
    session: &Session,
    call: impl Fn() -> Result<(), E> + Copy + Sync + Send,
) -> Result<(), Failed> {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let session = session.clone();
            // A refusal, such as that there are too many, is no reason to stop.
            scope.spawn(move || {
                session.scope(|| {
                    loop {
                        let _ = call();
                    }
                })
            });
        }
        orders::obey_end()
    })
}

fn read_nothing(home: &Path) -> Result<(), Failed> {
    loop {
        let mut socket = enter(home)?;
        static TOLD: std::sync::Once = std::sync::Once::new();
        let mut told = Ok(());
        TOLD.call_once(|| told = orders::obey_end());
        told?;
        let arguments = codec::to_vec(&(vec![7_u8; 64],))?;
        for number in 1.. {
            let call = Call {
                target: Target::Name("echo.echo"),
                arguments: &arguments,
            };
            let bytes = call
                .frame(number, 60_000)
                .map_err(|error| error.to_string())?;
            match socket.write_all(&bytes) {
                Ok(()) => {}
                // The core has had enough of it.
                Err(error) if error.kind() != ErrorKind::Interrupted => break,
                Err(_) => {}
            }
        }
    }
}

/// Says hello, and hears that it is let in.
fn enter(home: &Path) -> Result<UnixStream, Failed> {
    let mut socket = socket::connect(&home.join("run/core.sock"))?;
    let hello = Hello {
        magic: MAGIC.to_owned(),
        protocol: PROTOCOL,
        features: Vec::new(),
        token: None,
        client: "burden".to_owned(),
        pid: std::process::id(),
        imports: Vec::new(),
    };
    let hello =
        frame::encode_frame(Kind::Hello, 0, 0, &hello).map_err(|error| error.to_string())?;
    socket.write_all(&hello)?;
    read_frame(&mut socket)?.ok_or("the core does not let it in")?;
    Ok(socket)
}
