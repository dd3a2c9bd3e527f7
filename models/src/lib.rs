//! The simulated cluster: kube-apiserver with etcd, controller-manager, scheduler, kubelet and node
//! CPU, each a synchronous state machine on the event queue; and processes that are scripts on it:
//! the calls of containerd, multus, macvlan.
//! It knows no allocator: an IPAM plugs in through [`ipam::Ipam`].
//!
//! Code map, in reading order:
//! - [`cluster`]: the world; owns every component and routes each event to one of them. Its
//!   `inject` has what a fault does (`cut`: a partition).
//! - `kernel`: what runs a world: API, machines, and the routing of what concerns several
//!   components; owned by the cluster and by the test benches.
//! - [`event`]: the closed set of events.
//! - [`context`], [`core`](mod@core): what a component may touch while it runs, and what an
//!   apiserver may.
//! - [`parameters`]: every constant, with unit, source and kind.
//! - [`ids`], [`objects`], [`request`]: who is who, the Kubernetes objects, the API calls on them.
//! - [`apiserver`]: servers, etcd, and a call from its arrival on. A partition begins and ends in
//!   `outage`; calls get lost in `call` (`arrive`) and `call/way.rs` (`answer`), watch events wait
//!   in `watching` (`deliver`).
//! - `client_go`: the client's half of a call: limiter (`depart` in `client.rs`; the kubelet's rate
//!   is set in `node/kubelet/mod.rs`), deadline, and retries (`try_again` in `call.rs`: a 429, a
//!   reset); leader election, work queues. `controllers`: the other processes.
//! - [`machine`]: the truth of a node; `node`: its kubelet, containerd, multus and macvlan.
//! - `process`: a process as a straight-line script, and what such processes queue for.
//! - [`cni`], [`ipam`], [`peers`]: what a plugin is asked, the boundary to an IPAM, and the IPAMs
//!   modeled here.
//! - `driver`: the user: creates and deletes the workload.
//! - [`observation`]: what the world tells the record and the ledger.
#![cfg_attr(not(madsim), allow(unused))]
#[cfg(not(madsim))]
compile_error!("drydock-models is part of the testbed: build it with `cargo sim` (--cfg madsim)");

pub mod apiserver;
pub mod cluster;
pub mod cni;
pub mod context;
pub mod core;
pub mod event;
pub mod ids;
pub mod ipam;
pub mod machine;
pub mod objects;
pub mod observation;
pub mod parameters;
pub mod peers;
pub mod request;

mod client_go;
mod controllers;
mod driver;
mod kernel;
mod node;
mod process;
#[cfg(test)]
mod testing;
