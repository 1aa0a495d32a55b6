//! Bringing in a plugin from a git repository: a clone, or an update of what is present.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use git2::build::CheckoutBuilder;
use git2::{CheckoutNotificationType, Commit, ErrorCode, Oid, Repository};

use super::error::{GitMessage, LISTED};
use super::location::{redact, same_url};
use super::remote::{self, Asked, Head, Request};
use super::staging::Staging;
use super::submodules;
use super::unfinished::Unfinished;
use super::watch::Phase;
use super::{Action, FetchError, Fetched, Origin};
use crate::config::GitReference;

/// Clones into a new tree for `destination`; returns it, ready to be put in place.
pub(super) fn clone(
    request: Request<'_>,
    destination: &Path,
) -> Result<(Staging, Fetched), FetchError> {
    let staging = Staging::create(destination)?;
    let failed = |step| move |error: git2::Error| request.error(step, &error);
    let repo = Repository::init(staging.path()).map_err(failed("prepare the clone of"))?;
    repo.remote("origin", request.url)
        .map_err(failed("prepare the clone of"))?;
    let asked = remote::receive(&repo, request, true)?;
    let commit = repo
        .find_object(asked.commit, None)
        .map_err(failed("check out"))?;
    let mut checkout = checkout(request);
    // There is nothing yet that could be overwritten.
    repo.checkout_tree(&commit, Some(checkout.force()))
        .map_err(failed("check out"))?;
    remote::point_head(&repo, &asked.head, asked.commit).map_err(failed("check out"))?;
    let notes = submodules::update(&repo, request)?;
    request.watch.check()?;
    let mut fetched = fetched(request, &asked, Action::Cloned);
    fetched.notes.extend(notes);
    Ok((staging, fetched))
}

/// Brings the repository at `destination` up to what is asked for. Whatever goes wrong, short of
/// being cancelled, is one warning, and the tree stays as it was.
pub(super) fn update(request: Request<'_>, destination: &Path) -> Result<Fetched, FetchError> {
    match try_update(request, destination) {
        Err(FetchError::Cancelled) => Err(FetchError::Cancelled),
        Err(error) => Ok(kept(request, destination, &error)),
        Ok(fetched) => Ok(fetched),
    }
}

fn try_update(request: Request<'_>, destination: &Path) -> Result<Fetched, FetchError> {
    let failed = |step| move |error: git2::Error| request.error(step, &error);
    let repo = remote::open(destination)?;
    let found = remote::origin_url(&repo).map_err(|error| FetchError::NotRepository {
        path: destination.to_owned(),
        source: GitMessage::from(&error).into(),
    })?;
    if !same_url(&found, request.url) {
        return Err(FetchError::OriginChanged {
            path: destination.to_owned(),
            found: redact(&found),
            expected: request.shown_url(),
        });
    }
    let mut notes = Vec::new();
    if let Some(unfinished) = Unfinished::find(&repo) {
        notes.push("an update that was interrupted has been completed".to_owned());
        notes.extend(complete(&repo, request, &unfinished)?);
    }
    let present = repo
        .head()
        .and_then(|head| head.peel_to_commit())
        .map_err(failed("read the present commit of"))?
        .id();
    let known = published(&repo);
    let tag_before = match request.reference {
        GitReference::Tag(tag) => commit_of(&repo, &format!("refs/tags/{tag}")),
        _ => None,
    };
    let asked = match local_rev(&repo, request.reference)? {
        Some(asked) => asked,
        None => remote::receive(&repo, request, false)?,
    };
    let step = decide(&repo, &asked, present, tag_before, &known)
        .map_err(failed("compare the commits of"))?;
    let action = match step {
        Step::Diverged => {
            return Err(FetchError::Diverged {
                present: short(present),
                wanted: short(asked.commit),
                reference: asked.describe(),
            });
        }
        Step::Stay => Action::Unchanged,
        Step::Point => {
            remote::point_head(&repo, &asked.head, asked.commit).map_err(failed("update"))?;
            Action::Unchanged
        }
        Step::CheckOut => {
            let unfinished = Unfinished {
                head: asked.head.clone(),
                commit: asked.commit,
            };
            notes.extend(apply(&repo, request, &unfinished)?);
            Action::Updated {
                from: present.to_string(),
                to: asked.commit.to_string(),
            }
        }
    };
    let mut fetched = fetched(request, &asked, action);
    if step == Step::Stay {
        // Local commits on top of the branch, perhaps.
        if let Origin::Git { commit, .. } = &mut fetched.origin {
            *commit = present.to_string();
        }
    }
    fetched.notes.extend(notes);
    Ok(fetched)
}

