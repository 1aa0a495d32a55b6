//! Whose turn it is to start and to be stopped: the order of the list, and `AFTER`.
//!
//! `AFTER` only delays. A plugin that waits holds up nobody but those that wait for it; all others start in the order of
//! the list.

use std::sync::{Arc, PoisonError};

use super::boot::Board;
use super::plugin::Plugin;
use super::prepare::Prepared;
use super::step::{Step, StepError};
use super::{Inner, Phase, State, lock};
use crate::config::{PluginKind, PluginName, order};
use crate::logging::Level;

/// How it stands with the plugins that one is to start after.
enum Verdict {
    /// All of them are ready.
    Go,
    /// These are not yet.
    Wait(Vec<PluginName>),
    /// One of them does not become ready.
    Never(Step),
}

impl Inner {
    /// Looks how it stands with the plugins that one is to start after.
    fn verdict(&self, after: &[PluginName]) -> Verdict {
        let plugins = self.plugins();
        let mut missing = Vec::new();
        for name in after {
            // A name that no plugin has is a mistake that is told elsewhere.
            let Some(plugin) = plugins.iter().find(|plugin| plugin.name() == name) else {
                continue;
            };
            let how = match plugin.state() {
                // It was ready, and has done its work.
                State::Ready | State::Finished => continue,
                State::Failed | State::CrashLoop => "has failed",
                State::Stopped => "is stopped",
                State::Fetching
                | State::Building
                | State::Starting
                | State::Backoff
                | State::Stopping => {
                    missing.push(name.clone());
                    continue;
                }
            };
            let plugin = name.clone();
            return Verdict::Never(Step::After { plugin, how });
        }
        if missing.is_empty() {
            Verdict::Go
        } else {
            Verdict::Wait(missing)
        }
    }

    /// Returns what is wrong with the place of a plugin among those whose manifests are known.
    fn misplaced(&self, plugin: &Plugin) -> Option<Step> {
        let plugins = self.plugins();
        let known: Vec<_> = plugins
            .iter()
            .map(|plugin| (plugin.name().clone(), plugin.after()))
            .collect();
        let mut error = order::check(&known).err()?;
        // Each mistake is told to those who make it.
        error
            .unknown
            .retain(|unknown| unknown.plugin == *plugin.name());
        error.cycles.retain(|cycle| cycle.contains(plugin.name()));
        let is_concerned = !error.unknown.is_empty() || !error.cycles.is_empty();
        is_concerned.then_some(Step::Order(error))
    }

    fn tell_waiting(&self, plugin: &Plugin, names: &[PluginName]) {
        // A shutdown that has come first has said what the plugin comes to.
        let running = plugin.lock_running();
        if self.is_closing() {
            return;
        }
        let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("Waiting for {} to be ready.", all.join(", "));
        self.logs
            .plugin(plugin.name().as_str(), Level::Info, message);
        // What an earlier core has left running is as it is.
        if running.is_empty() {
            plugin.enter(self, State::Starting, None);
        }
    }

    /// Waits until the plugins that a prepared one is to start after are ready. Blocks; nobody may hold the plugin meanwhile.
    pub(super) fn wait_for_turn(
        &self,
        plugin: &Plugin,
        prepared: Result<Prepared, StepError>,
    ) -> Result<Prepared, StepError> {
        let prepared = prepared?;
        plugin.has_order(&prepared.manifest);
        if let Some(step) = self.misplaced(plugin) {
            return Err(step.of(plugin.name()));
        }
        let mut has_told = false;
        let outcome = loop {
            let names = {
                let mut phase = lock(&self.phase);
                loop {
                    if *phase != Phase::Open {
                        break Err(Some(Step::Closing));
                    }
                    match self.verdict(&prepared.manifest.after) {
                        Verdict::Go => break Err(None),
                        Verdict::Never(step) => break Err(Some(step)),
                        Verdict::Wait(names) if !has_told => {
                            plugin.waits_for(names.clone());
                            break Ok(names);
                        }
                        Verdict::Wait(names) => {
                            plugin.waits_for(names);
                            let woken = self.changed.wait(phase);
                            phase = woken.unwrap_or_else(PoisonError::into_inner);
                        }
                    }
                }
            };
            match names {
                Ok(names) => {
                    has_told = true;
                    self.tell_waiting(plugin, &names);
                }
                Err(outcome) => break outcome,
            }
        };
        plugin.waits_for(Vec::new());
        match outcome {
            None => Ok(prepared),
            Some(step) => Err(step.of(plugin.name())),
        }
    }
}

