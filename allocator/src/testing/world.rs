//! The fake world: agents and controllers over one state, run as fast as the caller's thread can.
//! What can happen is in [`state`](super::state).

mod ailments;
mod looks;
mod losses;

use core::task::Poll;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::ports::NodePorts;
use super::state::kubelet::{Kubelet, NETWORK, PodPlan, pod_key};
use super::state::queue::Arrival;
use super::state::traffic::Faults;
use super::state::{Inner, Shared, lock};
use super::tasks::Running;
use crate::core::agent::{Agent, AgentConfig};
use crate::core::api::Part;
use crate::core::controller::{Controller, ControllerConfig};
use crate::core::objects::{AddressPool, FamilySpec, Metadata, Node, Pod, Uid};
use crate::core::pool::{Pool, approval, fingerprint};
use crate::core::time::BootTime;
use crate::shell::{run_agent, run_controller};

/// The fake world with its agents. Runs on the caller's thread, as fast as it can.
pub struct World {
    shared: Shared,
    agents: BTreeMap<String, Running>,
    configure: fn(&mut AgentConfig),
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Inner::new(seed, faults))),
            agents: BTreeMap::new(),
            configure: |_| {},
        }
    }

    /// Changes the configuration of agents started from now on.
    pub fn configure(&mut self, configure: fn(&mut AgentConfig)) {
        self.configure = configure;
    }

    /// Runs `f` on the state.
    pub fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut lock(&self.shared))
    }

    /// The time.
    pub fn now(&self) -> BootTime {
        self.with(|inner| inner.now)
    }

    /// Creates an approved default pool.
    pub fn add_pool(&mut self, name: &str, families: &[&[&str]], block_size: Option<u16>) {
        let mut object = AddressPool {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            ..AddressPool::default()
        };
        object.spec.is_default = true;
        object.spec.block_size = block_size;
        object.spec.families = families
            .iter()
            .map(|ranges| FamilySpec {
                ranges: ranges.iter().map(ToString::to_string).collect(),
                ..FamilySpec::default()
            })
            .collect();
        self.with(|inner| {
            let size = Pool::parse(&object, None)
                .expect("the pool is valid")
                .block_size;
            let metadata = inner
                .store
                .create(object.clone().into())
                .expect("the name is free");
            object.metadata = metadata;
            object.status.approved =
                approval(&fingerprint(&object.metadata.uid, &object.spec), size);
            inner
                .store
                .replace(object.into(), Part::Status)
                .expect("it was just created");
            inner.notify_watches();
        });
    }

    /// Creates a node and starts its agent.
    pub fn add_node(&mut self, name: &str) {
        self.with(|inner| {
            let node = Node {
                metadata: Metadata {
                    name: name.to_owned(),
                    ..Metadata::default()
                },
                ..Node::default()
            };
            inner.store.create(node.into()).expect("the name is free");
            inner.node(name).machine = format!("machine-{name}");
        });
        self.start_agent(name);
    }

    /// Starts another machine, called `key` here, under the name of a node that exists.
    pub fn add_machine(&mut self, key: &str, node_name: &str) {
        self.with(|inner| {
            let node = inner.node(key);
            node.machine = format!("machine-{key}");
            node.node_name = Some(node_name.to_owned());
        });
        self.start_agent(key);
    }

    /// Starts the agent of a node.
    pub fn start_agent(&mut self, name: &str) {
        let (config, incarnation) = self.with(|inner| {
            let node = inner.node(name);
            node.incarnation += 1;
            let boot = format!("boot-{}-{}", node.machine, node.boot);
            let node_name = node.node_name.clone().unwrap_or_else(|| name.to_owned());
            (
                AgentConfig::new(&node_name, &node.machine, &boot),
                node.incarnation,
            )
        });
        let mut config = config;
        NETWORK.clone_into(&mut config.default_network);
        (self.configure)(&mut config);
        let ports = NodePorts {
            shared: self.shared.clone(),
            name: name.to_owned(),
            incarnation,
        };
        let agent = Agent::new(config);
        let future = Box::pin(async move { run_agent(agent, &ports).await });
        self.agents.insert(name.to_owned(), Running::new(future));
        self.poll_agents();
    }

    /// Starts a controller.
    pub fn start_controller(&mut self, identity: &str) {
        self.start_controller_with(ControllerConfig::new(identity));
    }

    /// Starts a controller with that configuration.
    pub fn start_controller_with(&mut self, config: ControllerConfig) {
        let identity = config.identity.clone();
        let shared = self.shared.clone();
        let ports = NodePorts {
            shared,
            name: identity.clone(),
            incarnation: 0,
        };
        let controller = Controller::new(config);
        let future = Box::pin(async move { run_controller(controller, &ports).await });
        self.agents
            .insert(format!("controller {identity}"), Running::new(future));
        self.poll_agents();
    }

    /// Kills a controller.
    pub fn kill_controller(&mut self, identity: &str) {
        drop(self.agents.remove(&format!("controller {identity}")));
    }

    /// Kills the agent of a node; what it has in flight may still be carried out. Plugins that wait
    /// for it see their socket close.
    pub fn kill_agent(&mut self, name: &str) {
        drop(self.agents.remove(name));
        self.with(|inner| {
            let node = inner.node(name);
            node.incarnation += 1;
            node.inbox_waiter = None;
            node.inbox.clear();
            node.replies.clear();
            let waiting: Vec<String> = inner
                .pods
                .iter()
                .filter(|(_, pod)| pod.node == name && pod.adding.is_some())
                .map(|(uid, _)| uid.clone())
                .collect();
            for uid in waiting {
                inner.stop_sandbox(&uid);
            }
            let unanswered: Vec<_> = inner
                .dels
                .iter()
                .filter(|(_, (node, _))| node == name)
                .map(|(id, (_, del))| (*id, del.clone()))
                .collect();
            for (id, del) in unanswered {
                inner.dels.remove(&id);
                inner.spool(name, del);
            }
        });
    }

    /// Starts the agent again after a while.
    pub fn start_agent_after(&mut self, name: &str, pause: Duration) {
        self.with(|inner| {
            let at = inner.now + pause;
            inner.schedule(at, Arrival::StartAgent(name.to_owned()));
        });
    }

    /// Reboots a node: all namespaces end, the Pods start again.
    pub fn reboot(&mut self, name: &str) {
        self.kill_agent(name);
        self.with(|inner| {
            inner.node(name).namespaces.clear();
            inner.node(name).seal = None;
            inner.node(name).boot += 1;
            let here: Vec<String> = inner
                .pods
                .iter()
                .filter(|(_, pod)| pod.node == name)
                .map(|(uid, _)| uid.clone())
                .collect();
            for uid in here {
                if let Some(pod) = inner.pods.get_mut(&uid) {
                    pod.sandbox = None;
                    pod.adding = None;
                }
                let at = inner.now + Duration::from_secs(2);
                inner.schedule(at, Arrival::StartSandbox(uid));
            }
        });
    }

    /// Creates a Pod that is bound to a node.
    pub fn create_pod(&mut self, plan: PodPlan<'_>) {
        let uid = format!("pod-{}", plan.name);
        self.with(|inner| {
            let mut pod = Pod::default();
            plan.name.clone_into(&mut pod.metadata.name);
            pod.metadata.namespace = "ns".into();
            pod.metadata.uid = Uid::new(&uid);
            plan.node.clone_into(&mut pod.spec.node_name);
            pod.status.phase = "Pending".into();
            inner.store.create(pod.into()).expect("the name is free");
            inner.notify_watches();
            let kubelet = Kubelet {
                node: plan.node.to_owned(),
                name: plan.name.to_owned(),
                attempt: 0,
                adding: None,
                sandbox: None,
                leaving: false,
            };
            inner.pods.insert(uid.clone(), kubelet);
            let at = inner.now + plan.sandbox_after;
            inner.schedule(at, Arrival::StartSandbox(uid));
        });
    }

    /// Deletes a Pod; `grace` later its sandbox is stopped. With `force` the object goes at once.
    pub fn delete_pod(&mut self, name: &str, grace: Duration, force: bool) {
        let uid = format!("pod-{name}");
        self.with(|inner| {
            let Some(pod) = inner.pods.get_mut(&uid) else {
                return;
            };
            pod.leaving = true;
            if force {
                inner.remove_pod_object(name);
            } else {
                inner.store.mark_deleted(&pod_key(name));
                inner.notify_watches();
            }
            let at = inner.now + grace;
            inner.schedule(at, Arrival::StopSandbox(uid));
        });
    }

    /// Lets everything happen until `until`.
    pub fn run_until(&mut self, until: BootTime) {
        self.poll_agents();
        loop {
            let next = self.with(|inner| {
                let (&(at, _), _) = inner.queue.first_key_value()?;
                if at > until {
                    return None;
                }
                inner.now = inner.now.max(at);
                let (_, arrival) = inner.queue.pop_first()?;
                Some(inner.arrive(arrival))
            });
            match next {
                None => break,
                Some(Some(node)) if !self.agents.contains_key(&node) => self.start_agent(&node),
                Some(_) => {}
            }
            self.poll_agents();
        }
        self.with(|inner| inner.now = inner.now.max(until));
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        self.run_until(until);
    }

    fn poll_agents(&mut self) {
        loop {
            let mut polled = false;
            let mut ended = Vec::new();
            for (name, agent) in &mut self.agents {
                let Some(state) = agent.poll() else {
                    continue;
                };
                polled = true;
                if state == Poll::Ready(()) {
                    ended.push(name.clone());
                }
            }
            for name in ended {
                self.agents.remove(&name);
            }
            self.with(Inner::take_replies);
            if !polled {
                return;
            }
        }
    }
}
