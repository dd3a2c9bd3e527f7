//! The testbed: arranges a world, starts the clock, injects what a plan says, watches, reports. It
//! knows no Kubernetes and no IPAM; those are in `drydock-models` and `berth`.
//!
//! Code map, in reading order:
//! - [`cli`]: what can be asked; [`command`]: one file for each command.
//! - [`scenario`]: what decides a run, as checked data; [`parameters`]: its constants.
//! - [`runner`]: scenario to record; [`world`]: cluster, ledger, recorder and faults in one loop.
//! - [`adapters`]: the only place where allocator and cluster meet.
//! - [`oracle`]: the ledger and its invariants; [`recorder`]: what is measured.
//! - [`attribution`]: what the start of each Pod waits for.
//! - [`faults`]: storms, drawn and injected; [`sweep`]: many worlds at a time; [`variants`]: one
//!   cell under many overrides; [`certificates`]: the stored runs, whose events must stay.
//! - [`decimal`]: what a search over a constant halves.
//! - [`host`]: the machine that the simulator runs on, kept out of every simulation.

#[cfg(not(madsim))]
compile_error!("drydock simulates: run it with `cargo sim`, which sets --cfg madsim");

pub mod adapters;
pub mod attribution;
pub mod certificates;
pub mod cli;
pub mod command;
pub mod decimal;
pub mod faults;
pub mod host;
pub mod oracle;
pub mod parameters;
pub mod recorder;
pub mod runner;
pub mod scenario;
pub mod seed_range;
pub mod sweep;
pub mod variants;
pub mod world;
