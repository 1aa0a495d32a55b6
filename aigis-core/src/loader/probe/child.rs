//! The probe's own process: opens one library, writes its report and ends.
//!
//! It has no runtime, reads no config and runs no destructors: it is on the way of every reload.

use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aigis_plugin_api::abi::reader::{self, Flaw, OwnMemory};
use aigis_plugin_api::abi::{Descriptor, SYMBOL};
use aigis_plugin_api::codec;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::{Nonce, PROBE_ARGUMENT, Probed, Stage, elf, linux};
use crate::loader::entries;

/// The exit code of a probe that has written its report, whatever it says.
pub(super) const DONE: i32 = 87;

/// The exit code of a probe that finds files closed that were open before.
pub(super) const CLOSED: i32 = 88;

/// The exit code of a probe that was not started as one.
const MISUSED: i32 = 2;

/// Runs a probe, `aigis __probe LIBRARY`; reads its arguments and ends.
pub(crate) fn probe_main() -> ! {
    let library = std::env::args_os().nth(2).map(PathBuf::from);
    let report = Report::take();
    let (Some(library), Some(report)) = (library, report) else {
        eprintln!("error: {PROBE_ARGUMENT} is for the core's own use");
        linux::exit_at_once(MISUSED);
    };
    let outcome = try_out(&library, &report);
    if !report.is_there() || !report.complete(&outcome) {
        linux::exit_at_once(CLOSED);
    }
    // Not `exit`: what the library has registered for it is not run in the core either.
    linux::exit_at_once(DONE)
}

/// Where the outcome is written.
struct Report {
    file: File,
    nonce: Nonce,
    /// The files that the process was started with, and the report.
    open: [Option<(u64, u64)>; 4],
}

impl Report {
    /// Takes the report out of the way of the library, and the nonce out of the report.
    fn take() -> Option<Self> {
        let file = linux::take_standard_input().ok()?;
        let mut nonce = Nonce::default();
        file.read_exact_at(&mut nonce, 0).ok()?;
        file.set_len(0).ok()?;
        let mut report = Self {
            file,
            nonce,
            open: [None; 4],
        };
        report.open = report.identities();
        linux::be_sacrificed();
        Some(report)
    }

    /// Tells which files the numbers stand for that a library must leave alone.
    fn identities(&self) -> [Option<(u64, u64)>; 4] {
        let [input, output, errors] = linux::standard_files();
        let own = self.file.metadata().ok();
        [input, output, errors, own.map(|own| (own.dev(), own.ino()))]
    }

    /// Tells whether every file is still the one it was.
    fn is_there(&self) -> bool {
        self.identities() == self.open
    }

    /// Says how far the probe is; without it an end is told less well, no more.
    fn at(&self, stage: Stage) {
        let _ = self.file.set_len(0);
        let _ = self.file.write_all_at(&[stage.mark()], 0);
    }

    fn complete(&self, outcome: &Result<Probed, String>) -> bool {
        let Ok(encoded) = codec::to_vec(outcome) else {
            return false;
        };
        let report = [self.nonce.as_slice(), &encoded].concat();
        self.file.set_len(0).is_ok() && self.file.write_all_at(&report, 0).is_ok()
    }
}

fn try_out(library: &Path, report: &Report) -> Result<Probed, String> {
    elf::check(library)?;
    let keys = linux::next_thread_key();
    report.at(Stage::Opening);
    // SAFETY: whatever its constructors do, they do it to this process, which exists for that.
    let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| format!("the library cannot be opened: {error}"))?;
    report.at(Stage::Describing);
    let thread_keys = match (keys, linux::next_thread_key()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => 0,
    };
    let threads = linux::other_threads();
    // SAFETY: only the address is taken here; what it points to is checked before it is used.
    let address = unsafe { opened.get::<*const c_void>(SYMBOL.as_bytes()) };
    let Ok(address) = address else {
        return Err(format!(
            "the library exports no `{SYMBOL}`: is it a plugin, with `aigis-plugin-api` among its \
             dependencies and a `#[skills]` block?"
        ));
    };
    let address = address.into_raw().cast_const();
    // Never closed: whatever it has left behind must not run into nothing.
    std::mem::forget(opened);
    let memory = OwnMemory::with_code()
        .map_err(|error| format!("the memory of the probe cannot be read: {error}"))?;
    let (checked, descriptor) = entries::copied(&memory, address).map_err(unfit)?;
    let description = describe(&memory, &descriptor)?;
    Ok(Probed {
        description,
        minor: checked.header.minor,
        rustc: checked.rustc,
        api_version: checked.api_version,
        thread_keys,
        threads,
    })
}

fn describe(
    memory: &OwnMemory,
    descriptor: &Descriptor,
) -> Result<aigis_plugin_api::__private::Description, String> {
    // SAFETY: the descriptor is a checked copy; this process exists to die of what it does.
    let description = unsafe { reader::describe(memory, descriptor) }.map_err(unfit)?;
    if description.skills.is_empty() && !description.cleanup {
        return Err(
            "the library exposes nothing: put `#[skills]` on a module or an `impl` block"
                .to_owned(),
        );
    }
    Ok(description)
}

/// Says what is wrong with a descriptor, and what to do.
fn unfit(flaw: Flaw) -> String {
    let remedy = match &flaw {
        Flaw::Version { .. } => {
            "build it again with this core (`aigis reload --fresh` and the plugin's name), or use the \
             core it was built for"
        }
        Flaw::Layout { .. } => {
            "build it again with this core: `aigis reload --fresh` and the plugin's name"
        }
        Flaw::Describe(_) => "look at what its `#[skills]` blocks are made of",
        _ => {
            "a plugin gets its descriptor from `aigis-plugin-api`; one that is written by hand must be \
             as `docs/abi.md` says"
        }
    };
    // Differences have lines of their own.
    let between = if matches!(flaw, Flaw::Layout { .. }) {
        "\n"
    } else {
        "; "
    };
    format!("{flaw}{between}{remedy}")
}
