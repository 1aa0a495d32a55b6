//! What a process of a plugin is launched with: its program, its environment, its grant.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use aigis_plugin_api::__private::Grant as PluginGrant;
use aigis_plugin_api::session::SessionGrant;

use super::Inner;
use super::confine::SOCKET;
use super::plugin::Plugin;
use super::prepare::Prepared;
use super::processes::Role;
use super::readiness;
use super::secrets_place::SecretsPaths;
use super::step::Step;
use crate::config::{Launch, Manifest, PluginKind};
use crate::home::at;
use crate::logging::Format;
use crate::notify;
use crate::supervisor::{LaunchSpec, MAX_GRANT_BYTES};

/// The variables that name the folder of a plugin's secrets: our own, and the one that systemd has for the same.
const SECRETS: [&str; 2] = [SECRETS_DIR, "CREDENTIALS_DIRECTORY"];

/// The first of them.
pub(super) const SECRETS_DIR: &str = "AIGIS_SECRETS_DIR";

/// What is run: a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

pub(super) fn command(plugin: &Plugin, prepared: &Prepared) -> Option<CommandLine> {
    if plugin.entry.kind == PluginKind::Internal {
        return Some(CommandLine {
            program: prepared.artifacts.as_ref()?.binary.clone()?,
            arguments: Vec::new(),
        });
    }
    match &prepared.manifest.launch {
        Launch::Command(words) => {
            let (program, arguments) = words.split_first()?;
            Some(CommandLine {
                program: PathBuf::from(program),
                arguments: arguments.to_vec(),
            })
        }
        Launch::Binary(_) | Launch::None => None,
    }
}

/// Makes restarts of different processes spread differently.
pub(super) fn seed(plugin: &Plugin, instance: u32) -> u64 {
    let bytes = blake3::hash(plugin.name().as_str().as_bytes());
    let mut seed = [0; 8];
    seed.copy_from_slice(&bytes.as_bytes()[..8]);
    u64::from_le_bytes(seed).wrapping_add(instance.into())
}

/// Returns what the records of a process start with in its plugin's log.
pub(super) fn label(plugin: &Plugin, role: Role, of: u32) -> String {
    match role {
        Role::Program(instance) if of > 1 => format!("[{instance}]"),
        Role::Library if plugin.entry.kind != PluginKind::Core => "[library]".to_owned(),
        _ => String::new(),
    }
}

/// Makes the spec of one launch, and what it may present at the socket.
pub(super) fn spec(
    inner: &Inner,
    plugin: &Plugin,
    number: u64,
    manifest: &Manifest,
    line: &CommandLine,
    role: Role,
    of: u32,
) -> Result<(LaunchSpec, SessionGrant), Step> {
    let name = plugin.name();
    let mut grant = inner.grant(plugin, number)?;
    grant.instance = role.instance().unwrap_or(0);
    let record = match role {
        Role::Program(0) => format!("{name}.json"),
        Role::Program(instance) => format!("{name}#{instance}.json"),
        // There are two of them while one takes over from the other.
        Role::Library => format!("{name}#library-{number}.json"),
    };
    let folder = match role {
        Role::Program(_) => manifest.entrypoint.clone(),
        // Where it would find itself in the core.
        Role::Library => std::env::current_dir().map_err(Step::Prepare)?,
    };
    let mut spec = LaunchSpec::new(
        name.clone(),
        &line.program,
        folder,
        inner.home.plugin_log(name.as_str()),
        inner.home.run().join("shims").join(record),
    )
    .args(&line.arguments);
    spec.label = label(plugin, role, of);
    spec.rotation = (&manifest.log).into();
    spec.log_format = Format::of(&manifest.log);
    spec.secrets = inner.logs.secrets(name.as_str());
    // A core that was itself launched by a core keeps its own session to itself.
    let own = [
        "AIGIS_SESSION_FD",
        "AIGIS_INVOCATION",
        "AIGIS_SETTINGS",
        "AIGIS_INSTANCE",
        "AIGIS_READY_FD",
        // What a plugin says of itself is not to be taken for what the core says to whoever watches over that.
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    for (variable, value) in std::env::vars_os() {
        // What started this core speaks to it alone.
        let is_own = own.iter().chain(&SECRETS).any(|name| variable == *name);
        if !is_own && !notify::is_own(&variable) {
            spec = spec.env(variable, value);
        }
    }
    spec = spec
        .env("AIGIS_PLUGIN", name.as_str())
        .env("AIGIS_HOME", inner.home.root())
        .env("AIGIS_DATA", &grant.data);
    if role == Role::Library {
        // All that the library is to know it is told over the session, however long that is.
        grant.settings = None;
        let spec = inner.confine(spec, &manifest.resources)?;
        let place = inner.place_of(&spec)?;
        return Ok((spec, session_grant(inner, place.as_deref(), grant)));
    }
    spec.ready = readiness::sign(manifest);
    spec.stop_signal = manifest.stop.signal;
    if let Some(timeout) = manifest.stop.timeout {
        spec.grace_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    }
    spec = spec.env("AIGIS_INSTANCE", grant.instance.to_string());
    let mut spec = inner.confine(spec, &manifest.resources)?;
    let place = inner.place_of(&spec)?;
    if let Some(place) = &place {
        spec.program = inner.within_reach(&line.program, place)?.into();
    }
    let owner = spec.confinement.identity.as_ref();
    if let Some(owner) = owner {
        // It is the plugin's own folder, whoever the plugin is.
        chown(&grant.data, Some(owner.uid), Some(owner.gid))
            .map_err(|error| Step::Prepare(at(&grant.data, error)))?;
    }
    if let Some(path) = inner.settings_file(plugin, place.as_deref(), owner)? {
        spec = spec.env("AIGIS_SETTINGS", path);
    }
    let mut grant = session_grant(inner, place.as_deref(), grant);
    if plugin.entry.kind == PluginKind::External && grant.to_json().len() > MAX_GRANT_BYTES {
        // It has them in a file as well, however long they are.
        grant.plugin.settings = None;
    }
    Ok((spec, grant))
}

/// Adds to a spec where the secrets are.
pub(super) fn with_secrets(mut spec: LaunchSpec, paths: &SecretsPaths) -> LaunchSpec {
    spec.secrets_record = Some(paths.record.as_path().into());
    SECRETS
        .into_iter()
        .fold(spec, |spec, variable| spec.env(variable, &paths.folder))
}

/// Makes what is presented at the socket: the core's own, or that of the user whose folder `place` is.
fn session_grant(inner: &Inner, place: Option<&Path>, plugin: PluginGrant) -> SessionGrant {
    SessionGrant {
        version: 1,
        endpoint: match place {
            Some(folder) => folder.join(SOCKET),
            None => inner.home.socket(),
        },
        token: new_token(),
        plugin,
    }
}

/// Makes a token that nobody can guess.
fn new_token() -> String {
    let mut bytes = [0_u8; 32];
    // Without randomness the token would be a constant, so this may not fail quietly.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(
        filled,
        Ok(bytes.len()),
        "the system gives 32 random bytes at once"
    );
    blake3::hash(&bytes).to_hex().to_string()
}