/// A commit that was asked for by its id never changes: if it is here, no server is needed.
fn local_rev(repo: &Repository, reference: &GitReference) -> Result<Option<Asked>, FetchError> {
    let GitReference::Rev(rev) = reference else {
        return Ok(None);
    };
    remote::check_rev(rev)?;
    Ok(remote::find_commit(repo, rev).ok().map(|commit| Asked {
        head: Head::Commit,
        name: rev.clone(),
        commit,
        notes: Vec::new(),
    }))
}

/// What an update has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing.
    Stay,
    /// Only `HEAD` changes: the commit is checked out already.
    Point,
    CheckOut,
    Diverged,
}

fn decide(
    repo: &Repository,
    asked: &Asked,
    present: Oid,
    tag_before: Option<Oid>,
    known: &[Oid],
) -> Result<Step, git2::Error> {
    let head = repo.head()?;
    // Whether what is checked out is an earlier state of what is asked for now.
    let is_same = match &asked.head {
        Head::Branch(branch) => head.is_branch() && head.shorthand().is_ok_and(|on| on == branch),
        Head::Tag { .. } => tag_before == Some(present),
        Head::Commit => false,
    };
    if !is_same && let Head::Branch(branch) = &asked.head {
        // A branch of that name made here may hold work that is nowhere else.
        let local = commit_of(repo, &format!("refs/heads/{branch}"));
        if let Some(local) = local
            && !is_contained(repo, local, asked.commit)?
            && !is_reachable(repo, local, known)?
        {
            return Ok(Step::Diverged);
        }
    }
    if present == asked.commit {
        return Ok(match (is_same, &asked.head) {
            (true, Head::Branch(_)) => Step::Stay,
            _ => Step::Point,
        });
    }
    if repo.graph_descendant_of(asked.commit, present)? {
        return Ok(Step::CheckOut);
    }
    if is_same {
        // Local commits on top of the branch: there is nothing to fast-forward to.
        let is_ahead = matches!(asked.head, Head::Branch(_))
            && repo.graph_descendant_of(present, asked.commit)?;
        return Ok(if is_ahead { Step::Stay } else { Step::Diverged });
    }
    // The config asks for something else than before. Leaving is safe if the server knows what is
    // left behind.
    match is_reachable(repo, present, known)? {
        true => Ok(Step::CheckOut),
        false => Ok(Step::Diverged),
    }
}

fn is_contained(repo: &Repository, one: Oid, other: Oid) -> Result<bool, git2::Error> {
    Ok(one == other || repo.graph_descendant_of(other, one)?)
}

/// Returns whether `commit` is one of `tips` or behind one of them.
fn is_reachable(repo: &Repository, commit: Oid, tips: &[Oid]) -> Result<bool, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.push(commit)?;
    for &tip in tips {
        walk.hide(tip)?;
    }
    Ok(walk.next().is_none())
}

/// Returns the commits that the server is known to have.
fn published(repo: &Repository) -> Vec<Oid> {
    let mut commits = Vec::new();
    for pattern in ["refs/remotes/origin/*", "refs/tags/*"] {
        let references = repo.references_glob(pattern).into_iter().flatten();
        commits.extend(
            references
                .filter_map(Result::ok)
                .filter_map(|reference| reference.peel_to_commit().ok())
                .map(|commit| commit.id()),
        );
    }
    commits
}

fn commit_of(repo: &Repository, reference: &str) -> Option<Oid> {
    let commit = repo.find_reference(reference).ok()?.peel_to_commit().ok()?;
    Some(commit.id())
}

