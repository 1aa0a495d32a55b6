//! What processes are given and may use: `ENV` and what is next to it, `LIMITS`, `MEMORY_MAX`, `CPU`; and `LOG`.

use std::path::{Path, PathBuf};

use super::super::diagnostic::quoted;
use super::super::manifest_options::{OptionName, Setting, listed};
use super::super::raw::{Raw, RawValue};
use super::super::resources::{Limit, Resources};
use super::super::suggest::nearest;
use super::super::supervision::LogOptions;
use super::field::{Field, SIZE};
use super::{Checker, normalised};

/// Environment variables that a core sets itself.
const OWN_VARIABLES: [&str; 11] = [
    "AIGIS_DATA",
    "AIGIS_HOME",
    "AIGIS_INSTANCE",
    "AIGIS_INVOCATION",
    "AIGIS_PLUGIN",
    "AIGIS_READY_FD",
    "AIGIS_SECRETS_DIR",
    "AIGIS_SESSION_FD",
    "AIGIS_SETTINGS",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
];

/// The least memory that a plugin can be held to.
const MIN_MEMORY: u64 = 1 << 20;

/// The most cores that can be asked for.
const MAX_CORES: f64 = 65_536.0;

/// The least size at which a log is begun anew.
const MIN_LOG: u64 = 4 << 10;

/// The most old logs that can be asked for.
const MAX_KEPT: u32 = 100_000;

const LOG_KEYS: [&str; 5] = ["daily", "max_size", "keep", "compress", "json"];

impl<'a> Checker<'a> {
    pub(super) fn resources(&mut self) -> Resources {
        let resources = Resources {
            env: self.env(),
            env_files: self.env_files(),
            user: self.account(OptionName::User),
            group: self.account(OptionName::Group),
            umask: self.umask(),
            nice: self.nice(),
            limits: self.limits(),
            memory_max: self.memory_max(),
            cpu: self.cpu(),
        };
        let mut has_process = true;
        for option in [
            OptionName::Env,
            OptionName::EnvFile,
            OptionName::User,
            OptionName::Group,
            OptionName::Umask,
            OptionName::Nice,
            OptionName::Limits,
            OptionName::MemoryMax,
            OptionName::Cpu,
        ] {
            if let Some(setting) = self.options.get(option) {
                has_process &= self.has_process_for(setting);
            }
        }
        if has_process {
            resources
        } else {
            Resources::default()
        }
    }

