//! The skills of a program: those of its own crate, opened and closed as a library's are.

use std::sync::OnceLock;

use super::handover::SavedStates;
use super::{blocks, close_blocks, log_unreturned, open_blocks, panic};
use crate::context::Context;
use crate::error::Failure;
use crate::skill::{Block, Skill};

/// The blocks of this program's own crate, in the order of the source.
fn own_blocks() -> &'static [&'static Block] {
    static BLOCKS: OnceLock<Vec<&'static Block>> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let all = blocks().iter().copied();
        all.filter(|block| block.of_program).collect()
    })
}

/// Makes the states of the program's blocks, and returns its skills.
///
/// # Errors
/// What a `new` returned, or how it panicked.
pub(crate) fn open_program(context: &Context) -> Result<Vec<&'static Skill>, Failure> {
    let blocks = own_blocks();
    if blocks.is_empty() {
        return Ok(Vec::new());
    }
    panic::install_in_program();
    // A process that is started again begins anew: nothing is handed over to it.
    open_blocks(blocks, context, &SavedStates::read(&[])?)?;
    Ok(blocks.iter().flat_map(|block| block.skills).collect())
}

/// Runs the `cleanup` of the program's blocks and drops their states.
pub(crate) fn close_program() {
    if own_blocks().is_empty() {
        return;
    }
    if let Err(failure) = close_blocks(own_blocks()) {
        log_unreturned(&failure);
    }
}
