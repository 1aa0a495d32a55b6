//! One plugin takes the place of another, under the same names.

use std::sync::Arc;

use super::add::entry_text;
use super::operations::refuse_on_its_way;
use super::plugin::{Plugin, Running};
use super::step::StepError;
use super::swap::Incoming;
use super::{HostError, Inner, PluginStatus, State, full_message};
use crate::config::{NameError, PluginName, Standing};
use crate::logging::Level;

/// What `replace` is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replacement<'a> {
    /// The plugin that goes.
    pub(crate) old: &'a str,
    /// The name of the one that comes.
    pub(crate) new: &'a str,
    /// Where that comes from: a git URL or a folder, or a config entry's table.
    pub(crate) source: &'a str,
    /// What others have been compiled for may go.
    pub(crate) force: bool,
}

impl Inner {
    /// Fetches, builds and loads a plugin, and switches everything that another one offers to it, in
    /// one instant. The old one is then stopped and forgotten; the config file stays as it is.
    pub(crate) fn replace(
        self: &Arc<Self>,
        what: Replacement<'_>,
    ) -> Result<PluginStatus, HostError> {
        let _turn = self.change_of_plugins()?;
        let old = self.find(what.old)?;
        if self.find(what.new).is_ok() {
            let message = format!(
                "there is a plugin `{}` already; give the new one another name",
                what.new
            );
            return Err(HostError::Refused(message));
        }
        let name = what.new.parse().map_err(|error: NameError| {
            HostError::Refused(format!("{error}; {}", PluginName::RULE))
        })?;
        let text = entry_text(what.source, &[])?;
        let entry = self.entry_of(&name, &text, old.entry.kind)?;
        let new = Arc::new(Plugin::new(entry, None));
        // The config goes on to list the old one, which comes back when it is applied.
        new.stands(Standing::Unlisted);
        let (old_name, new_name) = (what.old, what.new);
        let message = format!("replacing {old_name} with {new_name}");
        self.logs.core(Level::Info, message);
        let mut leaving = old.lock_running();
        self.refuse_gone(&old)?;
        refuse_on_its_way(&old, &leaving)?;
        let mut coming = new.lock_running();
        match self.take_over(&old, &mut leaving, &new, &mut coming, what.force) {
            Ok(()) => {}
            Err(error) => {
                self.report_failure(&new, &error);
                return Err(HostError::Step(error));
            }
        }
        drop((leaving, coming));
        let message = format!(
            "replaced {old_name} with {new_name}; the config still lists `{old_name}`, which the \
             next start will load"
        );
        self.logs.core(Level::Info, message);
        self.wait_until_settled(&new);
        Ok(new.status())
    }

    fn take_over(
        self: &Arc<Self>,
        old: &Arc<Plugin>,
        leaving: &mut Running,
        new: &Arc<Plugin>,
        coming: &mut Running,
        force: bool,
    ) -> Result<(), StepError> {
        let prepared = self.prepare(new, false)?;
        let mut candidate = self.load(new, prepared)?;
        let mut set = [
            Incoming {
                plugin: old,
                running: &mut *leaving,
                next: None,
                number: 0,
            },
            Incoming {
                plugin: new,
                running: &mut *coming,
                next: candidate.library.take(),
                number: candidate.number,
            },
        ];
        self.swap(&mut set, force)?;
        self.list_instead(old, new);
        leaving.stop_processes(self);
        self.withdraw_offering(old);
        self.logs
            .plugin(old.name().as_str(), Level::Shutdown, "Plugin shut down.");
        let settled = self.settle(new, coming, candidate);
        if let Err(error) = &settled {
            // The old one is gone: the new one has taken its place, and has failed there.
            new.fail(self, State::Failed, full_message(&error.step));
        }
        settled
    }
}
