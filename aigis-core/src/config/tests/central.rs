use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::super::{Config, GitReference, PluginKind};
use super::{check_reports, samples, testdata};

fn config(text: &str) -> Config {
    Config::parse(text.as_bytes(), Path::new("/home/zed/config/config.aigis")).unwrap()
}

fn sample(name: &str) -> Config {
    Config::load(&testdata("config/valid").join(name)).unwrap()
}

fn names(config: &Config) -> Vec<&str> {
    config.plugins.iter().map(|p| p.name.as_str()).collect()
}

/// Loads a file that cannot be used, and returns the report.
fn refusal(path: &Path) -> String {
    Config::load(path).unwrap_err().to_string()
}

#[test]
fn every_invalid_config_gives_its_report() {
    check_reports("config/invalid", "aigis", |name, bytes| {
        Config::parse(bytes, Path::new(name)).map(drop)
    });
}

#[test]
fn every_valid_config_is_accepted() {
    for (name, bytes) in samples("config/valid", "aigis") {
        if let Err(mistakes) = Config::parse(&bytes, Path::new(&name)) {
            panic!("{mistakes}");
        }
    }
}

#[test]
fn parts_have_a_fixed_order_and_plugins_the_order_of_the_file() {
    let config = sample("order.aigis");
    let expected = [
        "zeta", "mole", "alpha", "kiwi", "fox", "ant", "tern", "emu", "yak", "bee",
    ];
    assert_eq!(names(&config), expected);
    let kinds: Vec<_> = config.plugins.iter().map(|p| p.kind).collect();
    assert!(kinds.is_sorted());
    assert_eq!(kinds.iter().filter(|&&k| k == PluginKind::Core).count(), 6);
}

#[test]
fn an_empty_config_and_missing_parts_are_fine() {
    assert_eq!(names(&sample("empty.aigis")), [""; 0]);
    assert_eq!(names(&sample("only-one-part.aigis")), ["ticker"]);
}

#[test]
fn a_byte_order_mark_and_crlf_are_fine() {
    assert_eq!(
        names(&sample("byte-order-mark-and-crlf.aigis")),
        ["zeta", "alpha"]
    );
}

#[test]
fn sources_keep_the_folder_of_the_config() {
    let config = config("[core]\nzeta = \"../zeta\"\n");
    let source = &config.get("zeta").unwrap().source;
    assert_eq!(source.location, "../zeta");
    assert_eq!(source.base, Path::new("/home/zed/config"));
    assert_eq!(source.reference, GitReference::Unspecified);
}

#[test]
fn a_relative_config_has_an_absolute_base() {
    let config = Config::parse(b"[core]\nzeta = \"z\"\n", Path::new("config.aigis")).unwrap();
    assert!(config.path.is_absolute());
    let here = std::env::current_dir().unwrap();
    assert_eq!(config.plugins[0].source.base, here);
}

#[test]
fn references_are_read() {
    let config = sample("every-key.aigis");
    let reference = |name: &str| config.get(name).unwrap().source.reference.clone();
    assert_eq!(reference("renderer"), GitReference::Tag("v1.2".to_owned()));
    assert_eq!(
        reference("gateway"),
        GitReference::Rev("0a1b2c3d".to_owned())
    );
    assert_eq!(reference("feed"), GitReference::Branch("stable".to_owned()));
    assert_eq!(reference("dotted.name"), GitReference::Unspecified);
}

#[test]
fn settings_keep_their_order_and_reach_serde() {
    #[derive(Deserialize)]
    struct Settings {
        zone: String,
        port: u16,
        area: Vec<f64>,
        opened: toml::value::Datetime,
        limits: Limits,
    }
    #[derive(Deserialize)]
    struct Limits {
        rate: u32,
        burst: u32,
    }

    let config = sample("every-key.aigis");
    let table = config.get("gateway").unwrap().settings.clone().unwrap();
    let keys: Vec<_> = table.keys().map(String::as_str).collect();
    assert_eq!(keys, ["zone", "port", "area", "opened", "limits"]);
    let settings: Settings = table.try_into().unwrap();
    assert_eq!(settings.zone, "north");
    assert_eq!(settings.port, 8080);
    assert_eq!(settings.area, [1.5, 2.5]);
    assert_eq!(settings.opened.to_string(), "2024-02-29T12:00:00Z");
    assert_eq!((settings.limits.rate, settings.limits.burst), (10, 20));
    assert_eq!(config.get("feed").unwrap().settings, None);
}

