//! Any bytes at all, for whatever reads what another process has sent: the bodies of the fuzz targets in
//! `fuzz/`, and the same without them, over the corpus that is kept there.

pub mod fuzz;
#[cfg(test)]
mod replay;
