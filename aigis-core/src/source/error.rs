//! Why a plugin's source could not be brought in.

use std::fmt;
use std::io;
use std::path::PathBuf;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a plugin's source could not be brought in.
///
/// URLs in these errors carry no credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The source is neither a folder nor the URL of a git repository.
    #[error(
        "source `{location}` is neither a folder (there is none at `{}`) nor the URL of a git \
         repository (those start with https://, http://, git:// or file://)",
        path.display()
    )]
    NoSuchSource {
        /// The source as the config has it.
        location: String,
        /// The absolute path that was tried.
        path: PathBuf,
        /// Why that path could not be read, if it was more than missing.
        source: Option<io::Error>,
    },
    /// The source is a file, not a folder.
    #[error(
        "source `{}` is not a folder; name the plugin's folder or the URL of a git repository",
        path.display()
    )]
    NotFolder {
        /// The absolute path of the source.
        path: PathBuf,
    },
    /// A branch, tag or commit was asked of a folder.
    #[error(
        "`{reference}` is set, but source `{}` is a folder, which is copied as it is; remove \
         `{reference}`, or write file://{} to clone a repository there",
        path.display(),
        path.display()
    )]
    ReferenceOnFolder {
        /// The absolute path of the source.
        path: PathBuf,
        /// The key of the config that asks for it: `branch`, `tag` or `rev`.
        reference: &'static str,
    },
    /// The source is reached over ssh.
    #[error(
        "`{url}` is reached over ssh, which is not supported; use the repository's https:// URL"
    )]
    SshUnsupported {
        /// The URL of the repository.
        url: String,
    },
    /// The commit asked for is not written as a commit id.
    #[error(
        "rev `{rev}` is not a commit id, expected 4 to 40 hexadecimal digits; for a name use \
         `branch` or `tag`"
    )]
    InvalidRev {
        /// What the config asks for.
        rev: String,
    },
    /// The repository has no commits.
    #[error("repository `{url}` is empty; it needs at least one commit")]
    EmptyRepository {
        /// The URL of the repository.
        url: String,
    },
    /// The repository lacks the branch, tag or commit that was asked for.
    #[error("repository `{url}` has no {kind} `{name}`{}", listed(available))]
    NoSuchReference {
        /// The URL of the repository.
        url: String,
        /// `branch`, `tag` or `commit`.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names there are, at most ten.
        available: Vec<String>,
    },
    /// The repository has neither a branch `master` nor a default branch.
    #[error(
        "repository `{url}` has neither a branch `master` nor a default branch; ask for one with \
         `branch`{}",
        listed(available)
    )]
    NoDefaultBranch {
        /// The URL of the repository.
        url: String,
        /// The branches there are, at most ten.
        available: Vec<String>,
    },
    /// The server wants credentials.
    #[error(
        "the server of `{url}` asks for credentials, but only public repositories can be fetched; \
         check the URL: some servers answer like this when there is no such repository"
    )]
    AuthenticationRequired {
        /// The URL of the repository.
        url: String,
    },
    /// The server's certificate is not trusted.
    #[error(
        "the certificate of the server of `{url}` is not trusted; if it should be, name its \
         authority in SSL_CERT_FILE"
    )]
    UntrustedCertificate {
        /// The URL of the repository.
        url: String,
        /// What the TLS library found.
        source: BoxError,
    },
    /// A step of git failed.
    #[error("failed to {step} `{url}`")]
    Git {
        /// The URL of the repository.
        url: String,
        /// The step that failed, as in "failed to receive".
        step: &'static str,
        /// What git says.
        source: BoxError,
    },
    /// A submodule of the repository could not be brought in.
    #[error("failed to update the submodule `{}`", path.display())]
    Submodule {
        /// The submodule's path in the repository.
        path: PathBuf,
        /// Why.
        source: Box<FetchError>,
    },
    /// What is present is not a git repository that can be read.
    #[error("`{}` is not a git repository that can be read", path.display())]
    NotRepository {
        /// The plugin's folder.
        path: PathBuf,
        /// What git says.
        source: BoxError,
    },
    /// What is present was cloned from somewhere else.
    #[error("`{}` was cloned from `{found}`, but its source is now `{expected}`", path.display())]
    OriginChanged {
        /// The plugin's folder.
        path: PathBuf,
        /// The URL it was cloned from.
        found: String,
        /// The URL of the config.
        expected: String,
    },
    /// The present commit and the one asked for have gone different ways.
    #[error(
        "the present commit {present} cannot be fast-forwarded to {wanted} of {reference}: their \
         histories have diverged"
    )]
    Diverged {
        /// The commit that is present.
        present: String,
        /// The commit that was asked for.
        wanted: String,
        /// The reference that was asked for.
        reference: String,
    },
    /// The update would overwrite what was changed here.
    #[error("local changes would be overwritten in {}", quoted(paths))]
    LocalChanges {
        /// The files, at most ten.
        paths: Vec<PathBuf>,
    },
    /// A file stands where the plugin's folder should be.
    #[error("`{}` is not a folder, but the plugin belongs there; remove it", path.display())]
    DestinationNotFolder {
        /// The plugin's folder to be.
        path: PathBuf,
    },
    /// A fresh copy would remove its own source.
    #[error(
        "source `{}` is inside `{}`, which a fresh copy would replace",
        path.display(),
        destination.display()
    )]
    SourceInsideDestination {
        /// The source.
        path: PathBuf,
        /// The plugin's folder.
        destination: PathBuf,
    },
    /// Some of a folder could not be copied; nothing of it was kept.
    #[error(
        "could not copy {} of the files in `{}`:{}",
        failures.len(),
        path.display(),
        one_per_line(failures)
    )]
    Copy {
        /// The source.
        path: PathBuf,
        /// Everything that could not be copied.
        failures: Vec<CopyFailure>,
    },
    /// The certificates to trust could not be loaded.
    #[error("failed to load the certificates in `{}`", path.display())]
    Certificates {
        /// The file that was given.
        path: PathBuf,
        /// What the TLS library says.
        source: BoxError,
    },
    /// Something went wrong with a file.
    #[error("failed to {step} `{}`", path.display())]
    Io {
        /// The step that failed, as in "failed to create".
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl FetchError {
    /// Returns the message with those of its causes, as one line.
    pub(super) fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line.replace('\n', " ")
    }
}

/// A file or folder that could not be copied.
#[derive(Debug)]
pub struct CopyFailure {
    /// What was to be copied.
    pub source: PathBuf,
    /// Where it should have gone.
    pub destination: PathBuf,
    /// Why it could not be copied.
    pub reason: String,
}

impl fmt::Display for CopyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            reason,
        } = self;
        write!(
            f,
            "`{}` to `{}`: {reason}",
            source.display(),
            destination.display()
        )
    }
}

/// A message of the git library, cleaned of credentials.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct GitMessage(String);

impl From<&git2::Error> for GitMessage {
    fn from(error: &git2::Error) -> Self {
        Self(super::location::redact(error.message()))
    }
}

/// The number of names an error lists at most.
pub(super) const LISTED: usize = 10;

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(" (there are: {})", names.join(", ")),
    }
}

fn quoted(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|p| format!("`{}`", p.display())).collect();
    names.join(", ")
}

fn one_per_line(failures: &[CopyFailure]) -> String {
    failures.iter().map(|f| format!("\n  {f}")).collect()
}
