//! What an agent watches: from which version on, what to do when a watch ends, and to whom each
//! object goes that a list or watch shows.

use std::collections::BTreeSet;

use super::Agent;
use super::boundary::Output;
use super::errands::{Purpose, Watched};
use super::search::block_selection;
use super::timers::Timer;
use crate::core::api::{
    ApiError, ApiReply, ApiRequest, Consistency, ListQuery, Selection, WatchEvent, WatchId,
    WatchQuery,
};
use crate::core::objects::{Kind, Object};

/// A watch that ended so often in a row without an event is opened from a new list: whatever it is
/// that ends it, it stands behind that version.
const CLOSED_IN_VAIN_MAX: u32 = 8;

/// A watch, open or to be opened again.
pub(super) struct Subscription {
    id: Option<WatchId>,
    /// The last version seen.
    version: String,
    /// No watch can be opened from that version: a list comes first.
    is_stale: bool,
    /// Watches that ended, and lists that failed, since the last event.
    failure_count: u32,
}

impl Subscription {
    /// The open watch; `None`: it is to be opened.
    pub(super) fn id(&self) -> Option<WatchId> {
        self.id
    }
}

impl Agent {
    pub(super) fn subscribe(&mut self, watched: Watched, version: String) {
        self.subscribe_after(watched, version, 0);
    }

    /// Watches from the version of a list, after so many failures since the last event.
    fn subscribe_after(&mut self, watched: Watched, version: String, failure_count: u32) {
        self.unsubscribe(watched);
        let subscription = Subscription {
            id: None,
            version,
            is_stale: false,
            failure_count,
        };
        self.watched.insert(watched, subscription);
        self.reopen(watched);
    }

    pub(super) fn unsubscribe(&mut self, watched: Watched) {
        self.disarm(&Timer::Reopen(watched));
        if let Some(Subscription { id: Some(id), .. }) = self.watched.remove(&watched) {
            self.watches.remove(&id);
            self.out.push(Output::Unwatch(id));
        }
    }

    fn selection(&self, watched: Watched) -> Selection {
        let of = |kind| Selection {
            kind,
            labels: Vec::new(),
            node_name: None,
        };
        match watched {
            Watched::Pools => of(Kind::AddressPool),
            Watched::Reservations => of(Kind::AddressReservation),
            Watched::BerthNodes => of(Kind::BerthNode),
            Watched::Pods => Selection {
                node_name: Some(self.config.node_name.clone()),
                ..of(Kind::Pod)
            },
            Watched::Room(id) => block_selection(&self.known_pool(id).name, true),
        }
    }

    /// Opens the watch from the last version seen, or lists if it is too old.
    pub(super) fn reopen(&mut self, watched: Watched) {
        let subscription = self.watched.get(&watched);
        let subscription = subscription.expect("what is opened is to be watched");
        // A new search may have opened it while a list for it was on its way, and failed.
        if subscription.id.is_some() {
            return;
        }
        if subscription.is_stale {
            self.relist(watched);
            return;
        }
        let selection = self.selection(watched);
        let id = WatchId(self.next_id());
        let subscription = self.watched.get_mut(&watched);
        let subscription = subscription.expect("what is opened is to be watched");
        subscription.id = Some(id);
        let resource_version = subscription.version.clone();
        self.watches.insert(id, watched);
        self.out.push(Output::Watch {
            watch: id,
            query: WatchQuery {
                selection,
                resource_version,
            },
        });
    }

