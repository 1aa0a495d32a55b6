//! One import of a library, linked to its host.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{DirectOut, HostApi};
use crate::backend::Expected;
use crate::codec;
use crate::error::Failure;
use crate::signature::Signature;

/// What an import expects, and the host's handle for it.
///
/// It is part of a static of the library, which has one host for all its life.
pub struct Link {
    name: &'static str,
    signature: fn() -> Signature,
    expected: OnceLock<Expected>,
    handle: AtomicPtr<c_void>,
    /// Whether the caller's types agree with `signature`.
    agreed: OnceLock<bool>,
    /// The handle again, once it is known that they do: the one load of a direct call.
    typed: AtomicPtr<c_void>,
}

impl Link {
    /// Makes a link that nobody has asked the host for yet.
    pub const fn new(name: &'static str, signature: fn() -> Signature) -> Self {
        Self {
            name,
            signature,
            expected: OnceLock::new(),
            handle: AtomicPtr::new(ptr::null_mut()),
            agreed: OnceLock::new(),
            typed: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Returns the full name of the skill.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns what is expected of the skill.
    pub fn expected(&self) -> &Expected {
        self.expected
            .get_or_init(|| Expected::new((self.signature)()))
    }

    /// Returns the host's handle.
    pub fn handle(&self, host: &HostApi) -> *const c_void {
        let known = self.handle.load(Ordering::Acquire);
        if !known.is_null() {
            return known;
        }
        let signature = codec::to_vec(&self.expected().signature).unwrap_or_default();
        let handle = host.link_import(self.name, &signature);
        // Two threads may both ask; either answer is good for ever.
        self.handle.store(handle.cast_mut(), Ordering::Release);
        handle
    }

    /// Tells whether the caller's types, which are the modes `A` and the result `R` at every call, agree
    /// with what is expected of the skill.
    pub(crate) fn agrees<A: DirectOut<R>, R>(&self) -> bool {
        *self
            .agreed
            .get_or_init(|| A::agrees(&self.expected().signature))
    }

    /// Finds out whether direct calls can be made at all; null if not.
    #[cold]
    #[inline(never)]
    fn link_typed<A: DirectOut<R>, R>(&self, host: &HostApi) -> *mut c_void {
        if !self.agrees::<A, R>() {
            return ptr::null_mut();
        }
        let handle = self.handle(host).cast_mut();
        self.typed.store(handle, Ordering::Release);
        handle
    }

    /// Calls directly with the modes `A` and the result `R`.
    ///
    /// # Errors
    /// The values again, when there is no direct entry for them now.
    #[inline]
    pub(crate) fn call_direct<'a, A: DirectOut<R>, R>(
        &self,
        host: &HostApi,
        values: A::Values<'a>,
    ) -> Result<Result<R, Box<Failure>>, A::Values<'a>> {
        let mut handle = self.typed.load(Ordering::Acquire);
        if handle.is_null() {
            handle = self.link_typed::<A, R>(host);
            if handle.is_null() {
                return Err(values);
            }
        }
        // SAFETY: `handle` came from this host's `link_import`: a library has one host.
        let Some(inside) = (unsafe { host.enter_link(handle) }) else {
            return Err(values);
        };
        // SAFETY: the host lets a link in only where the skill's signature id equals that of the
        // link's signature, and that signature agrees with the types of whoever set `typed`. Types
        // that agree with one signature have one ABI. `inside` keeps the library loaded.
        Ok(unsafe { A::invoke(inside.entry(), values) })
    }
}
