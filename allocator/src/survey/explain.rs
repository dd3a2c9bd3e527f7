//! Why a Pod draws from a pool, or from none: the same door that the agent opens or shuts, with
//! every reason.

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::Serialize;

use super::Snapshot;
use super::holders::holders;
use super::pools::pools;
use crate::core::choice::{self, Choice, Interface, NamespaceFacts, PodNames};
use crate::core::objects::{AddressPoolSpec, Pod};
use crate::core::pool::approved_block_size;
use crate::core::selection::{self, Candidate};

/// What is reported about one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// Pool.
    pub pool: String,
    /// Place in the order of preference, from 1; none when it is not for this Pod.
    pub rank: Option<u32>,
    /// Why, or why not.
    pub why: String,
    /// Units: ordinals that are left.
    pub free: u64,
}

/// What is reported about a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `namespace/name`.
    pub pod: String,
    /// Node, or empty.
    pub node: String,
    /// What it holds now.
    pub addresses: Vec<IpAddr>,
    /// Why it asks for none, if so.
    pub asks_for_none: Option<String>,
    /// What is chosen from, and who chose; or why every ADD of this interface is refused.
    pub choice: String,
    /// How an `AddressReservation` affects it, if there is one.
    pub reservation: Option<String>,
    /// Every pool. Shape: those it may draw from in order, then the others by name.
    pub pools: Vec<Judgement>,
}

/// Which interface of a Pod is explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// `name` of its CNI configuration; empty for the node's default network.
    pub network: &'a str,
    /// `CNI_IFNAME`, or empty.
    pub interface: &'a str,
    /// `name` of the node's default network, or empty where agents are not told.
    pub default_network: &'a str,
    /// Pools that its configuration names.
    pub configured: &'a [String],
}

/// Explains an interface of a Pod. `None` when there is no such Pod.
pub fn explain(
    snapshot: &Snapshot,
    namespace: &str,
    name: &str,
    asked: Asked<'_>,
) -> Option<Explanation> {
    let pod = snapshot
        .pods
        .iter()
        .find(|pod| pod.metadata.namespace == namespace && pod.metadata.name == name)?;
    let node = snapshot
        .nodes
        .iter()
        .find(|node| node.metadata.name == pod.spec.node_name);
    let facts = facts_of(snapshot, namespace);
    let is_default = asked.network.is_empty() || asked.network == asked.default_network;
    let network = if is_default {
        asked.default_network
    } else {
        asked.network
    };
    let nothing = BTreeMap::new();
    let candidate = Candidate {
        node_labels: node.map_or(&nothing, |node| &node.metadata.labels),
        namespace,
        namespace_labels: facts.as_ref().map(|facts| &facts.labels),
        pod_labels: Some(&pod.metadata.labels),
        network,
    };
    let interface = Interface {
        network,
        name: asked.interface,
        is_default,
        configured: asked.configured,
    };
    let names = PodNames::read(&pod.metadata.annotations);
    let mut specs = snapshot.pools.iter().map(|pool| &pool.spec);
    let heeds = specs.any(|spec| spec.namespace_selector.is_some());
    let choice = choice::choose(&interface, Some(&names), facts.as_ref(), heeds);
    let mut explanation = Explanation {
        pod: format!("{namespace}/{name}"),
        node: pod.spec.node_name.clone(),
        addresses: held_by(snapshot, pod),
        asks_for_none: asks_for_none(pod),
        choice: String::new(),
        reservation: None,
        pools: Vec::new(),
    };
    match choice {
        Ok(choice) => {
            explanation.choice = chosen(&choice);
            explanation.reservation = reservation(snapshot, pod, &choice, &candidate);
            explanation.pools = judge(snapshot, &choice, &candidate);
        }
        Err(undecided) => {
            let why = undecided.to_string();
            explanation.pools = judged(snapshot, |_, _| Err(why.clone()));
            explanation.choice = why;
        }
    }
    let unheeded = facts.as_ref().is_some_and(|facts| facts.pool.is_some()) && !heeds;
    if unheeded && is_default {
        explanation.choice.push_str(
            "; the annotation of its Namespace is not heeded while no pool has a \
             spec.namespaceSelector",
        );
    }
    Some(explanation)
}

