//! What the processes of plugins are given and denied: users, variables, limits.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{Deadline, plugins};

/// Calls a skill of the core's, and says who it is.
const CALLER: &str = r#"
use aigis_plugin_api::launch;

aigis_plugin_api::import! {
    mod greeter {
        fn greet(name: &str) -> String;
    }
}

#[launch]
fn launch() {
    let id = std::process::Command::new("id").arg("-u").output().expect("runs");
    let id = String::from_utf8_lossy(&id.stdout).trim().to_owned();
    println!("{}", greeter::greet(&id).expect("answers"));
    let settings = std::env::var("AIGIS_SETTINGS").expect("is set");
    println!("settings {}", std::fs::read_to_string(settings).expect("is mine").len());
    std::fs::write(std::path::Path::new(&std::env::var("AIGIS_DATA").expect("is set")).join("mine"), id).expect("writes");
    loop {
        std::thread::park();
    }
}
"#;

const GREETER: &str = "
#[aigis_plugin_api::skills]
pub mod greeter {
    pub fn greet(name: &str) -> String {
        format!(\"hello, {name}\")
    }
}
";

#[test]
fn a_plugin_of_another_user_has_its_session_and_its_files() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can start processes of others: nothing is tested");
        return;
    }
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    // As a home has to be in which others work: they come through, and no further.
    for folder in home.path().ancestors().take(2) {
        fs::set_permissions(folder, Permissions::from_mode(0o711)).expect("is ours");
    }
    plugins::core(&home, "greeter", GREETER);
    plugins::internal(&home, "caller", CALLER);
    plugins::external(
        &home,
        "shows",
        "USER = \"54321\"\nGROUP = \"54322\"",
        "echo \"I am $(id -u) of $(id -g)\"; exec sleep 100000",
    );
    home.config(
        "[core]\ngreeter = \"{sources}/greeter\"\n[internal]\n\
         caller = { source = \"{sources}/caller\", user = \"54321\", settings = { a = 1 } }\n\
         [external]\nshows = \"{sources}/shows\"\n",
    );
    let core = Core::start(&home);
    home.wait_for_log("shows", "INFO : I am 54321 of 54322");
    home.wait_for_log("caller", "INFO : hello, 54321");
    home.wait_for_log("caller", "INFO : settings ");
    let mine = home.path().join("data/caller/mine");
    crate::support::eventually("its file", || mine.exists().then_some(()));
    assert_eq!(fs::metadata(&mine).expect("is there").uid(), 54321);
    // The next core lets it in where it was.
    let before = home.aigis(&["status"]).exited(0).stdout;
    core.signal("KILL");
    core.died();
    let core = Core::start(&home);
    let after = home.aigis(&["status"]).exited(0).stdout;
    assert_eq!(before.matches(" ready ").count(), 3, "{before}");
    assert_eq!(after.matches(" ready ").count(), 3, "{after}");
    core.signal("TERM");
    core.wait().exited(0);
}

#[test]
fn variables_and_limits_are_as_the_manifest_says() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let folder = plugins::external(
        &home,
        "shows",
        "ENV = { A = \"from ENV\", B = \"b\" }\nENV_FILE = \"settings.env\"\nUMASK = \"027\"\nNICE = 3\n\
         LIMITS = { nofile = 99 }\nMEMORY_MAX = \"1 GiB\"",
        "echo \"$A|$B|$C|$(umask)|$(nice)|$(ulimit -n)\"; exec sleep 100000",
    );
    fs::write(folder.join("settings.env"), "A=a\nC=\"from a file\"\n").expect("writes");
    let folder = plugins::external(&home, "wrong", "ENV_FILE = \"wrong.env\"", "exit 0");
    fs::write(folder.join("wrong.env"), "no variable\n").expect("writes");
    home.config("[external]\nshows = \"{sources}/shows\"\nwrong = \"{sources}/wrong\"\n");
    let core = Core::start(&home);
    home.wait_for_log("shows", "INFO : from ENV|b|from a file|0027|3|99");
    let status = home.aigis(&["status"]);
    assert!(
        status.stdout.contains("wrong.env`, line 1"),
        "{}",
        status.stdout
    );
    core.signal("TERM");
    core.wait().exited(0);
}
