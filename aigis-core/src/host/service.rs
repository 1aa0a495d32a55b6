//! What sessions ask of the host.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use aigis_plugin_api::__private::{BoxItems, Failure, FailureKind, failed};
use aigis_plugin_api::session::frame::{Hello, Import, Library, Offer, Served, feature};
use aigis_plugin_api::signature::Signature;

use super::compatibility::Importer;
use super::isolate;
use super::isolated::Isolated;
use super::metrics::SkillCalls;
use super::offering::Request;
use super::plugin::Plugin;
use super::{Inner, Launched, TokenHash, lock};
use crate::loader::guard::Visit;
use crate::loader::{Link, Route, Services};
use crate::logging::Level;
use crate::rpc::{self, Answer, Callee, Done, Imported, Peer, Service, SessionInfo, Underway};

/// The sessions that are open.
#[derive(Default)]
pub(super) struct Sessions {
    last: u64,
    open: HashMap<u64, Open>,
}

/// A session that is open.
struct Open {
    info: Arc<SessionInfo>,
    launch: Option<Launch>,
    /// Its process is of another user than the core, who may ask, but change nothing.
    is_foreign: bool,
    /// What its imports expect, by the name of the skill.
    expects: HashMap<String, Signature>,
}

/// The launch that a session belongs to.
#[derive(Clone)]
struct Launch {
    plugin: Arc<Plugin>,
    token: String,
    /// The library that the process runs, if it is not the plugin's program.
    isolated: Option<Arc<Isolated>>,
}

impl Sessions {
    /// Returns the sessions that import anything, apart from those of plugins that are `left_out`.
    pub(super) fn importers(&self, left_out: impl Fn(&str) -> bool) -> Vec<Importer> {
        let mut open: Vec<&Open> = self.open.values().collect();
        open.sort_by_key(|open| open.info.id);
        open.iter()
            .filter(|open| !open.info.plugin.as_deref().is_some_and(&left_out))
            .map(|Open { info, expects, .. }| Importer {
                who: match &info.plugin {
                    Some(plugin) => format!("{plugin} (session {})", info.id),
                    None => format!("{} (session {})", info.client, info.id),
                },
                expects: expects.clone().into_iter().collect(),
            })
            .collect()
    }
}

/// Makes what sessions ask: the host, for as long as there is one.
pub(super) fn of(inner: &Arc<Inner>) -> Arc<dyn Service> {
    Arc::new(HostService(Arc::downgrade(inner)))
}

struct HostService(Weak<Inner>);

fn closing() -> Failure {
    Failure::new(FailureKind::Refused, "the core is shutting down")
}

impl Service for HostService {
    fn admit(&self, hello: &Hello, peer: Peer) -> Result<Arc<SessionInfo>, Failure> {
        let inner = self.0.upgrade().filter(|inner| !inner.is_closing());
        let inner = inner.ok_or_else(closing)?;
        let offers = hello.features.iter().any(|name| name == feature::OFFERS);
        let launch = match &hello.token {
            Some(token) => Some(inner.present(token, offers)?),
            None if peer.uid != 0 && peer.uid != rpc::own_uid() => {
                let message = "a process of another user needs the token of its launch";
                return Err(Failure::new(FailureKind::Refused, message));
            }
            None => None,
        };
        let mut sessions = lock(&inner.sessions);
        sessions.last += 1;
        let info = Arc::new(SessionInfo {
            id: sessions.last,
            client: hello.client.clone(),
            plugin: launch
                .as_ref()
                .map(|launch| launch.plugin.name().to_string()),
            pid: peer.pid.unwrap_or(hello.pid),
        });
        let open = Open {
            info: Arc::clone(&info),
            launch,
            is_foreign: peer.uid != 0 && peer.uid != rpc::own_uid(),
            expects: HashMap::new(),
        };
        sessions.open.insert(info.id, open);
        Ok(info)
    }

    fn import(&self, session: &Arc<SessionInfo>, import: Import) -> Arc<dyn Imported> {
        let Some(inner) = self.0.upgrade() else {
            return Arc::new(Closed);
        };
        let message = format!(
            "session {} ({}) imports {}",
            session.id, session.client, import.name
        );
        inner.logs.core(Level::Debug, message);
        if let Some(open) = lock(&inner.sessions).open.get_mut(&session.id) {
            let name = import.name.clone();
            open.expects.insert(name, import.signature.clone());
        }
        if let Err(failure) = inner.may_use(session.id, &import.name) {
            return Arc::new(Denied(failure));
        }
        let slot = Services::slot(&*inner, &import.name);
        Arc::new(ImportedSkill {
            inner: Weak::clone(&self.0),
            portable: import.portable,
            calls: OnceLock::new(),
            link: Some(Link::new(slot, import.signature)),
        })
    }

