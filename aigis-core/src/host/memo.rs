//! What a core leaves with each shim for the core after it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TokenHash;
use super::launch::CommandLine;
use super::processes::Role;
use super::status::LastExit;
use crate::config::PluginKind;
use crate::supervisor::protocol::OsText;

/// What the next core has to know of one launch. It is written by one version of the program and may be read
/// by another: what that does not find it leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memo {
    /// What the plugin's config entry was.
    pub(super) entry: String,
    pub(super) kind: PluginKind,
    /// Which one it is of the processes of the program; none for that of an isolated library.
    pub(super) instance: Option<u32>,
    /// How many processes run the same program.
    pub(super) of: u32,
    /// The number of the launch.
    pub(super) number: u64,
    /// Stands for the token that the process has: the token itself is written nowhere.
    pub(super) token: String,
    pub(super) program: OsText,
    pub(super) arguments: Vec<String>,
    /// The plugin has a library as well.
    pub(super) has_library: bool,
    /// It has been ready.
    pub(super) ready: bool,
    /// How many of its restarts are used up.
    pub(super) used: u32,
    /// How often the process was launched again, since the plugin was started or reloaded.
    pub(super) restarts: u32,
    /// How often any process of the plugin was, since its first start.
    pub(super) restarts_in_all: u32,
    /// How the launch before it has ended, if there was one.
    #[serde(default)]
    pub(super) last_exit: Option<LastExit>,
    /// The record of the folder of the secrets that it was given.
    #[serde(default)]
    pub(super) secrets_record: Option<OsText>,
}

impl Memo {
    pub(super) fn read(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }

    pub(super) fn to_value(&self) -> Value {
        // There is nothing in it that JSON does not know.
        serde_json::to_value(self).unwrap_or_default()
    }

    pub(super) fn role(&self) -> Role {
        self.instance.map_or(Role::Library, Role::Program)
    }

    pub(super) fn line(&self) -> CommandLine {
        CommandLine {
            program: self.program.as_path().to_owned(),
            arguments: self.arguments.clone(),
        }
    }

    pub(super) fn token(&self) -> Option<TokenHash> {
        TokenHash::from_hex(&self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Exit;

    fn memo() -> Memo {
        Memo {
            entry: "e".to_owned(),
            kind: PluginKind::External,
            instance: Some(2),
            of: 3,
            number: 7,
            token: TokenHash::of("token").to_hex(),
            program: "a program".into(),
            arguments: vec!["\u{1f980}".to_owned()],
            has_library: false,
            ready: true,
            used: 4,
            restarts: 5,
            restarts_in_all: 9,
            last_exit: Some(LastExit {
                exit: Exit::Signal(9),
                at: "2026-01-01T00:00:00Z".to_owned(),
            }),
            secrets_record: Some("a record".into()),
        }
    }

    #[test]
    fn the_next_core_reads_what_this_one_has_written() {
        let memo = memo();
        let read = Memo::read(&memo.to_value()).expect("is one");
        assert_eq!(read, memo);
        assert_eq!(read.role(), Role::Program(2));
        assert_eq!(read.token(), Some(TokenHash::of("token")));
        assert_ne!(read.token(), Some(TokenHash::of("another")));
        assert!(!memo.to_value().to_string().contains("\"token\":\"token\""));
    }

    #[test]
    fn what_is_no_memo_is_none() {
        for value in [
            Value::Null,
            "text".into(),
            7.into(),
            serde_json::json!({ "of": 3 }),
        ] {
            assert_eq!(Memo::read(&value), None);
        }
        let mut odd = memo().to_value();
        odd["number"] = "many".into();
        assert_eq!(Memo::read(&odd), None);
        let mut odd = memo();
        odd.token = "no hash".to_owned();
        assert_eq!(odd.token(), None);
        let mut newer = memo().to_value();
        newer["more"] = 1.into();
        assert_eq!(Memo::read(&newer), Some(memo()));
    }
}
