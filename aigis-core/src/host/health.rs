//! Whether a process that is ready is still well.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep;

use super::Inner;
use super::probe::Prober;
use crate::config::Health;

/// What a process has failed in.
#[derive(Debug)]
pub(super) struct Unhealthy {
    /// What was wrong the last time.
    pub(super) why: String,
    /// When the first of the tries began that have all failed.
    pub(super) since: Instant,
}

/// Tries again and again, and returns when so many tries in a row have failed; `wrong` hears of each.
///
/// The pause begins when a try is over, so however long tries take there is one at a time. Never returns where nothing is
/// to be tried; may be dropped at any point, and with it the try.
pub(super) async fn fails(
    inner: &Arc<Inner>,
    health: Option<&Health>,
    mut wrong: impl FnMut(&str),
) -> Unhealthy {
    let Some(health) = health else {
        return std::future::pending().await;
    };
    let mut prober = Prober::new(inner, &health.probe);
    let mut failures = 0;
    let mut since = Instant::now();
    loop {
        sleep(health.interval).await;
        let begun = Instant::now();
        let why = match prober.attempt(health.timeout).await {
            Ok(()) => {
                failures = 0;
                continue;
            }
            Err(why) => why,
        };
        if failures == 0 {
            since = begun;
        }
        failures += 1;
        wrong(&format!(
            "Probe {failures} of {} failed: {why}",
            health.failures
        ));
        if failures >= health.failures {
            return Unhealthy { why, since };
        }
    }
}
