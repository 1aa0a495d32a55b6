//! How plugins end and begin again: `RESTART`, `STOP_SIGNAL`, `STOP_TIMEOUT`, `ON_CORE_DEATH`.

use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;

use super::super::diagnostic::quoted;
use super::super::manifest_options::OptionName;
use super::super::raw::RawValue;
use super::super::suggest::nearest;
use super::super::supervision::{OnCoreDeath, RestartOptions, RestartWhen, StopOptions};
use super::Checker;
use super::field::Field;

/// The most restarts that can be asked for.
const MAX_RESTARTS: u32 = 1_000_000;

/// What stands for as many restarts as it takes.
const UNLIMITED: &str = "unlimited";

const KEYS: [&str; 7] = [
    "count", "backoff", "cap", "jitter", "healthy", "success", "when",
];

impl<'a> Checker<'a> {
    pub(super) fn restart(&mut self) -> Option<RestartOptions> {
        let setting = self.options.get(OptionName::Restart)?;
        let never = format!("leave `{}` out to never restart", setting.name);
        match &setting.value.value {
            RawValue::Integer(_) => {
                let count = self.count(&Field::whole(setting), &never)?;
                Some(RestartOptions::times(count))
            }
            RawValue::Map(_) => self.restart_table(),
            RawValue::Text(text) if text == UNLIMITED => {
                let hint = "write `{ count = \"unlimited\" }`";
                self.wrong_type(setting, "an integer or a table", hint);
                None
            }
            _ => {
                self.wrong_type(setting, "an integer or a table", &never);
                None
            }
        }
    }

    fn restart_table(&mut self) -> Option<RestartOptions> {
        let setting = self.options.get(OptionName::Restart)?;
        let table = self.table(setting, &KEYS)?;
        let mut restart = RestartOptions {
            count: None,
            ..RestartOptions::default()
        };
        if let Some(field) = table.get("count")
            && !matches!(&field.value.value, RawValue::Text(text) if text == UNLIMITED)
        {
            restart.count = self.count(
                &field,
                "write how many restarts there are in a row, or \"unlimited\"",
            );
        }
        if let Some(field) = table.get("backoff") {
            restart.backoff = self.time(&field, "").unwrap_or(restart.backoff);
        }
        if let Some(field) = table.get("cap") {
            let cap = self.time(&field, "").unwrap_or(Duration::MAX);
            if cap < restart.backoff {
                let hint = "it is the longest wait, and `backoff` is the first one, 0.1 seconds if it is left out";
                self.refuse(&field, "must not be less than `backoff`", hint);
            }
            restart.cap = cap;
        } else {
            restart.cap = restart.cap.max(restart.backoff);
        }
        if let Some(field) = table.get("jitter") {
            let hint = "0.2 varies each wait by up to a fifth";
            restart.jitter = self.number(&field, 0.0..=1.0, hint).unwrap_or_default();
        }
        if let Some(field) = table.get("healthy") {
            restart.healthy = self.time(&field, "").unwrap_or_default();
        }
        if let Some(field) = table.get("success") {
            restart.success = self.success(&field);
        }
        if let Some(field) = table.get("when") {
            let when = self.choice(&field, &RestartWhen::ALL);
            restart.when = when.unwrap_or_default();
        }
        Some(restart)
    }

    fn count(&mut self, field: &Field<'_>, hint: &str) -> Option<u32> {
        let RawValue::Integer(count) = field.value.value else {
            let expected = "an integer or \"unlimited\"";
            self.refuse_type(field, expected, hint);
            return None;
        };
        if count < 0 {
            self.refuse(field, "must not be negative", hint);
            return None;
        }
        let accepted = u32::try_from(count).ok().filter(|&c| c <= MAX_RESTARTS);
        if accepted.is_none() {
            self.refuse(field, format!("must be at most {MAX_RESTARTS}"), "");
        }
        accepted
    }

