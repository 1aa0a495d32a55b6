//! The rules of each manifest option, in a file per subject.

mod calls;
mod field;
mod program;
mod quantity;
mod readiness;
mod resources;
mod restart;
mod secrets;

use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::entry::PluginKind;
use super::manifest::{Host, Launch, Requirements, Secret};
use super::manifest_options::{ManifestOptions, OptionName, Setting};
use super::name::PluginName;
use super::raw::{Raw, RawValue};
use super::readiness::{Health, Readiness};
use super::resources::Resources;
use super::supervision::{LogOptions, OnCoreDeath, RestartOptions, StopOptions};

/// What `{root}` stands for in the options where it means something.
const ROOT: &str = "{root}";

/// The least limit of messages that can be asked for: what is shorter is never looked at.
pub const MIN_MAX_MESSAGE: usize = 64 << 10;

/// The limit of messages where none is asked for, and the greatest.
pub const DEFAULT_MAX_MESSAGE: usize = 1 << 30;

/// The folder of the plugin, as far as it is known.
#[derive(Clone, Copy)]
pub(super) enum Root<'a> {
    /// The plugin is in this absolute folder.
    At(&'a Path),
    /// The plugin has not been fetched: what depends on its place cannot be judged.
    Unknown,
}

/// The values of the options that are right.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) entrypoint: Option<PathBuf>,
    pub(super) system_requirements: Vec<String>,
    pub(super) requirements: Option<Requirements>,
    pub(super) secrets: Vec<Secret>,
    pub(super) restart: Option<RestartOptions>,
    pub(super) ready: Option<Readiness>,
    pub(super) health: Option<Health>,
    pub(super) after: Vec<PluginName>,
    pub(super) stop: StopOptions,
    pub(super) on_core_death: OnCoreDeath,
    pub(super) resources: Resources,
    pub(super) log: LogOptions,
    pub(super) readable_secrets: bool,
    pub(super) instances: Option<u32>,
    pub(super) isolate: bool,
    pub(super) call_timeout: Option<Duration>,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) max_message: Option<usize>,
    pub(super) host: Option<Host>,
    pub(super) launch: Option<Launch>,
    pub(super) package: Option<String>,
    pub(super) features: Vec<String>,
}

/// Checks every option but `PLUGIN_TYPE` of the plugin called `plugin`, and adds what is wrong to `mistakes`.
pub(super) fn check(
    plugin: &str,
    options: &ManifestOptions,
    kind: PluginKind,
    root: Root<'_>,
    mistakes: &mut Diagnostics,
    warnings: &mut Vec<Diagnostic>,
) -> Checked {
    let mut checker = Checker {
        plugin,
        options,
        kind,
        isolated: false,
        root,
        mistakes,
        warnings,
    };
    checker.isolated = checker.isolate();
    Checked {
        entrypoint: checker.entrypoint(),
        system_requirements: checker.system_requirements(),
        requirements: checker.requirements(),
        secrets: checker.secrets(),
        restart: checker.restart(),
        ready: checker.ready(),
        health: checker.health(),
        after: checker.after(),
        stop: checker.stop(),
        on_core_death: checker.on_core_death(),
        resources: checker.resources(),
        log: checker.log(),
        readable_secrets: checker.readable_secrets(),
        instances: checker.instances(),
        isolate: checker.isolated,
        call_timeout: checker.call_timeout(),
        drain_timeout: checker.drain_timeout(),
        max_message: checker.max_message(),
        host: checker.host(),
        launch: checker.launch(),
        package: checker.package(),
        features: checker.features(),
    }
}

/// Adds an error at the value of `setting`.
pub(super) fn value_error(setting: &Setting, message: impl Into<String>) -> Diagnostic {
    setting.source.error(setting.value.span.clone(), message)
}

