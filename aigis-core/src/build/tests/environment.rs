//! What surrounds a build: flags, profiles, configuration, a missing toolchain.

use super::*;
use crate::build::environment::{deadly_panic_strategy, for_toolchain, value};

const CATCHES: &str = "fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = std::panic::catch_unwind(|| panic!(\"on purpose\")).is_err();
    println!(\"caught {caught}\");
}
";

const PROGRAM: Wants<'_> = Wants::Binary {
    name: None,
    library: false,
};

fn catcher(home: &Home, rest: &str) -> Plugin {
    home.plugin(
        "catcher",
        &[
            ("Cargo.toml", &manifest("catcher", rest)),
            ("src/main.rs", CATCHES),
        ],
    )
}

fn builder_with(home: &Home, variables: &[(&str, &str)]) -> Builder {
    let mut toolchain = home.toolchain.clone();
    for (name, value) in variables {
        set(&mut toolchain, name, OsStr::new(value));
    }
    Builder::new(folders(&home.path()), home.sdk.clone(), toolchain)
}

#[test]
fn a_profile_that_aborts_is_overridden() {
    let home = Home::new();
    let plugin = catcher(&home, "[profile.release]\npanic = \"abort\"");
    let builder = builder_with(&home, &[("CARGO_PROFILE_RELEASE_PANIC", "abort")]);
    let artifacts = builder
        .build(&plugin.request(PROGRAM), &mut |_| {})
        .expect("it builds");
    assert_eq!(
        printed_by(&artifacts.binary.expect("a program")),
        "caught true\n"
    );
}

#[test]
fn a_workspace_profile_that_aborts_is_overridden() {
    let home = Home::new();
    let mut plugin = home.plugin(
        "member",
        &[
            (
                "Cargo.toml",
                "[workspace]\nmembers = [\"m\"]\nresolver = \"3\"\n\
                 [profile.release]\npanic = \"abort\"\n",
            ),
            ("m/Cargo.toml", &manifest("m", "")),
            ("m/src/main.rs", CATCHES),
            (
                ".cargo/config.toml",
                "[profile.release]\npanic = \"abort\"\n",
            ),
        ],
    );
    plugin.package = Some("m");
    let artifacts = home.build(&plugin, PROGRAM).expect("it builds");
    assert_eq!(
        printed_by(&artifacts.binary.expect("a program")),
        "caught true\n"
    );
}

#[test]
fn compiler_flags_that_abort_are_refused() {
    let home = Home::new();
    let plugin = catcher(&home, "");
    let refused = |builder: &Builder| {
        let error = builder.build(&plugin.request(PROGRAM), &mut |_| {});
        error.expect_err("it would abort").to_string()
    };
    for (name, flags) in [
        ("RUSTFLAGS", "-C panic=abort"),
        ("CARGO_ENCODED_RUSTFLAGS", "-C\u{1f}panic=abort"),
        ("CARGO_BUILD_RUSTFLAGS", "-Cpanic=abort"),
    ] {
        let error = refused(&builder_with(&home, &[(name, flags)]));
        assert!(
            error.contains("`-C panic=abort` from the variable"),
            "{error}"
        );
        assert!(error.contains(name), "{error}");
    }
    for target in ["build", "target.'cfg(unix)'"] {
        plugin.write(
            ".cargo/config.toml",
            &format!("[{target}]\nrustflags = [\"-C\", \"panic=abort\"]\n"),
        );
        let error = refused(&home.builder);
        assert!(error.contains("catcher/.cargo/config.toml"), "{error}");
    }
    plugin.write(
        ".cargo/config.toml",
        "[target.'cfg(target_arch = \"wasm32\")']\nrustflags = \"-Cpanic=abort\"\n",
    );
    let artifacts = home.build(&plugin, PROGRAM).expect("that is for elsewhere");
    assert_eq!(
        printed_by(&artifacts.binary.expect("a program")),
        "caught true\n"
    );
}

