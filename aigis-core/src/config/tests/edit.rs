//! Changes of the text of a config.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::{PluginKind, PluginName, add_plugin, remove_plugin, write_config};

const CONFIG: &str = "\
# What runs here.

[core]
# It greets.
greeter = \"../greeter\"   # from the folder above

site   =   { source = '../site', settings = { a = 1 } }

# The web.
[internal.web]
source = \"../web\"
  [internal.web.settings]
  port = 1 # any

[external]
notes = \"../notes\"
# The end.
";

fn name(text: &str) -> PluginName {
    text.parse().expect("is a name")
}

#[test]
fn a_plugin_is_added_and_all_else_stays() {
    let added = add_plugin(
        CONFIG,
        PluginKind::Core,
        &name("new"),
        "{ source = \"x\", restart = 2 }",
    );
    let expected = CONFIG.replace(
        "settings = { a = 1 } }\n",
        "settings = { a = 1 } }\nnew = { source = \"x\", restart = 2 }\n",
    );
    assert_eq!(added.expect("is added"), expected);
    let dotted = add_plugin(CONFIG, PluginKind::External, &name("a.b"), "\"x\"").expect("is added");
    assert!(
        dotted.contains("notes = \"../notes\"\n\"a.b\" = \"x\"\n"),
        "{dotted}"
    );
    // A part that has no line of its own yet, or is not there at all.
    let text = add_plugin(CONFIG, PluginKind::Internal, &name("new"), "\"x\"").expect("is added");
    let config: toml::Table = toml::from_str(&text).expect("is TOML");
    assert_eq!(config["internal"]["new"].as_str(), Some("x"));
    assert_eq!(
        config["internal"]["web"]["settings"]["port"].as_integer(),
        Some(1)
    );
    let text = add_plugin("", PluginKind::Core, &name("new"), "\"x\"").expect("is added");
    assert_eq!(text, "[core]\nnew = \"x\"\n");
    for taken in ["web", "greeter", "notes"] {
        let error = add_plugin(CONFIG, PluginKind::Core, &name(taken), "\"x\"");
        let error = error.expect_err("is there").to_string();
        assert!(error.contains("already, under `["), "{error}");
    }
    assert!(add_plugin("[core", PluginKind::Core, &name("new"), "\"x\"").is_err());
}

#[test]
fn a_plugin_is_removed_with_all_of_its_tables() {
    let removed = |text: &str, plugin: &str| remove_plugin(text, &name(plugin)).expect("is read");
    let expected = CONFIG.replace(
        "# It greets.\ngreeter = \"../greeter\"   # from the folder above\n",
        "",
    );
    assert_eq!(removed(CONFIG, "greeter"), Some(expected));
    let web = removed(CONFIG, "web").expect("was listed");
    assert!(!web.contains("web") && !web.contains("port"), "{web}");
    assert!(
        web.starts_with("# What runs here.\n\n[core]\n# It greets.\n"),
        "{web}"
    );
    assert!(
        web.ends_with("[external]\nnotes = \"../notes\"\n# The end.\n"),
        "{web}"
    );
    assert_eq!(removed(CONFIG, "nobody"), None);
}

#[test]
fn what_was_added_can_be_removed_again() {
    for text in [
        CONFIG,
        &CONFIG.replace('\n', "\r\n"),
        &format!("\u{feff}{CONFIG}"),
    ] {
        let with = add_plugin(text, PluginKind::External, &name("new"), "\"x\"").expect("is added");
        assert_ne!(with, *text);
        let without = remove_plugin(&with, &name("new")).expect("is read");
        assert_eq!(without.as_deref(), Some(text));
    }
}

#[test]
fn a_file_is_replaced_and_keeps_its_mode() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, link) = (folder.path().join("config"), folder.path().join("link"));
    fs::write(&file, CONFIG).expect("writes");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("is ours");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    write_config(&link, "[core]\n").expect("is written");
    assert_eq!(fs::read_to_string(&file).expect("is there"), "[core]\n");
    let mode = fs::metadata(&file).expect("is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
    assert_eq!(fs::read_dir(folder.path()).expect("is there").count(), 2);
    assert!(write_config(&folder.path().join("none"), "").is_err());
}
