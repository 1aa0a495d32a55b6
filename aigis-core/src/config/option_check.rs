//! The rules of each manifest option.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::diagnostic::{Diagnostic, Diagnostics, quoted};
use super::entry::PluginKind;
use super::manifest::{Host, Launch, Requirements, Secret};
use super::manifest_options::{ManifestOptions, OptionName, Setting};
use super::raw::{Raw, RawValue};

/// What `{root}` stands for in the options where it means something.
const ROOT: &str = "{root}";

/// The most restarts that can be asked for.
const MAX_RESTARTS: u32 = 1_000_000;

/// The most processes of one plugin that can be asked for.
const MAX_INSTANCES: u32 = 64;

/// The longest timeout that can be asked for: a year.
const MAX_TIMEOUT: f64 = 365.0 * 24.0 * 60.0 * 60.0;

/// The shortest one. Calls are looked at several times in it.
const MIN_TIMEOUT: f64 = 0.01;

/// The least limit of messages that can be asked for: what is shorter is never looked at.
pub const MIN_MAX_MESSAGE: usize = 64 << 10;

/// The limit of messages where none is asked for, and the greatest.
pub const DEFAULT_MAX_MESSAGE: usize = 1 << 30;

/// The units of sizes.
const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

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
    pub(super) restart: Option<u32>,
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

