//! Talking to a repository's server: what it has, which of it was asked for, and getting it.

use std::path::Path;

use git2::{
    AutotagOption, Direction, ErrorCode, FetchOptions, Oid, ProxyOptions, RemoteCallbacks,
    Repository,
};

use super::FetchError;
use super::error::{GitMessage, LISTED};
use super::location::redact;
use super::watch::{Phase, Watch};
use crate::config::GitReference;

/// The branch that is used when none is asked for.
const DEFAULT_BRANCH: &str = "master";

/// The git source of one plugin and the two ends that its caller holds.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    pub(super) reference: &'a GitReference,
    pub(super) watch: Watch<'a>,
}

/// Where `HEAD` is to point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// To a branch, which follows the server's.
    Branch(String),
    /// To the commit of a tag; `object` is what the tag itself points to, perhaps an annotation.
    Tag { name: String, object: Oid },
    /// To a commit.
    Commit,
}

/// What was asked for, as the server has it; its objects are in the repository.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) head: Head,
    /// The name of the branch or tag, or the commit as it was asked for.
    pub(super) name: String,
    pub(super) commit: Oid,
    /// Remarks for the plugin's log.
    pub(super) notes: Vec<String>,
}

/// What of the server's references was asked for.
enum Choice {
    Branch(String),
    Tag { name: String, object: Oid },
    Rev(String),
}

/// A reference as the server lists it.
struct Advertised {
    name: String,
    oid: Oid,
    symbolic: Option<String>,
}

impl Request<'_> {
    /// Returns the URL without credentials.
    pub(super) fn shown_url(&self) -> String {
        redact(self.url)
    }

    /// Gives an error of the git library its meaning; `step` is what was being done.
    pub(super) fn error(&self, step: &'static str, error: &git2::Error) -> FetchError {
        let url = self.shown_url();
        let source = GitMessage::from(error).into();
        match error.code() {
            // Callbacks end with an error of their own when they stop the transfer.
            _ if self.watch.is_cancelled() => FetchError::Cancelled,
            ErrorCode::Auth => FetchError::AuthenticationRequired { url },
            ErrorCode::Certificate => FetchError::UntrustedCertificate { url, source },
            _ => FetchError::Git { url, step, source },
        }
    }

    /// Returns the options for getting objects: progress, the cancel flag, the proxy of the
    /// environment, and no credentials, so that a demand for some is an error at once.
    pub(super) fn fetch_options(&self) -> FetchOptions<'_> {
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(self.callbacks())
            .proxy_options(proxy());
        options
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let watch = self.watch;
        let mut callbacks = RemoteCallbacks::new();
        callbacks.sideband_progress(move |_| !watch.is_cancelled());
        callbacks.transfer_progress(move |stats| {
            let bytes = stats.received_bytes() as u64;
            let (done, total) = (stats.received_objects(), stats.total_objects());
            if done < total || stats.total_deltas() == 0 {
                watch.report(Phase::Receiving, done as u64, Some(total as u64), bytes);
            } else {
                let (done, total) = (stats.indexed_deltas(), stats.total_deltas());
                watch.report(Phase::Indexing, done as u64, Some(total as u64), bytes);
            }
            !watch.is_cancelled()
        });
        callbacks
    }
}