/// The plugins of a start, in the order of the list.
pub(super) struct Line<'a> {
    board: &'a Board,
    places: Vec<Place>,
}

struct Place {
    plugin: Arc<Plugin>,
    waiting: Waiting,
}

enum Waiting {
    /// It is being prepared.
    Preparation,
    /// For its turn; `told` once it is known that it waits for others.
    Turn { prepared: Box<Prepared>, told: bool },
    /// It runs already, as an earlier core has left it.
    GoesOn,
    /// It is known why it cannot start.
    Failure(StepError),
    /// It has had its turn.
    Over,
}

/// What is next.
pub(super) enum Next {
    /// This plugin has its turn, or has failed; with nothing prepared it goes on as it is.
    Turn(Arc<Plugin>, Box<Option<Result<Prepared, StepError>>>),
    /// This one begins to wait for others.
    Waits(Arc<Plugin>, Vec<PluginName>),
    /// Nothing, until something changes.
    Nothing,
    /// All have had their turn.
    Over,
}

impl<'a> Line<'a> {
    pub(super) fn new(board: &'a Board, plugins: Vec<Arc<Plugin>>) -> Self {
        let place = |plugin| Place {
            plugin,
            waiting: Waiting::Preparation,
        };
        Self {
            board,
            places: plugins.into_iter().map(place).collect(),
        }
    }

    /// Finds what is next, without waiting for anything.
    pub(super) fn next(&mut self, inner: &Inner) -> Next {
        self.arrive(inner);
        let mut is_over = true;
        for place in &mut self.places {
            match &mut place.waiting {
                Waiting::Over => continue,
                // Those behind it keep their place in the list.
                Waiting::Preparation => return Next::Nothing,
                Waiting::Failure(_) | Waiting::GoesOn => {}
                Waiting::Turn { prepared, told } => match inner.verdict(&prepared.manifest.after) {
                    Verdict::Go => {}
                    Verdict::Never(step) => {
                        place.waiting = Waiting::Failure(step.of(place.plugin.name()));
                    }
                    Verdict::Wait(names) => {
                        is_over = false;
                        place.plugin.waits_for(names.clone());
                        if !std::mem::replace(told, true) {
                            return Next::Waits(Arc::clone(&place.plugin), names);
                        }
                        continue;
                    }
                },
            }
            place.plugin.waits_for(Vec::new());
            let outcome = match std::mem::replace(&mut place.waiting, Waiting::Over) {
                Waiting::Turn { prepared, .. } => Some(Ok(*prepared)),
                Waiting::Failure(error) => Some(Err(error)),
                Waiting::GoesOn => None,
                Waiting::Preparation | Waiting::Over => continue,
            };
            return Next::Turn(Arc::clone(&place.plugin), Box::new(outcome));
        }
        if is_over { Next::Over } else { Next::Nothing }
    }

    /// Takes in whom has been prepared meanwhile, and looks whether they and those before can have their places.
    fn arrive(&mut self, inner: &Inner) {
        let mut has_news = false;
        for (number, place) in self.places.iter_mut().enumerate() {
            if !matches!(place.waiting, Waiting::Preparation) {
                continue;
            }
            place.waiting = match self.board.take(number) {
                None => continue,
                Some(None) => Waiting::GoesOn,
                Some(Some(Err(error))) => Waiting::Failure(error),
                Some(Some(Ok(prepared))) => {
                    has_news |= !prepared.manifest.after.is_empty();
                    place.plugin.has_order(&prepared.manifest);
                    let (prepared, told) = (Box::new(prepared), false);
                    Waiting::Turn { prepared, told }
                }
            };
        }
        for place in self.places.iter_mut().filter(|_| has_news) {
            if matches!(place.waiting, Waiting::Turn { .. })
                && let Some(step) = inner.misplaced(&place.plugin)
            {
                place.waiting = Waiting::Failure(step.of(place.plugin.name()));
            }
        }
    }
}

