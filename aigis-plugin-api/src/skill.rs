//! What `#[skills]` makes of an author's functions.

use std::ffi::c_void;
use std::marker::PhantomData;

use serde::Serialize;

use crate::abi::DirectIn;
use crate::arguments::{Decode, Modes};
use crate::codec;
use crate::context::Context;
use crate::error::{Failure, FailureKind};
use crate::library::TaskFuture;
use crate::signature::Signature;
use crate::stream::{Opening, Openings, Outflow, Streams};

/// One function or constant, with its types.
pub trait SkillFn: 'static {
    /// The modes of its parameters, without the injected ones.
    type Args: Modes;
    /// Its result, without the author's error.
    type Output;
    /// Its full name.
    const NAME: &'static str;

    /// Runs it.
    ///
    /// # Errors
    /// The author's error.
    fn run(values: <Self::Args as Modes>::Values<'_>) -> Result<Self::Output, Failure>;
}

/// One `async` function, with its types.
pub trait AsyncSkillFn: 'static {
    /// The modes of its parameters, without the injected ones.
    type Args: Modes;
    /// Its result, without the author's error.
    type Output;
    /// Its full name.
    const NAME: &'static str;

    /// Makes its future.
    fn run<'a>(
        values: <Self::Args as Modes>::Values<'a>,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send + 'a;
}

/// Runs a skill: the names of its parameters and encoded arguments to an encoded result.
pub(crate) type Encoded = fn(&[&str], &[u8]) -> Result<Vec<u8>, Failure>;

/// Makes the future of an async skill: the names of its parameters and encoded arguments to an encoded
/// result.
pub(crate) type Begin = fn(&'static [&'static str], Vec<u8>) -> TaskFuture;

/// Makes the state of a block.
pub(crate) type Open = fn(&Context) -> Result<(), Failure>;

/// Runs the `save` of a block: encodes what it returns.
pub(crate) type Save = fn() -> Result<Vec<u8>, Failure>;

/// Makes the state of a block from what was saved of it, encoded.
pub(crate) type Restore = fn(&[u8]) -> Result<(), Failure>;

/// Runs the `cleanup` of a block and drops its state.
pub(crate) type Close = fn() -> Result<(), Failure>;

/// One function or constant, without its types.
pub struct Skill {
    /// Its full name.
    pub name: &'static str,
    /// Its documentation, as the author wrote it.
    pub doc: &'static str,
    /// The names of its parameters.
    pub parameters: &'static [&'static str],
    /// Describes it.
    pub signature: fn() -> Signature,
    /// Runs it with encoded arguments, see [`EncodedOf`].
    pub encoded: Encoded,
    /// Returns its typed entry or null, see [`EntryOf`].
    pub direct: fn(&Signature) -> *const c_void,
    /// Whether it takes the injected `logger`.
    pub logger: bool,
    /// Whether it may be run again when it is unknown if it ran.
    pub idempotent: bool,
    /// Whether its code may be brought into a caller's process.
    pub portable: bool,
    /// Makes its future, see [`BegunOf`]; none unless it is async. Then `encoded` is [`not_called`]
    /// and `direct` is [`no_entry`].
    pub begin: Option<Begin>,
    /// Opens it, see [`OpenedOf`]; none unless its result or a parameter is a stream. Then `direct` is
    /// [`no_entry`], and if its result is one, `encoded` is [`only_opened`] and `begin` none.
    pub open: Option<Openings>,
}

/// One `#[skills]` block: a module or an `impl`.
pub struct Block {
    /// Where it stands: module path.
    pub module: &'static str,
    /// Where it stands: line.
    pub line: u32,
    /// What the names of its skills begin with; the next version finds its saved state by it.
    pub namespace: &'static str,
    /// What it exposes.
    pub skills: &'static [Skill],
    /// Makes its state.
    pub open: Option<Open>,
    /// Encodes its state for the next version, if the author wrote a `save`.
    pub save: Option<Save>,
    /// Makes its state in place of `open`, if the author wrote a `restore`.
    pub restore: Option<Restore>,
    /// Runs its `cleanup` and drops its state.
    pub close: Option<Close>,
    /// Whether the author wrote a `cleanup`.
    pub cleanup: bool,
    /// Whether it stands in a program's own crate. A program has the blocks of the libraries that are
    /// linked into it as well, and serves its own.
    pub of_program: bool,
}

inventory::collect!(Block);

