//! What an AIGIS plugin is written with.
//!
//! A core plugin exposes functions, its *skills*, with [`skills`]:
//!
//! ```
//! use aigis_plugin_api::skills;
//!
//! #[skills]
//! pub mod greeter {
//!     /// The longest name that `greet` takes, in characters.
//!     pub const MAX_NAME_LENGTH: usize = 64;
//!
//!     /// Greets `name`.
//!     pub fn greet(name: &str) -> String {
//!         format!("Hello, {name}!")
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Anything else calls them with the lines that [`import!`] makes, whether it stands in another
//! core plugin (a direct call) or in another process (a session):
//!
//! ```no_run
//! aigis_plugin_api::import! {
//!     mod greeter {
//!         const MAX_NAME_LENGTH: usize;
//!         fn greet(name: &str) -> String;
//!     }
//! }
//!
//! let text = greeter::greet("zaltu")?;
//! let limit = greeter::MAX_NAME_LENGTH()?;
//! # Ok::<(), aigis_plugin_api::CallError>(())
//! ```
//!
//! Skills may be `async`; [`Context`] sleeps and spawns for them. What comes item by item is a [`Stream`]. Processes of a
//! plugin's own are started with [`child`].
//!
//! Read on at [`skills`], [`import!`], [`launch`](macro@launch), [`skill_type`], [`Context`],
//! [`CallError`] and [`Call`].

#![allow(
    clippy::result_large_err,
    reason = "a `Failure` is rare, and made next to a call that costs far more than moving it"
)]

#[cfg(not(panic = "unwind"))]
compile_error!(
    "a plugin is built with `panic = \"unwind\"`: a panic in it must end in it, not the process"
);

// The macros name this crate by its full name; its own tests use them too.
extern crate self as aigis_plugin_api;

mod backend;
mod call;
mod checks;
mod context;
mod error;
mod join;
mod launch;
mod logger;
mod program;
mod shape;
mod sleep;
#[cfg(feature = "host")]
mod source;

#[doc(hidden)]
pub mod abi;
mod arguments;
pub mod child;
#[doc(hidden)]
pub mod codec;
mod import;
mod library;
#[cfg(any(feature = "host", feature = "portable"))]
#[doc(hidden)]
pub mod portable;
#[doc(hidden)]
pub mod session;
pub mod signature;
mod skill;
mod stream;

