//! The real plugin binary against the real shell, socket, spool and journal on this host; only the
//! apiserver and the runtime are in memory. Loopback and temporary directories, nothing else.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attacks;
mod callers;
mod cluster;
mod daemon;
mod dependencies;
mod deploy;
mod figures;
#[path = "../disk/namespaces.rs"]
mod namespaces;
mod operator;
mod parts;
mod plugin;
mod runtime;
