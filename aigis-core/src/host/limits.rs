//! How large what a plugin is sent over sessions may be, and what it answers there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigis_plugin_api::__private::{BoxItems, failed, limited, too_large};

use super::Inner;
use crate::config::{DEFAULT_MAX_MESSAGE, MIN_MAX_MESSAGE, PluginName};
use crate::loader::guard::Visit;
use crate::rpc::Done;

/// The limits of the plugins that have another than the usual one.
#[derive(Debug, Default)]
pub(super) struct MessageLimits {
    /// There are such plugins.
    any: AtomicBool,
    by_plugin: Mutex<HashMap<String, usize>>,
}

impl MessageLimits {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Nothing that can panic runs under this lock.
        self.by_plugin
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a plugin's manifest says.
    pub(super) fn set(&self, plugin: &PluginName, most: Option<usize>) {
        let mut by_plugin = self.lock();
        match most {
            Some(most) => by_plugin.insert(plugin.to_string(), most),
            None => by_plugin.remove(plugin.as_str()),
        };
        self.any.store(!by_plugin.is_empty(), Ordering::Relaxed);
    }

    /// Returns the limit of a plugin that has another than the usual one.
    pub(super) fn of(&self, plugin: &str) -> Option<usize> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().get(plugin).copied()
    }
}

impl Inner {
    /// Refuses arguments that are too long for whoever serves the call, and sees to it that a result is
    /// refused that is; returns whom to tell of the outcome, unless that was told already.
    pub(super) fn within_limits(
        &self,
        visit: impl FnOnce() -> Option<Visit>,
        arguments: &[u8],
        done: Done,
    ) -> Option<Done> {
        if !self.message_limits.any.load(Ordering::Relaxed) {
            return Some(done);
        }
        let Some(visit) = visit() else {
            return Some(done);
        };
        let offer = visit.serving().offer();
        let Some(most) = self.message_limits.of(&offer.plugin) else {
            return Some(done);
        };
        if arguments.len() > most {
            let failure = too_large(&offer.name, "arguments", arguments.len(), most);
            drop(visit);
            done(Err(failure));
            return None;
        }
        let name = offer.name.clone();
        Some(Box::new(move |outcome| {
            done(outcome.and_then(|result| {
                if result.len() > most {
                    return Err(too_large(&name, "result", result.len(), most));
                }
                Ok(result)
            }));
        }))
    }
}

impl Inner {
    /// Opens a call through `open`, unless its arguments are too long for whoever serves it, and sees to
    /// it that items are refused that are.
    pub(super) fn items_within_limits(
        &self,
        visit: impl FnOnce() -> Option<Visit>,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        open: impl FnOnce(Vec<BoxItems>) -> BoxItems,
    ) -> BoxItems {
        if !self.message_limits.any.load(Ordering::Relaxed) {
            return open(streams);
        }
        let Some(visit) = visit() else {
            return open(streams);
        };
        let offer = Arc::clone(visit.serving().offer());
        drop(visit);
        let Some(most) = self.message_limits.of(&offer.plugin) else {
            return open(streams);
        };
        let name = &offer.name;
        if arguments.len() > most {
            return failed(too_large(name, "arguments", arguments.len(), most));
        }
        let limit = |items, what| {
            let name = name.clone();
            limited(items, most, move |size| too_large(&name, what, size, most))
        };
        let streams = streams.into_iter();
        let streams = streams.map(|items| limit(items, "item of an argument"));
        limit(open(streams.collect()), "item")
    }
}

// Whoever has no limit of its own has that of the frames, which they keep to by themselves.
const _: () = assert!(
    DEFAULT_MAX_MESSAGE == aigis_plugin_api::session::frame::MAX_BODY
        && MIN_MAX_MESSAGE < DEFAULT_MAX_MESSAGE
);
