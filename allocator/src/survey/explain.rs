//! Why a Pod draws from a pool, or from none.

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::Serialize;

use super::Snapshot;
use super::holders::holders;
use super::pools::pools;
use crate::core::objects::{ANNOTATION_POOL, Pod};
use crate::core::pool::approved_block_size;
use crate::core::selection::{self, Candidate};

/// What is said of one pool.
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

/// What is said of a Pod.
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
    /// Every pool. Shape: those it may draw from in order, then the others by name.
    pub pools: Vec<Judgement>,
}

/// Explains a Pod on a network (`name` of the CNI configuration; empty for the default one).
/// `None` when there is no such Pod.
pub fn explain(
    snapshot: &Snapshot,
    namespace: &str,
    name: &str,
    network: &str,
) -> Option<Explanation> {
    let pod = snapshot
        .pods
        .iter()
        .find(|pod| pod.metadata.namespace == namespace && pod.metadata.name == name)?;
    let nothing = BTreeMap::new();
    let node_labels = snapshot
        .nodes
        .iter()
        .find(|node| node.metadata.name == pod.spec.node_name)
        .map_or(&nothing, |node| &node.metadata.labels);
    let candidate = Candidate {
        node_labels,
        namespace,
        pod_labels: Some(&pod.metadata.labels),
        network,
    };
    let addresses = holders(snapshot)
        .into_iter()
        .filter(|row| row.pod_uid == pod.metadata.uid.as_str())
        .flat_map(|row| row.addresses)
        .collect();
    Some(Explanation {
        pod: format!("{namespace}/{name}"),
        node: pod.spec.node_name.clone(),
        addresses,
        asks_for_none: asks_for_none(pod),
        pools: judge(snapshot, pod, &candidate),
    })
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

fn judge(snapshot: &Snapshot, pod: &Pod, candidate: &Candidate<'_>) -> Vec<Judgement> {
    let named = pod.metadata.annotations.get(ANNOTATION_POOL);
    let free: BTreeMap<String, u64> = pools(snapshot)
        .into_iter()
        .map(|row| (row.name, row.free))
        .collect();
    let mut judged: Vec<(Option<(bool, String)>, Judgement)> = snapshot
        .pools
        .iter()
        .map(|object| {
            let name = &object.metadata.name;
            let order = {
                let (default, name) = selection::order(name, &object.spec);
                (default, name.to_owned())
            };
            let (order, why) = match named {
                _ if approved_block_size(object).is_none() => {
                    (None, "it is not approved as it stands".to_owned())
                }
                Some(wanted) if wanted == name => (
                    Some(order),
                    format!("the Pod's annotation {ANNOTATION_POOL} names it"),
                ),
                Some(wanted) => (None, format!("the Pod's annotation names {wanted:?}")),
                None => match selection::selects(&object.spec, candidate) {
                    Ok(()) if object.spec.is_default => {
                        (Some(order), "it is a default pool".to_owned())
                    }
                    Ok(()) => (Some(order), "its selectors match".to_owned()),
                    Err(refusal) => (None, refusal.to_string()),
                },
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