#[test]
fn entries_are_equal_when_they_say_the_same() {
    let short = config("[core]\nzeta = { source = \"z\", restart = 1, settings = { a = 1 } }\n");
    let long =
        config("# moved\n[core.zeta]\nrestart = 0x1\nsource = 'z'\n[core.zeta.settings]\na = 1\n");
    assert_eq!(short.plugins, long.plugins);
    for other in [
        "[core]\nzeta = { source = \"z\", restart = 2, settings = { a = 1 } }\n",
        "[core]\nzeta = { source = \"z\", restart = 1, settings = { a = 2 } }\n",
        "[core]\nzeta = { source = \"y\", restart = 1, settings = { a = 1 } }\n",
        "[external]\nzeta = { source = \"z\", restart = 1, settings = { a = 1 } }\n",
    ] {
        assert_ne!(short.plugins, config(other).plugins);
    }
}

#[test]
fn a_missing_config_names_the_path_and_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.aigis");
    let report = refusal(&path);
    assert!(report.contains("there is no such file"), "{report}");
    assert!(report.contains(path.to_str().unwrap()), "{report}");
    assert!(report.contains("`-c FILE`"), "{report}");
}

#[test]
fn a_folder_is_no_config() {
    let folder = tempfile::tempdir().unwrap();
    let report = refusal(folder.path());
    assert!(report.contains("found a folder"), "{report}");
}

#[test]
fn a_huge_config_is_refused_by_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.aigis");
    // Sparse: far more than could be read in the time of a test.
    fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
    let report = refusal(&path);
    assert!(report.contains("larger than 16 MiB"), "{report}");
}

#[test]
fn the_largest_config_is_accepted_and_one_byte_more_is_not() {
    let mut text = vec![b'#'; 16 << 20]; // One comment.
    assert!(Config::parse(&text, Path::new("c")).is_ok());
    text.push(b'#');
    let report = Config::parse(&text, Path::new("c"))
        .unwrap_err()
        .to_string();
    assert!(report.contains("larger than 16 MiB"), "{report}");
}

#[cfg(unix)]
#[test]
fn an_endless_device_is_refused() {
    let report = refusal(Path::new("/dev/zero"));
    assert!(report.contains("larger than 16 MiB"), "{report}");
}

#[test]
fn a_large_config_with_countless_errors_is_refused_quickly() {
    let text = "=\n".repeat(256 << 10);
    let mistakes = Config::parse(text.as_bytes(), Path::new("c")).unwrap_err();
    assert_eq!(mistakes.len(), 1);
}

#[test]
fn a_fingerprint_is_of_what_an_entry_says_and_not_of_where_it_stands() {
    let of = |text: &str| config(text).plugins[0].fingerprint();
    let plain = of("[external]\na = { source = \"s\", restart = 1, settings = { x = [1, 2] } }\n");
    let moved =
        "[core]\n\n[external]\n\n[external.a]\nsource = 's'\nrestart = 1\nsettings.x = [1, 2]\n";
    assert_eq!(plain, of(moved));
    assert_eq!(plain.len(), 64);
    for other in [
        "[external]\nb = { source = \"s\", restart = 1, settings = { x = [1, 2] } }\n",
        "[internal]\na = { source = \"s\", restart = 1, settings = { x = [1, 2] } }\n",
        "[external]\na = { source = \"t\", restart = 1, settings = { x = [1, 2] } }\n",
        "[external]\na = { source = \"s\", restart = 2, settings = { x = [1, 2] } }\n",
        "[external]\na = { source = \"s\", instances = 1, settings = { x = [1, 2] } }\n",
        "[external]\na = { source = \"s\", restart = 1, settings = { x = [1, 2, 3] } }\n",
        "[external]\na = { source = \"s\", restart = 1, settings = { x = [[1], 2] } }\n",
        "[external]\na = { source = \"s\", restart = 1 }\n",
        "[external]\na = \"s\"\n",
    ] {
        assert_ne!(plain, of(other), "{other}");
    }
}
