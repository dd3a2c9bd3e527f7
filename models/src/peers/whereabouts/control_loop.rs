//! ip-control-loop, one process per node: it watches the Pods of its node and all IPPools, and
//! should give back what deleted Pods left. In v0.6.2 it cannot: its IPAM has no namespace and no
//! client, its election never succeeds and has no deadline, so its one worker blocks forever at
//! the first stale allocation that it finds. It looks at no address of a Pod's default network.
//!
//! Not modeled: the cache of network-attachment-definitions, the retries of its queue.
//!
//! Source: v0.6.2 pkg/controlloop/pod.go:44-276, cmd/controlloop/controlloop.go:46-153.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::ids::{ClientId, NodeIndex};
use crate::objects::Pod;
use crate::process::{NewProcess, Port, ProcessId, Reader};
use crate::request::{Change, ClientClass, Custom, WatchTarget};

use super::Env;
use super::pool_object::{self, POOL};

/// What its informers hold, and its queue.
#[derive(Default)]
struct View {
    pools: BTreeMap<Rc<str>, Rc<Custom>>,
    gone: VecDeque<Rc<Pod>>,
}

impl View {
    /// Whether a pool has an entry of a Pod.
    fn holds(&self, pod: &Pod) -> bool {
        let name = format!("{}/{}", pod.namespace, pod.name);
        self.pools.values().any(|pool| {
            pool_object::read(&pool.body)
                .iter()
                .any(|allocation| allocation.pod == name)
        })
    }
}

/// The process on a machine.
pub(super) fn control_loop(env: &Rc<Env>, node: NodeIndex, node_name: Rc<str>) -> NewProcess {
    let env = env.clone();
    NewProcess {
        node,
        call: None,
        client: Some(env.client(node, ClientClass::IpamController)),
        script: Box::new(move |port| Box::pin(run(port, env, node, node_name))),
    }
}

/// Its one worker, forever.
async fn run(port: Port, env: Rc<Env>, node: NodeIndex, node_name: Rc<str>) {
    let view: Rc<RefCell<View>> = Rc::default();
    let pods = WatchTarget::Pods {
        node_name: Some(node_name),
    };
    let pools = WatchTarget::Customs {
        kind: POOL,
        selectors: Vec::new(),
        name: None,
    };
    for target in [pods, pools] {
        let informer = Informer {
            env: env.clone(),
            view: view.clone(),
            client: port.client(),
            worker: port.id,
        };
        port.spawn(NewProcess {
            node,
            call: None,
            client: None,
            script: Box::new(move |port| Box::pin(informer.run(port, target))),
        });
    }
    loop {
        let pod = view.borrow_mut().gone.pop_front();
        let Some(pod) = pod else {
            port.park().await;
            continue;
        };
        if env.parameters.default_network {
            env.count(|counters| counters.loop_pods_skipped += 1);
        } else if view.borrow().holds(&pod) {
            break;
        }
    }
    env.count(|counters| counters.loops_blocked += 1);
    loop {
        // It waits for a lease that it never asks for.
        port.park().await;
    }
}

/// One of its informers: lists, watches, and begins again.
struct Informer {
    env: Rc<Env>,
    view: Rc<RefCell<View>>,
    client: ClientId,
    worker: ProcessId,
}

impl Informer {
    async fn run(self, port: Port, target: WatchTarget) {
        loop {
            let target = target.clone();
            port.watch(self.client, target, 0, Reader::Itself).await;
            self.follow(&port).await;
            port.sleep(self.env.reflector_backoff).await;
        }
    }

    /// Takes what the watch brings until it is closed.
    async fn follow(&self, port: &Port) {
        while let Some(change) = port.change().await {
            match change {
                Change::PodGone(pod) => {
                    self.view.borrow_mut().gone.push_back(pod);
                    port.wake(self.worker);
                }
                Change::Custom(pool) => {
                    self.env.saw(&pool);
                    let mut view = self.view.borrow_mut();
                    view.pools.insert(pool.name.clone(), pool);
                }
                Change::CustomGone(pool) => {
                    self.view.borrow_mut().pools.remove(&pool.name);
                }
                Change::Pod(_) | Change::Bookmark(_) | Change::Closed(_) => {}
            }
        }
    }
}