    pub(super) fn watch_delivered(&mut self, id: WatchId, event: WatchEvent) {
        let Some(&watched) = self.watches.get(&id) else {
            return;
        };
        let entropy = self.draw();
        let retry = self.config.policy.api_retry;
        let subscription = self.watched.get_mut(&watched);
        let subscription = subscription.expect("an open watch is somebody's");
        assert_eq!(subscription.id, Some(id), "an open watch is somebody's");
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                subscription
                    .version
                    .clone_from(&object.metadata().resource_version);
                subscription.failure_count = 0;
                self.object_seen(watched, &object);
            }
            WatchEvent::Deleted(object) => {
                subscription
                    .version
                    .clone_from(&object.metadata().resource_version);
                subscription.failure_count = 0;
                self.object_gone(watched, &object);
            }
            WatchEvent::Bookmark(version) => {
                subscription.version = version;
                subscription.failure_count = 0;
            }
            WatchEvent::Closed if subscription.failure_count >= CLOSED_IN_VAIN_MAX => {
                subscription.id = None;
                subscription.failure_count = 0;
                self.watches.remove(&id);
                self.relist(watched);
            }
            WatchEvent::Closed => {
                subscription.id = None;
                let pause = retry.pause(subscription.failure_count, entropy);
                subscription.failure_count = subscription.failure_count.saturating_add(1);
                self.watches.remove(&id);
                self.arm(Timer::Reopen(watched), self.now + pause);
            }
            WatchEvent::Expired => {
                subscription.id = None;
                subscription.is_stale = true;
                // History ends, and a list at once goes on from there. If the next watch expires
                // as well without an event, watches are refused, and the next list waits.
                let again = subscription.failure_count.checked_sub(1);
                subscription.failure_count = subscription.failure_count.saturating_add(1);
                self.watches.remove(&id);
                match again {
                    None => self.relist(watched),
                    Some(count) => {
                        let at = self.now + retry.pause(count, entropy);
                        self.arm(Timer::Reopen(watched), at);
                    }
                }
            }
        }
    }

    fn relist(&mut self, watched: Watched) {
        let selection = self.selection(watched);
        let consistency = if watched == Watched::Pods {
            Consistency::Cache
        } else {
            Consistency::Quorum
        };
        let query = ListQuery {
            selection,
            consistency,
            limit: 0,
            continue_token: String::new(),
        };
        self.call(Purpose::Relist(watched), ApiRequest::List(query));
    }

    pub(super) fn relisted(&mut self, watched: Watched, result: Result<ApiReply, ApiError>) {
        if !self.watched.contains_key(&watched) {
            return;
        }
        if let Ok(ApiReply::Page(page)) = result {
            self.take_list(watched, page.items);
            let failure_count = self.watched[&watched].failure_count;
            self.subscribe_after(watched, page.resource_version, failure_count);
        } else if let Some(subscription) = self.watched.get_mut(&watched) {
            subscription.failure_count = subscription.failure_count.saturating_add(1);
            let count = subscription.failure_count;
            let entropy = self.draw();
            let at = self.now + self.config.policy.api_retry.pause(count, entropy);
            self.arm(Timer::Reopen(watched), at);
        }
    }

    pub(super) fn take_list(&mut self, watched: Watched, items: Vec<Object>) {
        match watched {
            Watched::Pools => {
                let names: BTreeSet<_> = items
                    .iter()
                    .map(|item| item.metadata().name.clone())
                    .collect();
                let gone: Vec<_> = self
                    .pool_ids
                    .keys()
                    .filter(|name| !names.contains(*name))
                    .cloned()
                    .collect();
                for name in gone {
                    self.pool_gone(&name);
                }
            }
            Watched::Reservations => {
                // Of one that cannot be read now, the last version still counts.
                let names = items.iter().map(|item| item.metadata().name.clone());
                self.reservations.retain(&names.collect());
                self.reservations_changed();
            }
            Watched::Pods => self.pods_listed(&items),
            Watched::BerthNodes => {
                let names = items.iter().map(|item| item.metadata().name.clone());
                self.machines_listed(&names.collect());
            }
            Watched::Room(_) => {}
        }
        self.forget_set_aside(watched.kind());
        for item in items {
            self.object_seen(watched, &item);
        }
    }

    fn object_seen(&mut self, watched: Watched, object: &Object) {
        if let Object::SetAside(object) = object {
            self.seen_set_aside(watched, object);
            return;
        }
        self.mended(object.kind(), object.metadata());
        match (watched, object) {
            (Watched::Pools, Object::AddressPool(pool)) => self.pool_seen(pool),
            (Watched::Reservations, Object::AddressReservation(reservation)) => {
                self.reservations.insert((**reservation).clone());
                self.reservations_changed();
            }
            (Watched::BerthNodes, Object::BerthNode(node)) => self.berth_node_seen(node, false),
            (Watched::Pods, Object::Pod(pod)) => self.pod_seen(pod),
            (Watched::Room(id), Object::AddressBlock(block)) => self.block_seen(id, block),
            _ => {}
        }
    }

    /// The object is gone, or left the selection; of what it said last only its name counts, which
    /// can always be read.
    fn object_gone(&mut self, watched: Watched, object: &Object) {
        let metadata = object.metadata();
        self.mended(object.kind(), metadata);
        match (watched, object) {
            (Watched::Pools, _) => self.pool_gone(&metadata.name),
            (Watched::Reservations, _) => {
                self.reservations.remove(&metadata.name);
                self.reservations_changed();
                self.touched_pods.extend(self.pods.keys().cloned());
            }
            (Watched::BerthNodes, Object::BerthNode(node)) => self.berth_node_seen(node, true),
            (Watched::BerthNodes, _) => self.machine_seen(&metadata.name, false),
            (Watched::Pods, Object::Pod(pod)) => self.pod_gone(&pod.metadata.uid),
            (Watched::Pods, _) => {
                if let Some(uid) = self.uid_of_pod(metadata) {
                    self.pod_gone(&uid);
                }
            }
            (Watched::Room(id), Object::AddressBlock(block)) => self.block_left(id, block),
            (Watched::Room(_), _) => {}
        }
    }
}
