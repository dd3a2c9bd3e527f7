//! Turns run records into something a person can check: tables, summaries, plots and comparisons
//! with published and measured numbers. It never starts a run, and the same records always give the
//! same bytes.
//!
//! - [`reference`]: what was published or measured; [`compare`]: runs beside it; [`curve`]: a real
//!   node beside the simulated one; [`gap`], [`effects`]: which constants would close a gap.
//! - [`explain`], [`summary`]: one run, in words; [`table`], [`plot`]: how all of it is shown.

pub mod compare;
pub mod curve;
pub mod effects;
pub mod explain;
pub mod gap;
pub mod plot;
pub mod quantity;
pub mod reference;
#[cfg(test)]
mod sample;
pub mod summary;
mod svg;
pub mod table;
