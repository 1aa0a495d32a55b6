//! Hostile libraries, tried out for real.
//!
//! The test program is its own probe: started with the probe's argument it becomes one before its
//! `main` runs, which is what the program `aigis` does in its `main`. The libraries are the frozen
//! plugin of `tests/fixtures/abi-1.0`, wrong in one thing each.

mod constructors;
mod descriptors;
mod files;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == PROBE_ARGUMENT)
    {
        probe_main();
    }
}

/// For probes that are to end by themselves: machines that run tests are slow and busy.
const LONG: Duration = Duration::from_secs(60);

/// For probes that are to be ended.
const SHORT: Duration = Duration::from_secs(3);

/// A folder with libraries.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds the frozen plugin with `--cfg`, if it is not empty.
    fn frozen(&self, cfg: &str) -> PathBuf {
        let library = self.path("frozen.so");
        compile(&fixture(), &library, cfg);
        library
    }

    /// Builds the frozen plugin with a constructor that runs `body`.
    fn constructing(&self, body: &str) -> PathBuf {
        let source = format!(
            "#[path = {:?}]\nmod frozen;\n\n{}",
            fixture(),
            constructor(body)
        );
        self.source(&source)
    }

    /// Builds a library.
    fn source(&self, source: &str) -> PathBuf {
        let (file, library) = (self.path("hostile.rs"), self.path("hostile.so"));
        fs::write(&file, source).expect("writes");
        compile(&file, &library, "");
        library
    }
}

fn constructor(body: &str) -> String {
    format!(
        "#[used]\n#[unsafe(link_section = \".init_array\")]\n\
         static CONSTRUCTOR: extern \"C\" fn() = construct;\n\
         extern \"C\" fn construct() {{\n{body}\n}}\n"
    )
}

/// Makes a pipe: what is written into it is an event.
fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("makes a pipe");
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/abi-1.0/src/lib.rs")
}

fn compile(source: &Path, library: &Path, cfg: &str) {
    let mut rustc = Command::new("rustc");
    rustc
        .args([
            "--edition=2024",
            "--crate-type=cdylib",
            "--crate-name=hostile",
        ])
        .args(["-Copt-level=0", "-Cstrip=symbols", "-Awarnings", "-o"])
        .args([library, source]);
    if !cfg.is_empty() {
        rustc.args(["--cfg", cfg]);
    }
    let output = rustc.output().expect("rustc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

fn probed(library: &Path, deadline: Duration) -> Result<Probed, LoadError> {
    let program = std::env::current_exe().expect("the path of the test program");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(probe(&program, library, deadline))
}

/// Asserts that a library is unfit, and that the error says all of `parts`.
fn unfit(library: &Path, parts: &[&str]) {
    let error = probed(library, LONG).expect_err("is unfit");
    assert!(matches!(error, LoadError::Unfit(_)), "{error:?}");
    says(&error, parts);
}

/// Asserts that a library has ended its probe, and that the error says all of `parts`.
fn crashed(library: &Path, deadline: Duration, parts: &[&str]) {
    let error = probed(library, deadline).expect_err("ends its probe");
    assert!(matches!(error, LoadError::Crashed { .. }), "{error:?}");
    says(&error, parts);
}

fn says(error: &LoadError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn a_probe_tells_all_that_a_library_offers() {
    let place = Place::new();
    let probed = probed(&place.frozen(""), LONG).expect("passes");
    let skills: Vec<String> = probed
        .description
        .skills
        .iter()
        .map(|skill| format!("{} {}", skill.name, skill.signature))
        .collect();
    assert_eq!(
        skills,
        [
            "frozen.add fn(a: i64, b: i64) -> i64",
            "frozen.greet fn(name: &str) -> String",
            "frozen.lengths fn(words: Vec<String>, least: Option<u64>) -> Vec<(String, u64)>"
        ]
    );
    assert_eq!(probed.description.skills[0].doc, "Adds two numbers.");
    assert_eq!(probed.minor, 0);
    assert_eq!(probed.rustc, "rustc 1.95.0 (a compiler of old)");
    assert_eq!(probed.api_version, "0.1.0");
    assert_eq!(probed.notes(), Vec::<String>::new());
}

#[test]
fn a_program_that_is_no_probe_is_told_so() {
    let place = Place::new();
    let library = place.path("none.so");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let error = runtime
        .block_on(probe(Path::new("/bin/true"), &library, LONG))
        .expect_err("`true` is no probe");
    let LoadError::Probe(error) = &error else {
        panic!("{error:?}");
    };
    assert!(
        error.to_string().contains("`/bin/true` did not act as one"),
        "{error}"
    );
    let missing = place.path("aigis");
    let error = runtime
        .block_on(probe(&missing, &library, LONG))
        .expect_err("is not there");
    assert!(matches!(error, LoadError::Probe(_)), "{error:?}");
}

#[test]
fn a_probe_whose_caller_gives_up_is_ended() {
    let place = Place::new();
    let mark = place.path("mark");
    pipe(&mark);
    let library = place.constructing(&format!(
        "let pid = std::process::id().to_string();\n\
         std::fs::write({mark:?}, pid).unwrap();\n\
         loop {{ std::thread::park() }}"
    ));
    let program = std::env::current_exe().expect("the path of the test program");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (told, begun) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || told.send(fs::read_to_string(&mark)));
    let pid = runtime.block_on(async {
        tokio::select! {
            outcome = probe(&program, &library, LONG) => panic!("ended with {outcome:?}"),
            pid = begun => pid.expect("the thread sends").expect("the pipe is read"),
        }
    });
    // It was waited for when the future was dropped, so there is nothing left of it.
    assert!(!Path::new("/proc").join(pid).exists());
}