/// Checks out a commit over the present one, all of it or nothing; returns remarks for the log.
fn apply(
    repo: &Repository,
    request: Request<'_>,
    unfinished: &Unfinished,
) -> Result<Vec<String>, FetchError> {
    let failed = |step| move |error: git2::Error| request.error(step, &error);
    let commit = repo
        .find_commit(unfinished.commit)
        .map_err(failed("check out"))?;
    let before = submodules::Before::of(repo);
    check_that_index_is_free(repo, request)?;
    match check_out_safely(repo, request, unfinished, &commit) {
        Err(CheckoutError::NothingWritten(error)) => Err(error),
        Err(CheckoutError::Broken(error)) => {
            finish(repo, request, unfinished, &commit, &before, Err(error))
        }
        Ok(()) => finish(repo, request, unfinished, &commit, &before, Ok(())),
    }
}

/// Completes an update that a killed process had begun.
fn complete(
    repo: &Repository,
    request: Request<'_>,
    unfinished: &Unfinished,
) -> Result<Vec<String>, FetchError> {
    let failed = |step| move |error: git2::Error| request.error(step, &error);
    request.watch.check()?;
    let commit = repo
        .find_commit(unfinished.commit)
        .map_err(failed("check out"))?;
    let before = submodules::Before::of(repo);
    let written = write_by_force(repo, &commit, &commit)
        .map_err(failed("complete the interrupted update from"));
    finish(repo, request, unfinished, &commit, &before, written)
}

/// Does what comes after the files are written, or undoes everything.
fn finish(
    repo: &Repository,
    request: Request<'_>,
    unfinished: &Unfinished,
    commit: &Commit<'_>,
    before: &submodules::Before,
    written: Result<(), FetchError>,
) -> Result<Vec<String>, FetchError> {
    let failed = |step| move |error: git2::Error| request.error(step, &error);
    let result = written
        .and_then(|()| submodules::update(repo, request))
        .and_then(|notes| {
            remote::point_head(repo, &unfinished.head, unfinished.commit)
                .map_err(failed("update"))?;
            Ok(notes)
        });
    if result.is_err() {
        before.remove_new(repo);
        repo.head()
            .and_then(|head| head.peel_to_commit())
            .and_then(|present| write_by_force(repo, commit, &present))
            .and_then(|()| before.restore(repo))
            .map_err(failed("undo the unfinished update from"))?;
    }
    unfinished.remove(repo)?;
    result
}

fn check_that_index_is_free(repo: &Repository, request: Request<'_>) -> Result<(), FetchError> {
    match repo.path().join("index.lock").exists() {
        false => Ok(()),
        // Git would find this out after it has written the files.
        true => Err(FetchError::Git {
            url: request.shown_url(),
            step: "update the tree to that of",
            source: "another git process is at work in it; if there is none, remove \
                     .git/index.lock"
                .into(),
        }),
    }
}

/// Why a checkout over local files failed.
enum CheckoutError {
    /// It was found beforehand that it cannot be done.
    NothingWritten(FetchError),
    /// It broke off in the middle.
    Broken(FetchError),
}

/// Checks out `commit` if it overwrites nothing that was changed here.
fn check_out_safely(
    repo: &Repository,
    request: Request<'_>,
    unfinished: &Unfinished,
    commit: &Commit<'_>,
) -> Result<(), CheckoutError> {
    let watch = request.watch;
    let mut conflicts: Vec<PathBuf> = Vec::new();
    let has_begun = Cell::new(false);
    let mut checkout = CheckoutBuilder::new();
    checkout
        .safe()
        .notify_on(CheckoutNotificationType::CONFLICT | CheckoutNotificationType::UPDATED)
        .notify(|why, path, _, _, _| {
            if why.is_conflict() {
                conflicts.extend(path.map(Path::to_owned));
            }
            !watch.is_cancelled()
        })
        // Called for the first time when all is checked and nothing is written yet.
        .progress(|_, done, total| {
            if !has_begun.replace(true) {
                // Without the note only a kill from here on does harm; a full disk, the likely
                // reason, fails the checkout too.
                let _ = unfinished.write(repo);
            }
            watch.report(Phase::CheckingOut, done as u64, Some(total as u64), 0);
        });
    let result = repo.checkout_tree(commit.as_object(), Some(&mut checkout));
    drop(checkout);
    let Err(error) = result else { return Ok(()) };
    if has_begun.get() {
        Err(CheckoutError::Broken(request.error("check out", &error)))
    } else if error.code() == ErrorCode::Conflict && !watch.is_cancelled() {
        if conflicts.len() > LISTED {
            conflicts.truncate(LISTED);
            conflicts.push("…".into());
        }
        let paths = conflicts;
        Err(CheckoutError::NothingWritten(FetchError::LocalChanges {
            paths,
        }))
    } else {
        let error = request.error("check out", &error);
        Err(CheckoutError::NothingWritten(error))
    }
}

