//! The book that all oracles read: Pods, live interfaces, recorded holders. It judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use drydock_engine::time::SimInstant;
use drydock_models::ids::{ContainerId, IpamCallId, NetnsId, NodeIndex, PodUid};
use drydock_models::observation::Observation;

use super::{Fact, Holder};

/// A live interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Machine.
    pub node: NodeIndex,
    /// Sandbox.
    pub container: ContainerId,
    /// Pod.
    pub pod: PodUid,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Sandbox.
    pub container: ContainerId,
    /// Pod.
    pub pod: PodUid,
}

/// A plugin that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Machine.
    pub node: NodeIndex,
    /// Sandbox.
    pub container: ContainerId,
    /// Pod.
    pub pod: PodUid,
}

/// What is known of a Pod object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Machine it is bound to.
    pub node: Option<NodeIndex>,
    /// When it stopped to want an address: object gone or terminal.
    pub ended: Option<SimInstant>,
}

/// The book.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Pods by UID, gone ones too.
    pub pods: BTreeMap<PodUid, PodFacts>,
    /// Interfaces by (machine, namespace) while they live.
    pub interfaces: BTreeMap<(NodeIndex, NetnsId), Interface>,
    /// Namespaces that exist, by (machine, namespace): an ADD may be under way in each.
    pub namespaces: BTreeMap<(NodeIndex, NetnsId), Namespace>,
    /// Plugins of the allocator that run.
    pub executing: BTreeMap<IpamCallId, Execution>,
    /// Live interfaces by address.
    pub by_address: BTreeMap<IpAddr, BTreeSet<(NodeIndex, NetnsId)>>,
    /// Recorded holder of each address, for allocators that record.
    pub records: BTreeMap<IpAddr, Holder>,
    /// When the holder of each address was recorded.
    pub recorded_at: BTreeMap<IpAddr, SimInstant>,
    /// Last boot of each machine that booted during the run.
    pub booted_at: BTreeMap<NodeIndex, SimInstant>,
    /// Whether any record was ever seen: an allocator without records makes no such promise.
    pub has_records: bool,
    /// Pods for which an ADD was ever answered, with the machine.
    pub answered: BTreeSet<(NodeIndex, PodUid)>,
    /// Machines whose agent cannot act, with the count of reasons.
    pub hindered: BTreeMap<NodeIndex, u32>,
    /// When the agent of each machine could last act again.
    pub unhindered_at: BTreeMap<NodeIndex, SimInstant>,
    /// Machines that are off for good, by the operator's word.
    pub buried: BTreeSet<NodeIndex>,
    /// Machines that stand for the node of an earlier one: the first machine of that name.
    pub places: BTreeMap<NodeIndex, NodeIndex>,
    /// When all faults were over; `None` while a plan still has some.
    pub healed: Option<SimInstant>,
    /// Most addresses in use at one moment.
    pub peak_in_use: usize,
    /// Two sandboxes of one Pod had one address: reported, not a breach of U.
    pub same_pod_overlaps: u64,
}

impl Truth {
    /// Enters a fact.
    pub fn enter(&mut self, at: SimInstant, fact: &Fact<'_>) {
        match fact {
            Fact::World(observation) => self.observe(at, observation),
            Fact::Record {
                addresses, after, ..
            } => {
                self.has_records = true;
                for address in addresses {
                    match after {
                        Some(holder) => self.records.insert(*address, *holder),
                        None => self.records.remove(address),
                    };
                    self.recorded_at.insert(*address, at);
                }
            }
            Fact::Executed(call) => {
                let execution = Execution {
                    node: call.node,
                    container: call.container,
                    pod: call.pod,
                };
                self.executing.insert(call.id, execution);
            }
            Fact::Exited(call) => {
                self.executing.remove(call);
            }
            Fact::Hindered(node) => *self.hindered.entry(*node).or_default() += 1,
            Fact::Unhindered(node) | Fact::Buried(node) => {
                if matches!(fact, Fact::Buried(_)) {
                    self.buried.insert(*node);
                }
                let count = self
                    .hindered
                    .get_mut(node)
                    .expect("a hindrance ends after it began");
                *count -= 1;
                if *count == 0 {
                    self.hindered.remove(node);
                    self.unhindered_at.insert(*node, at);
                }
            }
            Fact::Replaced { old, new } => {
                let place = self.place(*old);
                self.places.insert(*new, place);
            }
            Fact::Healed => self.healed = Some(at),
            Fact::Bound { .. } | Fact::NeverAsks { .. } => {}
        }
    }

