//! What the text of a source means: a folder, or the URL of a git repository.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::FetchError;
use crate::config::{GitReference, SourceSpec};

/// A source whose kind is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A repository that the git library can reach.
    Repository(String),
    /// Text that names neither, with the path that was tried.
    Missing(PathBuf),
}

/// Finds out what `spec` names: an existing folder first, then a URL.
pub(super) fn locate(spec: &SourceSpec) -> Result<Location, FetchError> {
    let location = spec.location.as_str();
    let path = spec.base.join(location);
    // `file://` is git's on purpose: it is how a repository on this machine is cloned.
    if transport(location) == Some(Transport::File) {
        return Ok(Location::Repository(location.to_owned()));
    }
    // Joining nothing would name the config's own folder.
    let found = match location {
        "" => Err(io::ErrorKind::NotFound.into()),
        _ => fs::metadata(&path),
    };
    let unreadable = match found {
        Ok(metadata) if metadata.is_dir() => {
            return match reference_key(&spec.reference) {
                Some(reference) => Err(FetchError::ReferenceOnFolder { path, reference }),
                None => Ok(Location::Folder(path)),
            };
        }
        Ok(_) => return Err(FetchError::NotFolder { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(error),
    };
    match transport(location) {
        Some(Transport::Ssh) => Err(FetchError::SshUnsupported {
            url: redact(location),
        }),
        Some(_) => Ok(Location::Repository(location.to_owned())),
        None => match unreadable {
            Some(error) => Err(no_such_source(location, path, Some(error))),
            None => Ok(Location::Missing(path)),
        },
    }
}

/// Returns the error that names both readings of a source that is neither.
pub(super) fn no_such_source(
    location: &str,
    path: PathBuf,
    source: Option<io::Error>,
) -> FetchError {
    FetchError::NoSuchSource {
        location: redact(location),
        path,
        source,
    }
}

fn reference_key(reference: &GitReference) -> Option<&'static str> {
    match reference {
        GitReference::Unspecified => None,
        GitReference::Branch(_) => Some("branch"),
        GitReference::Tag(_) => Some("tag"),
        GitReference::Rev(_) => Some("rev"),
    }
}

/// How git reaches a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// `https`, `http` or `git`.
    Network,
    /// `ssh`, also written `user@host:path`.
    Ssh,
    /// `file`: a repository on this machine.
    File,
}

/// Returns how git reaches `location`, or `None` if it does not look like a git URL.
pub(super) fn transport(location: &str) -> Option<Transport> {
    if let Some((scheme, _)) = location.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "https" | "http" | "git" => Some(Transport::Network),
            "ssh" | "git+ssh" | "ssh+git" => Some(Transport::Ssh),
            "file" => Some(Transport::File),
            _ => None,
        };
    }
    let (host, _) = location.split_once(':')?;
    (host.contains('@') && !host.contains('/')).then_some(Transport::Ssh)
}

/// Returns `text` with the credentials in its URLs (`//user:password@`) blotted out.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                clean.push_str("***@");
                clean.push_str(host);
            }
            None => clean.push_str(authority),
        }
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

/// Returns whether two URLs name the same repository.
pub(super) fn same_url(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Returns `path` with its links resolved, or as it is where that fails.
pub(super) fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the URL that `relative`, which starts with `./` or `../`, stands for in a repository
/// cloned from `base`.
pub(super) fn resolve(base: &str, relative: &str) -> String {
    let mut base = base.trim_end_matches('/');
    let mut rest = relative;
    loop {
        if let Some(next) = rest.strip_prefix("./") {
            rest = next;
        } else if let Some(next) = rest.strip_prefix("../") {
            rest = next;
            // Never past the host: what is left is refused by the server, not read elsewhere.
            let start = base.find("://").map_or(0, |at| at + 3);
            let end = base[start..].rfind('/').map_or(base.len(), |at| start + at);
            base = &base[..end];
        } else {
            return format!("{base}/{rest}");
        }
    }
}
