//! What an apply does, or would do, as `aigis apply` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Difference, Needs, PluginKind, PluginName, Present};

/// What an apply does, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// The config file.
    pub config: String,
    /// Whether it was only asked what would be done.
    pub dry_run: bool,
    /// What is done, one plugin each.
    pub steps: Vec<ApplyStep>,
    /// The plugins whose entries say the same as before.
    pub unchanged: Vec<String>,
    /// The plugins that only stand elsewhere in the order.
    pub moved: Vec<String>,
    /// The plugins that stay although the config does not list them: they were added while the core runs.
    pub kept: Vec<String>,
}

/// What is done with one plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyStep {
    /// The plugin.
    pub plugin: String,
    /// Its kind, which a change may have made another one.
    pub kind: PluginKind,
    /// What is done.
    pub action: ApplyAction,
    /// For a change, what is not as it was: keys of the entry, and `settings.key`.
    #[serde(default)]
    pub keys: Vec<String>,
    /// For a change, what it asks for.
    #[serde(default)]
    pub needs: Option<Needs>,
    /// For an addition, the removed plugins whose names it takes over in the same instant.
    #[serde(default)]
    pub replaces: Vec<String>,
    /// How it went.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

/// What is done with a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApplyAction {
    /// The config lists it, and it is not there.
    Add,
    /// It is there, and the config does not list it.
    Remove,
    /// Its entry says something else.
    Change,
}

/// How a step of an apply went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has not been tried.
    Planned,
    /// It is done.
    Done,
    /// It failed, and the plugin is as it was.
    Failed,
}

impl ApplyReport {
    pub(super) fn of(difference: &Difference, present: &[Present], dry_run: bool) -> Self {
        let names = |all: &[PluginName]| all.iter().map(ToString::to_string).collect();
        let step = |name: &PluginName, kind, action| ApplyStep {
            plugin: name.to_string(),
            kind,
            action,
            keys: Vec::new(),
            needs: None,
            replaces: Vec::new(),
            outcome: Outcome::Planned,
            error: None,
        };
        let mut steps = Vec::new();
        for name in difference.removed.iter().rev() {
            let kind = present.iter().find(|one| one.entry.name == *name);
            let kind = kind.map_or(PluginKind::External, |one| one.entry.kind);
            steps.push(step(name, kind, ApplyAction::Remove));
        }
        for changed in &difference.changed {
            let entry = &changed.entry;
            steps.push(ApplyStep {
                keys: changed.keys.clone(),
                needs: Some(changed.needs),
                ..step(&entry.name, entry.kind, ApplyAction::Change)
            });
        }
        for entry in &difference.added {
            steps.push(step(&entry.name, entry.kind, ApplyAction::Add));
        }
        Self {
            config: String::new(),
            dry_run,
            steps,
            unchanged: difference
                .unchanged
                .iter()
                .map(|entry| entry.name.to_string())
                .collect(),
            moved: names(&difference.moved),
            kept: names(&difference.kept),
        }
    }

    /// Tells whether there is nothing to do, or there was nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.moved.is_empty()
    }

    /// Returns the names of the plugins whose step has failed.
    pub fn failed(&self) -> Vec<String> {
        let failed = self
            .steps
            .iter()
            .filter(|step| step.outcome == Outcome::Failed);
        failed.map(|step| step.plugin.clone()).collect()
    }

    pub(super) fn step(&mut self, name: &PluginName) -> Option<&mut ApplyStep> {
        self.steps
            .iter_mut()
            .find(|step| step.plugin == name.as_str())
    }

    /// Notes how a step went.
    pub(super) fn ended(&mut self, name: &PluginName, error: Option<String>) {
        if let Some(step) = self.step(name) {
            step.outcome = match error {
                None => Outcome::Done,
                Some(_) => Outcome::Failed,
            };
            step.error = error;
        }
    }
}

/// For people: a line for each plugin, and one for what stays.
impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for name in &self.moved {
            writeln!(f, "= {name}: moved; nothing else")?;
        }
        for name in &self.kept {
            writeln!(f, "= {name}: not in config, stays until the core ends")?;
        }
        match (self.is_empty(), self.unchanged.len()) {
            (true, _) => writeln!(f, "nothing to do: what runs is what the config says"),
            (false, 0) => Ok(()),
            (false, count) => writeln!(f, "{count} unchanged"),
        }
    }
}

impl fmt::Display for ApplyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            ApplyAction::Add => '+',
            ApplyAction::Remove => '-',
            ApplyAction::Change => '~',
        };
        write!(f, "{sign} {} [{}]", self.plugin, self.kind)?;
        let what = match (self.action, self.needs) {
            (ApplyAction::Add, _) if !self.replaces.is_empty() => {
                format!("add, in the place of {}", self.replaces.join(", "))
            }
            (ApplyAction::Add, _) => "add".to_owned(),
            (ApplyAction::Remove, _) => "remove".to_owned(),
            (ApplyAction::Change, Some(Needs::Swap)) => format!("swap: {}", self.keys.join(", ")),
            (ApplyAction::Change, _) => format!("restart: {}", self.keys.join(", ")),
        };
        write!(f, ": {what}")?;
        match (self.outcome, &self.error) {
            (Outcome::Planned, _) => Ok(()),
            (Outcome::Done, _) => f.write_str(": done"),
            (Outcome::Failed, error) => {
                let why = error.as_deref().unwrap_or("no reason is known");
                write!(f, ": FAILED\n    {}", why.replace('\n', "\n    "))
            }
        }
    }
}
