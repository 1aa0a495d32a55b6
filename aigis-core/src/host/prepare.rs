//! What is done before a plugin is loaded or launched: fetch, manifest, requirements, build.

use std::sync::atomic::AtomicBool;

use super::plugin::Plugin;
use super::step::{Step, StepError};
use super::{Event, Inner, State, requirements, secrets};
use crate::build::{Artifacts, BuildEvent, BuildRequest, Wants};
use crate::config::{Launch, Manifest, PluginKind, PluginName};
use crate::logging::Level;
use crate::source::{self, Action, Before, FetchProgress, Fetched, Progress};

/// A plugin that can be loaded or launched.
pub(crate) struct Prepared {
    pub(crate) manifest: Manifest,
    pub(crate) artifacts: Option<Artifacts>,
}

/// Tells the host how a fetch goes on.
struct Reporter<'a> {
    inner: &'a Inner,
    plugin: &'a str,
}

impl FetchProgress for Reporter<'_> {
    fn progress(&self, progress: Progress) {
        let plugin = self.plugin;
        self.inner.logs.notify(&Event::Fetch { plugin, progress });
    }
}

impl Inner {
    /// Does everything that can be done before a plugin is loaded or launched, from its source to
    /// its build.
    pub(crate) fn prepare(&self, plugin: &Plugin, fresh: bool) -> Result<Prepared, StepError> {
        let name = plugin.name();
        let reporter = Reporter {
            inner: self,
            plugin: name.as_str(),
        };
        let fetch = if fresh {
            source::fetch_fresh
        } else {
            source::fetch
        };
        let root = self.home.plugin(name);
        let fetched = fetch(&plugin.entry.source, &root, &reporter, &self.cancel)
            .map_err(|error| Step::Fetch(error).of(name))?;
        self.tell_fetched(name, &fetched);
        self.prepare_fetched(plugin)
    }

    /// Fetches a plugin's source in the place of whatever was there, which can be put back.
    pub(super) fn fetch_anew(&self, plugin: &Plugin) -> Result<Before, StepError> {
        let name = plugin.name();
        let reporter = Reporter {
            inner: self,
            plugin: name.as_str(),
        };
        let root = self.home.plugin(name);
        let (fetched, before) =
            source::fetch_anew(&plugin.entry.source, &root, &reporter, &self.cancel)
                .map_err(|error| Step::Fetch(error).of(name))?;
        self.tell_fetched(name, &fetched);
        Ok(before)
    }

    fn tell_fetched(&self, name: &PluginName, fetched: &Fetched) {
        for note in &fetched.notes {
            self.logs.plugin(name.as_str(), Level::Info, note);
        }
        for warning in &fetched.warnings {
            self.logs.plugin(name.as_str(), Level::Warn, warning);
        }
        if !matches!(fetched.action, Action::Kept | Action::Unchanged) {
            let message = format!("source: {:?}", fetched.action);
            self.logs.plugin(name.as_str(), Level::Info, message);
        }
    }

    /// Does what comes after the fetch, from the manifest to the build.
    pub(super) fn prepare_fetched(&self, plugin: &Plugin) -> Result<Prepared, StepError> {
        let name = plugin.name();
        let failed = |step: Step| step.of(name);
        let root = self.home.plugin(name);
        let manifest = Manifest::load(&root, &plugin.entry)
            .map_err(|diagnostics| failed(Step::Manifest(diagnostics)))?;
        for warning in &manifest.warnings {
            self.logs
                .plugin(name.as_str(), Level::Warn, warning.to_string());
        }
        self.meet_requirements(name, &manifest, &self.cancel)
            .map_err(failed)?;
        let artifacts = self.build(plugin, &manifest).map_err(failed)?;
        Ok(Prepared {
            manifest,
            artifacts,
        })
    }

    /// Checks the system requirements and runs the requirements command.
    pub(crate) fn meet_requirements(
        &self,
        name: &PluginName,
        manifest: &Manifest,
        cancel: &AtomicBool,
    ) -> Result<(), Step> {
        requirements::check_system(manifest).map_err(Step::Requirements)?;
        let Some(wanted) = &manifest.requirements else {
            // Cargo sees to the requirements of what it builds.
            if manifest.kind == PluginKind::External {
                self.logs.plugin(
                    name.as_str(),
                    Level::Warn,
                    "No requirements provided, attempting to start plugin regardless.",
                );
            }
            return Ok(());
        };
        let command = wanted.shell_command();
        let _counted = self.preparations.begin()?;
        self.logs.plugin(
            name.as_str(),
            Level::Info,
            format!("requirements: {command}"),
        );
        requirements::run(&command, &manifest.entrypoint, cancel, &mut |line| {
            self.logs.output(name.as_str(), line);
        })
        .map_err(Step::Requirements)
    }

    fn build(&self, plugin: &Plugin, manifest: &Manifest) -> Result<Option<Artifacts>, Step> {
        let name = plugin.name();
        let wants = match (&manifest.launch, manifest.kind) {
            (_, PluginKind::External) => return Ok(None),
            (_, PluginKind::Core) => Wants::Library,
            (Launch::Binary(binary), _) => Wants::Binary {
                name: binary.as_deref(),
                library: true,
            },
            (_, PluginKind::Internal) => Wants::Binary {
                name: None,
                library: true,
            },
        };
        let root = self.home.plugin(name);
        let secrets = secrets::destinations(&manifest.secrets);
        let request = BuildRequest {
            plugin: name,
            root: &root,
            entrypoint: &manifest.entrypoint,
            wants,
            package: manifest.package.as_deref(),
            features: &manifest.features,
            excluded: &secrets,
            cancel: &self.cancel,
        };
        // Also to see what is fresh, the compiler is asked.
        let _counted = self.preparations.begin()?;
        if let Some(artifacts) = self.builder.fresh(&request) {
            return Ok(Some(artifacts));
        }
        // A plugin that serves while its next version is built stays what it is.
        if !plugin.state().is_settled() {
            plugin.enter(self, State::Building, None);
        }
        let built = self.builder.build(&request, &mut |event| match event {
            BuildEvent::Line(line) => self.logs.output(name.as_str(), &line),
            BuildEvent::Progress { done, total } => self.logs.notify(&Event::Build {
                plugin: name.as_str(),
                done,
                total: Some(total),
            }),
        });
        built.map(Some).map_err(Step::Build)
    }
}
