//! What the processes of a plugin are given and denied: variables, a user, limits, a control group.

use std::ffi::{CString, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::Inner;
use super::step::Step;
use crate::config::Resources;
use crate::home::at;
use crate::logging::Level;
use crate::rpc::RpcError;
use crate::supervisor::cgroup::{Limits, Parent};
use crate::supervisor::{Confinement, Identity, LaunchSpec};

/// The name of a socket in the folder of another user.
pub(super) const SOCKET: &str = "core.sock";

/// Why a plugin's processes cannot be given or denied what its manifest says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// There is no such user.
    #[error("USER: there is no user `{0}` on this machine; make it, or name another")]
    NoUser(String),
    /// There is no such group.
    #[error("GROUP: there is no group `{0}` on this machine; make it, or name another")]
    NoGroup(String),
    /// Only root can start processes of others.
    #[error(
        "USER and GROUP: the core runs as the user with uid {own}, and only root may start processes of others; \
             run the core as root, or leave them out"
    )]
    NotRoot {
        /// The core's user.
        own: u32,
    },
    /// The system's list of users cannot be read.
    #[error("the users of this machine cannot be read")]
    Users(#[source] io::Error),
    /// A file of variables cannot be read.
    #[error("ENV_FILE: `{path}` cannot be read")]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line of such a file is no variable.
    #[error(
        "ENV_FILE: `{path}`, line {line}: {problem}; a line is `NAME=value`, empty, or starts with `#`"
    )]
    EnvLine {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Inner {
    /// Makes what is special about the processes of a plugin, and adds it to the spec of a launch.
    pub(super) fn confine(
        &self,
        mut spec: LaunchSpec,
        resources: &Resources,
    ) -> Result<LaunchSpec, Step> {
        let failed = |error| Step::Confine(error);
        for path in &resources.env_files {
            for (name, value) in env_file(path).map_err(failed)? {
                spec = spec.env(name, value);
            }
        }
        let user = user(resources).map_err(failed)?;
        if let Some(User {
            name, dir, shell, ..
        }) = user.as_ref().and_then(|user| user.entry.as_ref())
        {
            for (variable, value) in [("USER", OsString::from(name)), ("LOGNAME", name.into())] {
                spec = spec.env(variable, value);
            }
            spec = spec.env("HOME", dir).env("SHELL", shell);
        }
        // The author's own words have the last one.
        for (name, value) in &resources.env {
            spec = spec.env(name, value);
        }
        let cgroup = self.group_of(&spec, resources);
        spec.confinement = Confinement {
            identity: user.map(|user| user.identity),
            umask: resources.umask,
            nice: resources.nice,
            limits: resources.limits.clone(),
            cgroup,
        };
        Ok(spec)
    }

    /// Makes the control group of a launch. Without one the tree is found by other means.
    fn group_of(
        &self,
        spec: &LaunchSpec,
        resources: &Resources,
    ) -> Option<crate::supervisor::protocol::OsText> {
        let limits = Limits {
            memory: resources.memory_max,
            cpu: resources.cpu,
        };
        let plugin = spec.plugin.as_str();
        let none = |why: &str| {
            if limits != Limits::default() {
                let message = format!(
                    "MEMORY_MAX and CPU have no effect: there is no control group for the plugin: {why}"
                );
                self.logs.plugin(plugin, Level::Warn, message);
            }
        };
        let Some(parent) = self.cgroups.get_or_init(Parent::find) else {
            none("this process may make none in a hierarchy of version 2");
            return None;
        };
        match parent.make(&format!("aigis-{plugin}-{}", spec.invocation), limits) {
            Ok((group, missing)) => {
                for message in missing {
                    self.logs.plugin(plugin, Level::Warn, message);
                }
                Some(group.folder().into())
            }
            Err(error) => {
                none(&error.to_string());
                None
            }
        }
    }

    /// Returns where a program is that a user with the folder `place` is to run: what was built lies where nobody but the
    /// core's own user comes.
    pub(super) fn within_reach(&self, program: &Path, place: &Path) -> Result<PathBuf, Step> {
        let Some(name) = program
            .file_name()
            .filter(|_| program.starts_with(self.home.run()))
        else {
            return Ok(program.to_owned());
        };
        let copy = place.join(name);
        let failed = |error| Step::Prepare(at(&copy, error));
        let file = tempfile::NamedTempFile::new_in(place).map_err(failed)?;
        fs::copy(program, file.path()).map_err(failed)?;
        fs::set_permissions(file.path(), Permissions::from_mode(0o555)).map_err(failed)?;
        // In one step, also in the place of one that runs.
        file.persist(&copy).map_err(|error| failed(error.error))?;
        Ok(copy)
    }

    /// Returns what the plugin's user, if it is another than the core's, finds its session and its files in.
    pub(super) fn place_of(&self, spec: &LaunchSpec) -> Result<Option<PathBuf>, Step> {
        let own = rustix::process::geteuid().as_raw();
        let Some(identity) = spec
            .confinement
            .identity
            .as_ref()
            .filter(|it| it.uid != own)
        else {
            return Ok(None);
        };
        let folder = self.home.user(identity.uid);
        let open = |folder: &Path, mode| fs::set_permissions(folder, Permissions::from_mode(mode));
        let made = fs::create_dir_all(&folder)
            .and_then(|()| open(&self.home.users(), 0o711))
            // The core's own: what it writes there by name is what it has put there. The user may look.
            .and_then(|()| open(&folder, 0o755));
        made.map_err(|error| Step::Prepare(at(&folder, error)))?;
        let opened = self.open_door(identity.uid, &folder);
        opened.map_err(|error| Step::Prepare(io::Error::other(error)))?;
        Ok(Some(folder))
    }
}

impl Inner {
    fn open_door(&self, uid: u32, folder: &Path) -> Result<(), RpcError> {
        let Some(server) = self.server.get() else {
            return Ok(());
        };
        server.open_for(uid, &folder.join(SOCKET))
    }

    /// Opens the sockets of the users that processes of an earlier core run as: their sessions look for them where they
    /// were.
    pub(super) fn reopen_doors(&self) {
        let Ok(folders) = fs::read_dir(self.home.users()) else {
            return;
        };
        for folder in folders.flatten() {
            let Some(uid) = folder
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if let Err(error) = self.open_door(uid, &folder.path()) {
                self.logs.core(Level::Warn, error.to_string());
            }
        }
    }
}

/// A user that a process is to be.
struct Found {
    identity: Identity,
    /// What the system knows of it; a number need not be anybody's.
    entry: Option<User>,
}

/// Returns who the processes of a plugin are; none if they are of the core's own user.
pub(super) fn identity(resources: &Resources) -> Result<Option<Identity>, ConfineError> {
    Ok(user(resources)?.map(|found| found.identity))
}

/// Looks up the user and the group that are named; none if the core's own are meant.
fn user(resources: &Resources) -> Result<Option<Found>, ConfineError> {
    if resources.user.is_none() && resources.group.is_none() {
        return Ok(None);
    }
    let system = |errno: nix::Error| ConfineError::Users(errno.into());
    let own = Uid::effective();
    let (uid, entry) = match &resources.user {
        None => (own, User::from_uid(own).map_err(system)?),
        Some(named) => match (
            User::from_name(named).map_err(system)?,
            named.parse::<u32>(),
        ) {
            (Some(entry), _) => (entry.uid, Some(entry)),
            (None, Ok(number)) => {
                let uid = Uid::from_raw(number);
                (uid, User::from_uid(uid).map_err(system)?)
            }
            (None, Err(_)) => return Err(ConfineError::NoUser(named.clone())),
        },
    };
    let gid = match (&resources.group, &entry) {
        (Some(named), _) => match (
            Group::from_name(named).map_err(system)?,
            named.parse::<u32>(),
        ) {
            (Some(group), _) => group.gid,
            (None, Ok(number)) => Gid::from_raw(number),
            (None, Err(_)) => return Err(ConfineError::NoGroup(named.clone())),
        },
        (None, Some(entry)) => entry.gid,
        // A number that is nobody's has the group of the same number.
        (None, None) => Gid::from_raw(uid.as_raw()),
    };
    if !own.is_root() {
        if uid == own && gid == Gid::effective() {
            return Ok(None);
        }
        return Err(ConfineError::NotRoot { own: own.as_raw() });
    }
    let groups = match entry
        .as_ref()
        .map(|entry| CString::new(entry.name.as_bytes()))
    {
        Some(Ok(name)) => getgrouplist(&name, gid).map_err(system)?,
        _ => vec![gid],
    };
    Ok(Some(Found {
        identity: Identity {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            groups: groups.iter().map(|group| group.as_raw()).collect(),
        },
        entry,
    }))
}

fn env_file(path: &Path) -> Result<Vec<(String, String)>, ConfineError> {
    let text = fs::read_to_string(path).map_err(|source| ConfineError::EnvFile {
        path: path.to_owned(),
        source,
    })?;
    let mut variables = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let parsed = variable(text).map_err(|problem| ConfineError::EnvLine {
            path: path.to_owned(),
            line,
            problem,
        })?;
        variables.extend(parsed);
    }
    Ok(variables)
}

