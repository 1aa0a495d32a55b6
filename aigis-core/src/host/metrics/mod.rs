//! What a core tells Prometheus, if it is asked to: how plugins are, and how calls from sessions go.

mod address;
mod counters;
mod endpoint;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

pub use address::{MetricsAddress, MetricsAddressError};
pub(super) use counters::{Calls, SkillCalls};
pub(super) use endpoint::Endpoint;

use super::{Inner, PluginStatus, State};
use counters::{BOUNDS, Counted};
use text::{Kind, Page};

/// Every state, for a plugin that is in one of them.
const STATES: [State; 10] = [
    State::Fetching,
    State::Building,
    State::Starting,
    State::Ready,
    State::Backoff,
    State::Stopping,
    State::Stopped,
    State::Finished,
    State::Failed,
    State::CrashLoop,
];

/// The metrics of a host that was asked for them.
pub(crate) struct Metrics {
    pub(super) calls: Calls,
    /// In seconds since 1970.
    started: f64,
}

/// The metrics of a host; unset, nothing is counted.
pub(super) type Asked = OnceLock<Metrics>;

impl Metrics {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            calls: Calls::default(),
            started: now.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Inner {
    /// Returns where calls of a skill are counted; none if nobody has asked for that.
    pub(super) fn calls_of(&self, name: &str) -> Option<Arc<SkillCalls>> {
        let metrics = self.metrics.get()?;
        metrics.calls.of(name, || self.visit(name).is_some())
    }

    /// Writes everything down.
    pub(super) fn metrics_page(&self) -> Option<String> {
        let metrics = self.metrics.get()?;
        Some(page(
            &self.status(),
            self.open_sessions(),
            &metrics.calls.counted(),
            metrics.calls.unknown(),
            metrics.started,
        ))
    }
}

fn page(
    plugins: &[PluginStatus],
    sessions: usize,
    calls: &[(String, Counted)],
    unknown: u64,
    started: f64,
) -> String {
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.metric("aigis_build_info", Kind::Gauge, "The version of the core.")
        .sample(&[("version", version)], 1);
    page.metric(
        "aigis_start_time_seconds",
        Kind::Gauge,
        "When the core was started, in seconds since 1970.",
    )
    .sample(&[], started);
    page.metric("aigis_pid", Kind::Gauge, "The process of the core.")
        .sample(&[], std::process::id());
    page.metric("aigis_sessions", Kind::Gauge, "The sessions that are open.")
        .sample(&[], sessions);
    of_plugins(&mut page, plugins);
    of_calls(&mut page, calls);
    page.metric(
        "aigis_unknown_skill_calls_total",
        Kind::Counter,
        "Calls from sessions of names that no plugin has offered.",
    )
    .sample(&[], unknown);
    page.finish()
}

fn of_plugins(page: &mut Page, plugins: &[PluginStatus]) {
    page.metric(
        "aigis_plugin_info",
        Kind::Gauge,
        "A plugin, and where it comes from.",
    );
    for plugin in plugins {
        let (kind, source) = (plugin.kind.to_string(), plugin.source.as_str());
        page.sample(
            &[
                ("plugin", &plugin.name),
                ("kind", &kind),
                ("source", source),
            ],
            1,
        );
    }
    page.metric(
        "aigis_plugin_state",
        Kind::Gauge,
        "1 for the state that the plugin is in, 0 for the others.",
    );
    for plugin in plugins {
        for state in STATES {
            let labels = [("plugin", &*plugin.name), ("state", state.as_str())];
            page.sample(&labels, u8::from(plugin.state == state));
        }
    }
    page.metric(
        "aigis_plugin_up",
        Kind::Gauge,
        "1 if the plugin is ready, else 0.",
    );
    for plugin in plugins {
        let up = u8::from(plugin.state == State::Ready);
        page.sample(&[("plugin", &plugin.name)], up);
    }
    page.metric(
        "aigis_plugin_restarts",
        Kind::Gauge,
        "How often processes of the plugin were launched again after a failure, since it was started or reloaded.",
    );
    for plugin in plugins {
        page.sample(&[("plugin", &plugin.name)], plugin.restarts);
    }
    page.metric(
        "aigis_plugin_generation",
        Kind::Gauge,
        "The number of the load or launch that runs, or ran last.",
    );
    for plugin in plugins {
        page.sample(&[("plugin", &plugin.name)], plugin.generation);
    }
    page.metric(
        "aigis_plugin_process_pid",
        Kind::Gauge,
        "A process of the plugin, while it runs; for a library in the core it is the core's.",
    );
    for plugin in plugins {
        if plugin.processes.is_empty()
            && let Some(pid) = plugin.pid
        {
            page.sample(&[("plugin", &plugin.name), ("process", "core")], pid);
        }
        for process in &plugin.processes {
            let Some(pid) = process.pid else { continue };
            let name = match process.instance {
                Some(instance) => instance.to_string(),
                None => "library".to_owned(),
            };
            page.sample(&[("plugin", &plugin.name), ("process", &name)], pid);
        }
    }
    page.metric(
        "aigis_plugin_overdue_calls",
        Kind::Gauge,
        "Calls from sessions that run on although nobody waits for them any more.",
    );
    for plugin in plugins {
        page.sample(&[("plugin", &plugin.name)], plugin.overdue_calls.len());
    }
}

fn of_calls(page: &mut Page, calls: &[(String, Counted)]) {
    page.metric(
        "aigis_skill_call_duration_seconds",
        Kind::Histogram,
        "How long calls from sessions took in the core and beyond. Direct calls between plugins in the core, calls of \
         portable skills and calls with streams are not among them.",
    );
    for (name, counted) in calls {
        let skill = ("skill", name.as_str());
        let mut below = 0;
        for (bucket, (_, bound)) in counted.buckets.iter().zip(BOUNDS) {
            below += bucket;
            page.part("_bucket", &[skill, ("le", bound)], below);
        }
        page.part("_bucket", &[skill, ("le", "+Inf")], counted.calls());
        page.part("_sum", &[skill], counted.nanoseconds as f64 / 1e9);
        page.part("_count", &[skill], counted.calls());
    }
    page.metric(
        "aigis_skill_calls_failed_total",
        Kind::Counter,
        "Calls from sessions that are among those of the histogram and ended with an error, the skill's own or another.",
    );
    for (name, counted) in calls {
        page.sample(&[("skill", name)], counted.failed);
    }
    page.metric(
        "aigis_skill_streams_opened_total",
        Kind::Counter,
        "Calls from sessions that have a stream as a parameter or as the result.",
    );
    for (name, counted) in calls {
        page.sample(&[("skill", name)], counted.streams);
    }
}
