//! Every port in memory, under a virtual clock: an apiserver with lost replies and late commits,
//! nodes with namespaces, journals and plugins, and a ledger of who really has which address. For
//! tests of this crate and of others; it does not model Kubernetes' timing.

pub mod contract;
#[cfg(feature = "envtest")]
pub mod control_plane;
mod memory;
mod ports;
mod state;
mod store;
mod tasks;
mod world;

pub use memory::MemoryApi;
pub use ports::NodePorts;
pub use state::kubelet::{NETWORK, PodPlan};
pub use state::ledger::Violation;
pub use state::nodes::{Ailments, Looks, Sandboxed};
pub use state::traffic::{Asked, Costs, Faults};
pub use store::Store;
pub use world::World;