/// Starts plugins as they come to their turn, until all have had it or the host closes. Blocks.
pub(super) fn start_in_order(inner: &Arc<Inner>) {
    let mut line = Line::new(&inner.board, inner.plugins());
    loop {
        let next = {
            let mut phase = lock(&inner.phase);
            loop {
                if *phase != Phase::Open {
                    return;
                }
                match line.next(inner) {
                    Next::Nothing => {
                        let woken = inner.changed.wait(phase);
                        phase = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                    next => break next,
                }
            }
        };
        match next {
            Next::Over => {
                inner.gate.open();
                return inner.booted();
            }
            Next::Nothing => {}
            Next::Waits(plugin, names) => inner.tell_waiting(&plugin, &names),
            Next::Turn(plugin, prepared) => {
                // Core plugins come first, and what an earlier core has left may call them.
                if plugin.entry.kind != PluginKind::Core {
                    inner.gate.open();
                }
                let goes_on = prepared.is_none();
                // A failure is in the logs and the status; the next plugin has its turn.
                if inner.take_turn(&plugin, *prepared).is_ok() && !goes_on {
                    let message = format!("loaded {} plugin {}", plugin.entry.kind, plugin.name());
                    inner.logs.core(Level::Info, message);
                }
            }
        }
    }
}

/// Divides plugins into those that are stopped together: first those that nobody else waits for, each part in the reverse
/// order of the list.
pub(super) fn waves(plugins: &[Arc<Plugin>]) -> Vec<Vec<Arc<Plugin>>> {
    let all: Vec<_> = plugins
        .iter()
        .map(|plugin| (plugin.name().clone(), plugin.after()))
        .collect();
    let waves = waves_of(&all).into_iter();
    waves
        .map(|wave| {
            wave.into_iter()
                .map(|at| Arc::clone(&plugins[at]))
                .collect()
        })
        .collect()
}

fn waves_of(plugins: &[(PluginName, Vec<PluginName>)]) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..plugins.len()).rev().collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let is_waited_for = |at: &usize| {
            let name = &plugins[*at].0;
            left.iter()
                .any(|other| other != at && plugins[*other].1.contains(name))
        };
        let (later, mut now): (Vec<usize>, Vec<usize>) =
            left.iter().partition(|at| is_waited_for(at));
        if now.is_empty() {
            // They wait for one another, so none of them was started by its `AFTER`.
            now = later.clone();
            left.clear();
        } else {
            left = later;
        }
        waves.push(now);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(all: &[(&str, &[&str])]) -> Vec<Vec<usize>> {
        let name = |name: &str| name.parse::<PluginName>().expect("is a name");
        let all: Vec<_> = all
            .iter()
            .map(|(plugin, after)| (name(plugin), after.iter().map(|one| name(one)).collect()))
            .collect();
        waves_of(&all)
    }

    #[test]
    fn whom_nobody_waits_for_is_stopped_first() {
        let all: &[(&str, &[&str])] = &[
            ("db", &[]),
            ("alone", &[]),
            ("web", &["db", "cache"]),
            ("cache", &["db"]),
        ];
        assert_eq!(waves(all), [vec![2, 1], vec![3], vec![0]]);
    }

    #[test]
    fn all_are_stopped_whatever_their_order_says() {
        let all: &[(&str, &[&str])] = &[
            ("a", &["b"]),
            ("b", &["a"]),
            ("c", &["a", "nobody"]),
            ("d", &["d"]),
        ];
        assert_eq!(waves(all), [vec![3, 2], vec![1, 0]]);
        assert!(waves(&[]).is_empty());
    }
}
