//! A machine's truth, shared by everything on it: CPU, disk, namespaces, sandboxes. It decides
//! nothing; kubelet, containerd and plugins change it, processes and the ledger look at it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use drydock_engine::server::{FifoServer, ProcessorSharing};

use crate::event::CpuToken;
use crate::ids::{ContainerId, NetnsId, PodUid};
use crate::parameters::{Millicores, NodeParameters};

/// One machine.
pub struct Machine {
    /// Name that its kubelet registers under.
    pub node_name: Rc<str>,
    /// `machine-id`: survives reboots, differs between machines.
    pub machine_id: Rc<str>,
    /// Counts boots; the boot ID.
    pub boot: u32,
    /// It also runs an apiserver (a master).
    pub control_plane: bool,
    /// Powered and booted.
    pub up: bool,
    /// Its cores.
    pub cpu: ProcessorSharing<CpuToken>,
    /// The one bbolt writer of its runtime.
    pub bbolt: FifoServer,
    /// The kernel's lock around namespaces and links.
    pub network_lock: FifoServer,
    /// Files under /run/netns.
    pub namespaces: BTreeMap<NetnsId, Namespace>,
    /// Its runtime answers.
    pub runtime_up: bool,
    /// What the runtime lists as sandboxes (ready or not).
    pub sandboxes: BTreeMap<ContainerId, ListedSandbox>,
}

impl Machine {
    /// A machine that is up and idle. Its cores are what the parameters leave after the base load
    /// of its kind.
    pub fn new(
        node_name: Rc<str>,
        machine_id: Rc<str>,
        control_plane: bool,
        parameters: &NodeParameters,
    ) -> Self {
        let base = if control_plane {
            parameters.base_control_plane
        } else {
            parameters.base_worker
        };
        let Millicores(cores) = parameters.cores;
        Self {
            node_name,
            machine_id,
            boot: 1,
            control_plane,
            up: true,
            cpu: ProcessorSharing::new(cores.saturating_sub(base.0)),
            bbolt: FifoServer::new(1),
            network_lock: FifoServer::new(1),
            namespaces: BTreeMap::new(),
            runtime_up: true,
            sandboxes: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("node_name", &self.node_name)
            .field("boot", &self.boot)
            .field("up", &self.up)
            .field("namespaces", &self.namespaces)
            .field("sandboxes", &self.sandboxes)
            .finish_non_exhaustive()
    }
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Sandbox that it was made for.
    pub container: ContainerId,
    /// Pod of the sandbox.
    pub pod: PodUid,
    /// It holds the Pod's interface.
    pub link: bool,
    /// Addresses of its interface, empty while it has none.
    pub addresses: Vec<IpAddr>,
}

/// A sandbox in the runtime's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSandbox {
    /// Pod.
    pub pod: PodUid,
    /// Its namespace while it has one.
    pub netns: Option<NetnsId>,
    /// Ready, as CRI prints it.
    pub ready: bool,
}
