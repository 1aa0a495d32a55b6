//! What plugins need before they run: programs, commands, secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aigis_core::{Host, PluginStatus, State};

use crate::support::home::TestHome;
use crate::support::{plugins, reaches};

fn status_of(host: &Host, name: &str) -> PluginStatus {
    let status = host.status();
    let found = status.iter().find(|plugin| plugin.name == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {status:#?}"))
        .clone()
}

fn error_of(host: &Host, name: &str) -> String {
    let status = status_of(host, name);
    assert_eq!(status.state, State::Failed, "{status:?}");
    status.error.expect("a plugin that failed says why")
}

/// Writes external plugins that wait, each with its own options, and a config of them all.
fn write_waiting(home: &TestHome, all: &[(&str, &str)]) {
    let mut config = "[external]\n".to_owned();
    for (name, options) in all {
        plugins::external(home, name, options, "exec sleep 600");
        config.push_str(&format!("{name} = \"{{sources}}/{name}\"\n"));
    }
    home.config(&config);
}

#[test]
fn requirements_come_first_and_their_failure_is_one_plugins_own() {
    let home = TestHome::new();
    write_waiting(
        &home,
        &[
            (
                "missing",
                "SYSTEM_REQUIREMENTS = [\"sh\", \"no-such-tool\", \"{root}/nor-this\"]\n\
                 REQUIREMENTS_COMMAND = \"touch ran\"",
            ),
            (
                "failing",
                "REQUIREMENTS_COMMAND = \"echo out; echo the reason >&2; exit 7\"\n\
                 SECRETS = { \"missing\" = \"{root}\" }",
            ),
            ("none", ""),
            (
                "old_spelling",
                "REQUIREMENT_COMMAND = \"ls >\"\nREQUIREMENT_FILE = \"{root}/a list\"",
            ),
            (
                "new_spelling",
                "REQUIREMENTS_COMMAND = \"ls >\"\nREQUIREMENTS_FILE = \"{root}/a list\"",
            ),
            (
                "shell",
                "REQUIREMENTS_COMMAND = \"pwd > where && echo '{root}' > literal; echo a line\"",
            ),
            ("no_command", "REQUIREMENTS_FILE = \"list\""),
            (
                "contradiction",
                "REQUIREMENTS_COMMAND = \"true\"\nREQUIREMENT_COMMAND = \"false\"",
            ),
        ],
    );
    let entrypoint = "ENTRYPOINT = \"{root}\"";
    let manifest = home.source("shell").join("AIGIS/AIGIS.config");
    let text = fs::read_to_string(&manifest).expect("was written");
    let text = text.replace(entrypoint, "ENTRYPOINT = \"{root}/below\"");
    fs::write(&manifest, text.replace("./run.sh", "../run.sh")).expect("writes");
    plugins::write_into(&home.source("shell"), &[("below/file", "")]);
    let host = home.host();
    let ext = |path: &str| home.path().join("ext").join(path);

    // All that is missing is named at once, and nothing was run; `{root}` is only text there.
    let error = error_of(&host, "missing");
    assert!(
        error.contains("Host has no no-such-tool, {root}/nor-this installed"),
        "{error}"
    );
    assert!(!ext("missing/ran").exists());

    let error = error_of(&host, "failing");
    for part in ["error code 7", "out", "the reason"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert!(
        !error.contains("secret"),
        "requirements come before secrets: {error}"
    );
    assert!(home.plugin_log("failing").contains(": the reason"));

    assert_eq!(status_of(&host, "none").state, State::Ready);
    let log = home.plugin_log("none");
    assert!(log.contains("WARNING : No requirements provided"), "{log}");

    for name in ["old_spelling", "new_spelling"] {
        assert_eq!(
            status_of(&host, name).state,
            State::Ready,
            "{}",
            home.plugin_log(name)
        );
        assert!(
            ext(name).join("a list").exists(),
            "{}",
            home.plugin_log(name)
        );
    }

    assert_eq!(
        status_of(&host, "shell").state,
        State::Ready,
        "{}",
        home.plugin_log("shell")
    );
    let here = ext("shell/below").canonicalize().expect("is there");
    let read = |path: &str| fs::read_to_string(ext(path)).expect("was written");
    assert_eq!(Path::new(read("shell/below/where").trim()), here);
    assert_eq!(read("shell/below/literal"), "{root}\n");
    assert!(home.plugin_log("shell").contains(": a line"));

    assert_eq!(status_of(&host, "no_command").state, State::Ready);
    assert!(
        home.plugin_log("no_command")
            .contains("there is no command to run with it")
    );

    let error = error_of(&host, "contradiction");
    assert!(error.contains("contradicts"), "{error}");
    // What a failed plugin lacked can be brought, and it starts.
    let fixed = home.path().join("ext/failing/AIGIS/AIGIS.config");
    let text = fs::read_to_string(&fixed).expect("was copied");
    let text: String = text
        .lines()
        .filter(|line| !line.contains("SECRETS"))
        .fold(String::new(), |text, line| {
            text + &line.replace("exit 7", "exit 0") + "\n"
        });
    fs::write(&fixed, text).expect("writes");
    host.start_plugin("failing").expect("its command succeeds");
    let status = reaches(&host, "failing", State::Ready);
    assert_eq!(status.error, None, "{status:?}");
}

#[test]
fn root_is_replaced_where_the_original_did_and_nowhere_else() {
    let home = TestHome::new();
    plugins::write(
        &home,
        "plugin",
        &[
            (
                "AIGIS/AIGIS.config",
                "PLUGIN_TYPE = \"external\"\nENTRYPOINT = \"{root}/in\"\n\
                 LAUNCH = [\"../run.sh\", \"{root}/x\"]\nSECRETS = { \"{root}\" = \"{root}/{root}\" }\n",
            ),
            ("in/file", ""),
            (
                "run.sh",
                "#!/bin/sh\necho \"given $1\"\npwd\nexec sleep 600\n",
            ),
        ],
    );
    home.config("[external]\nplugin = \"{sources}/plugin\"\n");
    home.write("secrets/plugin/{root}", "content");
    let host = home.host();
    let root = home
        .path()
        .join("ext/plugin")
        .canonicalize()
        .expect("is there");
    assert_eq!(
        status_of(&host, "plugin").state,
        State::Ready,
        "{:?}",
        host.status()
    );
    // The value has the folder twice, the second time below the first; the name has none.
    let given = home.path().join("ext/plugin");
    let secret = Path::new(&format!("{}/{}", given.display(), given.display())).join("{root}");
    assert_eq!(
        fs::read_to_string(&secret).expect("was delivered"),
        "content"
    );
    let line = home.wait_for_log("plugin", "given ");
    assert!(line.ends_with("given {root}/x"), "{line}");
    home.wait_for_log("plugin", &format!(": {}", root.join("in").display()));
}

#[test]
fn secrets_come_all_or_none_and_go_with_the_plugin() {
    let home = TestHome::new();
    write_waiting(
        &home,
        &[
            (
                "plugin",
                "SECRETS = { \"one\" = \"{root}/deep/folder\", \"in/two\" = \"{root}/deep\", \
                 \"three\" = \"{root}\" }",
            ),
            ("other", ""),
        ],
    );
    let store = home.path().join("secrets/plugin");
    home.write("secrets/plugin/in/two", "secret-two");
    let host = home.host();
    let error = error_of(&host, "plugin");
    for missing in ["one", "three"] {
        let path = store.join(missing).display().to_string();
        assert!(error.contains(&path), "no {path} in {error}");
    }
    assert!(!error.contains("in/two"), "{error}");
    let delivered = ["deep/folder/one", "deep/two", "three"]
        .map(|path| home.path().join("ext/plugin").join(path));
    assert!(
        !home.path().join("ext/plugin/deep").exists(),
        "nothing was copied"
    );
    assert_eq!(status_of(&host, "other").state, State::Ready);

    home.write("secrets/plugin/one", "secret-one");
    home.write("secrets/plugin/three", "secret-three");
    fs::set_permissions(store.join("three"), fs::Permissions::from_mode(0o400)).expect("ours");
    host.start_plugin("plugin").expect("they are there");
    for (path, content) in delivered
        .iter()
        .zip(["secret-one", "secret-two", "secret-three"])
    {
        assert_eq!(fs::read_to_string(path).expect("was delivered"), content);
        let mode = fs::metadata(path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o400, "{}", path.display());
    }
    host.stop("plugin").expect("runs");
    assert!(
        delivered.iter().all(|path| !path.is_symlink()),
        "they went with it"
    );

    // What was changed counts from the next start on; so does what is missing now.
    home.write("secrets/plugin/one", "secret-new");
    host.start_plugin("plugin").expect("they are there");
    assert_eq!(
        fs::read_to_string(&delivered[0]).expect("is there"),
        "secret-new"
    );
    host.reload("plugin", false).expect("they are there");
    reaches(&host, "plugin", State::Ready);
    assert!(
        delivered.iter().all(|path| path.exists()),
        "the new process has its own"
    );
    host.shutdown();
    assert!(
        delivered.iter().all(|path| !path.is_symlink()),
        "they went with it"
    );
    for log in [home.core_log(), home.plugin_log("plugin")] {
        assert!(!log.contains("secret-"), "{log}");
    }
    // Nothing half written stays behind.
    let left = fs::read_dir(home.path().join("ext/plugin"))
        .expect("is there")
        .flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with('.')),
        "{left:?}"
    );
}

/// Refuses to start when its secret says so, and remembers what it was at its start.
const KEEPER: &str = r#"
use aigis_plugin_api::{Context, skills};

pub struct Keeper {
    at_start: String,
}

fn read() -> String {
    let home = std::env::current_dir();
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/keys/key"))
        .unwrap_or_else(|error| format!("{error} in {home:?}"))
}

#[skills(namespace = "keeper")]
impl Keeper {
    pub fn new(_ctx: &Context) -> Result<Self, String> {
        match read() {
            secret if secret == "poison" => Err("it is poisoned".to_owned()),
            at_start => Ok(Self { at_start }),
        }
    }

    pub fn at_start(&self) -> String {
        self.at_start.clone()
    }

    pub fn now(&self) -> String {
        read()
    }
}
"#;

#[test]
fn secrets_belong_to_one_generation() {
    let home = TestHome::new();
    plugins::core(&home, "keeper", KEEPER);
    home.config(
        "[core]\nkeeper = { source = \"{sources}/keeper\", secrets = { key = \"{root}/keys\" } }\n",
    );
    home.write("secrets/keeper/key", "first");
    let host = home.host();
    let has = |at_start: &str, now: &str| {
        for (skill, expected) in [("keeper.at_start", at_start), ("keeper.now", now)] {
            let found = host.call::<String>(skill, ());
            let found = found.unwrap_or_else(|error| panic!("{error}\n{:#?}", host.status()));
            assert_eq!(found, expected, "{skill}");
        }
    };
    has("first", "first");

    // The old generation goes after the new one has come, and takes nothing of it away.
    home.write("secrets/keeper/key", "second");
    let status = host.reload("keeper", false).expect("the secret is there");
    assert_eq!(status.generation, 2);
    has("second", "second");
    home.wait_for_log("keeper", "generation 1 has ended");
    has("second", "second");

    // A new one that fails takes its own away and leaves the old one as it was.
    home.write("secrets/keeper/key", "poison");
    let error = host
        .reload("keeper", false)
        .expect_err("it refuses to start");
    assert!(error.to_string().contains("it is poisoned"), "{error}");
    has("second", "second");
    fs::remove_file(home.path().join("secrets/keeper/key")).expect("ours");
    let error = host
        .reload("keeper", false)
        .expect_err("the secret is gone");
    assert!(
        error.to_string().contains("secret files are missing"),
        "{error}"
    );
    has("second", "second");

    home.write("secrets/keeper/key", "third");
    host.reload("keeper", false).expect("the secret is there");
    has("third", "third");
    host.shutdown();
    drop(host);
    let keys = fs::read_dir(home.path().join("ext/keeper/keys")).expect("is there");
    assert_eq!(keys.count(), 0, "nothing is left");

    // Neither the secret nor its folder is a part of the source: nothing is built again.
    drop(home.host());
    let log = home.plugin_log("keeper");
    assert_eq!(log.matches("Compiling keeper").count(), 1, "{log}");
    assert!(!log.contains("second") && !log.contains("third"), "{log}");
}