/// Gets every branch of `origin`, and what was asked for.
///
/// `all_tags` gets every tag too, as a clone does; else those of the arriving commits come along.
/// No reference that tells what is checked out is changed.
pub(super) fn receive(
    repo: &Repository,
    request: Request<'_>,
    all_tags: bool,
) -> Result<Asked, FetchError> {
    request.watch.check()?;
    request.watch.report(Phase::Resolving, 0, None, 0);
    if let GitReference::Rev(rev) = request.reference {
        check_rev(rev)?;
    }
    let failed = |error: &git2::Error| request.error("fetch from", error);
    let mut remote = repo
        .find_remote("origin")
        .map_err(|e| request.error("read the settings of", &e))?;
    let mut connection = remote
        .connect_auth(Direction::Fetch, Some(request.callbacks()), Some(proxy()))
        .map_err(|e| request.error("reach", &e))?;
    let advertised: Vec<Advertised> = connection
        .list()
        .map_err(|e| request.error("list the references of", &e))?
        .iter()
        .map(|head| Advertised {
            name: head.name().to_owned(),
            oid: head.oid(),
            symbolic: head.symref_target().map(str::to_owned),
        })
        .collect();
    let (choice, notes) = choose(&advertised, request)?;

    let mut refspecs = vec!["+refs/heads/*:refs/remotes/origin/*".to_owned()];
    let mut options = request.fetch_options();
    options.download_tags(match all_tags {
        true => AutotagOption::All,
        false => AutotagOption::Auto,
    });
    match &choice {
        Choice::Branch(_) => {}
        // Gets the tag's objects. The tag itself stays: git follows tags by itself only where
        // there is none of that name, and until the checkout it must tell what was there before.
        Choice::Tag { name, .. } => refspecs.push(format!("refs/tags/{name}:refs/tags/{name}")),
        // It may be on no branch.
        Choice::Rev(_) => {
            options.download_tags(AutotagOption::All);
        }
    }
    connection
        .remote()
        .fetch(&refspecs, Some(&mut options), None)
        .map_err(|e| failed(&e))?;
    drop(connection);

    let (head, name, commit) = match choice {
        Choice::Branch(branch) => {
            let commit = repo
                .refname_to_id(&format!("refs/remotes/origin/{branch}"))
                .map_err(|e| failed(&e))?;
            (Head::Branch(branch.clone()), branch, commit)
        }
        Choice::Tag { name, object } => {
            let commit = repo
                .find_object(object, None)
                .and_then(|object| object.peel_to_commit())
                .map_err(|e| request.error("find the commit of the tag in", &e))?
                .id();
            let head = Head::Tag {
                name: name.clone(),
                object,
            };
            (head, name, commit)
        }
        Choice::Rev(rev) => {
            let commit = find_commit(repo, &rev).map_err(|error| match error.code() {
                ErrorCode::NotFound => FetchError::NoSuchReference {
                    url: request.shown_url(),
                    kind: "commit",
                    name: rev.clone(),
                    available: Vec::new(),
                },
                _ => request.error("find the commit in", &error),
            })?;
            (Head::Commit, rev, commit)
        }
    };
    Ok(Asked {
        head,
        name,
        commit,
        notes,
    })
}

/// Finds the commit whose id starts with `rev`.
pub(super) fn find_commit(repo: &Repository, rev: &str) -> Result<Oid, git2::Error> {
    repo.find_object_by_prefix(rev, None)?
        .peel_to_commit()
        .map(|commit| commit.id())
}

/// Fails unless `rev` is a commit's id or the start of one.
pub(super) fn check_rev(rev: &str) -> Result<(), FetchError> {
    let is_id = (4..=40).contains(&rev.len()) && rev.bytes().all(|b| b.is_ascii_hexdigit());
    match is_id {
        true => Ok(()),
        false => Err(FetchError::InvalidRev {
            rev: rev.to_owned(),
        }),
    }
}

/// Makes the references tell that `asked` is checked out.
pub(super) fn point_head(repo: &Repository, asked: &Head, commit: Oid) -> Result<(), git2::Error> {
    match asked {
        Head::Branch(branch) => {
            let name = format!("refs/heads/{branch}");
            repo.reference(&name, commit, true, "aigis: follow the source")?;
            repo.set_head(&name)?;
            // Only for people who use git in there; it may be gone on the server by now.
            if let Ok(mut local) = repo.find_branch(branch, git2::BranchType::Local) {
                let _ = local.set_upstream(Some(&format!("origin/{branch}")));
            }
        }
        Head::Tag { name, object } => {
            repo.set_head_detached(commit)?;
            let name = format!("refs/tags/{name}");
            repo.reference(&name, *object, true, "aigis: follow the source")?;
        }
        Head::Commit => repo.set_head_detached(commit)?,
    }
    Ok(())
}

