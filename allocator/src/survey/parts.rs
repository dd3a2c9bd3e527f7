//! What agents have lost of what they depend on, as their objects state it, and what gives it back.

use super::Snapshot;
use super::finding::{Finding, FindingKind};
use crate::core::objects::{BerthNode, EpochState};

/// What a live machine's agent states as lost: reason and message.
fn lost(machine: &BerthNode) -> Option<(&str, &str)> {
    let mut conditions = machine.spec.conditions.iter();
    let lost = conditions.find(|c| c.kind == "PartLost" && c.status == "True")?;
    let is_live = machine.spec.state == EpochState::Live;
    is_live.then_some((lost.reason.as_str(), lost.message.as_str()))
}

/// A finding for each machine whose agent lost something.
pub(super) fn of_parts(snapshot: &Snapshot) -> Vec<Finding> {
    let found = snapshot.machines.iter().filter_map(|machine| {
        let (reason, message) = lost(machine)?;
        Some(Finding {
            kind: FindingKind::PartLost,
            subject: machine.spec.node_name.clone(),
            why: message.to_owned(),
            remedy: remedy(reason).to_owned(),
        })
    });
    found.collect()
}

fn remedy(reason: &str) -> &'static str {
    match reason {
        "RuntimeLost" => {
            "see that the runtime runs and that its socket is the one that the agent asks \
             (agent.runtimeSocket, --runtime-socket); until then kubectl berth release ADDRESS frees \
             what has ended"
        }
        "NamespacesLost" => {
            "see that agent.netnsDirectory is where the runtime keeps namespaces, mounted with \
             HostToContainer; what has ended meanwhile: kubectl berth release ADDRESS"
        }
        "JournalUnwritable" | "SpoolLost" => {
            "make room on the disk of agent.stateDirectory, or mend it: the agent then goes on by \
             itself"
        }
        "MachineIdShared" => {
            "drain the node, remove /etc/machine-id, run systemd-machine-id-setup, reboot"
        }
        "PluginLost" => {
            "remove what stands in the plugin's place in agent.pluginDirectory: the agent puts the \
             plugin back"
        }
        "SocketLost" => "see what stands at the agent's socket on that node, and remove it",
        _ => "each goes on by itself once it is given back; see the agent's /readyz",
    }
}

/// Whether the agent of that node says that it cannot ask its runtime.
pub(super) fn lacks_runtime(snapshot: &Snapshot, node: &str) -> bool {
    let mut machines = snapshot.machines.iter();
    machines.any(|machine| {
        machine.spec.node_name == node
            && lost(machine).is_some_and(|(_, message)| message.contains("runtime: "))
    })
}
