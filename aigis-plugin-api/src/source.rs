//! The sources of the crates that a plugin is built with, for the program that builds plugins.

/// Each crate: its name and its files, as paths and contents.
pub const CRATES: &[(&str, &[(&str, &str)])] = &[
    ("aigis-plugin-api", aigis_macros::__callers_source!()),
    ("aigis-macros", aigis_macros::__own_source!()),
];
