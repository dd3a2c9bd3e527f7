//! The Pods of this node: which of them get an address before they ask.

use core::net::IpAddr;

use super::Agent;
use super::known;
use super::memory::{BlockKey, ClaimAt, ClaimId, Hold, Holding, Place, PoolId, Wanted};
use super::rights::{Door, Missing, PodFacts};
use super::timers::Timer;
use crate::core::exchange::RequestId;
use crate::core::objects::{AddressReservation, Object, Pod, Uid};
use crate::core::time::BootTime;

/// A Pod as this agent knows it.
pub(super) struct PodState {
    /// `namespace/name`.
    pub(super) name: String,
    /// As the watch shows it; `None`: it does not exist (yet).
    pub(super) seen: Option<Seen>,
    /// As read for an ADD, if the watch did not show it.
    pub(super) read: Option<PodFacts>,
    pub(super) places: Vec<Place>,
    pub(super) claims: Vec<ClaimId>,
    pub(super) adds: Vec<RequestId>,
    /// No reservation is tried before this.
    pub(super) claim_not_before: BootTime,
    /// Another Pod has its address: see `displaced`.
    pub(super) is_displaced: bool,
    /// When it began to hold a reservation that no ADD asks for: see `unasked`.
    pub(super) unasked_since: Option<BootTime>,
    /// A reservation for it was unused: its ADD makes the next claim.
    pub(super) claims_at_add: bool,
}

/// What the watch shows of a Pod.
pub(super) struct Seen {
    /// Bound here, not finished or terminating, not on the host network, and not a mirror.
    pub(super) wanted: bool,
    /// Its first interface is of the node's default network, as far as the Pod says.
    pub(super) is_of_default_network: bool,
    /// The addresses of its first interface, once its sandbox exists.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) facts: PodFacts,
}

impl PodState {
    pub(super) fn is_wanted(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.wanted)
    }

    /// Whether an ADD may come that would be answered from memory.
    pub(super) fn awaits_add(&self) -> bool {
        self.is_wanted() && !self.places.is_empty()
    }

    /// What rules look at, if the Pod was seen or read.
    pub(super) fn facts(&self) -> Option<&PodFacts> {
        self.seen
            .as_ref()
            .map(|seen| &seen.facts)
            .or(self.read.as_ref())
    }

    /// Whether something waits for an ordinal to be answerable: an ADD, a claim in a write, or the
    /// choice which of several to keep.
    pub(super) fn waits_for_a_block(&self) -> bool {
        !self.adds.is_empty() || !self.claims.is_empty() || self.places.len() > 1
    }

    fn is_empty(&self) -> bool {
        self.seen.is_none()
            && self.places.is_empty()
            && self.claims.is_empty()
            && self.adds.is_empty()
    }
}

impl Agent {
    pub(super) fn pod_entry(&mut self, uid: &Uid, name: &str) -> &mut PodState {
        self.pods.entry(uid.clone()).or_insert_with(|| PodState {
            name: name.to_owned(),
            seen: None,
            read: None,
            places: Vec::new(),
            claims: Vec::new(),
            adds: Vec::new(),
            claim_not_before: BootTime::ZERO,
            is_displaced: false,
            unasked_since: None,
            claims_at_add: false,
        })
    }

    /// The watch shows a Pod of this node.
    pub(super) fn pod_seen(&mut self, pod: &Pod) {
        let wanted = pod.spec.node_name == self.config.node_name
            && !pod.is_finished()
            && !pod.is_mirror()
            && !pod.spec.host_network
            && pod.metadata.deletion_timestamp.is_none();
        let is_of_default_network = self.is_of_default_network(pod);
        let addresses = &pod.status.pod_ips;
        let addresses = addresses.iter().filter_map(|a| a.ip.parse().ok());
        let addresses = addresses.collect();
        let name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
        let state = self.pod_entry(&pod.metadata.uid, &name);
        state.seen = Some(Seen {
            wanted,
            is_of_default_network,
            addresses,
            facts: PodFacts::read(pod),
        });
        self.touched_pods.insert(pod.metadata.uid.clone());
    }

