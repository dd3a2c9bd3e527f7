//! From process start to service: the journal, what the API says, the fences; and the watches.

use std::collections::{BTreeMap, BTreeSet};

use super::search::{Search, block_selection};
use super::{Agent, BlockKey, Output, PoolCheck, PoolId, PoolState, Purpose, Timer};
use crate::core::api::{
    ApiError, ApiReply, ApiRequest, Consistency, ListQuery, Selection, WatchEvent, WatchId,
    WatchQuery,
};
use crate::core::exchange::RequestId;
use crate::core::journal::{self, Binding, Entry, Replay, State, UnknownVersion};
use crate::core::objects::{AddressPool, AddressPoolSpec, Kind, Object, ObjectKey};
use crate::core::pool::{Pool, approved_block_size};
use crate::core::report::LocalError;
use crate::core::time::BootTime;

/// How far the agent has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The journal is not read.
    Opening,
    /// The journal cannot be understood.
    Refused,
    /// The API is being read.
    Loading,
    /// Blocks of earlier processes are being read; no new claims yet.
    Settling,
    /// Open for all.
    Serving,
}

/// What must be known before the blocks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Node,
    Pools,
    Reservations,
    BerthNodes,
    Pods,
    Epoch,
    Spool,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Node,
        Self::Pools,
        Self::Reservations,
        Self::BerthNodes,
        Self::Pods,
        Self::Epoch,
        Self::Spool,
    ];
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watched {
    Pools,
    Reservations,
    BerthNodes,
    Pods,
    /// Blocks of a pool that may have room: only while claims wait in an exhausted pool.
    Room(PoolId),
}

impl Watched {
    fn kind(self) -> Kind {
        match self {
            Self::Pools => Kind::AddressPool,
            Self::Reservations => Kind::AddressReservation,
            Self::BerthNodes => Kind::BerthNode,
            Self::Pods => Kind::Pod,
            Self::Room(_) => Kind::AddressBlock,
        }
    }
}

/// A watch that ended so often in a row without an event is opened from a new list.
const CLOSED_IN_VAIN_MAX: u32 = 8;

/// A watch, open or to be opened again.
pub(super) struct Subscription {
    id: Option<WatchId>,
    version: String,
    failure_count: u32,
}

impl Agent {
    pub(super) fn is_loaded(&self) -> bool {
        !matches!(self.phase, Phase::Opening | Phase::Refused)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.phase == Phase::Serving
    }

