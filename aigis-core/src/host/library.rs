//! One loaded version of a plugin's library, wherever it runs: in the core, or isolated.

use std::sync::Arc;
use std::time::Duration;

use aigis_plugin_api::__private::{Description, Grant, Signature};

use super::isolated::{self, Isolated};
use crate::loader::guard::Within;
use crate::loader::{self, Code, Generation, LoadError, Pins, Serving};

/// A version of a library that is loaded somewhere.
#[derive(Clone)]
pub(crate) enum Library {
    /// In the core.
    Loaded(Arc<Generation>),
    /// In a process of its own.
    Isolated(Arc<Isolated>),
}

impl Library {
    pub(super) fn isolated(&self) -> Option<&Arc<Isolated>> {
        match self {
            Self::Loaded(_) => None,
            Self::Isolated(isolated) => Some(isolated),
        }
    }

    /// Tells whether it is this one.
    pub(super) fn is(&self, isolated: &Arc<Isolated>) -> bool {
        let own = self.isolated();
        own.is_some_and(|own| Arc::ptr_eq(own, isolated))
    }

    /// Returns what callers elsewhere may have of it: only what the core itself has loaded.
    pub(super) fn code(&self) -> Option<&Code> {
        match self {
            Self::Loaded(generation) => generation.code(),
            Self::Isolated(_) => None,
        }
    }

    /// Returns what it says about itself.
    pub(super) fn description(&self) -> &Description {
        match self {
            Self::Loaded(generation) => generation.description(),
            Self::Isolated(isolated) => isolated.description(),
        }
    }

    /// Returns what serves each skill, in the order of the description.
    pub(super) fn servings(&self) -> &[Serving] {
        match self {
            Self::Loaded(generation) => generation.servings(),
            Self::Isolated(isolated) => isolated.servings(),
        }
    }

    /// Returns the frames of whoever is inside, or on the way.
    pub(super) fn within(&self) -> Within {
        match self {
            Self::Loaded(generation) => generation.within(),
            Self::Isolated(isolated) => Within::of(isolated.servings()),
        }
    }

    /// Returns the frames of whoever is inside, or on the way, but for its streams.
    pub(super) fn within_calls(&self) -> Within {
        match self {
            Self::Loaded(generation) => generation.within_calls(),
            Self::Isolated(_) => self.within(),
        }
    }

    /// Returns the frames of those whose calls a hand-over does not hold.
    pub(super) fn within_unheld(&self) -> Within {
        match self {
            Self::Loaded(generation) => generation.within_unheld(),
            Self::Isolated(_) => self.within(),
        }
    }

    /// Returns what its imports expect of the skills of others; what an isolated one expects is known
    /// from its session.
    pub(super) fn imports(&self) -> Vec<(String, Signature)> {
        match self {
            Self::Loaded(generation) => generation.imports(),
            Self::Isolated(_) => Vec::new(),
        }
    }

    /// Makes its calls go to the servings of `pins`, whatever the slots say. Those of an isolated one go
    /// to whatever serves.
    pub(super) fn pin(&self, pins: &Arc<Pins>) {
        if let Self::Loaded(generation) = self {
            generation.pin(pins);
        }
    }

    /// Makes its calls go where the slots say.
    pub(super) fn unpin(&self) {
        if let Self::Loaded(generation) = self {
            generation.unpin();
        }
    }

    /// Runs its constructors; returns how many threads they have left running in the core.
    pub(super) fn open(
        &self,
        grant: &Grant,
        saved: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Option<usize>, LoadError> {
        match self {
            Self::Loaded(generation) => generation.open(grant, saved, limit),
            Self::Isolated(isolated) => isolated.open(grant, saved, limit).map(|()| None),
        }
    }

    /// Writes down its state for the next version; see [`Generation::save`].
    pub(super) fn save(&self, limit: Duration) -> Result<Option<Vec<u8>>, LoadError> {
        match self {
            Self::Loaded(generation) => generation.save(limit),
            Self::Isolated(isolated) => isolated.save(limit),
        }
    }
}

/// Retires what was replaced or stopped together: it has been taken out of its slots. Returns at once.
pub(super) fn retire(set: Vec<Library>) {
    let mut loaded = Vec::new();
    for library in set {
        match library {
            Library::Loaded(generation) => loaded.push(generation),
            Library::Isolated(isolated) => isolated::retire(isolated),
        }
    }
    loader::retire(loaded);
}
