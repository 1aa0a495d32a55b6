//! Plugins that change places: some go, and others take over their names in the same instant.

use std::sync::Arc;

use super::super::operations::refuse_on_its_way;
use super::super::plugin::{Candidate, Plugin};
use super::super::step::Step;
use super::super::swap::Incoming;
use super::super::{HostError, Inner, State};
use super::coming::{Coming, bring_back, is_unused, why_failed};
use crate::logging::Level;

/// Switches everything that some plugins offer to others, which have been loaded, in one instant, and puts
/// these in their place. What fails leaves, or brings back, the old ones.
pub(super) fn exchange(
    inner: &Arc<Inner>,
    olds: &[Arc<Plugin>],
    mut news: Vec<Coming>,
    force: bool,
) -> Result<(), HostError> {
    let exchanged = try_exchange(inner, olds, &mut news, force);
    for new in &mut news {
        match (&exchanged, new.before.take()) {
            (Ok(()), Some(before)) => before.let_go(),
            (_, before) => {
                new.before = before;
                new.put_back(inner);
            }
        }
    }
    let Err(Failed { error, gone }) = exchanged else {
        return Ok(());
    };
    for Gone { plugin, ran, state } in gone {
        let mut running = plugin.lock_running();
        inner.list(&plugin);
        match ran {
            true => bring_back(inner, &plugin, &mut running),
            false => plugin.enter(inner, state, None),
        }
    }
    Err(error)
}

struct Failed {
    error: HostError,
    /// The old ones that had gone by then.
    gone: Vec<Gone>,
}

struct Gone {
    plugin: Arc<Plugin>,
    /// Whether anything of it ran.
    ran: bool,
    state: State,
}

fn try_exchange(
    inner: &Arc<Inner>,
    olds: &[Arc<Plugin>],
    news: &mut [Coming],
    force: bool,
) -> Result<(), Failed> {
    let early = |error| Failed {
        error,
        gone: Vec::new(),
    };
    let plugins: Vec<Arc<Plugin>> = news.iter().map(|new| Arc::clone(&new.plugin)).collect();
    let mut candidates: Vec<Candidate> = news
        .iter_mut()
        .filter_map(|new| new.candidate.take())
        .collect();
    let mut leaving: Vec<_> = olds.iter().map(|old| old.lock_running()).collect();
    let refused = olds.iter().zip(&leaving).try_for_each(|(old, leaving)| {
        inner.refuse_gone(old)?;
        refuse_on_its_way(old, leaving)
    });
    if let Err(error) = refused {
        candidates.iter_mut().for_each(is_unused);
        return Err(early(error));
    }
    let before = olds.iter().zip(&leaving).map(|(old, leaving)| Gone {
        plugin: Arc::clone(old),
        ran: !leaving.is_empty(),
        state: old.state(),
    });
    let gone: Vec<Gone> = before.collect();
    let mut coming: Vec<_> = plugins.iter().map(|new| new.lock_running()).collect();
    let going = olds
        .iter()
        .zip(&mut leaving)
        .map(|(plugin, running)| Incoming {
            plugin,
            running,
            next: None,
            number: 0,
        });
    let next = plugins.iter().zip(&mut coming).zip(&mut candidates);
    let next = next.map(|((plugin, running), candidate)| Incoming {
        plugin,
        running,
        next: candidate.library.take(),
        number: candidate.number,
    });
    let mut set: Vec<Incoming<'_>> = going.chain(next).collect();
    inner
        .swap(&mut set, force)
        .map_err(|error| early(HostError::Step(error)))?;
    drop(set);
    inner.list_exchanged(olds, &plugins);
    for (old, leaving) in olds.iter().zip(&mut leaving) {
        leaving.stop_processes(inner);
        inner.withdraw_offering(old);
        let name = old.name().as_str();
        inner
            .logs
            .plugin(name, Level::Shutdown, "Plugin shut down.");
        old.enter(inner, State::Stopped, None);
    }
    drop(leaving);
    let mut error = None;
    for ((plugin, running), candidate) in plugins.iter().zip(&mut coming).zip(candidates) {
        let settled = match inner.is_closing() {
            true => Err(Step::Closing.of(plugin.name())),
            false => inner.settle(plugin, running, candidate),
        };
        if let Err(step) = settled {
            inner.report_failure(plugin, &step);
            error.get_or_insert(HostError::Step(step));
        }
    }
    drop(coming);
    if error.is_none() {
        for plugin in &plugins {
            inner.wait_until_settled(plugin);
            if plugin.state().is_failure() {
                let message = format!("{}: {}", plugin.name(), why_failed(plugin));
                error.get_or_insert(HostError::NotUp(message));
            }
        }
    }
    let Some(error) = error else {
        return Ok(());
    };
    for plugin in &plugins {
        let mut running = plugin.lock_running();
        inner.take_away(plugin, &mut running);
    }
    Err(Failed { error, gone })
}
