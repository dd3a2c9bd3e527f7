//! The door: which pools an interface of a Pod may draw from, by what this agent knows now. Every
//! path to an address goes through it: a reservation ahead of ADD, an ADD, a takeover, an ordinal
//! that waits for its ADD, and the write of a claim, which asserts it. A bound address is not
//! checked: a tightened rule takes no address from an interface that has it.

use std::collections::BTreeMap;

use super::Agent;
use super::errands::Purpose;
use super::known;
use super::memory::{BlockKey, ClaimAt, ClaimId, Hold, Place, PoolId, Wanted};
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency};
use crate::core::choice::{Choice, Interface, NamespaceFacts, PodNames, Undecided};
use crate::core::exchange::{AddRequest, Failure};
use crate::core::objects::{AddressReservation, Kind, Object, ObjectKey, Pod, Uid};
use crate::core::selection::{Candidate, Refusal};
use crate::core::{choice, selection};

/// Units: bytes. A refusal goes to a plugin, a runtime and an Event; in a cluster with many pools
/// it does not list every rule.
const TOLD_BYTES_MAX: usize = 512;
/// Units: bytes. Of one reason.
const REASON_BYTES_MAX: usize = 240;

/// The interface that every runtime makes first.
pub(super) const FIRST_INTERFACE: &str = "eth0";

/// What rules look at in a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) names: PodNames,
}

impl PodFacts {
    pub(super) fn read(pod: &Pod) -> Self {
        Self {
            labels: pod.metadata.labels.clone(),
            names: PodNames::read(&pod.metadata.annotations),
        }
    }
}

/// The interface of a Pod that wants an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) namespace: String,
    network: String,
    interface: String,
    is_default: bool,
    configured: Vec<String>,
}

impl Asker {
    /// The network that an ordinal is claimed for; none: the default one.
    pub(super) fn other_network(&self) -> Option<&str> {
        (!self.is_default).then_some(self.network.as_str())
    }
}

/// What must be read before the door can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Pod,
    Namespace,
}

/// What an interface may draw from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// These pools, in this order; before them, the ordinal that a reservation keeps for the Pod.
    Open {
        pools: Vec<PoolId>,
        kept: Option<(PoolId, Wanted)>,
    },
    /// Not known yet: nothing is assumed.
    Unknown(Missing),
    /// Nothing, and why.
    Shut(String),
}

impl Door {
    fn lets(&self, pool: PoolId, ordinal: Option<(u64, u16)>) -> bool {
        let Self::Open { pools, kept } = self else {
            return false;
        };
        let is_kept = kept.as_ref().is_some_and(|(id, wanted)| {
            *id == pool && ordinal == Some((wanted.block.index, wanted.ordinal))
        });
        is_kept || pools.contains(&pool)
    }

    /// Whether an ordinal may be handed out.
    pub(super) fn lets_place(&self, place: Place) -> bool {
        self.lets(place.block.pool, Some((place.block.index, place.ordinal)))
    }
}

