use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::{
    Config, Diagnostics, Host, Launch, LogOptions, Manifest, ManifestOptions, OnCoreDeath,
    PluginEntry, PluginKind, Requirements, Resources, RestartOptions, Secret, Severity,
    StopOptions,
};
use super::{check_reports, entry, entry_for, manifest, manifest_of_bytes, samples, testdata};

const MINIMAL: &str = "PLUGIN_TYPE = \"internal\"\nENTRYPOINT = \"{root}\"\n";

fn internal(rest: &str) -> Result<Manifest, Diagnostics> {
    manifest(&format!("{MINIMAL}{rest}"), &entry(PluginKind::Internal))
}

/// Returns an internal plugin's entry with the options of one line of a config.
fn entry_with(options: &str) -> PluginEntry {
    let text = format!("[internal]\nzeta = {{ source = \"z\", {options} }}\n");
    let config = Config::parse(text.as_bytes(), Path::new("config.aigis"));
    config.unwrap().plugins.remove(0)
}

fn sample(name: &str) -> Manifest {
    let bytes = fs::read(testdata("manifest/valid").join(name)).unwrap();
    match manifest_of_bytes(&bytes, name, &entry_for(name)) {
        Ok(manifest) => manifest,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn secret(name: &str, target: &str) -> Secret {
    Secret {
        name: name.to_owned(),
        target: PathBuf::from(target),
    }
}

#[test]
fn every_invalid_manifest_gives_its_report() {
    check_reports("manifest/invalid", "config", |name, bytes| {
        manifest_of_bytes(bytes, name, &entry_for(name)).map(drop)
    });
}

#[test]
fn every_valid_manifest_is_accepted() {
    for (name, _) in samples("manifest/valid", "config") {
        sample(&name);
    }
}

#[test]
fn the_documented_core_manifest() {
    let manifest = sample("core-as-documented.config");
    let requirements = manifest.requirements.clone().unwrap();
    assert!(requirements.command.starts_with("pip3.7 install --user"));
    assert!(requirements.command.ends_with(" -r"));
    let file = requirements.file.as_deref();
    assert_eq!(file, Some("/ext/zeta/requirements.txt"));
    let expected = Manifest {
        kind: PluginKind::Core,
        entrypoint: PathBuf::from("/ext/zeta"),
        system_requirements: texts(&["pip3.7"]),
        requirements: Some(requirements),
        secrets: Vec::new(),
        readable_secrets: false,
        restart: RestartOptions::default(),
        restart_given: false,
        ready: None,
        health: None,
        after: Vec::new(),
        stop: StopOptions::default(),
        on_core_death: OnCoreDeath::Keep,
        resources: Resources::default(),
        log: LogOptions::default(),
        instances: None,
        isolate: false,
        call_timeout: None,
        drain_timeout: None,
        max_message: None,
        host: Host::Local,
        launch: Launch::None,
        package: None,
        features: Vec::new(),
        warnings: Vec::new(),
    };
    assert_eq!(manifest, expected);
}

#[test]
fn the_documented_internal_manifest() {
    let manifest = sample("internal-as-documented.config");
    assert_eq!(manifest.kind, PluginKind::Internal);
    assert_eq!(manifest.launch, Launch::Binary(Some("main".to_owned())));
    assert_eq!(manifest.system_requirements, texts(&["pip3.7", "ffmpeg"]));
    assert_eq!(
        manifest.secrets,
        [secret("super.secret", "/ext/zeta/secrets/gcreds")]
    );
    assert_eq!(manifest.warnings, []);
}

#[test]
fn the_documented_external_manifest() {
    let manifest = sample("external-as-documented.config");
    assert_eq!(manifest.kind, PluginKind::External);
    let command = texts(&["python36", "main.py"]);
    assert_eq!(manifest.launch, Launch::Command(command));
    let requirements = manifest.requirements.unwrap();
    assert_eq!(
        requirements.shell_command(),
        "pip3.6 install -r /ext/zeta/requirements.txt"
    );
    assert_eq!(
        manifest.secrets,
        [
            secret("my_app_key.secret", "/ext/zeta/src/db"),
            secret("ip.config", "/ext/zeta/src/db"),
            secret("connection_token.secret", "/ext/zeta/src/db"),
        ]
    );
}

#[test]
fn toml_tables_and_literals_say_the_same() {
    let manifest = sample("internal-toml.config");
    assert_eq!(manifest.entrypoint, Path::new("/ext/zeta/service"));
    assert_eq!(manifest.restart, RestartOptions::times(5));
    assert_eq!(manifest.host, Host::Local);
    assert_eq!(manifest.package.as_deref(), Some("gateway"));
    assert_eq!(manifest.features, texts(&["fast", "dep/feature"]));
    assert_eq!(
        manifest.secrets,
        [
            secret("tls/key.pem", "/ext/zeta/keys"),
            secret("ip.config", "/ext/zeta/etc"),
        ]
    );
    let literal = "\"\"\"Doc.\"\"\"\nPLUGIN_TYPE = 'internal'\nENTRYPOINT = '{root}/service'\n\
                   LAUNCH = 'gateway'\nRESTART = 5\nHOST = 'localhost'\nPACKAGE = 'gateway'\n\
                   FEATURES = ('fast', 'dep/feature')\nREQUIREMENT_COMMAND = 'make needs'\n\
                   SECRETS = {'tls/key.pem': '{root}/keys', 'ip.config': 'etc'}\n";
    assert_eq!(
        super::manifest(literal, &entry(PluginKind::Internal)).unwrap(),
        manifest
    );
}

#[test]
fn the_root_is_replaced_in_some_options_only() {
    let external = "PLUGIN_TYPE = 'external'\nENTRYPOINT = '{root}/a{root}'\n\
                    LAUNCH = ['{root}/run', '{root}']\nSYSTEM_REQUIREMENTS = ['{root}']\n\
                    REQUIREMENTS_COMMAND = 'make -C {root}'\n\
                    REQUIREMENTS_FILE = '{root}/x{root}/y'\n\
                    [SECRETS]\n'{root}/key' = '{root}/{root}/keys'\n";
    let parsed = manifest(external, &entry(PluginKind::External)).unwrap();
    assert_eq!(parsed.entrypoint, Path::new("/ext/zeta/a/ext/zeta"));
    assert_eq!(
        parsed.requirements.unwrap(),
        Requirements {
            command: "make -C {root}".to_owned(),
            file: Some("/ext/zeta/x/ext/zeta/y".to_owned()),
        }
    );
    assert_eq!(
        parsed.secrets,
        [secret("{root}/key", "/ext/zeta/ext/zeta/keys")]
    );
    assert_eq!(parsed.system_requirements, ["{root}"]);
    let command = texts(&["{root}/run", "{root}"]);
    assert_eq!(parsed.launch, Launch::Command(command));

    let parsed = internal("LAUNCH = '{root}/bin{root}'\nPACKAGE = '{root}'\n").unwrap();
    let binary = "/ext/zeta/bin/ext/zeta".to_owned();
    assert_eq!(parsed.launch, Launch::Binary(Some(binary)));
    assert_eq!(parsed.package.as_deref(), Some("{root}"));
}

#[test]
fn an_entrypoint_is_relative_to_the_root() {
    for (written, expected) in [
        ("{root}", "/ext/zeta"),
        ("{root}/", "/ext/zeta"),
        (".", "/ext/zeta"),
        ("./src/./main", "/ext/zeta/src/main"),
        ("src/../lib", "/ext/zeta/src/../lib"),
        ("/opt/zeta", "/opt/zeta"),
    ] {
        let text = format!("PLUGIN_TYPE = 'core'\nENTRYPOINT = '{written}'\n");
        let parsed = manifest(&text, &entry(PluginKind::Core)).unwrap();
        assert_eq!(parsed.entrypoint, Path::new(expected), "{written}");
        assert_eq!(
            parsed.entrypoint.as_os_str(),
            expected,
            "as the command line shows it"
        );
    }
}

#[test]
fn a_shell_sees_the_file_as_one_word() {
    let line = |file: Option<&str>| {
        Requirements {
            command: "install -r".to_owned(),
            file: file.map(ToOwned::to_owned),
        }
        .shell_command()
    };
    assert_eq!(line(None), "install -r");
    assert_eq!(line(Some("/a/b-c_d.txt")), "install -r /a/b-c_d.txt");
    assert_eq!(line(Some("/a b/c")), "install -r '/a b/c'");
    assert_eq!(line(Some("it's; rm *")), r"install -r 'it'\''s; rm *'");
    assert_eq!(line(Some("~/x")), "install -r '~/x'");
    assert_eq!(line(Some("é$(x)")), "install -r 'é$(x)'");
}

#[test]
fn requirements_need_a_command() {
    let parsed = internal("REQUIREMENTS_FILE = 'needs.txt'\n").unwrap();
    assert_eq!(parsed.requirements, None);
    let [warning] = &parsed.warnings[..] else {
        panic!("{:?}", parsed.warnings);
    };
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.message.contains("`REQUIREMENTS_FILE` is ignored"));
    assert_eq!(warning.line, Some(3));

    for nothing in ["REQUIREMENTS_COMMAND = ' '\n", ""] {
        let parsed = internal(nothing).unwrap();
        assert_eq!((parsed.requirements, parsed.warnings.len()), (None, 0));
    }
    let parsed = internal("REQUIREMENT_COMMAND = 'make '\nREQUIREMENT_FILE = ''\n").unwrap();
    assert_eq!(parsed.requirements.unwrap().shell_command(), "make");
}

#[test]
fn an_override_wins_over_a_manifest_that_is_wrong_there() {
    let text = "RESTART = 'often'\nHOST = 'far.example.org'\nREQUIREMENT_COMMAND = 'a'\n\
                REQUIREMENTS_COMMAND = 'b'\nSECRETS = { a = '{root}' }\n";
    assert_eq!(internal(text).unwrap_err().len(), 3);
    let overriding = entry_with(
        "restart = 7, host = \"127.0.0.1\", requirements_command = \"c\", secrets = { b = \"x\" }, \
         entrypoint = \"{root}/y\"",
    );
    let parsed = manifest(&format!("{MINIMAL}{text}"), &overriding).unwrap();
    assert_eq!(parsed.restart, RestartOptions::times(7));
    assert_eq!(parsed.host, Host::Local);
    assert_eq!(parsed.requirements.unwrap().command, "c");
    assert_eq!(parsed.secrets, [secret("b", "/ext/zeta/x")]);
    assert_eq!(parsed.entrypoint, Path::new("/ext/zeta/y"));
}

#[test]
fn an_override_may_give_what_the_manifest_lacks() {
    let overriding = entry_with("entrypoint = \"src\", launch = \"daemon\"");
    let parsed = manifest("PLUGIN_TYPE = 'internal'\n", &overriding).unwrap();
    assert_eq!(parsed.entrypoint, Path::new("/ext/zeta/src"));
    assert_eq!(parsed.launch, Launch::Binary(Some("daemon".to_owned())));
}

#[test]
fn a_mistake_in_an_override_points_into_the_config() {
    // Whether an absolute folder is the plugin's own is only known once the plugin has one.
    let overriding = entry_with("secrets = { key = \"/etc\" }");
    let mistakes = manifest(MINIMAL, &overriding).unwrap_err();
    let mistake = mistakes.iter().next().unwrap();
    assert_eq!((mistakes.len(), mistake.line), (1, Some(2)));
    assert_eq!(mistake.file, Path::new("config.aigis"));
    assert!(mistake.message.contains("inside the plugin's own folder"));
}

#[test]
fn overrides_can_be_given_in_code() {
    let table: toml::Table = toml::from_str("restart = 3\nlaunch = 'main'\n").unwrap();
    let mut in_code = entry(PluginKind::Internal);
    in_code.overrides = ManifestOptions::from_table(&table).unwrap();
    let parsed = manifest(MINIMAL, &in_code).unwrap();
    assert_eq!(parsed.restart, RestartOptions::times(3));
    assert_eq!(parsed.launch, Launch::Binary(Some("main".to_owned())));

    let wrong: toml::Table = toml::from_str("plugin_type = 'core'\nRESTART = 3\n").unwrap();
    assert_eq!(ManifestOptions::from_table(&wrong).unwrap_err().len(), 2);
}

#[test]
fn names_of_this_host_are_local() {
    let own = rustix::system::uname();
    let own = own.nodename().to_string_lossy();
    for name in ["localhost", "LocalHost", "127.0.0.1", "::1", own.as_ref()] {
        assert_eq!(Host::parse(name), Host::Local, "{name}");
    }
    let far = "far.example.org".to_owned();
    assert_eq!(Host::parse(&far), Host::Other(far.clone()));
}

#[test]
fn options_that_do_nothing_for_the_kind_are_warned_about() {
    let core =
        "PLUGIN_TYPE = 'core'\nENTRYPOINT = '.'\nLAUNCH = 'main'\nHOST = 'far.example.org'\n";
    let parsed = manifest(core, &entry(PluginKind::Core)).unwrap();
    assert_eq!(parsed.launch, Launch::None);
    assert_eq!(parsed.host, Host::Local);
    let lines: Vec<_> = parsed.warnings.iter().map(|w| w.line).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.contains(&Some(3)) && lines.contains(&Some(4)));

    let external = "PLUGIN_TYPE = 'external'\nENTRYPOINT = '.'\nLAUNCH = ['x', '']\n\
                    PACKAGE = 'p'\nFEATURES = ['f']\n";
    let parsed = manifest(external, &entry(PluginKind::External)).unwrap();
    assert_eq!(parsed.launch, Launch::Command(texts(&["x", ""])));
    assert_eq!(parsed.warnings.len(), 2);
}