    fn call(
        &self,
        session: &SessionInfo,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let Some(inner) = self.0.upgrade() else {
            done(Err(closing()));
            return None;
        };
        if name == isolate::REPORT
            && let Some(isolated) = inner.isolated_of(session.id)
        {
            return isolated.reported(arguments, done);
        }
        if let Err(failure) = inner.may_use(session.id, name) {
            done(Err(failure));
            return None;
        }
        let done = match inner.calls_of(name) {
            Some(calls) => calls.timed(done),
            None => done,
        };
        let done = inner.within_limits(|| inner.visit(name), arguments, done)?;
        inner.start(Route::Name(name), arguments, timeout, done)
    }

    fn open(
        &self,
        session: &SessionInfo,
        name: &str,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let Some(inner) = self.0.upgrade() else {
            return failed(closing());
        };
        if let Err(failure) = inner.may_use(session.id, name) {
            return failed(failure);
        }
        if let Some(calls) = inner.calls_of(name) {
            calls.opened();
        }
        let open = |streams| inner.open(Route::Name(name), arguments, streams, timeout);
        inner.items_within_limits(|| inner.visit(name), arguments, streams, open)
    }

    fn offer(
        &self,
        session: &Arc<SessionInfo>,
        offer: Offer,
        callee: Arc<dyn Callee>,
        answer: Answer,
    ) {
        let Some(inner) = self.0.upgrade().filter(|inner| !inner.is_closing()) else {
            return answer(Err(closing()));
        };
        let open = lock(&inner.sessions);
        let launch = open
            .open
            .get(&session.id)
            .and_then(|open| open.launch.clone());
        drop(open);
        let Some(Launch {
            plugin,
            token,
            isolated,
        }) = launch
        else {
            let message = "only a plugin may offer skills: this session has presented no token; have \
                           the core launch the program, as an internal or external plugin";
            return answer(Err(Failure::new(FailureKind::Refused, message)));
        };
        if let Some(isolated) = isolated {
            if isolated.offered(session, &offer, &callee, answer) {
                inner.is_up(&token);
            }
            return;
        }
        inner.take_offer(Request {
            session: Arc::clone(session),
            plugin,
            token,
            offer,
            callee,
            answer,
        });
    }

    fn library(&self, name: &str) -> Option<(Library, OwnedFd)> {
        self.0.upgrade()?.library_of(name)
    }

    fn page(&self) -> Option<OwnedFd> {
        self.0.upgrade()?.portables.page()
    }

    fn ended(&self, session: &SessionInfo) {
        let Some(inner) = self.0.upgrade() else {
            return;
        };
        let open = lock(&inner.sessions).open.remove(&session.id);
        if let Some(Launch {
            plugin, isolated, ..
        }) = open.and_then(|open| open.launch)
            && match &isolated {
                Some(isolated) => isolated.instances.leave(session.id),
                None => plugin.offering.instances.leave(session.id),
            }
        {
            let message = "no process serves its skills now";
            inner
                .logs
                .plugin(plugin.name().as_str(), Level::Info, message);
        }
    }
}

/// What one import of a session leads to.
struct ImportedSkill {
    inner: Weak<Inner>,
    /// The client asks for the code.
    portable: bool,
    /// Where its calls are counted, once there was one and if anybody has asked.
    calls: OnceLock<Arc<SkillCalls>>,
    /// None only when it is dropped.
    link: Option<Box<Link>>,
}

impl ImportedSkill {
    fn link(&self) -> &Link {
        self.link.as_deref().expect("it is there until the end")
    }

    fn calls(&self, inner: &Inner) -> Option<Arc<SkillCalls>> {
        inner.metrics.get()?;
        if let Some(calls) = self.calls.get() {
            return Some(Arc::clone(calls));
        }
        let calls = inner.calls_of(self.link().slot.name())?;
        // Another thread may have set the same.
        let _ = self.calls.set(Arc::clone(&calls));
        Some(calls)
    }
}

impl Drop for ImportedSkill {
    /// A client may import any name there is, and come again with others: what nobody else asks for is
    /// not kept.
    fn drop(&mut self) {
        let (Some(inner), Some(link)) = (self.inner.upgrade(), self.link.take()) else {
            return;
        };
        let name = link.slot.name().to_owned();
        let mut registry = inner.registry_mut();
        // Within the lock: of two that end together, the last one finds nobody else.
        drop(link);
        registry.forget(&name, |slot| Arc::strong_count(slot) == 1);
    }
}

impl Imported for ImportedSkill {
    fn name(&self) -> &str {
        self.link().slot.name()
    }

    fn served(&self) -> Served {
        let Some(visit) = Visit::of(&self.link().source()) else {
            return Served::default();
        };
        let offer = visit.serving().offer();
        let inner = self.inner.upgrade();
        let portable = inner
            .as_ref()
            .filter(|_| self.portable)
            .and_then(|inner| inner.portables.code_of(visit.serving()));
        Served {
            plugin: Some(offer.plugin.clone()),
            generation: offer.generation,
            idempotent: offer.idempotent,
            max_message: inner
                .and_then(|inner| inner.message_limits.of(&offer.plugin))
                .map(|most| most as u64),
            differences: self
                .link()
                .expected
                .differences(&offer.signature, &offer.id),
            portable,
        }
    }

