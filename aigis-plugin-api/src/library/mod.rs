//! What runs inside a loaded library: its skills behind the descriptor, its panics, its events, and
//! the states that one version hands to the next.

mod bridge;
mod handover;
mod panic;
mod program;
mod pulled;
mod runtime;
mod task;

use std::ffi::c_void;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::abi::{HostApi, HostCell, Instance, Job};
use crate::child;
use crate::codec;
use crate::context::{Context, Grant};
use crate::error::{Failure, FailureKind};
use crate::logger::Logger;
use crate::session;
use crate::signature::Signature;
use crate::skill::{Block, Skill};
use crate::stream::{BoxItems, Flow, Streams};
use handover::SavedStates;

pub(crate) use handover::save;
pub use handover::{Restored, Saved, SavedOf, Unrestored, Unsaved};
pub use panic::contain;
pub(crate) use panic::{contain_callback, contain_entry, message_of};
pub(crate) use program::{close_program, open_program};
pub(crate) use pulled::Pulled;
pub use runtime::RUNTIME_THREAD;
pub(crate) use runtime::inside;
pub(crate) use task::TaskFuture;
pub(crate) use task::{Closure, Running};

/// What a library says about its skills; crosses encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The skills; the place of each is its index in `call` and `direct`.
    pub skills: Vec<SkillDescription>,
    /// Whether the author wrote a `cleanup`.
    pub cleanup: bool,
    /// Whether a block has something to hand over to the next version.
    #[serde(default)]
    pub save: bool,
    /// Whether a block can take over what the version before has saved.
    #[serde(default)]
    pub restore: bool,
}

/// What a library says about one skill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillDescription {
    /// Its full name.
    pub name: String,
    /// Its documentation.
    #[serde(default)]
    pub doc: String,
    /// Its signature.
    pub signature: Signature,
    /// Whether it takes the injected `logger`.
    #[serde(default)]
    pub logger: bool,
    /// Whether it may be run again when it is unknown if it ran.
    #[serde(default)]
    pub idempotent: bool,
    /// Whether it is `async`: begun and polled, not called.
    #[serde(default)]
    pub asynchronous: bool,
    /// Whether its code may be brought into a caller's process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub portable: bool,
}

/// The core that this library is loaded into; unset in a program.
static HOST: HostCell = HostCell::new();
static CONTEXT: OnceLock<Context> = OnceLock::new();

/// Returns the core that this library is loaded into, or `None` in a program.
#[inline]
pub(crate) fn host() -> Option<&'static HostApi> {
    HOST.get()
}

/// Returns the context to inject into a skill.
///
/// # Errors
/// Outside a core and a launched process there is none.
pub fn context() -> Result<&'static Context, Failure> {
    CONTEXT.get().ok_or_else(|| {
        Failure::new(
            FailureKind::NotConnected,
            "there is no context here: a skill gets one when a core has loaded its plugin",
        )
    })
}

/// Sets the context of this process, once.
pub(crate) fn set_context(context: Context) -> &'static Context {
    CONTEXT.get_or_init(|| context)
}

/// The blocks in the order of the source: collection itself has none.
fn blocks() -> &'static [&'static Block] {
    static BLOCKS: OnceLock<Vec<&'static Block>> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let mut blocks: Vec<&Block> = inventory::iter::<Block>().collect();
        blocks.sort_by_key(|block| (block.module, block.line));
        blocks
    })
}

fn skills() -> &'static [&'static Skill] {
    static SKILLS: OnceLock<Vec<&'static Skill>> = OnceLock::new();
    SKILLS.get_or_init(|| blocks().iter().flat_map(|block| block.skills).collect())
}

fn skill(index: u32) -> Result<&'static Skill, Failure> {
    let known = usize::try_from(index).ok().and_then(|i| skills().get(i));
    known.copied().ok_or_else(|| {
        Failure::new(
            FailureKind::Internal,
            format!(
                "this library has {} skills, none of number {index}",
                skills().len()
            ),
        )
    })
}

pub(crate) fn describe() -> Result<Vec<u8>, Failure> {
    handover::check(blocks())?;
    let description = Description {
        skills: skills()
            .iter()
            .map(|skill| SkillDescription {
                name: skill.name.to_owned(),
                doc: skill.doc.to_owned(),
                signature: (skill.signature)(),
                logger: skill.logger,
                idempotent: skill.idempotent,
                asynchronous: skill.begin.is_some(),
                portable: skill.portable,
            })
            .collect(),
        cleanup: blocks().iter().any(|block| block.cleanup),
        save: blocks().iter().any(|block| block.save.is_some()),
        restore: blocks().iter().any(|block| block.restore.is_some()),
    };
    codec::to_vec(&description)
        .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
}

pub(crate) fn open(host: &'static HostApi, grant: &[u8], saved: &[u8]) -> Result<(), Failure> {
    let grant: Grant = codec::from_slice(grant).map_err(|error| {
        Failure::new(
            FailureKind::Internal,
            format!("the host's grant cannot be read: {error}"),
        )
    })?;
    let saved = SavedStates::read(saved)?;
    if !HOST.set(host) {
        return Err(Failure::new(
            FailureKind::Internal,
            "this copy of the library is open already",
        ));
    }
    let context = set_context(Context::new(grant, Logger::to_host(host)));
    panic::install();
    bridge::install(host);
    if context.is_brought() {
        // Brought to a caller: what runs there needs no state.
        return Ok(());
    }
    // What a constructor that failed has started would be nobody's.
    open_blocks(blocks(), context, &saved).inspect_err(|_| child::close())
}

