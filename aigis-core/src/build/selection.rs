//! Chooses what to build from what `cargo metadata` says; does no I/O of its own.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

use super::compile::Targets;
use super::{BuildError, BuildRequest, Wants};

/// The package and targets to build.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) id: PackageId,
    /// The name of the `cdylib` target.
    pub(super) library: Option<String>,
    /// The name of the binary target.
    pub(super) binary: Option<String>,
}

impl Selection {
    pub(super) fn targets(&self) -> Targets<'_> {
        Targets {
            library: self.library.as_deref(),
            binary: self.binary.as_deref(),
        }
    }
}

/// Chooses the package whose manifest is `manifest`, or the one the request names, and its
/// targets.
pub(super) fn select(
    metadata: &Metadata,
    manifest: &Path,
    request: &BuildRequest<'_>,
) -> Result<Selection, BuildError> {
    let package = choose_package(metadata, manifest, request)?;
    let (wants_library, wants_binary) = match request.wants {
        Wants::Library => (true, None),
        Wants::Binary { name, library } => (library, Some(name)),
    };
    let library = if wants_library { cdylib(package) } else { None };
    if request.wants == Wants::Library && library.is_none() {
        let mut found: Vec<_> = metadata
            .workspace_packages()
            .into_iter()
            .filter(|other| cdylib(other).is_some())
            .map(|other| other.name.to_string())
            .collect();
        found.sort();
        return Err(BuildError::NoLibrary {
            plugin: request.plugin.clone(),
            package: package.name.to_string(),
            found,
        });
    }
    let binary = wants_binary
        .map(|name| choose_binary(package, name, request))
        .transpose()?;
    Ok(Selection {
        id: package.id.clone(),
        library,
        binary,
    })
}

fn choose_package<'a>(
    metadata: &'a Metadata,
    manifest: &Path,
    request: &BuildRequest<'_>,
) -> Result<&'a Package, BuildError> {
    let members = metadata.workspace_packages();
    let found = || {
        let mut found: Vec<_> = members.iter().map(|package| describe(package)).collect();
        found.sort();
        found
    };
    let plugin = || request.plugin.clone();
    if let Some(name) = request.package {
        let named = members.iter().find(|package| package.name.as_str() == name);
        return named.copied().ok_or_else(|| BuildError::NoPackage {
            plugin: plugin(),
            package: name.to_owned(),
            found: found(),
        });
    }
    members
        .iter()
        .find(|package| package.manifest_path == manifest)
        .copied()
        .ok_or_else(|| BuildError::ChoosePackage {
            plugin: plugin(),
            found: found(),
        })
}

fn choose_binary(
    package: &Package,
    name: Option<&str>,
    request: &BuildRequest<'_>,
) -> Result<String, BuildError> {
    let binaries = binaries(package);
    let plugin = request.plugin.clone();
    let package = package.name.to_string();
    match (name, binaries.as_slice()) {
        (_, []) => Err(BuildError::NoBinary { plugin, package }),
        (Some(name), _) if binaries.iter().any(|binary| binary == name) => Ok(name.to_owned()),
        (Some(name), _) => Err(BuildError::UnknownBinary {
            plugin,
            package,
            name: name.to_owned(),
            found: binaries,
        }),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(BuildError::ChooseBinary {
            plugin,
            package,
            found: binaries,
        }),
    }
}

fn cdylib(package: &Package) -> Option<String> {
    // Cargo allows at most one library target in a package. An example may be a `cdylib` too,
    // but its kind is `example`.
    let library = package.targets.iter().find(|target| target.is_cdylib())?;
    Some(library.name.clone())
}

fn binaries(package: &Package) -> Vec<String> {
    let binaries = package.targets.iter().filter(|target| target.is_bin());
    let mut names: Vec<_> = binaries.map(|target| target.name.clone()).collect();
    names.sort();
    names
}

fn describe(package: &Package) -> String {
    let mut targets = Vec::new();
    if cdylib(package).is_some() {
        targets.push("cdylib".to_owned());
    }
    targets.extend(binaries(package).iter().map(|name| format!("bin {name}")));
    if targets.is_empty() {
        return format!("`{}`", package.name);
    }
    format!("`{}` ({})", package.name, targets.join(", "))
}

/// Everything that is compiled for one package.
#[derive(Debug)]
pub(super) struct Closure {
    pub(super) packages: HashSet<PackageId>,
    /// The packages that are neither downloaded nor carried by this program.
    pub(super) local: Vec<Local>,
    /// Crates named like one that this program carries, but taken from elsewhere.
    pub(super) foreign: Vec<String>,
}

/// A package whose sources may change under cargo's eyes.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) id: PackageId,
    pub(super) folder: PathBuf,
}

/// Follows the dependencies of `id`, except those that only its tests need.
pub(super) fn closure(
    metadata: &Metadata,
    id: &PackageId,
    sdk_folder: &Path,
    sdk_names: &[&str],
) -> Closure {
    let nodes: HashMap<_, _> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| (&node.id, node))
        .collect();
    let mut packages = HashSet::from([id.clone()]);
    let mut open = vec![id];
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        for dependency in &node.deps {
            let kinds = &dependency.dep_kinds;
            let built = kinds
                .iter()
                .any(|info| info.kind != DependencyKind::Development);
            // Cargo before 1.41 does not tell the kinds.
            if (built || kinds.is_empty()) && packages.insert(dependency.pkg.clone()) {
                open.push(&dependency.pkg);
            }
        }
    }
    let mut local = Vec::new();
    let mut foreign = Vec::new();
    for package in &metadata.packages {
        if !packages.contains(&package.id) || package.manifest_path.starts_with(sdk_folder) {
            continue;
        }
        if sdk_names.contains(&package.name.as_str()) {
            foreign.push(package.id.repr.clone());
        }
        if let (None, Some(folder)) = (&package.source, package.manifest_path.parent()) {
            local.push(Local {
                id: package.id.clone(),
                folder: folder.as_std_path().to_owned(),
            });
        }
    }
    Closure {
        packages,
        local,
        foreign,
    }
}