    /// The watch shows that a Pod is gone from the API. This releases nothing that an ADD was
    /// answered with: the containers may live.
    pub(super) fn pod_gone(&mut self, uid: &Uid) {
        let Some(state) = self.pods.get_mut(uid) else {
            return;
        };
        state.seen = None;
        state.read = None;
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::ReleaseOnPodAbsent) {
            let places = self
                .pods
                .get(uid)
                .map(|state| state.places.clone())
                .unwrap_or_default();
            for place in places {
                self.let_go(place);
            }
        }
        self.touched_pods.insert(uid.clone());
        let at = self.now + self.config.policy.sweep;
        self.arm(Timer::Sweep, at);
    }

    /// The whole list of this node's Pods.
    pub(super) fn pods_listed(&mut self, pods: &[Object]) {
        let uid_of = |pod: &Object| self.uid_of_pod(pod.metadata());
        let listed: std::collections::BTreeSet<_> = pods.iter().filter_map(uid_of).collect();
        let gone: Vec<_> = self
            .pods
            .iter()
            .filter(|(uid, state)| state.seen.is_some() && !listed.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.pod_gone(&uid);
        }
    }

    /// Brings a Pod's ordinals in line with what is known of it, then lets its ADDs go on.
    pub(super) fn settle_pod(&mut self, uid: &Uid) {
        // A touched Pod may be gone by now.
        if !self.pods.contains_key(uid) {
            return;
        }
        self.finish_claims(uid);
        self.follow_rules(uid);
        let state = self.pods.get(uid).expect(known::POD);
        let keep = state.is_wanted() || !state.adds.is_empty();
        if !keep {
            for place in state.places.clone() {
                if self
                    .holdings
                    .get(&place)
                    .is_some_and(|holding| holding.state == Hold::Unbound)
                {
                    self.give_up(place);
                }
            }
            let claims = self
                .pods
                .get(uid)
                .map(|pod| pod.claims.clone())
                .unwrap_or_default();
            for id in claims {
                self.drop_claim(id);
            }
        }
        let adds = self
            .pods
            .get(uid)
            .map(|state| state.adds.clone())
            .unwrap_or_default();
        for request in adds {
            self.advance_add(request);
        }
        self.reserve(uid);
        self.release_surplus(uid);
        self.give_back_unasked(uid);
        if self.pods.get(uid).is_some_and(PodState::is_empty)
            && let Some(pod) = self.pods.remove(uid)
            && pod.is_displaced
        {
            self.displaced_is_gone(&pod.name);
        }
        self.touched_pods.remove(uid);
    }

    /// Claims end when a version of their block shows the holder.
    fn finish_claims(&mut self, uid: &Uid) {
        let state = self.pods.get(uid).expect(known::POD);
        let done: Vec<_> = state
            .claims
            .iter()
            .copied()
            .filter(|id| match self.claims.get(id) {
                Some(claim) => match claim.at {
                    ClaimAt::Place(place) => {
                        self.holdings
                            .get(&place)
                            .is_none_or(|holding| holding.pod != *uid)
                            || self.is_answerable(place)
                    }
                    _ => false,
                },
                None => true,
            })
            .collect();
        for id in done {
            self.claim_done(id);
            if let Some(state) = self.pods.get_mut(uid) {
                state.claims.retain(|other| *other != id);
            }
        }
    }

    /// A wanted Pod without an ordinal gets a claim, if its pool is certain.
    fn reserve(&mut self, uid: &Uid) {
        let state = self.pods.get(uid).expect(known::POD);
        let Some(seen) = &state.seen else { return };
        if !seen.wanted || !state.places.is_empty() || !state.claims.is_empty() {
            return;
        }
        if state.claim_not_before > self.now || !state.adds.is_empty() {
            return;
        }
        if !self.is_expected_to_ask(state) {
            return;
        }
        let asker = self.default_asker(&state.name);
        let (mut pools, kept) = match self.door(uid, &asker) {
            Door::Open { pools, kept } => (pools, kept),
            Door::Unknown(Missing::Namespace) => {
                self.need_namespace(&asker.namespace);
                return;
            }
            // Reported when the runtime asks: the Pod may be another CNI's.
            Door::Shut(_) | Door::Unknown(Missing::Pod) => return,
        };
        // A pool that is no longer approved keeps its place only if there is no other.
        if pools.iter().any(|id| self.takes_new_claims(*id)) {
            pools.retain(|id| self.takes_new_claims(*id));
        }
        let name = state.name.clone();
        pools.retain(|id| self.kept_for_unreadable(&name, *id).is_none());
        if let Some((pool, wanted)) = kept {
            self.new_claim((uid, asker), vec![pool], Some(wanted), None);
        } else if !pools.is_empty() {
            self.new_claim((uid, asker), pools, None, None);
        }
    }

    /// At most one ordinal of a Pod may wait for an ADD.
    fn release_surplus(&mut self, uid: &Uid) {
        let state = self.pods.get(uid).expect(known::POD);
        if !state.adds.is_empty() || self.lost.is_active() {
            return;
        }
        let unbound: Vec<_> = state
            .places
            .iter()
            .copied()
            .filter(|place| {
                self.holdings
                    .get(place)
                    .is_some_and(|holding| holding.state == Hold::Unbound)
            })
            .collect();
        let bound = unbound.len() < state.places.len();
        let keep = usize::from(!bound);
        if unbound.len() <= keep {
            return;
        }
        // Keep one that could be answered at once, if there is one.
        let best = unbound
            .iter()
            .position(|place| self.is_answerable(*place))
            .unwrap_or(0);
        for (position, place) in unbound.into_iter().enumerate() {
            if keep == 0 || position != best {
                self.give_up(place);
            }
        }
    }

    /// The ordinal that a reservation keeps for the Pod of this name.
    pub(super) fn reserved_for(&self, name: &str) -> Option<(PoolId, Wanted)> {
        let (namespace, name) = name.split_once('/')?;
        self.reservations
            .of(namespace, name)
            .filter(|reservation| !self.is_reservation_unreadable(&reservation.metadata.name))
            .find_map(|reservation| self.place_of(reservation))
    }

    fn place_of(&self, reservation: &AddressReservation) -> Option<(PoolId, Wanted)> {
        let id = *self.pool_ids.get(&reservation.spec.pool)?;
        let pool = self.pools.get(&id)?.pool.as_ref()?;
        let ordinal = pool.ordinal_of(reservation.spec.address?)?;
        let size = u64::from(pool.block_size);
        let wanted = Wanted {
            block: BlockKey {
                pool: id,
                index: ordinal / size,
            },
            ordinal: (ordinal % size) as u16,
            reservation: reservation.metadata.name.clone(),
        };
        Some((id, wanted))
    }

    /// A record of this machine that no holding explains.
    pub(super) fn adopt(
        &mut self,
        place: Place,
        holder: crate::core::holder::Holder,
        own: &crate::core::identity::EpochId,
    ) {
        let of_this_epoch = holder.epoch == *own;
        let in_doubt = of_this_epoch && self.is_in_doubt(place, &holder.pod_uid);
        let wants = self.pods.get(&holder.pod_uid).is_some_and(|pod| {
            (pod.is_wanted() && !pod.claims_at_add || !pod.adds.is_empty())
                && pod.places.is_empty()
                && pod.claims.iter().all(|id| {
                    !self
                        .claims
                        .get(id)
                        .is_some_and(|c| matches!(c.at, ClaimAt::Place(_)))
                })
        });
        let is_lost = of_this_epoch && self.lost.is_active();
        if is_lost && !self.lost.is_unbound(&holder.pod_uid) || in_doubt && !wants {
            self.put_holding(
                place,
                Holding {
                    pod: holder.pod_uid.clone(),
                    pod_name: holder.pod_name,
                    state: Hold::Lost,
                    reservation: holder.reservation,
                },
            );
            self.list_sandboxes();
        } else if wants {
            if in_doubt {
                self.doubt(place);
            }
            let claims = self
                .pods
                .get(&holder.pod_uid)
                .map(|pod| pod.claims.clone())
                .unwrap_or_default();
            self.put_holding(
                place,
                Holding {
                    pod: holder.pod_uid.clone(),
                    pod_name: holder.pod_name,
                    state: Hold::Unbound,
                    reservation: holder.reservation,
                },
            );
            for id in claims {
                self.drop_claim(id);
            }
            self.touched_pods.insert(holder.pod_uid);
        } else if of_this_epoch && let Some(block) = self.blocks.get_mut(&place.block) {
            // Without a holding the next write frees it.
            block.free_by = block.free_by.min(self.now);
        }
        // A record of an earlier epoch whose Pod is not here is freed when that epoch is dead.
    }
}
