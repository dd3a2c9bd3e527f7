//! Opening, feeding and closing watches.

use drydock_engine::time::SimInstant;

use crate::core::Core;
use crate::event::{ApiEvent, CpuToken, Event};
use crate::ids::{ClientId, NodeIndex, WatchId};
use crate::objects::ResourceVersion;
use crate::observation::{ApiCallKind, Observation};
use crate::request::{ApiError, Change, WatchOwner, WatchTarget};

use super::store::SERVERS_MAX;
use super::watch::{Watcher, change_for, closed};
use super::{ApiServers, Delivery, serving_from};

impl ApiServers {
    /// Opens a watch; see [`crate::context::Context::watch`].
    pub fn watch(
        &mut self,
        client: ClientId,
        target: WatchTarget,
        from: ResourceVersion,
        owner: WatchOwner,
        core: &mut Core<'_>,
    ) -> WatchId {
        let (spec, entity, start) = self
            .clients
            .get(client)
            .map(|client| (client.spec, client.entity, client.server))
            .expect("a watch is opened by a client that exists");
        let serving = serving_from(&self.servers, start);
        let server = serving.unwrap_or(start);
        let ordinal = self.watch_count(spec.node);
        let id = self.watches.add(Watcher {
            owner,
            client,
            node: spec.node,
            server,
            target,
            queue: std::collections::VecDeque::new(),
            armed: false,
            over: false,
            last_due: core.now,
            delays: core
                .streams
                .stream("watch", entity << 8 | (ordinal & 0xff), "delay"),
        });
        if serving.is_none() {
            self.end_watch(id, ApiError::Unavailable { unknown: false }, core);
            return id;
        }
        let result = self.replay(id, from, core);
        let what = ApiCallKind {
            verb: "WATCH",
            resource: self.watched(id),
        };
        let observed = Observation::ApiCall {
            class: spec.class,
            what,
            result,
            committed: false,
        };
        core.observe(observed);
        if let Err(error) = result {
            self.end_watch(id, error, core);
            return id;
        }
        if self.links.is_cut(spec.node) {
            let cut = self.links.of(spec.node).cuts;
            let dead = core.parameters.client.h2_dead;
            core.after(
                dead,
                Event::Api(ApiEvent::ConnectionsDead {
                    node: spec.node,
                    cut,
                }),
            );
        }
        self.arm_watch(id, core);
        id
    }

    /// Closes a watch; nothing of it is delivered any more.
    pub fn close_watch(&mut self, watch: WatchId) {
        self.watches.remove(watch);
    }

    fn watch_count(&self, node: NodeIndex) -> u64 {
        self.watches.matching(|watcher| watcher.node == node).len() as u64
    }