    fn env(&mut self) -> Vec<(String, String)> {
        let Some(setting) = self.options.get(OptionName::Env) else {
            return Vec::new();
        };
        let hint =
            "write `{ NAME = \"value\" }` in TOML, `{\"NAME\": \"value\"}` in the literal syntax";
        let RawValue::Map(pairs) = &setting.value.value else {
            self.wrong_type(setting, "a table of names and values", hint);
            return Vec::new();
        };
        let mut variables = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let name = self.variable(setting, key);
            let what = match name {
                Some(name) => format!("{} of `{}`", quoted(name), setting.name),
                None => format!("a value of `{}`", setting.name),
            };
            let text = match &value.value {
                RawValue::Text(_) => self.text_in(setting, value, &what),
                _ => {
                    let field = Field::part(setting, what, value);
                    self.refuse_type(&field, "a string", "a number is written in quotes, too");
                    None
                }
            };
            let text = text.and_then(|text| self.expanded(setting, &value.span, text));
            variables.extend(name.map(ToOwned::to_owned).zip(text));
        }
        variables
    }

    fn variable(&mut self, setting: &'a Setting, key: &'a Raw) -> Option<&'a str> {
        let field = Field::part(setting, format!("a name in `{}`", setting.name), key);
        let name = self.word(&field)?;
        if name.contains('=') || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.refuse(&field, "must not contain `=` or spaces", "");
            return None;
        }
        if OWN_VARIABLES.contains(&name) {
            let what = format!("must not be {}, which the core sets itself", quoted(name));
            self.refuse(&field, what, "leave it out");
            return None;
        }
        Some(name)
    }

    fn env_files(&mut self) -> Vec<PathBuf> {
        let Some(setting) = self.options.get(OptionName::EnvFile) else {
            return Vec::new();
        };
        let whole = Field::whole(setting);
        let fields = match &setting.value.value {
            RawValue::Text(_) => vec![whole],
            RawValue::List(elements) => {
                let fields = elements.iter().map(|file| whole.element("a file", file));
                fields.collect()
            }
            _ => {
                let hint = "write a file with lines `NAME=value`, such as \"{root}/settings.env\"";
                self.wrong_type(setting, "a string or a list of strings", hint);
                return Vec::new();
            }
        };
        let files = fields
            .into_iter()
            .filter_map(|field| self.env_file(setting, &field));
        files.collect()
    }

    fn env_file(&mut self, setting: &'a Setting, field: &Field<'a>) -> Option<PathBuf> {
        let text = self.word(field)?;
        let below_root = Path::new(text).is_relative();
        let text = self.expanded(setting, &field.value.span, text)?;
        let root = normalised(&self.root_path());
        let file = normalised(&root.join(text));
        if below_root && !file.starts_with(&root) {
            let what = "must not leave the plugin's own folder";
            let hint = "write an absolute path, or leave out `..`";
            self.refuse(field, what, hint);
            return None;
        }
        Some(file)
    }

    /// Reads a user or a group: a name or a number.
    fn account(&mut self, option: OptionName) -> Option<String> {
        let setting = self.options.get(option)?;
        let field = Field::whole(setting);
        match &setting.value.value {
            // The greatest number means nobody to the system.
            RawValue::Integer(_) => self
                .integer(&field, 0..=u32::MAX - 1, "")
                .map(|id| id.to_string()),
            RawValue::Text(_) => {
                let name = self.word(&field)?;
                let is_odd = |c: char| c.is_whitespace() || c.is_control() || ":/,".contains(c);
                if name.starts_with('-') || name.contains(is_odd) {
                    let what = format!("must be a name or a number, found {}", quoted(name));
                    self.refuse(&field, what, "");
                    return None;
                }
                Some(name.to_owned())
            }
            _ => {
                self.wrong_type(
                    setting,
                    "a string or an integer",
                    "write a name or a number",
                );
                None
            }
        }
    }

    fn umask(&mut self) -> Option<u32> {
        let setting = self.options.get(OptionName::Umask)?;
        let field = Field::whole(setting);
        let hint = "write it as the shell does, in quotes: \"027\"";
        let RawValue::Text(text) = &setting.value.value else {
            self.refuse_type(&field, "a string of octal digits", hint);
            return None;
        };
        let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let mask = u32::from_str_radix(text, 8).ok();
        let accepted = mask.filter(|&mask| is_octal && mask <= 0o777);
        if accepted.is_none() {
            let what = format!("must be octal, from 000 to 777, found {}", quoted(text));
            self.refuse(&field, what, hint);
        }
        accepted
    }

    fn nice(&mut self) -> Option<i32> {
        let setting = self.options.get(OptionName::Nice)?;
        let hint = "20 steps from the first turn, -20, to the last, 19; processes have 0 otherwise";
        self.integer(&Field::whole(setting), -20..=19, hint)
    }

    fn limits(&mut self) -> Vec<(Limit, Option<u64>)> {
        let Some(setting) = self.options.get(OptionName::Limits) else {
            return Vec::new();
        };
        let names = || Limit::ALL.into_iter().map(Limit::as_str);
        let RawValue::Map(pairs) = &setting.value.value else {
            let hint = "write `{ nofile = 1024, core = 0 }` in TOML, `{\"nofile\": 1024}` in the literal syntax";
            self.wrong_type(setting, "a table of limits", hint);
            return Vec::new();
        };
        let what = format!("the name of a limit in `{}`", setting.name);
        let mut limits = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let Some(name) = self.text_in(setting, key, &what) else {
                continue;
            };
            let Some(limit) = Limit::ALL.into_iter().find(|limit| limit.as_str() == name) else {
                self.mistakes.push_with(|| {
                    let plain = name.to_ascii_lowercase();
                    let plain = plain.strip_prefix("rlimit_").unwrap_or(&plain);
                    let hint = match nearest(plain, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("the limits are {}", listed(names())),
                    };
                    let message = format!("unknown limit {} in `{}`", quoted(name), setting.name);
                    let error = setting.source.error(key.span.clone(), message);
                    error.with_hint(hint)
                });
                continue;
            };
            let field = Field::part(setting, format!("`{name}` of `{}`", setting.name), value);
            limits.extend(self.limit(limit, &field).map(|most| (limit, most)));
        }
        limits
    }

    fn limit(&mut self, limit: Limit, field: &Field<'a>) -> Option<Option<u64>> {
        match &field.value.value {
            RawValue::Text(text) if text == "unlimited" => Some(None),
            RawValue::Integer(_) | RawValue::Text(_) if limit.is_in_bytes() => {
                let hint = format!("{SIZE}, or \"unlimited\"");
                self.size(field, 0, &hint).map(Some)
            }
            RawValue::Integer(_) => self.integer(field, 0..=i64::MAX as u64, "").map(Some),
            RawValue::Text(text) => {
                let what = format!("must be a number or \"unlimited\", found {}", quoted(text));
                self.refuse(field, what, "");
                None
            }
            _ => {
                self.refuse_type(field, "a number or \"unlimited\"", "");
                None
            }
        }
    }

    fn memory_max(&mut self) -> Option<u64> {
        let setting = self.options.get(OptionName::MemoryMax)?;
        self.size(&Field::whole(setting), MIN_MEMORY, SIZE)
    }

    fn cpu(&mut self) -> Option<f64> {
        let setting = self.options.get(OptionName::Cpu)?;
        let hint = "write how many cores the plugin may keep busy, such as 1.5";
        self.number(&Field::whole(setting), 0.01..=MAX_CORES, hint)
    }

    pub(super) fn log(&mut self) -> LogOptions {
        let mut log = LogOptions::default();
        let Some(setting) = self.options.get(OptionName::Log) else {
            return log;
        };
        let Some(table) = self.table(setting, &LOG_KEYS) else {
            return log;
        };
        for (key, place) in [
            ("daily", &mut log.daily),
            ("compress", &mut log.compress),
            ("json", &mut log.json),
        ] {
            if let Some(field) = table.get(key) {
                let value = self.boolean(&field, "write `true` or `false`");
                *place = value.unwrap_or(*place);
            }
        }
        if let Some(field) = table.get("max_size") {
            log.max_size = self.size(&field, MIN_LOG, SIZE);
        }
        if let Some(field) = table.get("keep") {
            let hint = "write how many old files are kept";
            log.keep = self.integer(&field, 0..=MAX_KEPT, hint).unwrap_or(log.keep);
        }
        log
    }
}