/// A reason, truncated.
fn told(why: &impl ToString) -> String {
    let mut text = why.to_string();
    if text.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl Agent {
    /// The Pod's interface on the node's default network, before any ADD.
    pub(super) fn default_asker(&self, pod_name: &str) -> Asker {
        let (namespace, _) = pod_name.split_once('/').unwrap_or(("", ""));
        Asker {
            namespace: namespace.to_owned(),
            network: self.config.default_network.clone(),
            interface: String::new(),
            is_default: true,
            configured: Vec::new(),
        }
    }

    /// The interface of an ADD. If the agent was not told the default network, it is that of the
    /// first interface.
    pub(super) fn asker(&self, request: &AddRequest) -> Asker {
        let is_default = match self.config.default_network.as_str() {
            "" => request.attachment.interface == FIRST_INTERFACE,
            name => request.network == name,
        };
        Asker {
            namespace: request.pod.namespace.clone(),
            network: request.network.clone(),
            interface: request.attachment.interface.clone(),
            is_default,
            configured: request.pools.clone(),
        }
    }

    fn facts(&self, uid: &Uid) -> Option<&PodFacts> {
        self.pods.get(uid)?.facts()
    }

    fn candidate<'a>(&'a self, uid: &Uid, namespace: &'a str, network: &'a str) -> Candidate<'a> {
        Candidate {
            node_labels: &self.node_labels,
            namespace,
            namespace_labels: self.namespace_facts(namespace).map(|facts| &facts.labels),
            pod_labels: self.facts(uid).map(|facts| &facts.labels),
            network,
        }
    }

    fn choice(&self, uid: &Uid, asker: &Asker) -> Result<Choice, Undecided> {
        let interface = Interface {
            network: &asker.network,
            name: &asker.interface,
            is_default: asker.is_default,
            configured: &asker.configured,
        };
        let pod = self.facts(uid).map(|facts| &facts.names);
        let namespace: Option<&NamespaceFacts> = self.namespace_facts(&asker.namespace);
        choice::choose(&interface, pod, namespace, self.heeds_namespaces())
    }

    /// Whether some pool selects on Namespaces: only then are they read.
    fn heeds_namespaces(&self) -> bool {
        let mut pools = self.pool_ids.values().filter_map(|id| self.pools.get(id));
        pools.any(|pool| pool.rules.namespace_selector.is_some())
    }

    fn opens(&self, id: PoolId, choice: &Choice, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        let pool = self.pools.get(&id).expect(known::POOL);
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::RightsOnlyOnOrdinaryPath)
            && matches!(choice, Choice::Named(_, pools) if pools.contains(&pool.name))
        {
            return Ok(());
        }
        selection::opens(&pool.name, &pool.rules, choice, candidate)
    }

    /// The door for an interface of a Pod.
    pub(super) fn door(&self, uid: &Uid, asker: &Asker) -> Door {
        let choice = match self.choice(uid, asker) {
            Ok(choice) => choice,
            Err(Undecided::PodUnknown) => return Door::Unknown(Missing::Pod),
            Err(Undecided::NamespaceUnknown) => return Door::Unknown(Missing::Namespace),
            Err(error @ Undecided::Misnamed(_)) => return Door::Shut(error.to_string()),
        };
        let candidate = self.candidate(uid, &asker.namespace, &asker.network);
        let mut open = Vec::new();
        let mut refused = Vec::new();
        for (name, id) in &self.pool_ids {
            let pool = self.pools.get(id).expect(known::POOL);
            match self.opens(*id, &choice, &candidate) {
                Ok(()) if pool.pool.is_none() => {
                    refused.push((name, "it is not approved as it stands".to_owned()));
                }
                Ok(()) => open.push((selection::rank(name, &pool.rules, &choice), *id)),
                Err(Refusal::NotNamed(_)) => {}
                Err(Refusal::NamespaceUnknown) => return Door::Unknown(Missing::Namespace),
                Err(Refusal::PodUnknown) => return Door::Unknown(Missing::Pod),
                Err(refusal) => refused.push((name, told(&refusal))),
            }
        }
        open.sort();
        let pools: Vec<PoolId> = open.into_iter().map(|(_, id)| id).collect();
        let kept = match self.kept_for(uid, asker, &choice, &candidate) {
            Ok(kept) => kept,
            Err(door) => return door,
        };
        if pools.is_empty() && kept.is_none() {
            return Door::Shut(self.shut_text(&choice, &refused));
        }
        Door::Open { pools, kept }
    }

    /// The ordinal that a reservation keeps for this interface.
    ///
    /// Errors: the door, when the reservation's pool does not admit the Pod. Another address
    /// instead of the reserved one would help neither the Pod nor the administrator.
    fn kept_for(
        &self,
        uid: &Uid,
        asker: &Asker,
        choice: &Choice,
        candidate: &Candidate<'_>,
    ) -> Result<Option<(PoolId, Wanted)>, Door> {
        let pod = self.pods.get(uid).expect(known::POD);
        let Some((id, wanted)) = self.reserved_for(&pod.name) else {
            return Ok(None);
        };
        let place = Place {
            block: wanted.block,
            ordinal: wanted.ordinal,
        };
        // One reservation is for one interface: the first of the Pod that asked.
        let is_used = self.holdings.get(&place).is_some_and(|holding| {
            holding.pod == *uid
                && matches!(&holding.state, Hold::Attached(of) if of.interface != asker.interface)
        });
        let Some(pool) = self.pools.get(&id).filter(|_| !is_used) else {
            return Ok(None);
        };
        debug_assert_eq!(
            pod.name.split_once('/').map(|n| n.0),
            Some(&*asker.namespace)
        );
        match selection::keeps(&pool.name, &pool.rules, choice, candidate) {
            Ok(true) => Ok(Some((id, wanted))),
            Ok(false) => Ok(None),
            Err(Refusal::NamespaceUnknown) => Err(Door::Unknown(Missing::Namespace)),
            Err(Refusal::PodUnknown) => Err(Door::Unknown(Missing::Pod)),
            Err(refusal) => Err(Door::Shut(format!(
                "reservation {:?} keeps an address of pool {:?} for this Pod, and the pool is not \
                 for it: {}",
                wanted.reservation,
                pool.name,
                told(&refusal)
            ))),
        }
    }

    fn shut_text(&self, choice: &Choice, refused: &[(&String, String)]) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut text = match choice {
            Choice::BySelectors => "no pool is for this Pod".to_owned(),
            Choice::Named(namer, named) => {
                let unknown = named
                    .iter()
                    .filter(|name| !self.pool_ids.contains_key(*name));
                parts.extend(unknown.map(|name| format!("there is no pool {:?}", told(name))));
                format!("{namer} names no pool that is for this Pod")
            }
        };
        let told = refused.iter();
        parts.extend(told.map(|(name, why)| format!("pool {name:?}: {why}")));
        for (index, part) in parts.iter().enumerate() {
            if text.len() + part.len() > TOLD_BYTES_MAX {
                let rest = parts.len() - index;
                text.push_str("; and others: ");
                text.push_str(&rest.to_string());
                break;
            }
            text.push_str(if index == 0 { ": " } else { "; " });
            text.push_str(part);
        }
        text
    }

    /// Whether a rule excludes a Pod from the pool of an ordinal: for the network that it was
    /// claimed for or, if that is unknown, for whichever asks. Unknown does not count as excluded,
    /// but nothing is handed out because of that.
    fn is_excluded(&self, uid: &Uid, pod_name: &str, place: Place) -> bool {
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::RightsOnlyOnOrdinaryPath) {
            return false;
        }
        let pool = self.pools.get(&place.block.pool);
        let (Some(pool), Some(_)) = (pool, self.facts(uid)) else {
            return false;
        };
        let (namespace, _) = pod_name.split_once('/').unwrap_or(("", ""));
        let any = pool.rules.networks.first().map_or("", String::as_str);
        let network = match self.claimed_for.get(&place) {
            Some(Some(network)) => network,
            Some(None) if !self.config.default_network.is_empty() => &self.config.default_network,
            _ => any,
        };
        let candidate = self.candidate(uid, namespace, network);
        selection::admits(&pool.rules, &candidate).is_err_and(|refusal| !refusal.is_unknown())
    }

    /// Whether a claim may be written in this pool. At the write this is an assertion.
    pub(super) fn is_admitted(&self, id: ClaimId, pool: PoolId) -> bool {
        let claim = self.claims.get(&id).expect(known::CLAIM);
        let wanted = claim.wanted.as_ref();
        let ordinal = wanted.map(|wanted| (wanted.block.index, wanted.ordinal));
        let is_anothers =
            wanted.is_some_and(|wanted| self.kept_for_another(wanted, &claim.pod_name).is_some());
        !is_anothers && self.door(&claim.pod, &claim.asker).lets(pool, ordinal)
    }

    /// The pools that are open for a claim now and were not when it was made, in order.
    pub(super) fn opened_since(&self, id: ClaimId) -> Vec<PoolId> {
        let claim = self.known_claim(id);
        let Door::Open { mut pools, .. } = self.door(&claim.pod, &claim.asker) else {
            return Vec::new();
        };
        pools.retain(|pool| {
            !claim.pools.contains(pool)
                && self.takes_new_claims(*pool)
                && self.kept_for_unreadable(&claim.pod_name, *pool).is_none()
        });
        pools
    }

    /// The reservation that keeps an ordinal for a Pod other than this one.
    pub(super) fn kept_for_another(&self, wanted: &Wanted, pod_name: &str) -> Option<&str> {
        let pool = self.pools.get(&wanted.block.pool)?;
        let geometry = pool.pool.as_ref()?;
        let size = u64::from(geometry.block_size);
        let ordinal = wanted.block.index * size + u64::from(wanted.ordinal);
        let is_of = |reservation: &AddressReservation| {
            let spec = &reservation.spec;
            pod_name
                .split_once('/')
                .is_some_and(|own| own == (spec.pod_namespace.as_str(), spec.pod_name.as_str()))
        };
        self.reservations
            .iter()
            .filter(|reservation| !is_of(reservation) && reservation.spec.pool == pool.name)
            .find(|reservation| {
                let address = reservation.spec.address;
                address.and_then(|ip| geometry.ordinal_of(ip)) == Some(ordinal)
            })
            .map(|reservation| reservation.metadata.name.as_str())
    }

    /// The ordinal that an ADD asks for by its addresses, in a pool that is open to it.
    ///
    /// Errors: the CNI code and message.
    pub(super) fn wanted_by(
        &self,
        uid: &Uid,
        request: &AddRequest,
        door: &Door,
        pools: &[PoolId],
    ) -> Result<Wanted, (u32, String)> {
        let inadmissible = |text: String| Err((Failure::ADDRESS_INADMISSIBLE, text));
        let kept = match door {
            Door::Open { kept, .. } => kept.as_ref(),
            _ => None,
        };
        let asked = &request.ips;
        let open = kept
            .map(|(id, _)| *id)
            .into_iter()
            .chain(pools.iter().copied());
        let found = open.into_iter().find_map(|id| {
            let geometry = self.pools.get(&id)?.pool.as_ref()?;
            let ordinal = geometry.ordinal_of(*asked.first()?)?;
            let is_pair = asked
                .iter()
                .all(|ip| geometry.ordinal_of(*ip) == Some(ordinal));
            let size = u64::from(geometry.block_size);
            let block = BlockKey {
                pool: id,
                index: ordinal / size,
            };
            let wanted = Wanted {
                block,
                ordinal: (ordinal % size) as u16,
                reservation: String::new(),
            };
            is_pair.then_some((wanted, geometry.mask(ordinal)))
        });
        let Some((mut wanted, mask)) = found else {
            return inadmissible(self.why_not_these(uid, request, pools));
        };
        if let Some((_, own)) = kept
            && (own.block, own.ordinal) == (wanted.block, wanted.ordinal)
        {
            wanted.reservation.clone_from(&own.reservation);
            return Ok(wanted);
        }
        // The reservation's pool is open for its ordinal alone.
        if !pools.contains(&wanted.block.pool) {
            return inadmissible(self.why_not_these(uid, request, pools));
        }
        if let Some(mask) = mask {
            let text = format!("an address asked for is never handed out ({mask:?})");
            return inadmissible(text);
        }
        let name = format!("{}/{}", request.pod.namespace, request.pod.name);
        if let Some(reservation) = self.kept_for_another(&wanted, &name) {
            let text = format!(
                "the address asked for is kept for another Pod by reservation {reservation:?}"
            );
            return Err((Failure::ADDRESS_TAKEN, text));
        }
        Ok(wanted)
    }

    fn why_not_these(&self, uid: &Uid, request: &AddRequest, pools: &[PoolId]) -> String {
        let asker = self.asker(request);
        let text = "the addresses asked for are no pair of a pool that is for this Pod";
        let Ok(choice) = self.choice(uid, &asker) else {
            return text.to_owned();
        };
        let candidate = self.candidate(uid, &asker.namespace, &asker.network);
        let of = self.pool_ids.iter().find_map(|(name, id)| {
            let geometry = self.pools.get(id)?.pool.as_ref()?;
            let holds = request
                .ips
                .iter()
                .any(|ip| geometry.ordinal_of(*ip).is_some());
            let why = self.opens(*id, &choice, &candidate).err()?;
            (holds && !pools.contains(id)).then(|| format!("{text}; pool {name:?}: {}", told(&why)))
        });
        of.unwrap_or_else(|| text.to_owned())
    }

    /// Rereads the labels of the Node, as often as the epoch, while some pool selects on them.
    /// Until the answer the last ones count: only administrators label Nodes.
    pub(super) fn refresh_node(&mut self) {
        let mut pools = self.pool_ids.values().filter_map(|id| self.pools.get(id));
        let is_asked = pools.any(|pool| {
            !pool.rules.node_selector.is_empty() || !pool.rules.node_match_expressions.is_empty()
        });
        if is_asked {
            let key = ObjectKey::cluster(Kind::Node, self.config.node_name.clone());
            let request = ApiRequest::Get(key, Consistency::Quorum);
            self.call(Purpose::NodeLabels, request);
        }
    }

    pub(super) fn node_read(&mut self, result: Result<ApiReply, ApiError>) {
        if let Ok(ApiReply::Object(Object::Node(node))) = result
            && node.metadata.labels != self.node_labels
        {
            self.node_labels = node.metadata.labels;
            self.touched_pods.extend(self.pods.keys().cloned());
        }
    }

    /// What waits for its ADD follows the current rules: ordinals of pools that exclude the Pod are
    /// given back, and claims that the door would no longer admit are made again.
    pub(super) fn follow_rules(&mut self, uid: &Uid) {
        let pod = self.pods.get(uid).expect(known::POD);
        let excluded: Vec<Place> = pod
            .places
            .iter()
            .copied()
            .filter(|place| {
                let holding = self.holdings.get(place);
                holding.is_some_and(|holding| holding.state == Hold::Unbound)
                    && self.is_excluded(uid, &pod.name, *place)
            })
            .collect();
        let shut: Vec<ClaimId> = pod
            .claims
            .iter()
            .copied()
            .filter(|id| {
                self.claims.get(id).is_some_and(|claim| {
                    !matches!(claim.at, ClaimAt::Place(_))
                        && !self.is_admitted(*id, claim.pools[0])
                        && !matches!(self.door(uid, &claim.asker), Door::Unknown(_))
                })
            })
            .collect();
        for place in excluded {
            self.give_up(place);
            self.count("berth_reservations_excluded_total");
        }
        for id in shut {
            self.drop_claim(id);
        }
    }
}
