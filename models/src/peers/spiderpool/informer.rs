//! Informers: LIST, then WATCH from its revision; a watch that ends is opened again from the last
//! revision seen, or listed again when that is gone. What a delivered change means to the process
//! is in [`super::news`].
//!
//! An agent's informers are cluster-wide and hold whole objects. What an agent reads of Pods is
//! only ever about its own machine, so its Pod watch is narrowed to it; and it reads of pools only
//! what never changes.

use std::rc::Rc;

use crate::process::{NewProcess, Port, Reader};
use crate::request::{Answer, ApiError, Consistency, Custom, Request, WatchTarget};

use super::endpoint::ENDPOINTS;
use super::memory::{Informer, KnownPods};
use super::pools::POOLS;
use super::process::{Bucket, Life, Role};

/// Who a watch belongs to, in the 64 bits that the world carries: life, seat and informer. The
/// entity of the informer's draws is the same number.
fn mark(life: &Life, informer: Informer) -> u64 {
    u64::from(life.number) << 32 | (life.index as u64) << 4 | informer as u64
}

/// The life, the seat and the informer of a watch.
pub(super) fn read_mark(token: u64) -> (u32, usize, Informer) {
    let seat = (token >> 4 & 0x0fff_ffff) as usize;
    let informer = Informer::ALL[(token & 0xf) as usize];
    ((token >> 32) as u32, seat, informer)
}

/// An informer of a process.
pub(super) fn follow(life: &Rc<Life>, informer: Informer) -> NewProcess {
    let own = life.clone();
    life.script(None, move |port| run(port, own, informer))
}

async fn run(port: Port, life: Rc<Life>, informer: Informer) {
    let followed = life.followed(informer);
    followed.begin(&port);
    loop {
        if list(&port, &life, informer).await {
            // Nothing is read from an agent's copy of a pool's status.
            if life.role == Role::Agent && informer == Informer::Pools {
                return followed.sync(&port);
            }
            while watch(&port, &life, informer).await != ApiError::Gone {
                port.sleep(pause(&life, informer)).await;
            }
        }
        port.sleep(pause(&life, informer)).await;
    }
}

fn pause(life: &Life, informer: Informer) -> std::time::Duration {
    life.env.reflector_wait(mark(life, informer))
}

fn own_node_name(life: &Life) -> Option<Rc<str>> {
    (life.role == Role::Agent).then(|| life.node_name.clone())
}

/// Lists, and takes in what is there; whether that worked.
async fn list(port: &Port, life: &Life, informer: Informer) -> bool {
    let consistency = Consistency::Cache;
    let list = |kind| Request::List {
        kind,
        selectors: Vec::new(),
        consistency,
        limit: 0,
        after: None,
    };
    let request = match informer {
        Informer::Pods => Request::ListPods {
            node_name: own_node_name(life),
            consistency,
        },
        Informer::Endpoints => list(ENDPOINTS),
        Informer::Pools => list(POOLS),
    };
    let answer = life.ask(port, Bucket::Informers, request).await;
    let mut known = life.known.borrow_mut();
    let revision = match answer {
        Ok(Answer::Pods(pods, revision)) => {
            known.pods = KnownPods::default();
            for pod in pods {
                known.pods.put(pod);
            }
            revision
        }
        Ok(Answer::Customs(objects, revision, _)) => {
            if informer == Informer::Endpoints {
                known.endpoints = objects.into_iter().map(|o| (o.name.clone(), o)).collect();
            } else {
                let pool = |o: Rc<Custom>| life.env.catalog.id(&o.name).map(|id| (id, o));
                known.pools = objects.into_iter().filter_map(pool).collect();
            }
            revision
        }
        _ => return false,
    };
    life.followed(informer).revision.set(revision);
    true
}

/// Watches from the last revision seen to the end of the watch; why it ended.
async fn watch(port: &Port, life: &Life, informer: Informer) -> ApiError {
    let customs = |kind| WatchTarget::Customs {
        kind,
        selectors: Vec::new(),
        name: None,
    };
    let target = match informer {
        Informer::Pods => WatchTarget::Pods {
            node_name: own_node_name(life),
        },
        Informer::Endpoints => customs(ENDPOINTS),
        Informer::Pools => customs(POOLS),
    };
    let followed = life.followed(informer);
    let (client, from) = (life.client(Bucket::Informers), followed.revision.get());
    // What it brings concerns other processes as well.
    let reader = Reader::Owner(mark(life, informer));
    let watch = port.watch(client, target, from, reader).await;
    followed.watch.set(Some(watch));
    followed.sync(port);
    followed.closed(port).await
}
