//! Libraries with portable skills, as they are sent to callers.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aigis_plugin_api::portable::write_library;
use aigis_plugin_api::session::frame::Library;
use rustix::rand::GetRandomFlags;

use crate::config::PluginName;

/// The library of one generation, in memory that can be sent.
pub(crate) struct Code {
    /// What is said of it.
    pub(crate) library: Library,
    /// Stands for this generation where callers look for who serves. No other one has it.
    pub(crate) ticket: u64,
    memory: OwnedFd,
}

/// Why a library cannot be sent; its skills are called where they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    #[error("its library cannot be put into memory that can be sent: {0}")]
    Memory(io::Error),
    #[error(
        "the content of its library has changed since it was built: the hash begins with {found}, the file is \
         called `{name}`"
    )]
    Changed { name: String, found: String },
}

impl Code {
    /// Reads the library `file`, which is a copy of the artifact called `name`.
    pub(super) fn read(file: &Path, name: &str, plugin: &PluginName) -> Result<Self, CodeError> {
        let mut hasher = blake3::Hasher::new();
        let opened = File::open(file).map_err(CodeError::Memory)?;
        let seen = |bytes: &[u8]| {
            hasher.update(bytes);
        };
        let (memory, size) = write_library(opened, seen).map_err(CodeError::Memory)?;
        // Callers take two libraries of one name for the same: so the name has to be right.
        let hash = hasher.finalize().to_hex();
        if !is_named_after(name, &hash) {
            return Err(CodeError::Changed {
                name: name.to_owned(),
                found: hash[..16].to_owned(),
            });
        }
        Ok(Self {
            library: Library {
                name: name.to_owned(),
                plugin: plugin.to_string(),
                size,
            },
            ticket: ticket(),
            memory,
        })
    }

    /// Returns the memory, to be sent.
    pub(crate) fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// Tells whether an artifact's name follows from its content, as that of `words-0123456789abcdef.so`.
fn is_named_after(name: &str, hash: &str) -> bool {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let digits = stem.rsplit_once('-').map_or("", |(_, digits)| digits);
    digits.len() >= 16 && hash.starts_with(digits)
}

/// Makes a number that was never given away, here or by a core before: callers that meet both must not
/// take the one for the other.
fn ticket() -> u64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        let mut bytes = [0; 8];
        // Without random numbers, the time and the process tell cores apart.
        if rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(bytes.len()) {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            let mixed = since.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40);
            bytes = mixed.to_ne_bytes();
        }
        AtomicU64::new(u64::from_ne_bytes(bytes))
    });
    // 0 stands for nobody.
    loop {
        match NEXT.fetch_add(1, Ordering::Relaxed) {
            0 => {}
            ticket => return ticket,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> PluginName {
        "words".parse().expect("is a name")
    }

    #[test]
    fn a_library_is_sent_as_it_was_built() {
        let folder = tempfile::tempdir().expect("there is room");
        let file = folder.path().join("copy.so");
        std::fs::write(&file, b"code").expect("is written");
        let hash = blake3::hash(b"code").to_hex();
        let artifact = format!("words-{}.so", &hash[..16]);
        let code = Code::read(&file, &artifact, &name()).expect("is as it was");
        assert_eq!((code.library.size, &*code.library.name), (4, &*artifact));
        let mut sent = [0; 8];
        assert_eq!(rustix::io::pread(code.memory(), &mut sent, 0), Ok(4));
        assert_eq!(&sent[..4], b"code");
        assert!(rustix::io::pwrite(code.memory(), b"evil", 0).is_err());
        let again = Code::read(&file, &artifact, &name()).expect("is as it was");
        assert_ne!(code.ticket, again.ticket);
    }

    #[test]
    fn a_library_that_has_changed_is_not_sent() {
        let folder = tempfile::tempdir().expect("there is room");
        let file = folder.path().join("copy.so");
        let hash = blake3::hash(b"code").to_hex();
        let artifact = format!("words-{}.so", &hash[..16]);
        let missing = Code::read(&file, &artifact, &name());
        assert!(matches!(missing, Err(CodeError::Memory(_))));
        std::fs::write(&file, b"evil").expect("is written");
        let changed = Code::read(&file, &artifact, &name())
            .err()
            .expect("is refused");
        assert!(changed.to_string().contains(&artifact), "{changed}");
        // Nor one whose name says nothing.
        assert!(Code::read(&file, "words.so", &name()).is_err());
    }
}
