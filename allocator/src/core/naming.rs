//! How a machine is called in the cluster: by its ID and its node's name, `<machine ID>.<node>`.
//! `BerthNode` and records carry that name, so whoever knows only which node a writer sits on (an
//! admission policy does) can tell its own records from another's by their text, without looking
//! any object up. The protocol itself takes the name for one opaque word.

use super::objects::{ANNOTATION_BURY, BerthNode, EpochState};

/// The name of the machine with this ID that serves this node. An ID has no dot, so the node's name
/// is all that follows the first one.
pub fn machine_name(machine_id: &str, node_name: &str) -> String {
    format!("{machine_id}.{node_name}")
}

/// The node that a machine's name states; `None` for a name of the form before, the ID alone.
pub fn stated_node(machine: &str) -> Option<&str> {
    machine.split_once('.').map(|(_, node)| node)
}

/// The machine's ID in its name, of either form.
pub fn machine_id(machine: &str) -> &str {
    machine.split_once('.').map_or(machine, |(id, _)| id)
}

/// Under which name an agent runs, and what becomes of the name before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The machine's name.
    pub name: String,
    /// The object of the form before, with the word that its machine is off: it ended with an
    /// earlier boot, and nobody else will say so.
    pub retired: Option<BerthNode>,
}

/// What is known when a name is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The machine's ID.
    pub machine_id: &'a str,
    /// The node's name.
    pub node_name: &'a str,
    /// The machine's boot.
    pub boot_id: &'a str,
}

/// Chooses the name. `former` is the `BerthNode` whose name is the machine's ID alone, as an
/// earlier release made it. One of this boot keeps its name until the boot ends, because live Pods
/// are recorded under it.
pub fn choose_name(facts: Facts<'_>, former: Option<&BerthNode>) -> Naming {
    let name = machine_name(facts.machine_id, facts.node_name);
    // One that states another node is another machine's with the same ID: not ours to touch.
    let Some(former) = former.filter(|former| former.spec.node_name == facts.node_name) else {
        return Naming {
            name,
            retired: None,
        };
    };
    if former.spec.boot_id == facts.boot_id {
        return Naming {
            name: former.metadata.name.clone(),
            retired: None,
        };
    }
    let is_due = former.spec.state == EpochState::Live
        && !former.metadata.annotations.contains_key(ANNOTATION_BURY);
    let retired = is_due.then(|| {
        let mut next = former.clone();
        let word = format!("{name} took its place");
        next.metadata
            .annotations
            .insert(ANNOTATION_BURY.to_owned(), word);
        next.spec.writer = format!("{name}/retires");
        next
    });
    Naming { name, retired }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::objects::{BerthNodeSpec, Metadata};

    const FACTS: Facts<'static> = Facts {
        machine_id: "4f2a",
        node_name: "worker.example",
        boot_id: "boot-2",
    };

    fn former(node_name: &str, boot_id: &str, state: EpochState) -> BerthNode {
        BerthNode {
            metadata: Metadata {
                name: "4f2a".into(),
                ..Metadata::default()
            },
            spec: BerthNodeSpec {
                node_name: node_name.into(),
                boot_id: boot_id.into(),
                epoch: 7,
                state,
                ..BerthNodeSpec::default()
            },
            ..BerthNode::default()
        }
    }

    #[test]
    fn a_name_states_its_node_whatever_dots_that_has() {
        assert_eq!(
            stated_node(&machine_name("4f2a", "a.b.c")),
            Some("a.b.c"),
            "all behind the first dot"
        );
        assert_eq!(stated_node("4f2a"), None);
    }

    #[test]
    fn a_machine_that_is_new_to_the_cluster_is_named_with_its_node() {
        let naming = choose_name(FACTS, None);
        assert_eq!(naming.name, "4f2a.worker.example");
        assert_eq!(naming.retired, None);
    }

    #[test]
    fn a_machine_of_this_boot_keeps_the_name_that_its_records_have() {
        for state in [EpochState::Live, EpochState::Dying, EpochState::Dead] {
            let of_this_boot = former("worker.example", "boot-2", state);
            let naming = choose_name(FACTS, Some(&of_this_boot));
            assert_eq!(naming.name, "4f2a", "{state:?}");
            assert_eq!(naming.retired, None);
        }
    }

    #[test]
    fn a_name_of_an_earlier_boot_is_given_up_once() {
        let live = former("worker.example", "boot-1", EpochState::Live);
        let naming = choose_name(FACTS, Some(&live));
        assert_eq!(naming.name, "4f2a.worker.example");
        let retired = naming.retired.unwrap();
        assert!(retired.metadata.annotations.contains_key(ANNOTATION_BURY));
        assert_eq!(retired.spec.epoch, 7);
        let again = choose_name(FACTS, Some(&retired));
        assert_eq!(again.retired, None, "the word is given");
        let dead = former("worker.example", "boot-1", EpochState::Dead);
        assert_eq!(choose_name(FACTS, Some(&dead)).retired, None);
    }

    #[test]
    fn another_node_with_the_same_machine_id_is_left_alone() {
        for boot in ["boot-1", "boot-2"] {
            let other = former("another", boot, EpochState::Live);
            let naming = choose_name(FACTS, Some(&other));
            assert_eq!(naming.name, "4f2a.worker.example");
            assert_eq!(naming.retired, None);
        }
    }
}
