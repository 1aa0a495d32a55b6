//! Which versions of plugins serve portable skills, for the processes that have their code.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use aigis_plugin_api::portable::{CELLS, Page};
use aigis_plugin_api::session::frame;

use super::library::Library;
use super::swap::Incoming;
use super::{Inner, lock};
use crate::config::PluginName;
use crate::loader::guard::Switch;
use crate::loader::{Code, Serving};
use crate::logging::Level;

/// The page, once a plugin has something for it.
#[derive(Default)]
pub(super) struct Portables(Mutex<State>);

#[derive(Default)]
struct State {
    page: Option<Page>,
    /// Whose the cells are; a plugin keeps its own for good.
    cells: HashMap<String, usize>,
}

impl State {
    /// Returns the page and a plugin's cell on it.
    fn place(&mut self, plugin: &str) -> Result<(&Page, usize), String> {
        let page = match self.page.take() {
            Some(page) => page,
            None => Page::new().map_err(|error| format!("there is no page for it: {error}"))?,
        };
        let page = self.page.insert(page);
        let next = self.cells.len();
        let cell = match self.cells.get(plugin) {
            Some(cell) => *cell,
            None if next >= CELLS => return Err(format!("{CELLS} plugins have some already")),
            None => {
                self.cells.insert(plugin.to_owned(), next);
                next
            }
        };
        Ok((page, cell))
    }
}

impl Portables {
    /// Says that nothing of a plugin serves: from now on no call goes into code that was brought
    /// somewhere.
    fn retract(&self, plugin: &PluginName) {
        let state = lock(&self.0);
        if let (Some(page), Some(cell)) = (&state.page, state.cells.get(plugin.as_str())) {
            page.set(*cell, 0);
        }
    }

    /// Says that this version serves.
    fn publish(&self, code: &Code) -> Result<(), String> {
        let mut state = lock(&self.0);
        let (page, cell) = state.place(&code.library.plugin)?;
        page.set(cell, code.ticket);
        Ok(())
    }

    /// Says where the code of what serves is, if it may be brought to callers.
    pub(super) fn code_of(&self, serving: &Serving) -> Option<frame::Portable> {
        let (code, index) = serving.code()?;
        let cell = *lock(&self.0).cells.get(&code.library.plugin)?;
        Some(frame::Portable {
            library: code.library.name.clone(),
            index,
            cell: u32::try_from(cell).ok()?,
            ticket: code.ticket,
        })
    }

    /// Returns the page, to be sent.
    pub(super) fn page(&self) -> Option<OwnedFd> {
        let state = lock(&self.0);
        state.page.as_ref()?.memory().try_clone_to_owned().ok()
    }
}

impl Inner {
    /// Commits a switch, also for the processes that have the code of what is switched. Between the two
    /// versions their calls go through their sessions: so none of them meets the old version once
    /// another has met the new one.
    pub(super) fn commit(&self, switch: Switch<'_>, set: &[Incoming<'_>]) {
        for one in set {
            self.portables.retract(one.plugin.name());
        }
        switch.commit();
        for one in set {
            let code = one.next.as_ref().and_then(Library::code);
            if let Some(Err(reason)) = code.map(|code| self.portables.publish(code)) {
                let message = format!(
                    "its portable skills are called in the core, as all others are: {reason}"
                );
                let name = one.plugin.name().as_str();
                self.logs.plugin(name, Level::Warn, message);
            }
        }
    }

    /// Commits the switch that takes a plugin's library away.
    pub(super) fn commit_end(&self, switch: Switch<'_>, plugin: &PluginName) {
        self.portables.retract(plugin);
        switch.commit();
    }

    /// Returns a library that serves, to be sent.
    pub(super) fn library_of(&self, name: &str) -> Option<(frame::Library, OwnedFd)> {
        let plugins = self.plugins();
        plugins.iter().find_map(|plugin| {
            let serving = plugin.serving()?;
            let code = serving.code().filter(|code| code.library.name == name)?;
            Some((
                code.library.clone(),
                code.memory().try_clone_to_owned().ok()?,
            ))
        })
    }
}
