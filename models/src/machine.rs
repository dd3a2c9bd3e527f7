//! A machine's truth, shared by everything on it: CPU, disk, namespaces, sandboxes. It decides
//! nothing; kubelet, containerd and plugins change it, processes and the ledger look at it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use drydock_engine::server::{FifoServer, ProcessorSharing};

use crate::event::CpuToken;
use crate::ids::{ContainerId, NetnsId, PodUid};

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
    /// Files under /run/netns.
    pub namespaces: BTreeMap<NetnsId, Namespace>,
    /// What the runtime lists as sandboxes (ready or not).
    pub sandboxes: BTreeMap<ContainerId, ListedSandbox>,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Sandbox that it was made for.
    pub container: ContainerId,
    /// Pod of the sandbox.
    pub pod: PodUid,
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
