//! What a test may look at, and change, in a world.

use core::net::IpAddr;

use super::World;
use crate::core::agent::AgentState;
use crate::core::controller::ControllerState;
use crate::core::exchange::{AddRequest, InboxEvent, PluginRequest, RequestId, Response, Verb};
use crate::core::holder::decode_records;
use crate::core::objects::{Kind, Object};
use crate::testing::state::Inner;
use crate::testing::state::ledger::Violation;
use crate::testing::state::nodes::{OWN_ASKS, Sandboxed};
use crate::testing::state::traffic::{Asked, Costs, Faults};
use crate::testing::store::Store;

impl World {
    /// Pods whose sandbox has an address.
    pub fn running_count(&self) -> usize {
        self.with(|inner| {
            inner
                .nodes
                .values()
                .flat_map(|node| node.namespaces.values())
                .filter(|sandbox| !sandbox.addresses.is_empty())
                .count()
        })
    }

    /// Every double use that was seen.
    pub fn violations(&self) -> Vec<Violation> {
        self.with(|inner| inner.violations.clone())
    }

    /// Requests since the last call.
    pub fn take_costs(&mut self) -> Costs {
        self.with(|inner| std::mem::take(&mut inner.costs))
    }

    /// Events and their reasons at a node.
    pub fn events(&self, node: &str) -> Vec<(&'static str, String)> {
        self.with(|inner| inner.node(node).events.clone())
    }

    /// Has what the agent or controller of that name says of itself kept from now on.
    pub fn keep_states(&mut self, name: &str) {
        self.with(|inner| {
            let node = inner.node(name);
            node.agent_state = Some(AgentState::default());
            node.controller_state = Some(ControllerState::default());
        });
    }

    /// How the agent of a node stood last; see [`Self::keep_states`].
    pub fn agent_state(&self, node: &str) -> AgentState {
        self.with(|inner| inner.node(node).agent_state.clone().unwrap_or_default())
    }

    /// How a controller stood last; see [`Self::keep_states`].
    pub fn controller_state(&self, identity: &str) -> ControllerState {
        let state = |inner: &mut Inner| inner.node(identity).controller_state.clone();
        self.with(state).unwrap_or_default()
    }

    /// Somebody stores JSON that no program of Berth would: see [`Store::put_raw`].
    pub fn put_raw(&mut self, kind: Kind, value: serde_json::Value) {
        self.with_store(|store| store.put_raw(kind, value));
    }

    /// Every right that a program used so far, by the name of its node or its identity.
    pub fn asked(&self, who: &str) -> std::collections::BTreeSet<Asked> {
        self.with(|inner| {
            let of = inner.asked.iter().filter(|(name, _)| name == who);
            of.map(|(_, asked)| *asked).collect()
        })
    }

    /// The entries of a node's journal.
    pub fn journal(&self, node: &str) -> Vec<crate::core::journal::Entry> {
        self.with(|inner| {
            let replay = crate::core::journal::decode(&inner.node(node).journal);
            replay.map_or_else(|_| Vec::new(), |replay| replay.entries)
        })
    }

    /// How often a node's agents asked the runtime for its sandboxes so far.
    pub fn sandbox_lists(&self, node: &str) -> u64 {
        self.with(|inner| inner.node(node).list_count)
    }

    /// Damaged journals that were kept for people.
    pub fn journals_aside(&self, node: &str) -> Vec<Vec<u8>> {
        self.with(|inner| inner.node(node).aside.clone())
    }

    /// How often a node was rebooted.
    pub fn boot(&self, node: &str) -> u64 {
        self.with(|inner| inner.node(node).boot)
    }

    /// The bytes of a node's journal.
    pub fn journal_bytes(&self, node: &str) -> Vec<u8> {
        self.with(|inner| inner.node(node).journal.clone())
    }

    /// How hostile the world is from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.with(|inner| inner.faults = faults);
    }

    /// UIDs of the Pods that records hold ordinals for, in order, repeated as often as they do.
    pub fn held_by(&self) -> Vec<String> {
        self.with(|inner| {
            let mut held = Vec::new();
            for object in inner.store.of_kind(Kind::AddressBlock) {
                let Object::AddressBlock(block) = object else {
                    continue;
                };
                for record in decode_records(&block.spec.records).flatten() {
                    if let Some(holder) = record.1.holder() {
                        held.push(holder.pod_uid.to_string());
                    }
                }
            }
            held.sort();
            held
        })
    }

    /// The store, to look at or to change behind everybody's back.
    pub fn with_store<T>(&mut self, f: impl FnOnce(&mut Store) -> T) -> T {
        self.with(|inner| {
            let result = f(&mut inner.store);
            inner.notify_watches();
            result
        })
    }

    /// A plugin of the test's own asks the agent of a node, beside the kubelet: for any network,
    /// interface, pools and addresses. Its namespace stands from now on.
    pub fn ask(&mut self, node: &str, add: AddRequest) -> RequestId {
        self.with(|inner| {
            inner.last_id += 1;
            let id = RequestId(OWN_ASKS + inner.last_id);
            let sandbox = Sandboxed {
                pod: add.pod.uid.clone().unwrap_or_default().to_string(),
                container: add.attachment.container.clone(),
                addresses: Vec::new(),
            };
            let namespaces = &mut inner.node(node).namespaces;
            namespaces.entry(add.netns.clone()).or_insert(sandbox);
            let request = PluginRequest {
                id,
                deadline: inner.now + core::time::Duration::from_secs(20),
                verb: Verb::Add(add),
            };
            inner.push(node, InboxEvent::Request(Box::new(request)));
            id
        })
    }

    /// What that plugin was told, if it was.
    pub fn answer(&self, node: &str, id: RequestId) -> Option<Response> {
        self.with(|inner| inner.node(node).answers.get(&id).cloned())
    }

    /// The addresses of a Pod's live sandboxes.
    pub fn addresses_of(&self, pod: &str) -> Vec<IpAddr> {
        let uid = format!("pod-{pod}");
        self.with(|inner| {
            inner
                .nodes
                .values()
                .flat_map(|node| node.namespaces.values())
                .filter(|sandbox| sandbox.pod == uid)
                .flat_map(|sandbox| sandbox.addresses.clone())
                .collect()
        })
    }
}
