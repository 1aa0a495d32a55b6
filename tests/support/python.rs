//! Python programs with the example client and what it needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The folder of the example.
pub(crate) fn example() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repository = package.parent().expect("stands in a folder");
    repository.join("examples/python")
}

/// What Python has to search for the client and the package `msgpack`, which is fetched once if this
/// machine's Python has none.
pub(crate) fn path() -> &'static OsString {
    static PATH: OnceLock<OsString> = OnceLock::new();
    PATH.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let packages = target.join("python");
        let mut folders = vec![example(), packages.clone()];
        if let Some(own) = std::env::var_os("PYTHONPATH") {
            folders.extend(std::env::split_paths(&own));
        }
        let path = std::env::join_paths(folders).expect("no colon in these");
        let is_there = || {
            let mut python = command(&path);
            python.args(["-c", "import msgpack"]).stderr(Stdio::null());
            python.status().expect("python3 is installed").success()
        };
        if !is_there() {
            // Complete or absent: another run of the tests may be at it as well.
            let unfinished = tempfile::tempdir_in(target).expect("a folder for packages");
            let installed = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--target"])
                .arg(unfinished.path())
                .arg("-r")
                .arg(example().join("requirements.txt"))
                .output()
                .expect("python3 is installed");
            assert!(
                installed.status.success(),
                "expected the Python package `msgpack`, found none, and pip cannot fetch it; \
                 install it (`python3 -m pip install msgpack`) and run the tests again:\n{}",
                String::from_utf8_lossy(&installed.stderr)
            );
            // If that fails another run was faster.
            let _ = std::fs::rename(unfinished.keep(), &packages);
            assert!(is_there(), "{} has no `msgpack`", packages.display());
        }
        path
    })
}

fn command(path: &OsString) -> Command {
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", path)
        // Nothing is left in the folder of the example.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}

/// Makes a command of Python that finds the client.
pub(crate) fn python() -> Command {
    command(path())
}
