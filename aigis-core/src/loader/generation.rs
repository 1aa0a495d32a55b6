//! One loaded version of one plugin's library.

use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{
    Description, Failure, FailureKind, Grant, RUNTIME_THREAD, Shape, Signature,
};
use aigis_plugin_api::abi::reader::{self, OwnMemory};
use aigis_plugin_api::abi::{Buffer, Descriptor, HostApi, SYMBOL, Status};
use aigis_plugin_api::codec;

use super::crash::{Listed, Whose};
use super::follow::{self, Followed, Opened};
use super::guard::{Stay, Within, seats};
use super::host_api::{self, HostContext};
use super::life::{GenerationState, Life};
use super::link::Pins;
use super::serving::{Begin, Body, Key, Open, Serving, read};
use super::{Code, LoadError, Probed, Services, entries, lock, produced};
use crate::config::PluginName;
use crate::logging::Level;
use crate::logging::spans::Carried;
use crate::registry::Offer;

/// How often a shutdown is looked for while a `new` runs.
const CLOSING_CHECK: Duration = Duration::from_millis(100);

/// How long the streams of a generation may go on after it was replaced, where its plugin says nothing else.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long threads that `new` has waited for may take to end: they say that they are done before.
const ENDING: Duration = Duration::from_millis(10);

/// Whose code it is.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) plugin: PluginName,
    pub(crate) generation: u64,
}

/// A loaded library. What it offers is found through slots; when it has been taken out of them, it is
/// to be [retired](super::retire).
pub(crate) struct Generation {
    pub(super) label: Arc<Label>,
    /// A copy; its functions may be called for as long as the library is mapped.
    pub(super) descriptor: Arc<Descriptor>,
    pub(super) services: Weak<dyn Services>,
    /// What callers find in slots, one for each skill of the description. The last three name the
    /// generation as a whole, the streams that it makes, and its waiting for those of others.
    servings: Box<[Serving]>,
    description: Description,
    /// For the library, which knows their addresses. Freed once it has been unmapped.
    pub(super) context: &'static HostContext,
    pub(super) api: &'static HostApi,
    /// Its constructors have run, and its `cleanup` has not.
    pub(super) open: AtomicBool,
    /// How long its streams may go on after it was replaced.
    drain: Mutex<Duration>,
    /// What must be there for as long as the generation is open, such as its secrets.
    pub(super) held: Mutex<Vec<Box<dyn Any + Send>>>,
    pub(super) library: Opened,
    /// Its own file, if it has one.
    pub(super) copy: Option<PathBuf>,
    pub(super) life: Arc<Life>,
    /// By it the code is known if the process dies in it; until it is unmapped.
    pub(super) listed: Mutex<Option<Listed>>,
}

impl Generation {
    pub(crate) fn plugin(&self) -> &PluginName {
        &self.label.plugin
    }

    pub(crate) fn number(&self) -> u64 {
        self.label.generation
    }

    /// Returns what the library says about itself.
    pub(crate) fn description(&self) -> &Description {
        &self.description
    }

    /// Returns what serves each skill, in the order of the description.
    pub(crate) fn servings(&self) -> &[Serving] {
        skills_of(&self.servings)
    }

    /// Returns the library, if any of its skills may be brought to callers.
    pub(crate) fn code(&self) -> Option<&Code> {
        let mut codes = self.servings().iter().filter_map(Serving::code);
        codes.next().map(|(code, _)| &**code)
    }

    /// Returns what names the generation as a whole in a frame.
    pub(crate) fn home(&self) -> *const Serving {
        let [.., home, _, _] = &*self.servings else {
            return std::ptr::null();
        };
        home
    }

    /// Returns what names its streams in a frame, once they have begun: the state is handed over while
    /// they go on.
    pub(super) fn stream_home(&self) -> *const Serving {
        let [.., streams, _] = &*self.servings else {
            return std::ptr::null();
        };
        streams
    }

