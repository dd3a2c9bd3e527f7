//! What is there and cannot be read, as an agent treats it: nothing is freed and nothing is given
//! on the strength of what could not be read, and nothing else waits for it.
//!
//! A pool keeps its last geometry and takes no claim. A block is full and held by others. A machine
//! lives. A Pod is as it was last seen. A reservation keeps its address, where that can be read,
//! from everybody, and its Pod, where that can be read, from everything else in its pool.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::Agent;
use super::errands::Watched;
use super::known;
use super::memory::{BlockKey, PoolId};
use crate::core::objects::{AddressReservation, Kind, Metadata, ObjectKey, SetAside, Uid};
use crate::core::pool::block_name;
use crate::core::set_aside::count_by_kind;
use crate::core::version_went_back;

/// Namespace and name.
type PodName = (String, String);

/// The reservations in their last readable version.
#[derive(Default)]
pub(super) struct Reservations {
    by_name: BTreeMap<String, AddressReservation>,
    /// Names, by namespace and name of the Pod.
    of_pod: BTreeMap<PodName, BTreeSet<String>>,
}

impl Reservations {
    /// Takes the place of an earlier version of the same name.
    pub(super) fn insert(&mut self, reservation: AddressReservation) {
        let name = reservation.metadata.name.clone();
        self.remove(&name);
        self.of_pod
            .entry(pod_of(&reservation))
            .or_default()
            .insert(name.clone());
        self.by_name.insert(name, reservation);
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(before) = self.by_name.remove(name)
            && let Some(names) = self.of_pod.get_mut(&pod_of(&before))
        {
            names.remove(name);
            if names.is_empty() {
                self.of_pod.remove(&pod_of(&before));
            }
        }
    }

    /// Keeps those of these names.
    pub(super) fn retain(&mut self, names: &BTreeSet<String>) {
        let gone: Vec<_> = self
            .by_name
            .keys()
            .filter(|n| !names.contains(*n))
            .cloned()
            .collect();
        for name in gone {
            self.remove(&name);
        }
    }

    /// All of them. Shape: ascending by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &AddressReservation> {
        self.by_name.values()
    }

    /// Those for the Pod of that name. Shape: ascending by name.
    pub(super) fn of(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Iterator<Item = &AddressReservation> {
        let names = self.of_pod.get(&(namespace.to_owned(), name.to_owned()));
        names
            .into_iter()
            .flatten()
            .filter_map(|name| self.by_name.get(name))
    }
}

fn pod_of(reservation: &AddressReservation) -> (String, String) {
    (
        reservation.spec.pod_namespace.clone(),
        reservation.spec.pod_name.clone(),
    )
}

/// What reservations that cannot be read keep.
#[derive(Default)]
pub(super) struct Kept {
    is_stale: bool,
    /// Addresses by pool: nobody is given them. Of a pool without a name: wherever they are.
    addresses: BTreeSet<(String, IpAddr)>,
    /// Addresses by pool of reservations that can be read: for their Pods alone, also before the
    /// controller has marked them.
    reserved: BTreeSet<(String, IpAddr)>,
    /// By namespace and name of a Pod: (pool, reservation); no pool: any. The Pod is given nothing
    /// there.
    pods: BTreeMap<PodName, BTreeSet<(Option<String>, String)>>,
}

impl Agent {
    fn is_set_aside(&self, kind: Kind, name: &str) -> bool {
        !self.set_aside.is_empty() && self.set_aside.contains_key(&ObjectKey::cluster(kind, name))
    }

    /// The object can be read again, or is gone.
    pub(super) fn mended(&mut self, kind: Kind, metadata: &Metadata) {
        if self.set_aside.is_empty() {
            return;
        }
        let key = ObjectKey {
            kind,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        };
        if self.set_aside.remove(&key).is_some() && kind == Kind::AddressReservation {
            self.reservations_changed();
        }
    }

    /// A list of that kind begins: what it does not show is gone.
    pub(super) fn forget_set_aside(&mut self, kind: Kind) {
        let before = self.set_aside.len();
        self.set_aside.retain(|key, _| key.kind != kind);
        if before != self.set_aside.len() && kind == Kind::AddressReservation {
            self.reservations_changed();
        }
    }

