//! A machine's truth, shared by everything on it: CPU, disk, namespaces, sandboxes. It decides
//! nothing; kubelet, containerd and plugins change it, processes and the ledger look at it.
//!
//! Everybody reads the truth, nobody writes it but the methods of [`Change`]: each makes its change
//! and says so in one statement, so that no observation and no event of the node can be forgotten.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;

use drydock_engine::queue::Queue;
use drydock_engine::server::{FifoServer, ProcessorSharing};
use drydock_engine::time::SimInstant;

use crate::cni::NodeChange;
use crate::event::{CpuToken, Event};
use crate::ids::{ContainerId, NetnsId, NodeIndex, PodUid};
use crate::observation::Observation;
use crate::parameters::{Millicores, Parameters};

/// One machine: what queues on it, and its truth to read.
pub struct Machine {
    /// Its cores.
    pub cpu: ProcessorSharing<CpuToken>,
    /// The one bbolt writer of its runtime.
    pub bbolt: FifoServer,
    /// The kernel's lock around namespaces and links.
    pub network_lock: FifoServer,
    truth: Truth,
}

/// What is true of a machine. Only [`Change`] writes it.
#[derive(Debug)]
pub struct Truth {
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
        parameters: &Parameters,
    ) -> Self {
        let node = &parameters.node_side.node;
        let base = if control_plane {
            node.base_control_plane
        } else {
            node.base_worker
        };
        let Millicores(cores) = parameters.cores_of(control_plane);
        Self {
            cpu: ProcessorSharing::new(cores.saturating_sub(base.0)),
            bbolt: FifoServer::new(1),
            network_lock: FifoServer::new(1),
            truth: Truth {
                node_name,
                machine_id,
                boot: 1,
                control_plane,
                up: true,
                namespaces: BTreeMap::new(),
                runtime_up: true,
                sandboxes: BTreeMap::new(),
            },
        }
    }
}

impl Deref for Machine {
    type Target = Truth;

    fn deref(&self) -> &Truth {
        &self.truth
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("truth", &self.truth)
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

/// Why a link was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The namespace is not there.
    NoNamespace,
    /// The namespace has its interface already.
    Exists,
}

/// A machine in the hand of who changes it: each method changes the truth and announces it.
pub struct Change<'a> {
    /// The machine's number.
    pub(crate) node: NodeIndex,
    /// Time of the event being handled.
    pub(crate) now: SimInstant,
    /// The machine.
    pub(crate) machine: &'a mut Machine,
    /// Where facts go.
    pub(crate) observed: &'a mut Vec<Observation>,
    /// Where events go.
    pub(crate) queue: &'a mut Queue<Event>,
}

