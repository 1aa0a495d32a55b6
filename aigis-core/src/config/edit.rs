//! Changes of the text of a config: one plugin more or less, with all else as its author wrote it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use toml_edit::{DocumentMut, InlineTable, Item, Table, Value};

use super::entry::PluginKind;
use super::name::PluginName;

/// Why a config cannot be edited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// It is no TOML, or no config.
    #[error("the config cannot be edited: {0}")]
    Unreadable(String),
    /// The name is taken.
    #[error("the config lists a plugin `{name}` already, under `[{kind}]`")]
    Listed { name: PluginName, kind: PluginKind },
    /// The file cannot be read or written.
    #[error("the config `{path}` cannot be {what}")]
    Io {
        path: String,
        what: &'static str,
        source: io::Error,
    },
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the text of a config that also lists a plugin, as the last one of its part. `entry` is what stands
/// after `name =`.
///
/// # Errors
/// The text is no config, or lists the name already.
pub(crate) fn add_plugin(
    text: &str,
    kind: PluginKind,
    name: &PluginName,
    entry: &str,
) -> Result<String, EditError> {
    let value: Value = entry.parse().map_err(unreadable)?;
    edited(text, |document| {
        if let Some(kind) = part_of(document, name) {
            let name = name.clone();
            return Err(EditError::Listed { name, kind });
        }
        let part = document
            .entry(kind.as_str())
            .or_insert_with(|| Item::Table(Table::new()));
        match part {
            Item::Table(table) => {
                // A part that has only tables of its own, such as `[core.web]`, may have no line of its own.
                table.set_implicit(false);
                table.insert(name.as_str(), Item::Value(value));
            }
            Item::Value(Value::InlineTable(table)) => {
                InlineTable::insert(table, name.as_str(), value);
            }
            _ => return Err(no_part(kind)),
        }
        Ok(())
    })
}

/// Returns the text of a config that does not list a plugin; `None` if it does not anyhow.
///
/// # Errors
/// The text is no config.
pub(crate) fn remove_plugin(text: &str, name: &PluginName) -> Result<Option<String>, EditError> {
    let mut listed = false;
    let text = edited(text, |document| {
        for kind in PluginKind::ALL {
            let part = document.get_mut(kind.as_str());
            if let Some(table) = part.and_then(Item::as_table_like_mut) {
                listed |= table.remove(name.as_str()).is_some();
            }
        }
        Ok(())
    })?;
    Ok(listed.then_some(text))
}

/// Puts a text in the place of a config, in one step; who may read it stays as it is.
///
/// # Errors
/// The file cannot be written; then it is as it was.
pub(crate) fn write_config(path: &Path, text: &str) -> Result<(), EditError> {
    let failed = |source: io::Error| EditError::Io {
        path: path.display().to_string(),
        what: "written",
        source,
    };
    // A link stays one.
    let place = fs::canonicalize(path).map_err(failed)?;
    let folder = place.parent().unwrap_or(Path::new("/"));
    let before = fs::metadata(&place).map_err(failed)?;
    let file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    fs::write(file.path(), text).map_err(failed)?;
    // Whoever may not give it away owns it already, or its folder.
    let _ = fchown(file.as_file(), Some(before.uid()), Some(before.gid()));
    file.as_file()
        .set_permissions(before.permissions())
        .map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&place).map_err(|error| failed(error.error))?;
    Ok(())
}

fn edited(
    text: &str,
    edit: impl FnOnce(&mut DocumentMut) -> Result<(), EditError>,
) -> Result<String, EditError> {
    let (mark, text) = match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => (&text[..BYTE_ORDER_MARK.len_utf8()], rest),
        None => ("", text),
    };
    let mut document: DocumentMut = text.parse().map_err(unreadable)?;
    edit(&mut document)?;
    let mut edited = document.to_string();
    // What is written anew ends its lines as the others do.
    if text.contains("\r\n") {
        edited = edited.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    Ok(format!("{mark}{edited}"))
}

fn part_of(document: &DocumentMut, name: &PluginName) -> Option<PluginKind> {
    PluginKind::ALL.into_iter().find(|kind| {
        let part = document.get(kind.as_str()).and_then(Item::as_table_like);
        part.is_some_and(|part| part.contains_key(name.as_str()))
    })
}

fn unreadable(error: toml_edit::TomlError) -> EditError {
    EditError::Unreadable(error.to_string())
}

fn no_part(kind: PluginKind) -> EditError {
    EditError::Unreadable(format!("`{kind}` is no table of plugins"))
}
