//! Reservations that nobody asks for: who is expected to ask, and what shows that a reserved
//! ordinal will not be used. Ordinals that an ADD was answered with are not handled here.

use super::Agent;
use super::known;
use super::memory::{Hold, Place};
use super::pods::PodState;
use super::timers::Timer;
use crate::core::objects::{ANNOTATION_MULTUS_DEFAULT, Pod, Uid};

impl Agent {
    /// Whether the first interface of a Pod is of the node's default network. The cluster's CNI
    /// configuration decides that, unless the Pod names another network for it.
    pub(super) fn is_of_default_network(&self, pod: &Pod) -> bool {
        let network = &self.config.default_network;
        let named = pod.metadata.annotations.get(ANNOTATION_MULTUS_DEFAULT);
        let named = named.map(|text| text.rsplit('/').next().unwrap_or(text).trim());
        !network.is_empty() && named.is_none_or(|name| name == network)
    }

    /// Whether to expect an ADD of the default network for a Pod: only then is something claimed
    /// before it.
    pub(super) fn is_expected_to_ask(&self, pod: &PodState) -> bool {
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::ClaimsForForeignPods) {
            return true;
        }
        let seen = pod.seen.as_ref();
        seen.is_some_and(|seen| seen.is_of_default_network)
            && !pod.claims_at_add
            && !self.has_foreign_address(pod)
    }

    /// Whether the Pod's first interface has an address and none of this agent's: its sandbox
    /// exists, and another address manager served it. An own address that the kubelet still reports
    /// after a reboot does not count.
    fn has_foreign_address(&self, pod: &PodState) -> bool {
        let reported = pod.seen.as_ref().map_or(&[][..], |seen| &seen.addresses);
        let is_own = |place: &Place| {
            self.allocation_of(*place).is_none_or(|allocation| {
                let mut own = allocation.addresses.iter();
                own.any(|own| reported.contains(&own.address.addr()))
            })
        };
        !reported.is_empty() && !pod.places.iter().any(is_own)
    }

    /// Whether the status of the Pod that has an ordinal reports it. Then it is in use, or was
    /// until a reboot, whatever a restored journal says about it: nobody else gets it.
    pub(super) fn is_reported(&self, place: Place, uid: &Uid) -> bool {
        let seen = self.pods.get(uid).and_then(|pod| pod.seen.as_ref());
        let reported = seen.map_or(&[][..], |seen| &seen.addresses);
        let allocation = self.allocation_of(place);
        let mut own = allocation.iter().flat_map(|own| &own.addresses);
        own.any(|own| reported.contains(&own.address.addr()))
    }

    /// Gives back what was reserved for a Pod that will not ask, or has not asked for too long. Its
    /// ADD makes the next claim.
    pub(super) fn give_back_unasked(&mut self, uid: &Uid) {
        let pod = self.pods.get(uid).expect(known::POD);
        let is_unbound = |place: &Place| {
            let holding = self.holdings.get(place);
            holding.is_some_and(|holding| holding.state == Hold::Unbound)
        };
        let waits = pod.adds.is_empty()
            && !(pod.places.is_empty() && pod.claims.is_empty())
            && pod.places.iter().all(is_unbound);
        let is_attached = !pod.places.iter().all(is_unbound);
        if !waits {
            let pod = self.pods.get_mut(uid).expect(known::POD);
            // It asked: after the end of this sandbox its ordinal waits for the next one.
            pod.claims_at_add &= !is_attached;
            if pod.unasked_since.take().is_some() {
                self.disarm(&Timer::Unasked(uid.clone()));
            }
            return;
        }
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::ClaimsForForeignPods) {
            return;
        }
        let since = pod.unasked_since.unwrap_or(self.now);
        let until = since + self.config.policy.reservation_unasked;
        let is_reported = |place: &Place| self.is_reported(*place, uid);
        let is_late = self.now >= until && !pod.places.iter().any(is_reported);
        let of_no_use = !self.is_expected_to_ask(pod) || is_late;
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.unasked_since = Some(since);
        }
        if of_no_use {
            self.give_back(uid);
        } else if self.now < until {
            self.arm(Timer::Unasked(uid.clone()), until);
        }
    }

    fn give_back(&mut self, uid: &Uid) {
        let pod = self.pods.get_mut(uid).expect(known::POD);
        pod.claims_at_add = true;
        pod.unasked_since = None;
        let (places, claims) = (pod.places.clone(), pod.claims.clone());
        self.disarm(&Timer::Unasked(uid.clone()));
        for id in claims {
            self.drop_claim(id);
        }
        for place in places {
            self.give_up(place);
            self.count("berth_reservations_unasked_total");
        }
    }
}