/// Reads one line of a file of variables; none if it holds none. A value may be in quotes of either kind; in double ones
/// a backslash stands before a quote, a backslash or an `n`. Nothing is replaced by the value of another variable.
fn variable(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("there is no `=`")?;
    let name = name.trim();
    let mut characters = name.chars();
    let starts = characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("what stands before the `=` is no name of a variable");
    }
    let value = value.trim();
    let value = match value.chars().next() {
        Some('\'') => {
            let inner = value
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''));
            let inner = inner.filter(|inner| !inner.contains('\''));
            inner
                .ok_or("the quote is not closed at the end of the line")?
                .to_owned()
        }
        Some('"') => unquote(&value[1..])?,
        _ => value.to_owned(),
    };
    match value.contains('\0') {
        true => Err("a value may not hold a zero byte"),
        false => Ok(Some((name.to_owned(), value))),
    }
}

/// Reads what follows a double quote.
fn unquote(text: &str) -> Result<String, &'static str> {
    let open = "the quote is not closed at the end of the line";
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next().ok_or(open)? {
            '"' => break,
            '\\' => match characters.next().ok_or(open)? {
                'n' => value.push('\n'),
                other @ ('"' | '\\' | '$') => value.push(other),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    match characters.next() {
        None => Ok(value),
        Some(_) => Err("something follows the closing quote"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Option<String>, &'static str> {
        variable(line).map(|parsed| parsed.map(|(name, value)| format!("{name}|{value}")))
    }

    #[test]
    fn lines_of_variables() {
        let good = [
            ("A=b", "A|b"),
            ("  export A_1 = b c ", "A_1|b c"),
            ("A=", "A|"),
            ("A='a \"b\" #c'", "A|a \"b\" #c"),
            (r#"A="a \"b\" \\ \n \x""#, "A|a \"b\" \\ \n \\x"),
            ("A=b=c", "A|b=c"),
            ("A=$HOME", "A|$HOME"),
        ];
        for (line, expected) in good {
            assert_eq!(one(line), Ok(Some(expected.to_owned())), "{line}");
        }
        for line in ["", "   ", "# A=b"] {
            assert_eq!(one(line), Ok(None), "{line}");
        }
        for line in [
            "A",
            "1A=b",
            "A B=c",
            "=x",
            "A='b",
            "A=\"b",
            "A=\"b\" c",
            "A='b' c'",
            "A=\0",
        ] {
            assert!(one(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_file_of_variables_says_where_it_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("env");
        fs::write(&path, "A=1\n\nB\n").expect("is written");
        let error = env_file(&path).expect_err("has a mistake").to_string();
        assert!(
            error.contains("line 3") && error.contains("no `=`"),
            "{error}"
        );
        fs::write(&path, "A=1\nA=2\n").expect("is written");
        let all = env_file(&path).expect("is read");
        assert_eq!(all, [("A".into(), "1".into()), ("A".into(), "2".into())]);
    }

    #[test]
    fn unknown_users_and_groups_are_named() {
        let named = |user: Option<&str>, group: Option<&str>| Resources {
            user: user.map(str::to_owned),
            group: group.map(str::to_owned),
            ..Resources::default()
        };
        let error = |resources: Resources| user(&resources).err().map(|error| error.to_string());
        let none = error(named(Some("nobody-of-this-name"), None)).expect("is refused");
        assert!(none.contains("`nobody-of-this-name`"), "{none}");
        let none = error(named(None, Some("no-group-of-this-name"))).expect("is refused");
        assert!(none.contains("`no-group-of-this-name`"), "{none}");
        assert!(user(&Resources::default()).is_ok_and(|found| found.is_none()));
    }
}
