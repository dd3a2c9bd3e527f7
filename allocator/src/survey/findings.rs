//! What looks lost or wrong, as far as the objects show it, and what ends it. Only an agent sees
//! the network namespaces: what is reported here may be on its way out.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, FindingKind};
use super::holders::{HolderRow, holders};
use super::parts::lacks_runtime;
use super::{Incarnation, Snapshot};
use crate::core::block::Block;
use crate::core::objects::{EpochState, Kind, Object};
use crate::core::pool::{Pool, approved_block_size};
use crate::core::set_aside::unknown_fields;

/// Every finding. Shape: by kind, then by subject.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let rows = holders(snapshot);
    let mut found = of_holders(snapshot, &rows);
    found.extend(of_pools(snapshot));
    found.extend(of_machines(snapshot));
    found.extend(of_reservations(snapshot));
    found.extend(held_twice(&rows));
    found.extend(unreadable(snapshot));
    found.extend(ignored(snapshot));
    found.extend(super::parts::of_parts(snapshot));
    found.sort_by(|one, other| (one.kind, &one.subject).cmp(&(other.kind, &other.subject)));
    found
}

fn unreadable(snapshot: &Snapshot) -> impl Iterator<Item = Finding> {
    snapshot.set_aside.iter().map(|object| Finding {
        kind: FindingKind::ObjectUnreadable,
        subject: Object::from(object.clone()).key().to_string(),
        why: object.reason.clone(),
        remedy: object.remedy(),
    })
}

fn ignored(snapshot: &Snapshot) -> Vec<Finding> {
    let pools = snapshot.pools.iter().cloned().map(Object::from);
    let blocks = snapshot.blocks.iter().cloned().map(Object::from);
    let reservations = snapshot.reservations.iter().cloned().map(Object::from);
    let machines = snapshot.machines.iter().cloned().map(Object::from);
    let all = pools.chain(blocks).chain(reservations).chain(machines);
    all.filter_map(|object| {
        let fields = unknown_fields(&object);
        (!fields.is_empty()).then(|| Finding {
            kind: FindingKind::FieldsIgnored,
            subject: object.key().to_string(),
            why: format!("this release does not know {}", fields.join(", ")),
            remedy: "none if a newer release wrote them: they are kept; else see kubectl explain"
                .to_owned(),
        })
    })
    .collect()
}

fn subject(row: &HolderRow) -> String {
    let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
    format!("{} ({}, Pod {})", addresses.join(","), row.pool, row.pod)
}

fn of_holders(snapshot: &Snapshot, rows: &[HolderRow]) -> Vec<Finding> {
    let read = snapshot
        .pods
        .iter()
        .filter(|pod| !pod.is_finished())
        .map(|pod| (pod.metadata.uid.as_str(), pod.spec.node_name.as_str()));
    // One that cannot be read is there.
    let unread = snapshot
        .set_aside
        .iter()
        .filter(|object| object.kind == Kind::Pod)
        .map(|pod| {
            let node = pod.hint("nodeName").unwrap_or_default();
            (pod.metadata.uid.as_str(), node)
        });
    let pods: BTreeMap<&str, &str> = read.chain(unread).collect();
    let mut found = Vec::new();
    for row in rows {
        let finding = |kind, why: String, remedy: &str| Finding {
            kind,
            subject: subject(row),
            why,
            remedy: remedy.to_owned(),
        };
        match (row.incarnation, pods.get(row.pod_uid.as_str())) {
            (Incarnation::Unknown, _) => found.push(finding(
                FindingKind::NobodyAnswers,
                format!("no BerthNode knows the incarnation {}", row.epoch),
                "if that machine is gone for good: kubectl berth release ADDRESS --force",
            )),
            (Incarnation::Dying, _) => found.push(finding(
                FindingKind::BeingBuried,
                format!("the incarnation {} is being buried", row.epoch),
                "none: the controller frees it after the quarantine (11 min)",
            )),
            (Incarnation::Dead | Incarnation::Unreadable, _) => {}
            (Incarnation::Live, None) if lacks_runtime(snapshot, &row.node) => {
                found.push(finding(
                    FindingKind::PodGone,
                    format!(
                        "the Pod is gone, and the agent on {} cannot ask its runtime ({})",
                        row.node, row.state
                    ),
                    "give the agent its runtime back; or kubectl berth release ADDRESS, which is \
                     obeyed without a runtime where the namespace's path is gone",
                ));
            }
            (Incarnation::Live, None) => found.push(finding(
                FindingKind::PodGone,
                format!(
                    "the Pod is gone and the agent on {} still holds ({})",
                    row.node, row.state
                ),
                "none if it began lately: the agent frees it when the namespace is gone; else \
                 kubectl berth release ADDRESS",
            )),
            (Incarnation::Live, Some(node)) if !node.is_empty() && *node != row.node => {
                found.push(finding(
                    FindingKind::PodElsewhere,
                    format!("the Pod is on {node}, the holder's node is {}", row.node),
                    "kubectl berth release ADDRESS",
                ));
            }
            (Incarnation::Live, Some(_)) => {}
        }
    }
    found
}