#[test]
fn restart_has_bounds() {
    assert_eq!(
        internal("RESTART = 0\n").unwrap().restart,
        RestartOptions::times(0)
    );
    let most = internal("RESTART = 1_000_000\n").unwrap();
    assert_eq!(most.restart, RestartOptions::times(1_000_000));
    for wrong in [
        "-1",
        "1000001",
        "1.0",
        "true",
        "4294967296",
        "-99999999999999999999999",
    ] {
        let mistakes = internal(&format!("RESTART = {wrong}\n")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{wrong}");
    }
}

#[test]
fn instances_have_bounds() {
    assert_eq!(internal("").unwrap().instances, None);
    for (written, count) in [("1", 1), ("64", 64)] {
        let parsed = internal(&format!("INSTANCES = {written}\n")).unwrap();
        assert_eq!((parsed.instances, parsed.warnings.len()), (Some(count), 0));
    }
    for wrong in ["0", "65", "-1", "2.0", "'2'", "99999999999999999999999"] {
        let mistakes = internal(&format!("INSTANCES = {wrong}\n")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{wrong}");
        let hint = mistakes.iter().next().and_then(|one| one.hint.as_deref());
        let hint = hint.unwrap_or_default();
        assert!(hint.contains("leave `INSTANCES` out"), "{hint}");
    }
    let overriding = entry_with("instances = 3");
    let parsed = manifest(&format!("{MINIMAL}INSTANCES = 2\n"), &overriding).unwrap();
    assert_eq!(parsed.instances, Some(3), "the entry's counts");
    let core = "PLUGIN_TYPE = 'core'\nENTRYPOINT = '.'\nINSTANCES = 2\n";
    let parsed = manifest(core, &entry(PluginKind::Core)).unwrap();
    assert_eq!((parsed.instances, parsed.warnings.len()), (None, 1));
}

#[test]
fn a_library_can_be_isolated() {
    let core = "PLUGIN_TYPE = 'core'\nENTRYPOINT = '.'\n";
    let isolate = |more: &str| manifest(&format!("{core}{more}"), &entry(PluginKind::Core));
    assert!(!isolate("").unwrap().isolate);
    assert!(isolate("ISOLATE = true\n").unwrap().isolate);
    assert!(!isolate("ISOLATE = false\n").unwrap().isolate);
    assert_eq!(isolate("ISOLATE = 1\n").unwrap_err().len(), 1);
    let overriding = entry_with("isolate = true");
    let parsed = manifest(&format!("{MINIMAL}ISOLATE = false\n"), &overriding).unwrap();
    assert!(parsed.isolate, "the entry's counts");
    let external = "PLUGIN_TYPE = 'external'\nENTRYPOINT = '.'\nLAUNCH = ['x']\nISOLATE = true\n";
    let parsed = manifest(external, &entry(PluginKind::External)).unwrap();
    assert_eq!((parsed.isolate, parsed.warnings.len()), (false, 1));
}

#[test]
fn a_call_timeout_is_a_number_of_seconds() {
    for (written, milliseconds) in [("30", 30_000), ("0.5", 500), ("0.01", 10)] {
        let parsed = internal(&format!("CALL_TIMEOUT = {written}\n")).unwrap();
        let expected = Duration::from_millis(milliseconds);
        assert_eq!(parsed.call_timeout, Some(expected), "{written}");
        assert_eq!(parsed.warnings, []);
    }
    for wrong in [
        "0",
        "-1",
        "0.001",
        "nan",
        "inf",
        "\"30\"",
        "true",
        "99999999999999999999999",
    ] {
        let mistakes = internal(&format!("CALL_TIMEOUT = {wrong}\n")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{wrong}: {mistakes}");
    }
}

#[test]
fn a_drain_timeout_is_a_number_of_seconds() {
    let parsed = internal("DRAIN_TIMEOUT = 0.5\n").unwrap();
    assert_eq!(parsed.drain_timeout, Some(Duration::from_millis(500)));
    let mistakes = internal("DRAIN_TIMEOUT = \"soon\"\n").unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes}");
}

#[test]
fn a_limit_of_messages_is_a_number_of_bytes_or_has_a_unit() {
    for (written, expected) in [
        ("65536", 64 << 10),
        ("1000000", 1_000_000),
        ("'64 KiB'", 64 << 10),
        ("'256MiB'", 256 << 20),
        ("' 1 GiB '", 1 << 30),
    ] {
        let parsed = internal(&format!("MAX_MESSAGE = {written}\n")).unwrap();
        assert_eq!(parsed.max_message, Some(expected), "{written}");
        assert_eq!(parsed.warnings, []);
    }
    for wrong in [
        "0",
        "-1",
        "65535",
        "1.5",
        "true",
        "'1.5 MiB'",
        "'many'",
        "'2 GiB'",
        "'MiB'",
        "'1 MB'",
        "'99999999999999999999 GiB'",
        "1073741825",
    ] {
        let mistakes = internal(&format!("MAX_MESSAGE = {wrong}\n")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{wrong}: {mistakes}");
        assert!(mistakes.to_string().contains("MAX_MESSAGE"), "{mistakes}");
    }
}

#[test]
fn a_secret_may_go_anywhere_inside_the_folder() {
    for (written, expected) in [
        ("{root}", "/ext/zeta"),
        ("/ext/zeta/a", "/ext/zeta/a"),
        ("a/../b", "/ext/zeta/b"),
        ("../zeta/c", "/ext/zeta/c"),
    ] {
        let parsed = internal(&format!("SECRETS = {{ key = '{written}' }}\n")).unwrap();
        assert_eq!(parsed.secrets, [secret("key", expected)], "{written}");
    }
}

/// Makes a plugin's folder with a manifest in it.
fn plugin_folder(manifest: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("AIGIS")).unwrap();
    fs::write(folder.path().join("AIGIS/AIGIS.config"), manifest).unwrap();
    folder
}

#[test]
fn a_manifest_is_read_from_its_place() {
    let folder = plugin_folder(MINIMAL.as_bytes());
    let parsed = Manifest::load(folder.path(), &entry(PluginKind::Internal)).unwrap();
    assert_eq!(parsed.entrypoint, folder.path());
    assert_eq!(parsed.launch, Launch::Binary(None));
}

#[test]
fn a_missing_manifest_names_its_place_and_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let mistakes = Manifest::load(folder.path(), &entry(PluginKind::External)).unwrap_err();
    let report = mistakes.to_string();
    for part in [
        "plugin `zeta`",
        "AIGIS/AIGIS.config",
        "PLUGIN_TYPE = \"external\"",
    ] {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn a_manifest_that_is_too_large_is_refused() {
    let folder = plugin_folder(&vec![b'\n'; (1 << 20) + 1]);
    let mistakes = Manifest::load(folder.path(), &entry(PluginKind::Core)).unwrap_err();
    let report = mistakes.to_string();
    assert!(report.contains("larger than 1 MiB"), "{report}");
}

#[cfg(unix)]
#[test]
fn a_manifest_that_is_a_device_or_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("AIGIS/AIGIS.config");
    fs::create_dir_all(&place).unwrap();
    let load = || {
        Manifest::load(folder.path(), &entry(PluginKind::Core))
            .unwrap_err()
            .to_string()
    };
    assert!(load().contains("found a folder"));
    fs::remove_dir(&place).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &place).unwrap();
    assert!(load().contains("expected a regular file"));
}

#[cfg(unix)]
#[test]
fn a_root_that_is_not_utf_8_matters_only_where_it_is_used() {
    use std::os::unix::ffi::OsStrExt;
    let root = Path::new(std::ffi::OsStr::from_bytes(b"/ext/\xff"));
    let parse = |text: &str| {
        let bytes = text.as_bytes().to_vec();
        Manifest::parse(bytes, Path::new("m"), root, &entry(PluginKind::Core))
    };
    let parsed = parse("PLUGIN_TYPE = 'core'\nENTRYPOINT = 'src'\n").unwrap();
    assert_eq!(parsed.entrypoint, root.join("src"));
    let report = parse("PLUGIN_TYPE = 'core'\nENTRYPOINT = '{root}'\n")
        .unwrap_err()
        .to_string();
    assert!(report.contains("not valid UTF-8"), "{report}");
}
