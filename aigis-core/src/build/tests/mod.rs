//! Real builds of tiny packages without dependencies, each test in a home of its own.
//!
//! Cargo runs with an empty home of its own and never needs the network.

mod cancelling;
mod environment;
mod freshness;
mod plain;
mod sdk;
mod targets;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{
    Artifacts, BuildError, BuildEvent, BuildFolders, BuildRequest, Builder, Sdk, SdkCrate,
    Toolchain, Wants,
};
use crate::config::PluginName;

/// Stands for the crates that the program carries.
const FAKE_SDK: &[SdkCrate] = &[
    SdkCrate {
        name: "aigis-plugin-api",
        version: "0.1.0",
        files: &[
            (
                "Cargo.toml",
                "[package]\nname = \"aigis-plugin-api\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 [dependencies]\naigis-macros = \"0.1.0\"\n",
            ),
            (
                "src/lib.rs",
                "pub use aigis_macros::MARK;\npub mod nested;\n",
            ),
            ("src/nested.rs", ""),
        ],
    },
    SdkCrate {
        name: "aigis-macros",
        version: "0.1.0",
        files: &[
            (
                "Cargo.toml",
                "[package]\nname = \"aigis-macros\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
            ),
            ("src/lib.rs", "pub const MARK: [u8; 9] = *b\"sdk-mark!\";\n"),
        ],
    },
];

/// The manifest of a package named `name`; `rest` follows the `[package]` section.
fn manifest(name: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}\n")
}

const CDYLIB: &str = "[lib]\ncrate-type = [\"cdylib\"]";

/// The source of a library that contains `mark`, nine bytes long.
fn library(mark: &str) -> String {
    format!("#[unsafe(no_mangle)]\npub static MARK: [u8; 9] = *b\"{mark}\";\n")
}

fn program(text: &str) -> String {
    format!("fn main() {{ println!(\"{text}\"); }}\n")
}

/// A home with a builder, and programs in front of cargo and rustc that count their calls.
struct Home {
    folder: TempDir,
    toolchain: Toolchain,
    sdk: Sdk,
    builder: Builder,
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = fs::canonicalize(folder.path()).expect("it is there");
        let mut toolchain = Toolchain::from_environment();
        toolchain.cargo = recording(&path.join("cargo"), "cargo");
        toolchain.rustc = recording(&path.join("rustc"), "rustc");
        // Cargo's own home is empty: nothing that happens to be installed can matter.
        let cargo_home = path.join("cargo-home");
        set(&mut toolchain, "CARGO_HOME", cargo_home.as_os_str());
        set(&mut toolchain, "CARGO_NET_OFFLINE", OsStr::new("true"));
        let sdk = Sdk {
            crates: FAKE_SDK.to_vec(),
            lock: None,
        };
        let builder = Builder::new(folders(&path), sdk.clone(), toolchain.clone());
        Self {
            folder,
            toolchain,
            sdk,
            builder,
        }
    }

    /// Returns what a process that starts later would use.
    fn restarted(&self) -> Builder {
        Builder::new(
            folders(&self.path()),
            self.sdk.clone(),
            self.toolchain.clone(),
        )
    }

    fn path(&self) -> PathBuf {
        fs::canonicalize(self.folder.path()).expect("it is there")
    }

    /// Writes the plugin's files.
    fn plugin(&self, name: &str, files: &[(&str, &str)]) -> Plugin {
        let plugin = Plugin {
            name: name.parse().expect("a valid name"),
            root: self.path().join("ext").join(name),
            entrypoint: PathBuf::new(),
            package: None,
            features: Vec::new(),
            excluded: Vec::new(),
            cancel: AtomicBool::new(false),
        };
        for (path, text) in files {
            plugin.write(path, text);
        }
        plugin
    }

    fn build(&self, plugin: &Plugin, wants: Wants<'_>) -> Result<Artifacts, BuildError> {
        self.builder.build(&plugin.request(wants), &mut |_| {})
    }

    /// Builds a library and returns its content.
    fn built_library(&self, plugin: &Plugin) -> Vec<u8> {
        let artifacts = self.build(plugin, Wants::Library).expect("it builds");
        assert!(!artifacts.fresh, "it was taken for unchanged");
        fs::read(artifacts.library.expect("a library")).expect("it is there")
    }

    /// How often `program` was called so far.
    fn calls(&self, program: &str) -> usize {
        let log = self.path().join(format!("{program}.calls"));
        fs::read_to_string(log).map_or(0, |calls| calls.lines().count())
    }
}

fn folders(home: &Path) -> BuildFolders {
    BuildFolders {
        target: home.join("build/target"),
        artifacts: home.join("build/artifacts"),
        stamps: home.join("build/stamps"),
        sdk: home.join("build/sdk"),
    }
}

fn set(toolchain: &mut Toolchain, name: &str, value: &OsStr) {
    toolchain.environment.push((name.into(), value.into()));
}

/// Writes a program that notes its process id and arguments before it becomes `real`.
fn recording(path: &Path, real: &str) -> PathBuf {
    let text = format!("#!/bin/sh\necho \"$$ $*\" >> \"$0.calls\"\nexec {real} \"$@\"\n");
    // Another process writes the file: if this one did, a test that starts a process at the
    // same moment would hold it open for writing, and executing it would fail.
    let status = Command::new("/bin/sh")
        .args(["-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh"])
        .arg(text)
        .arg(path)
        .status();
    assert!(status.expect("there is a shell").success());
    path.to_owned()
}

struct Plugin {
    name: PluginName,
    root: PathBuf,
    entrypoint: PathBuf,
    package: Option<&'static str>,
    features: Vec<String>,
    excluded: Vec<PathBuf>,
    cancel: AtomicBool,
}

impl Plugin {
    fn request<'a>(&'a self, wants: Wants<'a>) -> BuildRequest<'a> {
        BuildRequest {
            plugin: &self.name,
            root: &self.root,
            entrypoint: if self.entrypoint.as_os_str().is_empty() {
                &self.root
            } else {
                &self.entrypoint
            },
            wants,
            package: self.package,
            features: &self.features,
            excluded: &self.excluded,
            cancel: &self.cancel,
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Writes a file whose time is years before any build.
    fn write_old(&self, path: &str, text: &str) {
        self.write(path, text);
        let file = fs::File::options().write(true).open(self.root.join(path));
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.and_then(|file| file.set_modified(old))
            .expect("a time");
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn printed_by(program: &Path) -> String {
    let output = Command::new(program).output().expect("it starts");
    String::from_utf8(output.stdout).expect("text")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}
