//! One core makes way for the next, while both live: `aigis build-and-run --takeover`.
//!
//! The next one does everything first that can fail: it fetches, builds, probes and loads. Then it asks the
//! running one, with the skill `aigis.takeover`, to hand over: calls that have begun are answered, no other
//! begins, the states of its core plugins are saved, and their `cleanup` runs. What was launched is let go
//! of, for the next core to adopt. The home's lock is the end of it. Clients find the next core and make the
//! calls there that had not begun.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::library;
use super::plugin::{Candidate, Plugin, Running};
use super::prepare::Prepared;
use super::step::StepError;
use super::{Event, HostError, Inner, Phase, PluginStatus, State, Step, full_message, lock};
use crate::config::PluginKind;
use crate::home::{HomeLock, LockError};
use crate::loader::guard::{Within, seats};
use crate::logging::Level;

/// How long calls may take to be answered, and states to be saved, before the running core refuses.
const HANDOVER: Duration = Duration::from_secs(5);

/// How long the core that goes may take to answer, and then to go.
const ANSWER: Duration = Duration::from_secs(60);

/// How often the lock is tried, whose end nothing tells of.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long the answer to the next core may take to leave.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// What becomes of one plugin.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    plugin: String,
    /// Its state, if it has saved one.
    saved: Option<Vec<u8>>,
}

/// What is ready before the running core is asked, by the place of its plugin.
#[derive(Default)]
pub(super) struct Ahead {
    by_place: HashMap<usize, AheadOf>,
}

impl Ahead {
    /// Lets go of what has been loaded: it does not come to its turn.
    fn retire(self) {
        let loaded = self.by_place.into_values().filter_map(|one| match one {
            AheadOf::Loaded(mut candidate) => candidate.library.take(),
            AheadOf::Prepared(_) => None,
        });
        library::retire(loaded.collect());
    }
}

enum AheadOf {
    Prepared(Box<Prepared>),
    Loaded(Box<Candidate>),
}

/// Why a running core is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// A plugin would not come up.
    #[error("the running core goes on: a plugin is not ready")]
    Plugin(#[source] StepError),
    /// The running core cannot be asked, or refuses.
    #[error("the running core goes on: it does not hand over: {0}")]
    Refused(String),
    /// It does not go.
    #[error("the core that was to hand over still holds the home after {} s", ANSWER.as_secs())]
    Stays,
    /// The home cannot be locked.
    #[error("the home cannot be locked: {0}")]
    Lock(std::io::Error),
}

impl Inner {
    /// Does everything that comes before the running core is asked.
    fn get_ready(self: &Arc<Self>, ahead: &mut Ahead) -> Result<(), TakeoverError> {
        for (place, plugin) in self.plugins().iter().enumerate() {
            let prepared = self.wait_prepared(place).flatten();
            let prepared = prepared.transpose().map_err(TakeoverError::Plugin)?;
            let Some(prepared) = prepared else { continue };
            plugin.has_order(&prepared.manifest);
            // The process of an isolated library looks for its core at the socket.
            let loads = plugin.entry.kind == PluginKind::Core && !prepared.manifest.isolate;
            let one = match loads {
                true => {
                    let candidate = self.load(plugin, prepared).map_err(TakeoverError::Plugin)?;
                    AheadOf::Loaded(Box::new(candidate))
                }
                false => AheadOf::Prepared(Box::new(prepared)),
            };
            ahead.by_place.insert(place, one);
        }
        Ok(())
    }

    /// Gets ready, has the running core hand over, and takes the home.
    pub(super) fn take_over_from_running(
        self: &Arc<Self>,
    ) -> Result<(Ahead, HomeLock), TakeoverError> {
        let mut ahead = Ahead::default();
        match self.try_take_over(&mut ahead) {
            Ok(lock) => Ok((ahead, lock)),
            Err(error) => {
                ahead.retire();
                Err(error)
            }
        }
    }

    fn try_take_over(self: &Arc<Self>, ahead: &mut Ahead) -> Result<HomeLock, TakeoverError> {
        let refused = |error: &dyn std::fmt::Display| TakeoverError::Refused(error.to_string());
        let session = aigis_plugin_api::connect(self.home.root()).map_err(|e| refused(&e))?;
        let statuses: Vec<PluginStatus> =
            session.call("aigis.status", ()).map_err(|e| refused(&e))?;
        for status in statuses {
            if let Ok(plugin) = self.find(&status.name) {
                plugin.goes_on_from(status.generation);
            }
        }
        self.get_ready(ahead)?;
        let own = std::process::id();
        let handed: Vec<Handed> = session
            .call_within("aigis.takeover", (own,), ANSWER)
            .map_err(|e| refused(&e))?;
        drop(session);
        let mut states = lock(&self.states);
        for Handed { plugin, saved } in handed {
            if let Some(saved) = saved {
                states.insert(plugin, saved);
            }
        }
        drop(states);
        let begun = Instant::now();
        loop {
            match self.home.lock() {
                Ok(lock) => return Ok(lock),
                Err(LockError::InUse(_)) if begun.elapsed() < ANSWER => thread::sleep(LOOK_AGAIN),
                Err(LockError::InUse(_)) => return Err(TakeoverError::Stays),
                Err(LockError::Open(error)) => return Err(TakeoverError::Lock(error)),
            }
        }
    }