struct Checker<'a> {
    plugin: &'a str,
    options: &'a ManifestOptions,
    kind: PluginKind,
    /// Whether the plugin's library runs in a process of its own.
    isolated: bool,
    root: Root<'a>,
    mistakes: &'a mut Diagnostics,
    warnings: &'a mut Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn texts(&mut self, option: OptionName) -> Option<Vec<String>> {
        let setting = self.options.get(option)?;
        self.list(setting, |text| {
            text.trim().is_empty().then_some("must not be empty")
        })
    }

    /// Returns a list of strings; `refuse` says what is wrong with one of them.
    fn list(
        &mut self,
        setting: &'a Setting,
        refuse: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<Vec<String>> {
        let RawValue::List(elements) = &setting.value.value else {
            self.wrong_type(setting, "a list of strings", "write `[\"…\", \"…\"]`");
            return None;
        };
        let what = format!("an element of `{}`", setting.name);
        let mut texts = Vec::with_capacity(elements.len());
        for element in elements {
            let Some(text) = self.text_in(setting, element, &what) else {
                continue;
            };
            match refuse(text) {
                None => texts.push(text.to_owned()),
                Some(wrong) => self.mistakes.push_with(|| {
                    setting
                        .source
                        .error(element.span.clone(), format!("{what} {wrong}"))
                }),
            }
        }
        (texts.len() == elements.len()).then_some(texts)
    }

    fn text(&mut self, setting: &'a Setting) -> Option<&'a str> {
        self.text_in(setting, &setting.value, &format!("`{}`", setting.name))
    }

    /// Returns a string that is not blank.
    fn filled(&mut self, setting: &'a Setting) -> Option<&'a str> {
        let text = self.text(setting)?;
        if text.trim().is_empty() {
            let message = format!("`{}` must not be empty", setting.name);
            self.mistakes.push(value_error(setting, message));
            return None;
        }
        Some(text)
    }

    /// Returns the string `value`, which is called `what` in messages.
    fn text_in<'v>(&mut self, setting: &Setting, value: &'v Raw, what: &str) -> Option<&'v str> {
        let message = match &value.value {
            RawValue::Text(text) if !text.contains('\0') => return Some(text),
            // No path, argument or name of the system can hold one.
            RawValue::Text(_) => format!("{what} must not contain a NUL character"),
            other => format!("{what} must be a string, found {}", other.described()),
        };
        self.mistakes
            .push_with(|| setting.source.error(value.span.clone(), message));
        None
    }

    fn wrong_type(&mut self, setting: &Setting, expected: &str, hint: &str) {
        let found = setting.value.value.described();
        let message = format!("`{}` must be {expected}, found {found}", setting.name);
        self.mistakes
            .push(value_error(setting, message).with_hint(hint));
    }

    fn warn(&mut self, setting: &Setting, what: &str, hint: &str) {
        let message = format!("`{}` {what}", setting.name);
        let warning = setting.source.error(setting.name_span.clone(), message);
        self.warnings.push(warning.with_hint(hint).into_warning());
    }

    /// Says whether the plugin has a process that `setting` can be about; warns if it has none.
    fn has_process_for(&mut self, setting: &Setting) -> bool {
        let has_process = self.kind != PluginKind::Core || self.isolated;
        if !has_process {
            self.warn(
                setting,
                "is ignored: a core plugin has no process of its own",
                "leave it out, or give the plugin a process with `ISOLATE = true`",
            );
        }
        has_process
    }

    fn root_path(&self) -> PathBuf {
        match self.root {
            Root::At(root) => root.to_owned(),
            Root::Unknown => PathBuf::from("/plugin"),
        }
    }

    /// Replaces `{root}`.
    fn expanded(&mut self, setting: &Setting, span: &Range<usize>, text: &str) -> Option<String> {
        if !text.contains(ROOT) {
            return Some(text.to_owned());
        }
        let root = self.root_path();
        let Some(root) = root.to_str() else {
            let message = "`{root}` cannot be replaced: the plugin's folder is not valid UTF-8";
            let error = setting.source.error(span.clone(), message);
            self.mistakes
                .push(error.with_hint("move the home to a folder whose path is valid UTF-8"));
            return None;
        };
        Some(text.replace(ROOT, root))
    }
}

/// Resolves `.` and `..` by the text of the path alone.
fn normalised(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // `pop` stops at the root folder, as the system does.
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}
