//! What a library in a process of its own can ask of its host: the same as in the core, over a session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use aigis_plugin_api::__private::{Backend, BoxItems, Expected, Failure, Request, failed};
use aigis_plugin_api::session::frame::{Offer, OfferedSkill};
use aigis_plugin_api::session::reactor::Reactor;
use aigis_plugin_api::session::{Serve, Underway, ending, unserved};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::config::PluginName;
use crate::host::events::Logs;
use crate::host::lock;
use crate::loader::crash::CrashFile;
use crate::loader::guard::{Change, Slot, Switchboard, Visit};
use crate::loader::{self, Done, Generation, Route, Services};
use crate::logging::Level;
use crate::logging::spans::Around;
use crate::logging::twin::Record;

/// The host of the one library of this process.
pub(super) struct Apart {
    pub(super) core: Arc<dyn Backend>,
    pub(super) reactor: Arc<Reactor>,
    pub(super) timers: Handle,
    pub(super) logs: Logs,
    /// The process has been told to end.
    pub(super) closing: Arc<AtomicBool>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    switchboard: Arc<Switchboard>,
}

impl Apart {
    pub(super) fn new(
        core: Arc<dyn Backend>,
        reactor: Arc<Reactor>,
        timers: Handle,
        logs: Logs,
        closing: Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            core,
            reactor,
            timers,
            logs,
            closing,
            slots: Mutex::default(),
            switchboard: Arc::default(),
        })
    }

    /// Makes a call that goes to the core. Without a limit, as calls within the core have none.
    fn request<R>(
        &self,
        route: &Route<'_>,
        arguments: &[u8],
        make: impl FnOnce(&Request<'_>) -> R,
    ) -> R {
        let visited;
        let (name, expected) = match route {
            Route::Link(link) => (link.slot.name(), Some(&link.expected)),
            Route::Name(name) => (*name, None),
            Route::Pinned(visit) => {
                visited = visit.serving().offer().name.clone();
                (visited.as_str(), None)
            }
        };
        make(&Request {
            name,
            expected,
            portable: false,
            arguments,
            tail: &[],
            timeout: Some(Duration::MAX),
        })
    }

    /// Goes in where a skill of this very library is meant.
    fn own(&self, route: &Route<'_>) -> Option<Visit> {
        match route {
            Route::Link(link) => Visit::of(&link.source()),
            Route::Name(name) => {
                let slot = lock(&self.slots).get(*name).map(Arc::clone)?;
                Visit::of(&slot.source())
            }
            Route::Pinned(_) => None,
        }
    }

    /// Puts the library's skills where its own calls find them, or takes them away again.
    pub(super) fn serve(&self, generation: &Generation, serves: bool) {
        let changes = generation.servings().iter().map(|serving| Change {
            slot: self.slot(&serving.offer().name),
            next: match serves {
                true => std::ptr::from_ref(serving),
                false => std::ptr::null(),
            },
        });
        self.switchboard.begin(changes.collect(), None).commit();
    }
}

impl Services for Apart {
    fn call(&self, route: Route<'_>, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        if let Some(visit) = self.own(&route) {
            let expected = expected_of(&route);
            return visit.serving().serve(expected, arguments, None);
        }
        self.request(&route, arguments, |request| self.core.call(request))
    }

    fn start(&self, route: Route<'_>, arguments: &[u8], done: Done) -> Option<Arc<dyn Underway>> {
        if let Some(visit) = self.own(&route) {
            return match visit.serving().admit(expected_of(&route)) {
                Ok(()) => loader::begin(visit, arguments, None, done),
                Err(failure) => {
                    done(Err(failure));
                    None
                }
            };
        }
        let number = self.request(&route, arguments, |request| self.core.start(request, done));
        Some(Arc::new(GoesOn {
            core: Arc::clone(&self.core),
            number,
        }))
    }

    fn open(&self, route: Route<'_>, arguments: &[u8], streams: Vec<BoxItems>) -> BoxItems {
        if let Some(visit) = self.own(&route) {
            return match visit.serving().admit(expected_of(&route)) {
                Ok(()) => visit.serving().open(arguments, streams, None),
                Err(failure) => failed(failure),
            };
        }
        self.request(&route, arguments, |request| {
            self.core.open(request, streams)
        })
    }

    fn after(&self, time: Duration, then: Box<dyn FnOnce() + Send>) -> AbortHandle {
        let timer = self.timers.spawn(async move {
            tokio::time::sleep(time).await;
            then();
        });
        timer.abort_handle()
    }

    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        // Without a thread the job is dropped, which completes its call with a failure.
        let _ = self.reactor.submit(job);
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let slot = slots
            .entry(name.to_owned())
            .or_insert_with(|| Slot::new(name, &self.switchboard));
        Arc::clone(slot)
    }

    fn keeps(&self, level: Level) -> bool {
        self.logs.keeps(level)
    }

    /// The library goes with its process: no thread has to end anything for it before.
    fn wake_idle(&self) {}

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn log(&self, plugin: &PluginName, level: Level, message: &str) {
        self.logs.plugin(plugin.as_str(), level, message);
    }

    /// The core sees how the process ends.
    fn crash_file(&self) -> Option<Arc<CrashFile>> {
        None
    }

    fn record(&self, plugin: &PluginName, around: &Around, record: &Record<'_>) {
        self.logs.record(plugin.as_str(), around, record);
    }
}

/// Returns what the caller was compiled with.
fn expected_of<'r>(route: &Route<'r>) -> Option<&'r Expected> {
    match route {
        Route::Link(link) => Some(&link.expected),
        Route::Name(_) | Route::Pinned(_) => None,
    }
}

/// A call that the core has not answered.
struct GoesOn {
    core: Arc<dyn Backend>,
    number: u64,
}

impl Underway for GoesOn {
    fn give_up(&self) {
        self.core.cancel(self.number);
    }
}

/// The library's skills, as the core calls them.
pub(super) struct Served {
    apart: Arc<Apart>,
    generation: Weak<Generation>,
    closing: AtomicBool,
}

impl Served {
    pub(super) fn new(apart: &Arc<Apart>, generation: &Arc<Generation>) -> Arc<Self> {
        Arc::new(Self {
            apart: Arc::clone(apart),
            generation: Arc::downgrade(generation),
            closing: AtomicBool::new(false),
        })
    }
}

impl Serve for Served {
    fn offer(&self) -> Offer {
        let generation = self.generation.upgrade();
        let described = generation.iter().flat_map(|it| &it.description().skills);
        let skills = described.map(|skill| OfferedSkill {
            name: skill.name.clone(),
            doc: skill.doc.clone(),
            signature: skill.signature.clone(),
            idempotent: skill.idempotent,
        });
        Offer {
            skills: skills.collect(),
        }
    }

    fn call(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        _: &Arc<Reactor>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        if self.closing.load(Ordering::SeqCst) {
            done(Err(ending(name)));
            return None;
        }
        match self.apart.own(&Route::Name(name)) {
            Some(visit) => loader::begin(visit, arguments, timeout, done),
            None => {
                done(Err(unserved(name)));
                None
            }
        }
    }

    fn open(&self, name: &str, arguments: &[u8], streams: Vec<BoxItems>) -> BoxItems {
        if self.closing.load(Ordering::SeqCst) {
            return failed(ending(name));
        }
        match self.apart.own(&Route::Name(name)) {
            // Its caller's time is ended by its caller, as of all that is opened.
            Some(visit) => visit.serving().open(arguments, streams, None),
            None => failed(unserved(name)),
        }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}