fn held_twice(rows: &[HolderRow]) -> Vec<Finding> {
    let mut of_pod: BTreeMap<(&str, &str), Vec<&HolderRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state != "Releasing") {
        of_pod
            .entry((&row.pod_uid, &row.pool))
            .or_default()
            .push(row);
    }
    of_pod
        .into_iter()
        .filter(|(_, rows)| rows.len() > 1)
        .map(|((_, pool), rows)| {
            let subjects: Vec<String> = rows.iter().map(|row| subject(row)).collect();
            Finding {
                kind: FindingKind::HeldTwice,
                subject: subjects.join(" and "),
                why: format!("one Pod holds {} ordinals of {pool}", rows.len()),
                remedy: "none if the Pod has as many interfaces on that network or its sandbox \
                         was just replaced"
                    .to_owned(),
            }
        })
        .collect()
}

fn of_pools(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for object in &snapshot.pools {
        let name = &object.metadata.name;
        if approved_block_size(object).is_none() {
            let condition = object
                .status
                .conditions
                .iter()
                .find(|condition| condition.kind == "Approved");
            found.push(Finding {
                kind: FindingKind::PoolNotApproved,
                subject: name.clone(),
                why: condition.map_or_else(
                    || "the controller has not looked at it".to_owned(),
                    |condition| condition.message.clone(),
                ),
                remedy: "mend the pool, or see that a controller runs".to_owned(),
            });
        }
    }
    for object in &snapshot.blocks {
        let pool = snapshot
            .pools
            .iter()
            .find(|pool| pool.metadata.name == object.spec.pool)
            .and_then(|pool| Pool::parse(pool, approved_block_size(pool)).ok());
        let why = match pool {
            None => format!("there is no usable pool {:?}", object.spec.pool),
            Some(pool) => match Block::read(object, &pool) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
        };
        found.push(Finding {
            kind: FindingKind::BlockUnreadable,
            subject: object.metadata.name.clone(),
            why,
            remedy: "look at its pool; a block of a deleted pool goes with its last holder"
                .to_owned(),
        });
    }
    found
}

fn of_machines(snapshot: &Snapshot) -> Vec<Finding> {
    let nodes: BTreeSet<(&str, &str)> = snapshot
        .nodes
        .iter()
        .map(|node| (node.metadata.name.as_str(), node.metadata.uid.as_str()))
        .collect();
    snapshot
        .machines
        .iter()
        .filter(|machine| machine.spec.state == EpochState::Live)
        .filter(|machine| !snapshot.is_set_aside(Kind::Node, &machine.spec.node_name))
        .filter(|machine| {
            let spec = &machine.spec;
            !nodes.contains(&(spec.node_name.as_str(), spec.node_uid.as_str()))
        })
        .map(|machine| Finding {
            kind: FindingKind::NodeGone,
            subject: machine.spec.node_name.clone(),
            why: format!(
                "the Node of machine {} is gone or was made anew",
                machine.metadata.name
            ),
            remedy: "if the machine is off for good: kubectl berth bury NODE --machine-is-off"
                .to_owned(),
        })
        .collect()
}

fn of_reservations(snapshot: &Snapshot) -> Vec<Finding> {
    snapshot
        .reservations
        .iter()
        .filter(|reservation| {
            let spec = &reservation.spec;
            let place = snapshot
                .geometry(&spec.pool)
                .and_then(|pool| pool.ordinal_of(spec.address?));
            spec.address.is_some() && place.is_none()
        })
        .map(|reservation| Finding {
            kind: FindingKind::ReservationWithoutPlace,
            subject: reservation.metadata.name.clone(),
            why: format!("its address is not in pool {:?}", reservation.spec.pool),
            remedy: "mend spec.pool or spec.address".to_owned(),
        })
        .collect()
}