    pub(super) fn journal_opened(&mut self, result: Result<Vec<u8>, LocalError>) {
        if self.phase != Phase::Opening {
            return;
        }
        let replay = match result.map(|bytes| self.replay_of(&bytes)) {
            Ok(Ok(replay)) => replay,
            Ok(Err(error)) => {
                self.event("JournalRefused", error.to_string());
                self.phase = Phase::Refused;
                self.refuse_early();
                return;
            }
            Err(error) => {
                self.journal_unopened(&error);
                return;
            }
        };
        self.journal_ok = true;
        let (mut this_boot, mut said_so) = (false, false);
        for entry in replay.entries {
            match entry {
                Entry::Header { boot_id, .. } => this_boot = boot_id == self.config.boot_id,
                Entry::Lost => said_so = true,
                Entry::Block { pool, index } => {
                    self.inherited.insert((pool, index));
                }
                Entry::Tombstone { attachment, netns } if this_boot => {
                    self.tombstones.insert(&attachment, &netns);
                }
                entry if this_boot => self.replayed.push(entry),
                _ => {}
            }
        }
        // A header of this boot without entries is a journal, too.
        self.lost.found(this_boot, said_so, &replay.state);
        if let State::Damaged(damage) = replay.state {
            self.journal_damaged(damage);
        }
        self.phase = Phase::Loading;
        self.loading = Step::ALL.into_iter().collect();
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::HeaderBeforeLost) {
            self.compact_journal();
        }
        // What is on the disk stays as it is until the API says what a journal that is missing or
        // damaged may have known: a process that dies before leaves its successor no better one.
        for step in Step::ALL {
            self.startup_step(step);
        }
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "a mutant reads otherwise")]
    fn replay_of(&self, bytes: &[u8]) -> Result<Replay, UnknownVersion> {
        journal::decode(bytes)
    }

    #[cfg(feature = "mutants")]
    fn replay_of(&self, bytes: &[u8]) -> Result<Replay, UnknownVersion> {
        let replay = journal::decode(bytes)?;
        if let State::Damaged(damage) = replay.state
            && self.is_mutant(crate::core::Mutant::DamageBelieved)
        {
            return journal::decode(bytes.get(..damage.at).unwrap_or_default());
        }
        Ok(replay)
    }

    /// The disk may come back.
    fn journal_unopened(&mut self, error: &LocalError) {
        if std::mem::replace(&mut self.journal_ok, false) {
            self.event("JournalFailed", error.to_string());
        }
        self.refuse_early();
        self.try_journal_later();
    }

    fn try_journal_later(&mut self) {
        let entropy = self.draw();
        let pause = self.config.policy.api_retry.pause(8, entropy);
        self.arm(Timer::Journal, self.now + pause);
    }

    /// The journal did not take an entry; the ADDs in that batch were refused. Their attachments
    /// stay until their DEL: the plugin was told nothing of them, but nothing else was either.
    pub(super) fn append_failed(&mut self, _refused: &[RequestId]) {
        self.journal_ok = false;
        let why = "it did not take the last entry".to_owned();
        self.part_found(super::HostPart::Journal, Some(why));
        self.count("berth_journal_failures_total");
        for key in std::mem::take(&mut self.entering) {
            if let Some(block) = self.blocks.get_mut(&key) {
                block.journaled = false;
            }
        }
        self.try_journal_later();
    }

    /// Opens the journal, or writes it anew, after a failure.
    pub(super) fn journal_timer(&mut self) {
        if self.phase == Phase::Opening {
            self.out.push(Output::OpenJournal);
        } else if !self.journal_ok && self.is_loaded() {
            self.journal_ok = true;
            self.compact_journal();
        }
    }

    fn refuse_early(&mut self) {
        for (request, probe) in std::mem::take(&mut self.early) {
            self.request(request, probe);
        }
    }

    /// Writes the journal anew from memory.
    pub(super) fn compact_journal(&mut self) {
        let header = Entry::Header {
            version: journal::VERSION,
            boot_id: self.config.boot_id.clone(),
        };
        let mut entries = vec![header];
        let mut blocks = self.inherited.clone();
        for (key, block) in &self.blocks {
            if block.journaled
                && let Some(pool) = self.pools.get(&key.pool)
            {
                blocks.insert((pool.name.clone(), key.index));
            }
        }
        entries.extend(
            blocks
                .into_iter()
                .map(|(pool, index)| Entry::Block { pool, index }),
        );
        if self.lost.is_marked() {
            entries.push(Entry::Lost);
        }
        entries.extend(self.replayed.iter().cloned());
        entries.extend(self.ended.iter().map(|attachment| Entry::Ended {
            attachment: attachment.clone(),
        }));
        let attached = self.attachments.values();
        let attached = attached.map(|a| (&a.binding, Self::last_del(a)));
        let poolless = self.poolless.values();
        let poolless = poolless.map(|(binding, last_del)| (binding, *last_del));
        for (binding, last_del) in attached.chain(poolless) {
            let attachment = &binding.attachment;
            entries.push(Entry::Bound(Box::new(binding.clone())));
            if let Some(at) = last_del {
                entries.push(Entry::Releasing {
                    attachment: attachment.clone(),
                    at,
                });
            }
        }
        entries.extend(
            self.tombstones
                .iter()
                .map(|(attachment, netns)| Entry::Tombstone {
                    attachment: attachment.clone(),
                    netns: netns.clone(),
                }),
        );
        self.journal_frames = entries.len();
        self.out
            .push(Output::Compact(journal::encode_all(&entries)));
    }

    pub(super) fn startup_step(&mut self, step: Step) {
        let node_name = self.config.node_name.clone();
        let list = |kind, consistency, node_name| {
            ApiRequest::List(ListQuery {
                selection: Selection {
                    kind,
                    labels: Vec::new(),
                    node_name,
                },
                consistency,
                limit: 0,
                continue_token: String::new(),
            })
        };
        let request = match step {
            Step::Node => ApiRequest::Get(
                ObjectKey::cluster(Kind::Node, node_name),
                Consistency::Quorum,
            ),
            Step::Pools => list(Kind::AddressPool, Consistency::Quorum, None),
            Step::Reservations => list(Kind::AddressReservation, Consistency::Quorum, None),
            Step::BerthNodes => list(Kind::BerthNode, Consistency::Cache, None),
            Step::Pods => list(Kind::Pod, Consistency::Cache, Some(node_name)),
            Step::Epoch => {
                // After the Node, whose UID it states.
                if !self.loading.contains(&Step::Node) {
                    self.read_epoch();
                }
                return;
            }
            Step::Spool => {
                self.out.push(Output::ListSpool);
                return;
            }
        };
        self.call(Purpose::Startup(step), request);
    }

    pub(super) fn startup_retry(&mut self, step: Step) {
        let entropy = self.draw();
        let pause = self.config.policy.api_retry.pause(2, entropy);
        let at = self.now + pause;
        self.arm(Timer::Startup(step), at);
    }

    pub(super) fn startup_answered(&mut self, step: Step, result: Result<ApiReply, ApiError>) {
        let watched = match step {
            Step::Pools => Some(Watched::Pools),
            Step::Reservations => Some(Watched::Reservations),
            Step::BerthNodes => Some(Watched::BerthNodes),
            Step::Pods => Some(Watched::Pods),
            Step::Node | Step::Epoch | Step::Spool => None,
        };
        match (result, watched) {
            (Ok(ApiReply::Object(Object::Node(node))), None) => {
                self.node_labels = node.metadata.labels;
                self.node_uid = node.metadata.uid;
            }
            // Nothing else of it is needed.
            (Ok(ApiReply::Object(Object::SetAside(node))), None) => {
                self.node_labels = node.metadata.labels;
                self.node_uid = node.metadata.uid;
            }
            (Err(ApiError::NotFound), None) => {}
            (Ok(ApiReply::Page(page)), Some(watched)) => {
                self.take_list(watched, page.items);
                self.subscribe(watched, page.resource_version);
            }
            (result, _) => {
                let why = result.map_or_else(|error| error.to_string(), |_| "another kind".into());
                self.startup_errors.insert(step, why);
                self.startup_retry(step);
                return;
            }
        }
        self.startup_errors.remove(&step);
        self.startup_done(step);
        if step == Step::Node && self.loading.contains(&Step::Epoch) {
            self.read_epoch();
        }
    }

    pub(super) fn startup_done(&mut self, step: Step) {
        if self.loading.remove(&step) && self.loading.is_empty() && self.phase == Phase::Loading {
            self.begin_settling();
        }
    }

    /// All but the blocks is known: holdings from the journal, then the fences.
    fn begin_settling(&mut self) {
        self.phase = Phase::Settling;
        self.replay();
        self.decide_lost(self.epoch.known_before);
        let listed = std::mem::take(&mut self.epoch.listed_blocks);
        for name in &listed {
            if let Some((pool, index)) = name.rsplit_once('-')
                && let Ok(index) = index.parse()
            {
                self.inherited.insert((pool.to_owned(), index));
            }
        }
        self.epoch.listed_blocks = listed;
        self.compact_journal();
        self.distrust_inherited();
        let spooled = std::mem::take(&mut self.early_spool);
        self.apply_spool(spooled);
        for (request, probe) in std::mem::take(&mut self.early) {
            self.serve(request, probe);
        }
        let now = self.now;
        self.arm(Timer::SettleGrace, now + self.config.policy.settle_grace);
        self.arm(Timer::Reassert, now + self.config.policy.reassert);
    }

    /// Fences blocks of earlier processes, those whose pool is known.
    pub(super) fn distrust_inherited(&mut self) {
        let known: Vec<_> = self
            .inherited
            .iter()
            .filter_map(|(pool, index)| {
                let id = *self.pool_ids.get(pool)?;
                self.pools.get(&id)?.pool.as_ref()?;
                Some((
                    (pool.clone(), *index),
                    BlockKey {
                        pool: id,
                        index: *index,
                    },
                ))
            })
            .collect();
        for (entry, key) in known {
            self.inherited.remove(&entry);
            self.distrust(key);
        }
    }

    fn replay(&mut self) {
        let mut bound: BTreeMap<_, (Binding, Option<BootTime>)> = BTreeMap::new();
        for entry in std::mem::take(&mut self.replayed) {
            match entry {
                Entry::Bound(binding) => {
                    bound.insert(binding.attachment.clone(), (*binding, None));
                }
                Entry::Releasing { attachment, at } => {
                    if let Some((_, last_del)) = bound.get_mut(&attachment) {
                        *last_del = Some(at);
                    }
                }
                Entry::Ended { attachment } => {
                    bound.remove(&attachment);
                    self.ended.insert(attachment);
                }
                Entry::Header { .. }
                | Entry::Block { .. }
                | Entry::Tombstone { .. }
                | Entry::Lost => {}
            }
        }
        let mut bound: Vec<_> = bound.into_values().collect();
        // Where an end is missing two may have had one place: the later one has it.
        bound.sort_by_key(|(binding, _)| binding.at);
        for (binding, last_del) in bound {
            self.restore_attachment(binding, last_del);
        }
    }

    /// Begins to serve once every block of an earlier process was read.
    pub(super) fn serve_when_settled(&mut self) {
        if self
            .blocks
            .values()
            .all(|block| block.trusted || !block.stale)
            && self.lost.is_surveyed()
        {
            self.begin_serving();
        }
    }

    pub(super) fn begin_serving(&mut self) {
        if self.phase != Phase::Settling {
            return;
        }
        self.phase = Phase::Serving;
        self.disarm(&Timer::SettleGrace);
        self.touched_pods.extend(self.pods.keys().cloned());
        self.touched_blocks.extend(self.blocks.keys().copied());
        self.settle();
    }

    fn take_list(&mut self, watched: Watched, items: Vec<Object>) {
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

    fn pool_seen(&mut self, object: &AddressPool) {
        let name = &object.metadata.name;
        let approved = approved_block_size(object);
        let parsed = approved.and_then(|size| Pool::parse(object, Some(size)).ok());
        let known = self.pool_ids.get(name).copied().filter(|id| {
            self.pools
                .get(id)
                .and_then(|pool| pool.pool.as_ref())
                .is_none_or(|pool| pool.uid == object.metadata.uid)
        });
        let id = known.unwrap_or_else(|| {
            self.pool_gone(name);
            let id = PoolId(self.next_id() as u32);
            self.pool_ids.insert(name.clone(), id);
            self.pools.insert(id, PoolState::new(name));
            id
        });
        let Some(state) = self.pools.get_mut(&id) else {
            return;
        };
        state.rules = object.spec.clone();
        let before = state.pool.as_ref().map(|pool| pool.capacity);
        state.paused = parsed.is_none() || object.metadata.deletion_timestamp.is_some();
        let Some(parsed) = parsed else {
            self.touched_pods.extend(self.pods.keys().cloned());
            return;
        };
        let grown_from = before
            .filter(|before| *before < parsed.capacity)
            .map(|before| before / u64::from(parsed.block_size));
        state.pool = Some(parsed);
        if let Some(first) = grown_from {
            let range = BlockKey {
                pool: id,
                index: first,
            }..=BlockKey {
                pool: id,
                index: first,
            };
            for (key, block) in self.blocks.range_mut(range) {
                block.stale = true;
                self.touched_blocks.insert(*key);
            }
        }
        if self.phase != Phase::Loading {
            self.restore_poolless();
            self.distrust_inherited();
            self.touched_pods.extend(self.pods.keys().cloned());
            self.touched_pools.insert(id);
            if before.is_none() || grown_from.is_some() {
                self.search_afresh(id);
            }
        }
    }

    pub(super) fn pool_gone(&mut self, name: &str) {
        if let Some(id) = self.pool_ids.remove(name) {
            self.retire_pool(id);
        }
    }

    /// No claim is made in the pool any more; what is bound stays bound.
    pub(super) fn retire_pool(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        pool.paused = true;
        let queued: Vec<_> = pool.queue.iter().copied().collect();
        for claim in queued {
            self.drop_claim(claim);
        }
        let unbound: Vec<_> = self
            .holdings
            .iter()
            .filter(|(place, h)| place.block.pool == id && h.state == super::Hold::Unbound)
            .map(|(place, _)| *place)
            .collect();
        for place in unbound {
            self.give_up(place);
        }
    }

    fn search_afresh(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.cursor = 0;
        }
        self.search_satisfied(id);
    }

    pub(super) fn subscribe(&mut self, watched: Watched, version: String) {
        self.unsubscribe(watched);
        let subscription = Subscription {
            id: None,
            version,
            failure_count: 0,
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

    fn selection(&self, watched: Watched) -> Option<Selection> {
        let of = |kind| Selection {
            kind,
            labels: Vec::new(),
            node_name: None,
        };
        Some(match watched {
            Watched::Pools => of(Kind::AddressPool),
            Watched::Reservations => of(Kind::AddressReservation),
            Watched::BerthNodes => of(Kind::BerthNode),
            Watched::Pods => Selection {
                node_name: Some(self.config.node_name.clone()),
                ..of(Kind::Pod)
            },
            Watched::Room(id) => block_selection(&self.pools.get(&id)?.name, true),
        })
    }

    /// Opens the watch from the last version seen.
    pub(super) fn reopen(&mut self, watched: Watched) {
        let Some(selection) = self.selection(watched) else {
            return;
        };
        let id = WatchId(self.next_id());
        let Some(subscription) = self.watched.get_mut(&watched) else {
            return;
        };
        if subscription.id.is_some() {
            return;
        }
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
        let Some(subscription) = self.watched.get_mut(&watched) else {
            return;
        };
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
                // Whatever it is that ends it, it stands behind this version.
                subscription.id = None;
                subscription.failure_count = 0;
                self.watches.remove(&id);
                self.relist(watched);
            }
            WatchEvent::Closed => {
                subscription.id = None;
                let pause = self
                    .config
                    .policy
                    .api_retry
                    .pause(subscription.failure_count, entropy);
                subscription.failure_count = subscription.failure_count.saturating_add(1);
                self.watches.remove(&id);
                let at = self.now + pause;
                self.arm(Timer::Reopen(watched), at);
            }
            WatchEvent::Expired => {
                subscription.id = None;
                self.watches.remove(&id);
                self.relist(watched);
            }
        }
    }

    fn relist(&mut self, watched: Watched) {
        let Some(selection) = self.selection(watched) else {
            return;
        };
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
            self.subscribe(watched, page.resource_version);
        } else if let Some(subscription) = self.watched.get_mut(&watched) {
            // The version is still too old: opening the watch leads here again.
            subscription.failure_count = subscription.failure_count.saturating_add(1);
            let count = subscription.failure_count;
            let entropy = self.draw();
            let at = self.now + self.config.policy.api_retry.pause(count, entropy);
            self.arm(Timer::Reopen(watched), at);
        }
    }
}

impl PoolState {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool: None,
            rules: AddressPoolSpec::default(),
            paused: true,
            queue: std::collections::VecDeque::new(),
            open: BTreeSet::new(),
            cursor: 0,
            search: Search::Idle,
            answered_at: BootTime::ZERO,
            rest_waived_until: BootTime::ZERO,
            leave_next_freed: false,
            check: PoolCheck::Idle,
        }
    }
}
