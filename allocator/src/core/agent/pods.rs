//! The Pods of this node: which of them are to have an address before they ask.

use super::claims::{ClaimAt, ClaimId, Wanted};
use super::{Agent, BlockKey, Hold, Holding, Place, PoolId, Timer};
use crate::core::exchange::RequestId;
use crate::core::objects::{ANNOTATION_POOL, Pod, Uid};
use crate::core::selection::{self, Candidate};
use crate::core::time::BootTime;

/// A Pod as this agent knows it.
pub(super) struct PodState {
    /// `namespace/name`.
    pub(super) name: String,
    /// As the watch shows it; `None`: not there (or not yet).
    pub(super) seen: Option<Seen>,
    pub(super) places: Vec<Place>,
    pub(super) claims: Vec<ClaimId>,
    pub(super) adds: Vec<RequestId>,
    /// No reservation is tried before this.
    pub(super) claim_not_before: BootTime,
    /// An address of it is another's: see `displaced`.
    pub(super) is_displaced: bool,
}

/// What the watch shows of a Pod.
pub(super) struct Seen {
    /// Bound here, not finished, not leaving, with a network of its own and no mirror.
    pub(super) wanted: bool,
    /// The pool named by its annotation.
    pub(super) pool: Option<String>,
    pub(super) labels: std::collections::BTreeMap<String, String>,
}

impl PodState {
    pub(super) fn is_wanted(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.wanted)
    }

    /// Whether an ADD may come that would be answered from memory.
    pub(super) fn awaits_add(&self) -> bool {
        self.is_wanted() && !self.places.is_empty()
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
            places: Vec::new(),
            claims: Vec::new(),
            adds: Vec::new(),
            claim_not_before: BootTime::ZERO,
            is_displaced: false,
        })
    }

    /// The watch shows a Pod of this node.
    pub(super) fn pod_seen(&mut self, pod: &Pod) {
        let wanted = pod.spec.node_name == self.config.node_name
            && !pod.is_finished()
            && !pod.is_mirror()
            && !pod.spec.host_network
            && pod.metadata.deletion_timestamp.is_none();
        let name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
        let state = self.pod_entry(&pod.metadata.uid, &name);
        state.seen = Some(Seen {
            wanted,
            pool: pod.metadata.annotations.get(ANNOTATION_POOL).cloned(),
            labels: pod.metadata.labels.clone(),
        });
        self.touched_pods.insert(pod.metadata.uid.clone());
    }

    /// The watch shows that a Pod is gone from the API. That releases nothing that an ADD was told
    /// of: the containers may live.
    pub(super) fn pod_gone(&mut self, uid: &Uid) {
        let Some(state) = self.pods.get_mut(uid) else {
            return;
        };
        state.seen = None;
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
    pub(super) fn pods_listed(&mut self, pods: &[Pod]) {
        let listed: std::collections::BTreeSet<_> =
            pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
        let gone: Vec<_> = self
            .pods
            .iter()
            .filter(|(uid, state)| state.seen.is_some() && !listed.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.pod_gone(&uid);
        }
        for pod in pods {
            self.pod_seen(pod);
        }
    }

    /// Brings a Pod's ordinals in line with what is known of it, then lets its ADDs go on.
    pub(super) fn settle_pod(&mut self, uid: &Uid) {
        self.finish_claims(uid);
        let Some(state) = self.pods.get(uid) else {
            return;
        };
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
        let Some(state) = self.pods.get(uid) else {
            return;
        };
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
        let Some(state) = self.pods.get(uid) else {
            return;
        };
        let Some(seen) = &state.seen else { return };
        if !seen.wanted || !state.places.is_empty() || !state.claims.is_empty() {
            return;
        }
        if state.claim_not_before > self.now || !state.adds.is_empty() {
            return;
        }
        let (namespace, _) = state.name.split_once('/').unwrap_or(("", ""));
        let namespace = namespace.to_owned();
        let mut pools: Vec<PoolId> = match &seen.pool {
            Some(name) => self.pool_ids.get(name).copied().into_iter().collect(),
            None => self.admissible_pools(&namespace, Some(&seen.labels), None),
        };
        // A pool that is not approved any more keeps its place only where there is no other.
        if pools.iter().any(|id| self.takes_new_claims(*id)) {
            pools.retain(|id| self.takes_new_claims(*id));
        }
        let name = state.name.clone();
        if let Some((pool, wanted)) = self.reserved_for(&name) {
            self.new_claim(uid, vec![pool], Some(wanted), None);
        } else if !pools.is_empty() {
            self.new_claim(uid, pools, None, None);
        }
    }

    /// Whether the pool is approved as it is and not being deleted.
    pub(super) fn takes_new_claims(&self, id: PoolId) -> bool {
        self.pools
            .get(&id)
            .is_some_and(|pool| pool.pool.is_some() && !pool.paused)
    }

    /// At most one ordinal of a Pod may wait for an ADD.
    fn release_surplus(&mut self, uid: &Uid) {
        let Some(state) = self.pods.get(uid) else {
            return;
        };
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

    /// Approved pools that the Pod may draw from by selectors: defaults first, then by name.
    pub(super) fn admissible_pools(
        &self,
        namespace: &str,
        labels: Option<&std::collections::BTreeMap<String, String>>,
        network: Option<&str>,
    ) -> Vec<PoolId> {
        let candidate = Candidate {
            node_labels: &self.node_labels,
            namespace,
            pod_labels: labels,
            network: network.unwrap_or(&self.config.default_network),
        };
        let mut found: Vec<_> = self
            .pool_ids
            .values()
            .filter_map(|id| Some((*id, self.pools.get(id)?.pool.as_ref()?)))
            .filter(|(_, pool)| selection::selects(&pool.spec, &candidate).is_ok())
            .collect();
        found.sort_by(|(one, a), (two, b)| {
            let first = (selection::order(&a.name, &a.spec), one);
            first.cmp(&(selection::order(&b.name, &b.spec), two))
        });
        found.into_iter().map(|(id, _)| id).collect()
    }

    /// The ordinal that a reservation keeps for the Pod of this name.
    pub(super) fn reserved_for(&self, name: &str) -> Option<(PoolId, Wanted)> {
        let (namespace, name) = name.split_once('/')?;
        let reservation = self
            .reservations
            .get(&(namespace.to_owned(), name.to_owned()))?;
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
            (pod.is_wanted() || !pod.adds.is_empty())
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
            self.ask_runtime();
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
        // A record of an earlier epoch whose Pod is not here goes when that epoch is dead.
    }
}
