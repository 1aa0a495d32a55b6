//! Portable skills: their code comes to the caller.
//!
//! A core sends the library itself, in memory that nobody can change any more, and a *page* that it
//! alone writes. In the page each plugin with portable skills has a cell, and in it stands the *ticket*
//! of the version that serves, or 0. A caller that has the library calls it directly while the cell
//! holds the library's ticket; with every other call it asks its session. So a swap is one store for
//! the core, which waits for no client.

mod memory;
mod page;

pub use memory::write as write_library;
pub use page::{CELLS, Page};

#[cfg(feature = "portable")]
mod entrance;
#[cfg(feature = "portable")]
mod host;
#[cfg(feature = "portable")]
mod library;
#[cfg(feature = "portable")]
mod mapped;

#[cfg(feature = "portable")]
pub(crate) use entrance::{Place, is_inside, is_news};
#[cfg(feature = "portable")]
pub use library::{Brought, Loaded};
#[cfg(feature = "portable")]
pub(crate) use library::{loaded, receive};
#[cfg(feature = "portable")]
pub(crate) use mapped::MappedPage;