    /// Returns what names it in a frame while it waits for an item that another makes: that may take for
    /// ever, and neither a hand-over nor its end waits for it.
    pub(super) fn pull_home(&self) -> *const Serving {
        self.servings
            .last()
            .map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// Returns how far it is in its life.
    pub(crate) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Returns the frames of whoever is inside.
    pub(crate) fn within(&self) -> Within {
        Within::of(&self.servings)
    }

    /// Returns the frames of whoever is inside, but for the items that it waits for.
    pub(super) fn within_work(&self) -> Within {
        self.within_all_but(1)
    }

    /// Returns the frames of whoever is inside, but for its streams and the items that it waits for.
    pub(crate) fn within_calls(&self) -> Within {
        self.within_all_but(2)
    }

    /// Returns the frames of those whose calls a hand-over does not hold: of who is inside, and of what
    /// it waits for, which who is inside may wait for.
    pub(crate) fn within_unheld(&self) -> Within {
        let pulls = self.servings.last().map(std::slice::from_ref);
        Within::any([self.within_calls(), Within::of(pulls.unwrap_or_default())])
    }

    /// Leaves out the last `homes`.
    fn within_all_but(&self, homes: usize) -> Within {
        let left = self.servings.len().saturating_sub(homes);
        self.servings
            .get(..left)
            .map_or_else(Within::default, Within::of)
    }

    /// Returns what its imports expect of the skills of others.
    pub(crate) fn imports(&self) -> Vec<(String, Signature)> {
        self.context.imports()
    }

    /// Keeps `what` until the generation's `cleanup` has run.
    pub(crate) fn hold(&self, what: impl Any + Send) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(Box::new(what));
    }

    /// Makes its calls go to the servings of `pins`, whatever the slots say.
    pub(crate) fn pin(&self, pins: &Arc<Pins>) {
        self.context.pin(Some(pins));
    }

    /// Makes its calls go where the slots say.
    pub(crate) fn unpin(&self) {
        self.context.pin(None);
    }

    /// Says how long its streams may go on after it was replaced.
    pub(crate) fn drain_within(&self, timeout: Duration) {
        *lock(&self.drain) = timeout;
    }

    /// Ends its streams when they have had their time; for whoever has taken it out of its slots.
    pub(super) fn supersede_later(self: &Arc<Self>) {
        let Some(services) = self.services.upgrade() else {
            return;
        };
        let after = *lock(&self.drain);
        let (generation, host) = (Arc::downgrade(self), Arc::downgrade(&services));
        let then = move || {
            if let (Some(generation), Some(services)) = (generation.upgrade(), host.upgrade()) {
                // What drops a stream is code of the plugin.
                services.run(Box::new(move || {
                    let plugin = generation.plugin().as_str();
                    let failure = produced::superseded(plugin, after);
                    generation.context.streams.supersede(&failure);
                }));
            }
        };
        // It finds nothing to end when the generation has gone before.
        let _ = services.after(after, Box::new(then));
    }

    /// Says that new calls go to it.
    pub(crate) fn serves(&self) {
        self.life.enter(GenerationState::Serving, None);
    }

    /// Writes down its state for the next version; `None` when its author wrote no `save`. Only while
    /// nobody is inside. One that does not return within `limit` goes on, and its result is lost.
    pub(crate) fn save(self: &Arc<Self>, limit: Duration) -> Result<Option<Vec<u8>>, LoadError> {
        self.apart("aigis-save", "save", limit, |generation| {
            let mut out = Buffer::default();
            match (generation.descriptor.save)(&mut out) {
                Status::Absent => Ok(None),
                status => read(status, out).map(Some),
            }
        })
    }

    /// Runs the constructors. Returns how many threads they have left running, besides those of the
    /// library's runtime; `None` if that is not known, because the library cannot be followed.
    pub(crate) fn open(
        self: &Arc<Self>,
        grant: &Grant,
        saved: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Option<usize>, LoadError> {
        let grant = codec::to_vec(grant).map_err(|error| {
            LoadError::Open(Failure::new(FailureKind::Internal, error.to_string()))
        })?;
        self.apart("aigis-new", "new", limit, move |generation| {
            CONSTRUCTING.set(true);
            generation.construct(&grant, saved.as_deref().unwrap_or_default())?;
            Ok(generation.threads_left())
        })
    }

    /// Runs code of the library on a thread of its own, called `name`: a `what` that never returns must
    /// not take the core with it.
    fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        name: &str,
        what: &'static str,
        limit: Duration,
        body: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, LoadError> {
        let (sender, outcome) = mpsc::channel();
        let generation = Arc::clone(self);
        let carried = Carried::here();
        // From before the thread begins: should nobody wait any more, even then the library stays for
        // as long as this runs.
        let stay = self.stay();
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _stay = stay;
            let returned = carried.run(|| seats::within(generation.home(), || body(&generation)));
            // Nobody listens any more when it took too long.
            let _ = sender.send(returned);
        });
        spawned.map_err(LoadError::Thread)?;
        let begun = Instant::now();
        let stuck = || LoadError::Stuck(what, begun.elapsed());
        loop {
            match outcome.recv_timeout(CLOSING_CHECK.min(limit)) {
                Ok(outcome) => return outcome.map_err(LoadError::Open),
                Err(RecvTimeoutError::Disconnected) => return Err(stuck()),
                Err(RecvTimeoutError::Timeout) => {
                    let closing = self.services.upgrade().is_none_or(|s| s.is_closing());
                    if begun.elapsed() > limit || closing {
                        return Err(stuck());
                    }
                }
            }
        }
    }

    fn construct(&self, grant: &[u8], saved: &[u8]) -> Result<(), Failure> {
        let mut error = Buffer::default();
        let status = (self.descriptor.open)(self.api, grant.into(), saved.into(), &mut error);
        read(status, error)?;
        self.open.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn threads_left(&self) -> Option<usize> {
        let followed = self.library.followed();
        if followed.gap().is_some() {
            return None;
        }
        let deadline = Instant::now() + ENDING;
        Some(followed.wait_threads(RUNTIME_THREAD, deadline))
    }

    /// Keeps the generation where it is, from any thread.
    pub(super) fn stay(&self) -> Stay {
        Stay::with(self.home())
    }

    /// Keeps it where it is while it waits for an item that another makes.
    pub(super) fn stay_for_pull(&self) -> Stay {
        Stay::with(self.pull_home())
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.life.status().state != GenerationState::Unmapped {
            // Code that is still there may call the host.
            return;
        }
        // SAFETY: both came from `Box::leak` in `load`. The library that knew them is unmapped, so that
        // none of its code can run; the host's own uses of them borrow the generation or keep a frame
        // of it, and all frames were gone before the library was closed.
        unsafe {
            drop(Box::from_raw(std::ptr::from_ref(self.api).cast_mut()));
            drop(Box::from_raw(std::ptr::from_ref(self.context).cast_mut()));
        }
    }
}