    fn watched(&mut self, watch: WatchId) -> &'static str {
        match self.watches.get(watch).map(|watcher| &watcher.target) {
            Some(WatchTarget::Customs { kind, .. }) => kind.resource,
            _ => "pods",
        }
    }

    /// Queues what a new watch has to see first.
    /// Errors: 410 when the revision is out of the window.
    fn replay(
        &mut self,
        watch: WatchId,
        from: ResourceVersion,
        core: &mut Core<'_>,
    ) -> Result<(), ApiError> {
        let ready = core.now + core.parameters.net.one_way * 2;
        let ApiServers {
            store,
            watches,
            servers,
            ..
        } = self;
        let Some(watcher) = watches.get(watch) else {
            return Ok(());
        };
        let server = watcher.server;
        watcher.last_due = ready;
        let mut after = from;
        if from == 0 {
            after = store.visible_revision(server, core.now);
            let mut count = 0u32;
            match &watcher.target {
                WatchTarget::Pods { node_name } => {
                    for pod in store.pods_at(node_name.as_ref(), after) {
                        count += 1;
                        watcher.queue.push_back((ready, Change::Pod(pod)));
                    }
                }
                WatchTarget::Customs {
                    kind,
                    selectors,
                    name,
                } => {
                    for object in store.customs_at(*kind, selectors, after) {
                        if name.as_ref().is_none_or(|name| object.name == *name) {
                            count += 1;
                            watcher.queue.push_back((ready, Change::Custom(object)));
                        }
                    }
                }
            }
            if !core.parameters.api.fixed_latency {
                let item = core.parameters.cost.list_item.at(1);
                let demand = (item.apiserver + item.etcd) * count;
                core.cpu(servers[server].node, demand, CpuToken::Nobody);
            }
        } else if after < servers[server].floor || after + 1 < store.first() {
            return Err(ApiError::Gone);
        }
        for revision in after + 1..=store.revision() {
            let Some(entry) = store.entry(revision) else {
                continue;
            };
            if let Some(change) = change_for(&watcher.target, entry) {
                let due = entry.visible[server].max(watcher.last_due);
                watcher.last_due = due;
                watcher.queue.push_back((due, change));
            }
        }
        Ok(())
    }

    /// Hands revisions after `before` to the caches and the watchers.
    pub(super) fn publish_from(&mut self, before: ResourceVersion, core: &mut Core<'_>) {
        for revision in before + 1..=self.store.revision() {
            let mut visible = [core.now; SERVERS_MAX];
            let span = core.parameters.api.cache_delay;
            for (server, seen) in self.servers.iter_mut().zip(&mut visible) {
                let delay = server.cache_delays.duration(span.min..=span.max);
                *seen = (core.now + delay)
                    .max(server.last_visible)
                    .max(server.frozen_until);
                server.last_visible = *seen;
            }
            self.store.set_visible(visible);
            let mut wake = std::mem::take(&mut self.wake);
            if let Some(entry) = self.store.entry(revision) {
                self.watches.publish(entry, &visible, &mut wake);
            }
            for (watch, due) in wake.drain(..) {
                self.arm_watch_at(watch, due, core);
            }
            self.wake = wake;
        }
    }

    /// Schedules the delivery of the first queued change, if there is one.
    pub(super) fn arm_watch(&mut self, watch: WatchId, core: &mut Core<'_>) {
        let first = self
            .watches
            .get(watch)
            .filter(|watcher| !watcher.armed)
            .and_then(|watcher| watcher.queue.front().map(|(due, _)| *due));
        if let Some(due) = first {
            self.arm_watch_at(watch, due, core);
        }
    }

    fn arm_watch_at(&mut self, watch: WatchId, due: SimInstant, core: &mut Core<'_>) {
        let span = core.parameters.api.watch_delay;
        let Some(watcher) = self.watches.get(watch) else {
            return;
        };
        let delay = watcher.delays.duration(span.min..=span.max);
        watcher.armed = true;
        let at = (due + delay).max(watcher.last_due).max(core.now);
        watcher.last_due = watcher.last_due.max(due);
        core.queue.at(at, Event::Api(ApiEvent::Watch { watch }));
    }

    /// Changes reach a watcher: all that its server has by now.
    pub(super) fn deliver(&mut self, watch: WatchId, core: &mut Core<'_>) -> Delivery {
        let Some(watcher) = self.watches.get(watch) else {
            return Delivery::Nothing;
        };
        watcher.armed = false;
        let (node, over, owner) = (watcher.node, watcher.over, watcher.owner);
        if !over && self.links.is_cut(node) {
            return Delivery::Nothing;
        }
        let Some(watcher) = self.watches.get(watch) else {
            return Delivery::Nothing;
        };
        let ready = watcher.queue.partition_point(|(due, _)| *due <= core.now);
        let changes: Vec<Change> = watcher
            .queue
            .drain(..ready)
            .map(|(_, change)| change)
            .collect();
        if over {
            self.watches.remove(watch);
        } else {
            self.arm_watch(watch, core);
        }
        if changes.is_empty() {
            return Delivery::Nothing;
        }
        Delivery::Changes(owner, watch, changes)
    }

    /// Ends a watch: what was not delivered is lost, the owner is told.
    pub(super) fn end_watch(&mut self, watch: WatchId, error: ApiError, core: &mut Core<'_>) {
        let at = core.now + core.parameters.net.one_way;
        let Some(watcher) = self.watches.get(watch) else {
            return;
        };
        watcher.over = true;
        watcher.queue.clear();
        watcher.queue.push_back((core.now, closed(error)));
        if !watcher.armed {
            watcher.armed = true;
            core.queue.at(at, Event::Api(ApiEvent::Watch { watch }));
        }
    }

    /// Sends bookmarks on every watch.
    pub(super) fn bookmark(&mut self, core: &mut Core<'_>) {
        for watch in self.watches.ids() {
            let Some(server) = self.watches.get(watch).map(|watcher| watcher.server) else {
                continue;
            };
            let revision = self.store.visible_revision(server, core.now);
            if let Some(watcher) = self.watches.get(watch) {
                let due = watcher
                    .queue
                    .back()
                    .map_or(core.now, |(due, _)| (*due).max(core.now));
                // Changes behind the cache are queued already: a bookmark never overtakes one.
                if watcher.queue.is_empty() {
                    watcher.queue.push_back((due, Change::Bookmark(revision)));
                }
            }
            self.arm_watch(watch, core);
        }
        let period = core.parameters.api.bookmark_period;
        core.after(period, Event::Api(ApiEvent::Bookmark));
    }
}