    /// Opens what was loaded ahead, before anybody comes in; the others have their turns later.
    pub(super) fn open_ahead(self: &Arc<Self>, ahead: Ahead) {
        let mut by_place = ahead.by_place;
        for (place, plugin) in self.plugins().iter().enumerate() {
            match by_place.remove(&place) {
                Some(AheadOf::Loaded(candidate)) => {
                    let mut running = plugin.lock_running();
                    let opened = self.activate_loaded(plugin, &mut running, *candidate, true);
                    if let Err(error) = opened {
                        self.report_failure(plugin, &error);
                        plugin.fail(self, State::Failed, full_message(&error.step));
                    }
                    self.board.put(place, None);
                }
                Some(AheadOf::Prepared(prepared)) => self.board.put(place, Some(Ok(*prepared))),
                None => {}
            }
        }
    }

    /// Returns the state that the core before this one has handed over for a plugin, once.
    pub(super) fn state_of(&self, plugin: &Plugin) -> Option<Vec<u8>> {
        lock(&self.states).remove(plugin.name().as_str())
    }

    /// Makes way for the core of process `pid`. What fails leaves everything as it is.
    pub(super) fn hand_over_to(self: &Arc<Self>, pid: u32) -> Result<Vec<Handed>, HostError> {
        let refused = |message: String| HostError::Refused(message);
        self.refuse_now()?;
        let Some(server) = self.server.get() else {
            return Err(refused("the core has only just started".to_owned()));
        };
        let plugins = self.plugins();
        let mut held = Vec::new();
        for plugin in &plugins {
            let Some(running) = plugin.lock_running_within(HANDOVER) else {
                return Err(refused(format!("plugin `{}` is busy", plugin.name())));
            };
            let state = plugin.state();
            // What waits to be launched again waits at the next core; what is being launched is in the way.
            let waits = state == State::Backoff && plugin.status().pid.is_none();
            if !state.is_settled() && !waits {
                let message = format!("plugin `{}` is {state}; try again", plugin.name());
                return Err(refused(message));
            }
            held.push(running);
        }
        let begun = Instant::now();
        if !server.seal(pid, HANDOVER) {
            return Err(refused(format!(
                "calls are still running after {} s",
                HANDOVER.as_secs()
            )));
        }
        let handed = match self.save_all(&plugins, &held, begun) {
            Ok(handed) => handed,
            Err(error) => {
                server.unseal();
                return Err(error);
            }
        };
        {
            let mut phase = lock(&self.phase);
            if *phase != Phase::Open {
                drop(phase);
                server.unseal();
                return Err(refused("the core is shutting down".to_owned()));
            }
            *phase = Phase::Closing;
        }
        self.changed.notify_all();
        self.logs
            .core(Level::Shutdown, format!("core {pid} takes over"));
        self.letting_go.send_replace(true);
        for (plugin, running) in plugins.iter().zip(&mut held) {
            running.wait_let_go(self);
            self.unload(plugin, running);
            plugin.enter(self, State::Stopped, None);
        }
        drop(held);
        let inner = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("aigis-takeover".to_owned())
            .spawn(move || {
                if let Some(server) = inner.server.get() {
                    // The answer to this very call is the last one.
                    server.hand_over(LAST_ANSWER);
                }
                inner.logs.core(Level::Shutdown, "handed over");
                // The next core opens its own in the same place.
                lock(&inner.metrics_endpoint).take();
                // In time: a service manager may take the end of its main process for that of the service.
                inner.logs.notify(&Event::HandOver { pid });
                lock(&inner.lock).take();
                *lock(&inner.phase) = Phase::Closed;
                inner.changed.notify_all();
            });
        // Without a thread nothing would end it any more.
        spawned.map_err(|error| refused(format!("no thread can be started: {error}")))?;
        Ok(handed)
    }

    /// Saves the states of all core plugins that save one, while no call is inside of them.
    fn save_all(
        &self,
        plugins: &[Arc<Plugin>],
        held: &[std::sync::MutexGuard<'_, Running>],
        begun: Instant,
    ) -> Result<Vec<Handed>, HostError> {
        let deadline = begun + HANDOVER;
        let libraries: Vec<_> = plugins
            .iter()
            .zip(held)
            .filter_map(|(plugin, running)| Some((plugin, running.library.as_ref()?)))
            .filter(|(_, library)| library.description().save)
            .collect();
        let servings = libraries.iter().map(|(_, library)| library.within_calls());
        let inside = Within::any(servings);
        if !seats::wait_until_gone(&inside, Some(deadline), || self.is_closing()) {
            return Err(HostError::Refused(
                "calls from plugin to plugin are still running".to_owned(),
            ));
        }
        let mut handed = Vec::new();
        for (plugin, library) in libraries {
            let left = deadline.saturating_duration_since(Instant::now());
            let saved = library
                .save(left)
                .map_err(|error| HostError::Step(Step::Save(error).of(plugin.name())))?;
            handed.push(Handed {
                plugin: plugin.name().to_string(),
                saved,
            });
        }
        Ok(handed)
    }
}