/// Runs `S` with encoded arguments and encodes its result.
///
/// The macros call `(&EncodedOf::<S>::NEW).run(…)`; method resolution falls back to [`Uncoded`] where
/// a type was refused by `crate::checks`, so that the mistake is reported once.
pub struct EncodedOf<S>(PhantomData<S>);

impl<S> EncodedOf<S> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`EncodedOf`].
pub trait Coded {
    /// Runs the skill.
    ///
    /// # Errors
    /// Arguments that do not fit, the author's error, a panic, or a result that cannot be encoded.
    fn run(&self, names: &[&str], arguments: &[u8]) -> Result<Vec<u8>, Failure>;
}

impl<S> Coded for EncodedOf<S>
where
    S: SkillFn,
    S::Args: Decode,
    S::Output: Serialize + 'static,
{
    fn run(&self, names: &[&str], arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        encoded::<S>(names, arguments)
    }
}

/// Serves [`EncodedOf`] where a check has failed: such a crate is never built.
pub trait Uncoded {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    fn run(&self, names: &[&str], arguments: &[u8]) -> Result<Vec<u8>, Failure>;
}

impl<S> Uncoded for &EncodedOf<S> {
    fn run(&self, _: &[&str], _: &[u8]) -> Result<Vec<u8>, Failure> {
        Err(refused())
    }
}

/// The failure of what cannot have been compiled.
pub(crate) fn refused() -> Failure {
    Failure::new(FailureKind::Internal, "a type of the skill cannot cross")
}

fn encoded<S>(names: &[&str], arguments: &[u8]) -> Result<Vec<u8>, Failure>
where
    S: SkillFn,
    S::Args: Decode,
    S::Output: Serialize + 'static,
{
    crate::library::contain(S::NAME, || {
        S::Args::decode(names, arguments, |values| encode(S::run(values)?))
    })
}

fn encode(output: impl Serialize + 'static) -> Result<Vec<u8>, Failure> {
    codec::into_vec(output).map_err(|error| {
        Failure::new(
            FailureKind::Unserializable,
            format!("the result cannot be encoded: {error}"),
        )
    })
}

/// Makes the future of `S` from encoded arguments, and encodes its result.
///
/// The macros call `(&BegunOf::<S>::NEW).begin(…)`; method resolution falls back to [`Unbegun`] where
/// a type was refused by `crate::checks`.
pub struct BegunOf<S>(PhantomData<S>);

impl<S> BegunOf<S> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`BegunOf`].
pub trait Begun {
    /// Makes the future. The arguments are read when it is polled first.
    fn begin(&self, names: &'static [&'static str], arguments: Vec<u8>) -> TaskFuture;
}

impl<S> Begun for BegunOf<S>
where
    S: AsyncSkillFn,
    S::Args: Decode,
    for<'de> <S::Args as Decode>::Stored<'de>: Send,
    S::Output: Serialize + 'static,
{
    fn begin(&self, names: &'static [&'static str], arguments: Vec<u8>) -> TaskFuture {
        Box::pin(async move {
            // Both stay in the future: its parameters borrow from them.
            let arguments = arguments;
            let mut stored = S::Args::read(names, &arguments)?;
            let output = enter::<S>(&mut stored, &Streams::default())?.await?;
            encode(output)
        })
    }
}

/// Makes the author's future, apart: so that its parameters are seen to go into it.
fn enter<'s, S>(
    stored: &'s mut <S::Args as Decode>::Stored<'_>,
    streams: &Streams,
) -> Result<impl Future<Output = Result<S::Output, Failure>> + Send + 's, Failure>
where
    S: AsyncSkillFn,
    S::Args: Decode,
{
    S::Args::values(stored, streams).map(S::run)
}

/// Serves [`BegunOf`] where a check has failed: such a crate is never built.
pub trait Unbegun {
    /// Makes a future that refuses.
    fn begin(&self, names: &'static [&'static str], arguments: Vec<u8>) -> TaskFuture;
}

impl<S> Unbegun for &BegunOf<S> {
    fn begin(&self, _: &'static [&'static str], _: Vec<u8>) -> TaskFuture {
        Box::pin(async { Err(refused()) })
    }
}

/// Stands in the place of [`Skill::encoded`] for an async skill.
///
/// # Errors
/// Always: a host begins such a skill.
pub fn not_called(_: &[&str], _: &[u8]) -> Result<Vec<u8>, Failure> {
    Err(Failure::new(
        FailureKind::Internal,
        "an async skill is begun and polled by its host, not called",
    ))
}

