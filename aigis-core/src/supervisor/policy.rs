//! When a plugin that has ended is launched again.

use std::time::Duration;

use super::Exit;

/// What to do about a plugin that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Launch it again.
    Restart {
        /// How long to wait first.
        after: Duration,
        /// How many more restarts are left after this one.
        left: u32,
    },
    /// Leave it: it has done its work.
    Finished,
    /// Leave it: it failed and is not to be restarted.
    Failed,
    /// Leave it: it failed and every restart is used up.
    CrashLoop,
}

/// Counts the restarts of one plugin and spaces them out.
///
/// Only a failure counts: a code other than 0, a signal, a lost shim. The n-th restart in
/// a row waits `backoff`·2ⁿ⁻¹, at most `cap`, varied by `jitter` so that plugins that fell
/// together do not rise together. A run of at least `healthy` gives everything back.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// How many restarts there are; 0 means that a failure is final.
    pub restarts: u32,
    /// How long to wait before the first restart.
    pub backoff: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How far a wait may be from its middle, as a part of it (0.2 = 20 % either way).
    pub jitter: f64,
    /// How long a run must have been to count as healthy.
    pub healthy: Duration,
    used: u32,
    random: u64,
}

impl RestartPolicy {
    /// Creates the policy of `RESTART = restarts`; `seed` is what the jitter is drawn from.
    pub fn new(restarts: u32, seed: u64) -> RestartPolicy {
        RestartPolicy {
            restarts,
            backoff: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            jitter: 0.2,
            healthy: Duration::from_secs(60),
            used: 0,
            random: seed,
        }
    }

    /// Returns how many restarts are left.
    pub fn left(&self) -> u32 {
        self.restarts.saturating_sub(self.used)
    }

    /// Gives every restart back, as a reload does.
    pub fn refill(&mut self) {
        self.used = 0;
    }

    /// Decides what follows the end of a run that took `ran_for`.
    ///
    /// Not to be asked about a run that was stopped on purpose.
    pub fn on_exit(&mut self, exit: &Exit, ran_for: Duration) -> Decision {
        if exit.is_success() {
            return Decision::Finished;
        }
        self.on_failure(ran_for)
    }

    /// Decides what follows a run that took `ran_for` and should not have ended.
    pub fn on_failure(&mut self, ran_for: Duration) -> Decision {
        if self.restarts == 0 {
            return Decision::Failed;
        }
        if ran_for >= self.healthy {
            self.refill();
        }
        if self.left() == 0 {
            return Decision::CrashLoop;
        }
        let after = self.wait();
        self.used += 1;
        Decision::Restart {
            after,
            left: self.left(),
        }
    }

    fn wait(&mut self) -> Duration {
        let doubled = 2_u32
            .checked_pow(self.used)
            .and_then(|factor| self.backoff.checked_mul(factor))
            .map_or(self.cap, |wait| wait.min(self.cap));
        // From -1 to 1.
        let draw = (self.next_random() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let factor = 1.0 + draw * self.jitter.clamp(0.0, 1.0);
        doubled.mul_f64(factor).min(self.cap)
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
