//! What the macros ask of the author's types: each question has its own words, and is asked once,
//! on the author's own token. What is generated besides falls back silently where the answer is no.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::Referent;

/// What a skill can take, by value or by reference.
#[diagnostic::on_unimplemented(
    message = "a skill cannot take `{Self}`: it cannot be deserialised",
    label = "does not implement `serde::Deserialize`",
    note = "derive `Deserialize` for it, mark it with `#[skill_type]`, or take another type, such \
            as `PathBuf` for `&Path`"
)]
pub trait Taken {}

#[diagnostic::do_not_recommend]
impl<T: Referent + ?Sized> Taken for T {}

/// What an async skill can keep while it waits.
#[diagnostic::on_unimplemented(
    message = "an async skill cannot take `{Self}`: its future goes from thread to thread",
    label = "is not `Send`",
    note = "take a type that is `Send`, or write the skill as a plain function"
)]
pub trait Kept {}

#[diagnostic::do_not_recommend]
impl<T: Send + ?Sized> Kept for T {}

/// What a skill can return.
#[diagnostic::on_unimplemented(
    message = "a skill cannot return `{Self}`: it cannot be serialised",
    label = "does not implement `serde::Serialize`",
    note = "derive `Serialize` for it, mark it with `#[skill_type]`, or return another type"
)]
pub trait Returned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Returned for T {}

/// What `save` can return.
#[diagnostic::on_unimplemented(
    message = "`save` cannot return `{Self}`: it cannot be serialised",
    label = "does not implement `serde::Serialize`",
    note = "derive `Serialize` for it, mark it with `#[skill_type]`, or return another type"
)]
pub trait Saved {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Saved for T {}

/// What `restore` can take.
#[diagnostic::on_unimplemented(
    message = "`restore` cannot take `{Self}`: it cannot be deserialised",
    label = "does not implement `serde::Deserialize` without borrowing",
    note = "derive `Deserialize` for it, mark it with `#[skill_type]`, or take another type that \
            has the form of what was saved"
)]
pub trait Restored {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Restored for T {}

/// What a skill or a function that the host calls can fail with.
#[diagnostic::on_unimplemented(
    message = "a skill cannot fail with `{Self}`: it has no message",
    label = "does not implement `std::fmt::Display`",
    note = "implement `Display`, better `std::error::Error` for its causes, and derive \
            `serde::Serialize` so that a caller can have it back"
)]
pub trait Shown {}

#[diagnostic::do_not_recommend]
impl<T: Display + ?Sized> Shown for T {}

/// What a caller can give, by value or by reference.
#[diagnostic::on_unimplemented(
    message = "a caller cannot give `{Self}`: it cannot be serialised",
    label = "does not implement `serde::Serialize`",
    note = "derive `Serialize` for it, mark it with `#[skill_type]`, or give another type"
)]
pub trait Given {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Given for T {}

/// What a caller can receive, as a result or as the author's error.
#[diagnostic::on_unimplemented(
    message = "a caller cannot receive `{Self}`: it cannot be deserialised, or not be handed to \
               another thread",
    label = "is not `serde::Deserialize`, `Send` and `'static`",
    note = "derive `Deserialize` for it, mark it with `#[skill_type]`, or name another type that \
            has its form"
)]
pub trait Received {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + 'static> Received for T {}

/// What the state of a plugin can be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a plugin: several threads share it",
    label = "is not `Send` and `Sync`",
    note = "keep what changes in a `Mutex`, an `RwLock` or an atomic"
)]
pub trait State: Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static> State for T {}

/// Asks whether a skill can take `T`.
pub const fn is_taken<T: Taken + ?Sized>() {}

/// Asks whether an async skill can keep `T`.
pub const fn is_kept<T: Kept + ?Sized>() {}

/// Asks whether a skill can return `T`.
pub const fn is_returned<T: Returned + ?Sized>() {}

/// Asks whether `save` can return `T`.
pub const fn is_saved<T: Saved + ?Sized>() {}

/// Asks whether `restore` can take `T`.
pub const fn is_restored<T: Restored>() {}

/// Asks whether a skill can fail with `T`.
pub const fn is_shown<T: Shown + ?Sized>(_: &T) {}

/// Asks whether a caller can give `T`.
pub const fn is_given<T: Given + ?Sized>() {}

/// Asks whether a caller can receive `T`.
pub const fn is_received<T: Received>() {}
