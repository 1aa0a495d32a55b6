//! When a plugin that has ended is launched again.

use std::time::Duration;

use super::Exit;
use crate::config::{RestartOptions, RestartWhen};

/// What to do about a plugin that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Launch it again.
    Restart {
        /// How long to wait first.
        after: Duration,
        /// How many more restarts are left after this one; `None` for as many as it takes.
        left: Option<u32>,
    },
    /// Leave it: it has done its work.
    Finished,
    /// Leave it: it failed and is not to be restarted.
    Failed,
    /// Leave it: every restart is used up.
    CrashLoop,
}

/// Counts the restarts of one plugin and spaces them out, as its [`RestartOptions`] say.
///
/// The n-th restart in a row waits `backoff`·2ⁿ⁻¹, at most `cap`, varied by `jitter` so that plugins that fell together do
/// not rise together. A run of at least `healthy` gives everything back.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// What it was asked for.
    pub options: RestartOptions,
    used: u32,
    random: u64,
}

impl RestartPolicy {
    /// Creates the policy of `options`; `seed` is what the jitter is drawn from.
    pub fn new(options: &RestartOptions, seed: u64) -> RestartPolicy {
        RestartPolicy {
            options: options.clone(),
            used: 0,
            random: seed,
        }
    }

    /// Returns how many restarts in a row there have been.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Goes on where another policy of the same plugin was, which had used up this many restarts.
    pub fn set_used(&mut self, used: u32) {
        self.used = used;
    }

    /// Returns how many restarts are left; `None` for as many as it takes.
    pub fn left(&self) -> Option<u32> {
        let count = self.options.count?;
        Some(count.saturating_sub(self.used))
    }

    /// Gives every restart back, as a reload does.
    pub fn refill(&mut self) {
        self.used = 0;
    }

    /// Says whether a plugin that ends like this has done its work.
    pub fn is_success(&self, exit: &Exit) -> bool {
        match *exit {
            Exit::Code(code) => self.options.success.contains(&code),
            Exit::Signal(signal) => self.options.success.contains(&-signal),
            Exit::ShimLost => false,
        }
    }

    /// Decides what follows the end of a run that took `ran_for`.
    ///
    /// Not to be asked about a run that was stopped on purpose.
    pub fn on_exit(&mut self, exit: &Exit, ran_for: Duration) -> Decision {
        let restarts_after_success =
            self.options.when == RestartWhen::Always && self.options.count != Some(0);
        if self.is_success(exit) && !restarts_after_success {
            return Decision::Finished;
        }
        self.on_failure(ran_for)
    }

    /// Decides what follows a run that took `ran_for` and should not have ended.
    pub fn on_failure(&mut self, ran_for: Duration) -> Decision {
        if self.options.when == RestartWhen::Never || self.options.count == Some(0) {
            return Decision::Failed;
        }
        if ran_for >= self.options.healthy {
            self.refill();
        }
        if self.left() == Some(0) {
            return Decision::CrashLoop;
        }
        let after = self.wait();
        self.used = self.used.saturating_add(1);
        Decision::Restart {
            after,
            left: self.left(),
        }
    }

    fn wait(&mut self) -> Duration {
        let RestartOptions {
            backoff,
            cap,
            jitter,
            ..
        } = self.options;
        let doubled = 2_u32
            .checked_pow(self.used)
            .and_then(|factor| backoff.checked_mul(factor))
            .map_or(cap, |wait| wait.min(cap));
        // From -1 to 1.
        let draw = (self.next_random() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let factor = 1.0 + draw * jitter.clamp(0.0, 1.0);
        doubled.mul_f64(factor).min(cap)
    }

    /// SplitMix64: small, and good enough to spread waits.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
