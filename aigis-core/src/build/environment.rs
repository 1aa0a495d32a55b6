//! Which of the caller's environment variables reach cargo, and which decide the result.
//!
//! Users may steer a build as they do any other (RUSTFLAGS, CARGO_HOME, RUSTC_WRAPPER,
//! CARGO_PROFILE_RELEASE_LTO …). What is kept out is what would move the output, change the
//! host it runs on, or comes from a cargo that happens to run *us* (`cargo run`, `cargo test`)
//! and says things about that package which are not true of the plugin.

use std::ffi::{OsStr, OsString};

/// Environment variables as pairs of name and value.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// Variables that never reach cargo.
const DROPPED: &[&str] = &[
    // Where results go is decided here, and read from cargo's messages.
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    // A plugin runs on this host. Its own `.cargo/config.toml` may still say otherwise.
    "CARGO_BUILD_TARGET",
    // Pinned for each build on its command line.
    "CARGO_PROFILE_RELEASE_PANIC",
    // Set by a cargo for the program it runs.
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_RUSTC_CURRENT_DIR",
    "CARGO_TARGET_TMPDIR",
    // Set by rustup's proxies; the count would end in an error when builds nest.
    "RUST_RECURSION_COUNT",
    "RUSTUP_TOOLCHAIN_SOURCE",
];

const DROPPED_PREFIXES: &[&str] = &[
    "CARGO_BIN_EXE_",
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_PKG_",
    // How cargo talks to a terminal: here it talks to us.
    "CARGO_TERM_",
];

/// Names that cargo gives to build scripts, too common to drop when no cargo runs us.
const DROPPED_UNDER_CARGO: &[&str] = &[
    "DEBUG",
    "HOST",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "TARGET",
];

/// Returns the variables that the toolchain's programs get, out of the caller's.
pub(super) fn for_toolchain(variables: &[(OsString, OsString)]) -> Variables {
    let under_cargo = value(variables, "CARGO_MANIFEST_DIR").is_some();
    // A rustup proxy names the toolchain it chose for its own folder. Only a choice that a
    // user made by this variable is meant for everything below.
    let chosen_by_proxy = value(variables, "RUST_RECURSION_COUNT").is_some()
        && value(variables, "RUSTUP_TOOLCHAIN_SOURCE").is_none_or(|source| source != "env");
    let keeps = |name: &str| {
        !(DROPPED.contains(&name)
            || DROPPED_PREFIXES.iter().any(|start| name.starts_with(start))
            || under_cargo && (DROPPED_UNDER_CARGO.contains(&name) || name.starts_with("DEP_"))
            || chosen_by_proxy && name == "RUSTUP_TOOLCHAIN")
    };
    let mut kept: Variables = variables
        .iter()
        .filter(|(name, _)| name.to_str().is_none_or(keeps))
        .cloned()
        .collect();
    // Nobody sits at this build: a question for a password must fail instead of waiting.
    let mut set = |name: &str, text: &str| kept.push((name.into(), text.into()));
    set("GIT_TERMINAL_PROMPT", "0");
    if value(variables, "GIT_SSH_COMMAND").is_none() {
        set("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
    }
    kept
}

/// Returns the pairs that change what cargo builds, sorted.
pub(super) fn deciding(variables: &[(OsString, OsString)]) -> Vec<&(OsString, OsString)> {
    let decides = |name: &str| {
        matches!(name, "RUSTC" | "RUSTFLAGS" | "CARGO_ENCODED_RUSTFLAGS")
            || name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_TARGET_") && !name.ends_with("_RUNNER")
            || name.starts_with("CARGO_BUILD_")
                && name != "CARGO_BUILD_JOBS"
                && !name.ends_with("_WRAPPER")
    };
    let mut found: Vec<_> = variables
        .iter()
        .filter(|(name, _)| name.to_str().is_some_and(decides))
        .collect();
    found.sort();
    found
}

/// Compiler flags and where they come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flags {
    /// The variable.
    pub(super) place: String,
    pub(super) flags: Vec<String>,
    /// Whether cargo then ignores all other places.
    pub(super) exclusive: bool,
}

/// Returns the compiler flags that variables set, the ones cargo prefers first.
pub(super) fn compiler_flags(variables: &[(OsString, OsString)]) -> Vec<Flags> {
    let mut found = Vec::new();
    for (name, text) in variables {
        let (Some(name), Some(text)) = (name.to_str(), text.to_str()) else {
            continue;
        };
        let encoded = name == "CARGO_ENCODED_RUSTFLAGS";
        let named_target = name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS");
        if !(encoded || named_target || matches!(name, "RUSTFLAGS" | "CARGO_BUILD_RUSTFLAGS")) {
            continue;
        }
        let flags = if encoded {
            text.split('\x1f').map(str::to_owned).collect()
        } else {
            text.split_whitespace().map(str::to_owned).collect()
        };
        found.push(Flags {
            place: name.to_owned(),
            flags,
            exclusive: encoded || name == "RUSTFLAGS",
        });
    }
    let rank = |flags: &Flags| match flags.place.as_str() {
        "CARGO_ENCODED_RUSTFLAGS" => 0,
        "RUSTFLAGS" => 1,
        _ => 2,
    };
    found.sort_by_key(rank);
    if found.first().is_some_and(|first| first.exclusive) {
        found.truncate(1);
    }
    found
}

/// Returns the panic strategy that `flags` end up with, if they name one that is not `unwind`.
pub(super) fn deadly_panic_strategy(flags: &[String]) -> Option<&str> {
    let mut strategy = None;
    let mut previous = "";
    for flag in flags {
        let option = if matches!(previous, "-C" | "--codegen") {
            Some(flag.as_str())
        } else {
            flag.strip_prefix("--codegen=")
                .or_else(|| flag.strip_prefix("-C"))
        };
        if let Some(value) = option.and_then(|option| option.strip_prefix("panic=")) {
            strategy = Some(value);
        }
        previous = flag;
    }
    strategy.filter(|strategy| *strategy != "unwind")
}

/// Returns the value of the variable `name`.
pub(super) fn value<'a>(variables: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    variables
        .iter()
        .rev()
        .find(|(candidate, _)| candidate == name)
        .map(|(_, value)| value.as_os_str())
}
