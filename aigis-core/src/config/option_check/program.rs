//! What a plugin is and needs: where it runs, what is built and launched, what must be there for it.

use std::path::PathBuf;

use super::super::diagnostic::quoted;
use super::super::entry::PluginKind;
use super::super::manifest::{Host, Launch, Requirements};
use super::super::manifest_options::{OptionName, Setting};
use super::super::raw::RawValue;
use super::{Checker, value_error};

impl<'a> Checker<'a> {
    pub(super) fn entrypoint(&mut self) -> Option<PathBuf> {
        let setting = self.options.get(OptionName::Entrypoint)?;
        let text = self.filled(setting)?;
        let text = self.expanded(setting, &setting.value.span, text)?;
        // Only `.` is dropped: what `..` means depends on the links on the way.
        Some(self.root_path().join(text).components().collect())
    }

    pub(super) fn system_requirements(&mut self) -> Vec<String> {
        self.texts(OptionName::SystemRequirements)
            .unwrap_or_default()
    }

    pub(super) fn requirements(&mut self) -> Option<Requirements> {
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

    pub(super) fn host(&mut self) -> Option<Host> {
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

    pub(super) fn launch(&mut self) -> Option<Launch> {
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

    pub(super) fn package(&mut self) -> Option<String> {
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

    pub(super) fn features(&mut self) -> Vec<String> {
        let Some(setting) = self.options.get(OptionName::Features) else {
            return Vec::new();
        };
        self.warn_if_external(setting);
        self.list(setting, not_for_cargo).unwrap_or_default()
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