thread_local! {
    /// Whether this thread runs a plugin's constructors.
    static CONSTRUCTING: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether this call comes from a plugin's `new`.
pub(crate) fn is_constructing() -> bool {
    CONSTRUCTING.get()
}

/// Opens a library that has passed the probe, which has told what it offers, under a file name that
/// was never used before: for a name it knows, the system's loader returns the code that it has
/// already. Its constructors are still to be run.
pub(crate) fn load(
    library: &Path,
    copies: &Path,
    plugin: &PluginName,
    number: u64,
    probed: Probed,
    services: &Arc<dyn Services>,
) -> Result<Arc<Generation>, LoadError> {
    let copy = copy(library, copies, plugin, number)?;
    open(
        library,
        Some(copy),
        plugin,
        number,
        Some(probed.description),
        services,
    )
}

/// Opens a library in a process that opens no other, where it lies, and asks it what it offers. It has
/// passed the probe. Its constructors are still to be run.
pub(crate) fn load_alone(
    library: &Path,
    plugin: &PluginName,
    number: u64,
    services: &Arc<dyn Services>,
) -> Result<Arc<Generation>, LoadError> {
    open(library, None, plugin, number, None, services)
}

fn open(
    library: &Path,
    copy: Option<PathBuf>,
    plugin: &PluginName,
    number: u64,
    description: Option<Description>,
    services: &Arc<dyn Services>,
) -> Result<Arc<Generation>, LoadError> {
    let artifact = artifact(library);
    // SAFETY: the probe has opened this very file, run its constructors and come back.
    let library =
        unsafe { follow::open(copy.as_deref().unwrap_or(library)) }.map_err(LoadError::Library)?;
    let address = library
        .symbol(SYMBOL.as_bytes())
        .map_err(LoadError::Library)?;
    let memory = match description {
        Some(_) => OwnMemory::new(),
        None => OwnMemory::with_code(),
    };
    let memory = memory.map_err(LoadError::Memory)?;
    // `library` stays with the generation until it is retired; nothing hands the functions on.
    let (_, descriptor) =
        entries::copied(&memory, address).map_err(|flaw| LoadError::Unfit(flaw.to_string()))?;
    let description = match description {
        Some(description) => description,
        // SAFETY: the descriptor is a checked copy, and its library is loaded. This process exists for the
        // library: it may die of what the function does.
        None => unsafe { reader::describe(&memory, &descriptor) }
            .map_err(|flaw| LoadError::Unfit(flaw.to_string()))?,
    };
    let descriptor = Arc::new(descriptor);

    let label = Arc::new(Label {
        plugin: plugin.clone(),
        generation: number,
    });
    let context: &'static HostContext = Box::leak(Box::new(HostContext::new(
        plugin.clone(),
        Arc::downgrade(services),
    )));
    let api: &'static HostApi = Box::leak(Box::new(host_api::of(context)));
    let bytes = library.followed().bytes();
    // A library that is alone in its process serves nobody but its core.
    let code = copy
        .as_deref()
        .and_then(|copy| portable_code(copy, &artifact, &description, plugin, services));
    let servings = servings(
        &descriptor,
        &description,
        &label,
        services,
        context,
        code.as_ref(),
    );
    let listed = services.crash_file().map(|file| {
        let whose = whose(&label, artifact, library.followed(), &servings);
        Listed::library(&file, whose)
    });
    let generation = Arc::new(Generation {
        servings,
        label,
        descriptor,
        services: Arc::downgrade(services),
        description,
        context,
        api,
        open: AtomicBool::new(false),
        drain: Mutex::new(DRAIN_TIMEOUT),
        held: Mutex::default(),
        library,
        copy,
        life: Arc::new(Life::new(number, bytes)),
        listed: Mutex::new(listed),
    });
    generation.context.belongs_to(&generation);
    Ok(generation)
}

