//! The start: what can be done ahead is done in parallel, loading and launching in order.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::order;
use super::plugin::Plugin;
use super::prepare::Prepared;
use super::step::{Step, StepError};
use super::{Inner, Phase, lock};

/// How many plugins are fetched and checked at the same time; builds take turns anyway.
const AHEAD: usize = 8;

/// What a plugin's turn begins with; none if it goes on as an earlier core has left it.
type Turn = Option<Result<Prepared, StepError>>;

/// Where prepared plugins wait for their turn, by their place in the load order.
#[derive(Default)]
pub(super) struct Board {
    results: Mutex<HashMap<usize, Turn>>,
}

impl Board {
    pub(super) fn put(&self, place: usize, result: Turn) {
        lock(&self.results).insert(place, result);
    }

    /// Takes what has become of the plugin in `place`, once it is known.
    pub(super) fn take(&self, place: usize) -> Option<Turn> {
        lock(&self.results).remove(&place)
    }
}

/// Counts the programs that prepare plugins: cargo, requirements commands. A shutdown ends them, and
/// may not be over before they are.
#[derive(Default)]
pub(super) struct Preparations {
    counted: Mutex<Counted>,
    ended: Condvar,
}

#[derive(Default)]
struct Counted {
    running: usize,
    closed: bool,
}

/// A program that may run until this is dropped.
pub(super) struct Preparation<'a>(&'a Preparations);

impl Drop for Preparation<'_> {
    fn drop(&mut self) {
        lock(&self.0.counted).running -= 1;
        self.0.ended.notify_all();
    }
}

impl Preparations {
    /// Asks to run a program; refused once the host closes.
    pub(super) fn begin(&self) -> Result<Preparation<'_>, Step> {
        let mut counted = lock(&self.counted);
        if counted.closed {
            return Err(Step::Closing);
        }
        counted.running += 1;
        Ok(Preparation(self))
    }

    /// Lets no program begin any more and waits for those that run, at most for `limit`; returns
    /// how many are left.
    pub(super) fn close(&self, limit: Duration) -> usize {
        let mut counted = lock(&self.counted);
        counted.closed = true;
        let waited = self
            .ended
            .wait_timeout_while(counted, limit, |counted| counted.running > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.running
    }
}

impl Inner {
    /// Waits until it is known what has become of the plugin in `place`; `None` when the host closes first.
    pub(super) fn wait_prepared(&self, place: usize) -> Option<Turn> {
        let mut phase = lock(&self.phase);
        while *phase == Phase::Open {
            if let Some(turn) = self.board.take(place) {
                return Some(turn);
            }
            let woken = self.changed.wait(phase);
            phase = woken.unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// Begins to prepare the plugins, in the background.
pub(super) fn prepare(inner: &Arc<Inner>) -> io::Result<()> {
    // Places count in this list; who comes or goes later has none.
    let plugins: Arc<[Arc<Plugin>]> = inner.plugins().into();
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..AHEAD.min(plugins.len()) {
        let (inner, next) = (Arc::clone(inner), Arc::clone(&next));
        let plugins = Arc::clone(&plugins);
        thread::Builder::new()
            .name("aigis-prepare".to_owned())
            .spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plugin) = plugins.get(place) else {
                        return;
                    };
                    if inner.is_closing() {
                        return;
                    }
                    let turn = match inner.goes_on(plugin) {
                        true => None,
                        false => Some(inner.prepare(plugin, false)),
                    };
                    inner.board.put(place, turn);
                    inner.wake();
                }
            })?;
    }
    Ok(())
}

/// Begins to load the plugins, in the background, as they are prepared.
pub(super) fn begin(inner: &Arc<Inner>) -> io::Result<()> {
    let inner = Arc::clone(inner);
    thread::Builder::new()
        .name("aigis-boot".to_owned())
        .spawn(move || order::start_in_order(&inner))?;
    Ok(())
}