    /// Notes an object that cannot be read; whether that is news.
    pub(super) fn note_set_aside(&mut self, object: &SetAside) -> bool {
        let key = key_of(object);
        let known = self.set_aside.insert(key, object.clone());
        known.is_none_or(|known| known.reason != object.reason)
    }

    /// A list or watch shows an object that cannot be read.
    pub(super) fn seen_set_aside(&mut self, watched: Watched, object: &SetAside) {
        let is_news = self.note_set_aside(object);
        match watched {
            Watched::Pools => self.pool_set_aside(object),
            Watched::Reservations => self.reservations_changed(),
            Watched::BerthNodes => {
                let name = &object.metadata.name;
                self.machine_seen(name, true);
                if *name == self.identity() {
                    if is_news {
                        self.tell_of_own_machine(object);
                    }
                    if self.epoch.id().is_some() {
                        self.read_epoch();
                    }
                }
            }
            // It is as it was last seen; one that was never seen is asked for by its ADD.
            Watched::Pods => {}
            Watched::Room(id) => {
                self.block_set_aside(id, object);
            }
        }
    }

    fn pool_set_aside(&mut self, object: &SetAside) {
        let name = &object.metadata.name;
        let id = self.pool_entry(name, &object.metadata.uid);
        if let Some(state) = self.pools.get_mut(&id) {
            state.paused = true;
        }
    }

    /// A list or watch shows a block of that pool that cannot be read. Gives its index.
    pub(super) fn block_set_aside(&mut self, id: PoolId, object: &SetAside) -> Option<u64> {
        self.note_set_aside(object);
        let (pool, index) = object.block_place()?;
        if self.pools.get(&id)?.name != pool {
            return None;
        }
        let key = BlockKey { pool: id, index };
        let block = self.block_entry(key)?;
        let is_newer = block.stored.as_ref().is_none_or(|stored| {
            version_went_back(&object.metadata.resource_version, &stored.resource_version)
        });
        if block.flight.is_none() && is_newer {
            block.stored = Some(object.metadata.clone());
            self.block_unusable(key, &object.reason);
        }
        Some(index)
    }

    /// The block cannot be read: it counts as full and as held by others, what is held in it here
    /// stays held, and it is never written. Somebody may mend it, so it is read again where it
    /// matters here.
    pub(super) fn block_unusable(&mut self, key: BlockKey, error: &str) {
        let now = self.now;
        let entropy = self.draw();
        let backoff = self.config.policy.api_retry;
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        let is_new = !std::mem::replace(&mut block.unusable, true);
        // As of now this is its last version.
        block.stale = false;
        block.not_before = now + backoff.pause(block.failure_count.max(3), entropy);
        block.failure_count = block.failure_count.saturating_add(1);
        let waiting = std::mem::take(&mut block.waiting);
        for id in waiting {
            self.requeue(id);
        }
        if let Some(pool) = self.pools.get_mut(&key.pool) {
            pool.open.retain(|(_, index)| *index != key.index);
            if is_new {
                let name = block_name(&pool.name, key.index);
                self.event("BlockRefused", format!("block {name}: {error}"));
            }
        }
        self.touched_blocks.insert(key);
    }

    /// Whether a block that cannot be read is of more interest than any other of the pool.
    pub(super) fn concerns(&self, key: BlockKey) -> bool {
        self.blocks
            .get(&key)
            .is_some_and(|block| block.journaled || !block.trusted || block.stale)
            || self.holdings_of(key).next().is_some()
    }

    /// The own machine's object cannot be read.
    pub(super) fn own_machine_set_aside(&mut self, object: &SetAside) {
        if self.note_set_aside(object) {
            self.tell_of_own_machine(object);
        }
    }

    fn tell_of_own_machine(&mut self, object: &SetAside) {
        let text = format!("{object}; {}", object.remedy());
        self.event("MachineUnreadable", text);
    }

    /// Which Pod of this node an object was, by its UID or else by its name.
    pub(super) fn uid_of_pod(&self, metadata: &Metadata) -> Option<Uid> {
        if !metadata.uid.as_str().is_empty() {
            return Some(metadata.uid.clone());
        }
        let name = format!("{}/{}", metadata.namespace, metadata.name);
        let mut pods = self.pods.iter();
        pods.find(|(_, pod)| pod.seen.is_some() && pod.name == name)
            .map(|(uid, _)| uid.clone())
    }