/// ```no_run
/// aigis_plugin_api::import! {
///     mod greeter {
///         const MAX_NAME_LENGTH: usize;
///         fn greet(name: &str) -> Result<String, String>;
///     }
/// }
///
/// let text = greeter::greet("zaltu");          // blocks
/// let call = greeter::start::greet("zaltu");   // a `Call`
/// let limit = greeter::MAX_NAME_LENGTH();      // a constant is called as well
/// ```
///
/// What is declared `async` is awaited, whether or not the skill itself is `async`:
///
/// ```no_run
/// aigis_plugin_api::import! {
///     mod greeter {
///         async fn greet(name: &str) -> Result<String, String>;
///     }
/// }
///
/// # async fn f() -> Result<(), aigis_plugin_api::CallError<String>> {
/// let text = greeter::greet("zaltu").await?;   // a `CallFuture`; dropped, it gives the call up
/// # Ok(()) }
/// ```
///
/// The code of a portable skill, called in this process:
///
/// ```no_run
/// aigis_plugin_api::import! {
///     mod text {
///         #[portable]
///         fn distance(one: &str, other: &str) -> usize;
///     }
/// }
///
/// let session = aigis_plugin_api::connect(".")?;
/// let nearest = session.scope(|| text::distance("zaltu", "zalta"))?;   // nanoseconds, once the code is here
/// # Ok::<(), aigis_plugin_api::CallError>(())
/// ```
///
pub use aigis_macros::import;
/// ```no_run
/// use aigis_plugin_api::{Context, launch};
///
/// #[launch]
/// fn launch(ctx: &Context) -> std::io::Result<()> {
///     let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
///     ctx.logger().info(format_args!("listening on {}", listener.local_addr()?));
///     loop {
///         listener.accept()?;
///     }
/// }
/// ```
///
pub use aigis_macros::launch;
/// ```
/// use aigis_plugin_api::skills;
///
/// #[skills(namespace = "text.case")]
/// pub mod letters {
///     /// Known as `text.case.upper`.
///     #[skill(rename = "upper", idempotent)]
///     pub fn to_upper(text: &str) -> String {
///         text.to_uppercase()
///     }
///
///     /// Callers in other processes may bring its code to themselves.
///     #[skill(portable)]
///     pub fn distance(one: &str, other: &str) -> usize {
///         one.chars().zip(other.chars()).filter(|(one, other)| one != other).count()
///     }
///
///     /// Not exposed.
///     #[skill(skip)]
///     pub fn inner() {}
/// }
/// # fn main() {}
/// ```
///
pub use aigis_macros::skill;
/// ```
/// use aigis_plugin_api::skill_type;
///
/// #[skill_type]
/// pub struct Heading {
///     pub level: u8,
///     pub text: String,
///     #[serde(default)]
///     pub anchor: Option<String>,
/// }
/// ```
///
pub use aigis_macros::skill_type;
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use aigis_plugin_api::{Context, skills};
///
/// pub struct Counter {
///     next: AtomicU64,
/// }
///
/// #[skills]
/// impl Counter {
///     pub fn new(_ctx: &Context) -> Self {
///         Self { next: AtomicU64::new(0) }
///     }
///
///     /// Known as `counter.next`.
///     pub fn next(&self) -> u64 {
///         self.next.fetch_add(1, Ordering::Relaxed)
///     }
///
///     /// Waits, but takes no thread meanwhile.
///     pub async fn next_second(&self, ctx: &Context) -> u64 {
///         ctx.sleep(std::time::Duration::from_secs(1)).await;
///         self.next()
///     }
///
///     pub fn cleanup(self) {}
/// }
/// # fn main() {}
/// ```
///
/// A state that outlives a reload:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
/// use aigis_plugin_api::{Logger, skills};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// pub struct Stock {
///     pieces: BTreeMap<String, u64>,
///     /// Since the second version; what the first one saved has no such field.
///     #[serde(default)]
///     orders: Vec<String>,
/// }
///
/// pub struct Store {
///     stock: Mutex<Stock>,
/// }
///
/// #[skills]
/// impl Store {
///     /// Runs at the first start.
///     pub fn new() -> Self {
///         Self { stock: Mutex::default() }
///     }
///
///     /// Runs when another version takes over from this one.
///     pub fn save(&self) -> Result<Stock, String> {
///         let stock = self.stock.lock().map_err(|error| error.to_string())?;
///         Ok(stock.clone())
///     }
///
///     /// Runs in place of `new` when this version takes over from another.
///     pub fn restore(saved: Stock, logger: &Logger) -> Self {
///         logger.info(format_args!("{} orders are open", saved.orders.len()));
///         Self { stock: Mutex::new(saved) }
///     }
///
///     /// Known as `store.order`.
///     pub fn order(&self, what: String) -> Result<usize, String> {
///         let mut stock = self.stock.lock().map_err(|error| error.to_string())?;
///         stock.orders.push(what);
///         Ok(stock.orders.len())
///     }
/// }
/// # fn main() {}
/// ```
///
/// With this crate's feature `tokio`, each loaded version has a tokio runtime of its own, and the
/// futures of its skills and tasks can use tokio's timers and sockets:
///
/// ```
/// # #[cfg(feature = "tokio")]
/// #[aigis_plugin_api::skills]
/// pub mod naps {
///     pub async fn nap() {
///         tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///     }
/// }
/// # fn main() {}
/// ```
///
pub use aigis_macros::skills;
pub use backend::{call, stream};
pub use call::{Call, CallFuture};
pub use codec::JsonError;
pub use codec::Value;
pub use context::{Context, SettingsError};
pub use error::{CallError, Failure, FailureKind, SkillFailure};
pub use join::{JoinError, JoinHandle};
pub use logger::{LogLevel, Logger};
pub use serde;
pub use session::{Session, connect};
pub use shape::{ShapeContext, SkillType};
pub use sleep::TimedOut;
pub use stream::{Stream, StreamSender};

/// What the macros' expansions and the core use; not for authors, and without promises.
#[doc(hidden)]
pub mod __private {
    pub use crate::abi::{Both, Choice, Crossing, Direct, Either, Instance, Nested};
    pub use crate::arguments::{Decode, Modes, Own, Ref, Streamed};
    pub use crate::backend::{Backend, Expected, Request, call_by_name, open_by_name, scope};
    pub use crate::checks::{
        is_given, is_kept, is_received, is_restored, is_returned, is_saved, is_shown, is_taken,
    };
    pub use crate::context::Grant;
    pub use crate::error::{
        AuthorError, Chained, Failure, FailureKind, Payloaded, Shown, Unshown, Valued, cancelled,
        dynamic, timed_out, too_large,
    };
    pub use crate::import::{
        CallOf, ErrorOf, Import, OpenOf, Readable, Unheard, Unreadable, Unserved, ViaBytes,
        ViaEntry, ViaItems, future_of, untyped,
    };
    pub use crate::launch::run as launch;
    pub use crate::library::{
        Description, RUNTIME_THREAD, Restored, Saved, SavedOf, SkillDescription, Unrestored,
        Unsaved, close_instance, close_lent, contain, context, discard, instance_of, open_instance,
        with_instance,
    };
    pub use crate::shape::{Opaque, ShapeOf, Structural};
    pub use crate::signature::{
        EnumShape, FieldShape, Parameter, Shape, Signature, StructShape, VariantShape, differences,
    };
    pub use crate::skill::{
        AsyncSkillFn, Begun, BegunOf, Block, Coded, EncodedOf, EntryOf, Opened, OpenedAsync,
        OpenedOf, Skill, SkillFn, Typed, Unbegun, Uncoded, Unopened, Untyped, no_entry, not_called,
        only_opened,
    };
    #[cfg(feature = "host")]
    pub use crate::source::CRATES as SOURCES;
    pub use crate::stream::{
        BEGUN, BoxItems, Inflow, Items, Limit, Next, Opening, Outflow, Streams, begun, ending,
        failed, lazily, limited, over, seen, single, timed,
    };
    pub use inventory;
}
