//! What keeps a library loaded while calls are inside it, and what leads calls to it.
//!
//! A caller finds a skill in its [`Slot`] and says so in a frame of its thread's seat before it goes
//! in: [`Visit`]. Whoever takes a skill out of its slot looks at every seat afterwards and waits for
//! the frames that name it to go ([`seats::wait_until_gone`]). Going in and out costs the caller a few
//! plain stores to memory of its own; the price is paid by whoever switches.

mod drain;
pub(in crate::loader) mod fences;
pub(crate) mod seats;
mod slot;
mod switch;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use drain::Within;
pub(crate) use seats::{Stay, Visit};
pub(crate) use slot::{Slot, Source};
pub(crate) use switch::{Change, Switch, Switchboard};
