//! kube-controllers' IPAM garbage collection: every wake-up looks at every allocation; one that
//! looks leaked for longer than the grace period is released after a last look at its Pod.
//! Not modeled: release of affinities of empty blocks (two looks more than the grace apart) and of
//! deleted nodes; metrics.
//! Source: kube-controllers/pkg/controllers/node/ipam.go:234-263, 721, 804-950, 1018-1028.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::objects::Pod;
use crate::process::{CallError, Port};
use crate::request::{Answer, Change, Consistency, Request};

use super::datastore::Datastore;
use super::object::{Allocation, Block, parse};
use super::{BLOCKS, Env};

/// What its informers hold.
#[derive(Default)]
pub(super) struct View {
    blocks: BTreeMap<Rc<str>, Block>,
    pods: BTreeMap<(Rc<str>, Rc<str>), Rc<Pod>>,
    changed: bool,
}

impl View {
    /// An update of an informer; whether the controller wakes up for it.
    pub(super) fn update(&mut self, change: &Change) -> bool {
        match change {
            Change::Custom(object) if object.kind == BLOCKS => {
                self.blocks.insert(object.name.clone(), parse(object).body);
                self.changed = true;
            }
            Change::CustomGone(object) => {
                self.changed |= self.blocks.remove(&object.name).is_some();
            }
            Change::Pod(pod) => {
                let key = (pod.namespace.clone(), pod.name.clone());
                self.pods.insert(key, pod.clone());
                return false;
            }
            Change::PodGone(pod) => {
                self.pods.remove(&(pod.namespace.clone(), pod.name.clone()));
                return false;
            }
            _ => return false,
        }
        true
    }

    fn allocation_count(&self) -> u32 {
        self.blocks
            .values()
            .map(|block| block.slots.len() as u32)
            .sum()
    }
}

/// An allocation: block and slot.
type Place = (Rc<str>, usize);

/// Wake-ups within this time are paid for, but their outcome is worked out once: it moves the
/// beginning of a suspicion by no more, against minutes of grace.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The controller, forever.
pub(super) async fn run(port: Port, env: Rc<Env>, view: Rc<RefCell<View>>) {
    let datastore = Datastore {
        port: port.clone(),
        env: env.clone(),
        locked: false,
    };
    let grace = env.parameters.leak_grace;
    let period = if grace.is_zero() {
        Duration::from_mins(5)
    } else {
        grace / 2
    };
    let mut tick = port.now() + period;
    let mut next_look = port.now();
    let mut suspects: BTreeMap<Place, (SimInstant, Allocation)> = BTreeMap::new();
    loop {
        if !view.borrow().changed && !port.park_until(tick).await {
            tick = port.now() + period;
        }
        view.borrow_mut().changed = false;
        let looks = view.borrow().allocation_count();
        port.cpu(env.parameters.cpu_check * looks).await;
        if port.now() < next_look {
            continue;
        }
        next_look = port.now() + LOOK_PAUSE;
        look(&mut suspects, &view.borrow(), &env, port.now());
        let due: Vec<(Place, Allocation)> = (suspects.iter())
            .filter(|(_, (since, _))| *since + grace <= port.now())
            .map(|(place, (_, allocation))| (place.clone(), allocation.clone()))
            .collect();
        for (place, allocation) in due {
            suspects.remove(&place);
            let known: Place = place;
            if !is_leaked(&datastore, &allocation, &known).await {
                continue;
            }
            if (datastore.release_slot(&known.0, known.1, &allocation).await).is_ok() {
                env.count(|counters| counters.addresses_reclaimed += 1);
            }
        }
    }
}

/// Keeps suspects that still look leaked, adds new ones.
fn look(
    suspects: &mut BTreeMap<Place, (SimInstant, Allocation)>,
    view: &View,
    env: &Env,
    now: SimInstant,
) {
    let mut found = BTreeMap::new();
    for (name, block) in &view.blocks {
        for (slot, allocation) in &block.slots {
            let pod = view.pods.get(&(
                allocation.namespace.as_str().into(),
                allocation.pod.as_str().into(),
            ));
            let place = (name.clone(), *slot);
            if looks_leaked(env, allocation, &place, pod) {
                let since = match suspects.get(&place) {
                    Some((since, before)) if before == allocation => *since,
                    _ => now,
                };
                found.insert(place, (since, allocation.clone()));
            }
        }
    }
    *suspects = found;
}

/// Its Pod is gone, elsewhere, or has other addresses. Addresses without a Pod are the node's own.
fn looks_leaked(env: &Env, allocation: &Allocation, place: &Place, pod: Option<&Rc<Pod>>) -> bool {
    if allocation.namespace.is_empty() {
        return false;
    }
    let Some(pod) = pod else { return true };
    if pod
        .node_name
        .as_ref()
        .is_some_and(|node| **node != *allocation.node)
    {
        return true;
    }
    let Some(family) = env.layout.family_of(&place.0) else {
        return false;
    };
    let address = env.layout.families[family].address(&place.0, place.1);
    let ips = &pod.status.pod_ips;
    !ips.is_empty() && !ips.contains(&address)
}

/// The last look: a live GET of the Pod.
async fn is_leaked(datastore: &Datastore, allocation: &Allocation, place: &Place) -> bool {
    let request = Request::GetPod {
        namespace: allocation.namespace.as_str().into(),
        name: allocation.pod.as_str().into(),
        consistency: Consistency::Quorum,
    };
    match datastore.call(request).await {
        Ok(Answer::Pod(pod)) => looks_leaked(&datastore.env, allocation, place, Some(&pod)),
        Err(error @ CallError::Api(_)) => error.is_not_found(),
        _ => false,
    }
}
