//! H. Claim: at every write, an ordinal that a node takes belongs to a Pod bound to that node;
//! an unbound holder outlives its Pod by no more than the published bound. An ADD that is under way
//! may still take one: its namespace exists. Watches: records.
//! Suspended: never; how long a holder may outlive its Pod is [`super::released`]'s.

use std::time::Duration;

use drydock_engine::time::SimInstant;
use drydock_models::ids::NodeIndex;

use super::{Breach, Fact, Invariant, Truth};

/// Checks a new holder against the Pod's binding.
pub fn check(truth: &Truth, at: SimInstant, bound: Duration, fact: &Fact<'_>) -> Option<Breach> {
    let Fact::Record {
        addresses,
        before,
        after: Some(after),
    } = fact
    else {
        return None;
    };
    if before.is_some_and(|before| before.pod == after.pod) {
        return None;
    }
    let address = addresses.first()?;
    let breach = |text: String| Some((Invariant::H, address.to_string(), text));
    let Some(pod) = truth.pods.get(&after.pod) else {
        return breach(format!(
            "{address} was taken for Pod {}, which never existed",
            after.pod
        ));
    };
    let place = |node: Option<NodeIndex>| node.map(|node| truth.place(node));
    if pod.node.is_none() || place(pod.node) != place(after.node) {
        let bound_to = pod
            .node
            .map_or("no node".to_owned(), |n| format!("node {n}"));
        let taker = after
            .node
            .map_or("an unknown node".to_owned(), |n| format!("node {n}"));
        return breach(format!(
            "{address} was taken by {taker} for Pod {}, which is bound to {bound_to}",
            after.pod
        ));
    }
    // The runtime does not cancel an ADD when its Pod goes: it is answered, and then DEL comes.
    if after
        .node
        .is_some_and(|node| truth.has_namespace(node, after.pod))
    {
        return None;
    }
    let late = pod
        .ended
        .filter(|ended| at.saturating_since(*ended) > bound)?;
    breach(format!(
        "{address} was taken for Pod {} {} ms after that Pod had ended",
        after.pod,
        at.saturating_since(late).as_millis()
    ))
}