fn facts_of(snapshot: &Snapshot, namespace: &str) -> Option<NamespaceFacts> {
    let mut namespaces = snapshot.namespaces.iter();
    let found = namespaces.find(|one| one.metadata.name == namespace)?;
    Some(NamespaceFacts::read(&found.metadata))
}

fn held_by(snapshot: &Snapshot, pod: &Pod) -> Vec<IpAddr> {
    holders(snapshot)
        .into_iter()
        .filter(|row| row.pod_uid == pod.metadata.uid.as_str())
        .flat_map(|row| row.addresses)
        .collect()
}

fn asks_for_none(pod: &Pod) -> Option<String> {
    let why = if pod.spec.host_network {
        "it uses the node's network (hostNetwork)"
    } else if pod.is_mirror() {
        "it is the mirror of a static Pod: its address is asked for under another UID"
    } else if pod.is_finished() {
        "it is finished"
    } else if pod.spec.node_name.is_empty() {
        "it is not bound to a node yet"
    } else {
        return None;
    };
    Some(why.to_owned())
}

fn chosen(choice: &Choice) -> String {
    match choice {
        Choice::BySelectors => "nobody names a pool: those that select the Pod".to_owned(),
        Choice::Named(namer, pools) => format!("{namer} names {}", pools.join(", ")),
    }
}

fn reservation(
    snapshot: &Snapshot,
    pod: &Pod,
    choice: &Choice,
    candidate: &Candidate<'_>,
) -> Option<String> {
    let kept = snapshot.reservations.iter().find(|one| {
        one.spec.pod_namespace == pod.metadata.namespace && one.spec.pod_name == pod.metadata.name
    })?;
    let (name, pool) = (&kept.metadata.name, &kept.spec.pool);
    let address = kept.spec.address?;
    let of = snapshot.pools.iter().find(|one| one.metadata.name == *pool);
    let what = format!("reservation {name:?} keeps {address} of pool {pool:?}");
    let Some(object) = of else {
        return Some(format!("{what}, which does not exist"));
    };
    Some(
        match selection::keeps(pool, &object.spec, choice, candidate) {
            Ok(true) => format!("{what} for this interface"),
            Ok(false) => format!("{what}, for another interface"),
            Err(refusal) => format!(
                "{what}, which is not for this Pod: {refusal}; it gets no other address instead"
            ),
        },
    )
}

fn judge(snapshot: &Snapshot, choice: &Choice, candidate: &Candidate<'_>) -> Vec<Judgement> {
    judged(snapshot, |name, spec| {
        match (selection::opens(name, spec, choice, candidate), choice) {
            (Ok(()), Choice::Named(namer, _)) => Ok(format!("{namer} names it")),
            (Ok(()), _) if spec.is_default => Ok("it is a default pool".to_owned()),
            (Ok(()), _) => Ok("its selectors match".to_owned()),
            (Err(refusal), _) => Err(refusal.to_string()),
        }
        .map(|why| {
            let (place, is_default, name) = selection::rank(name, spec, choice);
            ((place, is_default, name.to_owned()), why)
        })
    })
}

type Order = (usize, bool, String);

fn judged(
    snapshot: &Snapshot,
    ask: impl Fn(&str, &AddressPoolSpec) -> Result<(Order, String), String>,
) -> Vec<Judgement> {
    let free: BTreeMap<String, u64> = pools(snapshot)
        .into_iter()
        .map(|row| (row.name, row.free))
        .collect();
    let mut judged: Vec<(Option<Order>, Judgement)> = snapshot
        .pools
        .iter()
        .map(|object| {
            let name = &object.metadata.name;
            let (order, why) = match ask(name, &object.spec) {
                Ok(_) if approved_block_size(object).is_none() => {
                    (None, "it is not approved as it stands".to_owned())
                }
                Ok((order, why)) => (Some(order), why),
                Err(why) => (None, why),
            };
            let judgement = Judgement {
                pool: name.clone(),
                rank: None,
                why,
                free: free.get(name).copied().unwrap_or(0),
            };
            (order, judgement)
        })
        .collect();
    judged.sort_by(|(one, a), (two, b)| {
        (one.is_none(), one, &a.pool).cmp(&(two.is_none(), two, &b.pool))
    });
    judged
        .into_iter()
        .zip(1..)
        .map(|((order, judgement), rank)| Judgement {
            rank: order.is_some().then_some(rank),
            ..judgement
        })
        .collect()
}