    fn call(
        &self,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let Some(inner) = self.inner.upgrade() else {
            done(Err(closing()));
            return None;
        };
        let done = match self.calls(&inner) {
            Some(calls) => calls.timed(done),
            None => done,
        };
        let visit = || Visit::of(&self.link().source());
        let done = inner.within_limits(visit, arguments, done)?;
        inner.start(Route::Link(self.link()), arguments, timeout, done)
    }

    fn open(
        &self,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let Some(inner) = self.inner.upgrade() else {
            return failed(closing());
        };
        if let Some(calls) = self.calls(&inner) {
            calls.opened();
        }
        let visit = || Visit::of(&self.link().source());
        let open = |streams| inner.open(Route::Link(self.link()), arguments, streams, timeout);
        inner.items_within_limits(visit, arguments, streams, open)
    }
}

/// An import of a host that is gone.
struct Closed;

impl Imported for Closed {
    fn name(&self) -> &str {
        ""
    }

    fn served(&self) -> Served {
        Served::default()
    }

    fn call(&self, _: &[u8], _: Option<Duration>, done: Done) -> Option<Arc<dyn Underway>> {
        done(Err(closing()));
        None
    }
}

/// An import of a skill that is not for the session's user.
struct Denied(Failure);

impl Imported for Denied {
    fn name(&self) -> &str {
        &self.0.skill
    }

    fn served(&self) -> Served {
        Served::default()
    }

    fn call(&self, _: &[u8], _: Option<Duration>, done: Done) -> Option<Arc<dyn Underway>> {
        done(Err(self.0.clone()));
        None
    }
}

/// The core's own skills that change nothing.
const ASKING: [&str; 5] = [
    "aigis.pid",
    "aigis.status",
    "aigis.skills",
    "aigis.settled",
    isolate::REPORT,
];

impl Inner {
    /// Refuses what a session of another user asks the core itself to do: it would have it done with the core's rights.
    fn may_use(&self, session: u64, name: &str) -> Result<(), Failure> {
        if !name.starts_with("aigis.") || ASKING.contains(&name) {
            return Ok(());
        }
        let is_foreign = {
            let sessions = lock(&self.sessions);
            let open = sessions.open.get(&session);
            open.is_some_and(|open| open.is_foreign)
        };
        if !is_foreign {
            return Ok(());
        }
        let message =
            "a process of another user than the core may ask it how things are, and change nothing";
        Err(Failure::new(FailureKind::Refused, message).of_skill(name))
    }

    /// Tells sessions what serves their imports now.
    pub(super) fn tell_swaps(&self) {
        if let Some(server) = self.server.get() {
            server.tell_swaps();
        }
    }
}

impl Inner {
    pub(super) fn open_sessions(&self) -> usize {
        lock(&self.sessions).open.len()
    }

    /// Takes the token of a launched plugin, which is ready with that unless an offer follows.
    fn present(&self, token: &str, offers: bool) -> Result<Launch, Failure> {
        let mut launched = lock(&self.launched);
        let Some(known) = launched.get_mut(&TokenHash::of(token)) else {
            let message = "the token is not that of a running plugin of this core";
            return Err(Failure::new(FailureKind::Refused, message));
        };
        if known.adopted && !self.gate.is_open_to(&known.plugin) {
            let message =
                "the core has only just started and does not serve all skills yet; try again";
            return Err(Failure::new(FailureKind::Overloaded, message));
        }
        if !offers {
            known.is_up();
        }
        Ok(Launch {
            plugin: Arc::clone(&known.plugin),
            token: token.to_owned(),
            isolated: known.isolated.as_ref().map(Arc::clone),
        })
    }

    /// Returns the library that the process of a session runs, if it was launched for one.
    fn isolated_of(&self, session: u64) -> Option<Arc<Isolated>> {
        let sessions = lock(&self.sessions);
        let launch = sessions.open.get(&session)?.launch.as_ref()?;
        launch.isolated.as_ref().map(Arc::clone)
    }

    /// Says that a launched plugin is ready.
    pub(super) fn is_up(&self, token: &str) {
        if let Some(known) = lock(&self.launched).get_mut(&TokenHash::of(token)) {
            known.is_up();
        }
    }

    /// Returns the number of the launch that has this token, while it is running.
    pub(super) fn launch_of(&self, token: &str) -> Option<u64> {
        let launched = lock(&self.launched);
        launched
            .get(&TokenHash::of(token))
            .map(|known| known.number)
    }
}

impl Launched {
    fn is_up(&mut self) {
        if let Some(up) = self.up.take() {
            // Its watch may be stopping it just now.
            let _ = up.send(());
        }
    }
}
