//! Every port in memory, under a virtual clock: an apiserver with lost replies and late commits,
//! nodes with namespaces, journals and plugins, and a ledger of who really has which address. For
//! tests of this crate and of others; no model of Kubernetes' timing.

pub mod contract;
#[cfg(feature = "envtest")]
pub mod control_plane;
mod memory;
mod node;
mod ports;
mod store;
mod world;

pub use memory::MemoryApi;
pub use node::{Ailments, Looks, NodePorts, Sandboxed};
pub use store::Store;
pub use world::{Asked, Costs, Faults, NETWORK, PodPlan, Violation, World};
