//! Skills that the process of a plugin serves: whoever calls them, and whatever becomes of the process.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use aigis_core::{Host, PluginStatus, State};
use aigis_plugin_api::session::frame::{
    self, Hello, Kind, MAGIC, Offer, OfferedSkill, PROTOCOL, Welcome,
};
use aigis_plugin_api::signature::{Shape, Signature};
use aigis_plugin_api::{CallError, Failure, FailureKind, Session, SkillFailure, connect};

use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, is_alive, plugins, reaches};

const FORGE: &str = include_str!("fixtures/serving/forge.rs");
const ANVIL: &str = include_str!("fixtures/serving/anvil.rs");
const SMITH: &str = include_str!("fixtures/serving/smith.rs");

type Dynamic<T> = Result<T, CallError<SkillFailure>>;

/// Writes the forge, which is launched again as often as it fails.
fn forge(home: &TestHome) {
    let manifest = format!("{}RESTART = 5\n", plugins::INTERNAL);
    plugins::write(
        home,
        "forge",
        &[
            ("Cargo.toml", &plugins::cargo_toml("forge", "")),
            ("AIGIS/AIGIS.config", &manifest),
            ("src/main.rs", FORGE),
        ],
    );
}

fn of(host: &Host, name: &str) -> PluginStatus {
    let found = host.status().into_iter().find(|status| status.name == name);
    found.expect("the plugin is there")
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-s", "KILL", &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn everybody_calls_what_a_process_serves() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    forge(&home);
    plugins::internal(&home, "anvil", ANVIL);
    plugins::core(&home, "smith", SMITH);
    home.config(
        "[core]\nsmith = \"{sources}/smith\"\n\n[internal]\nanvil = \"{sources}/anvil\"\n\
         forge = \"{sources}/forge\"\n",
    );
    let host = home.host();
    let (forge, anvil) = (of(&host, "forge"), of(&host, "anvil"));
    let pid = forge.pid.expect("runs");
    assert_eq!(forge.state, State::Ready, "{}", home.plugin_log("forge"));
    // It was ready only when its skills could be called.
    home.wait_for_log("forge", "the forge is lit, 42");

    // From the core: by the embedder, a plugin, encoded and started ones.
    assert_eq!(host.call("forge.pid", ()), Ok(pid));
    assert_eq!(host.call("smith.forge_pid", ()), Ok(pid));
    assert_eq!(host.call("smith.add", (40, 2)), Ok(42_i64));
    assert_eq!(host.call("smith.add", (40,)), Ok(41_i64));
    assert_eq!(host.call("smith.started", (100_u64,)), Ok(450_u64));
    let mismatch: String = host.call("smith.mistaken", ()).expect("finds a mismatch");
    assert!(mismatch.contains("forge.add"), "{mismatch}");
    // From another process, a tool and the command line.
    assert_eq!(host.call("anvil.pid", ()), Ok(anvil.pid.expect("runs")));
    assert_eq!(host.call("anvil.forge_pid", ()), Ok(pid));
    assert_eq!(host.call("anvil.heat", ()), Ok(1200_u32));
    let numbers: Vec<i64> = (1..=500).collect();
    assert_eq!(host.call("anvil.sum", (numbers,)), Ok(125_250_i64));
    let session = connect(home.path()).expect("the core runs");
    assert_eq!(session.call("forge.pid", ()), Ok(pid));
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    assert!(session.call("forge.echo", (&large,)) == Ok(large.clone()));
    assert!(host.call("forge.echo", (&large,)) == Ok(large));
    let ran = home.aigis(&["call", "forge.add", "40", "2"]).exited(0);
    assert_eq!(ran.stdout, "42\n");
    let listed = home.aigis(&["skills"]).exited(0).stdout;
    assert!(listed.contains("forge\n  forge.HEAT"), "{listed}");
    let table = home.aigis(&["status"]).exited(0).stdout;
    assert!(
        table.contains(&format!("serves: process {pid} ")),
        "{table}"
    );

    failures_keep_their_kind(&host, &session, &home);
    calls_that_wait_end(&host, &session);

    // Calls that go round: this process, another one, the core, and so on.
    assert_eq!(host.call("forge.own", (41,)), Ok(42_i64));
    assert_eq!(host.call("forge.deep", (30,)), Ok(30_u32));
    let chains: Vec<_> = (0..8)
        .map(|_| {
            let session = session.clone();
            thread::spawn(move || session.call::<u32>("forge.deep", (12,)))
        })
        .collect();
    for chain in chains {
        assert_eq!(chain.join().expect("does not panic"), Ok(12));
    }
    assert_eq!(of(&host, "forge").serving[0].calls, 0);
    assert_eq!(of(&host, "forge").pid, Some(pid));
    host.shutdown();
}

