//! The sources of the two crates that plugins are built with, for the program that builds them.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use quote::quote;

/// This crate's own files; `tests::nothing_is_left_out` keeps the list complete.
const OWN: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../Cargo.toml")),
    ("src/attributes.rs", include_str!("attributes.rs")),
    ("src/block/handover.rs", include_str!("block/handover.rs")),
    ("src/block/mod.rs", include_str!("block/mod.rs")),
    ("src/block/module.rs", include_str!("block/module.rs")),
    ("src/block/state.rs", include_str!("block/state.rs")),
    ("src/direct.rs", include_str!("direct.rs")),
    ("src/expand.rs", include_str!("expand.rs")),
    ("src/function.rs", include_str!("function.rs")),
    ("src/import.rs", include_str!("import.rs")),
    ("src/launch.rs", include_str!("launch.rs")),
    ("src/lib.rs", include_str!("lib.rs")),
    ("src/skill_type.rs", include_str!("skill_type.rs")),
    ("src/source.rs", include_str!("source.rs")),
    ("src/types.rs", include_str!("types.rs")),
];

pub(crate) fn own() -> TokenStream {
    let (paths, contents): (Vec<_>, Vec<_>) = OWN.iter().copied().unzip();
    quote!(&[#((#paths, #contents)),*])
}

pub(crate) fn of_caller() -> TokenStream {
    let Some(root) = std::env::var_os("CARGO_MANIFEST_DIR") else {
        return quote!(::std::compile_error!("cargo sets CARGO_MANIFEST_DIR"));
    };
    let root = PathBuf::from(root);
    let mut files = vec!["Cargo.toml".to_owned()];
    if root.join("build.rs").is_file() {
        files.push("build.rs".to_owned());
    }
    if let Err(error) = collect(&root, Path::new("src"), &mut files) {
        let message = format!("the sources cannot be listed: {error}");
        return quote!(::std::compile_error!(#message));
    }
    files.sort();
    let full = files
        .iter()
        .map(|file| root.join(file).to_string_lossy().into_owned());
    quote!(&[#((#files, ::std::include_str!(#full))),*])
}

/// Lists the Rust files below `root/folder`, without tests, as paths relative to `root`.
fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name != "tests" && name != "testdata")
            {
                collect(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out() {
        let mut files = vec!["Cargo.toml".to_owned()];
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        collect(root, Path::new("src"), &mut files).expect("the sources are there");
        files.sort();
        let listed: Vec<_> = OWN.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed, files);
    }
}