/// Gives every file that differs between the present commit and `other` its content in `wanted`,
/// which is one of the two.
///
/// Only after a checkout of `other` that broke off or was killed: that one had made sure that none
/// of these files was changed here.
fn write_by_force(
    repo: &Repository,
    other: &Commit<'_>,
    wanted: &Commit<'_>,
) -> Result<(), git2::Error> {
    let present = repo.head()?.peel_to_commit()?.tree()?;
    let differences = repo.diff_tree_to_tree(Some(&present), Some(&other.tree()?), None)?;
    let mut checkout = CheckoutBuilder::new();
    checkout
        .force()
        .remove_untracked(true)
        .disable_pathspec_match(true);
    let paths: BTreeSet<PathBuf> = differences
        .deltas()
        .flat_map(|delta| [delta.old_file().path(), delta.new_file().path()])
        .flatten()
        .map(Path::to_owned)
        .collect();
    // No paths at all would stand for every file.
    if paths.is_empty() {
        return Ok(());
    }
    for path in &paths {
        checkout.path(path);
    }
    repo.checkout_tree(wanted.as_object(), Some(&mut checkout))?;
    // A submodule that is gone from the work tree already is overlooked by the checkout.
    let (mut index, tree) = (repo.index()?, wanted.tree()?);
    for path in &paths {
        if index.get_path(path, 0).is_some() && tree.get_path(path).is_err() {
            index.remove(path, 0)?;
        }
    }
    index.write()
}

fn checkout(request: Request<'_>) -> CheckoutBuilder<'_> {
    let watch = request.watch;
    let mut checkout = CheckoutBuilder::new();
    checkout.progress(move |_, done, total| {
        watch.report(Phase::CheckingOut, done as u64, Some(total as u64), 0);
    });
    checkout
}

fn fetched(request: Request<'_>, asked: &Asked, action: Action) -> Fetched {
    Fetched {
        origin: Origin::Git {
            url: request.shown_url(),
            reference: asked.name.clone(),
            commit: asked.commit.to_string(),
        },
        action,
        warnings: Vec::new(),
        notes: asked.notes.clone(),
    }
}

/// Describes what is present, with the reason why it could not be updated.
fn kept(request: Request<'_>, destination: &Path, error: &FetchError) -> Fetched {
    let repo = remote::open(destination).ok();
    let head = repo.as_ref().and_then(|repo| repo.head().ok());
    let commit = head
        .as_ref()
        .and_then(|head| head.target())
        .map(|commit| commit.to_string())
        .unwrap_or_default();
    let reference = match head
        .as_ref()
        .map(|head| (head.is_branch(), head.shorthand()))
    {
        Some((true, Ok(branch))) => branch.to_owned(),
        _ => commit.clone(),
    };
    Fetched {
        origin: Origin::Git {
            url: request.shown_url(),
            reference,
            commit,
        },
        action: Action::Kept,
        warnings: vec![format!(
            "plugin could not be updated, what is present in `{}` is used: {}",
            destination.display(),
            error.chain()
        )],
        notes: Vec::new(),
    }
}

fn short(commit: Oid) -> String {
    commit.to_string().chars().take(10).collect()
}

impl Asked {
    /// Returns what was asked for, in words.
    fn describe(&self) -> String {
        let name = &self.name;
        match self.head {
            Head::Branch(_) => format!("branch `{name}`"),
            Head::Tag { .. } => format!("tag `{name}`"),
            Head::Commit => format!("commit `{name}`"),
        }
    }
}