    /// What reservations keep is another set now: found out once per input,
    /// since a list may hold thousands.
    pub(super) fn reservations_changed(&mut self) {
        self.kept.is_stale = true;
    }

    /// What reservations keep, anew.
    pub(super) fn refresh_kept(&mut self) {
        if !self.kept.is_stale {
            return;
        }
        let mut kept = Kept::default();
        let begin = ObjectKey::cluster(Kind::AddressReservation, "");
        let unreadable = self.set_aside.range(begin..);
        for (key, object) in unreadable.take_while(|(key, _)| key.kind == Kind::AddressReservation)
        {
            let last = self.reservations.by_name.get(&key.name);
            let pool = object.hint("pool").map(ToOwned::to_owned);
            if let Some(Ok(address)) = object.hint("address").map(str::parse::<IpAddr>) {
                kept.addresses
                    .insert((pool.clone().unwrap_or_default(), address));
            }
            let mut keep = |pod: (String, String), pool: Option<String>| {
                let pools = kept.pods.entry(pod).or_default();
                pools.insert((pool, key.name.clone()));
            };
            if let (Some(namespace), Some(name)) =
                (object.hint("podNamespace"), object.hint("podName"))
            {
                keep((namespace.to_owned(), name.to_owned()), pool);
            }
            if let Some(last) = last {
                keep(pod_of(last), Some(last.spec.pool.clone()));
                if let Some(address) = last.spec.address {
                    kept.addresses.insert((last.spec.pool.clone(), address));
                }
            }
        }
        let readable = self.reservations.iter();
        kept.reserved = readable
            .filter_map(|r| Some((r.spec.pool.clone(), r.spec.address?)))
            .collect();
        self.kept = kept;
        for key in self.blocks.keys().copied().collect::<Vec<_>>() {
            self.withhold(key);
        }
        self.touched_pods.extend(self.pods.keys().cloned());
        self.touched_pools.extend(self.pools.keys().copied());
    }

    /// Notes in a block which of its ordinals nobody is given.
    pub(super) fn withhold(&mut self, key: BlockKey) {
        let pool = self.pools.get(&key.pool).expect(known::POOL);
        let pool = pool.pool.as_ref().expect(known::GEOMETRY);
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        let size = u64::from(pool.block_size);
        let here = |addresses: &BTreeSet<(String, IpAddr)>| {
            addresses
                .iter()
                .filter(|(name, _)| *name == pool.name || name.is_empty())
                .filter_map(|(_, address)| pool.ordinal_of(*address))
                .filter(|ordinal| ordinal / size == key.index)
                .map(|ordinal| (ordinal % size) as u16)
                .collect()
        };
        block.withheld = here(&self.kept.addresses);
        block.reserved = here(&self.kept.reserved);
    }

    /// The reservation that cannot be read and may be the Pod's in that pool: nothing else of the
    /// pool is given to it. `pod` is `namespace/name`.
    pub(super) fn kept_for_unreadable(&self, pod: &str, pool: PoolId) -> Option<&str> {
        if self.kept.pods.is_empty() {
            return None;
        }
        let (namespace, name) = pod.split_once('/')?;
        let kept = self
            .kept
            .pods
            .get(&(namespace.to_owned(), name.to_owned()))?;
        let pool = &self.pools.get(&pool)?.name;
        kept.iter()
            .find(|(of, _)| of.as_ref().is_none_or(|of| of == pool))
            .map(|(_, reservation)| reservation.as_str())
    }

    /// Whether the reservation is unreadable as it stands now.
    pub(super) fn is_reservation_unreadable(&self, name: &str) -> bool {
        self.is_set_aside(Kind::AddressReservation, name)
    }

    /// Units: objects that cannot be read, by kind.
    pub(super) fn set_aside_counts(&self) -> BTreeMap<Kind, u64> {
        count_by_kind(self.set_aside.keys())
    }
}

pub(super) fn key_of(object: &SetAside) -> ObjectKey {
    ObjectKey {
        kind: object.kind,
        namespace: object.metadata.namespace.clone(),
        name: object.metadata.name.clone(),
    }
}
