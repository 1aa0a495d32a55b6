//! The libraries that were brought into this process.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::entrance::Entrance;
use super::{host, is_news, memory};
use crate::abi::reader::{self, OwnMemory};
use crate::abi::{Buffer, Descriptor, SYMBOL, Status};
use crate::backend::{self, Expected};
use crate::codec;
use crate::context::Grant;
use crate::error::Failure;
use crate::library::{Description, SkillDescription};
use crate::logger::Logger;
use crate::session::frame;
use crate::signature::SignatureId;

/// How many libraries a process takes in all its life: none is ever closed again.
const MOST: usize = 64;

/// A library that was brought here. It is never closed: a call may be inside, and its threads may have
/// values of it.
pub struct Loaded {
    /// A copy.
    descriptor: Descriptor,
    skills: Vec<(SkillDescription, SignatureId)>,
    /// By index, cell and scope.
    entrances: Mutex<HashMap<(u32, usize, u64), &'static Entrance>>,
    /// Stays open, so that no other library ever has its path: for a path it knows, the system's loader
    /// returns the code that it has already.
    _memory: OwnedFd,
}

/// How far a library is.
enum State {
    Loading,
    Loaded(&'static Loaded),
    Refused,
}

/// By their names, which follow from their content.
static LIBRARIES: Mutex<BTreeMap<String, State>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the library of this name, if it is here.
pub(crate) fn loaded(name: &str) -> Option<&'static Loaded> {
    match lock(&LIBRARIES).get(name) {
        Some(State::Loaded(library)) => Some(library),
        Some(State::Loading | State::Refused) | None => None,
    }
}

/// Takes a library that a core has sent, and loads it on a thread of its own, unless it is here.
pub(crate) fn receive(library: frame::Library, memory: OwnedFd) {
    {
        let mut libraries = lock(&LIBRARIES);
        if libraries.contains_key(&library.name) {
            return;
        }
        if libraries.len() >= MOST {
            drop(libraries);
            static TOLD: AtomicBool = AtomicBool::new(false);
            if !TOLD.swap(true, Ordering::Relaxed) {
                refused(
                    &library.plugin,
                    &format!("this process has taken {MOST} libraries already"),
                );
            }
            return;
        }
        libraries.insert(library.name.clone(), State::Loading);
    }
    let name = library.name.clone();
    let plugin = library.plugin.clone();
    let spawned = thread::Builder::new()
        .name("aigis-portable".to_owned())
        .spawn(move || {
            let state = match load(&library, memory) {
                Ok(loaded) => State::Loaded(Box::leak(Box::new(loaded))),
                Err(reason) => {
                    refused(&library.plugin, &reason);
                    State::Refused
                }
            };
            lock(&LIBRARIES).insert(library.name, state);
            is_news();
        });
    if let Err(error) = spawned {
        refused(&plugin, &format!("no thread can be started: {error}"));
        lock(&LIBRARIES).remove(&name);
    }
}

/// Says in the log that a library cannot be used here.
fn refused(plugin: &str, reason: &str) {
    Logger::to_stderr().warn(format_args!(
        "the portable skills of {plugin} are called in the core, as all others are: its library cannot \
         be used here: {reason}"
    ));
}

/// Opens a library and checks it as a core does. The core has tried it out already, in a process that
/// might have died of it.
fn load(library: &frame::Library, memory: OwnedFd) -> Result<Loaded, String> {
    memory::check(&memory, library.size)?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    // SAFETY: a core has opened this very content, run its constructors and come back, and nobody can
    // have changed it: it is sealed.
    let opened = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
    let opened = opened.map_err(|error| {
        let reason = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string);
        format!("it cannot be opened: {reason}")
    })?;
    // SAFETY: only the address is taken here; what it points to is checked before it is used.
    let address = unsafe { opened.get::<*const c_void>(SYMBOL.as_bytes()) };
    let address = address.map(|symbol| symbol.into_raw().cast_const());
    // From here on it stays, and with it its path, whatever is found.
    std::mem::forget(opened);
    let descriptor = address
        .map_err(|_| format!("it exports no `{SYMBOL}`"))
        .and_then(describe);
    match descriptor {
        Ok((descriptor, description)) => Ok(Loaded {
            descriptor,
            skills: description
                .skills
                .into_iter()
                .map(|skill| {
                    let id = skill.signature.id();
                    (skill, id)
                })
                .collect(),
            entrances: Mutex::default(),
            _memory: memory,
        })
        .and_then(|loaded| loaded.open(&library.plugin)),
        Err(reason) => {
            std::mem::forget(memory);
            Err(reason)
        }
    }
}

/// Checks the descriptor at `address`, copies it and asks the library what it has.
fn describe(address: *const c_void) -> Result<(Descriptor, Description), String> {
    let memory = OwnMemory::new()
        .map_err(|error| format!("the memory of this process cannot be read: {error}"))?;
    let checked = reader::check(&memory, address.expose_provenance());
    let checked = checked.map_err(|flaw| flaw.to_string())?;
    // SAFETY: it has just been checked, at this address, and its library is never closed.
    let descriptor = unsafe { reader::copy(address, &checked) };
    // SAFETY: the descriptor is a checked copy. A core has tried the function in a process of its own.
    let description = unsafe { reader::describe(&memory, &descriptor) };
    Ok((descriptor, description.map_err(|flaw| flaw.to_string())?))
}

