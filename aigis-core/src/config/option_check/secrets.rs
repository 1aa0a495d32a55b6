//! The secrets of a plugin: `SECRETS`, `READABLE_SECRETS`.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::super::diagnostic::quoted;
use super::super::manifest::Secret;
use super::super::manifest_options::{OptionName, Setting};
use super::super::raw::{Raw, RawValue};
use super::field::Field;
use super::{Checker, Root, normalised};

impl<'a> Checker<'a> {
    pub(super) fn secrets(&mut self) -> Vec<Secret> {
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

    pub(super) fn readable_secrets(&mut self) -> bool {
        let Some(setting) = self.options.get(OptionName::ReadableSecrets) else {
            return false;
        };
        let hint = "write `true` to take sources of secrets all the same that other users can read";
        self.boolean(&Field::whole(setting), hint)
            .unwrap_or_default()
    }
}
