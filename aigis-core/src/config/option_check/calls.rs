//! How calls reach a plugin's skills: `INSTANCES`, `ISOLATE`, and the limits of calls and streams.

use std::time::Duration;

use super::super::entry::PluginKind;
use super::super::manifest_options::OptionName;
use super::super::raw::RawValue;
use super::field::Field;
use super::{Checker, DEFAULT_MAX_MESSAGE, MIN_MAX_MESSAGE, quantity, value_error};

/// The most processes of one plugin that can be asked for.
const MAX_INSTANCES: u32 = 64;

impl<'a> Checker<'a> {
    pub(super) fn instances(&mut self) -> Option<u32> {
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

    pub(super) fn isolate(&mut self) -> bool {
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

    pub(super) fn call_timeout(&mut self) -> Option<Duration> {
        self.time_in_core(
            OptionName::CallTimeout,
            "write how many seconds a call may take before it is reported; leave it out to report none",
            "is ignored: an external plugin has no skills in the core",
        )
    }

    pub(super) fn drain_timeout(&mut self) -> Option<Duration> {
        self.time_in_core(
            OptionName::DrainTimeout,
            "write how many seconds a stream may go on after the version that makes it was replaced; leave it \
             out for 30",
            "is ignored: an external plugin makes no streams in the core",
        )
    }

    /// Reads a time that means nothing to an external plugin.
    fn time_in_core(&mut self, name: OptionName, hint: &str, ignored: &str) -> Option<Duration> {
        let setting = self.options.get(name)?;
        let time = self.time(&Field::whole(setting), hint)?;
        if self.kind == PluginKind::External {
            self.warn(setting, ignored, "leave it out");
            return None;
        }
        Some(time)
    }

    pub(super) fn max_message(&mut self) -> Option<usize> {
        let setting = self.options.get(OptionName::MaxMessage)?;
        let name = &setting.name;
        let hint = format!(
            "write how many bytes the arguments or the result of a call may have, such as 1000000 or \"64 MiB\"; \
             leave `{name}` out for 1 GiB"
        );
        let bytes = match &setting.value.value {
            RawValue::Integer(bytes) => usize::try_from(*bytes).ok(),
            RawValue::Text(text) => {
                quantity::bytes(text).and_then(|bytes| usize::try_from(bytes).ok())
            }
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
}
