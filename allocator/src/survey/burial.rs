//! The operator's statement that a machine is off.

use crate::core::objects::{ANNOTATION_BURY, BerthNode, EpochState, Kind};

use super::Snapshot;
use super::holders::holders;

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurialPlan {
    /// The annotated machine, at the version that was read.
    pub machine: BerthNode,
    /// Addresses that its incarnation holds.
    pub held: usize,
}

/// Why nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BurialRefusal {
    /// No machine serves the node.
    #[error("no live machine serves a node of that name; known are: {0}")]
    Unknown(String),
    /// A machine does whose object cannot be read: nothing can be stated of it.
    #[error("its BerthNode {0} cannot be read: kubectl berth check says what to mend")]
    Unreadable(String),
    /// Several machines do.
    #[error("several machines are known under that name: give the machine's ID, one of {0}")]
    Several(String),
}

/// Plans the burial of the live machine of a node, by the node's name or the machine's ID.
///
/// Errors: see [`BurialRefusal`].
pub fn plan_burial(
    snapshot: &Snapshot,
    node: &str,
    writer: &str,
) -> Result<BurialPlan, BurialRefusal> {
    let unread = snapshot.set_aside.iter().find(|object| {
        let serves = object.metadata.name == node || object.hint("nodeName") == Some(node);
        object.kind == Kind::BerthNode && serves
    });
    if let Some(object) = unread {
        return Err(BurialRefusal::Unreadable(object.metadata.name.clone()));
    }
    let live: Vec<&BerthNode> = snapshot
        .machines
        .iter()
        .filter(|machine| machine.spec.state == EpochState::Live)
        .collect();
    let meant: Vec<&BerthNode> = live
        .iter()
        .filter(|machine| machine.metadata.name == node || machine.spec.node_name == node)
        .copied()
        .collect();
    let names = |machines: &[&BerthNode], name: fn(&BerthNode) -> &String| {
        let names: Vec<&str> = machines
            .iter()
            .map(|machine| name(machine).as_str())
            .collect();
        names.join(", ")
    };
    let machine = match meant.as_slice() {
        [] => return Err(BurialRefusal::Unknown(names(&live, |m| &m.spec.node_name))),
        [machine] => *machine,
        several => return Err(BurialRefusal::Several(names(several, |m| &m.metadata.name))),
    };
    let epoch = format!("{}#{}", machine.metadata.name, machine.spec.epoch);
    let held = holders(snapshot)
        .iter()
        .filter(|row| row.epoch == epoch)
        .count();
    let mut next = machine.clone();
    next.metadata
        .annotations
        .insert(ANNOTATION_BURY.to_owned(), "off".to_owned());
    writer.clone_into(&mut next.spec.writer);
    Ok(BurialPlan {
        machine: next,
        held,
    })
}
