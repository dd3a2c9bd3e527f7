//! Watches: each change reaches each watcher that asks for it, in the order of revisions, after its
//! apiserver's cache has it. A watcher has a queue and at most one event under way, whatever the
//! number of changes.
//!
//! Modeled: replay from a revision, 410 outside the window, bookmarks, stalls behind a cut link,
//! closing when the apiserver goes. Not modeled: closing of slow watchers, server-side closing
//! after 30-60 minutes, CPU of the fan-out beyond the first list.
//!
//! Source: kubernetes v1.26.5 apiserver/pkg/storage/cacher/{cacher,watch_cache}.go.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use drydock_engine::stream::Stream;
use drydock_engine::time::SimInstant;

use crate::ids::{ClientId, NodeIndex, WatchId};
use crate::objects::Pod;
use crate::request::{ApiError, Change, Custom, Selector, WatchOwner, WatchTarget, matches};

use super::store::{Entry, SERVERS_MAX, Stored};

/// One watch.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) owner: WatchOwner,
    pub(super) client: ClientId,
    pub(super) node: NodeIndex,
    pub(super) server: usize,
    pub(super) target: WatchTarget,
    pub(super) queue: VecDeque<(SimInstant, Change)>,
    /// An event for its queue is scheduled.
    pub(super) armed: bool,
    /// It is over; only `Closed` is left to deliver, and no link is needed for it.
    pub(super) over: bool,
    pub(super) last_due: SimInstant,
    pub(super) delays: Stream,
}

/// All watches of the cluster.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watchers: Vec<Option<Watcher>>,
    all_pods: Vec<WatchId>,
    node_pods: BTreeMap<Rc<str>, Vec<WatchId>>,
    customs: BTreeMap<&'static str, Vec<WatchId>>,
}

impl Watches {
    pub(super) fn add(&mut self, watcher: Watcher) -> WatchId {
        let id = WatchId(self.watchers.len() as u32);
        self.index_of(&watcher.target).push(id);
        self.watchers.push(Some(watcher));
        id
    }

    pub(super) fn get(&mut self, watch: WatchId) -> Option<&mut Watcher> {
        self.watchers.get_mut(watch.index())?.as_mut()
    }

    pub(super) fn remove(&mut self, watch: WatchId) {
        let Some(watcher) = self.watchers.get_mut(watch.index()).and_then(Option::take) else {
            return;
        };
        self.index_of(&watcher.target)
            .retain(|known| *known != watch);
    }

    /// Live watches, by number.
    pub(super) fn ids(&self) -> Vec<WatchId> {
        self.matching(|_| true)
    }

    /// Live watches that satisfy a condition, by number.
    pub(super) fn matching(&self, wanted: impl Fn(&Watcher) -> bool) -> Vec<WatchId> {
        self.watchers
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.as_ref().is_some_and(|w| !w.over && wanted(w)))
            .map(|(index, _)| WatchId(index as u32))
            .collect()
    }

    fn index_of(&mut self, target: &WatchTarget) -> &mut Vec<WatchId> {
        match target {
            WatchTarget::Pods { node_name: None } => &mut self.all_pods,
            WatchTarget::Pods {
                node_name: Some(node),
            } => self.node_pods.entry(node.clone()).or_default(),
            WatchTarget::Customs { kind, .. } => self.customs.entry(kind.resource).or_default(),
        }
    }

    /// Queues a change at every watcher that asks for it; appends those that need an event and
    /// when their server has the change.
    pub(super) fn publish(
        &mut self,
        entry: &Entry,
        visible: &[SimInstant; SERVERS_MAX],
        wake: &mut Vec<(WatchId, SimInstant)>,
    ) {
        let Watches {
            watchers,
            all_pods,
            node_pods,
            customs,
        } = self;
        let node_name = match (&entry.after, &entry.before) {
            (Some(Stored::Pod(pod)), _) | (None, Some(Stored::Pod(pod))) => pod.node_name.as_ref(),
            _ => None,
        };
        let none = Vec::new();
        let (first, second) = match entry.after.as_ref().or(entry.before.as_ref()) {
            Some(Stored::Pod(_)) => (
                &*all_pods,
                node_name
                    .and_then(|name| node_pods.get(name))
                    .unwrap_or(&none),
            ),
            Some(Stored::Custom(object)) => {
                (customs.get(object.kind.resource).unwrap_or(&none), &none)
            }
            None => return,
        };
        for id in first.iter().chain(second) {
            let Some(watcher) = watchers[id.index()].as_mut() else {
                continue;
            };
            if watcher.over {
                continue;
            }
            let Some(change) = change_for(&watcher.target, entry) else {
                continue;
            };
            let due = visible[watcher.server].max(watcher.last_due);
            watcher.queue.push_back((due, change));
            if !watcher.armed {
                wake.push((*id, due));
            }
        }
    }
}

/// What a watcher of a target sees of a revision: of what left the selection, the last state in it,
/// under the version that took it out.
pub(super) fn change_for(target: &WatchTarget, entry: &Entry) -> Option<Change> {
    match target {
        WatchTarget::Pods { node_name } => {
            let of_node = |stored: &Option<Stored>| match stored {
                Some(Stored::Pod(pod)) => {
                    let chosen = node_name
                        .as_ref()
                        .is_none_or(|node| pod.node_name.as_ref() == Some(node));
                    chosen.then(|| pod.clone())
                }
                _ => None,
            };
            match (of_node(&entry.before), of_node(&entry.after)) {
                (_, Some(pod)) => Some(Change::Pod(pod)),
                (Some(pod), None) => Some(Change::PodGone(Rc::new(Pod {
                    resource_version: entry.revision,
                    ..Pod::clone(&pod)
                }))),
                (None, None) => None,
            }
        }
        WatchTarget::Customs {
            kind,
            selectors,
            name,
        } => {
            let chosen = |stored: &Option<Stored>| match stored {
                Some(Stored::Custom(object))
                    if object.kind.resource == kind.resource
                        && selects(selectors, name.as_ref(), object) =>
                {
                    Some(object.clone())
                }
                _ => None,
            };
            match (chosen(&entry.before), chosen(&entry.after)) {
                (_, Some(object)) => Some(Change::Custom(object)),
                (Some(object), None) => Some(Change::CustomGone(Rc::new(Custom {
                    resource_version: entry.revision,
                    ..Custom::clone(&object)
                }))),
                (None, None) => None,
            }
        }
    }
}

fn selects(selectors: &[Selector], name: Option<&Rc<str>>, object: &Custom) -> bool {
    name.is_none_or(|name| object.name == *name) && matches(selectors, object)
}

/// The change that ends a watch.
pub(super) fn closed(error: ApiError) -> Change {
    Change::Closed(error)
}