/// Stands in the place of [`Skill::direct`] for an async skill.
pub fn no_entry(_: &Signature) -> *const c_void {
    std::ptr::null()
}

/// Stands in the place of [`Skill::encoded`] for a skill whose result is a stream.
///
/// # Errors
/// Always: it is opened.
pub fn only_opened(_: &[&str], _: &[u8]) -> Result<Vec<u8>, Failure> {
    Err(Failure::new(
        FailureKind::Mismatch,
        "its result is a stream, and the caller expects one value: import it with its types, or call it \
         with `aigis_plugin_api::stream`",
    ))
}

/// Opens `S`, whose result or parameters are streams.
///
/// The macros call `(&OpenedOf::<S>::NEW).open(…)` or `open_async(…)`; method resolution falls back to
/// [`Unopened`] where a type was refused by `crate::checks`.
pub struct OpenedOf<S>(PhantomData<S>);

impl<S> OpenedOf<S> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`OpenedOf`] for plain functions.
pub trait Opened {
    /// Makes what begins the skill.
    fn open(&self, names: &'static [&'static str], arguments: Vec<u8>, streams: Streams)
    -> Opening;
}

impl<S> Opened for OpenedOf<S>
where
    S: SkillFn,
    S::Args: Decode,
    S::Output: Outflow,
{
    fn open(
        &self,
        names: &'static [&'static str],
        arguments: Vec<u8>,
        streams: Streams,
    ) -> Opening {
        Opening::Call(Box::new(move || {
            let mut stored = S::Args::read(names, &arguments)?;
            S::run(S::Args::values(&mut stored, &streams)?)?.into_items()
        }))
    }
}

/// Serves [`OpenedOf`] for async functions.
pub trait OpenedAsync {
    /// Makes what begins the skill.
    fn open_async(
        &self,
        names: &'static [&'static str],
        arguments: Vec<u8>,
        streams: Streams,
    ) -> Opening;
}

impl<S> OpenedAsync for OpenedOf<S>
where
    S: AsyncSkillFn,
    S::Args: Decode,
    for<'de> <S::Args as Decode>::Stored<'de>: Send,
    S::Output: Outflow,
{
    fn open_async(
        &self,
        names: &'static [&'static str],
        arguments: Vec<u8>,
        streams: Streams,
    ) -> Opening {
        Opening::Future(Box::pin(async move {
            // Both stay in the future: its parameters borrow from them.
            let (arguments, streams) = (arguments, streams);
            let mut stored = S::Args::read(names, &arguments)?;
            enter::<S>(&mut stored, &streams)?.await?.into_items()
        }))
    }
}

/// Serves [`OpenedOf`] where a check has failed: such a crate is never built.
pub trait Unopened {
    /// Refuses.
    fn open(&self, names: &'static [&'static str], arguments: Vec<u8>, streams: Streams)
    -> Opening;

    /// Refuses.
    fn open_async(
        &self,
        names: &'static [&'static str],
        arguments: Vec<u8>,
        streams: Streams,
    ) -> Opening {
        self.open(names, arguments, streams)
    }
}

impl<S> Unopened for &OpenedOf<S> {
    fn open(&self, _: &'static [&'static str], _: Vec<u8>, _: Streams) -> Opening {
        Opening::Call(Box::new(|| Err(refused())))
    }
}

/// Finds the typed entry of `S`.
///
/// The macros call `(&EntryOf::<S>::NEW).entry(…)`; method resolution prefers [`Typed`], where every
/// type has a direct form, to [`Untyped`].
pub struct EntryOf<S>(PhantomData<S>);

impl<S> EntryOf<S> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Serves [`EntryOf`] where every type has a direct form.
pub trait Typed {
    /// Returns the entry.
    fn entry(&self, signature: &Signature) -> *const c_void;
}

impl<S> Typed for EntryOf<S>
where
    S: SkillFn,
    S::Args: DirectIn<S>,
{
    fn entry(&self, signature: &Signature) -> *const c_void {
        <S::Args as DirectIn<S>>::entry(signature)
    }
}

/// Serves [`EntryOf`] everywhere else.
pub trait Untyped {
    /// Returns null.
    fn entry(&self, signature: &Signature) -> *const c_void;
}

impl<S> Untyped for &EntryOf<S> {
    fn entry(&self, _: &Signature) -> *const c_void {
        std::ptr::null()
    }
}
