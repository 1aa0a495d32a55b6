//! What is called: skills of a core, and what else such a call could be.
//!
//! A peer serves in one process and calls in another, both started by [`Pair`]; each answers with the bytes it was sent.

use std::path::Path;

use session_peers::{Failed, Order, Tally, iceoryx, memory, polling, raw, tarpc, tokio, tonic};
use tempfile::TempDir;

use crate::aigis;
use crate::child::Child;
use crate::python;
use crate::role::{CALL, SERVE};

/// A way to have bytes echoed by another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A skill of a core plugin, called through an import.
    Aigis,
    /// The same with the session's shared memory switched off.
    AigisSocket,
    /// Two skills: a number is set and got.
    AigisValue,
    /// Blocking threads over a unix socket, one connection per caller.
    Raw,
    /// tokio over a unix socket, one connection per caller.
    Tokio,
    /// tarpc over a unix socket, one connection for all callers.
    Tarpc,
    /// tonic over a unix socket, one connection for all callers.
    Tonic,
    /// Requests of iceoryx2, both sides polling.
    Iceoryx2,
    /// Two threads that spin on shared memory: no more than the machine itself.
    Memory,
    /// A proxy of Python's manager, in Python.
    Python,
}

const ALL: [Peer; 10] = [
    Peer::Aigis,
    Peer::AigisSocket,
    Peer::AigisValue,
    Peer::Raw,
    Peer::Tokio,
    Peer::Tarpc,
    Peer::Tonic,
    Peer::Iceoryx2,
    Peer::Memory,
    Peer::Python,
];

impl Peer {
    /// Returns the name, for people and for the processes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aigis => "aigis",
            Self::AigisSocket => "aigis, socket alone",
            Self::AigisValue => "aigis, set and get",
            Self::Raw => "raw socket",
            Self::Tokio => "tokio",
            Self::Tarpc => "tarpc",
            Self::Tonic => "tonic",
            Self::Iceoryx2 => "iceoryx2, polling",
            Self::Memory => "two spinning threads",
            Self::Python => "Python manager",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, Failed> {
        let mut all = ALL.into_iter();
        let peer = all.find(|peer| peer.name() == name);
        peer.ok_or_else(|| format!("there is no peer `{name}`").into())
    }

    /// Says whether a core serves it, so that it needs no process to serve.
    pub(crate) fn of_a_core(self) -> bool {
        matches!(self, Self::Aigis | Self::AigisSocket | Self::AigisValue)
    }

    /// Says whether its server burns a core while nobody calls, and so must rest meanwhile.
    fn polls(self) -> bool {
        matches!(self, Self::Iceoryx2 | Self::Memory)
    }

    /// Serves in this process until its input ends.
    pub(crate) fn serve(self, place: &Path) -> Result<(), Failed> {
        match self {
            Self::Raw => raw::serve(place),
            Self::Tokio => tokio::serve(place),
            Self::Tarpc => tarpc::serve(place),
            Self::Tonic => tonic::serve(place),
            Self::Iceoryx2 => iceoryx::serve(place),
            Self::Memory => memory::serve(place),
            Self::Aigis | Self::AigisSocket | Self::AigisValue | Self::Python => {
                Err("its server is another program".into())
            }
        }
    }

    /// Calls from this process until its input ends; the place of a core is its home.
    pub(crate) fn call(self, place: &Path) -> Result<(), Failed> {
        match self {
            Self::Aigis | Self::AigisSocket => aigis::call(place),
            Self::AigisValue => aigis::call_value(place),
            Self::Raw => raw::call(place),
            Self::Tokio => tokio::call(place),
            Self::Tarpc => tarpc::call(place),
            Self::Tonic => tonic::call(place),
            Self::Iceoryx2 => iceoryx::call(place),
            Self::Memory => memory::call(place),
            Self::Python => Err("its caller is another program".into()),
        }
    }
}

/// The two processes of a peer.
pub(crate) struct Pair {
    peer: Peer,
    // Ends before its server does.
    client: Child,
    /// None if a core serves, which lives longer.
    server: Option<Child>,
    /// Where the two find each other.
    _place: TempDir,
}

impl Pair {
    /// Starts a peer; `home` is that of the core.
    pub(crate) fn start(peer: Peer, home: &Path) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        if peer == Peer::Python {
            let (server, client) = python::start()?;
            return Ok(Self {
                peer,
                client,
                server: Some(server),
                _place: folder,
            });
        }
        let place = match peer.of_a_core() {
            true => home.to_owned(),
            false => folder.path().join("place"),
        };
        let place = place
            .to_str()
            .ok_or("the folder for temporary files is not UTF-8")?;
        let server = match peer.of_a_core() {
            true => None,
            false => Some(Child::in_role(&[SERVE, peer.name(), place], &[])?),
        };
        let variables: &[_] = match peer {
            Peer::AigisSocket => &[("AIGIS_SESSION_RING", "off")],
            _ => &[],
        };
        Ok(Self {
            peer,
            client: Child::in_role(&[CALL, peer.name(), place], variables)?,
            server,
            _place: folder,
        })
    }

    /// Runs one slice of calls.
    pub(crate) fn slice(&mut self, order: &Order) -> Result<Tally, Failed> {
        let polling = self.server.as_mut().filter(|_| self.peer.polls());
        let Some(server) = polling else {
            return self.client.ask(&order.to_string())?.parse();
        };
        server.ask(polling::ON)?;
        let tally = self.client.ask(&order.to_string());
        server.ask(polling::OFF)?;
        tally?.parse()
    }
}
