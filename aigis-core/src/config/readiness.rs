//! What a manifest says about when a plugin is ready, and whether it still is well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a process of a plugin counts as ready: `READY`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// What makes it ready.
    pub when: ReadyWhen,
    /// How long that may take from its launch.
    pub timeout: Duration,
    /// The pause between two tries of a probe.
    pub interval: Duration,
}

impl Readiness {
    /// How long a process may take to be ready where nothing else is said.
    pub const TIMEOUT: Duration = Duration::from_mins(1);

    /// The pause between two tries of a probe where nothing else is said.
    pub const INTERVAL: Duration = Duration::from_millis(200);

    /// Returns `when` with the times that it has where nothing else is said.
    pub fn new(when: ReadyWhen) -> Self {
        Self {
            when,
            timeout: Self::TIMEOUT,
            interval: Self::INTERVAL,
        }
    }
}

/// What makes a process ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadyWhen {
    /// It has been launched.
    Launched,
    /// Its session is up.
    Session,
    /// It has said `READY=1`, as `sd_notify` does.
    Notify,
    /// It has written a line to the descriptor that `AIGIS_READY_FD` names.
    Line,
    /// It has printed a line that matches this regular expression.
    Log(String),
    /// A probe has succeeded.
    Probe(Probe),
}

/// What is tried from outside, for readiness and for health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// Something accepts connections at this address: a host and a port.
    Tcp(String),
    /// A GET of this `http://` URL is answered with a status from 200 to 399.
    Http(String),
    /// This skill answers.
    Skill(String),
}

/// How it is seen whether a plugin is still well: `HEALTH`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// What is tried.
    pub probe: Probe,
    /// The pause between two tries.
    pub interval: Duration,
    /// How long a try may take.
    pub timeout: Duration,
    /// How many tries in a row must fail for the process to count as failed.
    pub failures: u32,
}

impl Health {
    /// Returns `probe` with the times and the count that it has where nothing else is said.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            failures: 3,
        }
    }
}

/// Where an HTTP probe goes: the parts of its URL.
///
/// ```
/// let target = aigis_core::config::HttpTarget::parse("http://[::1]:8080/health?full").unwrap();
/// assert_eq!(target.authority, "[::1]:8080");
/// assert_eq!((target.host.as_str(), target.port), ("::1", 8080));
/// assert_eq!(target.path, "/health?full");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// The host and the port as they were written, for the header `Host`.
    pub authority: String,
    /// The host: a name or an address, without brackets.
    pub host: String,
    /// The port; 80 if none was written.
    pub port: u16,
    /// What is asked for: a path that begins with `/`, and a query if there is one.
    pub path: String,
}

impl HttpTarget {
    /// Takes the URL of a probe apart.
    ///
    /// # Errors
    ///
    /// It is none that a probe can ask: the text says what it must be.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        const SCHEME: &str = "http://";
        let has_scheme = url
            .get(..SCHEME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME));
        if !has_scheme {
            return Err("must begin with `http://`");
        }
        if url.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
            return Err(
                "must have no spaces and no characters other than ASCII: they are written `%20`",
            );
        }
        let rest = &url[SCHEME.len()..];
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("must not contain a user or a password");
        }
        let (host, port) = match host_and_port(authority) {
            Some((host, Some(port))) => (host, port),
            Some((host, None)) => (host, 80),
            None => return Err("must name a host, and a port from 1 to 65535 if there is a `:`"),
        };
        Ok(Self {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
        })
    }
}

/// Takes `host`, `host:port` or the same with an address in brackets apart; `None` if it is neither.
pub(super) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, after) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, after)
        }
        None => {
            let (host, after) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if host.is_empty() || !host.chars().all(is_host) {
                return None;
            }
            (host, after)
        }
    };
    if after.is_empty() {
        return Some((host, None));
    }
    let port = after.strip_prefix(':')?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|&port| is_number && port > 0)?;
    Some((host, Some(port)))
}

/// The most memory that a pattern may take once it is compiled. `\w{32}`, with all letters there are, is within it.
const PATTERN_LIMIT: usize = 4 << 20;

/// The most memory for what is remembered of a pattern while lines are compared with it.
const CACHE_LIMIT: usize = 1 << 20;

/// Compiles the pattern of `READY = { log = … }`, within the limits that it was checked with.
pub(crate) fn log_pattern(pattern: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(PATTERN_LIMIT)
        .dfa_size_limit(CACHE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "it takes more than 4 MiB once it is compiled".to_owned()
            }
            // Its last line says what is wrong, the others show where.
            other => {
                let text = other.to_string();
                let last = text.lines().next_back().unwrap_or_default().trim();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        })
}
