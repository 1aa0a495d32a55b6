//! The submodules of a repository, and theirs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use git2::{Repository, Submodule, SubmoduleUpdate, SubmoduleUpdateOptions};

use super::FetchError;
use super::location::{self, Transport};
use super::remote::Request;
use super::staging;

/// Checks out every submodule at the commit that the repository's index names, recursively;
/// returns remarks for the plugin's log.
///
/// The submodules' URLs follow the rules for a plugin's own, and only a repository of this machine
/// may have submodules of this machine: a foreign one has no business reading files here.
pub(super) fn update(repo: &Repository, request: Request<'_>) -> Result<Vec<String>, FetchError> {
    let mut notes = Vec::new();
    let submodules = repo
        .submodules()
        .map_err(|e| request.error("list the submodules of", &e))?;
    for mut submodule in submodules {
        request.watch.check()?;
        let path = submodule.path().to_owned();
        if submodule.index_id().is_none() || submodule.update_strategy() == SubmoduleUpdate::None {
            continue;
        }
        let Ok(Some(url)) = submodule.url().map(|url| url.map(str::to_owned)) else {
            notes.push(format!(
                "the submodule `{}` is left empty: .gitmodules has no URL for it",
                path.display()
            ));
            continue;
        };
        let theirs =
            update_one(repo, &mut submodule, &url, request).map_err(|error| match error {
                FetchError::Cancelled => FetchError::Cancelled,
                error => FetchError::Submodule {
                    path,
                    source: Box::new(error),
                },
            })?;
        notes.extend(theirs);
    }
    Ok(notes)
}

fn update_one(
    parent: &Repository,
    submodule: &mut Submodule<'_>,
    url: &str,
    request: Request<'_>,
) -> Result<Vec<String>, FetchError> {
    // The git library resolves relative URLs too, but not those in a `file://` repository.
    let url = match url.starts_with("./") || url.starts_with("../") {
        true => location::resolve(request.url, url),
        false => url.to_owned(),
    };
    check_url(&url, request)?;
    let request = Request {
        url: &url,
        ..request
    };
    let failed = |error: &git2::Error| request.error("fetch the submodule from", error);
    if submodule.workdir_id().is_none() || submodule.workdir_id() != submodule.index_id() {
        set_url(parent, submodule, &url).map_err(|e| failed(&e))?;
        let mut options = SubmoduleUpdateOptions::new();
        options.fetch(request.fetch_options());
        submodule
            .update(true, Some(&mut options))
            .map_err(|e| failed(&e))?;
    }
    let repo = submodule.open().map_err(|e| failed(&e))?;
    update(&repo, request)
}

/// Makes `url` the one that a submodule is fetched from, also where it was another before.
fn set_url(parent: &Repository, submodule: &Submodule<'_>, url: &str) -> Result<(), git2::Error> {
    let key = format!("submodule.{}.url", submodule.name()?);
    parent.config()?.set_str(&key, url)?;
    if submodule.workdir_id().is_some() {
        submodule.open()?.remote_set_url("origin", url)?;
    }
    Ok(())
}

fn check_url(url: &str, request: Request<'_>) -> Result<(), FetchError> {
    let shown = location::redact(url);
    let parent_is_local = location::transport(request.url) == Some(Transport::File);
    match location::transport(url) {
        Some(Transport::Network) => Ok(()),
        Some(Transport::File) if parent_is_local => Ok(()),
        Some(Transport::Ssh) => Err(FetchError::SshUnsupported { url: shown }),
        Some(Transport::File) | None => Err(FetchError::Git {
            url: shown,
            step: "accept the submodule URL",
            source: "a submodule needs an https://, http:// or git:// URL, or one that starts \
                     with ./ or ../"
                .into(),
        }),
    }
}

/// What is there of submodules before an update, so that the update can be undone.
pub(super) struct Before {
    present: HashSet<PathBuf>,
}

impl Before {
    /// Notes which submodules the repository has checked out.
    pub(super) fn of(repo: &Repository) -> Self {
        let present = repo
            .submodules()
            .unwrap_or_default()
            .iter()
            .filter(|submodule| submodule.workdir_id().is_some())
            .map(|submodule| submodule.path().to_owned())
            .collect();
        Self { present }
    }

    /// Removes the submodules that have come since then; to be called while the index and
    /// `.gitmodules` are still the new ones.
    pub(super) fn remove_new(&self, repo: &Repository) {
        let Some(tree) = repo.workdir() else { return };
        for submodule in repo.submodules().unwrap_or_default() {
            let path = submodule.path();
            if submodule.index_id().is_none() || self.present.contains(path) {
                continue;
            }
            // Half a repository there would stand in the way of the next attempt.
            remove(&tree.join(path));
            remove(&repo.path().join("modules").join(path));
        }
    }

    /// Checks out the submodules at the commits that the index names now, which are all here.
    pub(super) fn restore(&self, repo: &Repository) -> Result<(), git2::Error> {
        for mut submodule in repo.submodules()? {
            let is_moved = submodule.workdir_id() != submodule.index_id();
            if self.present.contains(submodule.path()) && is_moved {
                let mut options = SubmoduleUpdateOptions::new();
                options.allow_fetch(false);
                submodule.update(false, Some(&mut options))?;
            }
        }
        Ok(())
    }
}

fn remove(folder: &Path) {
    // A link there is not what the git library made.
    if fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir()) {
        let _ = staging::remove_tree(folder);
    }
}