impl Change<'_> {
    /// A namespace for a sandbox appears.
    pub fn add_netns(&mut self, netns: NetnsId, container: ContainerId, pod: PodUid) {
        let node = self.node;
        assert!(
            self.machine.up,
            "a machine without power makes no namespace"
        );
        let namespace = Namespace {
            container,
            pod,
            link: false,
            addresses: Vec::new(),
        };
        let before = self.machine.truth.namespaces.insert(netns, namespace);
        assert!(before.is_none(), "a namespace is made once");
        self.observed.push(Observation::NetnsCreated {
            node,
            netns,
            container,
            pod,
        });
        self.tell(NodeChange::NetnsPresent(netns));
    }

    /// A namespace goes, with what is in it; nothing happens if it went before.
    pub fn remove_netns(&mut self, netns: NetnsId) {
        let node = self.node;
        if self.machine.truth.namespaces.remove(&netns).is_some() {
            self.observed.push(Observation::NetnsGone { node, netns });
            self.tell(NodeChange::NetnsGone(netns));
        }
    }

    /// An interface appears in a namespace; it has no address yet, so nobody hears of it.
    /// Errors: there is no such namespace, or it has its interface.
    pub fn add_link(&mut self, netns: NetnsId) -> Result<(), LinkError> {
        let namespaces = &mut self.machine.truth.namespaces;
        let namespace = namespaces.get_mut(&netns).ok_or(LinkError::NoNamespace)?;
        if namespace.link {
            return Err(LinkError::Exists);
        }
        assert!(namespace.addresses.is_empty(), "no address without a link");
        namespace.link = true;
        Ok(())
    }

    /// The interface of a sandbox's namespace answers to addresses from now on. `false`: the
    /// namespace or its interface is gone, and nothing changed.
    pub fn address_up(
        &mut self,
        netns: NetnsId,
        container: ContainerId,
        addresses: &[IpAddr],
    ) -> bool {
        let namespace = self.machine.truth.namespaces.get_mut(&netns);
        let Some(namespace) = namespace.filter(|namespace| namespace.link) else {
            return false;
        };
        assert_eq!(
            namespace.container, container,
            "a namespace belongs to one sandbox"
        );
        namespace.addresses = addresses.to_vec();
        self.observed.push(Observation::AddressUp {
            node: self.node,
            netns,
            container,
            pod: namespace.pod,
            addresses: addresses.to_vec(),
        });
        true
    }

    /// The interface goes, and its addresses answer no more; nothing happens if it went before.
    pub fn link_down(&mut self, netns: NetnsId) {
        let node = self.node;
        let namespace = self.machine.truth.namespaces.get_mut(&netns);
        let Some(namespace) = namespace.filter(|namespace| namespace.link) else {
            return;
        };
        namespace.link = false;
        if !std::mem::take(&mut namespace.addresses).is_empty() {
            self.observed.push(Observation::AddressDown { node, netns });
        }
    }

    /// The runtime lists a sandbox from now on.
    pub fn list_sandbox(&mut self, container: ContainerId, sandbox: ListedSandbox) {
        let before = self.machine.truth.sandboxes.insert(container, sandbox);
        assert!(before.is_none(), "a sandbox is listed once");
    }

    /// The runtime lists a sandbox no more.
    pub fn unlist_sandbox(&mut self, container: ContainerId) {
        let listed = self.machine.truth.sandboxes.remove(&container);
        assert!(listed.is_some(), "what is taken off the list was on it");
    }

    /// The runtime lists a sandbox as not ready.
    pub fn sandbox_stopped(&mut self, container: ContainerId) {
        self.listed(container).ready = false;
    }

    /// The runtime lists a sandbox without its namespace.
    pub fn sandbox_without_netns(&mut self, container: ContainerId) {
        self.listed(container).netns = None;
    }

    /// The runtime answers from now on, or answers no more.
    pub fn set_runtime_up(&mut self, up: bool) {
        self.machine.truth.runtime_up = up;
    }

    /// Everything in the machine's memory is gone: namespaces, and what waited for its cores, its
    /// disk and its lock. An apiserver's work on its cores is not its own and goes on.
    pub fn lose_power(&mut self) {
        let node = self.node;
        assert!(self.machine.up, "power is lost once");
        let machine = &mut *self.machine;
        machine.truth.up = false;
        machine.bbolt = FifoServer::new(1);
        machine.network_lock = FifoServer::new(1);
        let wake = machine
            .cpu
            .remove_where(self.now, |token| !matches!(token, CpuToken::Api(_)));
        if let Some(wake) = wake {
            let event = Event::Cpu {
                node,
                generation: wake.generation,
            };
            self.queue.at(wake.at, event);
        }
        for netns in std::mem::take(&mut machine.truth.namespaces).into_keys() {
            self.observed.push(Observation::NetnsGone { node, netns });
        }
        self.observed.push(Observation::MachineDown { node });
        self.tell(NodeChange::Down);
    }

    /// The machine is up under a new boot ID.
    pub fn boot(&mut self) {
        let truth = &mut self.machine.truth;
        assert!(!truth.up, "only a machine that is down boots");
        assert!(truth.namespaces.is_empty(), "/run is empty after a boot");
        truth.up = true;
        truth.boot += 1;
        self.observed
            .push(Observation::MachineUp { node: self.node });
        self.tell(NodeChange::Up);
    }

    fn listed(&mut self, container: ContainerId) -> &mut ListedSandbox {
        let sandboxes = &mut self.machine.truth.sandboxes;
        sandboxes
            .get_mut(&container)
            .expect("the machine lists what its runtime lists")
    }

    fn tell(&mut self, change: NodeChange) {
        let node = self.node;
        self.queue.soon(Event::NodeChanged { node, change });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Table;
    use drydock_engine::queue::TieBreak;

    /// What one change after another made known.
    fn known(act: impl FnOnce(&mut Change<'_>)) -> (Machine, Vec<Observation>) {
        let parameters = Parameters::read(&Table::profile("measured").unwrap()).unwrap();
        let mut machine = Machine::new("node".into(), "id".into(), false, &parameters);
        let (mut observed, mut queue) = (Vec::new(), Queue::new(TieBreak::Fifo));
        act(&mut Change {
            node: NodeIndex(0),
            now: SimInstant::ZERO,
            machine: &mut machine,
            observed: &mut observed,
            queue: &mut queue,
        });
        (machine, observed)
    }

    #[test]
    fn an_address_is_announced_when_it_answers_and_when_it_does_not_any_more() {
        let (netns, container, pod) = (NetnsId(1), ContainerId(2), PodUid(3));
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let (_, observed) = known(|change| {
            change.add_netns(netns, container, pod);
            assert!(!change.address_up(netns, container, &[address]), "no link");
            assert_eq!(change.add_link(netns), Ok(()));
            assert_eq!(change.add_link(netns), Err(LinkError::Exists));
            assert!(change.address_up(netns, container, &[address]));
            change.link_down(netns);
            change.link_down(netns);
            change.remove_netns(netns);
            change.remove_netns(netns);
            assert_eq!(change.add_link(netns), Err(LinkError::NoNamespace));
        });
        assert!(
            matches!(
                observed[..],
                [
                    Observation::NetnsCreated { .. },
                    Observation::AddressUp { .. },
                    Observation::AddressDown { .. },
                    Observation::NetnsGone { .. },
                ]
            ),
            "{observed:?}"
        );
    }

    #[test]
    fn a_machine_without_power_has_no_namespace_and_boots_under_a_new_id() {
        let (machine, observed) = known(|change| {
            change.add_netns(NetnsId(1), ContainerId(2), PodUid(3));
            change.lose_power();
            assert!(change.machine.namespaces.is_empty());
            change.boot();
        });
        assert_eq!((machine.up, machine.boot), (true, 2));
        assert!(
            matches!(
                observed[1..],
                [
                    Observation::NetnsGone { .. },
                    Observation::MachineDown { .. },
                    Observation::MachineUp { .. },
                ]
            ),
            "{observed:?}"
        );
    }
}