/// Returns the name of a library's file, which follows from its content.
pub(crate) fn artifact(library: &Path) -> String {
    let name = library.file_name().unwrap_or(library.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Makes what a library is known by if the process dies in it.
fn whose(label: &Label, artifact: String, followed: &Arc<Followed>, servings: &[Serving]) -> Whose {
    let addresses = servings.as_ptr_range();
    let skills = skills_of(servings);
    Whose {
        plugin: label.plugin.to_string(),
        generation: label.generation,
        artifact,
        library: followed.range(),
        servings: addresses.start.addr()..addresses.end.addr(),
        stride: size_of::<Serving>(),
        skills: skills
            .iter()
            .map(|serving| serving.offer.name.clone())
            .collect(),
        followed: Arc::as_ptr(followed).addr(),
    }
}

fn servings(
    descriptor: &Arc<Descriptor>,
    description: &Description,
    label: &Arc<Label>,
    services: &Arc<dyn Services>,
    context: &'static HostContext,
    code: Option<&Arc<Code>>,
) -> Box<[Serving]> {
    let skills = description.skills.iter().zip(0_u32..);
    let skills = skills.map(|(skill, index)| {
        let id = skill.signature.id();
        Serving {
            entry: (descriptor.direct)(index),
            id: Key::of(&id),
            offer: Arc::new(Offer {
                name: skill.name.clone(),
                doc: skill.doc.clone(),
                id,
                signature: skill.signature.clone(),
                plugin: label.plugin.to_string(),
                generation: label.generation,
                idempotent: skill.idempotent,
            }),
            body: Body::Library {
                call: descriptor.call,
                index,
                code: code.filter(|_| skill.portable).map(Arc::clone),
                begin: skill.asynchronous.then(|| Begin {
                    descriptor: Arc::clone(descriptor),
                    services: Arc::downgrade(services),
                }),
                open: skill.signature.has_streams().then(|| Open {
                    descriptor: Arc::clone(descriptor),
                    context,
                }),
            },
        }
    });
    let signature = Signature {
        parameters: Vec::new(),
        result: Shape::Unit,
        error: None,
        constant: false,
    };
    let offer = Arc::new(Offer {
        name: label.plugin.to_string(),
        doc: String::new(),
        id: signature.id(),
        signature,
        plugin: label.plugin.to_string(),
        generation: label.generation,
        idempotent: false,
    });
    let homes = [(); HOMES].map(|()| Serving {
        entry: std::ptr::null(),
        id: Key::of(&offer.id),
        offer: Arc::clone(&offer),
        body: Body::Home,
    });
    skills.chain(homes).collect()
}

/// How many servings are no skills; see [`Generation`].
const HOMES: usize = 3;

fn skills_of(servings: &[Serving]) -> &[Serving] {
    let skills = servings.len().saturating_sub(HOMES);
    servings.get(..skills).unwrap_or_default()
}

/// Makes what is sent to the callers of portable skills, if there are any in the library `copy`.
fn portable_code(
    copy: &Path,
    artifact: &str,
    description: &Description,
    plugin: &PluginName,
    services: &Arc<dyn Services>,
) -> Option<Arc<Code>> {
    if !description.skills.iter().any(|skill| skill.portable) {
        return None;
    }
    match Code::read(copy, artifact, plugin) {
        Ok(code) => Some(Arc::new(code)),
        Err(error) => {
            let message =
                format!("its portable skills are called in the core, as all others are: {error}");
            services.log(plugin, Level::Warn, &message);
            None
        }
    }
}

fn copy(
    library: &Path,
    copies: &Path,
    plugin: &PluginName,
    number: u64,
) -> Result<PathBuf, LoadError> {
    let failed = |source| LoadError::Copy {
        path: library.to_owned(),
        source,
    };
    let file = tempfile::Builder::new()
        .prefix(&format!("{plugin}-{number}-"))
        .suffix(".so")
        .tempfile_in(copies)
        .map_err(failed)?;
    fs::copy(library, file.path()).map_err(failed)?;
    let (_, path) = file.keep().map_err(|error| failed(error.error))?;
    Ok(path)
}
