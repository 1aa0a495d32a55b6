//! When plugins are ready, whether they are well, and what they wait for: `READY`, `HEALTH`, `AFTER`.

use std::collections::HashSet;

use super::super::diagnostic::quoted;
use super::super::entry::PluginKind;
use super::super::manifest_options::{OptionName, Setting, listed};
use super::super::name::PluginName;
use super::super::raw::RawValue;
use super::super::readiness::{
    Health, HttpTarget, Probe, Readiness, ReadyWhen, host_and_port, log_pattern,
};
use super::Checker;
use super::field::{Field, Table};

/// The words of `READY`; in a table they are keys that are set to `true`.
const WORDS: [&str; 4] = ["launched", "session", "notify", "fd"];

/// The keys of `READY`, of which one says what makes a plugin ready.
const READY_KEYS: [&str; 10] = [
    "launched", "session", "notify", "fd", "log", "tcp", "http", "skill", "timeout", "interval",
];

const PROBES: [&str; 3] = ["tcp", "http", "skill"];

const HEALTH_KEYS: [&str; 6] = ["tcp", "http", "skill", "interval", "timeout", "failures"];

/// The most failures in a row that can be asked for.
const MAX_FAILURES: u32 = 1_000;

impl<'a> Checker<'a> {
    pub(super) fn ready(&mut self) -> Option<Readiness> {
        let setting = self.options.get(OptionName::Ready)?;
        let readiness = match &setting.value.value {
            RawValue::Text(_) => {
                let words = WORDS.map(|word| (word, word));
                let word = self.choice(&Field::whole(setting), &words)?;
                Readiness::new(of_word(word)?)
            }
            RawValue::Map(_) => self.ready_table(setting)?,
            _ => {
                let hint = format!(
                    "write one of {}, or a table, such as `{{ tcp = \"127.0.0.1:80\", timeout = \"30s\" }}`",
                    listed(WORDS)
                );
                self.wrong_type(setting, "a string or a table", &hint);
                return None;
            }
        };
        if self.kind == PluginKind::Core {
            self.warn(
                setting,
                "is ignored: a core plugin is ready once its library serves",
                "leave it out",
            );
            return None;
        }
        Some(readiness)
    }

    fn ready_table(&mut self, setting: &'a Setting) -> Option<Readiness> {
        let table = self.table(setting, &READY_KEYS)?;
        let key = self.only_one(setting, &table, &READY_KEYS[..8]);
        let mut when = None;
        // Of several, each is looked at.
        for (key, _) in table.given(&READY_KEYS[..8]) {
            when = table.get(key).and_then(|field| self.condition(key, &field));
        }
        let timeout = table.get("timeout").map(|field| self.time(&field, ""));
        let interval = table.get("interval").map(|field| {
            if key.is_some_and(|key| !PROBES.contains(&key)) {
                let hint = "it is the pause between two tries of `tcp`, `http` or `skill`";
                self.refuse(&field, "has no meaning here", hint);
                return None;
            }
            self.time(&field, "")
        });
        key?;
        Some(Readiness {
            when: when?,
            timeout: timeout.unwrap_or(Some(Readiness::TIMEOUT))?,
            interval: interval.unwrap_or(Some(Readiness::INTERVAL))?,
        })
    }

    fn condition(&mut self, key: &str, field: &Field<'a>) -> Option<ReadyWhen> {
        match key {
            "log" => self.pattern(field).map(ReadyWhen::Log),
            _ if PROBES.contains(&key) => self.probe(key, field).map(ReadyWhen::Probe),
            word => {
                if !self.boolean(field, "write `true`")? {
                    let hint = "write `true`, or leave it out for another way to be ready";
                    self.refuse(field, "must be `true`", hint);
                    return None;
                }
                of_word(word)
            }
        }
    }

    pub(super) fn health(&mut self) -> Option<Health> {
        let setting = self.options.get(OptionName::Health)?;
        let table = self.table(setting, &HEALTH_KEYS)?;
        let key = self.only_one(setting, &table, &PROBES);
        let mut probe = None;
        for (key, _) in table.given(&PROBES) {
            probe = table.get(key).and_then(|field| self.probe(key, &field));
        }
        let interval = table.get("interval").map(|field| self.time(&field, ""));
        let timeout = table.get("timeout").map(|field| self.time(&field, ""));
        let failures = table.get("failures").map(|field| {
            let hint = "write how many tries in a row must fail";
            self.integer(&field, 1..=MAX_FAILURES, hint)
        });
        key?;
        let standard = Health::new(probe?);
        let health = Health {
            interval: interval.unwrap_or(Some(standard.interval))?,
            timeout: timeout.unwrap_or(Some(standard.timeout))?,
            failures: failures.unwrap_or(Some(standard.failures))?,
            ..standard
        };
        self.has_process_for(setting).then_some(health)
    }