    fn success(&mut self, field: &Field<'a>) -> Vec<i32> {
        let hint = "write exit codes, such as `[0, 3]`; a negative one stands for a signal, -15 for SIGTERM";
        let RawValue::List(elements) = &field.value.value else {
            self.refuse_type(field, "a list of exit codes", hint);
            return Vec::new();
        };
        if elements.is_empty() {
            let hint = "to restart after every end, write `when = \"always\"`";
            self.refuse(field, "must have at least one exit code", hint);
        }
        let mut codes = Vec::with_capacity(elements.len());
        for element in elements {
            let field = field.element("an exit code", element);
            codes.extend(self.integer(&field, -64..=255, hint));
        }
        codes
    }

    pub(super) fn stop(&mut self) -> StopOptions {
        let mut stop = StopOptions::default();
        if let Some(setting) = self.options.get(OptionName::StopSignal) {
            let signal = self.signal(&Field::whole(setting));
            if self.has_process_for(setting) {
                stop.signal = signal.unwrap_or(stop.signal);
            }
        }
        if let Some(setting) = self.options.get(OptionName::StopTimeout) {
            let hint = "it is how long the processes may take to end before they are killed";
            let timeout = self.time(&Field::whole(setting), hint);
            if self.has_process_for(setting) {
                stop.timeout = timeout;
            }
        }
        stop
    }

    /// Reads the name of a signal, with or without `SIG`, or its number.
    fn signal(&mut self, field: &Field<'_>) -> Option<i32> {
        let hint = "write a name, such as \"SIGINT\" or \"INT\", or a number from 1 to 64";
        let number = match &field.value.value {
            RawValue::Integer(_) => self.integer(field, 1..=libc::SIGRTMAX(), hint)?,
            RawValue::Text(text) => {
                let Some(number) = signal_number(text) else {
                    let names = Signal::iterator().map(|signal| signal.as_str());
                    let near = match has_sig(text) {
                        true => nearest(text, names),
                        false => nearest(text, names.map(|name| &name[3..])),
                    };
                    let near = near.map(|near| format!("did you mean `{near}`?"));
                    let what = format!("must be a signal, found {}", quoted(text));
                    self.refuse(field, what, near.as_deref().unwrap_or(hint));
                    return None;
                };
                number
            }
            _ => {
                self.refuse_type(field, "a string or an integer", hint);
                return None;
            }
        };
        if let Some(name) = match number {
            libc::SIGKILL => Some("SIGKILL"),
            libc::SIGSTOP => Some("SIGSTOP"),
            _ => None,
        } {
            let what = format!("must be a signal that a program can catch, and {name} is none");
            let hint = "what does not end in time is killed anyway";
            self.refuse(field, what, hint);
            return None;
        }
        Some(number)
    }

    pub(super) fn on_core_death(&mut self) -> OnCoreDeath {
        let Some(setting) = self.options.get(OptionName::OnCoreDeath) else {
            return OnCoreDeath::default();
        };
        let choice = self.choice(&Field::whole(setting), &OnCoreDeath::ALL);
        if !self.has_process_for(setting) {
            return OnCoreDeath::default();
        }
        choice.unwrap_or_default()
    }
}

fn has_sig(name: &str) -> bool {
    name.get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case("SIG"))
}

/// Finds a signal by its name; those of realtime are `RTMIN`, `RTMAX` and what is counted from them, as in `RTMIN+3`.
fn signal_number(name: &str) -> Option<i32> {
    let name = name.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let known = |signal: &Signal| &signal.as_str()[3..] == name;
    if let Some(signal) = Signal::iterator().find(known) {
        return Some(signal as i32);
    }
    let (base, offset) = if let Some(offset) = name.strip_prefix("RTMIN") {
        (libc::SIGRTMIN(), offset)
    } else if let Some(offset) = name.strip_prefix("RTMAX") {
        (libc::SIGRTMAX(), offset)
    } else {
        return None;
    };
    let offset = match offset {
        "" => 0,
        // The parser takes the sign, which must be there.
        signed if signed.starts_with(['+', '-']) => signed.parse::<i32>().ok()?,
        _ => return None,
    };
    let number = base.checked_add(offset)?;
    (libc::SIGRTMIN()..=libc::SIGRTMAX())
        .contains(&number)
        .then_some(number)
}