impl Loaded {
    /// Gives the library its host. Its constructors are not run.
    fn open(self, plugin: &str) -> Result<Self, String> {
        let grant = Grant {
            plugin: plugin.to_owned(),
            generation: 0,
            home: Default::default(),
            data: Default::default(),
            core_pid: 0,
            instance: 0,
            settings: None,
            brought: true,
        };
        let grant = codec::to_vec(&grant).map_err(|error| error.to_string())?;
        let mut error = Buffer::default();
        let host = host::of(plugin);
        let status = (self.descriptor.open)(
            host,
            grant.as_slice().into(),
            [].as_slice().into(),
            &mut error,
        );
        if status == Status::Ok {
            return Ok(self);
        }
        let failure = Failure::decode(error.as_slice());
        // It stays, as it is open.
        std::mem::forget(self);
        Err(failure.to_string())
    }

    fn skill(&self, index: u32) -> Option<&(SkillDescription, SignatureId)> {
        self.skills.get(usize::try_from(index).ok()?)
    }

    /// Returns the id of a skill's signature.
    pub(super) fn id(&self, index: u32) -> Option<SignatureId> {
        self.skill(index).map(|(_, id)| *id)
    }

    /// Returns the typed entry of a skill, or null.
    pub(super) fn entry(&self, index: u32) -> *const c_void {
        (self.descriptor.direct)(index)
    }

    /// Runs a skill with encoded arguments.
    pub(super) fn call(&self, index: u32, arguments: &[u8], out: &mut Buffer) -> Status {
        (self.descriptor.call)(index, arguments.into(), out)
    }
}

/// The code of what serves an import, as a session knows it.
pub struct Brought {
    pub(crate) library: &'static Loaded,
    pub(crate) index: u32,
    /// Says which version serves.
    pub(crate) cell: &'static AtomicU64,
    /// Which version the library is.
    pub(crate) ticket: u64,
}

impl Brought {
    /// Makes the way in for the calls of this thread's session, if this is what they expect.
    pub(super) fn entrance(&self, name: &str, expected: &Expected) -> Option<&'static Entrance> {
        let (skill, id) = self.library.skill(self.index)?;
        let fits = skill.portable
            && !skill.asynchronous
            && skill.name == name
            && expected.differences(&skill.signature, id).is_empty();
        if !fits {
            return None;
        }
        let scope = backend::scope_number();
        let key = (self.index, std::ptr::from_ref(self.cell).addr(), scope);
        let mut entrances = lock(&self.library.entrances);
        let entrance = entrances.entry(key).or_insert_with(|| {
            Box::leak(Box::new(Entrance::new(
                self.cell,
                scope,
                self.library,
                self.index,
            )))
        });
        entrance.is_version(self.ticket);
        Some(entrance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(content: &[u8]) -> (frame::Library, OwnedFd) {
        let (memory, size) = memory::write(content, |_| {}).expect("there is memory");
        let library = frame::Library {
            name: "tested-0.so".to_owned(),
            plugin: "tested".to_owned(),
            size,
        };
        (library, memory)
    }

    fn refusal(library: &frame::Library, memory: OwnedFd) -> String {
        load(library, memory).err().expect("is refused")
    }

    #[test]
    fn what_is_no_library_is_refused() {
        let (library, memory) = sent(b"no library at all");
        let reason = refusal(&library, memory);
        assert!(
            reason.contains("it cannot be opened: /proc/self/fd/"),
            "{reason}"
        );
    }

    #[test]
    fn what_is_not_as_was_said_is_refused_unopened() {
        let (mut library, memory) = sent(b"no library at all");
        library.size += 1;
        let reason = refusal(&library, memory);
        assert_eq!(reason, "its memory should hold 18 bytes, it holds 17");

        let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
        let open = rustix::fs::memfd_create("open", flags).expect("there is memory");
        rustix::io::write(&open, b"no library at all").expect("is written");
        library.size -= 1;
        let reason = refusal(&library, open);
        assert!(reason.contains("sealed"), "{reason}");
    }

    #[test]
    fn no_more_libraries_are_taken_than_a_process_keeps() {
        for number in 0..MOST + 6 {
            let (library, memory) = sent(b"no library at all");
            let name = format!("tested-{number}.so");
            receive(frame::Library { name, ..library }, memory);
        }
        assert_eq!(lock(&LIBRARIES).len(), MOST);
        assert!(loaded("tested-0.so").is_none());
        assert!(loaded(&format!("tested-{}.so", MOST + 5)).is_none());
    }

    #[test]
    fn a_library_of_another_kind_is_refused() {
        let libc = std::fs::read_to_string("/proc/self/maps").expect("is Linux");
        let libc = libc
            .lines()
            .find_map(|line| {
                line.split_once('/')
                    .filter(|(_, path)| path.contains("libgcc_s"))
            })
            .map(|(_, path)| format!("/{path}"))
            .expect("is linked to it");
        let (library, memory) = sent(&std::fs::read(libc).expect("is a file"));
        let reason = refusal(&library, memory);
        assert_eq!(reason, "it exports no `aigis_plugin_descriptor`");
    }
}