    fn observe(&mut self, at: SimInstant, observation: &Observation) {
        match observation {
            Observation::PodCreated { pod } => {
                self.pods.insert(
                    *pod,
                    PodFacts {
                        node: None,
                        ended: None,
                    },
                );
            }
            Observation::PodBound { pod, node } => {
                if let Some(facts) = self.pods.get_mut(pod) {
                    facts.node = *node;
                }
            }
            Observation::PodGone { pod } | Observation::PodTerminal { pod } => {
                if let Some(facts) = self.pods.get_mut(pod) {
                    facts.ended.get_or_insert(at);
                }
            }
            Observation::IpamAddEnded {
                node,
                pod,
                result: Ok(_),
                ..
            } => {
                self.answered.insert((*node, *pod));
            }
            Observation::AddressUp {
                node,
                netns,
                container,
                pod,
                addresses,
            } => {
                let interface = Interface {
                    node: *node,
                    container: *container,
                    pod: *pod,
                    addresses: addresses.clone(),
                };
                self.up((*node, *netns), interface);
            }
            Observation::NetnsCreated {
                node,
                netns,
                container,
                pod,
            } => {
                let (container, pod) = (*container, *pod);
                let namespace = Namespace { container, pod };
                self.namespaces.insert((*node, *netns), namespace);
            }
            Observation::AddressDown { node, netns } => self.down((*node, *netns)),
            Observation::NetnsGone { node, netns } => {
                self.namespaces.remove(&(*node, *netns));
                self.down((*node, *netns));
            }
            Observation::MachineUp { node } => {
                self.booted_at.insert(*node, at);
            }
            Observation::MachineDown { node } => self.machine_down(*node),
            _ => {}
        }
    }

    fn up(&mut self, key: (NodeIndex, NetnsId), interface: Interface) {
        for address in &interface.addresses {
            let users = self.by_address.entry(*address).or_default();
            users.insert(key);
            if users.len() > 1 {
                self.same_pod_overlaps += 1;
            }
        }
        self.interfaces.insert(key, interface);
        self.peak_in_use = self.peak_in_use.max(self.by_address.len());
    }

    /// An interface goes, if the namespace has one.
    fn down(&mut self, key: (NodeIndex, NetnsId)) {
        let Some(interface) = self.interfaces.remove(&key) else {
            return;
        };
        for address in interface.addresses {
            let users = self
                .by_address
                .get_mut(&address)
                .expect("each address of a live interface is in the book");
            assert!(
                users.remove(&key),
                "an address in the book names each interface that has it"
            );
            if users.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    fn machine_down(&mut self, node: NodeIndex) {
        self.namespaces.retain(|(of, _), _| *of != node);
        self.executing.retain(|_, execution| execution.node != node);
        let dead = self
            .interfaces
            .range((node, NetnsId(0))..=(node, NetnsId(u32::MAX)));
        let dead: Vec<_> = dead.map(|(key, _)| *key).collect();
        for key in dead {
            self.down(key);
        }
    }

    /// The record was made in an earlier boot of its machine: it is freed through a burial.
    pub fn is_of_former_boot(&self, address: IpAddr, holder: &Holder) -> bool {
        let booted = holder.node.and_then(|node| self.booted_at.get(&node));
        booted.is_some_and(|booted| self.recorded_at.get(&address).is_some_and(|at| at < booted))
    }

    /// The node that a machine stands for: the first machine of its name.
    pub fn place(&self, node: NodeIndex) -> NodeIndex {
        self.places.get(&node).copied().unwrap_or(node)
    }

    /// A namespace of the Pod exists on a machine.
    pub fn has_namespace(&self, node: NodeIndex, pod: PodUid) -> bool {
        let all = (node, NetnsId(0))..=(node, NetnsId(u32::MAX));
        self.namespaces.range(all).any(|(_, of)| of.pod == pod)
    }

    /// The Pod wants no address anymore, since when.
    pub fn ended(&self, pod: PodUid) -> Option<SimInstant> {
        self.pods.get(&pod).and_then(|facts| facts.ended)
    }
}