/// Returns the URL that a repository was cloned from, as its settings have it.
pub(super) fn origin_url(repo: &Repository) -> Result<String, git2::Error> {
    // Not the remote's own URL: that one has `insteadOf` of the user's settings applied.
    repo.config()?.snapshot()?.get_string("remote.origin.url")
}

/// Opens the repository whose work tree is `folder`; folders above it are not searched.
pub(super) fn open(folder: &Path) -> Result<Repository, FetchError> {
    let not_repository = |message: GitMessage| FetchError::NotRepository {
        path: folder.to_owned(),
        source: message.into(),
    };
    let repo = Repository::open(folder).map_err(|e| not_repository(GitMessage::from(&e)))?;
    let is_here = repo
        .workdir()
        .is_some_and(|tree| super::location::canonical(tree) == super::location::canonical(folder));
    match is_here {
        true => Ok(repo),
        false => Err(not_repository(GitMessage::from(&git2::Error::from_str(
            "its work tree is elsewhere",
        )))),
    }
}

fn choose(
    advertised: &[Advertised],
    request: Request<'_>,
) -> Result<(Choice, Vec<String>), FetchError> {
    let names = |prefix: &str| -> Vec<String> {
        advertised
            .iter()
            .filter_map(|head| head.name.strip_prefix(prefix))
            .filter(|name| !name.ends_with("^{}"))
            .map(str::to_owned)
            .collect()
    };
    let url = || request.shown_url();
    if advertised.is_empty() {
        return Err(FetchError::EmptyRepository { url: url() });
    }
    let missing = |kind, prefix: &str, name: &str| FetchError::NoSuchReference {
        url: url(),
        kind,
        name: name.to_owned(),
        available: shortened(names(prefix)),
    };
    let (branches, tags) = ("refs/heads/", "refs/tags/");
    match request.reference {
        GitReference::Branch(name) if names(branches).contains(name) => {
            return Ok((Choice::Branch(name.clone()), Vec::new()));
        }
        GitReference::Branch(name) => return Err(missing("branch", branches, name)),
        GitReference::Tag(name) => {
            let tag = format!("{tags}{name}");
            return match advertised.iter().find(|head| head.name == tag) {
                Some(head) => {
                    let (name, object) = (name.clone(), head.oid);
                    Ok((Choice::Tag { name, object }, Vec::new()))
                }
                None => Err(missing("tag", tags, name)),
            };
        }
        GitReference::Rev(rev) => return Ok((Choice::Rev(rev.clone()), Vec::new())),
        GitReference::Unspecified => {}
    }
    if names(branches).iter().any(|name| name == DEFAULT_BRANCH) {
        return Ok((Choice::Branch(DEFAULT_BRANCH.to_owned()), Vec::new()));
    }
    let Some(head) = advertised.iter().find(|head| head.name == "HEAD") else {
        return Err(FetchError::NoDefaultBranch {
            url: url(),
            available: shortened(names(branches)),
        });
    };
    // Servers that do not tell what HEAD stands for still tell its commit.
    let branch = match &head.symbolic {
        Some(target) => target.strip_prefix(branches),
        None => advertised
            .iter()
            .filter(|other| other.oid == head.oid)
            .find_map(|other| other.name.strip_prefix(branches)),
    };
    let (choice, used) = match branch {
        Some(branch) => (
            Choice::Branch(branch.to_owned()),
            format!("default branch `{branch}`"),
        ),
        None => (
            Choice::Rev(head.oid.to_string()),
            format!("current commit {}", head.oid),
        ),
    };
    let note = format!("the repository has no branch `{DEFAULT_BRANCH}`, its {used} is used");
    Ok((choice, vec![note]))
}

fn shortened(mut names: Vec<String>) -> Vec<String> {
    if names.len() > LISTED {
        names.truncate(LISTED);
        names.push("…".to_owned());
    }
    names
}

fn proxy() -> ProxyOptions<'static> {
    let mut options = ProxyOptions::new();
    options.auto();
    options
}
