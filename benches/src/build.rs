//! How long it takes until a plugin is built and ready, next to cargo by hand.

use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::goal::Goals;
use crate::home::BenchHome;
use crate::table::{self, Figures};

/// How many plugins are built after the first one of a start, how many starts there are of each kind, and how many
/// edits, in each round.
const TIMES: usize = 5;

/// Measures.
pub(crate) fn run(rounds: usize, goals: &mut Goals) -> Result<(), Box<dyn Error>> {
    let (mut cold, mut next, mut further) = <(Figures, Figures, Figures)>::default();
    let mut by_hand = Figures::default();
    let (mut edit, mut edit_by_hand) = <(Figures, Figures)>::default();
    for _ in 0..rounds {
        let target = tempfile::tempdir()?;
        let target = target.path();
        let host = target.join("host");
        cold.push(start(&host, &["cold".to_owned()])?);
        let hand = ByHand::new(target.join("hand"))?;
        hand.build("cold", 0)?;
        for number in 0..TIMES {
            let name = format!("next{number}");
            by_hand.push(hand.build(&name, 0)?);
            let alone = start(&host, &[name])?;
            let names: Vec<_> = (0..=TIMES).map(|one| format!("of{number}_{one}")).collect();
            let all = start(&host, &names)?;
            next.push(alone);
            further.push((all - alone) / TIMES as f64);
        }
        edits(&host, &mut edit)?;
        for answer in 1..=TIMES {
            edit_by_hand.push(hand.build("cold", answer)?);
        }
    }

    table::head(&format!("{rounds} rounds"), "s");
    cold.print("the first plugin, nothing built, to ready");
    next.print("the next plugin, from the start of a host to ready");
    further.print("each further plugin of such a start, to ready");
    by_hand.print("the next plugin, `cargo build --release` by hand");
    edit.print("one line edited, to switched");
    edit_by_hand.print("one line edited, `cargo build --release` by hand");
    println!();
    let ratio = further.with(&by_hand, |host, hand| host / hand).median();
    goals.at_most("each further plugin, to ready / by hand", 1.1, "x", ratio);
    goals.at_most("one line edited, to switched", 1.0, " s", edit.median());
    Ok(())
}

/// Starts a host with new plugins; returns the seconds until all are ready.
fn start(target: &Path, names: &[String]) -> Result<f64, Box<dyn Error>> {
    let mut home = BenchHome::new()?;
    for name in names {
        let source = home.source(name);
        write(&source, name, 0)?;
        home.add(name, &source);
    }
    let begun = Instant::now();
    let host = home.start(target, None)?;
    let took = begun.elapsed().as_secs_f64();
    for name in names {
        let found: usize = host.call(&format!("{name}.answer"), ())?;
        assert_eq!(found, 0);
    }
    host.shutdown();
    Ok(took)
}

/// Edits a plugin that runs, again and again; each time a caller gets the new answer.
fn edits(target: &Path, figures: &mut Figures) -> Result<(), Box<dyn Error>> {
    let mut home = BenchHome::new()?;
    let source = home.source("edited");
    write(&source, "edited", 0)?;
    home.add("edited", &source);
    let host = home.start(target, None)?;
    for answer in 1..=TIMES {
        write(&source, "edited", answer)?;
        let begun = Instant::now();
        host.reload("edited", true)?;
        let found: usize = host.call("edited.answer", ())?;
        figures.push(begun.elapsed().as_secs_f64());
        assert_eq!(found, answer);
    }
    host.shutdown();
    Ok(())
}

/// Cargo without a host, with the same crates and versions.
struct ByHand {
    target: PathBuf,
    sources: tempfile::TempDir,
}

impl ByHand {
    fn new(target: PathBuf) -> io::Result<Self> {
        let sources = tempfile::tempdir()?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let repository = repository.canonicalize()?;
        let repository = repository.display();
        fs::create_dir(sources.path().join(".cargo"))?;
        fs::write(
            sources.path().join(".cargo/config.toml"),
            format!(
                "[patch.crates-io]\n\
                 aigis-plugin-api = {{ path = '{repository}/aigis-plugin-api' }}\n\
                 aigis-macros = {{ path = '{repository}/aigis-macros' }}\n"
            ),
        )?;
        Ok(Self { target, sources })
    }

    /// Builds a plugin; returns the seconds that cargo took.
    fn build(&self, name: &str, answer: usize) -> Result<f64, Box<dyn Error>> {
        let source = self.sources.path().join(name);
        write(&source, name, answer)?;
        let lock = source.join("Cargo.lock");
        if !lock.exists() {
            let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
            fs::copy(ours, lock)?;
        }
        let mut command = Command::new("cargo");
        command
            // A host does not ask the network either if it need not.
            .args(["build", "--release", "--offline", "--quiet"])
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&source);
        if env::var_os("RUSTUP_TOOLCHAIN_SOURCE").is_none_or(|source| source != "env") {
            // Chosen by the folder this program was built in; a host does not hand that on either.
            command.env_remove("RUSTUP_TOOLCHAIN");
        }
        let begun = Instant::now();
        let status = command.status()?;
        let took = begun.elapsed().as_secs_f64();
        if !status.success() {
            return Err(format!("cargo cannot build `{name}`").into());
        }
        Ok(took)
    }
}

/// Writes the smallest plugin there is.
fn write(folder: &Path, name: &str, answer: usize) -> io::Result<()> {
    fs::create_dir_all(folder.join("AIGIS"))?;
    fs::create_dir_all(folder.join("src"))?;
    fs::write(
        folder.join("AIGIS/AIGIS.config"),
        "PLUGIN_TYPE = \"core\"\nENTRYPOINT = \"{root}\"\n",
    )?;
    fs::write(
        folder.join("Cargo.toml"),
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [lib]\ncrate-type = [\"cdylib\"]\n\n[dependencies]\naigis-plugin-api = \"0.1\"\n"
        ),
    )?;
    fs::write(
        folder.join("src/lib.rs"),
        format!(
            "#[aigis_plugin_api::skills]\npub mod {name} {{\n    \
             pub fn answer() -> usize {{\n        {answer}\n    }}\n}}\n"
        ),
    )
}