/// Makes the states of blocks. A constructor that fails leaves nothing behind: what was made before it
/// is closed again.
fn open_blocks(blocks: &[&Block], context: &Context, saved: &SavedStates) -> Result<(), Failure> {
    for (opened, block) in blocks.iter().enumerate() {
        let Some(open) = block.open else { continue };
        if let Err(failure) = saved.restore(block, || open(context)) {
            for block in blocks[..opened].iter().rev() {
                if let Err(failure) = close_block(block) {
                    log_unreturned(&failure);
                }
            }
            if let Err(failure) = contain("cleanup", runtime::close) {
                log_unreturned(&failure);
            }
            return Err(failure);
        }
    }
    Ok(())
}

pub(crate) fn call(index: u32, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
    let skill = skill(index)?;
    (skill.encoded)(skill.parameters, arguments)
}

/// Makes the future of an async skill; none when the skill is not async.
pub(crate) fn begin(index: u32, arguments: &[u8]) -> Result<Option<Running>, Failure> {
    let skill = skill(index)?;
    let Some(begin) = skill.begin else {
        return Ok(None);
    };
    let future = begin(skill.parameters, arguments.to_vec());
    Ok(Some(Running::new(skill.name, future)))
}

/// Opens a skill whose result or parameters are streams; none when it has none.
pub(crate) fn produce(
    index: u32,
    arguments: &[u8],
    streams: Vec<BoxItems>,
) -> Result<Option<Flow>, Failure> {
    let skill = skill(index)?;
    let Some(open) = skill.open else {
        return Ok(None);
    };
    let opening = open(skill.parameters, arguments.to_vec(), Streams::new(streams));
    Ok(Some(Flow::opening(skill.name, opening)))
}

/// Runs `body` soon, on a thread that may block.
pub(crate) fn run_soon(name: &'static str, body: Box<dyn FnOnce() + Send>) {
    match host() {
        Some(host) => host.run_job(Job::new(Closure::new(name, body))),
        None => session::run_soon(body),
    }
}

pub(crate) fn direct(index: u32) -> *const c_void {
    skill(index).map_or(std::ptr::null(), |skill| {
        (skill.direct)(&(skill.signature)())
    })
}

pub(crate) fn close() -> Result<(), Failure> {
    let outcome = close_blocks(blocks());
    // A `cleanup` may still need them; the thread that waits for them is code of this library.
    child::close();
    outcome
}

fn close_blocks(blocks: &[&Block]) -> Result<(), Failure> {
    // What the plugin's own tasks hold is let go of before the state that they may look at.
    let mut outcome = contain("cleanup", runtime::close);
    for block in blocks.iter().rev() {
        // Every block is closed; the first failure is returned, and the others are logged here.
        match (close_block(block), &outcome) {
            (Ok(()), _) => {}
            (Err(failure), Ok(())) => outcome = Err(failure),
            (Err(failure), Err(_)) => log_unreturned(&failure),
        }
    }
    outcome
}

/// Logs a failure that nobody is told of otherwise; a panic is in the log already.
fn log_unreturned(failure: &Failure) {
    if failure.kind != FailureKind::Panicked
        && let Ok(context) = context()
    {
        context.logger().error(failure);
    }
}

fn close_block(block: &Block) -> Result<(), Failure> {
    match block.close {
        Some(close) => contain("cleanup", close),
        None => Ok(()),
    }
}

/// Puts the state that `new` or `restore` made in its place; the macros call it.
///
/// # Errors
/// What `new` or `restore` returned.
pub fn open_instance<T>(instance: &Instance<T>, made: Result<T, Failure>) -> Result<(), Failure> {
    instance.open(made?);
    Ok(())
}

/// Lends the state of a `#[skills] impl` block to one call; the macros call it.
///
/// The borrow ends with the call, whatever the method asks for: the state is dropped when the last
/// call has left.
///
/// # Errors
/// Before `new` and after `cleanup` there is none; else what `call` returns.
pub fn with_instance<T, R>(
    instance: &Instance<T>,
    call: impl FnOnce(&T) -> Result<R, Failure>,
) -> Result<R, Failure> {
    call(instance.get().ok_or_else(no_state)?)
}

fn no_state() -> Failure {
    Failure::new(
        FailureKind::Refused,
        "the plugin has no state now: its `new` has not finished, or its `cleanup` has run",
    )
}

/// Lends the state of a `#[skills] impl` block to one future; the macros call it.
///
/// The host keeps the generation, and with it the state, until the future has been dropped. The macros
/// take it with the future's own lifetime, about which the author's code knows nothing.
///
/// # Errors
/// As [`with_instance`].
pub fn instance_of<T>(instance: &Instance<T>) -> Result<&T, Failure> {
    instance.get().ok_or_else(no_state)
}

/// Takes the state out and hands it to `cleanup`; the macros call it.
///
/// # Errors
/// What `cleanup` returned.
pub fn close_instance<T>(
    instance: &Instance<T>,
    cleanup: impl FnOnce(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    instance.close().map_or(Ok(()), cleanup)
}

/// Takes the state out, lends it to `cleanup` and drops it; the macros call it.
///
/// The state is dropped apart from `cleanup`: if both panic, neither unwinds through the other, which
/// would abort the process.
///
/// # Errors
/// What `cleanup` returned, or how it or the drop panicked.
pub fn close_lent<T>(
    instance: &Instance<T>,
    cleanup: impl FnOnce(&T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(state) = instance.close() else {
        return Ok(());
    };
    let cleaned = contain("cleanup", || cleanup(&state));
    // If both fail, the panic of the drop is in the log, as every panic is.
    let dropped = discard(state);
    cleaned.and(dropped)
}

/// Drops the state of a block; the macros call it where there is no `cleanup`.
///
/// # Errors
/// How the drop panicked.
pub fn discard<T>(state: T) -> Result<(), Failure> {
    contain("drop", || {
        drop(state);
        Ok(())
    })
}