/// Checks every option but `PLUGIN_TYPE`, and adds what is wrong to `mistakes`.
pub(super) fn check(
    options: &ManifestOptions,
    kind: PluginKind,
    root: Root<'_>,
    mistakes: &mut Diagnostics,
    warnings: &mut Vec<Diagnostic>,
) -> Checked {
    let mut checker = Checker {
        options,
        kind,
        root,
        mistakes,
        warnings,
    };
    Checked {
        entrypoint: checker.entrypoint(),
        system_requirements: checker.system_requirements(),
        requirements: checker.requirements(),
        secrets: checker.secrets(),
        restart: checker.restart(),
        instances: checker.instances(),
        isolate: checker.isolate(),
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
    options: &'a ManifestOptions,
    kind: PluginKind,
    root: Root<'a>,
    mistakes: &'a mut Diagnostics,
    warnings: &'a mut Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn entrypoint(&mut self) -> Option<PathBuf> {
        let setting = self.options.get(OptionName::Entrypoint)?;
        let text = self.filled(setting)?;
        let text = self.expanded(setting, &setting.value.span, text)?;
        // Only `.` is dropped: what `..` means depends on the links on the way.
        Some(self.root_path().join(text).components().collect())
    }

    fn system_requirements(&mut self) -> Vec<String> {
        self.texts(OptionName::SystemRequirements)
            .unwrap_or_default()
    }

    fn requirements(&mut self) -> Option<Requirements> {
        let file_setting = self.options.get(OptionName::RequirementsFile);
        let file = file_setting.and_then(|setting| {
            let text = self.text(setting)?;
            let text = self.expanded(setting, &setting.value.span, text)?;
            (!text.trim().is_empty()).then_some(text)
        });
        let command_setting = self.options.get(OptionName::RequirementsCommand);
        let command = command_setting.and_then(|setting| self.text(setting));
        if let (Some(setting), None) = (file_setting, command_setting) {
            self.warn(
                setting,
                "is ignored: there is no command to run with it",
                "add `REQUIREMENTS_COMMAND`, or leave the file out",
            );
        }
        let command = command?.trim();
        (!command.is_empty()).then(|| Requirements {
            command: command.to_owned(),
            file,
        })
    }

    fn secrets(&mut self) -> Vec<Secret> {
        let Some(setting) = self.options.get(OptionName::Secrets) else {
            return Vec::new();
        };
        let RawValue::Map(pairs) = &setting.value.value else {
            self.wrong_type(
                setting,
                "a table of secret names and folders",
                "write `{ \"name\" = \"{root}/folder\" }` in TOML, `{\"name\": \"{root}/folder\"}` \
                 in the literal syntax",
            );
            return Vec::new();
        };
        let mut targets = HashSet::new();
        let mut secrets = Vec::new();
        for (key, value) in pairs {
            let name = self.secret_name(setting, key);
            let target = self.secret_target(setting, value);
            let (Some(name), Some(target)) = (name, target) else {
                continue;
            };
            let file = Path::new(&name).file_name().map(ToOwned::to_owned);
            if targets.insert((target.clone(), file)) {
                secrets.push(Secret { name, target });
            } else {
                let message = "another secret is copied to the same file";
                let error = setting.source.error(key.span.clone(), message);
                self.mistakes
                    .push(error.with_hint("give one of them another folder"));
            }
        }
        secrets
    }

    fn secret_name(&mut self, setting: &Setting, key: &Raw) -> Option<String> {
        let name = self.text_in(setting, key, "the name of a secret")?;
        let parts = || Path::new(name).components();
        let what = if name.is_empty() {
            "must not be empty"
        } else if Path::new(name).is_absolute() {
            "must not be an absolute path"
        } else if parts().any(|part| part == Component::ParentDir) {
            "must not contain `..`"
        } else if !parts().any(|part| matches!(part, Component::Normal(_))) {
            "must name a file"
        } else {
            return Some(name.to_owned());
        };
        self.mistakes.push_with(|| {
            setting
                .source
                .error(key.span.clone(), format!("the name of a secret {what}"))
                .with_hint(
                    "secrets are named by their place below the plugin's folder in `secrets`",
                )
        });
        None
    }

    fn secret_target(&mut self, setting: &Setting, value: &Raw) -> Option<PathBuf> {
        let text = self.text_in(setting, value, "the folder of a secret")?;
        if text.trim().is_empty() {
            self.mistakes.push_with(|| {
                setting
                    .source
                    .error(
                        value.span.clone(),
                        "the folder of a secret must not be empty",
                    )
                    .with_hint("`{root}` is the plugin's own folder")
            });
            return None;
        }
        let is_absolute = Path::new(text).is_absolute();
        let text = self.expanded(setting, &value.span, text)?;
        let root = normalised(&self.root_path());
        let target = normalised(&root.join(text));
        let is_known = matches!(self.root, Root::At(_)) || !is_absolute;
        if is_known && !target.starts_with(&root) {
            let message = "the folder of a secret must be inside the plugin's own folder";
            let error = setting.source.error(value.span.clone(), message);
            let hint = format!(
                "it would be {}; start it with `{{root}}/` and leave out `..`",
                quoted(&target.to_string_lossy())
            );
            self.mistakes.push(match self.root {
                Root::At(_) => error.with_hint(hint),
                Root::Unknown => error.with_hint("start it with `{root}/` and leave out `..`"),
            });
            return None;
        }
        Some(target)
    }

    fn restart(&mut self) -> Option<u32> {
        let setting = self.options.get(OptionName::Restart)?;
        let never = format!("leave `{}` out to never restart", setting.name);
        let RawValue::Integer(count) = setting.value.value else {
            self.wrong_type(setting, "an integer", &never);
            return None;
        };
        if count < 0 {
            let message = format!("`{}` must not be negative", setting.name);
            self.mistakes
                .push(value_error(setting, message).with_hint(never));
            return None;
        }
        let accepted = u32::try_from(count).ok().filter(|&c| c <= MAX_RESTARTS);
        if accepted.is_none() {
            let message = format!("`{}` must be at most {MAX_RESTARTS}", setting.name);
            self.mistakes.push(value_error(setting, message));
        }
        accepted
    }

    fn instances(&mut self) -> Option<u32> {
        let setting = self.options.get(OptionName::Instances)?;
        let hint = format!(
            "write how many processes of the plugin share its work; leave `{}` out for one",
            setting.name
        );
        let RawValue::Integer(count) = setting.value.value else {
            self.wrong_type(setting, "an integer", &hint);
            return None;
        };
        let accepted = u32::try_from(count)
            .ok()
            .filter(|count| (1..=MAX_INSTANCES).contains(count));
        if accepted.is_none() {
            let message = format!(
                "`{}` must be at least 1 and at most {MAX_INSTANCES}",
                setting.name
            );
            self.mistakes
                .push(value_error(setting, message).with_hint(hint));
            return None;
        }
        if self.kind == PluginKind::Core {
            self.warn(
                setting,
                "is ignored: a core plugin has no process of its own",
                "leave it out, or make the plugin an internal one",
            );
            return None;
        }
        accepted
    }

    fn isolate(&mut self) -> bool {
        let Some(setting) = self.options.get(OptionName::Isolate) else {
            return false;
        };
        let RawValue::Boolean(isolate) = setting.value.value else {
            let hint = format!(
                "write `true` to have the plugin's library run in a process of its own; leave `{}` out to load it \
                 into the core",
                setting.name
            );
            self.wrong_type(setting, "a boolean", &hint);
            return false;
        };
        if self.kind == PluginKind::External {
            self.warn(
                setting,
                "is ignored: an external plugin has no library, and runs in a process of its own anyway",
                "leave it out",
            );
            return false;
        }
        isolate
    }

    fn call_timeout(&mut self) -> Option<Duration> {
        self.seconds(
            OptionName::CallTimeout,
            "write how many seconds a call may take before it is reported; leave it out to report none",
            "is ignored: an external plugin has no skills in the core",
        )
    }

    fn drain_timeout(&mut self) -> Option<Duration> {
        self.seconds(
            OptionName::DrainTimeout,
            "write how many seconds a stream may go on after the version that makes it was replaced; leave it \
             out for 30",
            "is ignored: an external plugin makes no streams in the core",
        )
    }

    /// Reads a number of seconds, which means nothing to an external plugin.
    fn seconds(&mut self, name: OptionName, hint: &str, ignored: &str) -> Option<Duration> {
        let setting = self.options.get(name)?;
        let seconds = match setting.value.value {
            #[expect(
                clippy::cast_precision_loss,
                reason = "so large a number is refused anyway"
            )]
            RawValue::Integer(seconds) => seconds as f64,
            RawValue::Float(seconds) => seconds,
            _ => {
                self.wrong_type(setting, "a number of seconds", hint);
                return None;
            }
        };
        // Not a number is in no range.
        if !(MIN_TIMEOUT..=MAX_TIMEOUT).contains(&seconds) {
            let message = format!(
                "`{}` must be at least {MIN_TIMEOUT} and at most {MAX_TIMEOUT} seconds",
                setting.name
            );
            self.mistakes
                .push(value_error(setting, message).with_hint(hint));
            return None;
        }
        if self.kind == PluginKind::External {
            self.warn(setting, ignored, "leave it out");
            return None;
        }
        Some(Duration::from_secs_f64(seconds))
    }

    fn max_message(&mut self) -> Option<usize> {
        let setting = self.options.get(OptionName::MaxMessage)?;
        let name = &setting.name;
        let hint = format!(
            "write how many bytes the arguments or the result of a call may have, such as 1000000 or \"64 MiB\"; \
             leave `{name}` out for 1 GiB"
        );
        let bytes = match &setting.value.value {
            RawValue::Integer(bytes) => usize::try_from(*bytes).ok(),
            RawValue::Text(text) => size(text),
            _ => {
                self.wrong_type(setting, "a number of bytes", &hint);
                return None;
            }
        };
        let allowed = MIN_MAX_MESSAGE..=DEFAULT_MAX_MESSAGE;
        let accepted = bytes.filter(|bytes| allowed.contains(bytes));
        if accepted.is_none() {
            let message = format!("`{name}` must be a size of at least 64 KiB and at most 1 GiB");
            self.mistakes
                .push(value_error(setting, message).with_hint(hint));
        }
        accepted
    }

    fn host(&mut self) -> Option<Host> {
        let setting = self.options.get(OptionName::Host)?;
        let host = Host::parse(self.filled(setting)?);
        if self.kind == PluginKind::Core {
            self.warn(
                setting,
                "is ignored: a core plugin runs in the core",
                "leave it out",
            );
            return None;
        }
        if let Host::Other(name) = &host {
            let message = format!(
                "remote hosts are not supported yet, and {} is not this host",
                quoted(name)
            );
            let hint = format!("leave `{}` out, or write `localhost`", setting.name);
            self.mistakes
                .push(value_error(setting, message).with_hint(hint));
            return None;
        }
        Some(host)
    }

    fn launch(&mut self) -> Option<Launch> {
        let setting = self.options.get(OptionName::Launch)?;
        match (self.kind, &setting.value.value) {
            (PluginKind::Core, RawValue::Text(_) | RawValue::List(_)) => {
                self.warn(
                    setting,
                    "is ignored: a core plugin is loaded, not launched",
                    "leave it out, or make the plugin an internal one",
                );
                None
            }
            (PluginKind::Core, _) => {
                self.wrong_type(setting, "a string or a list", "a core plugin needs none");
                None
            }
            (PluginKind::Internal, RawValue::List(_)) => {
                self.wrong_type(
                    setting,
                    "a string",
                    "for an internal plugin it is the name of a binary target",
                );
                None
            }
            (PluginKind::Internal, _) => {
                let text = self.filled(setting)?;
                let text = self.expanded(setting, &setting.value.span, text)?;
                Some(Launch::Binary(Some(text)))
            }
            (PluginKind::External, RawValue::Text(command)) => {
                let words: Vec<_> = command.split_whitespace().collect();
                let hint = match &words[..] {
                    [] => "write the program and each argument as a string of its own".to_owned(),
                    words => format!("write {}", quoted(&format!("{words:?}"))),
                };
                self.wrong_type(setting, "a list of strings", &hint);
                None
            }
            (PluginKind::External, _) => self.command(setting).map(Launch::Command),
        }
    }

    fn command(&mut self, setting: &'a Setting) -> Option<Vec<String>> {
        let arguments = self.list(setting, |_| None)?;
        // An argument may be empty, but not the program.
        if arguments
            .first()
            .is_none_or(|program| program.trim().is_empty())
        {
            let message = format!("`{}` must name a program", setting.name);
            let hint = "write the program and each argument as a string of its own";
            self.mistakes
                .push(value_error(setting, message).with_hint(hint));
            return None;
        }
        Some(arguments)
    }

    fn package(&mut self) -> Option<String> {
        let setting = self.options.get(OptionName::Package)?;
        let text = self.filled(setting)?;
        self.warn_if_external(setting);
        if let Some(what) = not_for_cargo(text) {
            let message = format!("`{}` {what}", setting.name);
            let hint = "write the name of a package of the plugin's cargo workspace";
            self.mistakes
                .push(value_error(setting, message).with_hint(hint));
            return None;
        }
        Some(text.to_owned())
    }

    fn features(&mut self) -> Vec<String> {
        let Some(setting) = self.options.get(OptionName::Features) else {
            return Vec::new();
        };
        self.warn_if_external(setting);
        self.list(setting, not_for_cargo).unwrap_or_default()
    }

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

    fn warn_if_external(&mut self, setting: &Setting) {
        if self.kind == PluginKind::External {
            self.warn(
                setting,
                "is ignored: nothing is built for an external plugin",
                "leave it out",
            );
        }
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

/// Says what keeps `text` from being the name of a package or feature, if anything does.
fn not_for_cargo(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("must not be empty")
    } else if text.starts_with('-') {
        Some("must not start with `-`")
    } else if text.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control()) {
        Some("must not contain spaces or commas")
    } else {
        None
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

/// Reads a size with a unit; none if it is not one.
fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.trim_end().parse::<usize>().ok()?.checked_mul(*unit)
}