#[test]
fn the_last_panic_flag_decides() {
    let strategy = |flags: &[&str]| {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        deadly_panic_strategy(&flags).map(str::to_owned)
    };
    assert_eq!(strategy(&[]), None);
    assert_eq!(strategy(&["-C", "opt-level=3", "panic=abort"]), None);
    assert_eq!(strategy(&["-Cpanic=abort", "-C", "panic=unwind"]), None);
    assert_eq!(
        strategy(&["--codegen=panic=abort"]).as_deref(),
        Some("abort")
    );
    assert_eq!(
        strategy(&["--codegen", "panic=abort"]).as_deref(),
        Some("abort")
    );
}

#[test]
fn the_reported_path_is_used_where_a_target_platform_moves_it() {
    let home = Home::new();
    let plugin = catcher(&home, "");
    let output = Command::new("rustc").arg("-vV").output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.expect("a host");
    plugin.write(
        ".cargo/config.toml",
        &format!("[build]\ntarget = \"{host}\"\n"),
    );
    let artifacts = home.build(&plugin, PROGRAM).expect("it builds");
    assert_eq!(
        printed_by(&artifacts.binary.expect("a program")),
        "caught true\n"
    );
    let moved = home
        .path()
        .join("build/target")
        .join(host)
        .join("release/catcher");
    assert!(moved.exists());
    plugin.write("src/main.rs", &program("changed"));
    let artifacts = home.build(&plugin, PROGRAM).expect("it builds");
    assert_eq!(
        printed_by(&artifacts.binary.expect("a program")),
        "changed\n"
    );
}

#[test]
fn a_missing_toolchain_is_named_with_where_it_was_looked_for() {
    let home = Home::new();
    let plugin = catcher(&home, "");
    let mut toolchain = home.toolchain.clone();
    set(&mut toolchain, "PATH", OsStr::new("/no/such/folder"));
    for (cargo, rustc, missing) in [
        (
            home.toolchain.cargo.clone(),
            PathBuf::from("rustc"),
            "`rustc`",
        ),
        (PathBuf::from("cargo"), "/bin/echo".into(), "`cargo`"),
    ] {
        let toolchain = Toolchain {
            cargo,
            rustc,
            ..toolchain.clone()
        };
        let builder = Builder::new(folders(&home.path()), home.sdk.clone(), toolchain);
        let error = builder
            .build(&plugin.request(PROGRAM), &mut |_| {})
            .expect_err("nothing to build with")
            .to_string();
        for expected in [missing, "PATH=/no/such/folder", "rustup"] {
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[test]
fn what_a_cargo_above_us_says_does_not_reach_cargo() {
    let kept = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        for_toolchain(&variables)
    };
    let dropped = [
        "CARGO",
        "CARGO_MANIFEST_DIR",
        "CARGO_PKG_NAME",
        "CARGO_BIN_EXE_aigis",
        "CARGO_TARGET_DIR",
        "CARGO_TERM_QUIET",
        "OUT_DIR",
        "RUST_RECURSION_COUNT",
        "RUSTUP_TOOLCHAIN",
    ];
    let wanted = ["CARGO_HOME", "RUSTFLAGS", "RUSTC_WRAPPER", "PATH"];
    let all: Vec<_> = dropped
        .iter()
        .chain(&wanted)
        .map(|name| (*name, "x"))
        .collect();
    let found = kept(&all);
    for name in dropped {
        assert_eq!(value(&found, name), None, "{name}");
    }
    for name in wanted {
        assert!(value(&found, name).is_some(), "{name}");
    }
    // Without a cargo above, these are the user's own.
    let found = kept(&[("OUT_DIR", "x"), ("RUSTUP_TOOLCHAIN", "nightly")]);
    assert!(value(&found, "OUT_DIR").is_some());
    assert!(value(&found, "RUSTUP_TOOLCHAIN").is_some());
    let found = kept(&[
        ("RUST_RECURSION_COUNT", "1"),
        ("RUSTUP_TOOLCHAIN", "nightly"),
        ("RUSTUP_TOOLCHAIN_SOURCE", "env"),
    ]);
    assert!(value(&found, "RUSTUP_TOOLCHAIN").is_some());
}
