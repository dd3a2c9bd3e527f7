//! The testbed: arranges a world, starts the clock, injects what a plan says, watches, reports. It
//! knows no Kubernetes and no IPAM; those are in `drydock-models` and `berth`.
//!
//! Code map, in reading order:
//! - [`subject`]: what is tested, by name; [`scenario`]: what determines a run, as checked data;
//!   [`parameters`]: its constants.
//! - [`runner`]: scenario to record; [`world`]: cluster, listeners and faults in one loop;
//!   [`listeners`]: ledger and recorder; [`record`]: what is written down at the end.
//! - [`adapters`]: the only place where allocator and cluster meet, one file per allocator.
//! - [`oracle`]: the ledger and its invariants; [`recorder`]: what is measured.
//! - [`attribution`]: what the start of each Pod waits for.
//! - [`faults`]: storms, drawn and injected; `models/src/cluster/inject.rs` has what a fault such
//!   as a partition (`cut`) does. [`sweep`]: many worlds at a time; [`variants`]: one cell under
//!   many overrides; [`certificates`]: the stored runs, whose events must not change.
//! - [`comparison`]: every cell of every allocator; [`ablations`]: mechanisms switched off;
//!   [`levers`]: constants with a range; [`search`]: which of their values give a published time.
//! - [`decimal`]: what a search over a constant halves; [`progress`]: progress bars.
//! - [`host`]: the machine that the simulator runs on, kept out of every simulation.
//! - On top, imported by none of these: [`cli`]: what can be asked; [`command`]: one file per
//!   command.

#[cfg(not(madsim))]
compile_error!("drydock simulates: run it with `cargo sim`, which sets --cfg madsim");

pub mod ablations;
pub mod adapters;
pub mod attribution;
pub mod certificates;
pub mod cli;
pub mod command;
pub mod comparison;
pub mod decimal;
pub mod faults;
pub mod host;
pub mod levers;
pub mod listeners;
pub mod oracle;
pub mod parameters;
pub mod progress;
pub mod record;
pub mod recorder;
pub mod runner;
pub mod scenario;
pub mod search;
pub mod seed_range;
pub mod subject;
pub mod sweep;
pub mod variants;
pub mod world;
