//! Tries a library out in a process that may die of it.

use std::ffi::c_void;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use aigis_plugin_api::__private::Failure;
use aigis_plugin_api::abi::{
    self, ABI_MAJOR, ABI_MINOR, Buffer, Descriptor, Header, MAGIC, SYMBOL, Status,
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::process::{Pid, Signal, kill_process_group};

use super::LoadError;

/// The hidden first argument of the program `aigis` that makes it a probe.
pub(crate) const PROBE_ARGUMENT: &str = "__probe";

/// What a probe writes into its report when all is well; anything else there is an error's text.
const PASSED: &str = "passed";

/// Opens `library` in a process of its own and checks that it can be loaded.
pub(crate) async fn probe(
    program: &Path,
    library: &Path,
    deadline: Duration,
) -> Result<(), LoadError> {
    let report = tempfile::NamedTempFile::new().map_err(LoadError::Probe)?;
    let mut child = tokio::process::Command::new(program)
        .arg(PROBE_ARGUMENT)
        .arg(library)
        .arg(report.path())
        .stdin(Stdio::null())
        // A constructor that prints must not disturb who reads the core's output.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(LoadError::Probe)?;
    let status = match tokio::time::timeout(deadline, child.wait()).await {
        Ok(status) => status.map_err(LoadError::Probe)?,
        Err(_) => {
            // What its constructors have started goes with it.
            let group = child
                .id()
                .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            return Err(LoadError::Crashed {
                what: format!("did not come back within {deadline:?}"),
            });
        }
    };
    // An `exit(0)` in a constructor looks like success, but reports nothing.
    let text = fs::read_to_string(report.path()).map_err(LoadError::Probe)?;
    match text.as_str() {
        PASSED if status.success() => Ok(()),
        "" | PASSED => Err(LoadError::Crashed {
            what: ending(status),
        }),
        message => Err(LoadError::Unfit(message.to_owned())),
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended the process with exit code {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("killed the process with {name}"),
            Err(_) => format!("killed the process with signal {signal}"),
        },
        (None, None) => "ended the process".to_owned(),
    }
}

/// The probe's own process, `aigis __probe LIBRARY REPORT`; reads its arguments and ends.
pub(crate) fn probe_main() -> ! {
    let mut paths = std::env::args_os().skip(2).map(PathBuf::from);
    let (Some(library), Some(report)) = (paths.next(), paths.next()) else {
        eprintln!("error: {PROBE_ARGUMENT} takes a library and a file for its report");
        std::process::exit(2);
    };
    let (text, code) = match check(&library) {
        Ok(()) => (PASSED.to_owned(), 0),
        Err(message) => (message, 1),
    };
    std::process::exit(fs::write(&report, text).map_or(2, |()| code))
}

fn check(library: &Path) -> Result<(), String> {
    // SAFETY: whatever its constructors do, they do it to this process, which exists for that.
    let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| format!("the library cannot be opened: {error}"))?;
    // SAFETY: only the address is taken here; what it points to is checked before it is used.
    let address = unsafe { opened.get::<*const c_void>(SYMBOL.as_bytes()) };
    let Ok(address) = address else {
        return Err(format!(
            "the library exports no `{SYMBOL}`: is it a plugin, with `aigis-plugin-api` among its \
             dependencies and a `#[skills]` block?"
        ));
    };
    let address = address.into_raw().cast_const();
    // SAFETY: every descriptor there ever was starts with a header; another library that uses the
    // name can at worst end this process.
    let header = unsafe { address.cast::<Header>().read_unaligned() };
    check_header(&header)?;
    // SAFETY: magic, version and size say that it is a descriptor of this ABI.
    let descriptor = unsafe { &*address.cast::<Descriptor>() };
    abi::check_layout(descriptor).map_err(|difference| {
        format!(
            "the library was built by {} with aigis-plugin-api {}, whose types are laid out \
             differently; rebuild it with `aigis reload`:\n{difference}",
            descriptor.rustc.as_str(),
            descriptor.api_version.as_str(),
        )
    })?;
    let mut out = Buffer::default();
    let status = (descriptor.describe)(&mut out);
    if status != Status::Ok {
        return Err(Failure::decode(out.as_slice()).to_string());
    }
    let description =
        aigis_plugin_api::codec::from_slice::<aigis_plugin_api::__private::Description>(
            out.as_slice(),
        )
        .map_err(|error| format!("the library's description cannot be read: {error}"))?;
    if description.skills.is_empty() && !description.cleanup {
        return Err(
            "the library exposes nothing: put `#[skills]` on a module or an `impl` block"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_header(header: &Header) -> Result<(), String> {
    if header.magic != MAGIC {
        return Err(format!(
            "the library's `{SYMBOL}` is not a descriptor: it starts with {:02x?}, expected {:02x?}",
            header.magic, MAGIC
        ));
    }
    let (major, minor) = (header.major, header.minor);
    if major != ABI_MAJOR || minor > ABI_MINOR {
        return Err(format!(
            "the library has ABI version {major}.{minor}, this core loads {ABI_MAJOR}.0 to \
             {ABI_MAJOR}.{ABI_MINOR}; rebuild it with this core (`aigis reload --fresh`), or use the \
             core it was built for"
        ));
    }
    // Every ABI version so far has a descriptor of one size.
    if header.size != size_of::<Descriptor>() {
        return Err(format!(
            "the library's descriptor has {} bytes, expected {}; rebuild it with this core",
            header.size,
            size_of::<Descriptor>()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            magic: MAGIC,
            major: ABI_MAJOR,
            minor: ABI_MINOR,
            size: size_of::<Descriptor>(),
        }
    }

    #[test]
    fn our_own_header_passes() {
        assert_eq!(check_header(&header()), Ok(()));
    }

    #[test]
    fn each_field_is_checked() {
        let wrong = [
            Header {
                magic: *b"NOTAPLUG",
                ..header()
            },
            Header {
                major: ABI_MAJOR + 1,
                ..header()
            },
            Header {
                minor: ABI_MINOR + 1,
                ..header()
            },
            Header {
                size: 8,
                ..header()
            },
        ];
        for header in wrong {
            assert!(check_header(&header).is_err(), "{header:?}");
        }
    }

    #[test]
    fn a_random_file_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("random.so");
        fs::write(&file, [0x5a; 4096]).expect("writes");
        let error = check(&file).expect_err("is no library");
        assert!(error.contains("cannot be opened"), "{error}");
    }
}