    /// Returns the key of which there must be exactly one.
    fn only_one(
        &mut self,
        setting: &'a Setting,
        table: &Table<'a>,
        keys: &[&str],
    ) -> Option<&'a str> {
        let given = table.given(keys);
        let Some(&(first, _)) = given.first() else {
            if !table.has_unknown {
                let what = format!("must have one of the keys {}", listed(keys));
                self.refuse(&Field::whole(setting), what, "");
            }
            return None;
        };
        for (other, key) in &given[1..] {
            self.mistakes.push_with(|| {
                let message = format!("`{other}` cannot be given together with `{first}`");
                let error = setting.source.error(key.span.clone(), message);
                error.with_hint(format!("keep one of {}", listed(keys)))
            });
        }
        (given.len() == 1).then_some(first)
    }

    fn probe(&mut self, key: &str, field: &Field<'a>) -> Option<Probe> {
        let text = self.word(field)?;
        let own = || text.to_owned();
        match key {
            "tcp" => {
                let hint = "write a host and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
                let what = match host_and_port(text) {
                    Some((_, Some(_))) => return Some(Probe::Tcp(own())),
                    Some((_, None)) => "has no port",
                    None => "must be a host and a port from 1 to 65535",
                };
                self.refuse(field, format!("{what}, found {}", quoted(text)), hint);
                None
            }
            "http" => match HttpTarget::parse(text) {
                Ok(_) => Some(Probe::Http(own())),
                Err(what) => {
                    let hint = "write a URL such as \"http://127.0.0.1:8080/health\"";
                    self.refuse(field, format!("{what}, found {}", quoted(text)), hint);
                    None
                }
            },
            _ => {
                let is_part = |part: &str| {
                    !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_')
                };
                if !text.split('.').all(is_part) {
                    let what = format!("must be the name of a skill, found {}", quoted(text));
                    let hint = "write it as `aigis skills` shows it, such as \"greeter.greet\"";
                    self.refuse(field, what, hint);
                    return None;
                }
                Some(Probe::Skill(own()))
            }
        }
    }

    fn pattern(&mut self, field: &Field<'a>) -> Option<String> {
        let text = self.word(field)?;
        if let Err(why) = log_pattern(text) {
            let what = format!(
                "must be a regular expression, but in {} {why}",
                quoted(text)
            );
            let hint = "it is read as the crate `regex` of Rust does: `\\(` is a bracket, `(` begins a group";
            self.refuse(field, what, hint);
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn after(&mut self) -> Vec<PluginName> {
        let Some(setting) = self.options.get(OptionName::After) else {
            return Vec::new();
        };
        let RawValue::List(elements) = &setting.value.value else {
            let hint = match &setting.value.value {
                RawValue::Text(name) => format!("write {}", quoted(&format!("[{name:?}]"))),
                _ => "write the names of the plugins that must be ready first".to_owned(),
            };
            self.wrong_type(setting, "a list of plugins", &hint);
            return Vec::new();
        };
        let mut seen = HashSet::new();
        let mut plugins = Vec::with_capacity(elements.len());
        let whole = Field::whole(setting);
        for element in elements {
            let field = whole.element("a plugin", element);
            let Some(text) = self.word(&field) else {
                continue;
            };
            match text.parse::<PluginName>() {
                Err(error) => {
                    let what = format!("cannot be found: {error}");
                    self.refuse(&field, what, PluginName::RULE);
                }
                Ok(_) if self.plugin == text => {
                    let hint = "leave it out: a plugin cannot wait for itself";
                    self.refuse(&field, "is the plugin itself", hint);
                }
                Ok(name) if seen.insert(name.clone()) => plugins.push(name),
                Ok(name) => {
                    self.refuse(&field, format!("is named twice: `{name}`"), "keep one");
                }
            }
        }
        plugins
    }
}

fn of_word(word: &str) -> Option<ReadyWhen> {
    Some(match word {
        "launched" => ReadyWhen::Launched,
        "session" => ReadyWhen::Session,
        "notify" => ReadyWhen::Notify,
        "fd" => ReadyWhen::Line,
        _ => return None,
    })
}