fn failures_keep_their_kind(host: &Host, session: &Session, home: &TestHome) {
    assert_eq!(host.call("anvil.degrees", (7,)), Ok(7_i32));
    let failed: Dynamic<()> = session.call("forge.temper", (-3,));
    let Err(CallError::Skill(failure)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(failure.skill, "forge.temper");
    assert_eq!(failure.message, "the iron is cold");
    assert!(failure.type_name.ends_with("::ForgeError"), "{failure:?}");
    let payload = failure.payload().expect("was sent along");
    assert_eq!(payload.to_json(), r#"{"Cold":{"degrees":-3}}"#);
    for cracked in [
        host.call::<()>("forge.crack", ()),
        session.call("forge.crack", ()),
    ] {
        let Err(CallError::Panicked {
            skill,
            message,
            location,
        }) = cracked
        else {
            panic!("{cracked:?}");
        };
        assert_eq!(
            (&*skill, &*message),
            ("forge.crack", "the iron has cracked")
        );
        let location = location.expect("has a place");
        assert!(location.starts_with("src/main.rs:"), "{location}");
    }
    // Its own log tells of the panic, once each time.
    let records = eventually("two records of panics", || {
        let log = home.plugin_log("forge");
        let count = log.matches("the iron has cracked").count();
        (count >= 2).then_some(count)
    });
    assert_eq!(records, 2);
    let wrong: Dynamic<i64> = session.call("forge.add", ("many",));
    assert!(
        matches!(wrong, Err(CallError::Arguments { .. })),
        "{wrong:?}"
    );
    let absent: Dynamic<()> = session.call("forge.melt", ());
    assert!(
        matches!(absent, Err(CallError::NotFound { .. })),
        "{absent:?}"
    );
}

/// An async skill of a process ends at its deadline, and when it is given up.
fn calls_that_wait_end(host: &Host, session: &Session) {
    assert_eq!(session.call("forge.cool", (5,)), Ok(5_u64));
    let short = Duration::from_millis(50);
    let late: Dynamic<()> = session.call_within("forge.linger", ("late",), short);
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    assert_eq!(host.call("forge.saw", ("dropped late",)), Ok(true));
    session.scope(|| {
        aigis_plugin_api::import! {
            mod forge {
                fn linger(name: String);
            }
        }
        let call = forge::start::linger("unwanted".to_owned());
        assert_eq!(session.call("forge.saw", ("lingers unwanted",)), Ok(true));
        call.cancel();
        assert_eq!(session.call("forge.saw", ("dropped unwanted",)), Ok(true));
    });
    // A plain one keeps its thread, and its caller goes on.
    let late: Dynamic<()> = session.call_within("forge.hold", ("held",), short);
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    assert_eq!(host.call("forge.open", ("held",)), Ok(()));
}

#[test]
fn what_a_killed_process_served_comes_back_with_it() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    forge(&home);
    plugins::core(&home, "smith", SMITH);
    home.config("[core]\nsmith = \"{sources}/smith\"\n\n[internal]\nforge = \"{sources}/forge\"\n");
    let host = home.host();
    let session = connect(home.path()).expect("the core runs");
    let first: u32 = session.call("forge.pid", ()).expect("is served");

    // During calls: from the core, from a session, and one that takes no thread.
    let (sender, outcomes) = channel();
    for gate in ["core", "session", "async"] {
        let (host, caller, sender) = (host.clone(), session.clone(), sender.clone());
        thread::spawn(move || {
            let outcome: Dynamic<()> = match gate {
                "core" => host.call("forge.hold", (gate,)),
                "session" => caller.call_within("forge.hold", (gate,), DEADLINE),
                _ => caller.call_within("forge.linger", (gate,), DEADLINE),
            };
            sender.send(outcome).expect("is received");
        });
        let seen = format!(
            "{}s {gate}",
            if gate == "async" { "linger" } else { "hold" }
        );
        assert_eq!(session.call("forge.saw", (seen,)), Ok(true));
    }
    assert_eq!(of(&host, "forge").serving[0].calls, 3);
    kill(first);
    for _ in 0..3 {
        let outcome = outcomes.recv_timeout(DEADLINE).expect("a call ends");
        let Err(CallError::Disconnected { message, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(message.contains("plugin `forge`"), "{message}");
        assert!(message.contains("ran is unknown"), "{message}");
    }

    // In between it cannot be called, and is not: whoever waits for it finds it when it is back.
    let mut unavailable = 0;
    let second: u32 = eventually("the next process", || match session.call("forge.pid", ()) {
        Ok(pid) => Some(pid),
        Err(CallError::Unavailable { message, .. }) => {
            assert!(message.contains("forge.pid was not called"), "{message}");
            unavailable += 1;
            None
        }
        other => panic!("{other:?}"),
    });
    assert!(unavailable > 0);
    assert_ne!(second, first);
    assert!(!is_alive(first));
    assert_eq!(host.call("smith.forge_pid", ()), Ok(second));
    let status = reaches(&host, "forge", State::Ready);
    assert_eq!((status.restarts, status.generation), (1, 2));

    // Between calls, by its own failure; its `cleanup` runs.
    assert_eq!(session.call("forge.end", ("badly",)), Ok(()));
    home.wait_for_log("forge", "the fire is out");
    let third: u32 = eventually("the third process", || {
        let found: Dynamic<u32> = session.call("forge.pid", ());
        found.ok().filter(|pid| *pid != second)
    });
    assert!(is_alive(third));
    let ran = home.aigis(&["skills", "--json"]).exited(0);
    assert!(ran.stdout.contains("forge.hold"), "{ran:?}");

    // Stopped for good, its names are free; a start brings them back, and so does a reload.
    host.stop("forge").expect("stops");
    let gone: Dynamic<u32> = session.call("forge.pid", ());
    assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
    host.start_plugin("forge").expect("starts");
    let fourth: u32 = session.call("forge.pid", ()).expect("is served again");
    host.reload("forge", false).expect("reloads");
    let fifth: u32 = host.call("smith.forge_pid", ()).expect("is served again");
    assert_ne!(fourth, fifth);

    // An end that is no failure is for good.
    assert_eq!(session.call("forge.end", ("well",)), Ok(()));
    reaches(&host, "forge", State::Finished);
    let gone: Dynamic<u32> = session.call("forge.pid", ());
    assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
    host.shutdown();
}

#[test]
fn the_program_of_a_hybrid_serves_its_own_skills_alone() {
    const LIBRARY: &str = "\
        use aigis_plugin_api::{Context, skills};\n\
        #[skills]\n\
        pub mod lathe {\n\
            use super::*;\n\
            pub fn pid() -> u32 { std::process::id() }\n\
            pub fn core_pid(ctx: &Context) -> u32 { ctx.core_pid() }\n\
        }\n\
        pub fn turns() -> u32 { 7 }\n";
    const PROGRAM: &str = "\
        use aigis_plugin_api::{launch, skills};\n\
        #[skills]\n\
        pub mod spindle {\n\
            pub fn pid() -> u32 { std::process::id() }\n\
            /// The library is linked into this program, too.\n\
            pub fn turns() -> u32 { lathe::turns() + lathe::lathe::pid().min(1) }\n\
        }\n\
        #[launch]\n\
        fn launch() { loop { std::thread::park() } }\n";
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    let both = "[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n";
    plugins::write(
        &home,
        "lathe",
        &[
            ("Cargo.toml", &plugins::cargo_toml("lathe", both)),
            ("AIGIS/AIGIS.config", plugins::INTERNAL),
            ("src/lib.rs", LIBRARY),
            ("src/main.rs", PROGRAM),
        ],
    );
    home.config("[internal]\nlathe = \"{sources}/lathe\"\n");
    let host = home.host();
    let status = of(&host, "lathe");
    assert_eq!(status.state, State::Ready, "{}", home.plugin_log("lathe"));
    let own = std::process::id();
    assert_eq!(host.call("lathe.pid", ()), Ok(own));
    assert_eq!(host.call("lathe.core_pid", ()), Ok(own));
    assert_eq!(host.call("spindle.pid", ()), Ok(status.pid.expect("runs")));
    assert_eq!(host.call("spindle.turns", ()), Ok(8_u32));
    // The process goes and comes; the library stays.
    kill(status.pid.expect("runs"));
    reaches(&host, "lathe", State::Failed);
    for name in ["lathe.pid", "spindle.pid"] {
        let gone: Dynamic<u32> = host.call(name, ());
        assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
    }
    host.reload("lathe", false).expect("starts again");
    assert_eq!(host.call("lathe.pid", ()), Ok(own));
    assert_eq!(host.call("spindle.turns", ()), Ok(8_u32));
    host.shutdown();
}

/// Says hello to a core without a token, and offers skills of these names; returns the answer.
fn offer(home: &TestHome, names: &[&str]) -> Result<(), Failure> {
    let mut stream = std::os::unix::net::UnixStream::connect(home.path().join("run/core.sock"))
        .expect("listens");
    let hello = Hello {
        magic: MAGIC.to_owned(),
        protocol: PROTOCOL,
        features: Vec::new(),
        token: None,
        client: "somebody".to_owned(),
        pid: std::process::id(),
        imports: Vec::new(),
    };
    let signature = Signature {
        parameters: Vec::new(),
        result: Shape::Unit,
        error: None,
        constant: false,
    };
    let skills = names.iter().map(|name| OfferedSkill {
        name: (*name).to_owned(),
        doc: String::new(),
        signature: signature.clone(),
        idempotent: false,
    });
    let offer = Offer {
        skills: skills.collect(),
    };
    let hello = frame::encode_frame(Kind::Hello, 0, 0, &hello).expect("is small");
    frame::write_frame(&mut stream, &hello).expect("is read");
    let (_, body) = read(&mut stream);
    let _: Welcome = frame::decode_body(&body).expect("is let in");
    let offer = frame::encode_frame(Kind::Offer, 9, 0, &offer).expect("is small");
    frame::write_frame(&mut stream, &offer).expect("is read");
    let (header, body) = read(&mut stream);
    assert_eq!(header.call, 9);
    match header.kind {
        Kind::Reply => Ok(()),
        _ => Err(Failure::decode(&body)),
    }
}

fn read(stream: &mut std::os::unix::net::UnixStream) -> (frame::Header, Vec<u8>) {
    let frame = frame::read_frame(stream).expect("answers");
    frame.expect("answers")
}

#[test]
fn an_offer_is_refused_where_a_library_would_be() {
    const OF_CORE: &str = "\
        #[aigis_plugin_api::skills]\n\
        pub mod forge { pub fn add(a: i64, b: Option<i64>) -> i64 { a * b.unwrap_or(1) } }\n";
    const RESERVED: &str = "\
        #[aigis_plugin_api::skills(namespace = \"aigis\")]\n\
        pub mod own { pub fn status() -> u32 { 0 } }\n\
        #[aigis_plugin_api::launch]\n\
        fn launch() {}\n";
    const BROKEN: &str = "\
        pub struct Broken;\n\
        #[aigis_plugin_api::skills]\n\
        impl Broken {\n\
            pub fn new() -> Result<Self, String> { Err(\"no coal\".to_owned()) }\n\
            pub fn f(&self) {}\n\
        }\n\
        #[aigis_plugin_api::launch]\n\
        fn launch() {}\n";
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    forge(&home);
    plugins::core(&home, "first", OF_CORE);
    plugins::internal(&home, "reserved", RESERVED);
    plugins::internal(&home, "broken", BROKEN);
    home.config(
        "[core]\nfirst = \"{sources}/first\"\n\n[internal]\nreserved = \"{sources}/reserved\"\n\
         broken = \"{sources}/broken\"\n",
    );
    let host = home.host();
    for (plugin, reason) in [
        (
            "reserved",
            "skill `aigis.status` is in the namespace `aigis`",
        ),
        ("broken", "no coal"),
    ] {
        let status = reaches(&host, plugin, State::Failed);
        assert!(status.serving.is_empty(), "{status:?}");
        home.wait_for_log(plugin, reason);
    }

    // A name that a library has; nothing else of the offer is taken.
    let failed = host.replace(
        "broken",
        "forge",
        &home.source("forge").to_string_lossy(),
        true,
    );
    drop(failed);
    home.wait_for_log(
        "forge",
        "skill `forge.add` is offered by plugin `first` already",
    );
    let absent: Dynamic<u32> = host.call("forge.pid", ());
    assert!(
        matches!(absent, Err(CallError::NotFound { .. })),
        "{absent:?}"
    );
    assert_eq!(host.call("forge.add", (6, 7)), Ok(42_i64));
    host.stop("forge").expect("stops");
    // And the other way round.
    host.stop("first").expect("stops");
    host.start_plugin("forge").expect("starts");
    assert_eq!(host.call("forge.add", (6, 7)), Ok(13_i64));
    let taken = host.start_plugin("first").expect_err("its name is taken");
    assert!(
        taken
            .to_string()
            .contains("`forge.add` is offered by plugin `forge` already"),
        "{taken}"
    );

    // A tool of the same user has no plugin that could offer.
    let refused = offer(&home, &["tool.f"]).expect_err("has no token");
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.message.contains("presented no token"), "{refused}");
    let absent: Dynamic<()> = host.call("tool.f", ());
    assert!(
        matches!(absent, Err(CallError::NotFound { .. })),
        "{absent:?}"
    );
    host.shutdown();
}
